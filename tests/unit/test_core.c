#include "core_script.h"

/* Order, window, marks, fetches and the end, while messages are well. */

static struct core_options
small(uint32_t window, uint32_t batch, size_t max_bytes)
{
	struct core_options options = usual;

	options.window = window;
	options.batch = batch;
	options.max_bytes = max_bytes;
	options.record_interval = CLOCK_S(1);
	return (options);
}

/* ---- order ---- */

static void
rows_without_a_key_go_in_the_order_written(void ** state)
{
	(void)state;
	fetched(rows(1, "---"), 1, true);
	fetching();
	for (int64_t id = 1; id <= 3; id++)
		published(id);
	expect(CORE_NOTHING);
}

static void
strict_order_has_one_unconfirmed_message_a_key(void ** state)
{
	uint64_t a;

	(void)state;
	fetched(rows(1, "aabab"), 1, true);
	fetching();
	a = published(1);
	published(3);
	expect(CORE_NOTHING);
	confirmed(a);
	recorded(1, 1, false, 1);
	published(2);
	expect(CORE_NOTHING);
}

static void
a_key_is_free_again_after_its_last_row(void ** state)
{
	(void)state;
	fetched(rows(1, "a"), 1, false);
	fetching();
	confirmed(published(1));
	answer(NULL, 1, true);
	fetching();
	recorded(1, 1, true, 1);
	answer(rows(2, "a"), 2, true);
	fetching();
	published(2);
}

static void
pipelined_mode_has_many_of_a_key_in_flight(void ** state)
{
	struct core_options options = usual;

	(void)state;
	options.pipelined = true;
	restart_with(options);
	fetched(rows(1, "aaa"), 1, true);
	fetching();
	for (int64_t id = 1; id <= 3; id++)
		published(id);
}

static void
after_a_lost_link_all_unsettled_go_again_in_order(void ** state)
{
	uint64_t first, second;

	(void)state;
	fetched(rows(1, "abcab"), 1, true);
	fetching();
	first = published(1);
	second = published(2);
	published(3);
	confirmed(second);
	core_on_link_down(core, now, CORE_MAIN);
	assert_int_equal(counts().in_flight, 0);
	expect(CORE_NOTHING);
	core_on_link_up(core, now, CORE_MAIN);
	assert_true(published(1) != first);
	assert_true(action.publish.again);
	published(3);
	assert_true(action.publish.again);
	published(5);
	assert_false(action.publish.again);
	expect(CORE_NOTHING);
	assert_int_equal(counts().republished, 2);
}

/* ---- what is in flight ---- */

static void
the_window_bounds_what_is_published_and_not_recorded(void ** state)
{
	uint64_t ticket;

	(void)state;
	restart_with(small(2, 2, 1000));
	fetched(rows(1, "ab"), 1, false);
	ticket = published(1);
	fetched(rows(3, "cd"), 1, false);
	confirmed(published(2));
	confirmed(ticket);
	/* Both confirmed; the mark is on its way. */
	expect(CORE_RECORD);
	expect(CORE_NOTHING);
	assert_int_equal(counts().unrecorded, 2);
	core_on_recorded(core, now);
	published(3);
	fetching();
	published(4);
	/* Again after a lost link: each counts once. */
	core_on_link_down(core, now, CORE_MAIN);
	core_on_link_up(core, now, CORE_MAIN);
	published(3);
	published(4);
	assert_int_equal(counts().unrecorded, 2);
}

