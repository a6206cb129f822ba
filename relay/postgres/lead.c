#include "postgres/lead.h"

const char lead_try_sql[] =
    "SELECT pg_try_advisory_lock('outbox.message'::regclass::oid::int4, -1)";

/*
 * A stuck holder is idle, or waits for its client to read.  Both query_start
 * and state_change stand still then; every round trip moves them.
 */
const char lead_end_stuck_sql[] =
    "SELECT a.pid, CASE WHEN (a.state LIKE 'idle%' OR a.wait_event = 'ClientWrite') "
    "AND greatest(a.query_start, a.state_change) < clock_timestamp() - " LEAD_PATIENCE_SQL
    " THEN pg_terminate_backend(a.pid) ELSE false END, a.state IS NOT NULL "
    "FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid "
    "WHERE l.locktype = 'advisory' AND l.granted "
    "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "AND l.classid = 'outbox.message'::regclass::oid AND l.objid = 4294967295 "
    "AND l.objsubid = 2 AND a.pid <> pg_backend_pid()";
