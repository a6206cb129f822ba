/*
 * The link's session with another channel: in tx mode.  A message that is
 * published there and rolled back is never routed, but RabbitMQ checks at once
 * whether the exchange is there and whether this user may write to it: that is
 * the one way to ask for a permission without sending anything.
 *
 * A question that is answered by the end of the channel (404, 403, 406) is
 * followed by another channel.
 */
#include "amqp/enquiry.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "amqp/credentials.h"
#include "amqp/enquiry_ask.h"
#include "amqp/session.h"
#include "amqp/transport.h"

#define READ_SIZE 16384
#define SEND_MAX (1024 * 1024)
#define SEND_PARTS 8
#define GOODBYE CLOCK_MS(500)
#define KEEPALIVE_S 60
#define CHANNEL 1 /* the one of the session */
#define NOTHING 0 /* no method has this id */

struct enquiry {
	struct enquiry_options options;
	struct url url;
	char described[URL_DESCRIPTION_MAX];
	struct tls_context * tls;
	struct transport * transport;
	struct session session;
	struct codec codec;
	struct outbound out;
	amqp_method_number_t awaited; /* NOTHING: none, or it came */
	bool closed;                  /* the channel, instead of an answer: why */
	bool blocked;
	bool lost; /* ask no more */
	struct error why;
	char input[READ_SIZE];
};

/* ---- what the session tells ---- */

static void
on_up(void * context)
{
	(void)context;
}

static void
on_channel_closed(void * context, uint16_t channel, const struct error * e, struct bytes exchange)
{
	struct enquiry * q = context;

	(void)channel;
	(void)exchange;
	q->closed = true;
	q->why = *e;
}

static void
on_blamed(void * context, const struct error * e)
{
	(void)context;
	(void)e;
}

static int
on_confirmed(void * context, uint16_t channel, uint64_t tag, bool multiple, bool nacked,
    struct error * e)
{
	(void)context;
	(void)channel;
	(void)tag;
	(void)multiple;
	(void)nacked;
	return (error_set(e, EXIT_UNREACHABLE, "the broker confirmed what was not published"));
}

static int
on_returned(void * context, uint16_t channel, int64_t id, uint16_t code, struct error * e)
{
	(void)context;
	(void)channel;
	(void)id;
	(void)code;
	return (error_set(e, EXIT_UNREACHABLE, "the broker returned what was not published"));
}

static void
on_blocked(void * context, bool blocked, const char * reason)
{
	struct enquiry * q = context;

	q->blocked = blocked;
	if (blocked)
		error_set(&q->why, EXIT_FOUND, "%s", reason);
}

static int
on_answered(void * context, const amqp_method_t * method, struct error * e)
{
	struct enquiry * q = context;

	if (method->id != q->awaited)
		return (error_set(e, EXIT_UNREACHABLE,
		    "the broker answered 0x%08x to what was not asked", (unsigned int)method->id));
	q->awaited = NOTHING;
	return (0);
}

static const struct session_events events = {.up = on_up,
    .channel_closed = on_channel_closed,
    .blamed = on_blamed,
    .confirmed = on_confirmed,
    .returned = on_returned,
    .blocked = on_blocked,
    .answered = on_answered};

/* ---- moving bytes ---- */

static int
wait_for(int fd, short wanted, clock_ns deadline)
{
	struct pollfd pollfd = {.fd = fd, .events = wanted};
	clock_ns now = clock_now();

	if (now >= deadline)
		return (-1);
	(void)poll(&pollfd, 1, (int)((deadline - now) / CLOCK_MS(1)) + 1);
	return (0);
}

static int
send_all(struct enquiry * q, struct error * e)
{
	struct iovec parts[SEND_PARTS];
	long n;

	while (outbound_unsent(&q->out) > 0) {
		n = transport_write(q->transport, parts,
		    outbound_gather(&q->out, parts, SEND_PARTS), e);
		if (n < 0)
			return (-1);
		if (n == 0)
			break;
		outbound_sent(&q->out, (size_t)n);
	}
	return (0);
}

