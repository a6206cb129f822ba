#include "amqp/link.h"

#include <assert.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "amqp/link_state.h"

/*
 * The link ties together: transport (bytes), session (conversation), codec
 * and outbound (what is to be sent), channels (what is unanswered).
 *
 * What must stay true:
 * - L: each ticket taken is settled once, or covered by one down or
 *   channel_closed event.  channels are reset exactly where such an event goes
 *   out.
 * - Events go out from link_turn alone.  A write that fails in link_publish
 *   or link_flush is only noted; the next turn reads what the broker said
 *   last, since its connection.close tells more than a broken pipe.
 * - Deadlines are checked after reading: bytes that arrived while this
 *   process was stopped count.
 */
#define READ_SIZE (64 * 1024)
#define READ_TURNS 16              /* reads in one turn, so that others get theirs */
#define SEND_EARLY (64 * 1024)     /* let the broker begin while we encode */
#define SEND_MAX (8 * 1024 * 1024) /* bytes in one flush, likewise */
#define SEND_PARTS 64
#define CONTROL_ROOM (4 * 1024 * 1024) /* of the buffer beyond send_buffer_max */
#define CLOSE_TIMEOUT CLOCK_S(2)

/* ---- making and ending ---- */

struct link *
link_new(const struct link_options * options, const struct link_events * events, void * context,
    struct error * e)
{
	struct link * l = calloc(1, sizeof(*l));

	assert(options->url_count > 0 && options->window > 0 && options->send_buffer_max > 0);
	if (l == NULL || (l->input = malloc(READ_SIZE)) == NULL ||
	    channels_init(&l->channels, options->channels, options->window)) {
		error_set(e, EXIT_BUG, "out of memory");
		goto fail;
	}
	l->options = *options;
	l->events = *events;
	l->context = context;
	codec_init(&l->codec, options->mandatory, options->cloudevents);
	l->channels_wished = options->channels;
	l->lease = CLOCK_NEVER;
	l->reopen_at = CLOCK_NEVER;
	outbound_init(&l->out, options->send_buffer_max + CONTROL_ROOM);
	attempts_init(&l->attempts, options->url_count, options->seed);
	if (link_check_tls(l, e))
		goto fail;
	return (l);

fail:
	link_free(l);
	return (NULL);
}

/* Let go of the connection; nothing is told. */
static void
drop(struct link * l, bool discard)
{
	transport_close(l->transport, discard);
	l->transport = NULL;
	tls_context_free(l->tls);
	l->tls = NULL;
	session_end(&l->session);
	outbound_clear(&l->out);
	channels_reset(&l->channels);
	l->reopen_at = CLOCK_NEVER;
	l->was_up = l->is_blocked = l->blamed = l->renewing = l->settling = false;
	l->read_more = l->would_block = l->write_failed = false;
}

void
link_free(struct link * l)
{
	if (l == NULL)
		return;
	drop(l, false);
	outbound_free(&l->out);
	codec_free(&l->codec);
	channels_free(&l->channels);
	free(l->input);
	free(l);
}

/* A broker may allow a user, or a node, a number of channels. */
static bool
has_too_many_channels(const struct link * l, const struct error * reason)
{
	return (l->session.phase == SESSION_CHANNEL && !l->was_up && l->channels_wished > 1 &&
	    reason->amqp_code == AMQP_NOT_ALLOWED);
}

/* The attempt or the connection has failed: say so and wait. */
static void
fail(struct link * l, clock_ns now, const struct error * reason)
{
	struct error e = *reason;
	bool was_blocked = l->is_blocked;
	clock_ns retry_in;

	if (has_too_many_channels(l, reason) && !l->closing) {
		l->channels_wished = 1;
		drop(l, false);
		l->state = STATE_WAITING;
		l->retry_at = now;
		return;
	}
	/* Untold, it would close a channel of the next connection, too, and what ended this
	 * one could be the same again. */
	if (l->settling && !l->closing)
		link_tell_closed(l);
	error_set(&e, reason->code, "%s: %s", l->peer, reason->text);
	e.amqp_code = reason->amqp_code;
	strcpy(e.remedy, reason->remedy);

	retry_in = attempts_down(&l->attempts, now,
	    l->blamed     ? ATTEMPTS_BLAMED :
		l->was_up ? ATTEMPTS_LOST :
			    ATTEMPTS_NEVER_UP);
	drop(l, false);
	if (l->closing) {
		l->state = STATE_CLOSED;
		return;
	}
	l->state = STATE_WAITING;
	l->retry_at = now + retry_in;
	if (was_blocked)
		l->events.blocked(l->context, false, "");
	l->events.down(l->context, &e, retry_in);
}

/* ---- moving bytes ---- */

