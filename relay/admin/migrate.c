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
	if (strcmp(e->sqlstate, "42501") == 0)
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
	    migrate_ask(migrate,
		"SELECT pg_advisory_lock(hashtext('outbox-relay migrate'), hashtext($1))", 1,
		&schema, value, sizeof(value), e))
		return (migrate_explain(migrate, e));
	return (0);
}

struct migrate *
migrate_open(const struct migrate_options * options, struct error * e)
{
	const struct direct_options connection = {.dsn = options->dsn,
	    .password_file = options->password_file,
	    .purpose = "migrate",
	    .writable = true};
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
