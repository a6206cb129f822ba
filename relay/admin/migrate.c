/*
 * A session advisory lock keyed by the schema's name makes several at once
 * harmless: what is applied is asked only while it is held.
 *
 * The files name their schema by the line's own name as a bare word and use
 * that word for nothing else, so a textual replacement makes them another
 * schema's (a test holds them to that).
 */
#include "admin/migrate.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/direct.h"
#include "postgres/sql.h"
#include "postgres/version.h"

#define SCHEMA_MAX 40
#define SQL_MAX 256
#define NOT_ALLOWED "42501" /* insufficient_privilege */

/* $1: the schema. */
#define LOCK_SQL "hashtext('outbox-relay migrate'), hashtext($1)"

/* Those down files that throw something away name the setting that has them do it. */
#define FORCE "outbox_relay.force_down"

/* clang-format off */

/* In either line: a migration replaces what others made, so it is the owner's. */
static const char may_sql[] =
    "SELECT CASE WHEN to_regclass('outbox.migration') IS NOT NULL "
    "THEN (SELECT pg_has_role(c.relowner, 'USAGE') FROM pg_class AS c WHERE c.oid = to_regclass('outbox.migration')) "
    "WHEN to_regnamespace('outbox') IS NOT NULL THEN has_schema_privilege('outbox', 'CREATE') "
    "ELSE has_database_privilege(current_database(), 'CREATE') END";

/* What the down files of each line ask: whether they refuse, and what it is that they would throw away. */
static const char loses_outbox_sql[] =
    "SELECT pending + delayed + dead > 0, coalesce(current_setting('" FORCE "', true), '') = 'on', "
    "format('%s pending, %s delayed and %s dead messages', pending, delayed, dead) FROM (SELECT "
    "(SELECT count(*) FROM outbox.message AS m LEFT JOIN "
    "(SELECT s.prev, s.target, s.last_id FROM outbox.sent AS s ORDER BY s.seq DESC LIMIT 1) AS n ON true "
    "WHERE (pg_visible_in_snapshot(m.xid, n.prev) "
    "OR (m.id <= n.last_id AND pg_visible_in_snapshot(m.xid, n.target))) IS NOT TRUE) AS pending, "
    "(SELECT count(*) FROM outbox.delayed) AS delayed, "
    "(SELECT count(*) FROM outbox.dead WHERE discarded_at IS NULL) AS dead) AS waiting";

static const char loses_inbox_sql[] =
    "SELECT claims > 0, coalesce(current_setting('" FORCE "', true), '') = 'on', format('%s claims', claims) "
    "FROM (SELECT count(*) AS claims FROM inbox.message) AS kept";

/* clang-format on */

struct migrate {
	struct migrate_options options;
	PGconn * conn;
};

bool
migrate_schema_valid(const char * schema)
{
	size_t length = strlen(schema);

	if (length == 0 || length > SCHEMA_MAX || isdigit((unsigned char)schema[0]))
		return (false);
	return (strspn(schema, "abcdefghijklmnopqrstuvwxyz0123456789_") == length &&
	    strncmp(schema, "pg_", 3) != 0);
}

const struct migration_file *
migrate_next(const char * line, const struct migration_file * previous)
{
	const struct migration_file * end = migration_files + migration_file_count;
	const struct migration_file * file = previous == NULL ? migration_files : previous + 1;

	for (; file < end; file++) {
		if (strcmp(file->line, line) == 0)
			return (file);
	}
	return (NULL);
}

char *
migrate_text(const struct migration_file * file, bool up, const char * schema)
{
	return (sql_rename(up ? file->up : file->down, file->line, schema));
}

/* One value; "" for SQL NULL.  0, or -1 with ${e}. */
static int
migrate_ask(struct migrate * migrate, const char * sql, int count, const char * const * parameters,
    char * value, size_t size, struct error * e)
{
	PGresult * result = direct_query(migrate->conn, sql, count, parameters, e);

	if (result == NULL)
		return (-1);
	snprintf(value, size, "%s", PQntuples(result) == 0 ? "" : PQgetvalue(result, 0, 0));
	PQclear(result);
	return (0);
}

/* Errors of the schema itself: who may migrate is another question than who may relay. */
static int
migrate_explain(struct migrate * migrate, struct error * e)
{
	if (strcmp(e->sqlstate, NOT_ALLOWED) == 0)
		error_remedy(e,
		    "connect as the owner of schema %s, or as a role that may create it: "
		    "set OUTBOX_RELAY_POSTGRES_DSN for this command",
		    migrate->options.schema);
	else if (strcmp(e->sqlstate, "55P03") == 0) {
		e->code = EXIT_UNREACHABLE;
		error_remedy(e,
		    "something holds a lock in schema %s (a long transaction, pg_dump, "
		    "another migration); try again later",
		    migrate->options.schema);
	} else if (strcmp(e->sqlstate, "55000") == 0)
		e->code = EXIT_FOUND;
	else if (strncmp(e->sqlstate, "42", 2) == 0)
		e->code = EXIT_CONFIGURATION;
	return (-1);
}

