#ifndef CORE_STATE_H
#define CORE_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/backoff.h"
#include "core/core.h"
#include "core/discards.h"
#include "core/keys.h"
#include "core/lanes.h"
#include "core/ready.h"
#include "core/rows.h"

/*
 * The state of the core, and what its parts ask of each other: core.c (what
 * to do next), events.c (what has happened), flight.c (what is published and
 * not settled), order.c (keys), policy.c (what becomes of a message that was
 * not delivered), marks.c and searches.c.
 */

#define HASTE_MAX 2

/* Rows that may be published: for the first time, or not. */
enum { READY_NEW, READY_AGAIN, READY_SETS };

struct core {
	struct core_options options;
	uint32_t window_max;    /* as it was in core_new */
	uint32_t in_flight_max; /* on each link */
	uint32_t ahead_max;     /* of them, on each link */
	uint32_t waiting_max;   /* no fetch while more rows wait */
	uint32_t mark_at;       /* resolved rows that are worth a mark */
	size_t fresh_bytes;     /* most of them in the ring ... */
	size_t pool_bytes;      /* ... and in the pool */

	struct rows rows;
	struct ready ready[CORE_LINKS][READY_SETS];
	struct keys chains; /* of each key, the last row of its chain */
	struct keys held;   /* ... and one of those put aside */
	struct lanes lanes;
	struct discards discards;
	struct backoff backoff; /* its failures are set for each row */

	struct core_peer {
		bool up;
		bool blocked;
		bool full;
		uint32_t in_flight;
		uint32_t oldest, newest; /* in flight, in the order published */
		uint32_t serial;         /* of the last publication */
		uint32_t front;          /* of the newest one answered; if none is in flight,
		                            of the last one */
		struct core_stripe {
			uint32_t in_flight;
			uint32_t passed;    /* in flight and published before this: later ones
			                    were answered since the link is up */
			clock_ns stands;    /* since when none in flight was answered */
		} stripes[MESSAGE_STRIPES]; /* suspects have one channel: the first */
		clock_ns unblocked;
		clock_ns heard;
		clock_ns connected;
	} links[CORE_LINKS];
	uint8_t haste;      /* to find silent queues beside those known: 0 to ... */
	uint32_t limit;     /* most in flight on suspects */
	uint32_t answered;  /* there, since the limit was changed */
	uint32_t pool_turn; /* place after the last one of the pool published */
	bool ring_was_last; /* of ring and pool, to publish */
	char reason[640];   /* of the last reset: two short strings of AMQP, and why */

	bool source_up;
	bool paused; /* everything */
	bool stopping;
	uint64_t stops_at; /* sequence number after the last row published before that */
	bool draining;
	clock_ns lease;

	bool fetching;
	bool fetching_new; /* in an interval that begins with this fetch */
	bool fetching_waits;
	bool source_empty; /* the last answer exhausted its interval */
	bool answer_empty; /* ... which was new and had no rows at all */

	struct {
		bool under_way;
		uint8_t turn; /* of the kinds of search */
		uint8_t what;
		uint8_t lane_state; /* SEARCH_LANE: when it began */
		uint16_t lane;
		clock_ns all_at;              /* when to look for whatever is due, ... */
		clock_ns due_at;              /* ... and for what falls due next */
		clock_ns all_begun, all_took; /* the last look for whatever is due */
		bool missed;                  /* after the next mark look for all */
		int64_t * except;             /* of pool.max */
	} search;

	/* A drain is over when a fetch and a search that began while there was
	 * nothing to do have found nothing. */
	struct {
		bool fetching, searching; /* such ones */
		bool fetched, searched;
	} last;

	struct move * moves; /* of the mark under way */
	uint32_t moves_max;
	bool marking;
	uint32_t marking_fresh, marking_delayed; /* moves */
	clock_ns mark_begun;
	clock_ns mark_due; /* one interval after the last one began */

	struct core_counts counts;
	struct core_latencies latencies;
	clock_ns wall_offset;
};

static inline clock_ns
later(clock_ns now, clock_ns delay)
{
	return (delay > CLOCK_NEVER - now ? CLOCK_NEVER : now + delay);
}

#define TICKET_PLACE UINT32_C(0x7fffffff)

/* It comes again after 2^32 publications: no link owes an answer for so long. */
static inline uint64_t
ticket_of(const struct row * row, uint32_t place)
{
	static_assert(CORE_LINKS == 2, "a link is a bit of a ticket");
	return ((uint64_t)row->serial << 32 | (uint64_t)row->link << 31 | place);
}

static inline struct ready *
ready_set(struct core * core, const struct row * row)
{
	return (&core->ready[row->link][row->publications > 0 ? READY_AGAIN : READY_NEW]);
}

static inline void
make_ready(struct core * core, uint32_t place)
{
	struct row * row = rows_at(&core->rows, place);

	row->state = ROW_READY;
	ready_add(ready_set(core, row), place);
}

static inline bool
is_ready(const struct core * core, enum core_link link)
{
	return (core->ready[link][READY_NEW].count + core->ready[link][READY_AGAIN].count > 0);
}

static inline uint32_t
in_flight(const struct core * core)
{
	return (core->links[CORE_MAIN].in_flight + core->links[CORE_SUSPECTS].in_flight);
}

/* In flight there, and published after the newest one that was answered. */
static inline uint32_t
ahead(const struct core_peer * peer)
{
	return (peer->serial - peer->front);
}

