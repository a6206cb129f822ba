#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/lanes.h"

static struct lanes lanes;

static const struct bytes whole = BYTES_NONE;

static int
clear(void ** state)
{
	(void)state;
	lanes_clear(&lanes);
	return (0);
}

static struct bytes
name(const char * text)
{
	return (bytes_from(text));
}

static void
a_lane_is_an_exchange_or_a_queue_of_it(void ** state)
{
	uint16_t exchange = lanes_open(&lanes, name("X"), whole, NULL, 5);
	uint16_t queue = lanes_open(&lanes, name("Y"), name("r"), NULL, 5);

	(void)state;
	assert_int_equal(lanes_shut(&lanes, name("X"), name("q")), exchange);
	assert_int_equal(lanes_shut(&lanes, name("Y"), name("r")), queue);
	assert_int_equal(lanes_shut(&lanes, name("Y"), name("s")), LANE_NONE);
	assert_int_equal(lanes_shut(&lanes, name("Z"), name("r")), LANE_NONE);
	assert_int_equal(lanes_open(&lanes, name("Y"), name("r"), NULL, 5), queue);
	assert_int_equal(lanes.shut, 2);
}

static void
the_default_exchange_and_an_empty_routing_key_are_names(void ** state)
{
	uint16_t lane = lanes_open(&lanes, BYTES_NONE, name(""), NULL, 5);

	(void)state;
	assert_int_equal(lanes_shut(&lanes, name(""), BYTES_NONE), lane);
	assert_int_equal(lanes_shut(&lanes, name(""), name("q")), LANE_NONE);
	assert_true(bytes_present(lanes_say(&lanes, lane).routing_key));
}

static void
a_lane_says_what_it_is_and_why(void ** state)
{
	struct text * reason = text_new(name("gone"));
	struct lane lane;

	(void)state;
	lane = lanes_say(&lanes, lanes_open(&lanes, name("X"), name("r"), reason, 5));
	text_unref(reason);
	assert_true(bytes_equal(lane.exchange, name("X")));
	assert_true(bytes_equal(lane.routing_key, name("r")));
	assert_true(bytes_equal(lane.reason, name("gone")));
}

static void
the_first_probe_due_is_told(void ** state)
{
	uint16_t late = lanes_open(&lanes, name("X"), whole, NULL, 9);
	uint16_t soon = lanes_open(&lanes, name("Y"), whole, NULL, 5);

	(void)state;
	assert_int_equal(lanes_probe_at(&lanes), 5);
	assert_int_equal(lanes_next(&lanes), soon);
	lanes_probe(&lanes, soon, 77);
	assert_int_equal(lanes_probed_by(&lanes, 77), soon);
	assert_int_equal(lanes_probe_at(&lanes), 9);
	/* Opened again: a lane that is open or being probed stays as it is. */
	lanes_open(&lanes, name("X"), whole, NULL, 2);
	lanes_open(&lanes, name("Y"), whole, NULL, 2);
	assert_int_equal(lanes_probe_at(&lanes), 9);
	lanes_reopen(&lanes, soon, 20);
	assert_int_equal(lanes_next(&lanes), late);
	lanes_probe(&lanes, late, 78);
	lanes_probe(&lanes, soon, 77);
	assert_int_equal(lanes_next(&lanes), LANE_NONE);
	assert_true(lanes_probe_at(&lanes) == CLOCK_NEVER);
}

static void
a_lane_that_is_drained_lets_messages_through(void ** state)
{
	uint16_t lane = lanes_open(&lanes, name("X"), whole, NULL, 5);
	struct text * reason = text_new(name("again"));

	(void)state;
	lanes_probe(&lanes, lane, 1);
	lanes_drain(&lanes, lane);
	assert_int_equal(lanes_shut(&lanes, name("X"), name("r")), LANE_NONE);
	assert_int_equal(lanes.shut, 0);
	assert_int_equal(lanes.draining, 1);
	/* It may go bad again, for another reason. */
	assert_int_equal(lanes_open(&lanes, name("X"), whole, reason, 7), lane);
	text_unref(reason);
	assert_true(bytes_equal(lanes_say(&lanes, lane).reason, name("again")));
	assert_int_equal(lanes_probe_at(&lanes), 7);
	assert_int_equal(lanes.draining, 0);
}

