#include "amqp/link.h"

#include <assert.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "amqp/attempts.h"
#include "amqp/codec.h"
#include "amqp/confirms.h"
#include "amqp/outbound.h"
#include "amqp/reply.h"
#include "amqp/session.h"
#include "amqp/transport.h"
#include "amqp/url.h"
#include "base/file.h"

/*
 * The link ties together: transport (bytes), session (conversation), codec
 * and outbound (what is to be sent), confirms (what is unanswered).
 *
 * What must stay true:
 * - L: each ticket taken is settled once, or covered by one down or
 *   channel_closed event.  confirms is reset exactly where such an event goes
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
#define RENEW_PATIENCE CLOCK_MS(500)   /* for what is in flight to be settled */
#define KEEPALIVE_S 60                 /* while no heartbeat is asked for */
#define CLOSE_TIMEOUT CLOCK_S(2)
#define DEFAULT_EXCHANGE "amq.default" /* as the broker writes it */

enum state {
	STATE_WAITING,    /* no socket; the next attempt is at retry_at */
	STATE_CONNECTING, /* TCP and TLS */
	STATE_TALKING,    /* the session says how far */
	STATE_ABORTED,
	STATE_CLOSED
};

struct link {
	struct link_options options;
	struct link_events events;
	void * context;
	enum state state;
	clock_ns now;   /* of the last call that told the time */
	clock_ns lease; /* nothing is written at or after it */

	struct attempts attempts;
	struct url url;
	char peer[URL_DESCRIPTION_MAX];
	clock_ns retry_at;
	clock_ns timeout;          /* of this url */
	clock_ns connect_deadline; /* for everything before up */

	struct tls_context * tls;
	struct transport * transport;
	struct session session;
	struct codec codec;
	struct outbound out;
	struct confirms confirms;
	clock_ns reopen_at; /* CLOCK_NEVER: no channel waits for it */
	bool renewing;      /* the channel is to be replaced ... */
	clock_ns renew_by;  /* ... if it can be done until then */
	bool was_up;        /* on this connection */
	bool is_blocked;
	bool blamed;  /* it ends over something that was published */
	bool closing; /* link_close was called */

	char * input;     /* READ_SIZE bytes */
	bool read_more;   /* the last turn stopped before the end */
	bool would_block; /* the socket takes no more for now */
	bool write_failed;
	struct error write_error;
	clock_ns last_read;
	clock_ns last_write;
};

static const struct session_events session_events;

/* ---- connecting ---- */

static int
check_tls(struct link * l, struct error * e)
{
	struct tls_context * context;
	struct url url;
	bool tls = false;
	size_t i;

	for (i = 0; i < l->options.url_count; i++) {
		if (url_parse(&url, l->options.urls[i], e))
			return (-1);
		tls = tls || url.tls;
	}
	if (!tls)
		return (0);
	if ((context = tls_context_new(&l->options.tls, e)) == NULL)
		return (-1);
	tls_context_free(context);
	return (0);
}

struct link *
link_new(const struct link_options * options, const struct link_events * events, void * context,
    struct error * e)
{
	struct link * l = calloc(1, sizeof(*l));

	assert(options->url_count > 0 && options->window > 0 && options->send_buffer_max > 0);
	if (l == NULL || (l->input = malloc(READ_SIZE)) == NULL ||
	    confirms_init(&l->confirms, options->window)) {
		error_set(e, EXIT_BUG, "out of memory");
		goto fail;
	}
	l->options = *options;
	l->events = *events;
	l->context = context;
	l->codec.mandatory = options->mandatory;
	l->lease = CLOCK_NEVER;
	l->reopen_at = CLOCK_NEVER;
	outbound_init(&l->out, options->send_buffer_max + CONTROL_ROOM);
	attempts_init(&l->attempts, options->url_count, options->seed);
	if (check_tls(l, e))
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
	confirms_reset(&l->confirms);
	l->reopen_at = CLOCK_NEVER;
	l->was_up = l->is_blocked = l->blamed = l->renewing = false;
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
	confirms_free(&l->confirms);
	free(l->input);
	free(l);
}

