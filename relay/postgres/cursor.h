#ifndef POSTGRES_CURSOR_H
#define POSTGRES_CURSOR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/error.h"
#include "core/message.h"
#include "postgres/connection.h"

/*
 * The snapshot cursor: reads each committed row of outbox.message exactly
 * once, without writing anything a row.
 *
 * It walks from snapshot to snapshot.  An interval (prev, target) holds the
 * rows that are visible in target and not in prev; they are read in id order;
 * when none is left, target becomes prev.  A row that commits late is not
 * visible in target, so it waits for a later interval: no id is ever skipped
 * (L), and nothing waits for the oldest open transaction.
 */
struct cursor;

/* Where a cursor stands, as outbox.sent keeps it.  Strings are borrowed. */
struct cursor_position {
	const char * prev;   /* pg_snapshot */
	const char * target; /* pg_snapshot, NULL: no interval open */
	int64_t last_id;     /* of the open interval, taken up to here */
	int64_t floor_id;    /* greatest id visible in prev */
};

/* From the beginning. */
#define CURSOR_START ((struct cursor_position){.prev = "1:1:"})

/* ${e}: NULL unless the fetch failed; then nothing has moved. */
typedef void cursor_fetched(void * context, struct batch * batch, uint64_t interval, bool exhausted,
    const struct error * e);

/**
 * cursor_new(schema, fetched, context):
 * NULL when out of memory.
 */
struct cursor * cursor_new(const char * schema, cursor_fetched * fetched, void * context);
void cursor_free(struct cursor * cursor);

/**
 * cursor_prepare(cursor, connection, now):
 * Prepare the statements on a new connection; cursor_fetch may follow at
 * once.
 */
void cursor_prepare(struct cursor * cursor, struct connection * connection, clock_ns now);

/**
 * cursor_load(cursor, position):
 * Stand at ${position}; intervals go on being numbered from where they were.
 * -1 when out of memory.
 */
int cursor_load(struct cursor * cursor, const struct cursor_position * position);

/**
 * cursor_fetch(cursor, connection, now, rows, bytes):
 * Read on: at most ${rows}, stopping after the row that passes ${bytes}.
 * fetched follows once, unless the session is lost.
 */
void cursor_fetch(struct cursor * cursor, struct connection * connection, clock_ns now,
    uint32_t rows, size_t bytes);

/**
 * cursor_position(cursor, interval, last_id, exhausted, position):
 * What to record when ${interval} is done up to ${last_id}, or as a whole.
 * The strings live until cursor_forget or cursor_load.
 */
void cursor_position(const struct cursor * cursor, uint64_t interval, int64_t last_id,
    bool exhausted, struct cursor_position * position);

/**
 * cursor_forget(cursor, interval):
 * Intervals before ${interval} will not be asked for any more.
 */
void cursor_forget(struct cursor * cursor, uint64_t interval);

#endif /* POSTGRES_CURSOR_H */
