#ifndef POSTGRES_DELAYED_H
#define POSTGRES_DELAYED_H

#include "base/clock.h"
#include "base/error.h"
#include "core/delayed.h"
#include "postgres/connection.h"

/*
 * The messages in outbox.delayed: looks for those that are due and for those
 * of one lane, each followed by what waits behind it.  What a dead message
 * holds is not found.
 *
 * The table has what the cursor cures for outbox.message: while an old
 * snapshot is held open, deleted rows stay in the way of whoever reads it.  So
 * a look for due rows starts where the last one stopped.
 */
struct delayed;

/* ${e}: NULL unless the look failed; then ${found} is NULL. */
typedef void delayed_found(void * context, const struct found * found, const struct error * e);

struct delayed * delayed_new(const char * schema, delayed_found * found, void * context);
void delayed_free(struct delayed * delayed);

/**
 * delayed_start(delayed, connection, now):
 * On a new connection; the next look starts from the beginning.
 */
void delayed_start(struct delayed * delayed, struct connection * connection, clock_ns now);

/**
 * delayed_search(delayed, connection, now, search):
 * found follows once, unless the session is lost.
 */
void delayed_search(struct delayed * delayed, struct connection * connection, clock_ns now,
    const struct search * search);

#endif /* POSTGRES_DELAYED_H */
