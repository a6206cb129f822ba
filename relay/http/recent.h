#ifndef HTTP_RECENT_H
#define HTTP_RECENT_H

#include <stddef.h>

#include "base/clock.h"
#include "http/stats.h"

/*
 * Rates and quantiles over the last seconds, from totals that only grow.
 * Zero-initialise it.
 */
#define RECENT_SAMPLES 5

struct recent {
	struct recent_sample {
		clock_ns at;
		uint64_t confirmed;
		struct histogram confirm, commit;
	} samples[RECENT_SAMPLES]; /* a second apart, or more */
	size_t count;
	size_t next; /* to be overwritten: the oldest one when all are in use */
};

/**
 * recent_fill(recent, now, stats):
 * Fill in what ${stats} says of the last seconds, from its totals and those
 * of earlier calls.
 */
void recent_fill(struct recent * recent, clock_ns now, struct stats * stats);

#endif /* HTTP_RECENT_H */