static int
receive(struct enquiry * q, struct error * e)
{
	struct error ignored;
	long n;

	while ((n = transport_read(q->transport, q->input, sizeof(q->input), e)) > 0) {
		if (session_input(&q->session, q->input, (size_t)n, e)) {
			(void)send_all(q, &ignored);
			return (-1);
		}
	}
	if (n < 0)
		session_lost(&q->session, e);
	return (n < 0 ? -1 : 0);
}

/* Go on until the session is in ${phase} and nothing is awaited, or it cannot be. */
static int
talk(struct enquiry * q, enum session_phase phase, clock_ns timeout, struct error * e)
{
	clock_ns deadline = clock_now() + timeout;

	for (;;) {
		if (send_all(q, e)) {
			/* What the broker said last tells more. */
			struct error last;

			if (receive(q, &last) && last.code != EXIT_UNREACHABLE)
				*e = last;
			return (-1);
		}
		if (receive(q, e))
			return (-1);
		if (q->blocked || q->session.phase == SESSION_NO_CHANNEL ||
		    (q->session.phase == phase && q->awaited == NOTHING))
			return (0);
		if (wait_for(transport_fd(q->transport),
			(short)(POLLIN | (outbound_unsent(&q->out) > 0 ? POLLOUT : 0)), deadline)) {
			error_set(e, EXIT_UNREACHABLE, "the broker did not answer within %lld s",
			    (long long)(timeout / CLOCK_S(1)));
			return (error_remedy(e,
			    "look at the broker: does it stand still, or does the port not speak "
			    "AMQP?"));
		}
	}
}

/* ---- connecting ---- */

static int
connect_transport(struct enquiry * q, struct error * e)
{
	const char * name = q->options.tls.server_name;
	clock_ns now = clock_now();

	if (q->url.tls && (q->tls = tls_context_new(&q->options.tls, e)) == NULL)
		return (-1);
	q->transport = transport_open(&(struct transport_options){.host = q->url.host,
					  .port = q->url.port,
					  .context = q->tls,
					  .name = name != NULL ? name : q->url.host,
					  .keepalive_s = KEEPALIVE_S,
					  .deadline = now + q->options.timeout},
	    now, e);
	if (q->transport == NULL)
		return (-1);
	for (;;) {
		switch (transport_progress(q->transport, clock_now(), e)) {
		case TRANSPORT_READY:
			return (0);
		case TRANSPORT_FAILED:
			return (-1);
		default:
			(void)wait_for(transport_fd(q->transport),
			    transport_poll_events(q->transport), transport_deadline(q->transport));
		}
	}
}

static int
log_in(struct enquiry * q, struct error * e)
{
	struct session_options options = {.user = q->url.user,
	    .password = q->url.password,
	    .vhost = q->url.vhost,
	    .connection_name = q->options.connection_name,
	    .external = q->options.external_auth,
	    .channel_count = 1,
	    .transactional = true};

	if ((!options.external && credentials_find(&q->url, q->options.password_file, e)) ||
	    session_begin(&q->session, &options, &events, q, &q->out, &q->codec, e))
		return (-1);
	return (talk(q, SESSION_UP, q->options.timeout, e));
}

struct enquiry *
enquiry_open(const struct enquiry_options * options, struct error * e)
{
	struct enquiry * q = calloc(1, sizeof(*q));
	struct error why;

	if (q == NULL) {
		error_set(e, EXIT_BUG, "out of memory");
		return (NULL);
	}
	q->options = *options;
	outbound_init(&q->out, SEND_MAX);
	if (url_parse(&q->url, options->url, e))
		goto fail;
	url_describe(&q->url, q->described);
	if (q->url.connection_timeout_ms >= 0)
		q->options.timeout = CLOCK_MS(q->url.connection_timeout_ms);
	if (connect_transport(q, &why) || log_in(q, &why)) {
		error_set(e, why.code, "%s: %s", q->described, why.text);
		e->amqp_code = why.amqp_code;
		memcpy(e->remedy, why.remedy, sizeof(e->remedy));
		goto fail;
	}
	explicit_bzero(q->url.password, sizeof(q->url.password));
	return (q);
fail:
	q->lost = true;
	enquiry_close(q);
	return (NULL);
}

