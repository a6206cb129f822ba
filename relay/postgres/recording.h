#ifndef POSTGRES_RECORDING_H
#define POSTGRES_RECORDING_H

#include "base/clock.h"
#include "base/error.h"
#include "core/delayed.h"
#include "postgres/connection.h"
#include "postgres/cursor.h"
#include "postgres/guard.h"
#include "postgres/held.h"
#include "postgres/source.h"

/*
 * One mark on its way, with its moves: a single transaction, in which the mark
 * comes first.  It is the fence: of two relays that both believe they lead,
 * the second moves nothing.
 *
 * What the server cannot take for now (full disk, lock, right withdrawn) is
 * written again until it does.
 */
struct recording;

/* ${e}: NULL when committed; else the session is of no use any more. */
typedef void recording_answered(void * context, const struct error * e);

struct recording_options {
	const char * schema;
	uint64_t seed;
	struct cursor * cursor; /* borrowed, as is */
	struct held * held;
};

/**
 * recording_new(options, answered, context):
 * NULL when out of memory.
 */
struct recording * recording_new(const struct recording_options * options,
    recording_answered * answered, void * context);
void recording_free(struct recording * recording);

/**
 * recording_start(recording, connection, now, record):
 * On a new connection, after ${record} was read.  -1 when out of memory.
 */
int recording_start(struct recording * recording, struct connection * connection, clock_ns now,
    const struct guard_record * record);

/**
 * recording_stop(recording):
 * The connection is lost; the open mark is forgotten.
 */
void recording_stop(struct recording * recording);

/**
 * recording_write(recording, now, mark):
 * As source_record.
 */
void recording_write(struct recording * recording, clock_ns now, const struct source_mark * mark);

void recording_turn(struct recording * recording, clock_ns now);
clock_ns recording_deadline(const struct recording * recording);

#endif /* POSTGRES_RECORDING_H */
