/*
 * What must stay true:
 *
 * The new prev is read before the transaction has an xid, and before the lock.
 * The lock waits for everybody who has written messages; who writes later is
 * not visible in prev, whether it had an xid then or not.  Of what lies in the
 * table then, pending rows get rebase's own xid, which is beyond prev; all
 * others one that prev covers: their own, or the oldest there is.  Which rows
 * are pending: rebase_sql.c.
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
#include "admin/rebase_sql.h"
#include "postgres/guard.h"
#include "postgres/lead.h"
#include "postgres/sql.h"

#define DATABASE_MAX 64

struct rebase {
	struct rebase_options options;
	PGconn * conn;
	char database[DATABASE_MAX];
	char * prev; /* of the new position; NULL: not begun */
	int64_t seq; /* of the mark that was looked at; 0: none */
};

/* As direct_query and direct_query_binary. */
typedef PGresult * rebase_query(PGconn *, const char *, int, const char * const *, struct error *);

static PGresult *
rebase_ask_by(rebase_query * query, const struct rebase * rebase, const char * text, int count,
    const char * const * parameters, struct error * e)
{
	char * sql = sql_in_schema(text, rebase->options.schema);
	PGresult * result;

	if (sql == NULL) {
		error_set(e, EXIT_BUG, "out of memory");
		return (NULL);
	}
	result = query(rebase->conn, sql, count, parameters, e);
	free(sql);
	return (result);
}

static PGresult *
rebase_ask(struct rebase * rebase, const char * text, int count, const char * const * parameters,
    struct error * e)
{
	return (rebase_ask_by(direct_query, rebase, text, count, parameters, e));
}

/* Likewise; how many rows it changed in ${*changed} (may be NULL).  0, or -1 with ${e}. */
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
rebase_ask_binary(struct rebase * rebase, const char * text, struct error * e)
{
	return (rebase_ask_by(direct_query_binary, rebase, text, 0, NULL, e));
}

static int
rebase_check_owner(struct rebase * rebase, struct error * e)
{
	PGresult * result = rebase_ask(rebase, rebase_rights_sql, 0, NULL, e);
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
	if ((result = rebase_ask_binary(rebase, guard_schema_sql, e)) == NULL)
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
	PGresult * result = rebase_ask_binary(rebase, guard_record_sql, e);
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
	PGresult * result = rebase_ask(rebase, rebase_count_sql, 0, NULL, e);
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
	if ((result = rebase_ask(rebase, rebase_leader_sql, 0, NULL, e)) == NULL)
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
	result = rebase_ask(rebase, rebase_holders_sql, 0, NULL, &ignored);
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
	char * sql = sql_in_schema(rebase_lock_sql, rebase->options.schema);
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
	if ((result = rebase_ask(rebase, rebase_operation_sql, 11, parameters, e)) == NULL)
		return (-1);
	PQclear(result);
	return (0);
}

int
rebase_finish(struct rebase * rebase, bool discard, const char * why, struct rebase_counts * counts,
    struct error * e)
{
	struct error ignored;

	if (rebase_do(rebase, rebase_sequence_sql, NULL, NULL, e))
		return (-1);
	if (counts->renumbered > 0 && rebase_do(rebase, rebase_renumber_sql, NULL, NULL, e))
		return (-1);
	if (discard &&
	    (rebase_do(rebase, rebase_discard_pending_sql, NULL, NULL, e) ||
		rebase_do(rebase, rebase_discard_delayed_sql, NULL, NULL, e)))
		return (-1);
	if (rebase_do(rebase, rebase_rewrite_sql, rebase->prev, &counts->rewritten, e) ||
	    rebase_do(rebase, rebase_mark_sql, rebase->prev, NULL, e) ||
	    rebase_do(rebase, rebase_forget_sql, NULL, NULL, e) ||
	    rebase_record(rebase, discard, why, counts, e))
		return (-1);
	if (direct_run(rebase->conn, "COMMIT", e))
		return (-1);
	/* It is done, whatever becomes of this. */
	(void)rebase_do(rebase, rebase_clean_sql, NULL, NULL, &ignored);
	return (0);
}
