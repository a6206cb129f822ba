#include "amqp/headers.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/*
 * Two walks over the parsed JSON: the first checks and counts, so that the
 * second fills arrays that will not move.  Entries of all tables lie in one
 * array and elements of all arrays in another; a table is a run of them,
 * taken before its children are filled.
 *
 * Most headers are a few plain strings (traceparent, a tenant).  jansson takes
 * 1.0 us for one of 55 characters, more than all else that is done for a
 * message, so an object of nothing but printable ASCII strings without escapes
 * is read in place.  Everything else, and everything wrong, is jansson's.
 */
#define PLAIN_MAX 16

/* For messages: enough of a key to find it. */
#define KEY_SHOWN 64

static int
check(struct headers * h, const json_t * value, int depth, struct error * e)
{
	const char * key;
	json_t * child;
	size_t i;

	if (depth > HEADERS_DEPTH_MAX)
		return (error_set(e, EXIT_FOUND, "headers: nested deeper than %d levels",
		    HEADERS_DEPTH_MAX));
	if (json_is_object(value)) {
		json_object_foreach((json_t *)(uintptr_t)value, key, child)
		{
			if (strlen(key) > 255)
				return (error_set(e, EXIT_FOUND,
				    "headers: the key \"%.*s...\" has "
				    "%zu bytes, AMQP allows 255",
				    KEY_SHOWN, key, strlen(key)));
			h->entry_count++;
			if (check(h, child, depth + 1, e))
				return (-1);
		}
	} else if (json_is_array(value)) {
		json_array_foreach(value, i, child)
		{
			h->value_count++;
			if (check(h, child, depth + 1, e))
				return (-1);
		}
	}
	return (0);
}

/* Room for what check counted. */
static int
reserve(struct headers * h)
{
	void * p;

	if (h->entry_count > h->entry_capacity) {
		if ((p = reallocarray(h->entries, h->entry_count, sizeof(h->entries[0]))) == NULL)
			return (-1);
		h->entries = p;
		h->entry_capacity = h->entry_count;
	}
	if (h->value_count > h->value_capacity) {
		if ((p = reallocarray(h->values, h->value_count, sizeof(h->values[0]))) == NULL)
			return (-1);
		h->values = p;
		h->value_capacity = h->value_count;
	}
	h->entry_count = 0;
	h->value_count = 0;
	return (0);
}

/* Whether ${entries} has ${key}. */
static bool
has_key(const amqp_table_entry_t * entries, size_t count, amqp_bytes_t key)
{
	size_t i;

	for (i = 0; i < count; i++)
		if (entries[i].key.len == key.len &&
		    memcmp(entries[i].key.bytes, key.bytes, key.len) == 0)
			return (true);
	return (false);
}

static void fill_value(struct headers * h, amqp_field_value_t * out, json_t * value);

static amqp_table_t
fill_table(struct headers * h, json_t * object, const amqp_table_entry_t * own, size_t own_count)
{
	amqp_table_t table = {.entries = h->entries + h->entry_count};
	size_t used = own_count;
	const char * key;
	json_t * child;

	/* The whole table's, not those of one within. */
	if (h->entry_count == 0)
		h->entry_count = h->spare;
	h->entry_count += own_count + json_object_size(object);
	if (own_count > 0)
		memcpy(table.entries, own, own_count * sizeof(own[0]));
	json_object_foreach(object, key, child)
	{
		amqp_bytes_t name = amqp_cstring_bytes(key);

		if (has_key(own, own_count, name))
			continue;
		table.entries[used].key = name;
		fill_value(h, &table.entries[used].value, child);
		used++;
	}
	table.num_entries = (int)used;
	return (table);
}

static void
fill_value(struct headers * h, amqp_field_value_t * out, json_t * value)
{
	json_t * child;
	size_t i;

	switch (json_typeof(value)) {
	case JSON_OBJECT:
		out->kind = AMQP_FIELD_KIND_TABLE;
		out->value.table = fill_table(h, value, NULL, 0);
		break;
	case JSON_ARRAY:
		out->kind = AMQP_FIELD_KIND_ARRAY;
		out->value.array.num_entries = (int)json_array_size(value);
		out->value.array.entries = h->values == NULL ? NULL : h->values + h->value_count;
		h->value_count += json_array_size(value);
		json_array_foreach(value, i, child)
		    fill_value(h, &out->value.array.entries[i], child);
		break;
	case JSON_STRING:
		out->kind = AMQP_FIELD_KIND_UTF8;
		out->value.bytes = (amqp_bytes_t){.len = json_string_length(value),
		    .bytes = (void *)(uintptr_t)json_string_value(value)};
		break;
	case JSON_INTEGER:
		out->kind = AMQP_FIELD_KIND_I64;
		out->value.i64 = json_integer_value(value);
		break;
	case JSON_REAL:
		out->kind = AMQP_FIELD_KIND_F64;
		out->value.f64 = json_real_value(value);
		break;
	case JSON_TRUE:
	case JSON_FALSE:
		out->kind = AMQP_FIELD_KIND_BOOLEAN;
		out->value.boolean = json_is_true(value);
		break;
	case JSON_NULL:
		out->kind = AMQP_FIELD_KIND_VOID;
		break;
	}
}

