#ifndef POSTGRES_FLUSH_H
#define POSTGRES_FLUSH_H

#include <stdbool.h>

#include "base/clock.h"
#include "postgres/connection.h"

/*
 * postgres.wait_for_flush: rows of a producer with synchronous_commit = off
 * are visible before they are on disk.  What was read is held back until the
 * server has flushed all that it had written when it was read, so that a
 * crash cannot take back what was published (P).
 */
struct flush;

struct flush * flush_new(void);
void flush_free(struct flush * flush);

/**
 * flush_begin(flush, connection, now):
 * Rows were read: note how far the log reaches now.
 */
void flush_begin(struct flush * flush, struct connection * connection, clock_ns now);

/**
 * flush_turn(flush, connection, now):
 * Whether all that was written at flush_begin is on disk; asks again when it
 * is time to.
 */
bool flush_turn(struct flush * flush, struct connection * connection, clock_ns now);

clock_ns flush_deadline(const struct flush * flush);

#endif /* POSTGRES_FLUSH_H */