static int
migrate_lock(struct migrate * migrate, struct error * e)
{
	const char * schema = migrate->options.schema;
	char value[SQL_MAX];

	if (migrate_ask(migrate, "SELECT quote_ident($1) = $1", 1, &schema, value, sizeof(value),
		e))
		return (-1);
	if (value[0] != 't') {
		error_set(e, EXIT_CONFIGURATION,
		    "\"%s\" is a word of SQL and cannot name the schema", schema);
		return (error_remedy(e, "choose another name"));
	}
	if (direct_run(migrate->conn, "SET lock_timeout = '60s'", e) ||
	    migrate_ask(migrate, "SELECT pg_try_advisory_lock(" LOCK_SQL ")", 1, &schema, value,
		sizeof(value), e))
		return (migrate_explain(migrate, e));
	if (value[0] == 't')
		return (0);
	migrate->options.waiting(schema);
	if (migrate_ask(migrate, "SELECT pg_advisory_lock(" LOCK_SQL ")", 1, &schema, value,
		sizeof(value), e))
		return (migrate_explain(migrate, e));
	return (0);
}

struct migrate *
migrate_open(const struct migrate_options * options, struct error * e)
{
	const struct direct_options connection = {.dsn = options->dsn,
	    .password_file = options->password_file,
	    .purpose = "migrate",
	    .writable = true,
	    .look_only = options->look_only};
	struct migrate * migrate;

	if ((migrate = calloc(1, sizeof(*migrate))) == NULL) {
		error_set(e, EXIT_BUG, "out of memory");
		return (NULL);
	}
	migrate->options = *options;
	if ((migrate->conn = direct_open(&connection, e)) == NULL || migrate_lock(migrate, e)) {
		migrate_close(migrate);
		return (NULL);
	}
	return (migrate);
}

void
migrate_close(struct migrate * migrate)
{
	if (migrate == NULL)
		return;
	PQfinish(migrate->conn);
	free(migrate);
}

/* Whether the schema has a function or table of that name: 1, 0, or -1 with ${e}. */
static int
migrate_has(struct migrate * migrate, const char * what, const char * name, struct error * e)
{
	char sql[SQL_MAX], value[8];

	snprintf(sql, sizeof(sql), "SELECT %s('%s.%s') IS NOT NULL", what, migrate->options.schema,
	    name);
	if (migrate_ask(migrate, sql, 0, NULL, value, sizeof(value), e))
		return (migrate_explain(migrate, e));
	return (value[0] == 't');
}

int
migrate_look(struct migrate * migrate, const struct migration_file * file,
    struct migrate_state * state, struct error * e)
{
	char sql[SQL_MAX], value[8], version[16];
	const char * parameter = version;
	PGresult * result;
	int found;

	*state = (struct migrate_state){.applied = false};
	if ((found = migrate_has(migrate, "to_regprocedure", "applied_migrations()", e)) <= 0)
		return (found);
	snprintf(version, sizeof(version), "%u", file->version);
	snprintf(sql, sizeof(sql), "SELECT $1::integer = ANY (%s.applied_migrations())",
	    migrate->options.schema);
	if (migrate_ask(migrate, sql, 1, &parameter, value, sizeof(value), e))
		return (migrate_explain(migrate, e));
	state->applied = value[0] == 't';
	snprintf(sql, sizeof(sql),
	    "SELECT date_trunc('second', applied_at)::text, applied_by FROM "
	    "%s.migration WHERE version = $1::integer",
	    migrate->options.schema);
	if ((result = direct_query(migrate->conn, sql, 1, &parameter, e)) == NULL)
		return (migrate_explain(migrate, e));
	if (state->applied && PQntuples(result) == 1) {
		snprintf(state->applied_at, sizeof(state->applied_at), "%s",
		    PQgetvalue(result, 0, 0));
		snprintf(state->applied_by, sizeof(state->applied_by), "%s",
		    PQgetvalue(result, 0, 1));
	}
	PQclear(result);
	return (0);
}