static void
flush(struct link * l)
{
	struct iovec parts[SEND_PARTS];
	size_t moved = 0;
	long n;

	if (l->state != STATE_TALKING || l->write_failed)
		return;
	/* The one place that asks for the time itself: this process may have been
	 * stopped since it was told. */
	if (l->lease != CLOCK_NEVER && clock_now() >= l->lease)
		return;
	while (outbound_unsent(&l->out) > 0 && moved < SEND_MAX) {
		n = transport_write(l->transport, parts,
		    outbound_gather(&l->out, parts, SEND_PARTS), &l->write_error);
		if (n < 0)
			l->write_failed = true;
		if (n <= 0) {
			l->would_block = true;
			break;
		}
		outbound_sent(&l->out, (size_t)n);
		moved += (size_t)n;
		l->would_block = false;
	}
	if (moved > 0)
		l->last_write = l->now;
}

/* Read and handle what has come. */
static int
receive(struct link * l, clock_ns now, struct error * e)
{
	long n = 0;
	int i;

	for (i = 0; i < READ_TURNS; i++) {
		if ((n = transport_read(l->transport, l->input, READ_SIZE, e)) <= 0)
			break;
		l->last_read = now;
		if (session_input(&l->session, l->input, (size_t)n, e)) {
			flush(l); /* the close-ok, as far as it goes */
			return (-1);
		}
		/* A short read emptied the socket: save the call that says so.
		 * TLS hands over a record at a time. */
		if (n < READ_SIZE && !l->url.tls && !l->write_failed)
			break;
	}
	l->read_more = i == READ_TURNS;
	if (n < 0) {
		session_lost(&l->session, e);
		return (-1);
	}
	if (l->write_failed && !l->read_more) {
		*e = l->write_error;
		session_lost(&l->session, e);
		return (-1);
	}
	return (0);
}

/* What the time asks for. */
static int
timers(struct link * l, clock_ns now, struct error * e)
{
	clock_ns heartbeat = CLOCK_S(l->session.heartbeat_s);

	if (l->closing && l->session.phase == SESSION_CLOSING && now >= l->connect_deadline)
		return (error_set(e, EXIT_UNREACHABLE, "no answer to connection.close"));
	if (l->session.phase < SESSION_UP && !l->is_blocked && now >= l->connect_deadline) {
		if (l->was_up)
			return (error_set(e, EXIT_UNREACHABLE,
			    "the broker did not close a channel, or open it again, in time"));
		error_set(e, EXIT_UNREACHABLE,
		    "the broker did not answer in time (phase %d of login)", (int)l->session.phase);
		return (error_remedy(e, "is the broker overloaded, or does the port not speak %s?",
		    l->url.tls ? "AMQP" : "plain AMQP"));
	}
	if (l->session.phase == SESSION_NO_CHANNEL && now >= l->reopen_at) {
		l->reopen_at = CLOCK_NEVER;
		l->connect_deadline = now + l->timeout;
		if (session_reopen(&l->session))
			return (error_set(e, EXIT_BUG, "no room for a control frame"));
	}
	if (heartbeat == 0)
		return (0);
	if (now - l->last_read >= 2 * heartbeat) {
		error_set(e, EXIT_UNREACHABLE, "missed heartbeats: nothing was heard for %u s",
		    2 * l->session.heartbeat_s);
		return (error_remedy(e, "the broker or the network between stands still"));
	}
	/* While bytes wait in front of it, a heartbeat would say nothing new. */
	if (now - l->last_write >= heartbeat / 2 && outbound_unsent(&l->out) == 0 &&
	    codec_heartbeat(&l->out))
		return (error_set(e, EXIT_BUG, "no room for a heartbeat"));
	return (0);
}

static int
talking(struct link * l, clock_ns now, short revents, struct error * e)
{
	bool silent = l->session.heartbeat_s > 0 &&
	    now - l->last_read >= 2 * CLOCK_S(l->session.heartbeat_s);

	if ((revents & POLLOUT) != 0)
		l->would_block = false;
	if ((revents & (POLLIN | POLLHUP | POLLERR)) != 0 || l->read_more || l->write_failed ||
	    silent) {
		if (receive(l, now, e))
			return (-1);
	}
	if (l->session.phase == SESSION_CLOSED) {
		drop(l, false);
		l->state = STATE_CLOSED;
		return (0);
	}
	if (link_renew(l, now, e) || link_settle(l, now, e) || timers(l, now, e))
		return (-1);
	flush(l);
	return (0);
}

/* ---- what the owner calls ---- */

int
link_fd(const struct link * l)
{
	return (l->transport == NULL ? -1 : transport_fd(l->transport));
}

short
link_poll_events(const struct link * l)
{
	switch (l->state) {
	case STATE_CONNECTING:
		return (transport_poll_events(l->transport));
	case STATE_TALKING:
		return ((short)(POLLIN | (outbound_unsent(&l->out) > 0 ? POLLOUT : 0)));
	default:
		return (0);
	}
}

