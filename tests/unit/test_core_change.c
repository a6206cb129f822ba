#include "core_script.h"

/* What may change while the relay runs. */

static const struct core_change usual_change = {
    .window = 20, .initial = CLOCK_S(1), .multiplier = 2, .max = CLOCK_S(60), .max_attempts = 3};

static void
change(struct core_change to)
{
	core_change(core, &to);
}

static void
a_smaller_window_lets_out_no_more_and_a_larger_one_does_again(void ** state)
{
	struct core_change to = usual_change;
	uint64_t tickets[5];

	(void)state;
	fetched(rows(1, "---------"), 1, true);
	for (int n = 0; n < 4; n++)
		tickets[n] = published(n + 1);
	expect(CORE_FETCH);
	tickets[4] = published(5);
	to.window = 3;
	change(to);
	expect(CORE_NOTHING);
	/* What is out stays out, and goes down as it is recorded. */
	for (int n = 0; n < 5; n++)
		confirmed(tickets[n]);
	recorded(1, 5, false, 5);
	for (int n = 6; n <= 8; n++)
		published(n);
	expect(CORE_NOTHING);
	assert_int_equal(counts().unrecorded, 3);
	to.window = 20;
	change(to);
	published(9);
}

static void
the_next_refusal_goes_by_the_new_attempts_and_delays(void ** state)
{
	struct core_change to = usual_change;

	(void)state;
	to.initial = to.max = CLOCK_MS(10);
	change(to);
	fetched(rows(1, "--"), 1, true);
	expect(CORE_FETCH);
	settled(published(1), CORE_NACKED);
	recorded(1, 1, false, 1);
	moves(0, 1, FATE_RETRY, 1);
	assert_in_range(action.record.moves[0].delay, CLOCK_MS(1), CLOCK_MS(10));
	to.max_attempts = 1;
	change(to);
	settled(published(2), CORE_NACKED);
	marked(1);
	moves(0, 2, FATE_DEAD, 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(
		a_smaller_window_lets_out_no_more_and_a_larger_one_does_again, start, finish),
	    cmocka_unit_test_setup_teardown(the_next_refusal_goes_by_the_new_attempts_and_delays,
		start, finish),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