static inline uint64_t
held_rows(const struct core * core)
{
	return (core->rows.fetched - core->rows.recorded);
}

/* Whether there is anything that a mark, were one possible now, would record. */
static inline bool
has_unmarked(const struct core * core)
{
	return (core->source_up && !core->marking &&
	    (core->rows.resolved > core->rows.recorded || core->rows.pool.moves.count > 0));
}

/* Nothing is left to do but what fetches and searches may bring; lanes that stay
 * bad are not waited for, but those of the database are probed once. */
static inline bool
is_quiet(const struct core * core)
{
	const struct lanes * lanes = &core->lanes;

	return (held_rows(core) == 0 && core->rows.pool.count == lanes->probing && !core->marking &&
	    lanes->draining == 0 && lanes->reported == 0);
}

/* Something came: a drain is not over. */
static inline void
disturb(struct core * core)
{
	core->last.fetching = core->last.searching = false;
	core->last.fetched = core->last.searched = false;
}

/* ---- flight.c ---- */

/* The row to publish now, or ROW_NONE. */
uint32_t flight_next(const struct core * core, clock_ns now);
void flight_begin(struct core * core, clock_ns now, uint32_t place, struct core_action * action);
/* The row is in flight no more. */
void flight_end(struct core * core, uint32_t place);
/* The link did not take the row that it was just given; flight_end follows. */
void flight_undo(struct core * core, const struct row * row);
/* The link is down: all that is in flight on it goes again. */
void flight_lost(struct core * core, enum core_link link);
/* ... because of a message: all go again on link next, and have waited so long
 * already. */
void flight_interrupted(struct core * core, clock_ns now, enum core_link link, enum core_link next);
/* ... because of a queue that is silent: what went there alone begins to wait anew. */
void flight_again(struct core * core, clock_ns now, enum core_link link);
/* The broker has answered for the row, which is in flight. */
void flight_answered(struct core * core, clock_ns now, const struct row * row);
/* For how long the row in flight has waited for its confirm, while it might have come. */
clock_ns flight_waited(const struct core * core, clock_ns now, const struct row * row);
/* Its queue alone is to blame if it has waited for long: later ones were answered that
 * took the same channel. */
bool flight_passed(const struct core * core, const struct row * row);
/* When the channel of the oldest row, which stands still, has done so for too long;
 * CLOCK_NEVER if no queue is known to be silent, or the link may be. */
clock_ns flight_stands_until(const struct core * core, enum core_link link);
/* ... or the oldest row in flight on it has waited for too long. */
clock_ns flight_deadline(const struct core * core, enum core_link link);

/* ---- order.c ---- */

/* The row joins its key's chain; the first one is ready. */
void order_join(struct core * core, uint32_t place);
/* The first row of its chain is done: the next one is ready. */
void order_go_on(struct core * core, uint32_t place);
/* The first row of its chain leaves it with all others; returns the second
 * one, and so on through row.next. */
uint32_t order_dissolve(struct core * core, uint32_t place);
/* The row was put aside and holds its key until that is committed. */
void order_hold(struct core * core, uint32_t place);
void order_let_go(struct core * core, uint32_t place);
bool order_is_held(const struct core * core, uint64_t key);
/* Whether the next one of the key would wait for one that goes by suspects. */
bool order_is_suspected(const struct core * core, uint64_t key);
/* Whether an earlier message of the key was put aside and is not committed. */
bool order_is_held_before(const struct core * core, uint64_t key, int64_t id);

/* ---- policy.c ---- */

/* The message is confirmed. */
void policy_delivered(struct core * core, uint32_t place);
/* The broker refused it, or (unfit) no link can carry it. */
void policy_refused(struct core * core, clock_ns now, uint32_t place, bool unfit,
    struct text * reason);
/* An earlier message of its key is put aside. */
void policy_behind(struct core * core, clock_ns now, uint32_t place);
/* If a person wants it not to be sent: it is put aside as discarded.  It must be
 * ready, or in no chain.  False: nobody does. */
bool policy_discard(struct core * core, clock_ns now, uint32_t place);
/* It has to wait in the lane; LANE_NONE: there are too many. */
void policy_wait(struct core * core, clock_ns now, uint32_t place, uint16_t lane,
    struct text * reason);
/* Something made the broker close the channel: by the exchange it named.
 * False if nothing in flight went there. */
bool policy_exchange_closed(struct core * core, clock_ns now, enum core_link link,
    struct bytes exchange, struct text * reason);
/* ... or by who was in flight. */
void policy_isolate(struct core * core, clock_ns now, enum core_link link, struct text * reason);
/* The row leaves the pool: it is moved, or needs no move. */
void policy_leave_pool(struct core * core, uint32_t place);
/* The broker has confirmed, refused or returned it: so far all is well. */
void policy_answered(struct core * core, uint32_t place);
/* The lane of a queue that the row probes, or NULL. */
const struct breaker * policy_silent_lane(const struct core * core, uint32_t place);
/* No confirm came in time. */
void policy_silent(struct core * core, clock_ns now, enum core_link link);

/* ---- marks.c ---- */

bool marks_due(const struct core * core, clock_ns now);
void marks_begin(struct core * core, clock_ns now, struct core_action * action);

/* ---- searches.c ---- */

bool searches_begin(struct core * core, clock_ns now, struct core_action * action);
/* Something may have been scheduled: look soon. */
void searches_hasten(struct core * core, clock_ns now);
clock_ns searches_deadline(const struct core * core);

#endif /* CORE_STATE_H */
