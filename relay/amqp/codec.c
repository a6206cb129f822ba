#include "amqp/codec.h"

#include <endian.h>
#include <string.h>

/*
 * A frame (AMQP 0-9-1, 4.2.3): type, channel, size, payload, end octet.  A
 * message is a method frame, a header frame and as many body frames as
 * frame_max asks for.
 *
 * What must stay true: a message is appended wholly or not at all (a broker
 * closes the connection over half of one, with everybody else's messages),
 * so all room is reserved first and nothing is committed before the end.
 */
#define FRAME_HEADER 7
#define FRAME_END 1
#define FRAME_OVERHEAD (FRAME_HEADER + FRAME_END)
#define END_OCTET 0xCE
#define SHORT_STRING_MAX 255
/* basic.publish: method id, reserved, two short strings, flags. */
#define PUBLISH_MAX (FRAME_OVERHEAD + 4 + 2 + 2 * (1 + SHORT_STRING_MAX) + 1)
/* Payload of a header frame before the properties: class, weight, body size. */
#define CONTENT_HEADER 12
#define METHOD_MAX 4096

/* The end of the year 9999. */
#define TIMESTAMP_MAX INT64_C(253402300799)

static void
put16(char * p, uint16_t value)
{
	value = htobe16(value);
	memcpy(p, &value, sizeof(value));
}

static void
put32(char * p, uint32_t value)
{
	value = htobe32(value);
	memcpy(p, &value, sizeof(value));
}

static void
put64(char * p, uint64_t value)
{
	value = htobe64(value);
	memcpy(p, &value, sizeof(value));
}

/* Returns where the payload begins. */
static char *
frame_begin(char * p, uint8_t type, uint16_t channel, size_t size)
{
	p[0] = (char)type;
	put16(p + 1, channel);
	put32(p + 3, (uint32_t)size);
	return (p + FRAME_HEADER);
}

/* A frame whose payload of ${size} bytes is written; returns behind it. */
static char *
frame_finish(char * frame, uint8_t type, uint16_t channel, size_t size)
{
	char * payload = frame_begin(frame, type, channel, size);

	payload[size] = (char)END_OCTET;
	return (payload + size + FRAME_END);
}

int
codec_method(struct outbound * out, uint16_t channel, amqp_method_number_t id, void * method)
{
	char * frame = outbound_reserve(out, METHOD_MAX, 0);
	int size;

	if (frame == NULL)
		return (-1);
	size = amqp_encode_method(id, method,
	    (amqp_bytes_t){.len = METHOD_MAX - FRAME_OVERHEAD - 4,
		.bytes = frame + FRAME_HEADER + 4});
	if (size < 0)
		return (-1);
	put32(frame + FRAME_HEADER, id);
	outbound_added(out,
	    (size_t)(frame_finish(frame, AMQP_FRAME_METHOD, channel, (size_t)size + 4) - frame));
	return (0);
}

int
codec_heartbeat(struct outbound * out)
{
	char * frame = outbound_reserve(out, FRAME_OVERHEAD, 0);

	if (frame == NULL)
		return (-1);
	outbound_added(out, (size_t)(frame_finish(frame, AMQP_FRAME_HEARTBEAT, 0, 0) - frame));
	return (0);
}

int
codec_protocol_header(struct outbound * out)
{
	char * p = outbound_reserve(out, 8, 0);

	if (p == NULL)
		return (-1);
	memcpy(p, "AMQP\0\0\11\1", 8);
	outbound_added(out, 8);
	return (0);
}

/*
 * Whether ${text} is UTF-8 (RFC 3629).  Postgres sees to it, except in a
 * database of encoding SQL_ASCII; a broker closes the connection over it.
 */
static bool
valid_utf8(struct bytes text)
{
	const unsigned char * p = (const unsigned char *)text.data;
	const unsigned char * end = p + text.len;
	uint64_t eight;

	while (p < end) {
		unsigned char c = *p;
		int more, i;

		if (end - p >= 8) {
			memcpy(&eight, p, 8);
			if ((eight & 0x8080808080808080u) == 0) {
				p += 8;
				continue;
			}
		}
		if (c < 0x80) {
			p++;
			continue;
		}
		more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
		if (c < 0xc2 || c > 0xf4 || end - p <= more)
			return (false);
		for (i = 1; i <= more; i++)
			if ((p[i] & 0xc0) != 0x80)
				return (false);
		/* Overlong forms, surrogates, and above U+10FFFF. */
		if ((c == 0xe0 && p[1] < 0xa0) || (c == 0xed && p[1] > 0x9f) ||
		    (c == 0xf0 && p[1] < 0x90) || (c == 0xf4 && p[1] > 0x8f))
			return (false);
		p += more + 1;
	}
	return (true);
}

