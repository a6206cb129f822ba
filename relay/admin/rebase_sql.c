/*
 * What must stay true:
 *
 * L: a row counts as sent only if the recorded position says so and the row
 * came with that position.  A row that was written here since may bear an xid
 * that the old snapshots call finished.  It is known by an id above the
 * greatest one recorded; and, should the sequence have been set back, by its
 * xmin: Postgres notes on the row itself who wrote it, which is the xid that
 * the row bears or a subtransaction of it, and no older than whoever put the
 * mark here.  A row that was restored has the xmin of the restore.  In doubt a
 * row is published.
 */
#include "admin/rebase_sql.h"

#include "postgres/moves.h"

/* clang-format off */

/* One row, even if there is no mark: the newest, and how long ago, in xids, it was put here. */
#define MARK_SQL \
	"CROSS JOIN (SELECT s.*, greatest(s.max_id, s.last_id, s.floor_id) AS reach, " \
	"pg_snapshot_xmax(pg_current_snapshot()) AS xmax FROM (SELECT) one LEFT JOIN " \
	"(SELECT s.*, age(s.xmin) AS written FROM outbox.sent s ORDER BY s.seq DESC LIMIT 1) s " \
	"ON true OFFSET 0) n "

/* Whether row m was written in this very database since mark n came here: 32 bits are compared. */
#define SINCE_SQL \
	"(m.xid < n.xmax AND age(m.xmin) <= age(m.xid::xid) " \
	"AND age(m.xid::xid) <= coalesce(n.written, 2147483647) " \
	"AND m.xid::text::bigint > n.xmax::text::bigint - 2147483648)"

#define PENDING_SQL \
	"((NOT coalesce(pg_visible_in_snapshot(m.xid, n.prev) " \
	"OR (m.id <= n.last_id AND pg_visible_in_snapshot(m.xid, n.target)), false) " \
	"OR m.id > n.reach OR " SINCE_SQL ") " \
	"AND NOT EXISTS (SELECT FROM outbox.delayed o WHERE o.id = m.id AND o.message_id = m.message_id) " \
	"AND NOT EXISTS (SELECT FROM outbox.dead o WHERE o.id = m.id AND o.message_id = m.message_id))"

/* The sequence was set back: m has an id that was given to another message, or should have been. */
#define BACK_SQL \
	"(" SINCE_SQL " AND (m.id <= n.reach " \
	"OR EXISTS (SELECT FROM outbox.message o WHERE o.id = m.id AND o.slot <> m.slot) " \
	"OR EXISTS (SELECT FROM outbox.delayed o WHERE o.id = m.id AND o.message_id <> m.message_id) " \
	"OR EXISTS (SELECT FROM outbox.dead o WHERE o.id = m.id AND o.message_id <> m.message_id)))"

const char rebase_rights_sql[] =
    "SELECT pg_has_role(c.relowner, 'USAGE'), pg_get_userbyid(c.relowner), current_user::text "
    "FROM pg_class c WHERE c.oid = 'outbox.message'::regclass";

const char rebase_leader_sql[] =
    "SELECT l.pid, coalesce(nullif(a.application_name, ''), 'unnamed') "
    "FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid "
    "WHERE l.locktype = 'advisory' AND l.granted "
    "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "AND l.classid = 'outbox.message'::regclass::oid AND l.objid = 4294967295 AND l.objsubid = 2";

