#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"

static void
it_never_goes_back(void ** state)
{
	clock_ns last = clock_now();

	(void)state;
	assert_true(last > 0);
	for (int i = 0; i < 1000; i++) {
		clock_ns now = clock_now();

		assert_true(now >= last);
		last = now;
	}
}

static void
never_is_later_than_any_deadline(void ** state)
{
	(void)state;
	assert_int_equal(clock_min(CLOCK_NEVER, CLOCK_S(3)), CLOCK_S(3));
	assert_int_equal(clock_min(CLOCK_MS(5), CLOCK_US(4000)), CLOCK_MS(4));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(it_never_goes_back),
	    cmocka_unit_test(never_is_later_than_any_deadline),
	};

	return (cmocka_run_group_tests_name("base/clock", tests, NULL, NULL));
}
