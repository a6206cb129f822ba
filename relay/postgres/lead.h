#ifndef POSTGRES_LEAD_H
#define POSTGRES_LEAD_H

#include <libpq-fe.h>

#include "base/clock.h"
#include "postgres/connection.h"

/*
 * Who leads: the session that holds an advisory lock leads, as long as it
 * lives and for no longer than its lease.
 *
 * A leader proves itself by a round trip at least every LEAD_HEARTBEAT, and
 * publishes nothing once the last proof is older than LEAD_LEASE.  A standby
 * that sees the holder's session unchanged for LEAD_PATIENCE, which is
 * longer, ends it: no timeout of the server would (a stopped process keeps
 * its socket open).
 */
#define LEAD_HEARTBEAT CLOCK_S(2)
#define LEAD_LEASE CLOCK_S(8)
#define LEAD_PATIENCE_SQL "interval '10 s'"

/* How often a standby tries, before jitter of half of it: what a rolling restart waits for. */
#define LEAD_RETRY CLOCK_MS(500)

/* Answers with one row: whether the lock is ours now. */
extern const char lead_try_sql[];

/*
 * Ends the holder's session if it is stuck.  A row for each holder: its pid,
 * whether it was ended, whether its state may be seen.
 */
extern const char lead_end_stuck_sql[];

#endif /* POSTGRES_LEAD_H */
