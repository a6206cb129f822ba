/*
 * What must stay true:
 *
 * The target is taken in the statement that reads its first rows and frozen
 * until the interval is exhausted; that statement has no xid of its own.
 *
 * An interval is small when at most PROBE - 1 rows lie in the range of xids
 * that it may span.  Then its ids are sorted outside of any index.  A large
 * one pages the primary key, between two bounds: the floor, the greatest id
 * visible in prev (a fresh row took its xid after prev, and its id after its
 * xid, so its id is greater), and the ceiling, the greatest id visible when
 * the target was taken.  Without the floor every kept row would be read
 * again; without the ceiling, every newer one.  The floor assumes that the
 * sequence never went back.  A human can make it go back, so a large interval
 * first asks the index, which is cheap, whether a fresh row lies below it.
 *
 * Stragglers, rows of transactions that were in progress in prev, come from
 * the index on (xid, id) by their xids and are merged in by id.  They may lie
 * anywhere below, so they never move the bounds.
 *
 * A new interval is expected to be tiny if the last one was: most are, at a
 * trickle, where every moment counts.  That reading begins at the oldest
 * transaction that has ended since prev, so it is of no use where one was open
 * for long.
 */
#include "postgres/cursor.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "postgres/cursor_sql.h"
#include "postgres/rows.h"
#include "postgres/sql.h"
#include "postgres/wire.h"

/* As a multiple of the rows asked for: when an interval counts as large. */
#define PROBE_FACTOR 4

/* Most rows of a tiny interval, and most xids that one may span. */
#define TINY_MAX 100

/* After one that was not tiny, so many must have been before that is tried again. */
#define TINY_PATIENCE 32

struct interval {
	uint64_t number;
	char * prev;
	char * target;
	int64_t floor_id;
	int64_t max_id; /* greatest id visible in target, so far */
	struct interval * next;
};

struct cursor {
	cursor_fetched * fetched;
	void * context;
	char * sql[CURSOR_STATEMENTS];
	struct interval * first; /* oldest that may still be recorded */
	struct interval * last;
	uint64_t number; /* of the newest interval */
	char * prev;     /* while no interval is open */
	int64_t floor_id;
	unsigned int patience;  /* intervals until the next one may be expected to be tiny */
	struct interval * open; /* == last, or NULL */
	int64_t last_id;        /* taken of the open interval */
	bool large;
	int64_t page_floor;
	int64_t ceiling;
	/* The fetch that is under way. */
	struct connection * connection;
	clock_ns now;
	uint32_t rows;
	size_t bytes;
};

static void
interval_free(struct interval * interval)
{
	free(interval->prev);
	free(interval->target);
	free(interval);
}

struct cursor *
cursor_new(const char * schema, cursor_fetched * fetched, void * context)
{
	struct cursor * cursor;

	if ((cursor = calloc(1, sizeof(*cursor))) == NULL)
		return (NULL);
	cursor->fetched = fetched;
	cursor->context = context;
	for (size_t i = 0; i < CURSOR_STATEMENTS; i++) {
		if ((cursor->sql[i] = sql_in_schema(cursor_statements[i].sql, schema)) == NULL) {
			cursor_free(cursor);
			return (NULL);
		}
	}
	return (cursor);
}

void
cursor_free(struct cursor * cursor)
{
	if (cursor == NULL)
		return;
	cursor_forget(cursor, UINT64_MAX);
	for (size_t i = 0; i < CURSOR_STATEMENTS; i++)
		free(cursor->sql[i]);
	free(cursor->prev);
	free(cursor);
}

static void
cursor_fail(struct cursor * cursor, const struct error * e)
{
	cursor->fetched(cursor->context, NULL, cursor->number, false, e);
}

/* Told here, what is wrong is not hidden by "no such statement". */
static void
cursor_answer_prepared(void * context, PGresult ** result, const struct error * e)
{
	(void)result;
	if (e != NULL)
		cursor_fail(context, e);
}

void
cursor_prepare(struct cursor * cursor, struct connection * connection, clock_ns now)
{
	for (size_t i = 0; i < CURSOR_STATEMENTS; i++)
		connection_prepare(connection, now, cursor_statements[i].name, cursor->sql[i],
		    cursor_answer_prepared, cursor);
}

void
cursor_forget(struct cursor * cursor, uint64_t number)
{
	while (cursor->first != NULL && cursor->first->number < number) {
		struct interval * next = cursor->first->next;

		if (cursor->open == cursor->first)
			cursor->open = NULL;
		interval_free(cursor->first);
		cursor->first = next;
	}
	if (cursor->first == NULL)
		cursor->last = NULL;
}

