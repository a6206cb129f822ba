#include "inbox_queue.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "inbox_error.h"

/*
 * rabbitmq-c as it wants to be used.
 *
 * What must stay true: nothing waits without a bound.  Logging in and calls
 * have timeouts of the library's; it sends without one, so the kernel ends a
 * connection that takes nothing for two heartbeats (TCP_USER_TIMEOUT).  After
 * any error the state is destroyed, never used again.  Buffers are given back
 * only between whole messages.
 */
#define CHANNEL 1
#define FRAME_MAX 131072
#define URL_MAX 2048
#define CONNECT_TIMEOUT_S 10
#define CALL_TIMEOUT_S 10
#define CLOSE_TIMEOUT_S 3

static enum inbox_code
lost(struct inbox_error * error, const char * what, const char * why)
{
	return (inbox_error_set(error, INBOX_NO_CONNECTION, "%s: %s", what, why));
}

static enum inbox_code
status_lost(struct inbox_error * error, const char * what, int status)
{
	return (lost(error, what, amqp_error_string2(status)));
}

/* What the broker said as it closed a channel, a connection or the consumer. */
static enum inbox_code
method_lost(struct inbox_error * error, const char * what, const amqp_method_t * method)
{
	if (method->id == AMQP_CHANNEL_CLOSE_METHOD) {
		const amqp_channel_close_t * close = method->decoded;

		return (inbox_error_set(error, INBOX_NO_CONNECTION, "%s: %d %.*s", what,
		    close->reply_code, (int)close->reply_text.len,
		    (const char *)close->reply_text.bytes));
	}
	if (method->id == AMQP_CONNECTION_CLOSE_METHOD) {
		const amqp_connection_close_t * close = method->decoded;

		return (inbox_error_set(error, INBOX_NO_CONNECTION, "%s: %d %.*s", what,
		    close->reply_code, (int)close->reply_text.len,
		    (const char *)close->reply_text.bytes));
	}
	if (method->id == AMQP_BASIC_CANCEL_METHOD)
		return (lost(error, what, "the queue was deleted or moved"));
	return (lost(error, what, "unexpected answer of the broker"));
}

/* INBOX_OK if the reply is a normal one. */
static enum inbox_code
check_reply(struct inbox_error * error, const char * what, amqp_rpc_reply_t reply)
{
	switch (reply.reply_type) {
	case AMQP_RESPONSE_NORMAL:
		return (INBOX_OK);
	case AMQP_RESPONSE_SERVER_EXCEPTION:
		return (method_lost(error, what, &reply.reply));
	case AMQP_RESPONSE_LIBRARY_EXCEPTION:
		return (status_lost(error, what, reply.library_error));
	case AMQP_RESPONSE_NONE:
	default:
		return (lost(error, what, "no answer"));
	}
}

/* amqp_parse_url cuts its text into pieces: ${buffer} holds them. */
static bool
parse_url(const char * url, char buffer[URL_MAX], struct amqp_connection_info * info)
{
	if (strnlen(url, URL_MAX) == URL_MAX)
		return (false);
	strcpy(buffer, url);
	amqp_default_connection_info(info);
	return (amqp_parse_url(buffer, info) == AMQP_STATUS_OK);
}

enum inbox_code
inbox_queue_check_url(const char * url, struct inbox_error * error)
{
	struct amqp_connection_info info;
	char buffer[URL_MAX];

	if (!parse_url(url, buffer, &info))
		return (inbox_error_set(error, INBOX_INVALID,
		    "one of urls cannot be read: write it as amqp://user:password@host:5672/vhost, "
		    "with special characters percent-encoded and without '?'"));
	return (INBOX_OK);
}

/* Debian and its kin, Red Hat and its kin. */
static const char *
system_authorities(void)
{
	static const char * const files[] = {"/etc/ssl/certs/ca-certificates.crt",
	    "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"};
	const char * named = getenv("SSL_CERT_FILE");

	if (named != NULL && *named != '\0')
		return (named);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		if (access(files[i], R_OK) == 0)
			return (files[i]);
	}
	return (NULL);
}

