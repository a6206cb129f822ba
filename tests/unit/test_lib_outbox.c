#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../lib/outbox_check.h"
#include "../../lib/outbox_text.h"

static void
test_utf8_is_what_rfc_3629_says(void ** state)
{
	static const struct {
		const char * text;
		size_t valid;
	} cases[] = {
	    {"", 0}, {"plain", 5}, {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9},
	    {"\xf4\x8f\xbf\xbf", 4}, /* the largest */
	    {"a\xff", 1},            /* never occurs */
	    {"a\xc0\x80", 1},        /* overlong */
	    {"\xe0\x9f\xbf", 0},     /* overlong */
	    {"\xf0\x8f\xbf\xbf", 0}, /* overlong */
	    {"ab\xed\xa0\x80", 2},   /* a surrogate */
	    {"\xf4\x90\x80\x80", 0}, /* above U+10FFFF */
	    {"\xe2\x82", 0},         /* cut off */
	    {"\xe2\x28\xa1", 0},     /* no continuation */
	    {"\x80", 0},             /* nothing to continue */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(outbox_utf8_invalid(cases[i].text, strlen(cases[i].text)),
		    cases[i].valid);
}

static void
test_json_is_what_jsonb_takes(void ** state)
{
	static const char * const good[] = {"{}", " [1, -0.5e+3 ,\"a\\u00e9\\n\", true,null ]\n",
	    "0", "\"\\ud83d\\ude00\"", "{\"a\":{\"b\":[]}}", "1e131071", "12345678901234567890123",
	    "1e-16383", "\"\xc3\xa9\"", "false"};
	static const struct {
		const char * text;
		const char * reason;
	} bad[] = {
	    {"", "no JSON value at byte 0"},
	    {"{", "no key in quotation marks at byte 1"},
	    {"{\"a\"}", "no colon after a key at byte 4"},
	    {"{\"a\":1,}", "no key in quotation marks at byte 7"},
	    {"[1 2]", "no comma or closing bracket at byte 3"},
	    {"{\"a\":1 \"b\"", "no comma or closing brace at byte 7"},
	    {"{} x", "something after the JSON value at byte 3"},
	    {"\"a", "unterminated string at byte 2"},
	    {"\"a\nb\"", "unescaped control character at byte 2"},
	    {"\"\\x\"", "unknown escape sequence at byte 2"},
	    {"\"\\", "unknown escape sequence at byte 2"},
	    {"\"\\u12g4\"", "\\u without four hexadecimal digits at byte 2"},
	    {"\"\\u0000\"", "\\u0000, which Postgres cannot store, at byte 2"},
	    {"\"\\ud83d\"", "half of a surrogate pair at byte 7"},
	    {"\"\\ude00\"", "second half of a surrogate pair at byte 2"},
	    {"01", "something after the JSON value at byte 1"},
	    {"1.", "number without digits after its point at byte 2"},
	    {"1e", "number without digits in its exponent at byte 2"},
	    {"-", "no JSON value at byte 1"},
	    {"nul", "no JSON value at byte 0"},
	    {"1e131072", "number that Postgres cannot hold at byte 8"},
	    {"1e-16384", "number that Postgres cannot hold at byte 8"},
	    {"1e99999999999999999999", "number that Postgres cannot hold at byte 22"},
	};
	char reason[128];

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		if (!outbox_json_check(good[i], reason, sizeof(reason)))
			fail_msg("%s: %s", good[i], reason);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_false(outbox_json_check(bad[i].text, reason, sizeof(reason)));
		assert_string_equal(reason, bad[i].reason);
	}
}

/* ${depth} arrays within each other, in an object. */
static char *
nested(char * text, int depth)
{
	strcpy(text, "{\"a\":");
	memset(text + 5, '[', (size_t)depth);
	memset(text + 5 + depth, ']', (size_t)depth);
	strcpy(text + 5 + 2 * depth, "}");
	return (text);
}