/* A confirm that comes late, or never, keeps no other message's place. */
static void
those_ahead_of_the_newest_answer_are_bounded(void ** state)
{
	struct core_options options = usual;
	uint64_t tickets[25];

	(void)state;
	options.window = 100;
	options.batch = 8;
	options.max_bytes = 100000;
	assert_int_equal(core_ahead_max(&options), 8);
	assert_int_equal(core_in_flight_max(&options), 20);
	restart_with(options);
	fetched(rows(1, "abcdefgh"), 1, false);
	for (int64_t id = 1; id <= 4; id++)
		tickets[id] = published(id);
	fetched(rows(9, "ijklmnop"), 1, false);
	for (int64_t id = 5; id <= 8; id++)
		tickets[id] = published(id);
	expect(CORE_NOTHING);
	assert_int_equal(counts().ahead, 8);
	/* An answer passes two earlier ones. */
	confirmed(tickets[3]);
	assert_int_equal(counts().ahead, 5);
	assert_int_equal(counts().in_flight, 7);
	for (int64_t id = 9; id <= 11; id++)
		tickets[id] = published(id);
	expect(CORE_NOTHING);
	confirmed(tickets[2]);
	expect(CORE_NOTHING);
	assert_int_equal(counts().ahead, 8);
	/* One that the link did not take is not in flight. */
	confirmed(tickets[4]);
	settled(published(12), CORE_NOT_TAKEN);
	core_on_link_full(core, CORE_MAIN, true);
	assert_int_equal(counts().ahead, 7);
	core_on_link_full(core, CORE_MAIN, false);
	tickets[12] = published(12);
	fetching();
	expect(CORE_NOTHING);
	/* Nothing is in flight, nothing ahead. */
	core_on_link_down(core, now, CORE_MAIN);
	assert_int_equal(counts().ahead, 0);
	core_on_link_up(core, now, CORE_MAIN);
	published(1);
	assert_int_equal(counts().ahead, 1);
	core_on_source_down(core, now);
	assert_int_equal(counts().ahead, 0);
}

static void
nothing_is_published_at_or_after_the_lease(void ** state)
{
	(void)state;
	fetched(rows(1, "ab"), 1, true);
	fetching();
	core_lease(core, now);
	expect(CORE_NOTHING);
	core_lease(core, now + 1);
	published(1);
	now++;
	expect(CORE_NOTHING);
}

static void
nothing_is_published_while_blocked_full_or_down(void ** state)
{
	(void)state;
	fetched(rows(1, "abc"), 1, true);
	fetching();
	core_on_blocked(core, now, CORE_MAIN, true);
	expect(CORE_NOTHING);
	core_on_blocked(core, now, CORE_MAIN, false);
	published(1);
	core_on_link_full(core, CORE_MAIN, true);
	expect(CORE_NOTHING);
	core_on_link_full(core, CORE_MAIN, false);
	published(2);
	core_on_link_down(core, now, CORE_MAIN);
	expect(CORE_NOTHING);
}

static void
what_the_link_had_no_room_for_counts_as_not_published(void ** state)
{
	(void)state;
	fetched(rows(1, "ab"), 1, true);
	fetching();
	settled(published(1), CORE_NOT_TAKEN);
	core_on_link_full(core, CORE_MAIN, true);
	expect(CORE_NOTHING);
	assert_int_equal(counts().published, 0);
	assert_int_equal(counts().unrecorded, 0);
	core_on_link_full(core, CORE_MAIN, false);
	published(1);
	assert_false(action.publish.again);
	published(2);
}

/* ---- settling ---- */

static void
a_mark_covers_only_the_unbroken_run_of_confirmed(void ** state)
{
	uint64_t ticket[3];

	(void)state;
	fetched(rows(1, "abc"), 1, true);
	fetching();
	for (int n = 0; n < 3; n++)
		ticket[n] = published(n + 1);
	confirmed(ticket[1]);
	confirmed(ticket[2]);
	expect(CORE_NOTHING);
	assert_true(core_deadline(core) == now + CLOCK_S(15));
	confirmed(ticket[0]);
	recorded(1, 3, true, 3);
	assert_int_equal(counts().held_rows, 0);
}

static void
stale_unknown_and_repeated_tickets_are_ignored(void ** state)
{
	uint64_t lost, again, forgotten;

	(void)state;
	fetched(rows(1, "ab"), 1, true);
	fetching();
	lost = published(1);
	core_on_link_down(core, now, CORE_MAIN);
	core_on_link_up(core, now, CORE_MAIN);
	again = published(1);
	confirmed(lost);
	confirmed(again + (UINT64_C(100) << 16));
	assert_int_equal(counts().confirmed, 0);
	confirmed(again);
	confirmed(again);
	settled(again, CORE_NACKED);
	assert_int_equal(counts().confirmed, 1);
	assert_int_equal(counts().nacked, 0);
	recorded(1, 1, false, 1);
	forgotten = published(2);
	core_on_source_down(core, now);
	core_on_source_up(core, now);
	fetched(rows(2, "b"), 1, true);
	fetching();
	published(2);
	confirmed(forgotten);
	assert_int_equal(counts().confirmed, 1);
}

/* ---- marks ---- */