clock_ns
link_deadline(const struct link * l)
{
	clock_ns deadline = CLOCK_NEVER;
	clock_ns heartbeat = CLOCK_S(l->session.heartbeat_s);

	switch (l->state) {
	case STATE_WAITING:
		return (l->retry_at);
	case STATE_CONNECTING:
		return (transport_deadline(l->transport));
	case STATE_TALKING:
		break;
	default:
		return (CLOCK_NEVER);
	}
	if (l->read_more || l->write_failed)
		return (l->now);
	if ((l->session.phase < SESSION_UP && !l->is_blocked) || l->closing)
		deadline = l->connect_deadline;
	if (l->renewing && l->session.phase == SESSION_UP)
		deadline = clock_min(deadline, l->renew_by);
	if (l->settling)
		deadline = clock_min(deadline, l->settle_by);
	else if (l->session.phase == SESSION_NO_CHANNEL)
		deadline = clock_min(deadline, l->reopen_at);
	if (heartbeat > 0) {
		deadline = clock_min(deadline, l->last_read + 2 * heartbeat);
		if (outbound_unsent(&l->out) == 0)
			deadline = clock_min(deadline, l->last_write + heartbeat / 2);
	}
	return (deadline);
}

void
link_turn(struct link * l, clock_ns now, short revents)
{
	struct error e;
	int rc = 0;

	error_clear(&e);
	l->now = now;
	if (l->state == STATE_WAITING && now >= l->retry_at) {
		if ((rc = link_connect(l, now, &e)) == 0)
			l->state = STATE_CONNECTING;
		revents = 0;
	}
	if (l->state == STATE_CONNECTING && rc == 0) {
		if ((rc = link_connecting(l, now, &e)) == 0 && l->state == STATE_TALKING)
			flush(l);
	} else if (l->state == STATE_TALKING)
		rc = talking(l, now, revents, &e);
	if (rc != 0)
		fail(l, now, &e);
}

enum link_publish_result
link_publish(struct link * l, const struct message * message, uint64_t ticket, struct error * e)
{
	uint16_t channel = channels_choose(message, l->session.channel_count);
	struct confirms * confirms = channels_confirms(&l->channels, channel);
	enum link_publish_result result;

	assert(l->state == STATE_TALKING &&
	    (l->session.phase == SESSION_UP || l->renewing || l->settling));
	if (l->renewing || l->settling || outbound_unsent(&l->out) >= l->options.send_buffer_max ||
	    !confirms_room(confirms))
		return (LINK_FULL);
	if ((result = codec_publish(&l->codec, &l->out, channel, message, e)) != LINK_TAKEN)
		return (result);
	confirms_add(confirms, ticket, message);
	if (outbound_unsent(&l->out) >= SEND_EARLY && !l->would_block)
		flush(l);
	return (LINK_TAKEN);
}

void
link_flush(struct link * l, clock_ns now)
{
	l->now = now;
	if (!l->would_block)
		flush(l);
}

static void
connect_now(struct link * l, bool at_next_url)
{
	attempts_restart(&l->attempts, at_next_url);
	l->state = STATE_WAITING;
	l->retry_at = l->now;
}

void
link_lease(struct link * l, clock_ns until)
{
	l->lease = until;
}

void
link_abort(struct link * l, clock_ns now)
{
	l->now = now;
	if (l->state == STATE_CLOSED)
		return;
	/* With the kernel's unsent bytes: they are publishing, too. */
	drop(l, true);
	l->state = STATE_ABORTED;
}

void
link_resume(struct link * l, clock_ns now)
{
	if (l->state != STATE_ABORTED && !l->closing)
		return;
	l->now = now;
	drop(l, false);
	l->closing = false;
	connect_now(l, false);
}

void
link_reset(struct link * l, clock_ns now, const char * reason)
{
	bool clean = l->state == STATE_TALKING && l->session.phase == SESSION_UP &&
	    outbound_unsent(&l->out) == 0;

	if (l->state == STATE_ABORTED || l->state == STATE_CLOSED || l->closing)
		return;
	l->now = now;
	/* A goodbye if nothing waits in front of it, or else the broker would log
	 * a warning.  What the kernel has not sent yet is published anew: D. */
	if (clean && session_close(&l->session, reason) == 0)
		flush(l);
	drop(l, !clean);
	connect_now(l, true);
}

clock_ns
link_last_read(const struct link * l)
{
	return (l->last_read);
}

const char *
link_peer(const struct link * l)
{
	return (l->peer);
}

int64_t
link_certificate_expiry(const struct link * l)
{
	return (l->transport == NULL ? 0 : transport_certificate_expiry(l->transport));
}

void
link_close(struct link * l, clock_ns now)
{
	l->now = now;
	l->closing = true;
	if (l->state == STATE_TALKING && l->session.phase == SESSION_UP &&
	    session_close(&l->session, "goodbye") == 0) {
		l->connect_deadline = now + CLOSE_TIMEOUT;
		flush(l);
		return;
	}
	if (l->state != STATE_TALKING || l->session.phase != SESSION_CLOSING) {
		drop(l, false);
		l->state = STATE_CLOSED;
	}
}

bool
link_closed(const struct link * l)
{
	return (l->state == STATE_CLOSED);
}
