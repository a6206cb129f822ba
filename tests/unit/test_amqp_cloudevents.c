#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "amqp/cloudevents.h"

#define SOURCE "/shop/orders"

static amqp_table_entry_t entries[16];
static amqp_table_t table;
static char time_text[CLOUDEVENTS_TIME_MAX];

static int
set_up(void ** state)
{
	(void)state;
	memset(entries, 0, sizeof(entries));
	memset(time_text, 0, sizeof(time_text));
	table = (amqp_table_t){.num_entries = 0, .entries = entries};
	return (0);
}

static void
header(const char * key, const char * value)
{
	entries[table.num_entries++] = (amqp_table_entry_t){.key = amqp_cstring_bytes(key),
	    .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes(value)}};
}

static struct message
a_message(void)
{
	return ((struct message){.exchange = bytes_from("ms.order"),
	    .routing_key = bytes_from("order.eu.created"),
	    .ordering_key = BYTES_NONE,
	    .type = BYTES_NONE,
	    .content_type = bytes_from("application/json"),
	    .timestamp_s = 1700000000});
}

static void
add(const struct message * m)
{
	cloudevents_add(&table, m, amqp_cstring_bytes("the-id"), SOURCE, time_text);
}

/* Its text; NULL if there is none, or more than one. */
static const char *
attribute(const char * name)
{
	static char text[256];
	int found = 0;

	for (int i = 0; i < table.num_entries; i++) {
		amqp_bytes_t value = entries[i].value.value.bytes;

		if (entries[i].key.len != strlen(name) ||
		    memcmp(entries[i].key.bytes, name, strlen(name)) != 0)
			continue;
		assert_int_equal(entries[i].value.kind, AMQP_FIELD_KIND_UTF8);
		assert_in_range(value.len, 0, sizeof(text) - 1);
		memcpy(text, value.bytes, value.len);
		text[value.len] = '\0';
		found++;
	}
	return (found == 1 ? text : NULL);
}

static void
every_attribute_has_its_source(void ** state)
{
	struct message m = a_message();

	(void)state;
	m.type = bytes_from("order.created");
	m.ordering_key = bytes_from("customer-7");
	header("traceparent", "00-1");
	add(&m);
	assert_int_equal(table.num_entries, 1 + CLOUDEVENTS_ENTRIES);
	assert_string_equal(attribute("traceparent"), "00-1");
	assert_string_equal(attribute("cloudEvents_specversion"), "1.0");
	assert_string_equal(attribute("cloudEvents_id"), "the-id");
	assert_string_equal(attribute("cloudEvents_source"), SOURCE);
	assert_string_equal(attribute("cloudEvents_type"), "order.created");
	assert_string_equal(attribute("cloudEvents_time"), "2023-11-14T22:13:20Z");
	assert_string_equal(attribute("cloudEvents_partitionkey"), "customer-7");
}

static void
without_a_type_the_routing_key_is_it_then_the_exchange(void ** state)
{
	struct message m = a_message();

	(void)state;
	add(&m);
	assert_string_equal(attribute("cloudEvents_type"), "order.eu.created");
	assert_null(attribute("cloudEvents_partitionkey"));
	set_up(NULL);
	m.type = bytes_from("");
	m.routing_key = bytes_from("");
	add(&m);
	assert_string_equal(attribute("cloudEvents_type"), "ms.order");
	/* Nothing to be its type: no event. */
	set_up(NULL);
	m.exchange = bytes_from("");
	add(&m);
	assert_int_equal(table.num_entries, 0);
	header("cloudEvents:type", "its own");
	add(&m);
	assert_string_equal(attribute("cloudEvents_id"), "the-id");
}

static void
what_the_row_says_itself_stays(void ** state)
{
	struct message m = a_message();

	(void)state;
	m.ordering_key = bytes_from("key");
	header("cloudEvents_source", "/returns");
	header("cloudEvents:type", "order.returned");
	header("cloudEvents_partitionkey", "other");
	header("cloudEvents.id", "no attribute");
	entries[table.num_entries++] = (amqp_table_entry_t){
	    .key = amqp_cstring_bytes("cloudEvents_time"),
	    .value = {.kind = AMQP_FIELD_KIND_I64, .value.i64 = 5}};
	add(&m);
	assert_int_equal(table.num_entries, 7);
	assert_string_equal(attribute("cloudEvents_source"), "/returns");
	assert_string_equal(attribute("cloudEvents:type"), "order.returned");
	assert_null(attribute("cloudEvents_type"));
	assert_string_equal(attribute("cloudEvents_partitionkey"), "other");
	assert_string_equal(attribute("cloudEvents_id"), "the-id");
	assert_string_equal(attribute("cloudEvents_specversion"), "1.0");
}

static void
a_replayed_copy_is_the_same_event(void ** state)
{
	struct message m = a_message();

	(void)state;
	m.exchange = bytes_from("");
	m.routing_key = bytes_from("queue");
	header("x-replayed-created-at", "2022-01-02T03:04:05.678901Z");
	header("x-replayed-exchange", "ms.order");
	header("x-replayed-routing-key", "order.us.created");
	add(&m);
	assert_string_equal(attribute("cloudEvents_type"), "order.us.created");
	assert_string_equal(attribute("cloudEvents_time"), "2022-01-02T03:04:05Z");
	set_up(NULL);
	header("x-replayed-routing-key", "");
	header("x-replayed-exchange", "ms.fanout");
	header("x-replayed-created-at", "soon");
	add(&m);
	assert_string_equal(attribute("cloudEvents_type"), "ms.fanout");
	assert_string_equal(attribute("cloudEvents_time"), "2023-11-14T22:13:20Z");
}

static void
an_event_in_structured_mode_is_left_alone(void ** state)
{
	struct message m = a_message();

	(void)state;
	m.content_type = bytes_from("Application/CloudEvents+json; charset=utf-8");
	add(&m);
	assert_int_equal(table.num_entries, 0);
	m.content_type = BYTES_NONE;
	add(&m);
	assert_int_equal(table.num_entries, CLOUDEVENTS_ENTRIES - 1);
}

static void
years_have_four_digits(void ** state)
{
	struct message m = a_message();

	(void)state;
	m.timestamp_s = INT64_C(253402300799);
	add(&m);
	assert_string_equal(attribute("cloudEvents_time"), "9999-12-31T23:59:59Z");
	set_up(NULL);
	m.timestamp_s = 0;
	add(&m);
	assert_string_equal(attribute("cloudEvents_time"), "1970-01-01T00:00:00Z");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(every_attribute_has_its_source, set_up),
	    cmocka_unit_test_setup(without_a_type_the_routing_key_is_it_then_the_exchange, set_up),
	    cmocka_unit_test_setup(what_the_row_says_itself_stays, set_up),
	    cmocka_unit_test_setup(a_replayed_copy_is_the_same_event, set_up),
	    cmocka_unit_test_setup(an_event_in_structured_mode_is_left_alone, set_up),
	    cmocka_unit_test_setup(years_have_four_digits, set_up),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
