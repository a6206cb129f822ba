#include "base/histogram.h"

/*
 * What must stay true: histogram_octaves[n] is the first bucket whose bound is
 * not below 2^n, and each bound is at least twice the one before, so a value
 * of that octave lies in it or in the next one.
 */
const uint64_t histogram_bounds[HISTOGRAM_BUCKETS] = {100000, 250000, 500000, 1000000, 2500000,
    5000000, 10000000, 25000000, 50000000, 100000000, 250000000, 500000000, 1000000000, 2500000000,
    5000000000, 10000000000, 25000000000, 50000000000, 100000000000, 250000000000, 500000000000,
    1000000000000, INT64_MAX};

const uint8_t histogram_octaves[64] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3,
    4, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 22, 22, 22, 22, 22,
    22, 22, 22, 22, 22, 22, 22, 22, 22, 22, 22, 22, 22, 22, 22, 22, 22, 22};

uint64_t
histogram_total(const struct histogram * h)
{
	uint64_t total = 0;

	for (int i = 0; i < HISTOGRAM_BUCKETS; i++)
		total += h->counts[i];
	return (total);
}

double
histogram_quantile(const struct histogram * newer, const struct histogram * older, double q)
{
	double rank = q * (double)(histogram_total(newer) - histogram_total(older));
	double below = 0, lower, upper;
	int i = 0;

	if (rank <= 0)
		return (-1);
	for (;; i++) {
		double count = (double)(newer->counts[i] - older->counts[i]);

		if (i == HISTOGRAM_BOUNDS || below + count >= rank)
			break;
		below += count;
	}
	lower = i == 0 ? 0 : (double)histogram_bounds[i - 1];
	upper = i == HISTOGRAM_BOUNDS ? lower : (double)histogram_bounds[i];
	if (upper > lower)
		lower += (upper - lower) * (rank - below) /
		    (double)(newer->counts[i] - older->counts[i]);
	return (lower / (double)CLOCK_S(1));
}
