#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "http/answer.h"
#include "http/page.h"
#include "http/recent.h"

static struct answer_facts facts;
static struct buffer out;
static struct answer answer;

static int
set_up(void ** state)
{
	(void)state;
	memset(&facts, 0, sizeof(facts));
	out = (struct buffer){.max = ANSWER_MAX};
	facts.stats.state = STATS_LEADING;
	facts.stats.backlog.oldest_pending_s = -1;
	return (0);
}

static int
tear_down(void ** state)
{
	(void)state;
	buffer_free(&out);
	return (0);
}

static const char *
get(const char * path)
{
	static char text[ANSWER_MAX + 1];

	answer_make(&answer, "GET", path, &facts, &out);
	memcpy(text, answer.body.data, answer.body.len);
	text[answer.body.len] = '\0';
	return (text);
}

/* The body as JSON, valid as jansson sees it. */
static json_t *
get_json(const char * path)
{
	json_error_t error;
	json_t * root = json_loads(get(path), JSON_REJECT_DUPLICATES, &error);

	assert_string_equal(answer.content_type, "application/json");
	assert_non_null(root);
	return (root);
}

static const char *
text_at(const json_t * object, const char * key)
{
	return (json_string_value(json_object_get(object, key)));
}

static void
who_publishes_is_ready_and_who_does_not_says_why(void ** state)
{
	json_t * root;

	(void)state;
	assert_non_null(strstr(get("/readyz"), "\"ready\":true"));
	assert_int_equal(answer.status, 200);
	assert_non_null(strstr(get("/metrics"), "\noutbox_relay_ready 1\n"));
	facts.stats.reason_count = 2;
	strcpy(facts.stats.reasons[0], "one \"quoted\"");
	strcpy(facts.stats.reasons[1], "two");
	root = get_json("/readyz");
	assert_int_equal(answer.status, 503);
	assert_true(json_is_false(json_object_get(root, "ready")));
	assert_int_equal(json_array_size(json_object_get(root, "reasons")), 2);
	assert_string_equal(json_string_value(json_array_get(json_object_get(root, "reasons"), 0)),
	    "one \"quoted\"");
	json_decref(root);
	assert_non_null(strstr(get("/metrics"), "\noutbox_relay_ready 0\n"));
	/* That is no reason to be restarted. */
	get("/healthz");
	assert_int_equal(answer.status, 200);
}

static void
a_loop_that_stands_still_is_neither_healthy_nor_ready(void ** state)
{
	(void)state;
	facts.still = ANSWER_STILL_MAX;
	get("/healthz");
	assert_int_equal(answer.status, 200);
	facts.still = ANSWER_STILL_MAX + CLOCK_S(1);
	assert_non_null(strstr(get("/healthz"), "\"healthy\":false"));
	assert_int_equal(answer.status, 503);
	assert_non_null(strstr(get("/readyz"), "stood still for 21 s"));
	assert_int_equal(answer.status, 503);
	assert_non_null(strstr(get("/metrics"), "\noutbox_relay_ready 0\n"));
	assert_non_null(strstr(get("/stats"), "\"ready\":false"));
}

static void
only_get_and_head_of_known_paths(void ** state)
{
	static const char * const methods[] = {"POST", "PUT", "DELETE", "OPTIONS", "get", ""};
	static const char * const paths[] = {"", "/stats/", "//", "/../etc/passwd", "/metrics%00",
	    "/favicon.ico"};

	(void)state;
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		answer_make(&answer, methods[i], "/stats", &facts, &out);
		assert_int_equal(answer.status, 405);
		assert_true(answer.allow);
	}
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		get(paths[i]);
		assert_int_equal(answer.status, 404);
		assert_false(answer.allow);
	}
	answer_make(&answer, "HEAD", "/healthz", &facts, &out);
	assert_int_equal(answer.status, 200);
	answer_make(&answer, "GET", "/", &facts, &out);
	assert_int_equal(answer.status, 200);
	assert_true(answer.body.data == page_html);
	assert_ptr_equal(answer.policy, page_policy);
	assert_non_null(strstr(page_policy, "default-src 'none'; script-src 'sha256-"));
	assert_null(strstr(page_policy, "unsafe"));
}

