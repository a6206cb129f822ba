#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../lib/inbox_claims.h"
#include "../../lib/inbox_delivery.h"
#include "../../lib/inbox_error.h"
#include "../../lib/inbox_retry.h"

static void
test_attempts_wait_twice_as_long_each_time(void ** state)
{
	static const int64_t waits[] = {1000, 2000, 4000, 8000, 10000, 10000};

	(void)state;
	for (int i = 0; i < 6; i++)
		assert_int_equal(inbox_backoff_ms(1000, 10000, i + 1), waits[i]);
	assert_int_equal(inbox_backoff_ms(INT64_C(1) << 40, INT64_C(1) << 40, 1000000),
	    INT64_C(1) << 40);
	assert_int_equal(inbox_backoff_ms(500, 100, 1), 100);
}

static void
test_a_connection_that_lasted_is_tried_again_soon(void ** state)
{
	struct inbox_retry retry = {0};
	int64_t now_ms = 5000;

	(void)state;
	inbox_retry_lost(&retry, now_ms, 0);
	assert_int_equal(retry.at_ms, now_ms + INBOX_RETRY_MIN_MS);
	for (int i = 0; i < 20; i++)
		inbox_retry_lost(&retry, now_ms, (unsigned int)i * 7919);
	assert_int_equal(retry.wait_ms, INBOX_RETRY_MAX_MS);
	assert_in_range(retry.at_ms - now_ms, INBOX_RETRY_MAX_MS * 3 / 4, INBOX_RETRY_MAX_MS);
	/* Not if it is lost right away, though. */
	retry.opened_ms = now_ms;
	inbox_retry_lost(&retry, now_ms + 10, 0);
	assert_int_equal(retry.wait_ms, INBOX_RETRY_MAX_MS);
	retry.opened_ms = now_ms;
	inbox_retry_lost(&retry, now_ms + INBOX_RETRY_MAX_MS + 1, 0);
	assert_int_equal(retry.wait_ms, INBOX_RETRY_MIN_MS);
}

static void
test_an_error_is_one_line_of_whole_characters(void ** state)
{
	struct inbox_error e;
	char text[2 * INBOX_ERROR_TEXT_SIZE];

	(void)state;
	/* 0xc3 0xa9, so that the cut falls into a character. */
	for (size_t i = 0; i + 1 < sizeof(text); i++)
		text[i] = i < 100 ? 'a' : (i % 2 == 0 ? '\xc3' : '\xa9');
	text[sizeof(text) - 1] = '\0';
	text[50] = '\n';
	assert_int_equal(inbox_error_set(&e, INBOX_FAILED, "%s", text), INBOX_FAILED);
	assert_int_equal(strlen(e.text), 100);
	assert_int_equal(e.text[50], ' ');
	assert_int_equal(inbox_error_set(NULL, INBOX_INVALID, "x"), INBOX_INVALID);
}

static void
test_a_schema_is_quoted(void ** state)
{
	char quoted[INBOX_QUOTED_MAX + 1], longest[INBOX_SCHEMA_MAX + 2];
	struct inbox_error e;

	(void)state;
	assert_int_equal(inbox_quote_schema(quoted, NULL, &e), INBOX_OK);
	assert_string_equal(quoted, "\"inbox\"");
	assert_int_equal(inbox_quote_schema(quoted, "a\"; DROP", &e), INBOX_OK);
	assert_string_equal(quoted, "\"a\"\"; DROP\"");
	memset(longest, '"', sizeof(longest));
	longest[INBOX_SCHEMA_MAX] = '\0';
	assert_int_equal(inbox_quote_schema(quoted, longest, &e), INBOX_OK);
	assert_int_equal(strlen(quoted), INBOX_QUOTED_MAX);
	longest[INBOX_SCHEMA_MAX] = 'a';
	longest[INBOX_SCHEMA_MAX + 1] = '\0';
	assert_int_equal(inbox_quote_schema(quoted, longest, &e), INBOX_INVALID);
	assert_int_equal(inbox_quote_schema(quoted, "", &e), INBOX_INVALID);
}

static void
test_an_array_is_what_postgres_reads(void ** state)
{
	static const unsigned char expected[] = {0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 25, 0, 0, 0, 2, 0,
	    0, 0, 1, 0, 0, 0, 2, 'a', 'b', 0, 0, 0, 0};
	const char * texts[] = {"ab", ""};
	struct inbox_array array;

	(void)state;
	assert_true(inbox_array_make(&array, texts, 2));
	assert_int_equal(array.len, sizeof(expected));
	assert_memory_equal(array.data, expected, sizeof(expected));
	free(array.data);
}

static amqp_table_entry_t
header(const char * key, uint8_t kind)
{
	amqp_table_entry_t e;

	memset(&e, 0, sizeof(e));
	e.key = amqp_cstring_bytes(key);
	e.value.kind = kind;
	return (e);
}