/* Open an interval from where the cursor stands to ${target}. */
static int
cursor_open(struct cursor * cursor, const char * target)
{
	struct interval * interval;

	if ((interval = calloc(1, sizeof(*interval))) == NULL)
		return (-1);
	interval->prev = strdup(cursor->prev);
	interval->target = strdup(target);
	if (interval->prev == NULL || interval->target == NULL) {
		interval_free(interval);
		return (-1);
	}
	interval->number = ++cursor->number;
	interval->floor_id = cursor->floor_id;
	interval->max_id = cursor->floor_id;
	if (cursor->last != NULL)
		cursor->last->next = interval;
	else
		cursor->first = interval;
	cursor->last = cursor->open = interval;
	cursor->last_id = 0;
	cursor->large = false;
	return (0);
}

/* The open interval is exhausted: its target is the next one's prev. */
static int
cursor_close(struct cursor * cursor)
{
	char * prev;

	if ((prev = strdup(cursor->open->target)) == NULL)
		return (-1);
	free(cursor->prev);
	cursor->prev = prev;
	cursor->floor_id = cursor->open->max_id;
	cursor->open = NULL;
	return (0);
}

int
cursor_load(struct cursor * cursor, const struct cursor_position * position)
{
	char * prev;

	if ((prev = strdup(position->prev)) == NULL)
		return (-1);
	cursor_forget(cursor, UINT64_MAX);
	free(cursor->prev);
	cursor->prev = prev;
	cursor->floor_id = position->floor_id;
	if (position->target == NULL)
		return (0);
	if (cursor_open(cursor, position->target))
		return (-1);
	cursor->last_id = position->last_id;
	if (position->last_id > cursor->open->max_id)
		cursor->open->max_id = position->last_id;
	return (0);
}

static void
cursor_fail_memory(struct cursor * cursor)
{
	struct error e;

	error_set(&e, EXIT_BUG, "out of memory");
	cursor_fail(cursor, &e);
}

/* Hand over what was read of the open interval. */
static void
cursor_deliver(struct cursor * cursor, PGresult ** result, int column)
{
	struct error e;
	struct batch * batch;
	int64_t bytes;
	bool exhausted;

	batch = rows_to_batch(result, column, &bytes, &e);
	if (batch == NULL && e.text[0] != '\0') {
		cursor_fail(cursor, &e);
		return;
	}
	exhausted = batch == NULL ||
	    (batch->count < cursor->rows && (uint64_t)bytes < cursor->bytes);
	if (batch != NULL) {
		cursor->last_id = batch->messages[batch->count - 1]->id;
		if (cursor->last_id > cursor->open->max_id)
			cursor->open->max_id = cursor->last_id;
	}
	if (exhausted && cursor_close(cursor))
		cursor_fail_memory(cursor);
	else
		cursor->fetched(cursor->context, batch, cursor->number, exhausted, NULL);
	batch_unref(batch);
}

static void
cursor_answer_large(void * context, PGresult ** result, const struct error * e)
{
	struct cursor * cursor = context;

	if (e != NULL)
		cursor_fail(cursor, e);
	else
		cursor_deliver(cursor, result, 0);
}

static void
cursor_send_large(struct cursor * cursor)
{
	char numbers[5][24];
	const char * parameters[] = {cursor->open->prev, cursor->open->target, numbers[0],
	    numbers[1], numbers[2], numbers[3], numbers[4]};

	snprintf(numbers[0], sizeof(numbers[0]), "%" PRId64, cursor->last_id);
	snprintf(numbers[1], sizeof(numbers[1]), "%" PRIu32, cursor->rows);
	snprintf(numbers[2], sizeof(numbers[2]), "%zu", cursor->bytes);
	snprintf(numbers[3], sizeof(numbers[3]), "%" PRId64, cursor->page_floor);
	snprintf(numbers[4], sizeof(numbers[4]), "%" PRId64, cursor->ceiling);
	connection_send_prepared(cursor->connection, cursor->now, "large", 7, parameters,
	    cursor_answer_large, cursor);
}

static void
cursor_answer_below(void * context, PGresult ** result, const struct error * e)
{
	struct cursor * cursor = context;

	if (e != NULL) {
		cursor_fail(cursor, e);
		return;
	}
	if (wire_bool(*result, 0, 0))
		cursor->page_floor = 0;
	cursor_send_large(cursor);
}

/* The interval turned out to be large: find its bounds, then read. */
static void
cursor_begin_large(struct cursor * cursor, const PGresult * result)
{
	char floor_id[24];
	const char * parameters[] = {cursor->open->prev, cursor->open->target, floor_id};

	cursor->large = true;
	cursor->page_floor = cursor->open->floor_id;
	cursor->ceiling = PQgetisnull(result, 0, SMALL_CEILING) ?
	    0 :
	    wire_int64(result, 0, SMALL_CEILING);
	snprintf(floor_id, sizeof(floor_id), "%" PRId64, cursor->page_floor);
	connection_send_prepared(cursor->connection, cursor->now, "below", 3, parameters,
	    cursor_answer_below, cursor);
}