/* Every text as long as it can be, of what takes most room, or is no text at all. */
static void
fill_texts(char c)
{
	struct stats * s = &facts.stats;

#define FILL(text) (memset(text, c, sizeof(text) - 1), (text)[sizeof(text) - 1] = '\0')
	for (int i = 0; i < STATS_REASONS_MAX; i++)
		FILL(s->reasons[i]);
	s->reason_count = STATS_REASONS_MAX;
	FILL(s->schema);
	FILL(s->database);
	FILL(s->host);
	FILL(s->postgres.reason);
	FILL(s->broker.reason);
	FILL(s->broker.blocked_reason);
	FILL(s->broker.url);
	for (int i = 0; i < STATS_EXCHANGES_MAX; i++)
		FILL(s->paused.exchanges[i]);
	s->paused.exchange_count = 1000000;
	for (int i = 0; i < BACKLOG_NEWEST_MAX; i++) {
		struct backlog_entry * entries[] = {&facts.newest.delayed[i],
		    &facts.newest.dead[i]};

		for (int k = 0; k < 2; k++) {
			entries[k]->id = entries[k]->at_ms = INT64_MAX;
			FILL(entries[k]->exchange);
			FILL(entries[k]->routing_key);
			FILL(entries[k]->reason);
		}
	}
	facts.newest.delayed_count = facts.newest.dead_count = BACKLOG_NEWEST_MAX;
}

static void
whatever_the_texts_hold_it_is_json_and_fits(void ** state)
{
	static const char worst[] = {'\x01', '"', '\\', '<', '\xff', '\xc3', 'x', '\n', '\x7f'};
	json_t * root;

	(void)state;
	for (size_t i = 0; i < sizeof(worst); i++) {
		fill_texts(worst[i]);
		root = get_json("/stats");
		assert_int_equal(answer.status, 200);
		assert_int_equal(json_array_size(json_object_get(root, "newest_dead")),
		    BACKLOG_NEWEST_MAX);
		json_decref(root);
		json_decref(get_json("/readyz"));
		assert_int_equal(answer.status, 503);
		get("/metrics");
		assert_int_equal(answer.status, 200);
	}
}

static void
stats_have_what_was_handed_over(void ** state)
{
	struct stats * s = &facts.stats;
	json_t *root, *part;

	(void)state;
	s->started_at_ms = INT64_C(1700000000123);
	strcpy(s->broker.url, "amqp://h:5672/%2f");
	strcpy(s->schema, "gr\xc3\xbc\xc3\x9f");
	s->confirmed = 7;
	s->confirm_p50 = -1;
	s->confirm_p99 = 0.25;
	s->backlog = (struct backlog){.pending = 5, .oldest_pending_s = 1.5};
	root = get_json("/stats");
	assert_string_equal(text_at(root, "started_at"), "2023-11-14T22:13:20.123Z");
	assert_string_equal(text_at(root, "state"), "leading");
	assert_string_equal(text_at(root, "schema"), "gr\xc3\xbc\xc3\x9f");
	assert_string_equal(text_at(json_object_get(root, "broker"), "url"), "amqp://h:5672/%2f");
	assert_true(json_is_null(json_object_get(json_object_get(root, "broker"), "reason")));
	assert_int_equal(
	    json_integer_value(json_object_get(json_object_get(root, "totals"), "confirmed")), 7);
	part = json_object_get(root, "confirm_seconds");
	assert_true(json_is_null(json_object_get(part, "p50")));
	assert_float_equal(json_number_value(json_object_get(part, "p99")), 0.25, 1e-9);
	/* Never read: the numbers beside it mean nothing. */
	part = json_object_get(root, "backlog");
	assert_true(json_is_null(json_object_get(part, "read_at")));
	assert_true(json_is_null(json_object_get(part, "oldest_pending_age_seconds")));
	assert_true(json_is_null(json_object_get(root, "tls_certificate_expires_at")));
	json_decref(root);
}

