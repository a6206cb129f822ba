/*
 * What must stay true: the core hears of every change of a connection before
 * it is asked again, and exactly once.  A connection that is cut from this
 * side tells nothing by itself, so whoever cuts it tells the core.
 */
#include "cli/broker.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define GOODBYE_TIMEOUT CLOCK_MS(500)

/* The second connection stays a while: who failed once is soon tried again. */
#define SUSPECTS_IDLE CLOCK_S(10)

/* A link that was full is asked again then, should nothing turn it before. */
#define FULL_PAUSE CLOCK_MS(100)

/*
 * RabbitMQ confirms more from four channels than from one: docs/design.md.
 * Suspects have one: whatever closes it was in flight there, and little is.
 */
static const uint16_t side_channels[CORE_LINKS] = {
    [CORE_MAIN] = MESSAGE_STRIPES, [CORE_SUSPECTS] = 1};

struct side {
	struct broker * broker;
	enum core_link id;
	struct link * link;
	bool wanted; /* it may connect and write */
	bool closing;
	bool up;
	bool was_up;
	bool channel_only; /* the next up is of a channel, not a connection */
	clock_ns read_at;  /* as the core knows it */
	clock_ns full_until;
	clock_ns used_at;
	size_t attempts; /* failed since the start */
	struct log_repeat lost;
	int64_t warned_channel;
	int64_t warned_refused;
	int64_t warned_unfit;
};

struct broker {
	const struct broker_options * options;
	struct core * core;
	struct side sides[CORE_LINKS];
	clock_ns now; /* of this turn, for events */
	clock_ns lease;
	bool failed;
	struct error failure;
	char status[256];
	bool blocked; /* the main one */
	char blocked_reason[256];
	char reason[256]; /* why it is not up */
	uint64_t connects;
};

static const char * const side_names[CORE_LINKS] = {
    [CORE_MAIN] = "main", [CORE_SUSPECTS] = "suspects"};

static void
say(struct side * side, const char * what, const char * detail)
{
	if (side->id == CORE_MAIN)
		snprintf(side->broker->status, sizeof(side->broker->status), "%s%.200s", what,
		    detail);
}

/* The main connection is not up. */
static void
give_reason(struct side * side, const char * reason)
{
	struct broker * broker = side->broker;

	if (side->id == CORE_MAIN)
		snprintf(broker->reason, sizeof(broker->reason), "%.250s", reason);
}

/* ---- events of a connection ---- */

static void
on_up(void * context, const char * peer)
{
	struct side * side = context;

	side->up = side->was_up = true;
	if (side->id == CORE_MAIN && !side->channel_only) {
		side->broker->connects++;
		side->broker->reason[0] = '\0';
	}
	if (!side->channel_only) {
		side->lost = (struct log_repeat){0};
		log_info("broker_connected", LOG_STR("peer", peer),
		    LOG_STR("connection", side_names[side->id]));
		say(side, "publishing to ", peer);
	}
	side->channel_only = false;
	core_on_link_up(side->broker->core, side->broker->now, side->id);
}

/* Refused by every url at the very first attempt: that is for a person. */
static bool
is_final(const struct side * side, const struct error * e)
{
	const struct broker_options * options = side->broker->options;
	bool refused = e->code == EXIT_PERMISSION || e->code == EXIT_CONFIGURATION;

	return (side->id == CORE_MAIN && !side->was_up &&
	    side->attempts >= options->link.url_count && (refused || options->once));
}

static void
on_down(void * context, const struct error * e, clock_ns retry_in)
{
	struct side * side = context;
	struct broker * broker = side->broker;

	(void)retry_in;
	side->up = false;
	side->channel_only = false;
	side->attempts++;
	core_on_link_down(broker->core, broker->now, side->id);
	if (is_final(side, e)) {
		broker->failed = true;
		broker->failure = *e;
		return;
	}
	log_repeated(&side->lost, broker->now, "broker_lost", e);
	give_reason(side, e->text);
	say(side, "no broker: ", e->text);
}

static void
on_channel_closed(void * context, const struct error * e, struct bytes exchange)
{
	struct side * side = context;
	struct broker * broker = side->broker;

	side->channel_only = true;
	core_on_channel_closed(broker->core, broker->now, side->id, exchange, bytes_from(e->text));
	if (log_due(&side->warned_channel, broker->now))
		log_failure(LOG_LEVEL_WARN, "channel_closed", e);
}

static void
on_settled(void * context, uint64_t ticket, enum link_outcome outcome, const struct error * e)
{
	static const enum core_outcome outcomes[] = {[LINK_CONFIRMED] = CORE_CONFIRMED,
	    [LINK_NACKED] = CORE_NACKED,
	    [LINK_RETURNED] = CORE_RETURNED};
	struct side * side = context;
	struct broker * broker = side->broker;

	core_on_settled(broker->core, broker->now, ticket, outcomes[outcome],
	    e == NULL ? BYTES_NONE : bytes_from(e->text));
	if (e != NULL && log_due(&side->warned_refused, broker->now))
		log_failure(LOG_LEVEL_WARN, "message_refused", e);
}

