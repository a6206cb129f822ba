#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

/*
 * Time for deadlines: nanoseconds since an arbitrary start, never going back,
 * counting on while the process is stopped or the machine sleeps
 * (CLOCK_BOOTTIME; a lease must run out during a suspend).  Modules are told
 * the time; only the loop asks for it, so that tests bring their own.
 */
typedef int64_t clock_ns;

#define CLOCK_NEVER INT64_MAX
#define CLOCK_US(n) ((clock_ns)(n)*1000)
#define CLOCK_MS(n) ((clock_ns)(n)*1000000)
#define CLOCK_S(n) ((clock_ns)(n)*1000000000)

/**
 * clock_now():
 * The present time.  Cannot fail on Linux.
 */
clock_ns clock_now(void);

/**
 * clock_min(a, b):
 * The earlier of two deadlines.
 */
static inline clock_ns
clock_min(clock_ns a, clock_ns b)
{
	return (a < b ? a : b);
}

#endif /* BASE_CLOCK_H */