/* The attempt or the connection has failed: say so and wait. */
static void
fail(struct link * l, clock_ns now, const struct error * reason)
{
	struct error e = *reason;
	bool was_blocked = l->is_blocked;
	clock_ns retry_in;

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

static int
open_transport(struct link * l, clock_ns now, struct error * e)
{
	const char * server_name = l->options.tls.server_name;

	/* For an error of the url itself; it was valid in link_new. */
	strcpy(l->peer, "rabbitmq.urls");
	if (url_parse(&l->url, l->options.urls[l->attempts.url], e))
		return (-1);
	url_describe(&l->url, l->peer);
	l->timeout = l->options.connect_timeout;
	if (l->url.connection_timeout_ms >= 0)
		l->timeout = CLOCK_MS(l->url.connection_timeout_ms);
	l->connect_deadline = now + l->timeout;
	/* Anew each time: certificates are renewed under a running relay. */
	if (l->url.tls && (l->tls = tls_context_new(&l->options.tls, e)) == NULL)
		return (-1);
	l->transport = transport_open(
	    &(struct transport_options){.host = l->url.host,
		.port = l->url.port,
		.context = l->tls,
		.name = server_name != NULL ? server_name : l->url.host,
		.keepalive_s = l->options.heartbeat_s > 0 ? (int)l->options.heartbeat_s :
							    KEEPALIVE_S,
		.deadline = l->connect_deadline},
	    now, e);
	return (l->transport == NULL ? -1 : 0);
}

static int
find_password(struct link * l, struct error * e)
{
	if (l->options.external_auth)
		return (0);
	if (l->options.password_file != NULL)
		return (file_read_secret(l->options.password_file, l->url.password,
		    sizeof(l->url.password), e));
	if (l->url.has_password)
		return (0);
	if (strcmp(l->url.user, "guest") == 0) {
		strcpy(l->url.password, "guest");
		return (0);
	}
	error_set(e, EXIT_CONFIGURATION, "no password for user \"%s\"", l->url.user);
	return (error_remedy(e, "set rabbitmq.password_file, or put it into rabbitmq.urls"));
}

static int
begin_session(struct link * l, clock_ns now, struct error * e)
{
	struct session_options options = {.user = l->url.user,
	    .password = l->url.password,
	    .vhost = l->url.vhost,
	    .connection_name = l->options.connection_name,
	    .external = l->options.external_auth,
	    .heartbeat_s = l->options.heartbeat_s};

	if (l->url.heartbeat_s >= 0)
		options.heartbeat_s = (uint32_t)l->url.heartbeat_s;
	if (options.connection_name == NULL)
		options.connection_name = "outbox-relay";
	if (find_password(l, e) ||
	    session_begin(&l->session, &options, &session_events, l, &l->out, &l->codec, e))
		return (-1);
	l->state = STATE_TALKING;
	l->last_read = l->last_write = now;
	return (0);
}

/* Go on with the transport; then begin to talk. */
static int
connecting(struct link * l, clock_ns now, struct error * e)
{
	switch (transport_progress(l->transport, now, e)) {
	case TRANSPORT_CONNECTING:
		return (0);
	case TRANSPORT_READY:
		return (begin_session(l, now, e));
	default:
		return (-1);
	}
}

/* ---- what the session tells ---- */

static void
on_up(void * context)
{
	struct link * l = context;

	confirms_reset(&l->confirms);
	/* Nobody needs to know: nothing was in flight. */
	if (l->renewing) {
		l->renewing = false;
		return;
	}
	l->was_up = true;
	attempts_up(&l->attempts, l->now);
	l->events.up(l->context, l->peer);
}

/*
 * The exchange that the broker means, as the messages in flight have it: a name
 * that none of them bears would be blamed for nothing, again and again.
 */
static struct bytes
meant(const struct link * l, struct bytes named)
{
	if (bytes_equal(named, bytes_from(DEFAULT_EXCHANGE)) &&
	    confirms_has_exchange(&l->confirms, bytes_from("")))
		return (bytes_from(""));
	if (bytes_present(named) && confirms_has_exchange(&l->confirms, named))
		return (named);
	return (BYTES_NONE);
}

static void
on_channel_closed(void * context, const struct error * e, struct bytes exchange)
{
	struct link * l = context;

	l->renewing = false;
	l->reopen_at = l->now + attempts_channel_closed(&l->attempts, l->now);
	exchange = meant(l, exchange);
	confirms_reset(&l->confirms);
	l->events.channel_closed(l->context, e, exchange);
}

/* fail follows.  What a person closes an idle connection over is no fault. */
static void
on_blamed(void * context, const struct error * e)
{
	struct link * l = context;

	if (l->confirms.unsettled == 0)
		return;
	confirms_reset(&l->confirms);
	l->blamed = true;
	l->events.channel_closed(l->context, e, BYTES_NONE);
}

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
	if (l->renewing || l->closing || l->is_blocked || !attempts_nacked(&l->attempts, l->now))
		return;
	l->renewing = true;
	l->renew_by = l->now + RENEW_PATIENCE;
}

static int
renew(struct link * l, clock_ns now, struct error * e)
{
	if (!l->renewing || l->session.phase != SESSION_UP)
		return (0);
	if (l->confirms.unsettled > 0) {
		l->renewing = now < l->renew_by;
		return (0);
	}
	l->connect_deadline = now + l->timeout;
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
on_confirmed(void * context, uint64_t tag, bool multiple, bool nacked, struct error * e)
{
	struct link * l = context;

	if (confirms_settle(&l->confirms, tag, multiple, nacked, on_settled, l))
		return (error_set(e, EXIT_UNREACHABLE,
		    "the broker confirmed delivery tag %llu, "
		    "which was not used",
		    (unsigned long long)tag));
	return (0);
}

static int
on_returned(void * context, int64_t id, uint16_t code, struct error * e)
{
	struct link * l = context;

	if (confirms_return(&l->confirms, id, code))
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

static const struct session_events session_events = {.up = on_up,
    .channel_closed = on_channel_closed,
    .blamed = on_blamed,
    .confirmed = on_confirmed,
    .returned = on_returned,
    .blocked = on_blocked};

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
	if (renew(l, now, e) || timers(l, now, e))
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
	if (l->session.phase == SESSION_NO_CHANNEL)
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
		if ((rc = open_transport(l, now, &e)) == 0)
			l->state = STATE_CONNECTING;
		revents = 0;
	}
	if (l->state == STATE_CONNECTING && rc == 0) {
		if ((rc = connecting(l, now, &e)) == 0 && l->state == STATE_TALKING)
			flush(l);
	} else if (l->state == STATE_TALKING)
		rc = talking(l, now, revents, &e);
	if (rc != 0)
		fail(l, now, &e);
}

enum link_publish_result
link_publish(struct link * l, const struct message * message, uint64_t ticket, struct error * e)
{
	enum link_publish_result result;

	assert(l->state == STATE_TALKING && (l->session.phase == SESSION_UP || l->renewing));
	if (l->renewing || outbound_unsent(&l->out) >= l->options.send_buffer_max ||
	    confirms_full(&l->confirms))
		return (LINK_FULL);
	if ((result = codec_publish(&l->codec, &l->out, message, e)) != LINK_TAKEN)
		return (result);
	confirms_add(&l->confirms, ticket, message);
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
