#include "fuzz.h"

#include <string.h>
#include <strings.h>
#include <time.h>

#include "amqp/headers.h"

/*
 * The headers as jansson reads them, without the short way that headers.c
 * takes for plain ones, compared with what rabbitmq-c reads from the wire.
 */

/* NULL, or why ${value} cannot be sent. */
static const char *
unfit(json_t * value, int depth)
{
	const char *key, *why;
	json_t * child;
	size_t i;

	if (depth > HEADERS_DEPTH_MAX)
		return ("depth");
	json_object_foreach(value, key, child)
	{
		if (strlen(key) > 255)
			return ("key");
		if ((why = unfit(child, depth + 1)) != NULL)
			return (why);
	}
	json_array_foreach(value, i, child)
	{
		if ((why = unfit(child, depth + 1)) != NULL)
			return (why);
	}
	return (NULL);
}

struct reference
reference_read(struct bytes text)
{
	struct reference r = {0};

	if (!bytes_present(text))
		return (r);
	if (text.len > HEADERS_TEXT_MAX)
		r.why = "length";
	else if ((r.object = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, NULL)) == NULL)
		r.why = "JSON";
	else if (!json_is_object(r.object))
		r.why = "kind";
	else
		r.why = unfit(r.object, 1);
	return (r);
}

/* A header that is a string; NULL: there is none. */
static const char *
text_of(const struct reference * r, const char * key)
{
	return (json_string_value(json_object_get(r->object, key)));
}

static void
attribute(struct reference * r, const char * name, const char * value, size_t len)
{
	char colon[40];
	const char * at = strchr(name, '_');

	snprintf(colon, sizeof(colon), "%.*s:%s", (int)(at - name), name, at + 1);
	if (len > 0 && json_object_get(r->object, name) == NULL &&
	    json_object_get(r->object, colon) == NULL)
		r->event[r->event_count++] = (amqp_table_entry_t){.key = amqp_cstring_bytes(name),
		    .value = {.kind = AMQP_FIELD_KIND_UTF8,
			.value.bytes = {.len = len, .bytes = (void *)(uintptr_t)value}}};
}

/* CloudEvents 1.0.2 and its AMQP binding; what replay kept of the original comes first. */
static struct bytes
event_type(const struct reference * r, const struct message * m)
{
	const char * key = text_of(r, "x-replayed-routing-key");
	const char * exchange = text_of(r, "x-replayed-exchange");

	if (m->type.len > 0)
		return (m->type);
	if (key == NULL)
		return (m->routing_key.len > 0 ? m->routing_key : m->exchange);
	if (key[0] != '\0')
		return (bytes_from(key));
	return (bytes_from(exchange == NULL ? "" : exchange));
}

void
reference_event(struct reference * r, const struct message * m, const char * source)
{
	static const char structured[] = "application/cloudevents";
	const char * written = text_of(r, "x-replayed-created-at");
	struct bytes type = event_type(r, m);
	time_t seconds = (time_t)m->timestamp_s;
	struct tm t;
	char * end = r->id;

	if (source == NULL || r->why != NULL)
		return;
	if (m->content_type.len >= strlen(structured) &&
	    strncasecmp(m->content_type.data, structured, strlen(structured)) == 0)
		return;
	if (type.len == 0 && json_object_get(r->object, "cloudEvents_type") == NULL &&
	    json_object_get(r->object, "cloudEvents:type") == NULL)
		return;
	for (int i = 0; i < 16; i++)
		end += sprintf(end, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x",
		    m->message_id[i]);
	if (written != NULL && strlen(written) > 19)
		snprintf(r->time, sizeof(r->time), "%.19sZ", written);
	else if (gmtime_r(&seconds, &t) != NULL)
		strftime(r->time, sizeof(r->time), "%FT%TZ", &t);
	attribute(r, "cloudEvents_specversion", "1.0", 3);
	attribute(r, "cloudEvents_id", r->id, strlen(r->id));
	attribute(r, "cloudEvents_source", source, strlen(source));
	attribute(r, "cloudEvents_type", type.data, type.len);
	attribute(r, "cloudEvents_time", r->time, strlen(r->time));
	attribute(r, "cloudEvents_partitionkey", m->ordering_key.data, m->ordering_key.len);
}

void
reference_free(struct reference * r)
{
	json_decref(r->object);
}

static bool
is_own(const char * key, const amqp_table_entry_t * own, size_t own_count)
{
	size_t i;

	for (i = 0; i < own_count; i++)
		if (strlen(key) == own[i].key.len &&
		    memcmp(key, own[i].key.bytes, own[i].key.len) == 0)
			return (true);
	return (false);
}

/* AMQP 0-9-1, 4.2.5: behind the byte that names its kind. */
static size_t
value_size(json_t * value)
{
	const char * key;
	json_t * child;
	size_t size = 4, i;

	switch (json_typeof(value)) {
	case JSON_OBJECT:
		json_object_foreach(value, key, child)
		    size += 1 + strlen(key) + 1 + value_size(child);
		return (size);
	case JSON_ARRAY:
		json_array_foreach(value, i, child) size += 1 + value_size(child);
		return (size);
	case JSON_STRING:
		return (4 + json_string_length(value));
	case JSON_INTEGER:
	case JSON_REAL:
		return (8);
	case JSON_TRUE:
	case JSON_FALSE:
		return (1);
	default:
		return (0);
	}
}