static void
what_is_not_known_is_no_metric(void ** state)
{
	(void)state;
	facts.stats.backlog = (struct backlog){.pending = 5, .oldest_pending_s = 1.5};
	assert_null(strstr(get("/metrics"), "pending"));
	assert_null(strstr(get("/metrics"), "tls_certificate"));
	facts.stats.backlog_read_at_ms = 1700000000000;
	facts.stats.broker.certificate_expires_s = 1800000000;
	assert_non_null(strstr(get("/metrics"), "\noutbox_relay_pending_messages 5\n"));
	assert_non_null(strstr(get("/metrics"), "\noutbox_relay_oldest_pending_age_seconds 1.5\n"));
	assert_non_null(strstr(get("/metrics"),
	    "\noutbox_relay_tls_certificate_expiry_timestamp_seconds 1800000000\n"));
	facts.stats.state = STATS_STANDBY;
	assert_null(strstr(get("/metrics"), "pending"));
}

static void
buckets_are_cumulative(void ** state)
{
	const char * text;

	(void)state;
	histogram_add(&facts.stats.confirm, CLOCK_US(50));
	histogram_add(&facts.stats.confirm, CLOCK_MS(2));
	histogram_add(&facts.stats.confirm, CLOCK_S(5000));
	text = get("/metrics");
	assert_non_null(strstr(text, "confirm_duration_seconds_bucket{le=\"0.0001\"} 1\n"));
	assert_non_null(strstr(text, "confirm_duration_seconds_bucket{le=\"0.001\"} 1\n"));
	assert_non_null(strstr(text, "confirm_duration_seconds_bucket{le=\"0.0025\"} 2\n"));
	assert_non_null(strstr(text, "confirm_duration_seconds_bucket{le=\"1000\"} 2\n"));
	assert_non_null(strstr(text, "confirm_duration_seconds_bucket{le=\"+Inf\"} 3\n"));
	assert_non_null(strstr(text, "confirm_duration_seconds_sum 5000.002050000\n"));
	assert_non_null(strstr(text, "confirm_duration_seconds_count 3\n"));
}

static void
rates_are_those_of_the_last_seconds(void ** state)
{
	struct recent recent = {0};
	struct stats s = {0};
	clock_ns now = CLOCK_S(100);

	(void)state;
	recent_fill(&recent, now, &s);
	assert_float_equal(s.confirmed_per_second, 0, 1e-9);
	assert_true(s.confirm_p50 < 0);
	for (int n = 0; n < 300; n++) {
		now += CLOCK_MS(100);
		s.confirmed += 50;
		histogram_add(&s.confirm, CLOCK_MS(2));
		recent_fill(&recent, now, &s);
		assert_float_equal(s.confirmed_per_second, 500, 1e-6);
	}
	assert_float_equal(s.confirm_p50, 0.00175, 1e-9);
	/* It ends: so does the rate, within the seconds it is of. */
	for (int n = 0; n < 70; n++) {
		now += CLOCK_MS(100);
		recent_fill(&recent, now, &s);
	}
	assert_float_equal(s.confirmed_per_second, 0, 1e-9);
	assert_true(s.confirm_p50 < 0 && s.confirm_p99 < 0);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(who_publishes_is_ready_and_who_does_not_says_why),
	    TEST(a_loop_that_stands_still_is_neither_healthy_nor_ready),
	    TEST(only_get_and_head_of_known_paths),
	    TEST(whatever_the_texts_hold_it_is_json_and_fits),
	    TEST(stats_have_what_was_handed_over),
	    TEST(what_is_not_known_is_no_metric),
	    TEST(buckets_are_cumulative),
	    TEST(rates_are_those_of_the_last_seconds),
	};

	return (cmocka_run_group_tests_name("answer", tests, NULL, NULL));
}