void
enquiry_close(struct enquiry * q)
{
	struct error e;

	if (q == NULL)
		return;
	if (!q->lost && !q->blocked && session_close(&q->session, "goodbye") == 0)
		(void)talk(q, SESSION_CLOSED, GOODBYE, &e);
	transport_close(q->transport, q->lost || q->blocked);
	tls_context_free(q->tls);
	session_end(&q->session);
	outbound_free(&q->out);
	codec_free(&q->codec);
	explicit_bzero(&q->url, sizeof(q->url));
	free(q);
}

const char *
enquiry_url(const struct enquiry * q)
{
	return (q->described);
}

const char *
enquiry_vhost(const struct enquiry * q)
{
	return (q->url.vhost);
}

const char *
enquiry_user(const struct enquiry * q)
{
	return (q->url.user);
}

void
enquiry_expiry(const struct enquiry * q, int64_t * peer, int64_t * own)
{
	*peer = *own = 0;
	if (transport_tls(q->transport) != NULL)
		tls_expiry(transport_tls(q->transport), peer, own);
}

/* ---- questions ---- */

static enum enquiry_answer
lose(struct enquiry * q, const struct error * why, struct error * e)
{
	q->lost = true;
	q->why = *why;
	*e = *why;
	return (ENQUIRY_LOST);
}

/* What was asked is in the outbound. */
static enum enquiry_answer
await(struct enquiry * q, amqp_method_number_t method, struct error * e)
{
	struct error why;

	q->awaited = method;
	q->closed = false;
	if (talk(q, SESSION_UP, q->options.timeout, &why))
		return (lose(q, &why, e));
	q->awaited = NOTHING;
	if (q->blocked) {
		*e = q->why;
		return (ENQUIRY_BLOCKED);
	}
	if (!q->closed)
		return (ENQUIRY_YES);
	*e = q->why;
	if (session_reopen(&q->session) || talk(q, SESSION_UP, q->options.timeout, &why))
		return (lose(q, &why, e));
	switch (e->amqp_code) {
	case AMQP_NOT_FOUND:
		return (ENQUIRY_MISSING);
	case AMQP_PRECONDITION_FAILED:
		return (ENQUIRY_DIFFERS);
	default:
		return (ENQUIRY_REFUSED);
	}
}

enum enquiry_answer
enquiry_ask(struct enquiry * q, amqp_method_number_t id, void * method, amqp_method_number_t answer,
    struct error * e)
{
	if (q->lost || q->blocked) {
		*e = q->why;
		return (q->lost ? ENQUIRY_LOST : ENQUIRY_BLOCKED);
	}
	if (codec_method(&q->out, CHANNEL, id, method)) {
		error_set(e, EXIT_CONFIGURATION, "names and arguments are longer than 4096 bytes");
		return (ENQUIRY_REFUSED);
	}
	return (await(q, answer, e));
}

enum enquiry_answer
enquiry_exchange(struct enquiry * q, const char * name, struct error * e)
{
	amqp_exchange_declare_t declare = {.exchange = rabbitmq_text(name),
	    .type = rabbitmq_text("direct"),
	    .passive = 1};

	return (enquiry_ask(q, AMQP_EXCHANGE_DECLARE_METHOD, &declare,
	    AMQP_EXCHANGE_DECLARE_OK_METHOD, e));
}

enum enquiry_answer
enquiry_queue(struct enquiry * q, const char * name, struct error * e)
{
	amqp_queue_declare_t declare = {.queue = rabbitmq_text(name), .passive = 1};

	return (enquiry_ask(q, AMQP_QUEUE_DECLARE_METHOD, &declare, AMQP_QUEUE_DECLARE_OK_METHOD,
	    e));
}

enum enquiry_answer
enquiry_publish(struct enquiry * q, const char * exchange, const char * routing_key,
    struct error * e)
{
	struct message message = {.exchange = bytes_from(exchange),
	    .routing_key = bytes_from(routing_key),
	    .body = bytes_from(""),
	    .expiration_ms = -1,
	    .priority = -1};
	amqp_tx_rollback_t rollback = {0};

	if (!q->lost && !q->blocked &&
	    codec_publish(&q->codec, &q->out, CHANNEL, &message, e) != LINK_TAKEN)
		return (ENQUIRY_REFUSED);
	return (enquiry_ask(q, AMQP_TX_ROLLBACK_METHOD, &rollback, AMQP_TX_ROLLBACK_OK_METHOD, e));
}
