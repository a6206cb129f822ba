#ifndef POSTGRES_HELD_H
#define POSTGRES_HELD_H

#include <stdbool.h>

#include "base/clock.h"
#include "base/error.h"
#include "core/message.h"
#include "postgres/connection.h"

/*
 * Which messages of a batch have a key that is held: by an earlier one that
 * waits in outbox.delayed, or by a dead one.  No list of keys is kept here;
 * each batch is looked up by index, and that only while there is reason to
 * believe that anything is held at all.
 *
 * The look sees every mark that was sent before it, and its answer comes
 * before that of any mark sent later.
 */
struct held;

/* ${e}: NULL unless the look failed. */
typedef void held_looked(void * context, const struct error * e);

struct held * held_new(const char * schema, held_looked * looked, void * context);
void held_free(struct held * held);

/**
 * held_start(held, connection, now):
 * On a new connection: something may be held.
 */
void held_start(struct held * held, struct connection * connection, clock_ns now);

/**
 * held_expect(held):
 * Something is held from now on, or will be by a mark that is being sent.
 */
void held_expect(struct held * held);

/**
 * held_look(held, connection, now, batch):
 * Set message->held in ${batch}, which must live until the answer.  Whether
 * there is anything to ask: then looked follows, unless the session is lost.
 */
bool held_look(struct held * held, struct connection * connection, clock_ns now,
    struct batch * batch);

#endif /* POSTGRES_HELD_H */
