#ifndef POSTGRES_POOLER_H
#define POSTGRES_POOLER_H

#include <stdbool.h>

#include "base/clock.h"
#include "postgres/connection.h"

/*
 * Tells a pooler that lends the server's sessions for a transaction from one
 * that gives a session for good.  Behind the first, the lock that makes a leader
 * stays with somebody else's session, and so does LISTEN: nobody may lead there.
 */
struct pooler;

/*
 * What pooler_start found out.  Maybe from inside connection_turn of either
 * connection, so do not close them here.
 */
typedef void pooler_answer(void * context, bool lends);

/**
 * pooler_new(options, answer, context):
 * ${options} are those of the connection that will be judged; copied, their
 * strings are borrowed.  NULL: memory.
 */
struct pooler * pooler_new(const struct connection_options * options, pooler_answer * answer,
    void * context);
void pooler_free(struct pooler * pooler);

/**
 * pooler_start(pooler, connection, now):
 * Judge ${connection}, which is idle and known to lead to another process than
 * it says (connection_backend_pid).  One answer follows, unless pooler_stop is
 * called before.
 */
void pooler_start(struct pooler * pooler, struct connection * connection, clock_ns now);
void pooler_stop(struct pooler * pooler);

/**
 * pooler_connection(pooler), pooler_deadline(pooler), pooler_turn(pooler, now, readable):
 * Its own connection, to be polled, and when to turn; NULL and CLOCK_NEVER
 * while it judges nothing.
 */
struct connection * pooler_connection(const struct pooler * pooler);
clock_ns pooler_deadline(const struct pooler * pooler);
void pooler_turn(struct pooler * pooler, clock_ns now, bool readable);

#endif /* POSTGRES_POOLER_H */
