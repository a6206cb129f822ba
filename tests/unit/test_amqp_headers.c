#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "amqp/headers.h"

static struct headers headers;
static struct error e;

static const amqp_field_value_t *
find(const amqp_table_t * table, const char * key)
{
	int i;

	for (i = 0; i < table->num_entries; i++)
		if (table->entries[i].key.len == strlen(key) &&
		    memcmp(table->entries[i].key.bytes, key, strlen(key)) == 0)
			return (&table->entries[i].value);
	fail_msg("no key %s", key);
	return (NULL);
}

static void
assert_text(const amqp_field_value_t * value, const char * text)
{
	assert_int_equal(value->kind, AMQP_FIELD_KIND_UTF8);
	assert_int_equal(value->value.bytes.len, strlen(text));
	assert_memory_equal(value->value.bytes.bytes, text, strlen(text));
}

static int
parse(const char * text, amqp_table_t * table)
{
	return (headers_parse(&headers, bytes_from(text), NULL, 0, table, &e));
}

static void
test_maps_every_type(void ** state)
{
	const amqp_field_value_t * v;
	amqp_table_t table;

	(void)state;
	assert_int_equal(
	    parse(
		"{\"s\": \"a\\\"\\u00e9\\\\\", \"i\": -7, \"max\": 9223372036854775807,"
		"\"min\": -9223372036854775808, \"r\": 1.5, \"one\": 1.0, \"t\": true, \"f\": false,"
		"\"n\": null, \"a\": [1, \"x\", [], {\"k\": []}], \"o\": {\"p\": {\"q\": \"deep\"}},"
		"\"e\": {}, \"empty\": \"\"}",
		&table),
	    0);
	assert_int_equal(table.num_entries, 13);
	assert_text(find(&table, "s"), "a\"\xc3\xa9\\");
	v = find(&table, "i");
	assert_int_equal(v->kind, 'l');
	assert_int_equal(v->value.i64, -7);
	assert_true(find(&table, "max")->value.i64 == INT64_MAX);
	assert_true(find(&table, "min")->value.i64 == INT64_MIN);
	v = find(&table, "r");
	assert_int_equal(v->kind, 'd');
	assert_true(v->value.f64 == 1.5);
	assert_int_equal(find(&table, "one")->kind, 'd');
	assert_int_equal(find(&table, "t")->kind, 't');
	assert_true(find(&table, "t")->value.boolean);
	assert_int_equal(find(&table, "f")->kind, 't');
	assert_false(find(&table, "f")->value.boolean);
	assert_int_equal(find(&table, "n")->kind, 'V');
	v = find(&table, "a");
	assert_int_equal(v->kind, 'A');
	assert_int_equal(v->value.array.num_entries, 4);
	assert_int_equal(v->value.array.entries[0].value.i64, 1);
	assert_text(&v->value.array.entries[1], "x");
	assert_int_equal(v->value.array.entries[2].value.array.num_entries, 0);
	assert_int_equal(find(&v->value.array.entries[3].value.table, "k")->kind, 'A');
	v = find(&table, "o");
	assert_int_equal(v->kind, 'F');
	assert_text(find(&find(&v->value.table, "p")->value.table, "q"), "deep");
	assert_int_equal(find(&table, "e")->value.table.num_entries, 0);
	assert_text(find(&table, "empty"), "");
}

/* The reader in place and jansson (forced by an escape) must agree. */
static void
test_reads_plain_strings_as_any_other(void ** state)
{
	static const char texts[3][128] = {
	    "{\"traceparent\": \"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\"%s}",
	    "{\"a\":\"\",\"b\" : \"x y, } : {\" , \"c\":\"[1]\"%s}",
	    "{ \"~\": \" \" %s}",
	};
	char text[512], again[512];
	amqp_table_t table;
	size_t i;
	int n;

	(void)state;
	for (i = 0; i < 3; i++) {
		struct {
			char key[16], value[64];
		} seen[4] = {0};

		(void)snprintf(text, sizeof(text), texts[i], "");
		(void)snprintf(again, sizeof(again), texts[i], ", \"last\": \"\\u0041\"");
		assert_int_equal(parse(text, &table), 0);
		assert_null(headers.root);
		for (n = 0; n < table.num_entries; n++) {
			const amqp_table_entry_t * entry = &table.entries[n];

			memcpy(seen[n].key, entry->key.bytes, entry->key.len);
			memcpy(seen[n].value, entry->value.value.bytes.bytes,
			    entry->value.value.bytes.len);
		}
		assert_int_equal(parse(again, &table), 0);
		assert_non_null(headers.root);
		assert_int_equal(table.num_entries, n + 1);
		while (n-- > 0)
			assert_text(find(&table, seen[n].key), seen[n].value);
		assert_text(find(&table, "last"), "A");
	}
}

