/*
 * What others do with the server, as far as the relay's role may see it.
 *
 * Postgres hides from a role without pg_read_all_stats how long the
 * transactions of others have lasted, but not their transaction ids: one that
 * is below the xmax of an old mark began before that mark.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "admin/checkup_state.h"

#define CLOCK_DIFFERENCE_MAX 2.0 /* seconds */
#define INACTIVE_SLOT_BYTES "67108864"
#define ACTIVE_SLOT_BYTES "1073741824"
#define RELAY_CONNECTIONS 2
#define CONNECTIONS_FEW 5

static const char *
value(const PGresult * r, int row, int column)
{
	return (PQgetvalue(r, row, column));
}

/* ---- clock ---- */

static double
here(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return ((double)t.tv_sec + (double)t.tv_nsec / 1e9);
}

static void
check_clock(struct checkup * c)
{
	double before = here(), after, there, difference;
	PGresult * r = checkup_ask(c, "clock",
	    "SELECT extract(epoch FROM clock_timestamp())::double precision", 0, NULL, false);

	if (r == NULL)
		return;
	after = here();
	there = strtod(value(r, 0, 0), NULL);
	PQclear(r);
	/* The server looked at its clock somewhere in between. */
	difference = there < before ? there - before : there > after ? there - after : 0;
	if (difference < CLOCK_DIFFERENCE_MAX && difference > -CLOCK_DIFFERENCE_MAX) {
		finding_ok(c->findings, "clock", "this host and the server of Postgres agree");
		return;
	}
	finding_warn(c->findings, "clock",
	    "the server of Postgres is %.0f s %s this host: scheduled times and ages follow the "
	    "server, certificates are judged here",
	    difference < 0 ? -difference : difference, difference < 0 ? "behind" : "ahead of");
	finding_remedy(c->findings, "timedatectl set-ntp true  # on both hosts");
}

/* ---- transactions ---- */

/* ${old_sql}: the xmax of a mark that is old enough. */
#define TRANSACTIONS_SQL(old_sql) \
	"SELECT a.pid, coalesce(a.usename::text, '?')," \
	" coalesce(nullif(a.application_name, ''), '-'), coalesce(a.state, 'state unknown')," \
	" extract(epoch FROM clock_timestamp() - a.xact_start)::bigint, count(*) OVER ()" \
	" FROM pg_stat_activity AS a" \
	" LEFT JOIN LATERAL (" old_sql ") AS old ON true" \
	" WHERE a.pid <> pg_backend_pid() AND a.datname = current_database()" \
	" AND coalesce(a.backend_type, 'client backend') = 'client backend'" \
	" AND (a.xact_start < clock_timestamp() - make_interval(secs => $1::integer)" \
	" OR (a.xact_start IS NULL AND age(a.backend_xid) > age(old.xmax)))" \
	" ORDER BY a.xact_start NULLS LAST, a.pid LIMIT 5"

static const char transactions_sql[] = TRANSACTIONS_SQL(
    "SELECT pg_snapshot_xmax(coalesce(s.target, s.prev))::xid AS xmax"
    " FROM outbox.sent AS s"
    " WHERE s.sent_at < clock_timestamp() - make_interval(secs => $1::integer)"
    " ORDER BY s.seq DESC LIMIT 1");
static const char transactions_alone_sql[] = TRANSACTIONS_SQL("SELECT NULL::xid AS xmax");

static const char sees_all_sql[] =
    "SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')"
    " OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)";

static void
say_no_transaction(struct checkup * c)
{
	PGresult * r = checkup_ask(c, "transactions", sees_all_sql, 0, NULL, false);

	if (r == NULL)
		return;
	if (value(r, 0, 0)[0] == 't')
		finding_ok(c->findings, "transactions", "none is older than %lld s",
		    (long long)c->options->patience_s);
	else
		finding_ok(c->findings, "transactions",
		    "none known to be older than %lld s; those of other roles that have written "
		    "nothing show only to a role with pg_read_all_stats",
		    (long long)c->options->patience_s);
	PQclear(r);
}

static void
check_transactions(struct checkup * c)
{
	char seconds[24], sql[64];
	const char * parameters[] = {seconds};
	PGresult * r;

	snprintf(seconds, sizeof(seconds), "%lld", (long long)c->options->patience_s);
	r = checkup_ask(c, "transactions", c->usable ? transactions_sql : transactions_alone_sql, 1,
	    parameters, false);
	if (r == NULL)
		return;
	if (PQntuples(r) == 0)
		say_no_transaction(c);
	for (int i = 0; i < PQntuples(r); i++) {
		finding_warn(c->findings, "transactions",
		    "process %s (%s, %s, %s) has been in a transaction for more than %s s%s: "
		    "messages that it wrote come late, and nothing behind it can be vacuumed",
		    value(r, i, 0), value(r, i, 1), value(r, i, 2), value(r, i, 3),
		    PQgetisnull(r, i, 4) ? seconds : value(r, i, 4),
		    i == 0 && strtol(value(r, i, 5), NULL, 10) > PQntuples(r) ?
			" (not the only one)" :
			"");
		snprintf(sql, sizeof(sql), "SELECT pg_terminate_backend(%s)", value(r, i, 0));
		checkup_psql(c, c->admin, sql);
	}
	PQclear(r);
}

