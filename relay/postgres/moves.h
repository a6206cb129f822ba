#ifndef POSTGRES_MOVES_H
#define POSTGRES_MOVES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/clock.h"
#include "core/delayed.h"
#include "postgres/connection.h"

/*
 * What a mark does beside being written: moves messages between
 * outbox.message, outbox.delayed and outbox.dead, all of it in the mark's
 * transaction and behind it, so that a relay that does not lead any more
 * moves nothing.  Bodies are copied inside the server.
 *
 * Kept with each commit: of the rows of outbox.delayed that hold one key,
 * that with the least id does not wait for its key, unless a dead one holds
 * it too.
 */
struct moves;

/* What messages, delayed and dead ones have in common. */
#define MOVES_COLUMNS_SQL \
	"id, message_id, exchange, routing_key, payload, payload_text, payload_json, " \
	"ordering_key, headers, type, app_id, content_type, content_encoding, correlation_id, " \
	"reply_to, expiration, priority, persistent, created_at"

struct moves * moves_new(const char * schema);
void moves_free(struct moves * moves);

/**
 * moves_start(moves, connection):
 * On a new connection.
 */
void moves_start(struct moves * moves, const struct connection * connection);

/**
 * moves_load(moves, list, count):
 * Take what the next moves_send is to do; 0, or -1 when out of memory.
 * Nothing of ${list} is needed afterwards.
 */
int moves_load(struct moves * moves, const struct move * list, size_t count);

/**
 * moves_send(moves, connection, now):
 * What was loaded, between connection_begin and connection_end.
 */
void moves_send(struct moves * moves, struct connection * connection, clock_ns now);

/**
 * moves_hold(list, count):
 * Whether any of it may leave a key held that was not held before.
 */
bool moves_hold(const struct move * list, size_t count);

#endif /* POSTGRES_MOVES_H */
