#ifndef BASE_BACKOFF_H
#define BASE_BACKOFF_H

#include <stdint.h>

#include "base/clock.h"

/*
 * Exponential backoff with jitter: the n-th delay is drawn evenly from the
 * upper half of [0, initial * multiplier^n], never above max.  The caller
 * seeds the jitter, so a test replays the same delays.
 */
struct backoff {
	clock_ns initial;
	clock_ns max;
	double multiplier;     /* at least 1 */
	unsigned int failures; /* since the last success */
	uint64_t random;       /* state of the jitter; never 0 */
};

/**
 * backoff_init(b, initial, multiplier, max, seed):
 * Start afresh.
 */
void backoff_init(struct backoff * b, clock_ns initial, double multiplier, clock_ns max,
    uint64_t seed);

/**
 * backoff_next(b):
 * Count a failure and return how long to wait before the next try.
 */
clock_ns backoff_next(struct backoff * b);

/**
 * backoff_reset(b):
 * It worked: the next failure waits for ${initial} again.
 */
void backoff_reset(struct backoff * b);

#endif /* BASE_BACKOFF_H */
