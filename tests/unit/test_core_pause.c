#include <stdio.h>

#include "core_script.h"

/* What a person has paused: everything, or an exchange. */

static void
paused(bool all, const char * exchange)
{
	const struct lane lane = {.exchange = bytes_from(exchange == NULL ? "" : exchange),
	    .routing_key = BYTES_NONE,
	    .reason = bytes_from("mending")};
	const struct pause pause = {.all = all,
	    .lanes = &lane,
	    .lane_count = exchange == NULL ? 0 : 1};

	assert_true(core_on_paused(core, now, &pause));
}

static void
while_everything_is_paused_only_what_is_in_flight_goes_on(void ** state)
{
	uint64_t one;

	(void)state;
	fetched(rows(1, "---"), 1, false);
	expect(CORE_FETCH);
	one = published(1);
	paused(true, NULL);
	expect(CORE_NOTHING);
	answer(rows(4, "-"), 1, true);
	expect(CORE_NOTHING);
	assert_false(core_wants(core, CORE_SUSPECTS));
	now += CLOCK_S(1);
	confirmed(one);
	recorded(1, 1, false, 1);
	now += CLOCK_S(60);
	searches_are_seen = true;
	expect(CORE_NOTHING);
	assert_true(core_deadline(core) == CLOCK_NEVER);
	searches_are_seen = false;
	paused(false, NULL);
	expect(CORE_FETCH);
	published(2);
	published(3);
	published(4);
}

static void
a_lost_link_does_not_end_a_pause(void ** state)
{
	uint64_t one;

	(void)state;
	fetched(rows(1, "-"), 1, true);
	expect(CORE_FETCH);
	one = published(1);
	paused(true, NULL);
	core_on_link_down(core, now, CORE_MAIN);
	core_on_link_up(core, now, CORE_MAIN);
	expect(CORE_NOTHING);
	confirmed(one);
	paused(false, NULL);
	published(1);
	assert_true(action.publish.again);
}

static void
a_new_lead_has_to_be_told_anew(void ** state)
{
	(void)state;
	paused(true, "X");
	core_on_source_down(core, now);
	core_on_source_up(core, now);
	fetched(rows(1, "-"), 1, true);
	expect(CORE_FETCH);
	published(1);
}

static void
a_paused_exchange_waits_without_an_attempt_and_without_a_probe(void ** state)
{
	struct batch * batch = rows(1, "a-a-");

	(void)state;
	paused(false, "Y");
	batch->messages[0]->exchange = bytes_from("Y");
	batch->messages[1]->exchange = bytes_from("Y");
	fetched(batch, 1, true);
	expect(CORE_FETCH);
	expect(CORE_RECORD);
	assert_int_equal(action.record.move_count, 3);
	moves(0, 1, FATE_WAIT_EXCHANGE, 0);
	moves(1, 2, FATE_WAIT_EXCHANGE, 0);
	moves(2, 3, FATE_BEHIND, 0);
	assert_true(action.record.moves[0].paused);
	assert_true(bytes_equal(action.record.moves[0].reason, bytes_from("mending")));
	committed();
	published(4);
	assert_false(core_wants(core, CORE_SUSPECTS));
	now += CLOCK_S(10);
	searches_are_seen = true;
	expect(CORE_NOTHING);
}

static void
resumed_an_exchange_is_probed_and_then_drained(void ** state)
{
	struct batch * batch = rows(1, "-");

	(void)state;
	paused(false, "X");
	fetched(batch, 1, true);
	expect(CORE_FETCH);
	marked(1);
	moves(0, 1, FATE_WAIT_EXCHANGE, 0);
	committed();
	paused(false, NULL);
	searching(SEARCH_LANE);
	assert_int_equal(action.fetch_delayed.rows, 1);
	found(delayed(rows(1, "-"), MESSAGE_LANE, 0), false, CLOCK_NEVER);
	confirmed(published_on(CORE_SUSPECTS, 1));
	searching(SEARCH_LANE);
	found(NULL, false, CLOCK_NEVER);
	marked(1);
	moves(0, 1, FATE_DELIVERED, 0);
}