static amqp_bytes_t
owned(const char * text, size_t len)
{
	amqp_bytes_t bytes = {len, (void *)(uintptr_t)text};

	return (amqp_bytes_malloc_dup(bytes));
}

/* An envelope such as rabbitmq-c gives: what it owns is freed by amqp_destroy_envelope(). */
static amqp_envelope_t
envelope(void)
{
	amqp_envelope_t e;

	memset(&e, 0, sizeof(e));
	init_amqp_pool(&e.message.pool, 4096);
	e.exchange = owned("shop", 4);
	e.routing_key = owned("order.created", 13);
	e.consumer_tag = owned("c", 1);
	e.message.body = owned("body", 4);
	return (e);
}

static void
test_a_delivery_becomes_a_message(void ** state)
{
	amqp_table_entry_t headers[] = {header("x-ordering-key", AMQP_FIELD_KIND_UTF8),
	    header("tenant", AMQP_FIELD_KIND_I64), header("yes", AMQP_FIELD_KIND_BOOLEAN),
	    header("list", AMQP_FIELD_KIND_ARRAY), header("half", AMQP_FIELD_KIND_F64)};
	amqp_envelope_t e = envelope();
	amqp_basic_properties_t * p = &e.message.properties;
	struct inbox_delivery * d;
	char text[16];

	(void)state;
	headers[0].value.value.bytes = amqp_cstring_bytes("customer-7");
	headers[1].value.value.i64 = INT64_MIN;
	headers[2].value.value.boolean = 1;
	headers[4].value.value.f64 = 0.5;
	p->headers = (amqp_table_t){.num_entries = 5, .entries = headers};
	p->message_id = amqp_cstring_bytes("m1");
	p->type = amqp_cstring_bytes("t");
	p->timestamp = 1700000000;
	p->_flags = AMQP_BASIC_HEADERS_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG | AMQP_BASIC_TYPE_FLAG |
	    AMQP_BASIC_TIMESTAMP_FLAG;
	e.redelivered = 1;
	assert_non_null(d = inbox_delivery_make(&e));
	assert_string_equal(d->message.message_id, "m1");
	assert_string_equal(d->message.type, "t");
	assert_string_equal(d->message.exchange, "shop");
	assert_string_equal(d->message.routing_key, "order.created");
	assert_string_equal(d->message.ordering_key, "customer-7");
	assert_memory_equal(d->message.body, "body", 4);
	assert_int_equal(d->message.body_len, 4);
	assert_int_equal(d->message.timestamp_s, 1700000000);
	assert_null(d->message.app_id);
	assert_null(d->message.reply_to);
	assert_true(d->message.redelivered && d->alone);
	assert_false(inbox_message_header(&d->message, "tenant", text, sizeof(text)));
	headers[1].value.value.i64 = -12;
	assert_true(inbox_message_header(&d->message, "tenant", text, sizeof(text)));
	assert_string_equal(text, "-12");
	assert_true(inbox_message_header(&d->message, "yes", text, sizeof(text)));
	assert_string_equal(text, "true");
	assert_true(inbox_message_header(&d->message, "half", text, sizeof(text)));
	assert_string_equal(text, "0.5");
	assert_true(inbox_message_header(&d->message, "x-ordering-key", text, 11));
	assert_string_equal(text, "customer-7");
	assert_false(inbox_message_header(&d->message, "x-ordering-key", text, 10));
	assert_false(inbox_message_header(&d->message, "list", text, sizeof(text)));
	assert_false(inbox_message_header(&d->message, "tenan", text, sizeof(text)));
	inbox_delivery_free(d);
}

static void
test_an_id_that_is_empty_or_cut_is_none(void ** state)
{
	static const amqp_bytes_t ids[] = {{0, (void *)""}, {3, (void *)"a\0b"}};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		amqp_envelope_t e = envelope();
		struct inbox_delivery * d;

		if (i < 2) {
			e.message.properties.message_id = ids[i];
			e.message.properties._flags = AMQP_BASIC_MESSAGE_ID_FLAG;
		}
		assert_non_null(d = inbox_delivery_make(&e));
		assert_null(d->message.message_id);
		assert_false(d->alone);
		inbox_delivery_free(d);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_attempts_wait_twice_as_long_each_time),
	    cmocka_unit_test(test_a_connection_that_lasted_is_tried_again_soon),
	    cmocka_unit_test(test_an_error_is_one_line_of_whole_characters),
	    cmocka_unit_test(test_a_schema_is_quoted),
	    cmocka_unit_test(test_an_array_is_what_postgres_reads),
	    cmocka_unit_test(test_a_delivery_becomes_a_message),
	    cmocka_unit_test(test_an_id_that_is_empty_or_cut_is_none),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
