/*
 * A fetch goes through these states, of which it skips those it does not need:
 *
 *   WAITING   until the wake module says when to read
 *   READING   the cursor's statement is under way
 *   FLUSHING  what was read is not on disk yet
 *   LOOKING   for held keys; last, so that no mark comes between its answer
 *             and ours
 *
 * An empty read is no answer to a fetch that may wait, unless the wake module
 * says that something else may have been written than what is read here.
 */
#include "postgres/reading.h"

#include <stdlib.h>

#include "postgres/flush.h"

enum state { IDLE, WAITING, READING, FLUSHING, LOOKING };

struct reading {
	bool strict;
	struct wake * wake;
	reading_answered * answered;
	void * context;
	struct connection * connection;
	struct cursor * cursor;
	struct held * held;
	struct flush * flush; /* NULL unless wait_for_flush */
	enum state state;
	clock_ns now; /* of this turn, for answers */
	bool may_wait;
	uint32_t rows;
	size_t bytes;
	bool more; /* the last fetch left rows behind */
	/* FLUSHING, LOOKING */
	struct batch * batch;
	uint64_t interval;
	bool exhausted;
};

static void reading_on_fetched(void * context, struct batch * batch, uint64_t interval,
    bool exhausted, const struct error * e);
static void reading_on_looked(void * context, const struct error * e);

struct reading *
reading_new(const struct reading_options * options, reading_answered * answered, void * context)
{
	struct reading * reading;

	if ((reading = calloc(1, sizeof(*reading))) == NULL)
		return (NULL);
	reading->strict = options->strict;
	reading->wake = options->wake;
	reading->answered = answered;
	reading->context = context;
	reading->cursor = cursor_new(options->schema, reading_on_fetched, reading);
	reading->held = held_new(options->schema, reading_on_looked, reading);
	if (options->wait_for_flush)
		reading->flush = flush_new();
	if (reading->cursor == NULL || reading->held == NULL ||
	    (options->wait_for_flush && reading->flush == NULL)) {
		reading_free(reading);
		return (NULL);
	}
	return (reading);
}

void
reading_free(struct reading * reading)
{
	if (reading == NULL)
		return;
	batch_unref(reading->batch);
	flush_free(reading->flush);
	held_free(reading->held);
	cursor_free(reading->cursor);
	free(reading);
}

int
reading_start(struct reading * reading, struct connection * connection, clock_ns now,
    const struct cursor_position * position)
{
	reading->connection = connection;
	reading->now = now;
	if (cursor_load(reading->cursor, position))
		return (-1);
	cursor_prepare(reading->cursor, connection, now);
	held_start(reading->held, connection, now);
	return (0);
}

void
reading_stop(struct reading * reading)
{
	reading->state = IDLE;
	reading->more = false;
	batch_unref(reading->batch);
	reading->batch = NULL;
}

static void
reading_fail(struct reading * reading, const struct error * e)
{
	reading->answered(reading->context, NULL, 0, false, e);
}

static void
reading_answer(struct reading * reading)
{
	struct batch * batch = reading->batch;

	reading->state = IDLE;
	reading->batch = NULL;
	reading->answered(reading->context, batch, reading->interval, reading->exhausted, NULL);
	batch_unref(batch);
}

static void
reading_on_looked(void * context, const struct error * e)
{
	struct reading * reading = context;

	if (e != NULL)
		reading_fail(reading, e);
	else
		reading_answer(reading);
}

static void
reading_look(struct reading * reading)
{
	reading->state = LOOKING;
	if (reading->batch == NULL || !reading->strict ||
	    !held_look(reading->held, reading->connection, reading->now, reading->batch))
		reading_answer(reading);
}

static void
reading_on_fetched(void * context, struct batch * batch, uint64_t interval, bool exhausted,
    const struct error * e)
{
	struct reading * reading = context;
	bool found = batch != NULL || !exhausted;
	bool tell = false;

	if (e != NULL) {
		reading_fail(reading, e);
		return;
	}
	reading->more = !exhausted;
	if (found || reading->may_wait)
		tell = wake_read_found(reading->wake, reading->now, found);
	if (!found && reading->may_wait && !tell) {
		reading->state = WAITING;
		return;
	}
	if (batch != NULL)
		batch_ref(batch);
	reading->batch = batch;
	reading->interval = interval;
	reading->exhausted = exhausted;
	if (reading->flush == NULL || batch == NULL) {
		reading_look(reading);
		return;
	}
	reading->state = FLUSHING;
	flush_begin(reading->flush, reading->connection, reading->now);
}

static void
reading_read(struct reading * reading)
{
	reading->state = READING;
	cursor_fetch(reading->cursor, reading->connection, reading->now, reading->rows,
	    reading->bytes);
}

void
reading_fetch(struct reading * reading, clock_ns now, uint32_t rows, size_t bytes, bool wait)
{
	reading->now = now;
	reading->rows = rows;
	reading->bytes = bytes;
	reading->may_wait = wait;
	if (wait)
		reading->state = WAITING;
	else
		reading_read(reading);
}

void
reading_turn(struct reading * reading, clock_ns now)
{
	reading->now = now;
	if (reading->state == WAITING && wake_advise(reading->wake, now) == WAKE_READ)
		reading_read(reading);
	if (reading->state == FLUSHING && flush_turn(reading->flush, reading->connection, now))
		reading_look(reading);
}

clock_ns
reading_deadline(const struct reading * reading)
{
	if (reading->state == WAITING)
		return (wake_deadline(reading->wake));
	if (reading->state == FLUSHING)
		return (flush_deadline(reading->flush));
	return (CLOCK_NEVER);
}

bool
reading_in_bulk(const struct reading * reading)
{
	return (reading->state == READING && reading->more);
}

struct cursor *
reading_cursor(struct reading * reading)
{
	return (reading->cursor);
}

struct held *
reading_held(struct reading * reading)
{
	return (reading->held);
}