static void
a_probe_that_a_pause_overtakes_goes_back(void ** state)
{
	uint64_t probe;

	(void)state;
	paused(false, "X");
	fetched(rows(1, "--"), 1, true);
	expect(CORE_FETCH);
	marked(2);
	committed();
	paused(false, NULL);
	searching(SEARCH_LANE);
	found(delayed(rows(1, "-"), MESSAGE_LANE, 0), false, CLOCK_NEVER);
	paused(false, "X");
	/* Not published yet: it stays where the database has it. */
	expect(CORE_NOTHING);
	now += CLOCK_S(20);
	expect(CORE_NOTHING);
	paused(false, NULL);
	searching(SEARCH_LANE);
	found(delayed(rows(1, "-"), MESSAGE_LANE, 0), false, CLOCK_NEVER);
	probe = published_on(CORE_SUSPECTS, 1);
	paused(false, "X");
	/* In flight: it counts as sent, and the lane stays shut. */
	confirmed(probe);
	marked(1);
	moves(0, 1, FATE_DELIVERED, 0);
	committed();
	now += CLOCK_S(20);
	expect(CORE_NOTHING);
}

static void
a_drain_does_not_wait_for_a_paused_exchange_but_for_one_that_is_resumed(void ** state)
{
	(void)state;
	paused(false, "X");
	core_drain(core);
	fetched(rows(1, "-"), 1, true);
	expect(CORE_FETCH);
	answer(NULL, 2, true);
	marked(1);
	committed();
	paused(false, NULL);
	expect(CORE_FETCH);
	searching(SEARCH_LANE);
	found(delayed(rows(1, "-"), MESSAGE_LANE, 0), false, CLOCK_NEVER);
	published_on(CORE_SUSPECTS, 1);
}

static void
more_exchanges_than_there_is_room_for_pause_everything(void ** state)
{
	static char names[PAUSES_MAX + 1][8];
	struct lane lanes[PAUSES_MAX + 1];
	struct pause pause = {.lanes = lanes, .lane_count = PAUSES_MAX};

	(void)state;
	for (size_t n = 0; n <= PAUSES_MAX; n++) {
		snprintf(names[n], sizeof(names[n]), "e%zu", n);
		lanes[n] = (struct lane){.exchange = bytes_from(names[n]),
		    .routing_key = BYTES_NONE,
		    .reason = bytes_from("why")};
	}
	assert_true(core_on_paused(core, now, &pause));
	expect(CORE_FETCH);
	pause.lane_count++;
	assert_false(core_on_paused(core, now, &pause));
	answer(rows(1, "-"), 1, true);
	expect(CORE_NOTHING);
	pause.lane_count--;
	assert_true(core_on_paused(core, now, &pause));
	expect(CORE_FETCH);
	published(1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(
		while_everything_is_paused_only_what_is_in_flight_goes_on, start, finish),
	    cmocka_unit_test_setup_teardown(a_lost_link_does_not_end_a_pause, start, finish),
	    cmocka_unit_test_setup_teardown(a_new_lead_has_to_be_told_anew, start, finish),
	    cmocka_unit_test_setup_teardown(
		a_paused_exchange_waits_without_an_attempt_and_without_a_probe, start, finish),
	    cmocka_unit_test_setup_teardown(resumed_an_exchange_is_probed_and_then_drained, start,
		finish),
	    cmocka_unit_test_setup_teardown(a_probe_that_a_pause_overtakes_goes_back, start,
		finish),
	    cmocka_unit_test_setup_teardown(
		a_drain_does_not_wait_for_a_paused_exchange_but_for_one_that_is_resumed, start,
		finish),
	    cmocka_unit_test_setup_teardown(more_exchanges_than_there_is_room_for_pause_everything,
		start, finish),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
