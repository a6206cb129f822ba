#ifndef TORTURE_H
#define TORTURE_H

#include <stdbool.h>

/*
 * A relay, or a program with the client libraries, whose calls fail on demand.  It is linked with --wrap for every
 * function that has a __wrap_ here, so that the calls of its own objects come
 * to us first; what libraries do among themselves is theirs.
 *
 *   OUTBOX_TORTURE=POINT:N        the N-th call of POINT fails
 *   OUTBOX_TORTURE=POINT:N:on     so do all that follow
 *   OUTBOX_TORTURE_COUNT=FILE     how often each point was passed goes there
 *   OUTBOX_TORTURE_SPEED=N        the monotonic clock, and waiting, go N times as fast
 *
 * How a call fails is for its wrapper to say: as it really may.  Where that is
 * in several ways, N picks one.
 */
struct torture_point {
	const char * name;
	unsigned long calls;
	struct torture_point * next; /* of all that were called */
	bool known;
};

/* All allocations are one point, for memory is either there or not. */
extern struct torture_point torture_memory;

/**
 * torture_fails(point):
 * Count a call; whether it has to fail.
 */
bool torture_fails(struct torture_point * point);

/**
 * torture_goes_on():
 * Whether the calls behind the first one fail as well.
 */
bool torture_goes_on(void);

/**
 * torture_way(ways):
 * 0 to ${ways} - 1: the way to fail, the same for the whole run.
 */
unsigned int torture_way(unsigned int ways);

/**
 * torture_speed():
 * How many times as fast the clock goes.
 */
unsigned int torture_speed(void);

/* What the linker made of function ${f}, and what it calls instead. */
#define WRAPPED(f) __typeof__(f) __real_##f, __wrap_##f

/* "TORTURED(f) return (failed);": the wrapper's point, and whether it fails. */
#define TORTURED(f) \
	static struct torture_point point = {.name = #f}; \
	if (torture_fails(&point))

#endif /* TORTURE_H */
