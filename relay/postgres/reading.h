#ifndef POSTGRES_READING_H
#define POSTGRES_READING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/error.h"
#include "core/message.h"
#include "postgres/connection.h"
#include "postgres/cursor.h"
#include "postgres/held.h"
#include "postgres/wake.h"

/*
 * One fetch on its way: when to read (wake), what comes next (cursor), whether
 * it is on disk (flush, if asked for), which of it is held (held).  One at a
 * time.
 */
struct reading;

struct reading_options {
	const char * schema;
	bool wait_for_flush;
	bool strict;        /* look up which keys are held */
	struct wake * wake; /* borrowed */
};

/* The answer to reading_fetch.  ${e}: NULL unless it failed. */
typedef void reading_answered(void * context, struct batch * batch, uint64_t interval,
    bool exhausted, const struct error * e);

/**
 * reading_new(options, answered, context):
 * NULL when out of memory.
 */
struct reading * reading_new(const struct reading_options * options, reading_answered * answered,
    void * context);
void reading_free(struct reading * reading);

/**
 * reading_start(reading, connection, now, position):
 * On a new connection, at ${position}.  -1 when out of memory.
 */
int reading_start(struct reading * reading, struct connection * connection, clock_ns now,
    const struct cursor_position * position);

/**
 * reading_stop(reading):
 * The connection is lost; what was asked for is forgotten.
 */
void reading_stop(struct reading * reading);

/**
 * reading_fetch(reading, now, rows, bytes, wait):
 * As source_fetch.
 */
void reading_fetch(struct reading * reading, clock_ns now, uint32_t rows, size_t bytes, bool wait);

void reading_turn(struct reading * reading, clock_ns now);
clock_ns reading_deadline(const struct reading * reading);

/**
 * reading_in_bulk(reading):
 * The read that is under way was preceded by one that left rows behind: it is
 * the rate that counts.
 */
bool reading_in_bulk(const struct reading * reading);

/**
 * reading_cursor(reading), reading_held(reading):
 * Its parts, for whoever records.
 */
struct cursor * reading_cursor(struct reading * reading);
struct held * reading_held(struct reading * reading);

#endif /* POSTGRES_READING_H */