static int
short_string(amqp_bytes_t * out, struct bytes text, const char * field, struct error * e)
{
	if (text.len > SHORT_STRING_MAX)
		return (error_set(e, EXIT_FOUND, "%s: %zu bytes, AMQP allows %d", field, text.len,
		    SHORT_STRING_MAX));
	if (!valid_utf8(text))
		return (error_set(e, EXIT_FOUND, "%s: not valid UTF-8", field));
	*out = rabbitmq_bytes(text);
	return (0);
}

/* A short string that is sent only if present. */
static int
property(amqp_basic_properties_t * p, amqp_flags_t flag, amqp_bytes_t * out, struct bytes text,
    const char * field, struct error * e)
{
	if (!bytes_present(text))
		return (0);
	p->_flags |= flag;
	return (short_string(out, text, field, e));
}

/* Write ${value} >= 0 in decimal before ${end}; returns the first digit. */
static char *
decimal(char * end, int64_t value)
{
	do {
		*--end = (char)('0' + value % 10);
		value /= 10;
	} while (value > 0);
	return (end);
}

static void
uuid_text(char out[36], const uint8_t uuid[16])
{
	static const char digits[] = "0123456789abcdef";
	int i;

	for (i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*out++ = '-';
		*out++ = digits[uuid[i] >> 4];
		*out++ = digits[uuid[i] & 15];
	}
}

/* What properties point to beside the message itself. */
struct scratch {
	char uuid[36];
	char expiration[20];
	char time[CLOUDEVENTS_TIME_MAX];
	amqp_table_entry_t own[HEADERS_OWN];
};

/* The CHECKs of the table refuse these; its owner may have dropped them. */
static int
check_numbers(const struct message * m, struct error * e)
{
	if (m->timestamp_s < 0 || m->timestamp_s > TIMESTAMP_MAX)
		return (error_set(e, EXIT_FOUND, "created_at: not between 1970 and 9999"));
	if (m->priority != -1 && (m->priority < 0 || m->priority > UINT8_MAX))
		return (error_set(e, EXIT_FOUND, "priority: not between 0 and 255"));
	if (m->expiration_ms != -1 && (m->expiration_ms < 0 || m->expiration_ms > UINT32_MAX))
		return (error_set(e, EXIT_FOUND,
		    "expiration: not between 0 and 4294967295 milliseconds"));
	return (0);
}

static int
message_properties(struct codec * codec, const struct message * m, amqp_basic_properties_t * p,
    struct scratch * scratch, struct error * e)
{
	size_t own = 1;

	if (check_numbers(m, e))
		return (-1);
	p->_flags = AMQP_BASIC_HEADERS_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG |
	    AMQP_BASIC_MESSAGE_ID_FLAG | AMQP_BASIC_TIMESTAMP_FLAG;
	p->delivery_mode = m->persistent ? 2 : 1;
	p->timestamp = (uint64_t)m->timestamp_s;
	uuid_text(scratch->uuid, m->message_id);
	p->message_id = (amqp_bytes_t){.len = 36, .bytes = scratch->uuid};
	if (m->priority >= 0) {
		p->_flags |= AMQP_BASIC_PRIORITY_FLAG;
		p->priority = (uint8_t)m->priority;
	}
	if (m->expiration_ms >= 0) {
		char * end = scratch->expiration + sizeof(scratch->expiration);
		char * text = decimal(end, m->expiration_ms);

		p->_flags |= AMQP_BASIC_EXPIRATION_FLAG;
		p->expiration = (amqp_bytes_t){.len = (size_t)(end - text), .bytes = text};
	}
	if (property(p, AMQP_BASIC_CONTENT_TYPE_FLAG, &p->content_type, m->content_type,
		"content_type", e) ||
	    property(p, AMQP_BASIC_CONTENT_ENCODING_FLAG, &p->content_encoding, m->content_encoding,
		"content_encoding", e) ||
	    property(p, AMQP_BASIC_CORRELATION_ID_FLAG, &p->correlation_id, m->correlation_id,
		"correlation_id", e) ||
	    property(p, AMQP_BASIC_REPLY_TO_FLAG, &p->reply_to, m->reply_to, "reply_to", e) ||
	    property(p, AMQP_BASIC_TYPE_FLAG, &p->type, m->type, "type", e) ||
	    property(p, AMQP_BASIC_APP_ID_FLAG, &p->app_id, m->app_id, "app_id", e))
		return (-1);

	scratch->own[0] = (amqp_table_entry_t){.key = {.len = 11, .bytes = "x-outbox-id"},
	    .value = {.kind = AMQP_FIELD_KIND_I64, .value.i64 = m->id}};
	if (bytes_present(m->ordering_key))
		scratch->own[own++] = (amqp_table_entry_t){
		    .key = {.len = 14, .bytes = "x-ordering-key"},
		    .value = {.kind = AMQP_FIELD_KIND_UTF8,
			.value.bytes = rabbitmq_bytes(m->ordering_key)}};
	if (headers_parse(&codec->headers, m->headers, scratch->own, own, &p->headers, e))
		return (-1);
	if (codec->cloudevents != NULL)
		cloudevents_add(&p->headers, m, p->message_id, codec->cloudevents, scratch->time);
	return (0);
}

