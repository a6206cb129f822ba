#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/histogram.h"

static int
bucket_of(uint64_t ns)
{
	int bucket = 0;

	while (ns > histogram_bounds[bucket])
		bucket++;
	return (bucket);
}

static void
check(uint64_t ns)
{
	struct histogram h = {0};

	histogram_add(&h, (clock_ns)ns);
	assert_int_equal(h.counts[bucket_of(ns)], 1);
	assert_int_equal(histogram_total(&h), 1);
	assert_true(h.sum_ns == ns);
}

static void
each_value_lies_in_the_first_bucket_whose_bound_is_not_below_it(void ** state)
{
	uint64_t x = 1;

	(void)state;
	for (int i = 0; i < HISTOGRAM_BOUNDS; i++) {
		check(histogram_bounds[i] - 1);
		check(histogram_bounds[i]);
		check(histogram_bounds[i] + 1);
		if (i > 0)
			assert_true(histogram_bounds[i] >= 2 * histogram_bounds[i - 1]);
	}
	for (int bit = 0; bit < 63; bit++) {
		check(UINT64_C(1) << bit);
		check((UINT64_C(1) << bit) - 1);
	}
	check(0);
	check(INT64_MAX);
	for (int n = 0; n < 100000; n++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		check(x >> (1 + x % 63));
	}
}

static void
what_lies_in_the_future_counts_as_nothing(void ** state)
{
	struct histogram h = {0};

	(void)state;
	histogram_add(&h, -1);
	histogram_add(&h, INT64_MIN);
	assert_int_equal(h.counts[0], 2);
	assert_int_equal(h.sum_ns, 0);
}

static void
a_quantile_is_that_of_what_came_since(void ** state)
{
	struct histogram older = {0}, newer;

	(void)state;
	assert_true(histogram_quantile(&older, &older, 0.5) < 0);
	for (int n = 0; n < 1000; n++)
		histogram_add(&older, CLOCK_S(5));
	newer = older;
	assert_true(histogram_quantile(&newer, &older, 0.5) < 0);
	/* 100 of 1 to 2.5 ms: the median stands in their middle. */
	for (int n = 0; n < 100; n++)
		histogram_add(&newer, CLOCK_MS(2));
	assert_float_equal(histogram_quantile(&newer, &older, 0.5), 0.00175, 1e-9);
	assert_float_equal(histogram_quantile(&newer, &older, 0.99), 0.002485, 1e-9);
	/* One above all bounds: no bound is invented for it. */
	histogram_add(&newer, CLOCK_S(100000));
	assert_float_equal(histogram_quantile(&newer, &older, 0.9999), 1000, 1e-6);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(each_value_lies_in_the_first_bucket_whose_bound_is_not_below_it),
	    cmocka_unit_test(what_lies_in_the_future_counts_as_nothing),
	    cmocka_unit_test(a_quantile_is_that_of_what_came_since),
	};

	return (cmocka_run_group_tests_name("histogram", tests, NULL, NULL));
}
