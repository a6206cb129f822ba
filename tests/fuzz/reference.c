#include "fuzz.h"

#include <string.h>

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

void
reference_compare(const struct reference * r, const amqp_table_entry_t * own, size_t own_count,
    const amqp_table_t * table)
{
	const char * key;
	json_t * child;
	int at = 0;
	size_t i;

	CHECK((size_t)table->num_entries >= own_count);
	for (i = 0; i < own_count; i++, at++) {
		const amqp_table_entry_t * entry = &table->entries[at];

		CHECK(entry->key.len == own[i].key.len);
		CHECK(memcmp(entry->key.bytes, own[i].key.bytes, entry->key.len) == 0);
		CHECK(entry->value.kind == own[i].value.kind);
		if (entry->value.kind == AMQP_FIELD_KIND_I64)
			CHECK(entry->value.value.i64 == own[i].value.value.i64);
		else {
			CHECK(entry->value.value.bytes.len == own[i].value.value.bytes.len);
			CHECK(memcmp(entry->value.value.bytes.bytes, own[i].value.value.bytes.bytes,
				  entry->value.value.bytes.len) == 0);
		}
	}
	json_object_foreach(r->object, key, child)
	{
		if (!is_own(key, own, own_count)) {
			CHECK(at < table->num_entries);
			compare_entry(&table->entries[at++], key, child);
		}
	}
	CHECK(at == table->num_entries);
}

bool
reference_utf8(struct bytes text)
{
	json_t * string = json_stringn(text.data == NULL ? "" : text.data, text.len);

	json_decref(string);
	return (string != NULL);
}
