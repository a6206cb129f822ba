#ifndef SIMULATION_WORLD_H
#define SIMULATION_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "core/core.h"

/*
 * A fake world around one core, made from a seed: a database with writers
 * that commit late or roll back, a broker with one connection, and a clock.
 * Everything that the real ones may do to the relay happens here by dice.
 */

#define WORLD_ROWS 240
#define WORLD_KEYS 6
#define WORLD_INTERVALS 4096

/* What happened; each must happen in a run, or the run proves nothing. */
/* clang-format off */
#define WORLD_EVENTS(X) \
	X(committed) X(committed_out_of_order) X(rolled_back) X(fetched_rows) X(fetched_in_part) \
	X(fetched_empty) X(fetched_big_row) X(fetched_exhausted_later) X(reread_after_restart) \
	X(recorded) X(recorded_exhausted) X(mark_lost) X(mark_kept_unanswered) X(published) \
	X(republished) X(not_taken) X(unfit) X(window_full) X(acked) X(acked_out_of_order) \
	X(acked_multiple) X(nacked) X(nacked_but_delivered) X(returned) X(acked_stale) \
	X(acked_by_former_link) X(link_lost_idle) X(link_lost_all_taken) X(link_lost_none_taken) \
	X(link_lost_some_taken) X(link_blocked) X(source_lost_idle) X(source_lost_in_flight) \
	X(lease_ran_out) X(crashed) X(stopped_midway) X(drained) X(stopped)
/* clang-format on */

enum world_event {
#define X(name) EVENT_##name,
	WORLD_EVENTS(X)
#undef X
	    EVENT_COUNT
};

struct world_row { /* its id is its index + 1 */
	uint64_t key;
	uint32_t size;
	uint32_t commit; /* how many had committed with it; 0: not yet */
	bool rolled_back;
	uint8_t unfit; /* so many attempts more */
	uint32_t deliveries;
	bool confirmed;
	/* Since the source came up: */
	bool handed;     /* to the core */
	bool out;        /* published, not recorded */
	bool settled;    /* confirmed to this core */
	bool refused;    /* its next try is the core's affair */
	uint64_t ticket; /* unsettled; 0: none */
};

struct world_position {
	uint32_t prev; /* snapshots: how many had committed */
	uint32_t target;
	int64_t last_id;
	bool open;
};

struct world {
	uint64_t seed, random;
	bool verbose;
	uint64_t events[EVENT_COUNT];

	struct core * core;
	struct core_options options;
	clock_ns now, lease;
	bool stopping, finished;
	bool quiet;    /* faults are over */
	bool refusals; /* this history's broker refuses some */
	uint32_t deaths, delivered_nacks;

	/* The database */
	struct world_row rows[WORLD_ROWS];
	uint32_t row_count, row_max, commits;
	struct world_position recorded;
	struct world_position intervals[WORLD_INTERVALS];
	struct world_position cursor; /* of the source's session */
	uint64_t interval;
	bool source_up;
	bool fetching, fetch_waits;
	uint32_t fetch_rows;
	size_t fetch_bytes;
	bool marking, mark_committed;
	struct world_position mark;
	int64_t max_id; /* greatest one ever covered */
	uint32_t covered;
	int batches;

	/* The broker's side of the connection, in the order sent */
	bool link_up, blocked, full;
	struct publication {
		uint32_t row;
		uint64_t ticket;
		enum { SENT, TAKEN, NACKED, RETURNED } state;
	} queue[4 * WORLD_ROWS];
	uint32_t queue_count;
	struct publication former; /* lost with its link; ticket 0: none */
};

/* ---- dice ---- */

uint64_t world_random(struct world * w);

static inline uint32_t
below(struct world * w, uint32_t n)
{
	return ((uint32_t)(world_random(w) % n));
}

/* True once in n times. */
static inline bool
one_in(struct world * w, uint32_t n)
{
	return (below(w, n) == 0);
}

/* ---- the world's report ---- */

void world_say(struct world * w, const char * format, ...) __attribute__((format(printf, 2, 3)));

/**
 * world_broken(w, promise, format, ...):
 * A promise is broken: print how, and how to see it again; exit 1.
 */
_Noreturn void world_broken(struct world * w, const char * promise, const char * format, ...)
    __attribute__((format(printf, 3, 4)));

static inline void
happened(struct world * w, enum world_event event)
{
	w->events[event]++;
}

/* ---- database.c ---- */

void database_write(struct world * w);
void database_end_transaction(struct world * w, uint32_t row, bool commit);
void database_end_some_transaction(struct world * w);
void database_fetch(struct world * w, const struct core_action * action);
void database_record(struct world * w, const struct core_action * action);
/* The answers; each does nothing if nothing was asked. */
void database_answer_fetch(struct world * w);
void database_answer_record(struct world * w);
void database_up(struct world * w);
void database_lost(struct world * w);
bool database_covers(const struct world_position * position, const struct world * w, uint32_t row);

/* ---- broker.c ---- */

void broker_publish(struct world * w, const struct core_action * action);
void broker_process(struct world * w);
void broker_settle(struct world * w);
void broker_up(struct world * w);
void broker_lost(struct world * w);

/* ---- promises.c ---- */

void promise_at_publish(struct world * w, const struct core_action * action);
void promise_at_delivery(struct world * w, uint32_t row);
void promise_at_mark(struct world * w, const struct world_position * mark,
    const struct core_action * action);
/* The core wants nothing: is there nothing to do? */
void promise_at_rest(struct world * w);
void promise_at_end(struct world * w);

#endif /* SIMULATION_WORLD_H */