static const char prepared_sql[] =
    "SELECT gid, owner::text, extract(epoch FROM clock_timestamp() - prepared)::bigint,"
    " format('ROLLBACK PREPARED %L', gid)"
    " FROM pg_prepared_xacts WHERE database = current_database()"
    " AND prepared < clock_timestamp() - make_interval(secs => $1::integer) ORDER BY prepared LIMIT 5";

static void
check_prepared(struct checkup * c)
{
	char seconds[24];
	const char * parameters[] = {seconds};
	PGresult * r;

	snprintf(seconds, sizeof(seconds), "%lld", (long long)c->options->patience_s);
	r = checkup_ask(c, "prepared", prepared_sql, 1, parameters, false);
	if (r == NULL)
		return;
	if (PQntuples(r) == 0)
		finding_ok(c->findings, "prepared", "no prepared transaction is older than %s s",
		    seconds);
	for (int i = 0; i < PQntuples(r); i++) {
		finding_warn(c->findings, "prepared",
		    "transaction \"%s\" of %s was prepared %s s ago and neither committed nor "
		    "rolled back: its messages and its locks wait with it",
		    value(r, i, 0), value(r, i, 1), value(r, i, 2));
		/* It takes no comment behind it: which of the two is its coordinator's to say. */
		checkup_psql(c, value(r, i, 1), value(r, i, 3));
	}
	PQclear(r);
}

/* ---- replication slots ---- */

static const char replication_sql[] =
    "SELECT s.slot_name::text, s.slot_type, s.active, pg_size_pretty(s.bytes), s.wal_status,"
    " format('SELECT pg_drop_replication_slot(%L)', s.slot_name)"
    " FROM (SELECT *, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) AS bytes"
    " FROM pg_replication_slots) AS s"
    " WHERE (NOT s.active AND s.bytes >= " INACTIVE_SLOT_BYTES ") OR s.bytes >= " ACTIVE_SLOT_BYTES
    " OR s.wal_status IN ('unreserved', 'lost') ORDER BY s.bytes DESC NULLS LAST LIMIT 5";

static void
check_replication_slots(struct checkup * c)
{
	PGresult * r = checkup_ask(c, "replication-slots", replication_sql, 0, NULL, false);

	if (r == NULL)
		return;
	if (PQntuples(r) == 0)
		finding_ok(c->findings, "replication-slots", "none holds back much WAL");
	for (int i = 0; i < PQntuples(r); i++) {
		bool active = value(r, i, 2)[0] == 't';

		finding_warn(c->findings, "replication-slots",
		    "%s slot %s is %s and holds back %s of WAL (%s): the disk of Postgres fills",
		    value(r, i, 1), value(r, i, 0), active ? "slow" : "not in use",
		    PQgetisnull(r, i, 3) ? "an unknown amount" : value(r, i, 3),
		    PQgetisnull(r, i, 4) ? "status unknown" : value(r, i, 4));
		if (active)
			finding_remedy(c->findings, "look at who reads from it: it is too slow");
		else
			finding_remedy(c->findings, "%s  # if nobody will read from it again",
			    remedy_psql(c->options->dsn, c->admin, NULL, value(r, i, 5),
				c->remedy));
	}
	PQclear(r);
}

/* ---- durability ---- */

/* Each with the statements that mend it, a line each. */
static const char durability_sql[] =
    "SELECT 'fsync is off: after a crash of its host the database may be damaged',"
    " E'ALTER SYSTEM SET fsync = on\\nSELECT pg_reload_conf()'"
    " WHERE current_setting('fsync') = 'off'"
    " UNION ALL SELECT 'full_page_writes is off: after a crash of its host the database may be"
    " damaged', E'ALTER SYSTEM SET full_page_writes = on\\nSELECT pg_reload_conf()'"
    " WHERE current_setting('full_page_writes') = 'off'"
    " UNION ALL SELECT 'synchronous_commit is off by default',"
    " E'ALTER SYSTEM SET synchronous_commit = on\\nSELECT pg_reload_conf()'"
    " FROM pg_settings WHERE name = 'synchronous_commit' AND setting = 'off'"
    " AND source NOT IN ('database', 'user', 'database user') AND NOT $1::boolean"
    " UNION ALL SELECT format('synchronous_commit is off for %s', CASE WHEN d.setrole = 0"
    " THEN 'this database' ELSE 'role ' || quote_ident(pg_get_userbyid(d.setrole)) END),"
    " CASE WHEN d.setrole = 0 THEN format('ALTER DATABASE %I RESET synchronous_commit',"
    " current_database()) WHEN d.setdatabase = 0 THEN"
    " format('ALTER ROLE %I RESET synchronous_commit', pg_get_userbyid(d.setrole)) ELSE"
    " format('ALTER ROLE %I IN DATABASE %I RESET synchronous_commit', pg_get_userbyid(d.setrole),"
    " current_database()) END"
    " FROM pg_db_role_setting AS d"
    " WHERE NOT $1::boolean AND d.setdatabase IN (0, (SELECT oid FROM pg_database"
    " WHERE datname = current_database()))"
    " AND EXISTS (SELECT FROM unnest(d.setconfig) AS u (s)"
    " WHERE lower(u.s) ~ '^synchronous_commit=(off|false|no|0|f|n)$')"
    " AND (d.setrole = 0 OR has_any_column_privilege(d.setrole, 'outbox.message', 'INSERT'))"
    " LIMIT 10";