static void
marks_are_due_by_time_or_by_a_quarter_window(void ** state)
{
	uint64_t first;

	(void)state;
	fetched(rows(1, "----------"), 1, true);
	first = published(1);
	confirmed(first);
	recorded(1, 1, false, 1);
	for (int64_t id = 2; id <= 5; id++)
		confirmed(published(id));
	fetching();
	published(6);
	now += CLOCK_MS(10);
	assert_int_equal(core_deadline(core) - now, CLOCK_MS(40));
	now += CLOCK_MS(40);
	recorded(1, 5, false, 4);
	for (int64_t id = 7; id <= 10; id++)
		published(id);
	core_on_link_down(core, now, CORE_MAIN);
	core_on_link_up(core, now, CORE_MAIN);
	for (int64_t id = 6; id <= 10; id++)
		confirmed(published(id));
	recorded(1, 10, true, 5);
	assert_true(core_deadline(core) == CLOCK_NEVER);
}

static void
one_mark_at_a_time(void ** state)
{
	(void)state;
	fetched(rows(1, "--"), 1, true);
	fetching();
	confirmed(published(1));
	expect(CORE_RECORD);
	confirmed(published(2));
	now += CLOCK_S(1);
	expect(CORE_NOTHING);
	assert_true(core_deadline(core) == CLOCK_NEVER);
	core_on_recorded(core, now);
	recorded(1, 2, true, 1);
}

static void
an_interval_known_exhausted_later_is_marked_so(void ** state)
{
	(void)state;
	fetched(rows(1, "-"), 1, false);
	fetched(NULL, 1, true);
	fetching();
	confirmed(published(1));
	recorded(1, 1, true, 1);
}

static void
an_empty_answer_ends_no_other_interval(void ** state)
{
	(void)state;
	fetched(rows(1, "-"), 1, false);
	fetched(NULL, 2, true);
	fetching();
	confirmed(published(1));
	recorded(1, 1, false, 1);
	expect(CORE_NOTHING);
}

static void
the_greatest_id_is_that_of_recorded_rows(void ** state)
{
	uint64_t first;

	(void)state;
	fetched(rows(50, "-"), 1, true);
	fetched(rows(7, "-"), 2, true);
	fetched(rows(90, "-"), 3, true);
	fetching();
	first = published(50);
	confirmed(published(7));
	confirmed(first);
	expect(CORE_RECORD);
	assert_int_equal(action.record.position.interval, 2);
	assert_int_equal(action.record.position.last_id, 7);
	assert_int_equal(action.record.max_id, 50);
	core_on_recorded(core, now);
	/* 90 was confirmed, but its mark may be lost with the database. */
	confirmed(published(90));
	core_on_source_down(core, now);
	core_on_source_up(core, now);
	fetched(rows(8, "-"), 4, true);
	fetching();
	confirmed(published(8));
	now += CLOCK_S(1);
	expect(CORE_RECORD);
	assert_int_equal(action.record.max_id, 50);
}

/* ---- fetching ---- */

static void
a_fetch_waits_when_nothing_was_left_behind(void ** state)
{
	(void)state;
	expect(CORE_FETCH);
	assert_false(action.fetch.wait);
	assert_int_equal(action.fetch.rows, 10);
	expect(CORE_NOTHING);
	answer(NULL, 1, true);
	expect(CORE_FETCH);
	assert_true(action.fetch.wait);
}

static void
bytes_bound_what_is_fetched(void ** state)
{
	(void)state;
	restart_with(small(20, 10, 60));
	fetched(rows(1, "aaaa"), 1, false);
	expect(CORE_FETCH);
	assert_int_equal(action.fetch.bytes, 5);
	answer(rows(5, "a"), 1, false);
	published(1);
	expect(CORE_NOTHING);
	assert_int_equal(counts().bytes, 50);
}

static void
rows_that_wait_for_a_key_do_not_pile_up(void ** state)
{
	int64_t id = 1;

	(void)state;
	restart_with(small(40, 4, 100000));
	while (next() == CORE_FETCH) {
		answer(rows(id, "aaaa"), 1, false);
		id += 4;
	}
	assert_int_equal(action.type, CORE_PUBLISH);
	expect(CORE_NOTHING);
	assert_in_range(counts().held_rows, 8, 16);
}

