#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/backoff.h"

static void
delays_grow_up_to_the_maximum(void ** state)
{
	struct backoff b;
	clock_ns ceiling = CLOCK_S(1);

	(void)state;
	backoff_init(&b, CLOCK_S(1), 2, CLOCK_S(60), 7);
	for (int i = 0; i < 200; i++) {
		clock_ns delay = backoff_next(&b);

		assert_true(delay >= ceiling / 2);
		assert_true(delay <= ceiling);
		if ((ceiling *= 2) > CLOCK_S(60))
			ceiling = CLOCK_S(60);
	}
}

static void
success_starts_anew(void ** state)
{
	struct backoff b;

	(void)state;
	backoff_init(&b, CLOCK_MS(100), 10, CLOCK_S(100), 1);
	for (int i = 0; i < 3; i++)
		backoff_next(&b);
	assert_true(backoff_next(&b) >= CLOCK_S(50));
	backoff_reset(&b);
	assert_true(backoff_next(&b) <= CLOCK_MS(100));
}

static void
the_seed_decides_and_the_jitter_spreads(void ** state)
{
	struct backoff a;
	struct backoff b;
	struct backoff c;
	int differ = 0;
	int low = 0;

	(void)state;
	backoff_init(&a, CLOCK_S(1), 1, CLOCK_S(1), 0);
	backoff_init(&b, CLOCK_S(1), 1, CLOCK_S(1), 0);
	backoff_init(&c, CLOCK_S(1), 1, CLOCK_S(1), 1);
	for (int i = 0; i < 1000; i++) {
		clock_ns delay = backoff_next(&a);

		assert_int_equal(delay, backoff_next(&b));
		differ += delay != backoff_next(&c);
		low += delay < CLOCK_MS(750);
	}
	assert_true(differ > 990);
	assert_in_range(low, 420, 580);
}

static void
no_seed_leaves_the_jitter_stuck(void ** state)
{
	struct backoff b;
	clock_ns first;

	(void)state;
	backoff_init(&b, CLOCK_S(1), 1, CLOCK_S(1), UINT64_MAX);
	assert_true(b.random != 0);
	first = backoff_next(&b);
	assert_true(first != backoff_next(&b));
}

static void
an_initial_above_the_maximum_is_the_maximum(void ** state)
{
	struct backoff b;

	(void)state;
	backoff_init(&b, CLOCK_S(10), 2, CLOCK_S(3), 1);
	for (int i = 0; i < 10; i++)
		assert_true(backoff_next(&b) <= CLOCK_S(3));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(delays_grow_up_to_the_maximum),
	    cmocka_unit_test(success_starts_anew),
	    cmocka_unit_test(the_seed_decides_and_the_jitter_spreads),
	    cmocka_unit_test(no_seed_leaves_the_jitter_stuck),
	    cmocka_unit_test(an_initial_above_the_maximum_is_the_maximum),
	};

	return (cmocka_run_group_tests_name("base/backoff", tests, NULL, NULL));
}
