#ifndef CORE_ROWS_H
#define CORE_ROWS_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/core.h"
#include "core/message.h"

/*
 * The rows between the recorded and the fetched position, in the source's
 * order, in a ring.  A row has a sequence number, never used twice, and a
 * place: where it lies in the ring while it is held.
 */

enum row_state {
	ROW_WAITING,   /* for the rows of its key before it */
	ROW_READY,     /* may be published */
	ROW_IN_FLIGHT, /* published, not settled */
	ROW_REFUSED,   /* waits for its next try; its key waits with it */
	ROW_RESOLVED   /* confirmed; its message is given back */
};

#define ROW_NONE UINT32_MAX

struct row {
	const struct message * message; /* NULL once resolved */
	int64_t id;
	uint64_t interval;
	uint32_t size;         /* counted against max_bytes */
	uint32_t next;         /* place of its key's next row, or ROW_NONE */
	uint32_t publications; /* so far; once is enough to count in the window */
	uint8_t failures;      /* refusals so far; stays at 255 */
	uint8_t state;         /* enum row_state */
	bool ends_interval;    /* no row of its interval comes after it */
};

struct rows {
	struct row * ring;
	uint64_t mask; /* places - 1 */
	/* Sequence numbers, each the first one that is not (yet): */
	uint64_t recorded;
	uint64_t marking; /* covered by the mark under way; else = recorded */
	uint64_t resolved;
	uint64_t fetched;
	int64_t recorded_max_id; /* greatest id covered by a committed mark */
	int64_t marking_max_id;  /* ... or by the one under way */
	int64_t resolved_max_id; /* ... or else in the run of resolved rows */
	uint32_t unresolved;
	size_t bytes; /* of unresolved rows */
};

/**
 * rows_init(rows, max):
 * Room for ${max} rows.  -1: out of memory, or beyond 2^31.
 */
int rows_init(struct rows * rows, uint64_t max);

/**
 * rows_free(rows):
 * Gives back the messages held.  Also on a zeroed one.
 */
void rows_free(struct rows * rows);

static inline uint32_t
rows_place(const struct rows * rows, uint64_t sequence)
{
	return ((uint32_t)(sequence & rows->mask));
}

static inline struct row *
rows_at(const struct rows * rows, uint32_t place)
{
	return (&rows->ring[place]);
}

/**
 * rows_sequence(rows, place):
 * The sequence number of the row held at ${place}.
 */
static inline uint64_t
rows_sequence(const struct rows * rows, uint32_t place)
{
	return (rows->recorded + ((place - rows->recorded) & rows->mask));
}

/**
 * rows_add(rows, message, interval):
 * Hold one row more, with a reference on its batch.  There must be room.
 * Returns its place.
 */
uint32_t rows_add(struct rows * rows, const struct message * message, uint64_t interval);

/**
 * rows_end_interval(rows, interval):
 * ${interval} has no rows beyond those held.
 */
void rows_end_interval(struct rows * rows, uint64_t interval);

/**
 * rows_resolve(rows, row):
 * Give back the row's message; the resolved run grows as far as it can.
 */
void rows_resolve(struct rows * rows, struct row * row);

/**
 * rows_mark(rows, action):
 * Begin a mark over the whole resolved run (not empty) and describe it.
 */
void rows_mark(struct rows * rows, struct core_action * action);

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