static void
check_durability(struct checkup * c)
{
	const char * parameters[] = {c->options->waits_for_flush ? "t" : "f"};
	PGresult * r = !c->usable ?
	    NULL :
	    checkup_ask(c, "durability", durability_sql, 1, parameters, false);

	if (r == NULL)
		return;
	if (PQntuples(r) == 0)
		finding_ok(c->findings, "durability",
		    c->options->waits_for_flush ?
			"only what is on disk is published (postgres.wait_for_flush)" :
			"what is committed is on disk");
	for (int i = 0; i < PQntuples(r); i++) {
		finding_warn(c->findings, "durability", "%s%s", value(r, i, 0),
		    strncmp(value(r, i, 0), "sync", 4) == 0 ?
			": a crash may lose commits whose messages were published" :
			"");
		checkup_psql(c, c->admin, value(r, i, 1));
	}
	PQclear(r);
}

/* ---- connections ---- */

static const char connections_sql[] =
    "SELECT current_setting('max_connections')::int"
    " - current_setting('superuser_reserved_connections')::int"
    " - coalesce(current_setting('reserved_connections', true), '0')::int"
    " - (SELECT coalesce(sum(numbackends), 0) FROM pg_stat_database)::int,"
    " CASE WHEN r.rolconnlimit < 0 THEN 1000000 ELSE r.rolconnlimit -"
    " (SELECT count(*) FROM pg_stat_activity WHERE usename = current_user)::int END,"
    " CASE WHEN d.datconnlimit < 0 THEN 1000000 ELSE d.datconnlimit -"
    " (SELECT numbackends FROM pg_stat_database WHERE datname = d.datname) END,"
    " current_setting('max_connections')::int,"
    " format('ALTER ROLE %I CONNECTION LIMIT -1', r.rolname),"
    " format('ALTER DATABASE %I CONNECTION LIMIT -1', d.datname)"
    " FROM pg_roles AS r, pg_database AS d"
    " WHERE r.rolname = current_user AND d.datname = current_database()";

static void
check_connections(struct checkup * c)
{
	/* Our own goes when we do; a relay that leads has its own already. */
	long need = c->leads ? 0 : RELAY_CONNECTIONS, server, role, database;
	PGresult * r = checkup_ask(c, "connections", connections_sql, 0, NULL, false);
	char sql[80];

	if (r == NULL || PQntuples(r) == 0) {
		PQclear(r);
		return;
	}
	server = strtol(value(r, 0, 0), NULL, 10) + 1;
	role = strtol(value(r, 0, 1), NULL, 10) + 1;
	database = strtol(value(r, 0, 2), NULL, 10) + 1;
	if (role < need || database < need) {
		finding_fail(c->findings, "connections",
		    "the limit of %s leaves %ld connections; a relay needs %d",
		    role < need ? c->role : c->database, role < need ? role : database,
		    RELAY_CONNECTIONS);
		checkup_psql(c, role < need ? c->admin : c->owner,
		    value(r, 0, role < need ? 4 : 5));
	} else if (server < CONNECTIONS_FEW) {
		if (server < need)
			finding_fail(c->findings, "connections",
			    "the server has %ld connections left; a relay needs %d", server,
			    RELAY_CONNECTIONS);
		else
			finding_warn(c->findings, "connections",
			    "the server has only %ld connections left", server);
		snprintf(sql, sizeof(sql), "ALTER SYSTEM SET max_connections = %ld",
		    2 * strtol(value(r, 0, 3), NULL, 10));
		finding_remedy(c->findings, "%s && systemctl restart postgresql",
		    remedy_psql(c->options->dsn, c->admin, NULL, sql, c->remedy));
	} else
		finding_ok(c->findings, "connections", "%ld are free; a relay needs %d",
		    server < role ? (server < database ? server : database) :
				    (role < database ? role : database),
		    RELAY_CONNECTIONS);
	PQclear(r);
}

void
checkup_server(struct checkup * c)
{
	check_clock(c);
	check_transactions(c);
	check_prepared(c);
	check_replication_slots(c);
	check_durability(c);
	check_connections(c);
}
