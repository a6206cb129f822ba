#ifndef POSTGRES_PAUSED_H
#define POSTGRES_PAUSED_H

#include "base/clock.h"
#include "base/error.h"
#include "core/delayed.h"
#include "postgres/connection.h"

/*
 * What is paused, and what is not to be sent, as a running relay learns it: asked when it begins to lead,
 * and twice a second from then on.  The table came with migration 4: until it
 * is there nothing is paused.
 */
struct paused;

/* The first answer has come, or another one than the last.  ${e}: NULL unless it failed. */
typedef void paused_changed(void * context, const struct error * e);

/**
 * paused_new(schema, changed, context):
 * NULL when out of memory.
 */
struct paused * paused_new(const char * schema, paused_changed * changed, void * context);
void paused_free(struct paused * paused);

/**
 * paused_start(paused, connection, now):
 * Ask on a new connection; ${changed} follows.
 */
void paused_start(struct paused * paused, struct connection * connection, clock_ns now);

/**
 * paused_turn(paused, now), paused_deadline(paused):
 * Ask again when it is time, while the connection is up.
 */
void paused_turn(struct paused * paused, clock_ns now);
clock_ns paused_deadline(const struct paused * paused);

/**
 * paused_now(paused):
 * The last answer; lives until the next one.
 */
const struct pause * paused_now(const struct paused * paused);

/**
 * paused_discards(paused, count):
 * The orders to discard of the last answer; they live until the next one.
 */
const struct discard * paused_discards(const struct paused * paused, size_t * count);

#endif /* POSTGRES_PAUSED_H */
