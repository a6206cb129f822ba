#ifndef CORE_RETRIES_H
#define CORE_RETRIES_H

#include <stdint.h>

#include "base/clock.h"

/*
 * Rows that the broker refused, by the time of their next try.
 */
struct retries {
	struct retry {
		clock_ns due;
		uint32_t place; /* in the ring */
	} * heap;
	uint32_t count;
	uint32_t max;
};

/**
 * retries_init(retries, max):
 * Room for ${max}.  -1: out of memory.
 */
int retries_init(struct retries * retries, uint32_t max);

/**
 * retries_free(retries):
 * Also on a zeroed one.
 */
void retries_free(struct retries * retries);

static inline void
retries_clear(struct retries * retries)
{
	retries->count = 0;
}

/**
 * retries_due(retries):
 * When the next one is due; CLOCK_NEVER if there is none.
 */
static inline clock_ns
retries_due(const struct retries * retries)
{
	return (retries->count == 0 ? CLOCK_NEVER : retries->heap[0].due);
}

void retries_add(struct retries * retries, uint32_t place, clock_ns due);

/**
 * retries_take(retries):
 * Remove the one that is due first and return its place.  There must be one.
 */
uint32_t retries_take(struct retries * retries);

#endif /* CORE_RETRIES_H */