static void
a_batch_is_given_back_once_its_rows_are_settled(void ** state)
{
	(void)state;
	fetched(rows(1, "--"), 1, true);
	fetching();
	confirmed(published(1));
	expect(CORE_RECORD);
	assert_int_equal(batches, 1);
	confirmed(published(2));
	assert_int_equal(batches, 0);
	assert_int_equal(counts().held_rows, 2);
}

static void
a_lost_source_forgets_all_rows(void ** state)
{
	(void)state;
	fetched(rows(1, "aab"), 1, true);
	fetching();
	settled(published(1), CORE_NACKED);
	expect(CORE_RECORD);
	published(3);
	core_on_source_down(core, now);
	assert_int_equal(batches, 0);
	assert_int_equal(counts().held_rows + counts().in_flight + counts().unrecorded, 0);
	now += CLOCK_S(100);
	expect(CORE_NOTHING);
	core_on_source_up(core, now);
	expect(CORE_FETCH);
	assert_false(action.fetch.wait);
	expect(CORE_NOTHING);
}

/* ---- the end ---- */

static void
a_stop_finishes_and_records_what_is_in_flight(void ** state)
{
	uint64_t ticket;

	(void)state;
	fetched(rows(1, "aab"), 1, true);
	fetching();
	ticket = published(1);
	core_stop(core);
	expect(CORE_NOTHING);
	confirmed(ticket);
	expect(CORE_RECORD);
	expect(CORE_NOTHING);
	core_on_recorded(core, now);
	expect(CORE_FINISHED);
	expect(CORE_FINISHED);
}

static void
a_stop_publishes_what_keeps_a_mark_from_those_published(void ** state)
{
	uint64_t first, fourth;

	(void)state;
	fetched(rows(1, "aaabc"), 1, true);
	fetching();
	first = published(1);
	fourth = published(4);
	core_stop(core);
	expect(CORE_NOTHING);
	confirmed(fourth);
	expect(CORE_NOTHING);
	confirmed(first);
	expect(CORE_RECORD);
	assert_int_equal(action.record.messages, 1);
	core_on_recorded(core, now);
	confirmed(published(2));
	confirmed(published(3));
	expect(CORE_RECORD);
	assert_int_equal(action.record.messages, 3);
	expect(CORE_NOTHING);
	core_on_recorded(core, now);
	expect(CORE_FINISHED);
}

static void
a_stop_waits_for_a_link_that_is_full_for_a_moment(void ** state)
{
	uint64_t last;

	(void)state;
	fetched(rows(1, "aab"), 1, true);
	fetching();
	last = published(1);
	confirmed(published(3));
	core_stop(core);
	confirmed(last);
	expect(CORE_RECORD);
	core_on_recorded(core, now);
	last = published(2);
	core_on_settled(core, now, last, CORE_NOT_TAKEN, BYTES_NONE);
	core_on_link_full(core, CORE_MAIN, true);
	expect(CORE_NOTHING);
	core_on_link_full(core, CORE_MAIN, false);
	confirmed(published(2));
	expect(CORE_RECORD);
	assert_int_equal(action.record.messages, 2);
	core_on_recorded(core, now);
	expect(CORE_FINISHED);
}

static void
a_stop_does_not_wait_for_a_link_that_is_full_and_lost(void ** state)
{
	(void)state;
	core_on_link_full(core, CORE_MAIN, true);
	core_on_link_down(core, now, CORE_MAIN);
	core_stop(core);
	expect(CORE_FINISHED);
}

static void
a_stop_does_not_wait_for_a_lost_peer(void ** state)
{
	uint64_t first;

	(void)state;
	fetched(rows(1, "ab"), 1, true);
	fetching();
	first = published(1);
	published(2);
	confirmed(first);
	expect(CORE_RECORD);
	core_stop(core);
	core_on_link_down(core, now, CORE_MAIN);
	expect(CORE_NOTHING);
	core_on_source_down(core, now);
	expect(CORE_FINISHED);
}

static void
a_drain_ends_when_a_fetch_after_the_last_mark_is_empty(void ** state)
{
	(void)state;
	core_drain(core);
	fetched(rows(1, "-"), 1, true);
	expect(CORE_FETCH);
	assert_false(action.fetch.wait);
	answer(NULL, 1, true);
	confirmed(published(1));
	recorded(1, 1, true, 1);
	expect(CORE_FETCH);
	assert_false(action.fetch.wait);
	expect(CORE_NOTHING);
	answer(NULL, 1, true);
	expect(CORE_FINISHED);
}