static enum inbox_code
make_socket(struct inbox_queue * q, bool tls, amqp_socket_t ** out, struct inbox_error * error)
{
	const struct inbox_consumer_options * o = q->options;
	const char * ca = o->ca_file != NULL ? o->ca_file : system_authorities();
	amqp_socket_t * socket;

	*out = socket = tls ? amqp_ssl_socket_new(q->state) : amqp_tcp_socket_new(q->state);
	if (socket == NULL)
		return (inbox_error_set(error, INBOX_NO_MEMORY, "no memory for a socket"));
	if (!tls)
		return (INBOX_OK);
	amqp_ssl_socket_set_verify_peer(socket, 1);
	amqp_ssl_socket_set_verify_hostname(socket, 1);
	if (ca == NULL)
		return (lost(error, "TLS", "no file of certificate authorities: set ca_file"));
	if (amqp_ssl_socket_set_cacert(socket, ca) != AMQP_STATUS_OK)
		return (lost(error, "TLS: cannot read the certificate authorities", ca));
	if (o->cert_file != NULL &&
	    amqp_ssl_socket_set_key(socket, o->cert_file, o->key_file) != AMQP_STATUS_OK)
		return (lost(error, "TLS: cannot read the certificate or its key", o->cert_file));
	return (INBOX_OK);
}

/* Whatever we send and the peer never takes ends the connection. */
static void
bound_sending(struct inbox_queue * q)
{
	unsigned int ms = 2000U * (unsigned int)q->options->heartbeat_s;

	setsockopt(amqp_get_sockfd(q->state), IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms));
}

static amqp_table_entry_t
entry(const char * key, uint8_t kind)
{
	amqp_table_entry_t e;

	memset(&e, 0, sizeof(e));
	e.key = amqp_cstring_bytes(key);
	e.value.kind = kind;
	return (e);
}

static enum inbox_code
login(struct inbox_queue * q, const struct amqp_connection_info * info, struct inbox_error * error)
{
	amqp_table_entry_t cancel = entry("consumer_cancel_notify", AMQP_FIELD_KIND_BOOLEAN);
	amqp_table_entry_t entries[2] = {entry("capabilities", AMQP_FIELD_KIND_TABLE),
	    entry("connection_name", AMQP_FIELD_KIND_UTF8)};
	amqp_table_t properties = {.num_entries = 2, .entries = entries};
	char name[300];

	/* So that we hear of it when the queue goes. */
	cancel.value.value.boolean = 1;
	entries[0].value.value.table = (amqp_table_t){.num_entries = 1, .entries = &cancel};
	snprintf(name, sizeof(name), "inbox %s", q->options->name);
	entries[1].value.value.bytes = amqp_cstring_bytes(name);
	return (check_reply(error, "login",
	    amqp_login_with_properties(q->state, info->vhost, 0, FRAME_MAX, q->options->heartbeat_s,
		&properties, AMQP_SASL_METHOD_PLAIN, info->user, info->password)));
}

static enum inbox_code
consume(struct inbox_queue * q, struct inbox_error * error)
{
	enum inbox_code code;

	amqp_channel_open(q->state, CHANNEL);
	if ((code = check_reply(error, "channel", amqp_get_rpc_reply(q->state))) != INBOX_OK)
		return (code);
	amqp_basic_qos(q->state, CHANNEL, 0, (uint16_t)q->options->prefetch, 0);
	if ((code = check_reply(error, "prefetch", amqp_get_rpc_reply(q->state))) != INBOX_OK)
		return (code);
	amqp_basic_consume(q->state, CHANNEL, amqp_cstring_bytes(q->options->queue),
	    amqp_empty_bytes, 0, 0, 0, amqp_empty_table);
	return (check_reply(error, "consume", amqp_get_rpc_reply(q->state)));
}

static enum inbox_code
connect_to(struct inbox_queue * q, const struct amqp_connection_info * info,
    struct inbox_error * error)
{
	struct timeval connecting = {CONNECT_TIMEOUT_S, 0}, calling = {CALL_TIMEOUT_S, 0};
	amqp_socket_t * socket;
	enum inbox_code code;
	int status;