static void
on_blocked(void * context, bool blocked, const char * reason)
{
	struct side * side = context;

	core_on_blocked(side->broker->core, side->broker->now, side->id, blocked);
	if (side->id != CORE_MAIN)
		return;
	side->broker->blocked = blocked;
	snprintf(side->broker->blocked_reason, sizeof(side->broker->blocked_reason), "%.250s",
	    blocked && reason != NULL ? reason : "");
	if (blocked) {
		log_warn("broker_blocked", LOG_STR("reason", reason),
		    LOG_STR("remedy", "free memory or disk on the RabbitMQ node"));
		say(side, "blocked by the broker: ", reason);
	} else {
		log_info("broker_unblocked");
		say(side, "publishing", "");
	}
}

static const struct link_events link_events = {.up = on_up,
    .down = on_down,
    .settled = on_settled,
    .channel_closed = on_channel_closed,
    .blocked = on_blocked};

/* ---- making and ending ---- */

struct broker *
broker_new(const struct broker_options * options, struct core * core, struct error * e)
{
	struct broker * broker = calloc(1, sizeof(*broker));

	if (broker == NULL) {
		error_set(e, EXIT_BUG, "out of memory");
		return (NULL);
	}
	broker->options = options;
	broker->core = core;
	strcpy(broker->status, "connecting to the broker");
	for (int id = 0; id < CORE_LINKS; id++) {
		struct side * side = &broker->sides[id];
		struct link_options link = options->link;

		link.connection_name = options->names[id];
		link.window = options->windows[id];
		link.channels = side_channels[id];
		link.seed += (uint64_t)id;
		side->broker = broker;
		side->id = (enum core_link)id;
		side->full_until = CLOCK_NEVER;
		if ((side->link = link_new(&link, &link_events, side, e)) == NULL) {
			broker_free(broker);
			return (NULL);
		}
		/* Only a leader talks to the broker. */
		link_abort(side->link, clock_now());
	}
	return (broker);
}

void
broker_free(struct broker * broker)
{
	if (broker == NULL)
		return;
	for (int id = 0; id < CORE_LINKS; id++)
		link_free(broker->sides[id].link);
	free(broker);
}

static void
close_side(struct side * side)
{
	clock_ns deadline = clock_now() + GOODBYE_TIMEOUT;

	if (!side->up && !side->closing)
		return;
	if (!side->closing)
		link_close(side->link, clock_now());
	while (!link_closed(side->link) && clock_now() < deadline) {
		struct pollfd fd = {.fd = link_fd(side->link),
		    .events = link_poll_events(side->link)};

		poll(&fd, 1, 10);
		link_turn(side->link, clock_now(), fd.revents);
	}
}

void
broker_close(struct broker * broker)
{
	for (int id = 0; id < CORE_LINKS; id++)
		close_side(&broker->sides[id]);
}

/* ---- when a connection may be there ---- */

static void
cut(struct side * side)
{
	bool was_up = side->up;

	side->wanted = side->closing = side->up = side->channel_only = false;
	if (side->id == CORE_MAIN)
		side->broker->blocked = false;
	link_abort(side->link, side->broker->now);
	if (was_up)
		core_on_link_down(side->broker->core, side->broker->now, side->id);
}

/* A goodbye loses nothing: nothing is in flight where nothing is wanted. */
static void
leave_idle(struct side * side)
{
	if (!side->up) {
		cut(side);
		return;
	}
	side->up = false;
	side->closing = true;
	link_close(side->link, side->broker->now);
	core_on_link_down(side->broker->core, side->broker->now, side->id);
}

static bool
is_needed(struct side * side)
{
	struct broker * broker = side->broker;

	if (side->id == CORE_MAIN || core_wants(broker->core, side->id))
		side->used_at = broker->now;
	else if (!side->wanted || broker->now - side->used_at >= SUSPECTS_IDLE)
		return (false);
	return (true);
}

void
broker_lease(struct broker * broker, clock_ns now, clock_ns until)
{
	broker->now = now;
	broker->lease = until;
	for (int id = 0; id < CORE_LINKS; id++) {
		struct side * side = &broker->sides[id];

		link_lease(side->link, until);
		if (now >= until) {
			if (side->wanted)
				cut(side);
			continue;
		}
		if (side->closing && link_closed(side->link))
			cut(side);
		if (side->closing)
			continue;
		if (!is_needed(side)) {
			if (side->wanted)
				leave_idle(side);
		} else if (!side->wanted) {
			side->wanted = true;
			link_resume(side->link, now);
		}
	}
}