static void
a_drained_lane_stays_while_rows_refer_to_it(void ** state)
{
	uint16_t lane = lanes_open(&lanes, name("X"), whole, NULL, 5);

	(void)state;
	lanes_refer(&lanes, lane);
	lanes_refer(&lanes, lane);
	lanes_drain(&lanes, lane);
	lanes_drained(&lanes, lane, 40, true);
	assert_int_equal(lanes_to_drain(&lanes, 0), lane);
	assert_int_equal(lanes.breaker[lane].drained_to, 40);
	lanes_drained(&lanes, lane, 50, false);
	assert_int_equal(lanes_to_drain(&lanes, 0), LANE_NONE);
	lanes_refer_no_more(&lanes, lane);
	assert_int_equal(lanes_to_drain(&lanes, 0), LANE_NONE);
	lanes_refer_no_more(&lanes, lane);
	/* Once more, from the beginning. */
	assert_int_equal(lanes_to_drain(&lanes, 0), lane);
	assert_true(lanes.breaker[lane].drained_to == INT64_MIN);
	lanes_drained(&lanes, lane, INT64_MAX, false);
	assert_int_equal(lanes.draining, 0);
	assert_int_equal(lanes.top, 0);
}

static void
lanes_are_drained_in_turn(void ** state)
{
	uint16_t turn = 0;
	int seen[4] = {0};

	(void)state;
	for (const char * n = "ABCD"; *n != '\0'; n++)
		lanes_open(&lanes, (struct bytes){n, 1}, whole, NULL, 5);
	lanes_drain(&lanes, 0);
	lanes_drain(&lanes, 2);
	lanes_drain(&lanes, 3);
	for (int n = 0; n < 6; n++) {
		turn = lanes_to_drain(&lanes, turn);
		seen[turn]++;
	}
	assert_int_equal(seen[0], 2);
	assert_int_equal(seen[1], 0);
	assert_int_equal(seen[2], 2);
	assert_int_equal(seen[3], 2);
}

static void
an_empty_lane_is_closed_unless_rows_refer_to_it(void ** state)
{
	uint16_t lane = lanes_open(&lanes, name("X"), whole, NULL, 5);

	(void)state;
	lanes_refer(&lanes, lane);
	lanes_empty(&lanes, lane, 9);
	assert_int_equal(lanes_probe_at(&lanes), 9);
	lanes_refer_no_more(&lanes, lane);
	lanes_empty(&lanes, lane, 12);
	assert_int_equal(lanes.shut, 0);
	assert_int_equal(lanes_probe_at(&lanes), CLOCK_NEVER);
}

static void
a_reported_lane_is_so_until_it_was_probed(void ** state)
{
	struct lane lane = {.exchange = name("X"), .reason = name("why")};

	(void)state;
	lanes_open(&lanes, name("Y"), whole, NULL, 5);
	lanes_report(&lanes, &lane, 3);
	lanes_report(&lanes, &lane, 4);
	assert_int_equal(lanes.shut, 2);
	assert_int_equal(lanes.reported, 1);
	assert_int_equal(lanes_probe_at(&lanes), 3);
	lanes_probe(&lanes, 1, 9);
	assert_int_equal(lanes.reported, 1);
	assert_int_equal(lanes.probing, 1);
	lanes_reopen(&lanes, 1, 8);
	assert_int_equal(lanes.reported, 0);
	assert_int_equal(lanes.probing, 0);
}

static void
there_are_so_many_lanes_and_no_more(void ** state)
{
	char text[8] = "L";

	(void)state;
	for (int n = 0; n < LANES_MAX; n++) {
		text[1] = (char)('a' + n / 16);
		text[2] = (char)('a' + n % 16);
		assert_int_equal(lanes_open(&lanes, name(text), whole, NULL, 5), n);
	}
	assert_int_equal(lanes_open(&lanes, name("X"), whole, NULL, 5), LANE_NONE);
	lanes_empty(&lanes, 7, 9);
	assert_int_equal(lanes_open(&lanes, name("X"), whole, NULL, 5), 7);
	assert_int_equal(lanes.shut, LANES_MAX);
}

