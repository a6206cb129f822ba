#ifndef CORE_READY_H
#define CORE_READY_H

#include <stddef.h>
#include <stdint.h>

/*
 * The places of the ring whose rows may be published now: a set of small
 * numbers that finds its next member in a few steps however sparse it is.
 */
#define READY_LEVELS 6
#define READY_NONE UINT32_MAX

struct ready {
	uint64_t * level[READY_LEVELS];
	uint32_t words[READY_LEVELS];
	unsigned int levels;
	uint32_t count;
};

/**
 * ready_init(ready, places):
 * An empty set of numbers below ${places} (1 to 2^31).  -1: out of memory.
 */
int ready_init(struct ready * ready, uint32_t places);

/**
 * ready_free(ready):
 * Also after ready_init failed, and on a zeroed set.
 */
void ready_free(struct ready * ready);

void ready_clear(struct ready * ready);

/**
 * ready_add(ready, place) / ready_remove(ready, place):
 * ${place} is not / is a member.
 */
void ready_add(struct ready * ready, uint32_t place);
void ready_remove(struct ready * ready, uint32_t place);

/**
 * ready_from(ready, place):
 * The least member that is not below ${place}, or READY_NONE.
 */
uint32_t ready_from(const struct ready * ready, uint32_t place);

#endif /* CORE_READY_H */