static void
test_nesting_has_a_bound(void ** state)
{
	char text[2048], reason[128];

	(void)state;
	assert_true(outbox_headers_check(nested(text, OUTBOX_HEADERS_DEPTH_MAX - 1), reason,
	    sizeof(reason)));
	assert_false(outbox_headers_check(nested(text, OUTBOX_HEADERS_DEPTH_MAX), reason,
	    sizeof(reason)));
	assert_non_null(strstr(reason, "nested too deep"));
	assert_true(outbox_json_check(nested(text, OUTBOX_JSON_DEPTH_MAX - 1), reason,
	    sizeof(reason)));
	assert_false(outbox_json_check(nested(text, OUTBOX_JSON_DEPTH_MAX), reason,
	    sizeof(reason)));
}

static void
test_headers_are_what_a_table_can_carry(void ** state)
{
	static const char * const good[] = {"{}", "{\"n\": 9223372036854775807}",
	    "{\"n\": -9223372036854775808}", "{\"n\": 922337203685477580.7e1}",
	    "{\"n\": 0.0000001e25}", "{\"n\": 1e-400}", "{\"n\": 0e99}",
	    "{\"in\": {\"x-outbox-id\": 1}}", "{\"x-outbox-ids\": 1}"};
	static const char * const bad[] = {"[]", "1", "null", "\"x\"", "",
	    "{\"n\": 9223372036854775808}", "{\"n\": -9223372036854775809}",
	    "{\"n\": 9223372036854775807.1}", "{\"n\": 1e19}", "{\"n\": 0.0000001e27}",
	    "{\"x-outbox-id\": 1}", "{\"x-ordering-key\": \"a\"}", "{\"x-outbox\\u002did\": 1}"};
	char text[600], reason[128];

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		if (!outbox_headers_check(good[i], reason, sizeof(reason)))
			fail_msg("%s: %s", good[i], reason);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(outbox_headers_check(bad[i], reason, sizeof(reason)));
	snprintf(text, sizeof(text), "{\"%0255d\": 1}", 0);
	assert_true(outbox_headers_check(text, reason, sizeof(reason)));
	snprintf(text, sizeof(text), "{\"%0256d\": 1}", 0);
	assert_false(outbox_headers_check(text, reason, sizeof(reason)));
	/* The bytes that the escape stands for count. */
	snprintf(text, sizeof(text), "{\"%0253d\\u20ac\": 1}", 0);
	assert_false(outbox_headers_check(text, reason, sizeof(reason)));
}

static struct outbox_message
plain(void)
{
	return ((struct outbox_message){.routing_key = "k", .payload_text = "x"});
}