void
codec_init(struct codec * codec, bool mandatory, const char * cloudevents)
{
	*codec = (struct codec){.mandatory = mandatory,
	    .cloudevents = cloudevents,
	    .headers.spare = cloudevents == NULL ? 0 : CLOUDEVENTS_ENTRIES};
}

enum link_publish_result
codec_publish(struct codec * codec, struct outbound * out, uint16_t channel,
    const struct message * m, struct error * e)
{
	amqp_basic_publish_t publish = {.mandatory = codec->mandatory};
	amqp_basic_properties_t properties;
	struct scratch scratch;
	size_t payload_max = codec->frame_max - FRAME_OVERHEAD;
	size_t properties_max = payload_max - CONTENT_HEADER;
	bool copied = m->body.len <= CODEC_COPY_MAX && m->body.len <= payload_max;
	size_t frames = copied ? 1 : (m->body.len + payload_max - 1) / payload_max;
	char *start, *p, *payload;
	size_t offset, len;
	int size;

	if (short_string(&publish.exchange, m->exchange, "exchange", e) ||
	    short_string(&publish.routing_key, m->routing_key, "routing_key", e) ||
	    message_properties(codec, m, &properties, &scratch, e))
		/* L: for want of memory no message is given up. */
		return (e->code == EXIT_BUG ? LINK_FULL : LINK_UNFIT);

	start = outbound_reserve(out,
	    PUBLISH_MAX + codec->frame_max + frames * FRAME_OVERHEAD + (copied ? m->body.len : 0),
	    copied ? 0 : frames);
	if (start == NULL)
		return (LINK_FULL);

	size = amqp_encode_method(AMQP_BASIC_PUBLISH_METHOD, &publish,
	    (amqp_bytes_t){.len = PUBLISH_MAX - FRAME_OVERHEAD - 4,
		.bytes = start + FRAME_HEADER + 4});
	if (size < 0) {
		error_set(e, EXIT_BUG, "basic.publish: %s", amqp_error_string2(size));
		return (LINK_UNFIT);
	}
	put32(start + FRAME_HEADER, AMQP_BASIC_PUBLISH_METHOD);
	p = frame_finish(start, AMQP_FRAME_METHOD, channel, (size_t)size + 4);

	payload = p + FRAME_HEADER;
	size = amqp_encode_properties(AMQP_BASIC_CLASS, &properties,
	    (amqp_bytes_t){.len = properties_max, .bytes = payload + CONTENT_HEADER});
	if (size < 0) {
		error_set(e, EXIT_FOUND,
		    "%s: with all properties more than the %zu bytes of one "
		    "frame",
		    m->ordering_key.len > m->headers.len ? "ordering_key" : "headers",
		    properties_max);
		return (LINK_UNFIT);
	}
	put16(payload, AMQP_BASIC_CLASS);
	put16(payload + 2, 0);
	put64(payload + 4, m->body.len);
	p = frame_finish(p, AMQP_FRAME_HEADER, channel, (size_t)size + CONTENT_HEADER);

	if (copied) {
		if (m->body.len > 0) {
			memcpy(p + FRAME_HEADER, m->body.data, m->body.len);
			p = frame_finish(p, AMQP_FRAME_BODY, channel, m->body.len);
		}
		outbound_added(out, (size_t)(p - start));
		return (LINK_TAKEN);
	}
	for (offset = 0; offset < m->body.len; offset += len) {
		len = m->body.len - offset < payload_max ? m->body.len - offset : payload_max;
		p = frame_begin(p, AMQP_FRAME_BODY, channel, len);
		outbound_added(out, (size_t)(p - start));
		outbound_refer(out, (struct bytes){m->body.data + offset, len}, m->batch);
		start = p;
		*p++ = (char)END_OCTET;
	}
	outbound_added(out, (size_t)(p - start));
	return (LINK_TAKEN);
}

int
codec_returned_id(const amqp_basic_properties_t * properties, int64_t * id)
{
	int i;

	if ((properties->_flags & AMQP_BASIC_HEADERS_FLAG) == 0)
		return (-1);
	for (i = 0; i < properties->headers.num_entries; i++) {
		const amqp_table_entry_t * entry = &properties->headers.entries[i];

		if (entry->key.len == 11 && memcmp(entry->key.bytes, "x-outbox-id", 11) == 0 &&
		    entry->value.kind == AMQP_FIELD_KIND_I64) {
			*id = entry->value.value.i64;
			return (0);
		}
	}
	return (-1);
}

void
codec_free(struct codec * codec)
{
	headers_free(&codec->headers);
}
