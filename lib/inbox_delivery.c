#include "inbox_delivery.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Texts of AMQP carry their length; handlers get C strings, all in one block.
 */
struct block {
	char * next;
	size_t size; /* needed so far; nothing is written while next is NULL */
};

static const char *
copy(struct block * block, amqp_bytes_t bytes)
{
	char * text = block->next;

	block->size += bytes.len + 1;
	if (text == NULL)
		return (NULL);
	if (bytes.len > 0)
		memcpy(text, bytes.bytes, bytes.len);
	text[bytes.len] = '\0';
	block->next += bytes.len + 1;
	return (text);
}

static const amqp_field_value_t *
find_header(const amqp_basic_properties_t * p, const char * name)
{
	size_t len = strlen(name);

	if (!(p->_flags & AMQP_BASIC_HEADERS_FLAG))
		return (NULL);
	for (int i = 0; i < p->headers.num_entries; i++) {
		const amqp_table_entry_t * entry = &p->headers.entries[i];

		if (entry->key.len == len && memcmp(entry->key.bytes, name, len) == 0)
			return (&entry->value);
	}
	return (NULL);
}

/* Once to count, once to write. */
static void
fill(struct inbox_message * m, const amqp_envelope_t * e, struct block * block)
{
	const amqp_basic_properties_t * p = &e->message.properties;
	const amqp_field_value_t * key = find_header(p, "x-ordering-key");

#define TEXT(flag, member) \
	if (p->_flags & (flag)) \
	m->member = copy(block, p->member)
	m->exchange = copy(block, e->exchange);
	m->routing_key = copy(block, e->routing_key);
	TEXT(AMQP_BASIC_MESSAGE_ID_FLAG, message_id);
	TEXT(AMQP_BASIC_TYPE_FLAG, type);
	TEXT(AMQP_BASIC_APP_ID_FLAG, app_id);
	TEXT(AMQP_BASIC_CONTENT_TYPE_FLAG, content_type);
	TEXT(AMQP_BASIC_CONTENT_ENCODING_FLAG, content_encoding);
	TEXT(AMQP_BASIC_CORRELATION_ID_FLAG, correlation_id);
	TEXT(AMQP_BASIC_REPLY_TO_FLAG, reply_to);
	if (key != NULL && key->kind == AMQP_FIELD_KIND_UTF8)
		m->ordering_key = copy(block, key->value.bytes);
}

/* An id with a zero byte in it would be claimed by its beginning: it counts as none. */
static bool
id_is_whole(const amqp_basic_properties_t * p)
{
	return ((p->_flags & AMQP_BASIC_MESSAGE_ID_FLAG) && p->message_id.len > 0 &&
	    memchr(p->message_id.bytes, '\0', p->message_id.len) == NULL);
}

struct inbox_delivery *
inbox_delivery_make(const amqp_envelope_t * envelope)
{
	struct inbox_delivery * d = calloc(1, sizeof(*d));
	const amqp_basic_properties_t * p;
	struct block block = {NULL, 0};
	struct inbox_message * m;

	if (d == NULL)
		return (NULL);
	fill(&d->message, envelope, &block);
	if ((d->text = block.next = malloc(block.size)) == NULL) {
		free(d);
		return (NULL);
	}
	d->envelope = *envelope;
	p = &d->envelope.message.properties;
	m = &d->message;
	fill(m, &d->envelope, &block);
	if (!id_is_whole(p))
		m->message_id = NULL;
	m->body = d->envelope.message.body.bytes;
	m->body_len = d->envelope.message.body.len;
	if (p->_flags & AMQP_BASIC_TIMESTAMP_FLAG)
		m->timestamp_s = (int64_t)p->timestamp;
	if (p->_flags & AMQP_BASIC_PRIORITY_FLAG)
		m->priority = p->priority;
	m->redelivered = d->envelope.redelivered != 0;
	m->headers = p;
	d->alone = m->redelivered;
	return (d);
}

void
inbox_delivery_free(struct inbox_delivery * d)
{
	if (d == NULL)
		return;
	amqp_destroy_envelope(&d->envelope);
	free(d->text);
	free(d);
}

bool
inbox_message_header(const struct inbox_message * message, const char * name, char * text,
    size_t size)
{
	const amqp_field_value_t * v = find_header(message->headers, name);
	int n = -1;

	if (v == NULL)
		return (false);
	switch (v->kind) {
	case AMQP_FIELD_KIND_UTF8:
	case AMQP_FIELD_KIND_BYTES:
		if (v->value.bytes.len >= size)
			return (false);
		if (v->value.bytes.len > 0)
			memcpy(text, v->value.bytes.bytes, v->value.bytes.len);
		text[v->value.bytes.len] = '\0';
		return (true);
	case AMQP_FIELD_KIND_BOOLEAN:
		n = snprintf(text, size, "%s", v->value.boolean ? "true" : "false");
		break;
	case AMQP_FIELD_KIND_I8:
		n = snprintf(text, size, "%d", v->value.i8);
		break;
	case AMQP_FIELD_KIND_U8:
		n = snprintf(text, size, "%u", v->value.u8);
		break;
	case AMQP_FIELD_KIND_I16:
		n = snprintf(text, size, "%d", v->value.i16);
		break;
	case AMQP_FIELD_KIND_U16:
		n = snprintf(text, size, "%u", v->value.u16);
		break;
	case AMQP_FIELD_KIND_I32:
		n = snprintf(text, size, "%" PRId32, v->value.i32);
		break;
	case AMQP_FIELD_KIND_U32:
		n = snprintf(text, size, "%" PRIu32, v->value.u32);
		break;
	case AMQP_FIELD_KIND_I64:
		n = snprintf(text, size, "%" PRId64, v->value.i64);
		break;
	case AMQP_FIELD_KIND_U64:
	case AMQP_FIELD_KIND_TIMESTAMP:
		n = snprintf(text, size, "%" PRIu64, v->value.u64);
		break;
	case AMQP_FIELD_KIND_F32:
		n = snprintf(text, size, "%.9g", (double)v->value.f32);
		break;
	case AMQP_FIELD_KIND_F64:
		n = snprintf(text, size, "%.17g", v->value.f64);
		break;
	default:
		break;
	}
	return (n >= 0 && (size_t)n < size);
}