static void
refuses(struct outbox_message m, const char * field, const char * text)
{
	struct outbox_error e = {0};

	assert_int_equal(outbox_check_message(&m, &e), OUTBOX_INVALID);
	assert_int_equal(e.code, OUTBOX_INVALID);
	assert_string_equal(e.field, field);
	if (strstr(e.text, text) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", e.text, text);
}

static void
test_an_error_names_the_field_and_the_reason(void ** state)
{
	struct outbox_message m;
	char long_text[2000];

	(void)state;
	memset(long_text, 'a', sizeof(long_text));
	long_text[256] = '\0';
	m = plain(), m.routing_key = NULL;
	refuses(m, "routing_key", "required");
#define TOO_LONG(member) \
	m = plain(), m.member = long_text; \
	refuses(m, #member, #member " is longer than 255 bytes")
	TOO_LONG(exchange);
	TOO_LONG(routing_key);
	TOO_LONG(type);
	TOO_LONG(app_id);
	TOO_LONG(content_type);
	TOO_LONG(content_encoding);
	TOO_LONG(correlation_id);
	TOO_LONG(reply_to);
	long_text[256] = 'a';
	long_text[1025] = '\0';
	m = plain(), m.ordering_key = long_text;
	refuses(m, "ordering_key", "longer than 1024 bytes");
#define NO_UTF8(member) \
	m = plain(), m.payload_text = NULL, m.payload = "", m.member = "ab\xff"; \
	m.payload = m.payload_text || m.payload_json ? NULL : m.payload; \
	refuses(m, #member, #member " is not valid UTF-8 at byte 2")
	NO_UTF8(exchange);
	NO_UTF8(routing_key);
	NO_UTF8(ordering_key);
	NO_UTF8(payload_text);
	NO_UTF8(payload_json);
	NO_UTF8(headers);
	NO_UTF8(type);
	NO_UTF8(correlation_id);
	m = plain(), m.headers = "[1]";
	refuses(m, "headers", "no JSON object at byte 0");
	m = plain(), m.payload_text = NULL, m.payload_json = "{";
	refuses(m, "payload_json", "not valid JSON");
	m = plain(), m.payload_text = NULL;
	refuses(m, "payload", "none of payload");
	m = plain(), m.payload_json = "1";
	refuses(m, "payload", "more than one");
	m = plain(), m.payload_len = 1;
	refuses(m, "payload", "payload is NULL");
	m = plain(), m.payload_text = NULL, m.payload = "x", m.payload_len = 1UL << 40;
	refuses(m, "payload", "longer than 536870912 bytes");
	m = plain(), m.priority = 256;
	refuses(m, "priority", "256");
	m = plain(), m.priority = -1;
	refuses(m, "priority", "-1");
	m = plain(), m.expiration_ms = -2;
	refuses(m, "expiration_ms", "-2");
	m = plain(), m.expiration_ms = 4294967296;
	refuses(m, "expiration_ms", "4294967296");
	m = plain(), m.deliver_at_us = -1;
	refuses(m, "deliver_at_us", "-1");
	m = plain(), m.message_id = "01a1fc97-27c8-7a6e-9ab3-37137f6b813";
	refuses(m, "message_id", "no UUID");
	m = plain(), m.message_id = "01a1fc97-27c8-7a6e-9ab3-37137f6b813ef";
	refuses(m, "message_id", "no UUID");
	m = plain(), m.message_id = "";
	refuses(m, "message_id", "no UUID");
}

static void
test_what_just_fits_is_taken(void ** state)
{
	struct outbox_error e = {0};
	struct outbox_message m;
	char name[256], key[1025];

	(void)state;
	memset(name, 'a', 255);
	name[255] = '\0';
	memset(key, 'a', 1024);
	key[1024] = '\0';
	m = (struct outbox_message){.exchange = name,
	    .routing_key = name,
	    .payload = "",
	    .ordering_key = key,
	    .headers = "{\"a\": 1}",
	    .type = name,
	    .app_id = name,
	    .content_type = name,
	    .content_encoding = name,
	    .correlation_id = name,
	    .reply_to = name,
	    .message_id = "01A1fc97-27c8-7a6e-9ab3-37137f6b813e",
	    .expiration_ms = OUTBOX_EXPIRATION_MAX_MS,
	    .deliver_at_us = OUTBOX_DELIVER_AT_MAX_US,
	    .priority = 255,
	    .transient = true};
	assert_int_equal(outbox_check_message(&m, &e), OUTBOX_OK);
	m = (struct outbox_message){.routing_key = "",
	    .payload_text = "",
	    .expiration_ms = OUTBOX_EXPIRES_AT_ONCE};
	assert_int_equal(outbox_check_message(&m, &e), OUTBOX_OK);
}

static void
test_an_error_is_one_line(void ** state)
{
	struct outbox_error e = {0};
	char text[2 * OUTBOX_ERROR_TEXT_SIZE];

	(void)state;
	memset(text, '\n', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(outbox_error_set(&e, OUTBOX_REFUSED, NULL, "%s", text), OUTBOX_REFUSED);
	assert_int_equal(strlen(e.text), OUTBOX_ERROR_TEXT_SIZE - 1);
	assert_null(strchr(e.text, '\n'));
	assert_string_equal(e.field, "");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_utf8_is_what_rfc_3629_says),
	    cmocka_unit_test(test_json_is_what_jsonb_takes),
	    cmocka_unit_test(test_nesting_has_a_bound),
	    cmocka_unit_test(test_headers_are_what_a_table_can_carry),
	    cmocka_unit_test(test_an_error_names_the_field_and_the_reason),
	    cmocka_unit_test(test_what_just_fits_is_taken),
	    cmocka_unit_test(test_an_error_is_one_line),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
