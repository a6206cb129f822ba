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
 *
 * The new prev is read before the transaction has an xid, and before the lock.
 * The lock waits for everybody who has written messages; who writes later is
 * not visible in prev, whether it had an xid then or not.  Of what lies in the
 * table then, pending rows get rebase's own xid, which is beyond prev; all
 * others one that prev covers: their own, or the oldest there is.
 *
 * Marks of the other database would say when the rows here were sent, so they
 * go.  No relay leads meanwhile: rebase holds the leader's lock.
 */
#include "admin/rebase.h"

#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "admin/direct.h"
#include "postgres/guard.h"
#include "postgres/lead.h"
#include "postgres/moves.h"
#include "postgres/sql.h"

#define DATABASE_MAX 64

struct rebase {
	struct rebase_options options;
	PGconn * conn;
	char database[DATABASE_MAX];
	char * prev; /* of the new position; NULL: not begun */
	int64_t seq; /* of the mark that was looked at; 0: none */
};

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

static const char rights_sql[] =
    "SELECT pg_has_role(c.relowner, 'USAGE'), pg_get_userbyid(c.relowner), current_user::text "
    "FROM pg_class c WHERE c.oid = 'outbox.message'::regclass";

static const char leader_sql[] =
    "SELECT l.pid, coalesce(nullif(a.application_name, ''), 'unnamed') "
    "FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid "
    "WHERE l.locktype = 'advisory' AND l.granted "
    "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "AND l.classid = 'outbox.message'::regclass::oid AND l.objid = 4294967295 AND l.objsubid = 2";

