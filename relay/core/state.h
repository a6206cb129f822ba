#ifndef CORE_STATE_H
#define CORE_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/backoff.h"
#include "core/core.h"
#include "core/keys.h"
#include "core/ready.h"
#include "core/retries.h"
#include "core/rows.h"

/*
 * The state of the core, for core.c (what to do next) and events.c (what has
 * happened) alone.
 */

/*
 * A ticket is the row's sequence number and, below it, how often it had been
 * published, so that an answer from a former connection means nothing.  48
 * bits last for nine years at a million messages a second.
 */
#define TICKET_PUBLICATION_BITS 16

struct core {
	struct core_options options;
	uint32_t in_flight_max;
	uint32_t waiting_max; /* no fetch while more rows wait */
	uint32_t mark_at;     /* resolved rows that are worth a mark */

	struct rows rows;
	struct ready ready;
	struct keys keys; /* strict mode only */
	struct retries retries;
	struct backoff backoff; /* its failures are set for each row */

	bool source_up;
	bool link_up;
	bool blocked;
	bool full;
	bool stopping;
	bool draining;
	bool drained;
	bool fetching;
	bool fetching_new;  /* in an interval that begins with this fetch */
	bool fetching_last; /* if that is empty, the drain is over */
	bool source_empty;  /* the last answer exhausted its interval */
	bool answer_empty;  /* ... which was new and had no rows at all */
	clock_ns lease;
	clock_ns mark_due; /* one interval after the last one began */
	struct core_counts counts;
};

static inline clock_ns
later(clock_ns now, clock_ns delay)
{
	return (delay > CLOCK_NEVER - now ? CLOCK_NEVER : now + delay);
}

static inline void
make_ready(struct core * core, uint32_t place)
{
	rows_at(&core->rows, place)->state = ROW_READY;
	ready_add(&core->ready, place);
}

static inline bool
mark_under_way(const struct core * core)
{
	return (core->rows.marking > core->rows.recorded);
}

/* Rows resolved that no mark covers, were one possible now. */
static inline uint64_t
unmarked(const struct core * core)
{
	if (!core->source_up || mark_under_way(core))
		return (0);
	return (core->rows.resolved - core->rows.recorded);
}

static inline uint64_t
held(const struct core * core)
{
	return (core->rows.fetched - core->rows.recorded);
}

#endif /* CORE_STATE_H */
