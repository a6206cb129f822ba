#include "amqp/cloudevents.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>
#include <time.h>

/*
 * What must stay true: an event keeps its identity.  A message that is sent
 * again, after a failure or by replay, bears the same attributes as before; so
 * a copy that replay made takes its time and its routing key from the headers
 * in which replay kept them.
 *
 * "_" is the separator that the binding prefers, since JMS cannot select by
 * names with ":"; readers must know both.
 */
#define PREFIX "cloudEvents_"
#define SEPARATOR_AT 11

static bool
has_attribute(const amqp_table_t * table, amqp_bytes_t key)
{
	for (int i = 0; i < table->num_entries; i++) {
		amqp_bytes_t other = table->entries[i].key;
		const char * text = other.bytes;

		if (other.len == key.len && memcmp(text, key.bytes, SEPARATOR_AT) == 0 &&
		    (text[SEPARATOR_AT] == '_' || text[SEPARATOR_AT] == ':') &&
		    memcmp(text + SEPARATOR_AT + 1, (const char *)key.bytes + SEPARATOR_AT + 1,
			key.len - SEPARATOR_AT - 1) == 0)
			return (true);
	}
	return (false);
}

/* A header that is text, or nothing. */
static amqp_bytes_t
text_header(const amqp_table_t * table, const char * name)
{
	size_t len = strlen(name);

	for (int i = 0; i < table->num_entries; i++) {
		const amqp_table_entry_t * entry = &table->entries[i];

		if (entry->key.len == len && memcmp(entry->key.bytes, name, len) == 0 &&
		    entry->value.kind == AMQP_FIELD_KIND_UTF8)
			return (entry->value.value.bytes);
	}
	return ((amqp_bytes_t){.len = 0, .bytes = NULL});
}

static void
add(amqp_table_t * table, const char * name, amqp_bytes_t value)
{
	amqp_bytes_t key = amqp_cstring_bytes(name);

	if (value.len == 0 || has_attribute(table, key))
		return;
	table->entries[table->num_entries++] = (amqp_table_entry_t){.key = key,
	    .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = value}};
}

static amqp_bytes_t
type_of(const amqp_table_t * table, const struct message * m)
{
	amqp_bytes_t key = text_header(table, "x-replayed-routing-key");

	if (bytes_present(m->type) && m->type.len > 0)
		return (rabbitmq_bytes(m->type));
	if (key.bytes != NULL)
		return (key.len > 0 ? key : text_header(table, "x-replayed-exchange"));
	return (rabbitmq_bytes(m->routing_key.len > 0 ? m->routing_key : m->exchange));
}

static amqp_bytes_t
time_of(const amqp_table_t * table, const struct message * m, char text[CLOUDEVENTS_TIME_MAX])
{
	amqp_bytes_t written = text_header(table, "x-replayed-created-at");
	time_t seconds = (time_t)m->timestamp_s;
	struct tm t;
	size_t len;

	if (written.len > CLOUDEVENTS_TIME_MAX - 2) {
		/* As it was the first time: no fractions of seconds. */
		len = CLOUDEVENTS_TIME_MAX - 2;
		memcpy(text, written.bytes, len);
		text[len++] = 'Z';
	} else
		len = gmtime_r(&seconds, &t) == NULL ?
		    0 :
		    strftime(text, CLOUDEVENTS_TIME_MAX, "%Y-%m-%dT%H:%M:%SZ", &t);
	return ((amqp_bytes_t){.len = len, .bytes = text});
}

/* RFC 2045: the media type counts, whatever its case. */
static bool
is_structured(struct bytes content_type)
{
	static const char prefix[] = "application/cloudevents";

	return (bytes_present(content_type) && content_type.len >= sizeof(prefix) - 1 &&
	    strncasecmp(content_type.data, prefix, sizeof(prefix) - 1) == 0);
}

void
cloudevents_add(amqp_table_t * table, const struct message * m, amqp_bytes_t id,
    const char * source, char time[CLOUDEVENTS_TIME_MAX])
{
	amqp_bytes_t type = type_of(table, m);

	if (is_structured(m->content_type) ||
	    (type.len == 0 && !has_attribute(table, amqp_cstring_bytes(PREFIX "type"))))
		return;
	add(table, PREFIX "specversion", amqp_cstring_bytes("1.0"));
	add(table, PREFIX "id", id);
	add(table, PREFIX "source", amqp_cstring_bytes(source));
	add(table, PREFIX "type", type);
	add(table, PREFIX "time", time_of(table, m, time));
	if (bytes_present(m->ordering_key))
		add(table, PREFIX "partitionkey", rabbitmq_bytes(m->ordering_key));
}