/* Who keeps the lock from us: prepared transactions have no pid. */
static const char holders_sql[] =
    "SELECT string_agg(DISTINCT coalesce('pid ' || l.pid || coalesce(' (' || "
    "nullif(a.application_name, '') || ')', ''), 'a prepared transaction'), ', ') "
    "FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid "
    "WHERE l.granted AND l.pid IS DISTINCT FROM pg_backend_pid() "
    "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "AND (l.relation IN ('outbox.message'::regclass, 'outbox.sent'::regclass) "
    "OR l.relation IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'outbox.message'::regclass))";

static const char lock_sql[] =
    "LOCK TABLE outbox.message IN ACCESS EXCLUSIVE MODE; "
    "LOCK TABLE outbox.sent IN SHARE ROW EXCLUSIVE MODE";

static const char count_sql[] =
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
static const char sequence_sql[] =
    "SELECT setval('outbox.message_id_seq', g.id) FROM outbox.message_id_seq s, "
    "(SELECT greatest((SELECT max(id) FROM outbox.message), (SELECT max(id) FROM outbox.delayed), "
    "(SELECT max(id) FROM outbox.dead), (SELECT max(max_id) FROM outbox.sent)) AS id) g "
    "WHERE g.id > s.last_value OR (g.id = s.last_value AND NOT s.is_called)";

/*
 * In the order written: a column that is always generated takes DEFAULT alone.
 * What waits for its key may then be the first of it.
 */
static const char renumber_sql[] =
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
static const char discard_pending_sql[] =
    BURY_SQL "NULL, 0, NULL, " REASON_SQL ", now(), jsonb_build_array(" EVENT_SQL("0") ") "
    "FROM (SELECT m.* FROM outbox.message m " MARK_SQL "WHERE " PENDING_SQL ") p";

static const char discard_delayed_sql[] =
    "WITH gone AS (DELETE FROM outbox.delayed RETURNING *) "
    BURY_SQL "deliver_at, attempts, last_error, " REASON_SQL ", now(), "
    "CASE WHEN jsonb_array_length(history) >= 20 THEN history - 0 ELSE history END || "
    EVENT_SQL("attempts") " FROM gone";

/* $1 the new prev.  3 is the oldest xid there is; a row that prev covers stays as it is. */
static const char rewrite_sql[] =
    "WITH n AS MATERIALIZED (SELECT n.* FROM (SELECT) this " MARK_SQL ") "
    "UPDATE outbox.message m SET xid = CASE WHEN " PENDING_SQL
    " THEN pg_current_xact_id() ELSE '3' END FROM n "
    "WHERE " PENDING_SQL " OR NOT pg_visible_in_snapshot(m.xid, $1::pg_snapshot)";

/* $1 the new prev.  The fence, as for every mark: seq is the previous one's plus one. */
static const char mark_sql[] =
    "INSERT INTO outbox.sent (seq, prev, last_id, floor_id, max_id, messages, system_identifier, "
    "database_oid, table_oid) SELECT coalesce(n.seq, 0) + 1, $1::pg_snapshot, 0, c.id, "
    "greatest(c.id, n.max_id), 0, (SELECT system_identifier FROM pg_control_system()), d.oid, "
    "'outbox.message'::regclass::oid FROM pg_database d " MARK_SQL
    "CROSS JOIN (SELECT coalesce(max(m.id), 0) AS id FROM outbox.message m "
    "WHERE pg_visible_in_snapshot(m.xid, $1::pg_snapshot)) c WHERE d.datname = current_database()";

static const char forget_sql[] =
    "DELETE FROM outbox.sent WHERE seq < (SELECT max(seq) FROM outbox.sent)";

/* $1 why, $2 who, $3 where, $4 discarded, $5 ... the counts. */
static const char operation_sql[] =
    "INSERT INTO outbox.operation (operation, details, messages) SELECT 'rebase', jsonb_build_object("
    "'why', $1::text, 'user', $2::text, 'host', $3::text, 'discard_pending', $4::boolean, "
    "'kept', $5::bigint, 'pending', $6::bigint, 'renumbered', $7::bigint, 'sent', $8::bigint, "
    "'delayed', $9::bigint, 'dead', $10::bigint, 'rewritten', $11::bigint), $6::bigint";

/* clang-format on */

/*
 * Rows that were rewritten leave entries in the index, with xids that would be
 * read as new ones again and again.  Where somebody is at work it stays undone.
 */
static const char clean_sql[] = "VACUUM (TRUNCATE OFF, SKIP_LOCKED) outbox.message";

static PGresult *
rebase_ask(struct rebase * rebase, const char * text, int count, const char * const * parameters,
    struct error * e)
{
	char * sql = sql_in_schema(text, rebase->options.schema);
	PGresult * result;

	if (sql == NULL) {
		error_set(e, EXIT_BUG, "out of memory");
		return (NULL);
	}
	result = direct_query(rebase->conn, sql, count, parameters, e);
	free(sql);
	return (result);
}

/* The same; how many rows it changed in ${*changed} (may be NULL).  0, or -1 with ${e}. */
static int
rebase_do(struct rebase * rebase, const char * text, const char * parameter, int64_t * changed,
    struct error * e)
{
	PGresult * result = rebase_ask(rebase, text, parameter == NULL ? 0 : 1, &parameter, e);

	if (result == NULL)
		return (-1);
	if (changed != NULL)
		*changed = strtoll(PQcmdTuples(result), NULL, 10);
	PQclear(result);
	return (0);
}

/* As the guard's checks expect it. */
static PGresult *
rebase_ask_binary(struct rebase * rebase, const char * text, int count,
    const char * const * parameters, struct error * e)
{
	char * sql = sql_in_schema(text, rebase->options.schema);
	PGresult * result;

	if (sql == NULL) {
		error_set(e, EXIT_BUG, "out of memory");
		return (NULL);
	}
	result = direct_query_binary(rebase->conn, sql, count, parameters, e);
	free(sql);
	return (result);
}

static int
rebase_check_owner(struct rebase * rebase, struct error * e)
{
	PGresult * result = rebase_ask(rebase, rights_sql, 0, NULL, e);
	int failed = 0;

	if (result == NULL)
		return (-1);
	if (PQgetvalue(result, 0, 0)[0] != 't') {
		error_set(e, EXIT_PERMISSION,
		    "role %s does not own %s.message in database %s: rebase rewrites that table",
		    PQgetvalue(result, 0, 2), rebase->options.schema, rebase->database);
		failed = error_remedy(e,
		    "connect as %s: set OUTBOX_RELAY_POSTGRES_DSN for this command",
		    PQgetvalue(result, 0, 1));
	}
	PQclear(result);
	return (failed);
}

static int
rebase_check(struct rebase * rebase, struct error * e)
{
	const char * schema = rebase->options.schema;
	struct guard_schema found;
	PGresult * result;
	int failed;

	/* The name is a value here, which sql_in_schema must not touch. */
	if ((result = direct_query_binary(rebase->conn, guard_server_sql, 1, &schema, e)) == NULL)
		return (-1);
	failed = guard_check_server(result, schema, e);
	PQclear(result);
	if (failed || rebase_check_owner(rebase, e))
		return (-1);
	if ((result = rebase_ask_binary(rebase, guard_schema_sql, 0, NULL, e)) == NULL)
		return (-1);
	failed = guard_check_schema(result, schema, &found, e);
	PQclear(result);
	return (failed);
}

struct rebase *
rebase_open(const struct rebase_options * options, struct error * e)
{
	const struct direct_options connection = {.dsn = options->dsn,
	    .password_file = options->password_file,
	    .purpose = "rebase",
	    .writable = true,
	    .look_only = options->look_only};
	struct rebase * rebase;
	char settings[256];

	if ((rebase = calloc(1, sizeof(*rebase))) == NULL) {
		error_set(e, EXIT_BUG, "out of memory");
		return (NULL);
	}
	rebase->options = *options;
	/* Whoever interrupts it must not leave a server that goes on behind the lock (14 and later). */
	snprintf(settings, sizeof(settings),
	    "SET statement_timeout = 0; SET lock_timeout = '%ds'; "
	    "SELECT set_config(name, '2s', false) FROM pg_settings "
	    "WHERE name = 'client_connection_check_interval'",
	    REBASE_LOCK_SECONDS);
	if ((rebase->conn = direct_open(&connection, e)) == NULL ||
	    direct_run(rebase->conn, settings, e))
		goto fail;
	snprintf(rebase->database, sizeof(rebase->database), "%s", PQdb(rebase->conn));
	if (rebase_check(rebase, e))
		goto fail;
	return (rebase);
fail:
	rebase_close(rebase);
	return (NULL);
}

void
rebase_close(struct rebase * rebase)
{
	if (rebase == NULL)
		return;
	PQfinish(rebase->conn);
	free(rebase->prev);
	free(rebase);
}

const char *
rebase_database(const struct rebase * rebase)
{
	return (rebase->database);
}

int
rebase_look(struct rebase * rebase, struct error * why, struct error * e)
{
	PGresult * result = rebase_ask_binary(rebase, guard_record_sql, 0, NULL, e);
	struct guard_record record;
	int needed;

	if (result == NULL)
		return (-1);
	needed = guard_check_record(result, rebase->options.schema, &record, why) ? 1 : 0;
	rebase->seq = record.seq;
	PQclear(result);
	return (needed);
}

int
rebase_count(struct rebase * rebase, struct rebase_counts * counts, struct error * e)
{
	PGresult * result = rebase_ask(rebase, count_sql, 0, NULL, e);
	int64_t * fields[] = {&counts->kept, &counts->pending, &counts->renumbered, &counts->sent,
	    &counts->delayed, &counts->dead};
	int64_t seq;

	if (result == NULL)
		return (-1);
	*counts = (struct rebase_counts){0};
	for (int i = 0; i < (int)(sizeof(fields) / sizeof(fields[0])); i++)
		*fields[i] = strtoll(PQgetvalue(result, 0, i), NULL, 10);
	seq = strtoll(PQgetvalue(result, 0, PQnfields(result) - 1), NULL, 10);
	PQclear(result);
	if (seq != rebase->seq) {
		error_set(e, EXIT_FOUND, "a position was recorded in database %s meanwhile",
		    rebase->database);
		return (error_remedy(e, "somebody else rebased it, or a relay ran: look again"));
	}
	return (0);
}

/* No relay leads, and none begins to while this session lives. */
static int
rebase_lead(struct rebase * rebase, struct error * e)
{
	PGresult * result = rebase_ask(rebase, lead_try_sql, 0, NULL, e);
	bool ours;

	if (result == NULL)
		return (-1);
	ours = PQgetvalue(result, 0, 0)[0] == 't';
	PQclear(result);
	if (ours)
		return (0);
	if ((result = rebase_ask(rebase, leader_sql, 0, NULL, e)) == NULL)
		return (-1);
	if (PQntuples(result) > 0)
		error_set(e, EXIT_FOUND, "a relay leads in database %s: pid %s (%s)",
		    rebase->database, PQgetvalue(result, 0, 0), PQgetvalue(result, 0, 1));
	else
		error_set(e, EXIT_FOUND, "a relay has just led in database %s", rebase->database);
	PQclear(result);
	return (error_remedy(e, "stop every relay of this database first"));
}

/* Who holds the lock is asked after the fact: it may be gone. */
static int
rebase_explain_lock(struct rebase * rebase, struct error * e)
{
	struct error ignored;
	PGresult * result;

	if (strcmp(e->sqlstate, "55P03") != 0)
		return (-1);
	PQclear(PQexec(rebase->conn, "ROLLBACK"));
	result = rebase_ask(rebase, holders_sql, 0, NULL, &ignored);
	error_set(e, EXIT_UNREACHABLE,
	    "%s.message in database %s could not be locked within %d s; in use by %s",
	    rebase->options.schema, rebase->database, REBASE_LOCK_SECONDS,
	    result == NULL || PQgetisnull(result, 0, 0) ? "somebody who has just left" :
							  PQgetvalue(result, 0, 0));
	PQclear(result);
	return (error_remedy(e,
	    "end long transactions, dumps and prepared transactions that use it, and try again; "
	    "nothing was changed"));
}

static int
rebase_lock(struct rebase * rebase, struct error * e)
{
	char * sql = sql_in_schema(lock_sql, rebase->options.schema);
	int failed;

	if (sql == NULL)
		return (error_set(e, EXIT_BUG, "out of memory"));
	failed = direct_run(rebase->conn, sql, e);
	free(sql);
	return (failed ? rebase_explain_lock(rebase, e) : 0);
}

int
rebase_begin(struct rebase * rebase, struct rebase_counts * counts, struct error * e)
{
	PGresult * result;

	/* A mark that is lost in a crash would be a position of the other database again. */
	if (rebase_lead(rebase, e) ||
	    direct_run(rebase->conn, "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", e) ||
	    direct_run(rebase->conn, "SET LOCAL synchronous_commit = local", e) ||
	    (result = direct_query(rebase->conn, "SELECT pg_current_snapshot()", 0, NULL, e)) ==
		NULL)
		return (-1);
	rebase->prev = strdup(PQgetvalue(result, 0, 0));
	PQclear(result);
	if (rebase->prev == NULL)
		return (error_set(e, EXIT_BUG, "out of memory"));
	if (rebase_lock(rebase, e))
		return (-1);
	return (rebase_count(rebase, counts, e));
}

static int
rebase_record(struct rebase * rebase, bool discard, const char * why,
    const struct rebase_counts * counts, struct error * e)
{
	const int64_t values[] = {counts->kept, counts->pending, counts->renumbered, counts->sent,
	    counts->delayed, counts->dead, counts->rewritten};
	char numbers[7][24], user[64], host[64] = "";
	const char * parameters[] = {why, user, host, discard ? "true" : "false", numbers[0],
	    numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], numbers[6]};
	const struct passwd * entry = getpwuid(getuid());
	PGresult * result;

	if (entry != NULL)
		snprintf(user, sizeof(user), "%s", entry->pw_name);
	else
		snprintf(user, sizeof(user), "%u", (unsigned int)getuid());
	gethostname(host, sizeof(host) - 1);
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		snprintf(numbers[i], sizeof(numbers[i]), "%" PRId64, values[i]);
	if ((result = rebase_ask(rebase, operation_sql, 11, parameters, e)) == NULL)
		return (-1);
	PQclear(result);
	return (0);
}

int
rebase_finish(struct rebase * rebase, bool discard, const char * why, struct rebase_counts * counts,
    struct error * e)
{
	struct error ignored;

	if (rebase_do(rebase, sequence_sql, NULL, NULL, e))
		return (-1);
	if (counts->renumbered > 0 && rebase_do(rebase, renumber_sql, NULL, NULL, e))
		return (-1);
	if (discard &&
	    (rebase_do(rebase, discard_pending_sql, NULL, NULL, e) ||
		rebase_do(rebase, discard_delayed_sql, NULL, NULL, e)))
		return (-1);
	if (rebase_do(rebase, rewrite_sql, rebase->prev, &counts->rewritten, e) ||
	    rebase_do(rebase, mark_sql, rebase->prev, NULL, e) ||
	    rebase_do(rebase, forget_sql, NULL, NULL, e) ||
	    rebase_record(rebase, discard, why, counts, e))
		return (-1);
	if (direct_run(rebase->conn, "COMMIT", e))
		return (-1);
	/* It is done, whatever becomes of this. */
	(void)rebase_do(rebase, clean_sql, NULL, NULL, &ignored);
	return (0);
}
