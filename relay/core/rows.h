#ifndef CORE_ROWS_H
#define CORE_ROWS_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/core.h"
#include "core/message.h"
#include "core/text.h"

/*
 * All rows that the core holds, each at a place.  Fresh ones lie in a ring: the
 * rows between the recorded and the fetched position, in the source's order;
 * a row's sequence number is never used twice.  Delayed ones lie in a pool
 * behind the ring's places, in no order.
 *
 * A row that is put aside has given its message back; what is left is a move
 * for a mark to make.  Delivered rows of the pool leave it by a move, too.
 */

enum row_state {
	ROW_FREE,      /* no row: a place of the pool, or forgotten */
	ROW_WAITING,   /* for the rows of its key before it */
	ROW_READY,     /* may be published */
	ROW_IN_FLIGHT, /* published, not settled */
	ROW_RESOLVED,  /* confirmed */
	ROW_ASIDE      /* its move waits for a mark */
};

#define ROW_NONE UINT32_MAX
#define ROW_FATE_NONE UINT8_MAX

struct row {
	union {
		const struct message * message; /* until resolved or aside */
		struct text * reason;           /* aside; may be NULL */
	};
	uint64_t key; /* 0: none, or order is not kept */
	int64_t id;
	union {
		uint64_t interval; /* in the ring */
		uint16_t from;     /* in the pool: the lane it was found in, or LANE_NONE */
	};
	union {
		clock_ns waited; /* ready: in flight for so long, in vain */
		clock_ns since;  /* in flight: published then, less that */
		clock_ns due;    /* aside, FATE_RETRY */
	};
	union {
		uint32_t serial;   /* in flight: of its publication */
		uint32_t attempts; /* aside */
	};
	uint32_t next;          /* place of its key's next row, or ROW_NONE */
	uint32_t newer;         /* in flight, or aside: the next such row ... */
	uint32_t older;         /* ... and the one before; aside: among its key's */
	uint16_t lane;          /* aside: the one it is to wait in, or LANE_NONE */
	uint8_t state;          /* enum row_state */
	uint8_t fate;           /* aside: where its move puts it; in the pool before
	                            that: where the database has it */
	uint8_t link;           /* that carries it: enum core_link */
	uint8_t publications;   /* so far; stays at 255 */
	bool probes : 1;        /* its lane */
	bool suspected : 1;     /* goes by suspects, or behind one that does */
	bool ends_interval : 1; /* no row of its interval comes after it */
};

/* There is one for each place, ever: much of the memory of the process. */
static_assert(sizeof(struct row) <= 64, "struct row has grown");

/* A list through row.newer, oldest first. */
struct row_list {
	uint32_t first, last; /* ROW_NONE when empty */
	uint32_t count;
};

struct rows {
	struct row * row;
	uint32_t ring;   /* places of it */
	uint32_t places; /* of ring and pool */

	/* The ring: sequence numbers, each the first one that is not (yet): */
	uint64_t recorded;
	uint32_t recorded_place;
	uint64_t marking; /* covered by the mark under way; else = recorded */
	uint64_t resolved;
	uint64_t fetched;
	int64_t recorded_max_id; /* greatest id covered by a committed mark */
	int64_t marking_max_id;  /* ... or by the one under way */
	int64_t resolved_max_id; /* ... or else in the run of resolved rows */
	uint32_t unresolved;
	uint32_t in_flight;
	size_t bytes;          /* of unresolved rows */
	struct row_list moves; /* rows put aside of the resolved run */

	struct pool {
		uint32_t max;
		uint32_t count; /* taken places */
		uint32_t free;  /* a list through row.next */
		size_t bytes;   /* of rows not aside */
		struct row_list moves;
	} pool;
};

/**
 * rows_init(rows, max, pool_max):
 * Room for ${max} fresh and ${pool_max} delayed rows.  -1: out of memory, or
 * beyond 2^31.
 */
int rows_init(struct rows * rows, uint64_t max, uint32_t pool_max);

/**
 * rows_free(rows):
 * Gives back what is held.  Also on a zeroed one.
 */
void rows_free(struct rows * rows);

static inline struct row *
rows_at(const struct rows * rows, uint32_t place)
{
	return (&rows->row[place]);
}

static inline bool
rows_in_pool(const struct rows * rows, uint32_t place)
{
	return (place >= rows->ring);
}

/**
 * rows_place(rows, sequence):
 * Where the row with that sequence number lies, or will: one of those held,
 * or the next one.
 */
static inline uint32_t
rows_place(const struct rows * rows, uint64_t sequence)
{
	uint32_t place = rows->recorded_place + (uint32_t)(sequence - rows->recorded);

	return (place < rows->ring ? place : place - rows->ring);
}

/**
 * rows_sequence(rows, place):
 * The sequence number of the row held at ${place} of the ring.
 */
static inline uint64_t
rows_sequence(const struct rows * rows, uint32_t place)
{
	uint32_t wrapped = place < rows->recorded_place ? rows->ring : 0;

	return (rows->recorded + (place + wrapped - rows->recorded_place));
}

/**
 * rows_room(rows):
 * How many fresh rows more there is room for.
 */
static inline uint64_t
rows_room(const struct rows * rows)
{
	return (rows->ring - (rows->fetched - rows->recorded));
}

/**
 * rows_add(rows, message, interval) / rows_add_delayed(rows, message, fate):
 * Hold one row more, with a reference on its batch: in the ring / in the pool.
 * There must be room.  Returns its place.
 */
uint32_t rows_add(struct rows * rows, const struct message * message, uint64_t interval);
uint32_t rows_add_delayed(struct rows * rows, const struct message * message, uint8_t fate);

/**
 * rows_end_interval(rows, interval):
 * ${interval} has no rows beyond those held.
 */
void rows_end_interval(struct rows * rows, uint64_t interval);

/**
 * rows_resolve(rows, place):
 * The fresh row's message is confirmed: give it back; the resolved run grows
 * as far as it can.
 */
void rows_resolve(struct rows * rows, uint32_t place);

/**
 * rows_put_aside(rows, place, move, reason):
 * Give back the row's message; a mark will make ${move} (fate, attempts, due and lane
 * of it; a reference on ${reason} is taken).  A fresh row counts as resolved.
 */
struct row_move {
	uint8_t fate;
	uint16_t lane;
	uint32_t attempts;
	clock_ns due;
};
void rows_put_aside(struct rows * rows, uint32_t place, const struct row_move * move,
    struct text * reason);

/**
 * rows_release(rows, place):
 * The row leaves the pool.
 */
void rows_release(struct rows * rows, uint32_t place);

/**
 * rows_take_move(list, rows):
 * Remove the oldest of rows->moves or rows->pool.moves and return its place.
 */
uint32_t rows_take_move(struct rows * rows, struct row_list * list);

/**
 * rows_mark(rows, end):
 * Begin a mark over the resolved run up to sequence number ${end}, which may
 * be nothing.
 */
void rows_mark(struct rows * rows, uint64_t end);

/**
 * rows_marked(rows):
 * The mark is committed: let go of its rows.  Returns how many.
 */
uint64_t rows_marked(struct rows * rows);

/**
 * rows_forget(rows):
 * Let go of all rows.  Sequence numbers go on.
 */
void rows_forget(struct rows * rows);

#endif /* CORE_ROWS_H */
