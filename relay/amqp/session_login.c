#include "amqp/session_login.h"

#include <stdio.h>
#include <string.h>

#include "amqp/url.h"
#include "base/version.h"

/*
 * From connection.start to connection.open: who we are, what we can do, and how
 * large frames may be.
 *
 * What must stay true: the password stands on the stack while it is sent, and
 * nowhere else; the decoder is told the size of frames only after the first one
 * was read.
 */
#define FRAME_MAX_WANTED 131072
#define TEXT_SHOWN 400 /* bytes of a list that the broker gives */

int
session_no_room(struct error * e)
{
	return (error_set(e, EXIT_BUG, "no room for a control frame"));
}

static amqp_table_entry_t
entry_text(const char * key, const char * text)
{
	return ((amqp_table_entry_t){.key = rabbitmq_text(key),
	    .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = rabbitmq_text(text)}});
}

static amqp_table_entry_t
entry_true(const char * key)
{
	return ((amqp_table_entry_t){.key = rabbitmq_text(key),
	    .value = {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = 1}});
}

/* Whether the space-separated list has the word. */
static bool
offers(amqp_bytes_t list, const char * word)
{
	const char *p = list.bytes, *end = p + list.len, *next;
	size_t len = strlen(word);

	for (; p < end; p = next + 1) {
		if ((next = memchr(p, ' ', (size_t)(end - p))) == NULL)
			next = end;
		if ((size_t)(next - p) == len && memcmp(p, word, len) == 0)
			return (true);
	}
	return (false);
}

int
session_on_start(struct session * s, const amqp_connection_start_t * start, struct error * e)
{
	const char * mechanism = s->options.external ? "EXTERNAL" : "PLAIN";
	amqp_table_entry_t capabilities[] = {
	    entry_true("connection.blocked"),
	    entry_true("publisher_confirms"),
	    entry_true("basic.nack"),
	    entry_true("consumer_cancel_notify"),
	    entry_true("authentication_failure_close"),
	};
	amqp_table_entry_t properties[] = {
	    entry_text("product", "outbox-relay"),
	    entry_text("version", VERSION),
	    entry_text("platform", "C"),
	    entry_text("connection_name", s->options.connection_name),
	    {.key = rabbitmq_text("capabilities"),
		.value = {.kind = AMQP_FIELD_KIND_TABLE,
		    .value.table = {.num_entries = sizeof(capabilities) / sizeof(capabilities[0]),
			.entries = capabilities}}},
	};
	amqp_connection_start_ok_t ok = {
	    .client_properties = {.num_entries = sizeof(properties) / sizeof(properties[0]),
		.entries = properties},
	    .mechanism = rabbitmq_text(mechanism),
	    .response = rabbitmq_text(""),
	    .locale = rabbitmq_text("en_US")};
	char response[URL_PART_MAX + URL_PASSWORD_MAX + 3];
	int rc;

	if (start->version_major != 0 || start->version_minor != 9)
		return (error_set(e, EXIT_UNREACHABLE, "the broker speaks AMQP %d-%d, not 0-9-1",
		    start->version_major, start->version_minor));
	if (!offers(start->mechanisms, mechanism)) {
		error_set(e, EXIT_CONFIGURATION,
		    "the broker does not offer authentication by %s "
		    "but: %.*s",
		    mechanism,
		    (int)(start->mechanisms.len < TEXT_SHOWN ? start->mechanisms.len : TEXT_SHOWN),
		    (const char *)start->mechanisms.bytes);
		return (error_remedy(e,
		    s->options.external ?
			"connect by amqps://, enable the plugin rabbitmq_auth_mechanism_ssl and "
			"list EXTERNAL in auth_mechanisms, or set rabbitmq.auth: plain" :
			"list PLAIN in the broker's auth_mechanisms, or set rabbitmq.auth: external"));
	}
	if (!s->options.external) {
		/* RFC 4616: authorization identity, user, password. */
		ok.response = (amqp_bytes_t){.bytes = response,
		    .len = (size_t)snprintf(response, sizeof(response), "%c%s%c%s", 0,
			s->options.user, 0, s->options.password)};
		if (ok.response.len >= sizeof(response))
			return (error_set(e, EXIT_CONFIGURATION,
			    "the password is longer than %d bytes", URL_PASSWORD_MAX));
	}
	rc = codec_method(s->out, 0, AMQP_CONNECTION_START_OK_METHOD, &ok);
	explicit_bzero(response, sizeof(response));
	if (rc)
		return (session_no_room(e));
	s->phase = SESSION_TUNE;
	return (0);
}

int
session_on_tune(struct session * s, const amqp_connection_tune_t * tune, struct error * e)
{
	amqp_connection_tune_ok_t ok = {0};
	amqp_connection_open_t open = {.virtual_host = rabbitmq_text(s->options.vhost)};
	uint32_t heartbeat_s = s->options.heartbeat_s;

	/* 0 in a tune means: no limit, or no heartbeat wished for. */
	if (tune->channel_max != 0 && tune->channel_max < s->channel_count)
		s->channel_count = tune->channel_max;
	ok.channel_max = s->channel_count;
	ok.frame_max = FRAME_MAX_WANTED;
	if (tune->frame_max != 0 && tune->frame_max < ok.frame_max)
		ok.frame_max = tune->frame_max;
	if (ok.frame_max < SESSION_FRAME_LEAST)
		return (error_set(e, EXIT_UNREACHABLE,
		    "the broker asks for a frame_max of %u, less "
		    "than AMQP allows",
		    (unsigned int)tune->frame_max));
	if (heartbeat_s != 0 && tune->heartbeat != 0 && tune->heartbeat < heartbeat_s)
		heartbeat_s = tune->heartbeat;
	ok.heartbeat = (uint16_t)(heartbeat_s > UINT16_MAX ? UINT16_MAX : heartbeat_s);
	/* Not earlier: it aborts the process before a first frame was read. */
	if (amqp_tune_connection(s->decoder, 0, (int)ok.frame_max, 0) != AMQP_STATUS_OK)
		return (error_set(e, EXIT_BUG, "out of memory"));
	if (codec_method(s->out, 0, AMQP_CONNECTION_TUNE_OK_METHOD, &ok) ||
	    codec_method(s->out, 0, AMQP_CONNECTION_OPEN_METHOD, &open))
		return (session_no_room(e));
	s->codec->frame_max = ok.frame_max;
	s->heartbeat_s = ok.heartbeat;
	s->phase = SESSION_OPEN;
	return (0);
}
