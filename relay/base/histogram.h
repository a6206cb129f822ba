#ifndef BASE_HISTOGRAM_H
#define BASE_HISTOGRAM_H

#include <stdint.h>

#include "base/clock.h"

/*
 * How long things took, as counts in fixed buckets: those of Prometheus, from
 * 0.1 ms to 1,000 s in steps of 1, 2.5, 5.  Zero-initialise it.
 *
 * Counting is done once a message, so it costs a few nanoseconds: bounds lie
 * at least a factor of 2 apart, so the highest bit of a value leaves two
 * buckets to choose from.
 */
#define HISTOGRAM_BOUNDS 22
#define HISTOGRAM_BUCKETS (HISTOGRAM_BOUNDS + 1)

struct histogram {
	uint64_t counts[HISTOGRAM_BUCKETS]; /* up to the bound; the last: above all */
	uint64_t sum_ns;
};

/* Greatest value of each bucket, in nanoseconds; of the last one INT64_MAX. */
extern const uint64_t histogram_bounds[HISTOGRAM_BUCKETS];

/* The lower of the two buckets for values of 2^n to 2^(n+1) - 1. */
extern const uint8_t histogram_octaves[64];

/**
 * histogram_add(h, duration):
 * Count one.  A negative one (clocks that differ) counts as 0.
 */
static inline void
histogram_add(struct histogram * h, clock_ns duration)
{
	uint64_t ns = duration < 0 ? 0 : (uint64_t)duration;
	unsigned int bucket = histogram_octaves[63 - __builtin_clzll(ns | 1)];

	h->counts[bucket + (ns > histogram_bounds[bucket])]++;
	h->sum_ns += ns;
}

/**
 * histogram_total(h):
 * How many were counted.
 */
uint64_t histogram_total(const struct histogram * h);

/**
 * histogram_quantile(newer, older, q):
 * The q-quantile in seconds (0 < q < 1) of what ${newer} counts beyond
 * ${older}, even within a bucket; -1 if that is nothing.
 */
double histogram_quantile(const struct histogram * newer, const struct histogram * older, double q);

#endif /* BASE_HISTOGRAM_H */