/* ---- the loop's needs ---- */

void
broker_poll(const struct broker * broker, struct pollfd * fds)
{
	for (int id = 0; id < CORE_LINKS; id++)
		fds[id] = (struct pollfd){.fd = link_fd(broker->sides[id].link),
		    .events = link_poll_events(broker->sides[id].link)};
}

static clock_ns
side_deadline(const struct side * side)
{
	return (clock_min(link_deadline(side->link), side->full_until));
}

clock_ns
broker_deadline(const struct broker * broker)
{
	clock_ns deadline = CLOCK_NEVER;

	for (int id = 0; id < CORE_LINKS; id++) {
		const struct side * side = &broker->sides[id];

		if (!side->wanted)
			continue;
		deadline = clock_min(deadline, side_deadline(side));
		deadline = clock_min(deadline, broker->lease);
		if (side->id != CORE_MAIN && !side->closing)
			deadline = clock_min(deadline, side->used_at + SUSPECTS_IDLE);
	}
	return (deadline);
}

void
broker_turn(struct broker * broker, clock_ns now, const struct pollfd * fds)
{
	broker->now = now;
	for (int id = 0; id < CORE_LINKS; id++) {
		struct side * side = &broker->sides[id];

		if (!side->wanted || (fds[id].revents == 0 && now < side_deadline(side)))
			continue;
		link_turn(side->link, now, fds[id].revents);
		if (side->closing)
			continue;
		if (link_last_read(side->link) != side->read_at) {
			side->read_at = link_last_read(side->link);
			core_on_heard(broker->core, now, side->id);
		}
		core_on_link_full(broker->core, side->id, false);
		side->full_until = CLOCK_NEVER;
	}
}

/* ---- what the core asks ---- */

void
broker_publish(struct broker * broker, clock_ns now, const struct core_action * action)
{
	struct side * side = &broker->sides[action->publish.link];
	const struct message * message = action->publish.message;
	uint64_t ticket = action->publish.ticket;
	enum link_publish_result result;
	struct error e;

	broker->now = now;
	result = link_publish(side->link, message, ticket, &e);
	if (result == LINK_FULL) {
		link_flush(side->link, now);
		result = link_publish(side->link, message, ticket, &e);
	}
	switch (result) {
	case LINK_TAKEN:
		break;
	case LINK_FULL:
		core_on_settled(broker->core, now, ticket, CORE_NOT_TAKEN, BYTES_NONE);
		core_on_link_full(broker->core, side->id, true);
		side->full_until = now + FULL_PAUSE;
		break;
	case LINK_UNFIT:
		if (log_due(&side->warned_unfit, now))
			log_event(LOG_LEVEL_ERROR, "message_unfit", LOG_INT("id", message->id),
			    LOG_STR("reason", e.text), LOG_STR("remedy", e.remedy));
		core_on_settled(broker->core, now, ticket, CORE_UNFIT, bytes_from(e.text));
		break;
	}
}

void
broker_reset(struct broker * broker, clock_ns now, const struct core_action * action)
{
	struct side * side = &broker->sides[action->reset.link];
	char reason[256];

	broker->now = now;
	snprintf(reason, sizeof(reason), "%.*s", (int)action->reset.reason.len,
	    action->reset.reason.data == NULL ? "" : action->reset.reason.data);
	log_warn("no_confirms", LOG_STR("connection", side_names[side->id]),
	    LOG_STR("reason", reason),
	    LOG_STR("remedy", "none needed if it stays single; else look at the queue named"));
	side->up = side->channel_only = false;
	if (side->id == CORE_MAIN)
		broker->blocked = false;
	link_reset(side->link, now, reason);
	give_reason(side, reason);
	say(side, "connecting again: ", reason);
}

void
broker_flush(struct broker * broker, clock_ns now)
{
	for (int id = 0; id < CORE_LINKS; id++)
		if (broker->sides[id].up)
			link_flush(broker->sides[id].link, now);
}

/* ---- how it stands ---- */

const struct error *
broker_failure(const struct broker * broker)
{
	return (broker->failed ? &broker->failure : NULL);
}

void
broker_report(const struct broker * broker, struct broker_report * report)
{
	const struct side * side = &broker->sides[CORE_MAIN];

	*report = (struct broker_report){.up = side->up,
	    .blocked = broker->blocked,
	    .blocked_reason = broker->blocked_reason,
	    .reason = side->up ? "" : broker->reason,
	    .peer = link_peer(side->link),
	    .reconnects = broker->connects > 1 ? broker->connects - 1 : 0,
	    .certificate_expiry_s = link_certificate_expiry(side->link)};
}

const char *
broker_status(const struct broker * broker)
{
	return (broker->status);
}
