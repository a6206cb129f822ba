#include "base/backoff.h"

#include <assert.h>

/*
 * The ceiling is multiplied up step by step and stops at max, so no power can
 * overflow however long a peer stays away.  The jitter spreads relays that
 * lost the same server over half of the delay.
 */

/* Marsaglia's xorshift64: any state but 0 runs through all states but 0. */
static uint64_t
next_random(struct backoff * b)
{
	uint64_t x = b->random;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	b->random = x;
	return (x);
}

void
backoff_init(struct backoff * b, clock_ns initial, double multiplier, clock_ns max, uint64_t seed)
{
	assert(initial > 0 && max > 0 && multiplier >= 1);
	*b = (struct backoff){
	    .initial = initial,
	    .max = max,
	    .multiplier = multiplier,
	    /* Seeds are often small numbers: spread them over all bits. */
	    .random = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15),
	};
	if (b->random == 0)
		b->random = 1;
	for (int i = 0; i < 4; i++)
		next_random(b);
}

clock_ns
backoff_next(struct backoff * b)
{
	double ceiling = (double)b->initial;
	double share = (double)(next_random(b) >> 11) / 9007199254740992.0; /* [0, 1) */

	for (unsigned int n = 0; n < b->failures && ceiling < (double)b->max; n++) {
		if (b->multiplier <= 1)
			break;
		ceiling *= b->multiplier;
	}
	if (ceiling > (double)b->max)
		ceiling = (double)b->max;
	if (b->failures < UINT32_MAX)
		b->failures++;
	return ((clock_ns)(ceiling * (0.5 + share / 2)));
}

void
backoff_reset(struct backoff * b)
{
	b->failures = 0;
}