/* Who keeps the lock from us: prepared transactions have no pid. */
const char rebase_holders_sql[] =
    "SELECT string_agg(DISTINCT coalesce('pid ' || l.pid || coalesce(' (' || "
    "nullif(a.application_name, '') || ')', ''), 'a prepared transaction'), ', ') "
    "FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid "
    "WHERE l.granted AND l.pid IS DISTINCT FROM pg_backend_pid() "
    "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "AND (l.relation IN ('outbox.message'::regclass, 'outbox.sent'::regclass) "
    "OR l.relation IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'outbox.message'::regclass))";

const char rebase_lock_sql[] =
    "LOCK TABLE outbox.message IN ACCESS EXCLUSIVE MODE; "
    "LOCK TABLE outbox.sent IN SHARE ROW EXCLUSIVE MODE";

const char rebase_count_sql[] =
    "SELECT q.kept, q.pending, CASE WHEN q.back > 0 THEN q.since ELSE 0 END, q.kept - q.pending - "
    "(SELECT count(*) FROM (SELECT id, message_id FROM outbox.delayed "
    "UNION ALL SELECT id, message_id FROM outbox.dead) o WHERE EXISTS ("
    "SELECT FROM outbox.message m WHERE m.id = o.id AND m.message_id = o.message_id)), "
    "(SELECT count(*) FROM outbox.delayed), (SELECT count(*) FROM outbox.dead), "
    "(SELECT coalesce(max(seq), 0) FROM outbox.sent) FROM ("
    "SELECT count(*) AS kept, count(*) FILTER (WHERE r.pending) AS pending, "
    "count(*) FILTER (WHERE r.pending AND r.since) AS since, "
    "count(*) FILTER (WHERE r.pending AND r.back) AS back FROM ("
    "SELECT " PENDING_SQL " AS pending, " SINCE_SQL " AS since, " BACK_SQL " AS back "
    "FROM outbox.message m " MARK_SQL ") r) q";

/* No id that anybody bears is given out again. */
const char rebase_sequence_sql[] =
    "SELECT setval('outbox.message_id_seq', g.id) FROM outbox.message_id_seq s, "
    "(SELECT greatest((SELECT max(id) FROM outbox.message), (SELECT max(id) FROM outbox.delayed), "
    "(SELECT max(id) FROM outbox.dead), (SELECT max(max_id) FROM outbox.sent)) AS id) g "
    "WHERE g.id > s.last_value OR (g.id = s.last_value AND NOT s.is_called)";

/*
 * In the order written: a column that is always generated takes DEFAULT alone.
 * What waits for its key may then be the first of it.
 */
const char rebase_renumber_sql[] =
    "DO $do$ DECLARE r record; keys text[]; BEGIN "
    "FOR r IN SELECT m.id, m.slot FROM outbox.message m " MARK_SQL
    "WHERE " SINCE_SQL " AND " PENDING_SQL " ORDER BY m.id, m.xid LOOP "
    "UPDATE outbox.message SET id = DEFAULT WHERE id = r.id AND slot = r.slot; END LOOP; "
    "WITH moved AS (UPDATE outbox.delayed d SET id = nextval('outbox.message_id_seq') "
    "WHERE EXISTS (SELECT FROM outbox.message o WHERE o.id = d.id AND o.message_id <> d.message_id) "
    "OR EXISTS (SELECT FROM outbox.dead o WHERE o.id = d.id AND o.message_id <> d.message_id) "
    "RETURNING d.ordering_key) "
    "SELECT array_agg(DISTINCT m.ordering_key) INTO keys FROM moved m WHERE m.ordering_key IS NOT NULL; "
    "PERFORM outbox.release_keys(keys, NULL, '{}'); "
    "END $do$";

#define BURY_SQL \
	"INSERT INTO outbox.dead (" MOVES_COLUMNS_SQL ", deliver_at, attempts, last_error, reason, " \
	"discarded_at, history) SELECT " MOVES_COLUMNS_SQL ", "

#define REASON_SQL "'discarded: migrate rebase --discard-pending by ' || session_user"

#define EVENT_SQL(attempts) \
	"jsonb_build_object('at', now(), 'event', 'dead', 'attempts', " attempts ", " \
	"'reason', " REASON_SQL ")"

/* Whatever is dead is not pending any more. */
const char rebase_discard_pending_sql[] =
    BURY_SQL "NULL, 0, NULL, " REASON_SQL ", now(), jsonb_build_array(" EVENT_SQL("0") ") "
    "FROM (SELECT m.* FROM outbox.message m " MARK_SQL "WHERE " PENDING_SQL ") p";

const char rebase_discard_delayed_sql[] =
    "WITH gone AS (DELETE FROM outbox.delayed RETURNING *) "
    BURY_SQL "deliver_at, attempts, last_error, " REASON_SQL ", now(), "
    "CASE WHEN jsonb_array_length(history) >= 20 THEN history - 0 ELSE history END || "
    EVENT_SQL("attempts") " FROM gone";

/* $1 the new prev.  3 is the oldest xid there is; a row that prev covers stays as it is. */
const char rebase_rewrite_sql[] =
    "WITH n AS MATERIALIZED (SELECT n.* FROM (SELECT) this " MARK_SQL ") "
    "UPDATE outbox.message m SET xid = CASE WHEN " PENDING_SQL
    " THEN pg_current_xact_id() ELSE '3' END FROM n "
    "WHERE " PENDING_SQL " OR NOT pg_visible_in_snapshot(m.xid, $1::pg_snapshot)";

/* $1 the new prev.  The fence, as for every mark: seq is the previous one's plus one. */
const char rebase_mark_sql[] =
    "INSERT INTO outbox.sent (seq, prev, last_id, floor_id, max_id, messages, system_identifier, "
    "database_oid, table_oid) SELECT coalesce(n.seq, 0) + 1, $1::pg_snapshot, 0, c.id, "
    "greatest(c.id, n.max_id), 0, (SELECT system_identifier FROM pg_control_system()), d.oid, "
    "'outbox.message'::regclass::oid FROM pg_database d " MARK_SQL
    "CROSS JOIN (SELECT coalesce(max(m.id), 0) AS id FROM outbox.message m "
    "WHERE pg_visible_in_snapshot(m.xid, $1::pg_snapshot)) c WHERE d.datname = current_database()";

const char rebase_forget_sql[] =
    "DELETE FROM outbox.sent WHERE seq < (SELECT max(seq) FROM outbox.sent)";

/* $1 why, $2 who, $3 where, $4 discarded, $5 ... the counts. */
const char rebase_operation_sql[] =
    "INSERT INTO outbox.operation (operation, details, messages) SELECT 'rebase', jsonb_build_object("
    "'why', $1::text, 'user', $2::text, 'host', $3::text, 'discard_pending', $4::boolean, "
    "'kept', $5::bigint, 'pending', $6::bigint, 'renumbered', $7::bigint, 'sent', $8::bigint, "
    "'delayed', $9::bigint, 'dead', $10::bigint, 'rewritten', $11::bigint), $6::bigint";

/* clang-format on */

/*
 * Rows that were rewritten leave entries in the index, with xids that would be
 * read as new ones again and again.  Where somebody is at work it stays undone.
 */
const char rebase_clean_sql[] = "VACUUM (TRUNCATE OFF, SKIP_LOCKED) outbox.message";