/* ---- texts ---- */

static void
a_text_lives_until_nobody_refers_to_it(void ** state)
{
	struct text * text = text_new(name("why"));

	(void)state;
	assert_ptr_equal(text_ref(text), text);
	text_unref(text);
	assert_true(bytes_equal(text_bytes(text), name("why")));
	text_unref(text);
	assert_null(text_new(BYTES_NONE));
	assert_null(text_ref(NULL));
	text_unref(NULL);
	assert_false(bytes_present(text_bytes(NULL)));
	text = text_new(name(""));
	assert_true(bytes_present(text_bytes(text)));
	text_unref(text);
}

static void
a_name_is_never_cut(void ** state)
{
	static char longer[TEXT_MAX + 1];

	(void)state;
	memset(longer, 'x', sizeof(longer));
	assert_null(text_new((struct bytes){longer, sizeof(longer)}));
	assert_int_equal(lanes_open(&lanes, (struct bytes){longer, sizeof(longer)}, whole, NULL, 5),
	    LANE_NONE);
	assert_int_equal(lanes_open(&lanes, name("X"), (struct bytes){longer, sizeof(longer)}, NULL,
			     5),
	    LANE_NONE);
}

static void
text_for_people_is_what_a_database_takes(void ** state)
{
	static const char * const pairs[][2] = {
	    {"why", "why"},
	    {"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"},
	    {"\xe2\x82\xac \xf0\x9f\x90\x87", "\xe2\x82\xac \xf0\x9f\x90\x87"},
	    {"cut \xe2\x82", "cut ??"},
	    {"cut \xf0\x9f\x90", "cut ???"},
	    {"\xc0\xaf \xe0\x80\xaf \xf0\x80\x80\xaf", "?? ??? ????"},
	    {"\xed\xa0\x80 \xf4\x90\x80\x80 \xff", "??? ???? ?"},
	    {"\xe2\x82x \x80", "??x ?"},
	    {"", ""},
	};
	static char longer[TEXT_MAX + 10];
	struct text * text;

	(void)state;
	for (size_t n = 0; n < sizeof(pairs) / sizeof(pairs[0]); n++) {
		text = text_for_people(name(pairs[n][0]));
		assert_true(bytes_equal(text_bytes(text), name(pairs[n][1])));
		text_unref(text);
	}
	text = text_for_people((struct bytes){"a\0b", 3});
	assert_true(bytes_equal(text_bytes(text), name("a?b")));
	text_unref(text);
	assert_null(text_for_people(BYTES_NONE));
	memset(longer, 'x', sizeof(longer));
	memcpy(longer + TEXT_MAX - 2, "\xe2\x82\xac", 3);
	text = text_for_people((struct bytes){longer, sizeof(longer)});
	assert_int_equal(text_bytes(text).len, TEXT_MAX);
	assert_memory_equal(text_bytes(text).data + TEXT_MAX - 3, "x??", 3);
	text_unref(text);
}

int
main(void)
{
#define TEST(test) cmocka_unit_test_teardown(test, clear)
	const struct CMUnitTest tests[] = {
	    TEST(a_lane_is_an_exchange_or_a_queue_of_it),
	    TEST(the_default_exchange_and_an_empty_routing_key_are_names),
	    TEST(a_lane_says_what_it_is_and_why),
	    TEST(the_first_probe_due_is_told),
	    TEST(a_lane_that_is_drained_lets_messages_through),
	    TEST(a_drained_lane_stays_while_rows_refer_to_it),
	    TEST(lanes_are_drained_in_turn),
	    TEST(an_empty_lane_is_closed_unless_rows_refer_to_it),
	    TEST(a_reported_lane_is_so_until_it_was_probed),
	    TEST(there_are_so_many_lanes_and_no_more),
	    TEST(a_text_lives_until_nobody_refers_to_it),
	    TEST(a_name_is_never_cut),
	    TEST(text_for_people_is_what_a_database_takes),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
