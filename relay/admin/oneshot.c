/*
 * Nothing here begins a transaction: what a command changes it changes in one
 * statement, so whoever interrupts it finds all of a step done, or none.
 */
#include "admin/oneshot.h"

#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "admin/direct.h"
#include "postgres/sql.h"
#include "postgres/version.h"

struct oneshot {
	struct oneshot_options options;
	PGconn * conn;
	PGresult * result;
	struct version version;
	char user[64];
	char host[64];
};

/* A table that either line has. */
static const char present_sql[] =
    "SELECT to_regclass(format('%I.migration', $1::text)) IS NOT NULL";

static void
oneshot_who(struct oneshot * oneshot)
{
	const struct passwd * entry = getpwuid(getuid());

	if (entry != NULL)
		snprintf(oneshot->user, sizeof(oneshot->user), "%s", entry->pw_name);
	else
		snprintf(oneshot->user, sizeof(oneshot->user), "%u", (unsigned int)getuid());
	gethostname(oneshot->host, sizeof(oneshot->host) - 1);
}

static PGresult *
oneshot_query(struct oneshot * oneshot, const char * sql, int count,
    const char * const * parameters, struct error * e)
{
	PGresult * result = direct_query(oneshot->conn, sql, count, parameters, e);

	if (result == NULL)
		direct_name_grant(oneshot->conn, oneshot->options.schema,
		    strcmp(oneshot->options.word, "inbox") == 0 ? "grant_consumer" : "grant_relay",
		    e);
	return (result);
}

static int
oneshot_check_version(struct oneshot * oneshot, struct error * e)
{
	const struct oneshot_options * options = &oneshot->options;
	char * sql = sql_rename(VERSION_SQL, "outbox", options->schema);
	struct version_facts facts = {.line = options->word,
	    .database = PQdb(oneshot->conn),
	    .schema = options->schema};
	PGresult * result;
	int failed;

	if (sql == NULL)
		return (error_set(e, EXIT_BUG, "out of memory"));
	result = oneshot_query(oneshot, sql, 0, NULL, e);
	free(sql);
	if (result == NULL)
		return (-1);
	facts.version = PQgetvalue(result, 0, 0);
	facts.applied = PQgetvalue(result, 0, 1);
	failed = version_check(&oneshot->version, &facts, e);
	PQclear(result);
	return (failed);
}

static int
oneshot_check(struct oneshot * oneshot, struct error * e)
{
	PGresult * result;
	bool present;

	/* The name is a value here, which the renaming must not touch. */
	result = oneshot_query(oneshot, present_sql, 1, &oneshot->options.schema, e);
	if (result == NULL)
		return (-1);
	present = PQgetvalue(result, 0, 0)[0] == 't';
	PQclear(result);
	if (present)
		return (oneshot_check_version(oneshot, e));
	error_set(e, EXIT_CONFIGURATION, "database %s has no schema \"%s\" with an %s",
	    PQdb(oneshot->conn), oneshot->options.schema, oneshot->options.word);
	return (error_remedy(e,
	    "apply the migrations: outbox-relay migrate up --line %s; or correct postgres.dsn or "
	    "the schema's name",
	    oneshot->options.word));
}

struct oneshot *
oneshot_open(const struct oneshot_options * options, struct error * e)
{
	const struct direct_options connection = {.dsn = options->dsn,
	    .password_file = options->password_file,
	    .purpose = options->purpose,
	    .writable = true,
	    .look_only = options->look_only};
	struct oneshot * oneshot;

	if ((oneshot = calloc(1, sizeof(*oneshot))) == NULL) {
		error_set(e, EXIT_BUG, "out of memory");
		return (NULL);
	}
	oneshot->options = *options;
	oneshot_who(oneshot);
	if ((oneshot->conn = direct_open(&connection, e)) == NULL ||
	    (options->settings != NULL && direct_run(oneshot->conn, options->settings, e)) ||
	    oneshot_check(oneshot, e)) {
		oneshot_close(oneshot);
		return (NULL);
	}
	return (oneshot);
}

void
oneshot_close(struct oneshot * oneshot)
{
	if (oneshot == NULL)
		return;
	PQclear(oneshot->result);
	PQfinish(oneshot->conn);
	free(oneshot);
}

bool
oneshot_has(const struct oneshot * oneshot, unsigned int migration)
{
	return (version_has(&oneshot->version, migration));
}

int
oneshot_requires(const struct oneshot * oneshot, unsigned int migration, struct error * e)
{
	return (version_require(&oneshot->version, oneshot->options.word, oneshot->options.schema,
	    migration, e));
}

int
oneshot_ask(struct oneshot * oneshot, const char * text, int count, const char * const * parameters,
    struct error * e)
{
	char * sql = sql_rename(text, oneshot->options.word, oneshot->options.schema);

	if (sql == NULL)
		return (error_set(e, EXIT_BUG, "out of memory"));
	PQclear(oneshot->result);
	oneshot->result = oneshot_query(oneshot, sql, count, parameters, e);
	free(sql);
	return (oneshot->result == NULL ? -1 : 0);
}

size_t
oneshot_rows(const struct oneshot * oneshot)
{
	return ((size_t)PQntuples(oneshot->result));
}

size_t
oneshot_columns(const struct oneshot * oneshot)
{
	return ((size_t)PQnfields(oneshot->result));
}

const char *
oneshot_name(const struct oneshot * oneshot, size_t column)
{
	return (PQfname(oneshot->result, (int)column));
}

const char *
oneshot_value(const struct oneshot * oneshot, size_t row, size_t column)
{
	if (PQgetisnull(oneshot->result, (int)row, (int)column))
		return (NULL);
	return (PQgetvalue(oneshot->result, (int)row, (int)column));
}

int64_t
oneshot_number(const struct oneshot * oneshot, size_t row, size_t column)
{
	const char * value = oneshot_value(oneshot, row, column);

	return (value == NULL ? 0 : strtoll(value, NULL, 10));
}

const char *
oneshot_user(const struct oneshot * oneshot)
{
	return (oneshot->user);
}

const char *
oneshot_host(const struct oneshot * oneshot)
{
	return (oneshot->host);
}

const char *
oneshot_database(const struct oneshot * oneshot)
{
	return (PQdb(oneshot->conn));
}
