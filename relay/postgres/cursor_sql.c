/*
 * The plans must not depend on statistics: the session switches off the node
 * types that would tempt the planner, and tests assert the plans.
 */
#include "postgres/cursor_sql.h"

#include "postgres/rows.h"

/* Beside the columns of the table, to which the application may add its own. */
#define SIZE ROWS_SIZE_NAME
#define BEFORE "outbox_relay_before"

/* clang-format off */

/*
 * The rows of transactions that were in progress in prev ($1).  With m.xid =
 * x.xid the primary key would give the same order, and the planner would walk
 * all kept rows of a table in which few transactions wrote many.  Those that are
 * still in progress in target are left out before: one may have written a million
 * rows, which the index has already.
 */
#define STRAGGLERS_SQL(columns, target, last_id, rows) \
	"SELECT s.* FROM unnest(ARRAY(SELECT x FROM pg_snapshot_xip($1::pg_snapshot) AS x " \
	"WHERE pg_visible_in_snapshot(x, " target "))) AS x(xid), " \
	"LATERAL (SELECT " columns " FROM outbox.message m " \
	"WHERE (m.xid, m.id) > (x.xid, " last_id ") AND m.xid <= x.xid " \
	"ORDER BY m.xid, m.id LIMIT " rows ") s "

/*
 * $1 prev, $2 rows, $3 bytes: a new interval that is expected to be tiny, in a
 * fraction of the time that the one below takes.  From the first xid that prev
 * did not know of as done and that is done now, whatever prev does not see is what
 * is asked for.
 * Fewer than $2 rows lie there, seen ones too, and less than $3 bytes: then all
 * of them come; else the target alone.
 */
static const char tiny_sql[] =
    "WITH probe AS MATERIALIZED (SELECT m.*, " ROWS_SIZE_SQL " AS " SIZE " "
    "FROM outbox.message m WHERE m.xid >= (SELECT least(pg_snapshot_xmax($1::pg_snapshot), "
    "(SELECT x FROM pg_snapshot_xip($1::pg_snapshot) AS x "
    "WHERE pg_visible_in_snapshot(x, pg_current_snapshot()) ORDER BY x LIMIT 1))) "
    "AND m.xid < pg_snapshot_xmax(pg_current_snapshot()) "
    "ORDER BY m.xid, m.id LIMIT $2::int), "
    "fits AS MATERIALIZED (SELECT count(*) < $2::int "
    "AND coalesce(sum(" SIZE "), 0) < $3::bigint AS yes FROM probe) "
    "SELECT pg_current_snapshot()::text, f.yes, " ROWS_COLUMNS_SQL
    " FROM fits f LEFT JOIN probe r ON f.yes "
    "AND pg_visible_in_snapshot(r.xid, pg_current_snapshot()) "
    "AND NOT pg_visible_in_snapshot(r.xid, $1::pg_snapshot) ORDER BY r.id";

/*
 * $1 prev, $2 target or NULL, $3 last_id, $4 rows, $5 bytes, $6 probe.
 * Always answers with a row, for the target; a large interval has no others,
 * but the ceiling.  Rows are looked up by xid, too, so that either index finds
 * one, and OFFSET 0 keeps that inside of the loop over picked: a plan that was
 * made while a slot was empty is kept, and might read all of it otherwise.
 */