static void
a_drain_does_not_end_with_an_interval_left_open_before(void ** state)
{
	(void)state;
	core_drain(core);
	fetched(NULL, 1, true);
	expect(CORE_FETCH);
	assert_false(action.fetch.wait);
	answer(rows(9, "-"), 2, true);
	fetching();
	published(9);
}

static void
how_long_confirms_took_is_counted(void ** state)
{
	const struct core_latencies * latencies = core_latencies(core);
	struct batch * batch = rows(1, "-----");
	clock_ns offset = CLOCK_S(1700000000) - now;
	uint64_t tickets[5];

	(void)state;
	/* Created 2 s ago, in an hour, at no time, at the end of all times; scheduled. */
	core_wall_clock(core, offset);
	batch->messages[0]->timestamp_s = 1700000000 - 3;
	batch->messages[0]->timestamp_us = 999000;
	batch->messages[1]->timestamp_s = 1700000000 + 3600;
	batch->messages[2]->timestamp_s = MESSAGE_UNFIT;
	batch->messages[3]->timestamp_s = INT64_C(253402300799);
	batch->messages[4]->origin = MESSAGE_SCHEDULED;
	fetched(batch, 1, true);
	fetching();
	for (int n = 0; n < 5; n++)
		tickets[n] = published(1 + n);
	now += CLOCK_MS(30);
	for (int n = 0; n < 5; n++)
		confirmed(tickets[n]);
	assert_int_equal(histogram_total(&latencies->confirm), 5);
	assert_int_equal(latencies->confirm.sum_ns, 5 * CLOCK_MS(30));
	assert_int_equal(histogram_total(&latencies->commit), 2);
	assert_int_equal(latencies->commit.sum_ns, CLOCK_MS(2001 + 30));
	/* Neither refused nor forgotten ones count. */
	recorded(1, 5, true, 5);
	answer(rows(6, "--"), 2, true);
	fetching();
	settled(published(6), CORE_NACKED);
	tickets[0] = published(7);
	core_on_source_down(core, now);
	confirmed(tickets[0]);
	assert_int_equal(histogram_total(&latencies->confirm), 5);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, finish)
	const struct CMUnitTest tests[] = {
	    TEST(rows_without_a_key_go_in_the_order_written),
	    TEST(strict_order_has_one_unconfirmed_message_a_key),
	    TEST(a_key_is_free_again_after_its_last_row),
	    TEST(pipelined_mode_has_many_of_a_key_in_flight),
	    TEST(after_a_lost_link_all_unsettled_go_again_in_order),
	    TEST(the_window_bounds_what_is_published_and_not_recorded),
	    TEST(those_ahead_of_the_newest_answer_are_bounded),
	    TEST(nothing_is_published_at_or_after_the_lease),
	    TEST(nothing_is_published_while_blocked_full_or_down),
	    TEST(what_the_link_had_no_room_for_counts_as_not_published),
	    TEST(a_mark_covers_only_the_unbroken_run_of_confirmed),
	    TEST(stale_unknown_and_repeated_tickets_are_ignored),
	    TEST(marks_are_due_by_time_or_by_a_quarter_window),
	    TEST(one_mark_at_a_time),
	    TEST(an_interval_known_exhausted_later_is_marked_so),
	    TEST(an_empty_answer_ends_no_other_interval),
	    TEST(the_greatest_id_is_that_of_recorded_rows),
	    TEST(a_fetch_waits_when_nothing_was_left_behind),
	    TEST(bytes_bound_what_is_fetched),
	    TEST(rows_that_wait_for_a_key_do_not_pile_up),
	    TEST(a_batch_is_given_back_once_its_rows_are_settled),
	    TEST(a_lost_source_forgets_all_rows),
	    TEST(a_stop_finishes_and_records_what_is_in_flight),
	    TEST(a_stop_publishes_what_keeps_a_mark_from_those_published),
	    TEST(a_stop_waits_for_a_link_that_is_full_for_a_moment),
	    TEST(a_stop_does_not_wait_for_a_link_that_is_full_and_lost),
	    TEST(a_stop_does_not_wait_for_a_lost_peer),
	    TEST(a_drain_ends_when_a_fetch_after_the_last_mark_is_empty),
	    TEST(a_drain_does_not_end_with_an_interval_left_open_before),
	    TEST(how_long_confirms_took_is_counted),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