size_t
reference_size(const struct reference * r, const amqp_table_entry_t * own, size_t own_count)
{
	const char * key;
	json_t * child;
	size_t size = 4, i;

	for (i = 0; i < own_count; i++)
		size += 1 + own[i].key.len + 1 +
		    (own[i].value.kind == AMQP_FIELD_KIND_UTF8 ? 4 + own[i].value.value.bytes.len :
								 8);
	for (i = 0; i < r->event_count; i++)
		size += 1 + r->event[i].key.len + 1 + 4 + r->event[i].value.value.bytes.len;
	json_object_foreach(r->object, key, child)
	{
		if (!is_own(key, own, own_count))
			size += 1 + strlen(key) + 1 + value_size(child);
	}
	return (size);
}

static void compare_entry(const amqp_table_entry_t * entry, const char * key, json_t * value);

static void
compare_value(const amqp_field_value_t * decoded, json_t * value)
{
	const char * key;
	json_t * child;
	double real;
	size_t i;
	int at = 0;

	switch (json_typeof(value)) {
	case JSON_OBJECT:
		CHECK(decoded->kind == AMQP_FIELD_KIND_TABLE);
		CHECK((size_t)decoded->value.table.num_entries == json_object_size(value));
		json_object_foreach(value, key, child)
		    compare_entry(&decoded->value.table.entries[at++], key, child);
		break;
	case JSON_ARRAY:
		CHECK(decoded->kind == AMQP_FIELD_KIND_ARRAY);
		CHECK((size_t)decoded->value.array.num_entries == json_array_size(value));
		json_array_foreach(value, i, child)
		    compare_value(&decoded->value.array.entries[i], child);
		break;
	case JSON_STRING:
		CHECK(decoded->kind == AMQP_FIELD_KIND_UTF8);
		CHECK(decoded->value.bytes.len == json_string_length(value));
		CHECK(memcmp(decoded->value.bytes.bytes, json_string_value(value),
			  json_string_length(value)) == 0);
		break;
	case JSON_INTEGER:
		CHECK(decoded->kind == AMQP_FIELD_KIND_I64);
		CHECK(decoded->value.i64 == json_integer_value(value));
		break;
	case JSON_REAL:
		CHECK(decoded->kind == AMQP_FIELD_KIND_F64);
		real = json_real_value(value);
		CHECK(memcmp(&decoded->value.f64, &real, sizeof(real)) == 0);
		break;
	case JSON_TRUE:
	case JSON_FALSE:
		CHECK(decoded->kind == AMQP_FIELD_KIND_BOOLEAN);
		CHECK((decoded->value.boolean != 0) == json_is_true(value));
		break;
	case JSON_NULL:
		CHECK(decoded->kind == AMQP_FIELD_KIND_VOID);
		break;
	}
}

static void
compare_entry(const amqp_table_entry_t * entry, const char * key, json_t * value)
{
	CHECK(entry->key.len == strlen(key));
	CHECK(memcmp(entry->key.bytes, key, entry->key.len) == 0);
	compare_value(&entry->value, value);
}

/* The next entries of ${table}. */
static void
compare_entries(const amqp_table_entry_t * expected, size_t count, const amqp_table_t * table,
    int * at)
{
	CHECK((size_t)(table->num_entries - *at) >= count);
	for (size_t i = 0; i < count; i++) {
		const amqp_table_entry_t * entry = &table->entries[(*at)++];
		amqp_bytes_t text = expected[i].value.value.bytes;

		CHECK(entry->key.len == expected[i].key.len);
		CHECK(memcmp(entry->key.bytes, expected[i].key.bytes, entry->key.len) == 0);
		CHECK(entry->value.kind == expected[i].value.kind);
		if (entry->value.kind == AMQP_FIELD_KIND_I64)
			CHECK(entry->value.value.i64 == expected[i].value.value.i64);
		else {
			CHECK(entry->value.value.bytes.len == text.len);
			CHECK(memcmp(entry->value.value.bytes.bytes, text.bytes, text.len) == 0);
		}
	}
}

void
reference_compare(const struct reference * r, const amqp_table_entry_t * own, size_t own_count,
    const amqp_table_t * table)
{
	const char * key;
	json_t * child;
	int at = 0;

	compare_entries(own, own_count, table, &at);
	json_object_foreach(r->object, key, child)
	{
		if (!is_own(key, own, own_count)) {
			CHECK(at < table->num_entries);
			compare_entry(&table->entries[at++], key, child);
		}
	}
	compare_entries(r->event, r->event_count, table, &at);
	CHECK(at == table->num_entries);
}

bool
reference_utf8(struct bytes text)
{
	json_t * string = json_stringn(text.data == NULL ? "" : text.data, text.len);

	json_decref(string);
	return (string != NULL);
}