/* Nothing lies between prev and target: an interval that need not be opened. */
static void
cursor_step_over(struct cursor * cursor, const char * target)
{
	char * prev = strdup(target);

	if (prev == NULL) {
		cursor_fail_memory(cursor);
		return;
	}
	free(cursor->prev);
	cursor->prev = prev;
	cursor->fetched(cursor->context, NULL, cursor->number, true, NULL);
}

static void
cursor_answer_small(void * context, PGresult ** result, const struct error * e)
{
	struct cursor * cursor = context;
	bool large;

	if (e != NULL) {
		cursor_fail(cursor, e);
		return;
	}
	large = wire_bool(*result, 0, SMALL_LARGE);
	if (cursor->open == NULL) {
		if (cursor->patience > 0)
			cursor->patience--;
		if (!large && PQgetisnull(*result, 0, SMALL_ROWS)) {
			cursor_step_over(cursor, PQgetvalue(*result, 0, SMALL_TARGET));
			return;
		}
		if (cursor_open(cursor, PQgetvalue(*result, 0, SMALL_TARGET))) {
			cursor_fail_memory(cursor);
			return;
		}
	}
	if (large)
		cursor_begin_large(cursor, *result);
	else
		cursor_deliver(cursor, result, SMALL_ROWS);
}

static void
cursor_send_small(struct cursor * cursor)
{
	char numbers[4][24];
	const char * parameters[] = {cursor->prev, NULL, numbers[0], numbers[1], numbers[2],
	    numbers[3]};

	if (cursor->open != NULL) {
		parameters[0] = cursor->open->prev;
		parameters[1] = cursor->open->target;
	}
	snprintf(numbers[0], sizeof(numbers[0]), "%" PRId64,
	    cursor->open == NULL ? 0 : cursor->last_id);
	snprintf(numbers[1], sizeof(numbers[1]), "%" PRIu32, cursor->rows);
	snprintf(numbers[2], sizeof(numbers[2]), "%zu", cursor->bytes);
	snprintf(numbers[3], sizeof(numbers[3]), "%" PRIu32, cursor->rows * PROBE_FACTOR + 1);
	connection_send_prepared(cursor->connection, cursor->now, "small", 6, parameters,
	    cursor_answer_small, cursor);
}

static void
cursor_answer_tiny(void * context, PGresult ** result, const struct error * e)
{
	struct cursor * cursor = context;
	bool fits;

	if (e != NULL) {
		cursor_fail(cursor, e);
		return;
	}
	fits = wire_bool(*result, 0, TINY_FITS);
	if (fits && PQgetisnull(*result, 0, TINY_ROWS)) {
		cursor_step_over(cursor, PQgetvalue(*result, 0, TINY_TARGET));
		return;
	}
	if (cursor_open(cursor, PQgetvalue(*result, 0, TINY_TARGET))) {
		cursor_fail_memory(cursor);
		return;
	}
	if (fits) {
		cursor_deliver(cursor, result, TINY_ROWS);
		return;
	}
	cursor->patience = TINY_PATIENCE;
	cursor_send_small(cursor);
}

static void
cursor_send_tiny(struct cursor * cursor)
{
	char numbers[2][24];
	const char * parameters[] = {cursor->prev, numbers[0], numbers[1]};
	uint32_t rows = cursor->rows < TINY_MAX ? cursor->rows : TINY_MAX;

	snprintf(numbers[0], sizeof(numbers[0]), "%" PRIu32, rows + 1);
	snprintf(numbers[1], sizeof(numbers[1]), "%zu", cursor->bytes);
	connection_send_prepared(cursor->connection, cursor->now, "tiny", 3, parameters,
	    cursor_answer_tiny, cursor);
}

/* Whether hardly any transaction of those that prev knows of was open. */
static bool
cursor_is_compact(const struct cursor * cursor)
{
	char * end;
	uint64_t xmin = strtoull(cursor->prev, &end, 10);
	uint64_t xmax = *end == ':' ? strtoull(end + 1, NULL, 10) : UINT64_MAX;

	return (xmax - xmin <= TINY_MAX);
}

void
cursor_fetch(struct cursor * cursor, struct connection * connection, clock_ns now, uint32_t rows,
    size_t bytes)
{
	cursor->connection = connection;
	cursor->now = now;
	cursor->rows = rows;
	cursor->bytes = bytes;
	if (cursor->open != NULL && cursor->large)
		cursor_send_large(cursor);
	else if (cursor->open == NULL && cursor->patience == 0 && cursor_is_compact(cursor))
		cursor_send_tiny(cursor);
	else
		cursor_send_small(cursor);
}

void
cursor_position(const struct cursor * cursor, uint64_t number, int64_t last_id, bool exhausted,
    struct cursor_position * position)
{
	const struct interval * interval = cursor->first;

	while (interval->number != number)
		interval = interval->next;
	if (exhausted)
		*position = (struct cursor_position){.prev = interval->target,
		    .floor_id = interval->max_id};
	else
		*position = (struct cursor_position){.prev = interval->prev,
		    .target = interval->target,
		    .last_id = last_id,
		    .floor_id = interval->floor_id};
}