static const char small_sql[] =
    "WITH now AS MATERIALIZED ("
    "SELECT coalesce($2::pg_snapshot, pg_current_snapshot()) AS target), "
    "probe AS MATERIALIZED ("
    "SELECT m.xid, m.id, m.slot FROM outbox.message m "
    "WHERE m.xid >= pg_snapshot_xmax($1::pg_snapshot) "
    "AND m.xid < (SELECT pg_snapshot_xmax(target) FROM now) "
    "ORDER BY m.xid, m.id LIMIT $6::int), "
    "size AS MATERIALIZED (SELECT count(*) >= $6::int AS large FROM probe), "
    "picked AS MATERIALIZED (SELECT u.xid, u.id, u.slot FROM ("
    STRAGGLERS_SQL("m.xid, m.id, m.slot", "(SELECT target FROM now)", "$3::bigint", "$4::int")
    "WHERE NOT (SELECT large FROM size) "
    "UNION ALL "
    "SELECT p.xid, p.id, p.slot FROM probe p WHERE NOT (SELECT large FROM size) "
    "AND p.id > $3::bigint AND pg_visible_in_snapshot(p.xid, (SELECT target FROM now))"
    ") u ORDER BY u.id LIMIT $4::int), "
    "sized AS (SELECT m.*, s.size AS " SIZE ", "
    "sum(s.size) OVER (ORDER BY m.id ROWS UNBOUNDED PRECEDING) - s.size AS " BEFORE " "
    "FROM picked p, LATERAL (SELECT * FROM outbox.message m "
    "WHERE m.xid = p.xid AND m.id = p.id AND m.slot = p.slot OFFSET 0) m, "
    "LATERAL (SELECT " ROWS_SIZE_SQL " AS size) s) "
    "SELECT n.target::text, z.large, "
    "CASE WHEN z.large THEN (SELECT max(id) FROM outbox.message) END, "
    ROWS_COLUMNS_SQL
    " FROM now n CROSS JOIN size z "
    "LEFT JOIN sized r ON r." BEFORE " < $5::bigint ORDER BY r.id";

/*
 * $1 prev, $2 target, $3 last_id, $4 rows, $5 bytes, $6 floor, $7 ceiling.
 * IS TRUE keeps the condition on xid out of the index's reach: without
 * statistics the planner would read the whole interval by (xid, id) and sort.
 * Stragglers that fill the page end it: one transaction may have written a
 * million of them, and to find the next fresh row each page would walk over all
 * that are left.
 */
static const char large_sql[] =
    "WITH late AS MATERIALIZED ("
    STRAGGLERS_SQL("m.*", "$2::pg_snapshot", "$3::bigint", "$4::int")
    "ORDER BY s.id LIMIT $4::int), "
    "until AS MATERIALIZED (SELECT CASE WHEN count(*) < $4::int THEN $7::bigint "
    "ELSE least(max(id), $7::bigint) END AS id FROM late) "
    "SELECT " ROWS_COLUMNS_SQL " FROM (SELECT u.*, "
    "sum(u." SIZE ") OVER (ORDER BY u.id ROWS UNBOUNDED PRECEDING) - u." SIZE " AS " BEFORE " "
    "FROM (SELECT m.*, " ROWS_SIZE_SQL " AS " SIZE " FROM ("
    "(SELECT * FROM late) "
    "UNION ALL "
    "(SELECT m.* FROM outbox.message m "
    "WHERE m.id > greatest($3::bigint, $6::bigint) AND m.id <= (SELECT id FROM until) "
    "AND (m.xid >= pg_snapshot_xmax($1::pg_snapshot)) IS TRUE "
    "AND pg_visible_in_snapshot(m.xid, $2::pg_snapshot) "
    "ORDER BY m.id LIMIT $4::int)"
    ") m ORDER BY m.id LIMIT $4::int) u) r "
    "WHERE r." BEFORE " < $5::bigint ORDER BY r.id";

/*
 * $1 prev, $2 target, $3 floor: whether a fresh row lies at or below the floor.
 * The order leaves the planner no other index than the one on (xid, id).
 */
static const char below_sql[] =
    "SELECT (SELECT true FROM outbox.message m "
    "WHERE m.xid >= pg_snapshot_xmax($1::pg_snapshot) "
    "AND m.xid < pg_snapshot_xmax($2::pg_snapshot) AND m.id <= $3::bigint "
    "ORDER BY m.xid, m.id LIMIT 1) IS NOT NULL";

/* clang-format on */

const struct cursor_statement cursor_statements[CURSOR_STATEMENTS] = {
    [CURSOR_TINY] = {"tiny", tiny_sql},
    [CURSOR_SMALL] = {"small", small_sql},
    [CURSOR_LARGE] = {"large", large_sql},
    [CURSOR_BELOW] = {"below", below_sql}};