int
migrate_newest_unknown(struct migrate * migrate, unsigned int * version, struct error * e)
{
	const struct migration_file * file = NULL;
	char sql[SQL_MAX], value[16];
	unsigned int newest = 0;
	int found;

	if ((found = migrate_has(migrate, "to_regprocedure", "applied_migrations()", e)) <= 0)
		return (found);
	snprintf(sql, sizeof(sql), "SELECT max(v) FROM unnest(%s.applied_migrations()) AS v",
	    migrate->options.schema);
	if (migrate_ask(migrate, sql, 0, NULL, value, sizeof(value), e))
		return (migrate_explain(migrate, e));
	while ((file = migrate_next(migrate->options.line, file)) != NULL)
		newest = file->version;
	*version = (unsigned int)strtoul(value, NULL, 10);
	return (*version > newest);
}

int
migrate_check_version(struct migrate * migrate, struct error * e)
{
	char sql[SQL_MAX], value[16];
	struct version version;
	const struct version_facts facts = {.line = migrate->options.line,
	    .database = PQdb(migrate->conn),
	    .schema = migrate->options.schema,
	    .version = value,
	    .applied = ""};
	int found;

	if ((found = migrate_has(migrate, "to_regprocedure", "schema_version()", e)) <= 0)
		return (found);
	snprintf(sql, sizeof(sql), "SELECT %s.schema_version()", migrate->options.schema);
	if (migrate_ask(migrate, sql, 0, NULL, value, sizeof(value), e))
		return (migrate_explain(migrate, e));
	return (version_check(&version, &facts, e));
}

const char *
migrate_database(const struct migrate * migrate)
{
	return (PQdb(migrate->conn));
}

int
migrate_may(struct migrate * migrate, struct error * e)
{
	char * sql = sql_in_schema(may_sql, migrate->options.schema);
	char value[8];
	int failed;

	if (sql == NULL)
		return (error_set(e, EXIT_BUG, "out of memory"));
	failed = migrate_ask(migrate, sql, 0, NULL, value, sizeof(value), e);
	free(sql);
	if (failed)
		return (migrate_explain(migrate, e));
	if (value[0] == 't')
		return (0);
	error_set(e, EXIT_PERMISSION,
	    "role %s may not change schema %s of database %s: it is another's",
	    PQuser(migrate->conn), migrate->options.schema, PQdb(migrate->conn));
	memcpy(e->sqlstate, NOT_ALLOWED, sizeof(NOT_ALLOWED));
	return (migrate_explain(migrate, e));
}

int
migrate_loses(struct migrate * migrate, const struct migration_file * file, char * what,
    size_t size, struct error * e)
{
	const char * schema = migrate->options.schema;
	PGresult * result;
	bool some, forced;
	char * sql;

	what[0] = '\0';
	if (strstr(file->down, FORCE) == NULL)
		return (0);
	sql = sql_rename(strcmp(file->line, "inbox") == 0 ? loses_inbox_sql : loses_outbox_sql,
	    file->line, schema);
	if (sql == NULL)
		return (error_set(e, EXIT_BUG, "out of memory"));
	result = direct_query(migrate->conn, sql, 0, NULL, e);
	free(sql);
	if (result == NULL)
		return (migrate_explain(migrate, e));
	some = PQgetvalue(result, 0, 0)[0] == 't';
	forced = PQgetvalue(result, 0, 1)[0] == 't';
	if (some)
		snprintf(what, size, "%s", PQgetvalue(result, 0, 2));
	PQclear(result);
	if (!some || forced)
		return (0);
	error_set(e, EXIT_FOUND, "migration %04u_%s (down) would refuse: schema %s still holds %s",
	    file->version, file->name, schema, what);
	return (error_remedy(e,
	    "have them dealt with first; or throw them away: PGOPTIONS=\"-c " FORCE "=on\""));
}

int
migrate_apply(struct migrate * migrate, const struct migration_file * file, bool up,
    struct error * e)
{
	struct error failure;
	char * sql = migrate_text(file, up, migrate->options.schema);
	int failed = -1;

	if (sql == NULL)
		return (error_set(e, EXIT_BUG, "out of memory"));
	error_clear(&failure);
	if (direct_run(migrate->conn, "BEGIN", &failure) == 0 &&
	    direct_run(migrate->conn, sql, &failure) == 0 &&
	    direct_run(migrate->conn, "COMMIT", &failure) == 0)
		failed = 0;
	free(sql);
	if (failed == 0)
		return (0);
	PQclear(PQexec(migrate->conn, "ROLLBACK"));
	migrate_explain(migrate, &failure);
	error_set(e, failure.code, "migration %04u_%s (%s): %s", file->version, file->name,
	    up ? "up" : "down", failure.text);
	memcpy(e->sqlstate, failure.sqlstate, sizeof(e->sqlstate));
	if (failure.remedy[0] != '\0')
		error_remedy(e, "%s", failure.remedy);
	return (-1);
}