static const char *
skip_spaces(const char * p, const char * end)
{
	while (p < end && *p == ' ')
		p++;
	return (p);
}

/* Behind the plain string at ${p}, or NULL if there is none. */
static const char *
plain_string(const char * p, const char * end, amqp_bytes_t * out)
{
	const char * start;

	if (p == end || *p != '"')
		return (NULL);
	for (start = ++p; p < end && *p != '"'; p++)
		if (*p < ' ' || *p > '~' || *p == '\\')
			return (NULL);
	if (p == end)
		return (NULL);
	*out = rabbitmq_bytes((struct bytes){start, (size_t)(p - start)});
	return (p + 1);
}

/* An object of plain strings, in place.  -1: it is something else. */
static int
plain_object(struct headers * h, struct bytes text, const amqp_table_entry_t * own,
    size_t own_count, amqp_table_t * table)
{
	const char *p = text.data, *end = p + text.len;
	amqp_table_entry_t * entries = h->entries;
	size_t used = own_count;
	amqp_bytes_t key, value;

	if (p == end || *p++ != '{')
		return (-1);
	do {
		if ((p = plain_string(skip_spaces(p, end), end, &key)) == NULL || key.len > 255 ||
		    (p = skip_spaces(p, end)) == end || *p++ != ':' ||
		    (p = plain_string(skip_spaces(p, end), end, &value)) == NULL ||
		    (p = skip_spaces(p, end)) == end)
			return (-1);
		if (used == own_count + PLAIN_MAX || has_key(own, own_count, key) ||
		    has_key(entries + own_count, used - own_count, key))
			return (-1);
		entries[used++] = (amqp_table_entry_t){.key = key,
		    .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = value}};
	} while (*p++ == ',');
	if (p[-1] != '}' || p != end)
		return (-1);
	if (own_count > 0)
		memcpy(entries, own, own_count * sizeof(own[0]));
	*table = (amqp_table_t){.num_entries = (int)used, .entries = entries};
	return (0);
}

int
headers_parse(struct headers * h, struct bytes text, const amqp_table_entry_t * own,
    size_t own_count, amqp_table_t * table, struct error * e)
{
	json_error_t reason;

	assert(own_count <= HEADERS_OWN);
	json_decref(h->root);
	h->root = NULL;
	h->entry_count = own_count + PLAIN_MAX + h->spare;
	h->value_count = 0;
	if (reserve(h))
		return (error_set(e, EXIT_BUG, "out of memory"));
	if (bytes_present(text) && plain_object(h, text, own, own_count, table) == 0)
		return (0);
	h->entry_count = own_count + h->spare;

	if (bytes_present(text)) {
		if (text.len > HEADERS_TEXT_MAX)
			return (error_set(e, EXIT_FOUND,
			    "headers: %zu bytes of JSON, at most %d "
			    "can be sent",
			    text.len, HEADERS_TEXT_MAX));
		h->root = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, &reason);
		if (h->root == NULL && json_error_code(&reason) == json_error_out_of_memory)
			return (error_set(e, EXIT_BUG, "out of memory"));
		if (h->root == NULL)
			return (error_set(e, EXIT_FOUND, "headers: %s (at byte %d)%s", reason.text,
			    reason.position,
			    json_error_code(&reason) == json_error_numeric_overflow ?
				"; integers must fit 64 bits" :
				""));
		if (!json_is_object(h->root))
			return (error_set(e, EXIT_FOUND, "headers: not a JSON object"));
		if (check(h, h->root, 1, e))
			return (-1);
	}
	if (reserve(h))
		return (error_set(e, EXIT_BUG, "out of memory"));
	if (h->root != NULL)
		*table = fill_table(h, h->root, own, own_count);
	else {
		if (own_count > 0)
			memcpy(h->entries, own, own_count * sizeof(own[0]));
		*table = (amqp_table_t){.num_entries = (int)own_count, .entries = h->entries};
	}
	return (0);
}

void
headers_free(struct headers * h)
{
	json_decref(h->root);
	free(h->entries);
	free(h->values);
	*h = (struct headers){.spare = h->spare};
}