	if ((q->state = amqp_new_connection()) == NULL)
		return (inbox_error_set(error, INBOX_NO_MEMORY, "no memory for a connection"));
	if ((code = make_socket(q, info->ssl != 0, &socket, error)) != INBOX_OK)
		return (code);
	amqp_set_handshake_timeout(q->state, &connecting);
	amqp_set_rpc_timeout(q->state, &calling);
	status = amqp_socket_open_noblock(socket, info->host, info->port, &connecting);
	if (status != AMQP_STATUS_OK)
		return (status_lost(error, "connect", status));
	bound_sending(q);
	if ((code = login(q, info, error)) != INBOX_OK)
		return (code);
	return (consume(q, error));
}

enum inbox_code
inbox_queue_open(struct inbox_queue * q, struct inbox_error * error)
{
	const char * url = q->options->urls[q->next_url];
	struct amqp_connection_info info;
	char buffer[URL_MAX], text[INBOX_ERROR_TEXT_SIZE];
	enum inbox_code code;

	if (q->options->urls[++q->next_url] == NULL)
		q->next_url = 0;
	if (!parse_url(url, buffer, &info))
		return (inbox_queue_check_url(url, error));
	code = connect_to(q, &info, error);
	if (code != INBOX_OK) {
		snprintf(text, sizeof(text), "%s", error->text);
		inbox_queue_close(q, false);
		return (inbox_error_set(error, code, "%.255s:%d: %s", info.host, info.port, text));
	}
	return (inbox_error_set(error, INBOX_OK, "%.255s:%d queue=%.255s", info.host, info.port,
	    q->options->queue));
}

/* Something else than a message is next: it is the end. */
static enum inbox_next
read_the_end(struct inbox_queue * q, struct inbox_error * error)
{
	struct timeval at_once = {0, 0};
	amqp_frame_t frame;
	int status = amqp_simple_wait_frame_noblock(q->state, &frame, &at_once);

	if (status != AMQP_STATUS_OK)
		status_lost(error, "broker", status);
	else if (frame.frame_type != AMQP_FRAME_METHOD)
		lost(error, "broker", "a frame that does not belong here");
	else
		method_lost(error, "broker", &frame.payload.method);
	return (INBOX_LOST);
}

enum inbox_next
inbox_queue_next(struct inbox_queue * q, amqp_envelope_t * envelope, struct inbox_error * error)
{
	struct timeval at_once = {0, 0};
	amqp_rpc_reply_t reply;

	amqp_maybe_release_buffers(q->state);
	reply = amqp_consume_message(q->state, envelope, &at_once, 0);
	if (reply.reply_type == AMQP_RESPONSE_NORMAL)
		return (INBOX_GOT);
	if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION) {
		if (reply.library_error == AMQP_STATUS_TIMEOUT)
			return (INBOX_NOTHING);
		if (reply.library_error == AMQP_STATUS_UNEXPECTED_STATE)
			return (read_the_end(q, error));
	}
	check_reply(error, "broker", reply);
	return (INBOX_LOST);
}

int
inbox_queue_fd(const struct inbox_queue * q)
{
	return (q->state == NULL ? -1 : amqp_get_sockfd(q->state));
}

enum inbox_code
inbox_queue_ack(struct inbox_queue * q, uint64_t tag, bool multiple, struct inbox_error * error)
{
	int status = amqp_basic_ack(q->state, CHANNEL, tag, multiple);

	return (status == AMQP_STATUS_OK ? INBOX_OK : status_lost(error, "acknowledge", status));
}

enum inbox_code
inbox_queue_reject(struct inbox_queue * q, uint64_t tag, struct inbox_error * error)
{
	int status = amqp_basic_reject(q->state, CHANNEL, tag, 0);

	return (status == AMQP_STATUS_OK ? INBOX_OK : status_lost(error, "reject", status));
}

void
inbox_queue_close(struct inbox_queue * q, bool politely)
{
	struct timeval closing = {CLOSE_TIMEOUT_S, 0};

	if (q->state == NULL)
		return;
	if (politely) {
		amqp_set_rpc_timeout(q->state, &closing);
		amqp_connection_close(q->state, AMQP_REPLY_SUCCESS);
	}
	amqp_destroy_connection(q->state);
	q->state = NULL;
}
