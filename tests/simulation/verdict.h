#ifndef SIMULATION_VERDICT_H
#define SIMULATION_VERDICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "world.h"

/*
 * Histories run in a process of their own, so that one which crashes or hangs
 * is a finding like any other.  What they have to say lies in memory that
 * survives them.
 */
struct verdict {
	uint64_t seed; /* of the history under way */
	uint64_t histories;
	uint64_t events[EVENT_COUNT];
	clock_ns slowest_good, slowest_settled;
	uint64_t slowest_good_seed, slowest_settled_seed;
	char promise[24]; /* broken; "": none */
	char text[200];
};

extern struct verdict * verdict;

/**
 * verdict_init():
 * -1: out of memory.
 */
int verdict_init(void);

/**
 * verdict_run(knobs, histories, until, silent):
 * Run ${histories} (0: any number, up to the time ${until}) from the seed of ${knobs} on, in
 * a child process, up to the first that breaks a promise.  True if all was well.
 */
bool verdict_run(const struct knobs * knobs, uint64_t histories, clock_ns until, bool silent);

/* ---- shrink.c ---- */

/**
 * shrink(knobs):
 * ${knobs} break a promise, as the verdict says.  Make them as small as can be
 * while they break the same one.
 */
void shrink(struct knobs * knobs);

/**
 * shrink_print(knobs):
 * The command line that replays them, and the story.
 */
void shrink_print(const struct knobs * knobs);

#endif /* SIMULATION_VERDICT_H */
