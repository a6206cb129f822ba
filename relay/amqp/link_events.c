#include <string.h>

#include "amqp/link_state.h"
#include "amqp/reply.h"

/*
 * What the session hears, in the owner's terms: each ticket is settled once, or
 * covered by one channel_closed (L).
 */
#define PATIENCE CLOCK_MS(500)         /* for what is in flight to be settled */
#define DEFAULT_EXCHANGE "amq.default" /* as the broker writes it */

static void
on_up(void * context)
{
	struct link * l = context;

	/* Nobody needs to know: nothing was in flight. */
	if (l->renewing) {
		l->renewing = false;
		return;
	}
	l->was_up = true;
	attempts_up(&l->attempts, l->now);
	l->events.up(l->context, l->peer);
}

/* ---- a channel is closed ---- */

/*
 * The exchange that the broker means, as the messages in flight have it: a name
 * that none of them bears would be blamed for nothing, again and again.
 */
static struct bytes
meant(const struct confirms * confirms, struct bytes named)
{
	if (bytes_equal(named, bytes_from(DEFAULT_EXCHANGE)) &&
	    confirms_has_exchange(confirms, bytes_from("")))
		return (bytes_from(""));
	if (bytes_present(named) && confirms_has_exchange(confirms, named))
		return (named);
	return (BYTES_NONE);
}

static uint64_t
still_coming(struct link * l)
{
	uint64_t n = 0;

	for (uint16_t channel = 1; channel <= l->session.channel_count; channel++) {
		if (session_channel_up(&l->session, channel))
			n += channels_confirms(&l->channels, channel)->unsettled;
	}
	return (n);
}

static void
forget_closed(struct link * l)
{
	for (uint16_t channel = 1; channel <= l->session.channel_count; channel++) {
		if (!session_channel_up(&l->session, channel))
			confirms_reset(channels_confirms(&l->channels, channel));
	}
}

void
link_tell_closed(struct link * l)
{
	forget_closed(l);
	l->settling = false;
	l->reopen_at = l->now + attempts_channel_closed(&l->attempts, l->now);
	l->events.channel_closed(l->context, &l->closed, l->culprit);
}

/*
 * What other channels have in flight is no part of it, and most of it is about
 * to be confirmed: to publish that again would double it (D).  Where one missing
 * exchange closes several channels, the first says why.
 */
static void
on_channel_closed(void * context, uint16_t channel, const struct error * e, struct bytes exchange)
{
	struct link * l = context;
	struct bytes culprit = meant(channels_confirms(&l->channels, channel), exchange);

	l->renewing = false;
	if (l->settling)
		return;
	l->settling = true;
	l->settle_by = l->now + PATIENCE;
	l->closed = *e;
	l->culprit = BYTES_NONE;
	if (bytes_present(culprit) && culprit.len <= sizeof(l->culprit_name)) {
		memcpy(l->culprit_name, culprit.data, culprit.len);
		l->culprit = (struct bytes){l->culprit_name, culprit.len};
	}
}

int
link_settle(struct link * l, clock_ns now, struct error * e)
{
	if (!l->settling)
		return (0);
	if (still_coming(l) > 0) {
		if (now < l->settle_by)
			return (0);
		if (session_renew(&l->session))
			return (error_set(e, EXIT_BUG, "no room for a control frame"));
	}
	link_tell_closed(l);
	return (0);
}

/* fail follows.  What a person closes an idle connection over is no fault. */
static void
on_blamed(void * context, const struct error * e)
{
	struct link * l = context;

	if (channels_unsettled(&l->channels) == 0)
		return;
	channels_reset(&l->channels);
	l->blamed = true;
	l->events.channel_closed(l->context, e, BYTES_NONE);
}

/* ---- answers ---- */

/*
 * A channel may be refused for good where another one is not: in RabbitMQ (3.10
 * at least) it keeps for each quorum queue whom it took for the leader, and nacks
 * everything if that node was lost just before its first message, until the node
 * returns.  So nacks lead to a new channel (V), once what is in flight is
 * settled (D), and less and less often, since a full queue may be the reason.
 */
static void
on_nack(struct link * l)
{
	if (l->renewing || l->settling || l->closing || l->is_blocked ||
	    !attempts_nacked(&l->attempts, l->now))
		return;
	l->renewing = true;
	l->renew_by = l->now + PATIENCE;
}

int
link_renew(struct link * l, clock_ns now, struct error * e)
{
	if (!l->renewing || l->session.phase != SESSION_UP)
		return (0);
	if (channels_unsettled(&l->channels) > 0) {
		l->renewing = now < l->renew_by;
		return (0);
	}
	l->connect_deadline = now + l->timeout;
	channels_reset(&l->channels);
	if (session_renew(&l->session))
		return (error_set(e, EXIT_BUG, "no room for a control frame"));
	return (0);
}

static void
on_settled(void * context, const struct confirms_entry * entry, bool nacked)
{
	struct link * l = context;
	struct error e;

	if (nacked) {
		on_nack(l);
		reply_nacked(entry->message, &e);
		l->events.settled(l->context, entry->ticket, LINK_NACKED, &e);
	} else if (entry->return_code != 0) {
		reply_returned(entry->message, entry->return_code, &e);
		l->events.settled(l->context, entry->ticket, LINK_RETURNED, &e);
	} else
		l->events.settled(l->context, entry->ticket, LINK_CONFIRMED, NULL);
}

static int
on_confirmed(void * context, uint16_t channel, uint64_t tag, bool multiple, bool nacked,
    struct error * e)
{
	struct link * l = context;

	if (confirms_settle(channels_confirms(&l->channels, channel), tag, multiple, nacked,
		on_settled, l))
		return (error_set(e, EXIT_UNREACHABLE,
		    "the broker confirmed delivery tag %llu of channel %u, "
		    "which was not used",
		    (unsigned long long)tag, channel));
	return (0);
}

static int
on_returned(void * context, uint16_t channel, int64_t id, uint16_t code, struct error * e)
{
	struct link * l = context;

	if (confirms_return(channels_confirms(&l->channels, channel), id, code))
		return (error_set(e, EXIT_UNREACHABLE,
		    "the broker returned message %lld, which is "
		    "not in flight",
		    (long long)id));
	return (0);
}

static void
on_blocked(void * context, bool blocked, const char * reason)
{
	struct link * l = context;

	l->is_blocked = blocked;
	/* It reads nothing meanwhile, so it has had no time to answer. */
	if (blocked && l->session.phase == SESSION_UP)
		l->renewing = false;
	if (!blocked && l->session.phase < SESSION_UP)
		l->connect_deadline = l->now + l->timeout;
	l->events.blocked(l->context, blocked, reason);
}

const struct session_events link_session_events = {.up = on_up,
    .channel_closed = on_channel_closed,
    .blamed = on_blamed,
    .confirmed = on_confirmed,
    .returned = on_returned,
    .blocked = on_blocked};