static void
test_own_headers_replace_those_of_the_same_name(void ** state)
{
	const amqp_table_entry_t own[] = {{.key = {.len = 11, .bytes = "x-outbox-id"},
	    .value = {.kind = AMQP_FIELD_KIND_I64, .value.i64 = 42}}};
	static const char * const texts[] = {"{\"x-outbox-id\": \"9\", \"k\": \"v\"}",
	    "{\"k\": \"v\", \"x-outbox-id\": 9, \"n\": null}"};
	amqp_table_t table;
	int i;

	(void)state;
	for (i = 0; i < 2; i++) {
		assert_int_equal(headers_parse(&headers, bytes_from(texts[i]), own, 1, &table, &e),
		    0);
		assert_int_equal(table.num_entries, 2 + i);
		assert_int_equal(find(&table, "x-outbox-id")->value.i64, 42);
		assert_text(find(&table, "k"), "v");
	}
	assert_int_equal(headers_parse(&headers, BYTES_NONE, own, 1, &table, &e), 0);
	assert_int_equal(table.num_entries, 1);
}

static void
assert_refused(const char * text, const char * says)
{
	amqp_table_t table;

	if (parse(text, &table) != -1)
		fail_msg("accepted: %.80s", text);
	if (strstr(e.text, "headers") == NULL || strstr(e.text, says) == NULL)
		fail_msg("%.80s: %s", text, e.text);
}

static char *
nested(int depth, const char * open, const char * close)
{
	char * text = calloc(1, 16 + (size_t)depth * (strlen(open) + strlen(close)));
	int i;

	for (i = 0; i < depth; i++)
		strcat(text, open);
	strcat(text, "1");
	for (i = 0; i < depth; i++)
		strcat(text, close);
	return (text);
}

static void
test_refuses_what_cannot_be_represented(void ** state)
{
	char *text, key[400], *large;
	amqp_table_t table;

	(void)state;
	assert_refused("{\"i\": 9223372036854775808}", "64 bits");
	assert_refused("{\"i\": -9223372036854775809}", "64 bits");
	assert_refused("{\"r\": 1e999}", "64 bits");
	assert_refused("[1]", "not a JSON object");
	assert_refused("{\"a\": 1", "headers: ");
	assert_refused("{\"a\": \"b\"} x", "headers: ");
	assert_refused("{\"a\": \"b\",}", "headers: ");
	assert_refused("{\"a\": \"b\"", "headers: ");
	assert_refused("{\"a\": \"b", "headers: ");
	assert_refused("", "headers: ");
	assert_refused("{\"a\": \"b\", \"a\": \"c\"}", "duplicate");
	assert_refused("{\"a\": \"\xff\"}", "headers: ");
	assert_refused("{\"a\": NaN}", "headers: ");
	assert_refused("{\"a\": \"\\u0000\"}", "headers: ");

	memset(key, 'k', sizeof(key));
	memcpy(key, "{\"", 2);
	strcpy(key + 2 + 256, "\": \"v\"}");
	assert_refused(key, "256 bytes");
	strcpy(key + 2 + 255, "\": \"v\"}");
	assert_int_equal(parse(key, &table), 0);
	assert_int_equal(table.entries[0].key.len, 255);

	text = nested(33, "{\"a\":", "}");
	assert_refused(text, "nested");
	free(text);
	/* The value itself is a level. */
	text = nested(31, "{\"a\":", "}");
	assert_int_equal(parse(text, &table), 0);
	free(text);
	text = nested(100000, "[", "]");
	large = malloc(strlen(text) + 20);
	sprintf(large, "{\"a\":%s}", text);
	assert_refused(large, "headers: ");
	free(text);
	free(large);

	large = malloc(HEADERS_TEXT_MAX + 100);
	memset(large, ' ', HEADERS_TEXT_MAX + 99);
	large[HEADERS_TEXT_MAX + 99] = '\0';
	memcpy(large, "{\"a\":1}", 7);
	assert_refused(large, "at most");
	free(large);
}

static void
test_many_entries_after_few(void ** state)
{
	char *text = malloc(200000), *p = text;
	amqp_table_t table;
	int i;

	(void)state;
	*p++ = '{';
	for (i = 0; i < 5000; i++)
		p += sprintf(p, "%s\"key%d\": \"%d\"", i == 0 ? "" : ", ", i, i);
	strcpy(p, "}");
	assert_int_equal(parse(text, &table), 0);
	assert_int_equal(table.num_entries, 5000);
	assert_text(find(&table, "key4999"), "4999");
	free(text);
}

static int
free_headers(void ** state)
{
	(void)state;
	headers_free(&headers);
	return (0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_maps_every_type),
	    cmocka_unit_test(test_reads_plain_strings_as_any_other),
	    cmocka_unit_test(test_own_headers_replace_those_of_the_same_name),
	    cmocka_unit_test(test_refuses_what_cannot_be_represented),
	    cmocka_unit_test(test_many_entries_after_few),
	};

	return (cmocka_run_group_tests(tests, NULL, free_headers));
}
