#include "inbox_database.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inbox_error.h"

/*
 * What must stay true: a transaction is committed only if COMMIT was answered
 * with "COMMIT" (a failed one answers "ROLLBACK", without an error).  The
 * connection is used as the handler left it only if it is in an open transaction
 * that has not failed.  One prepared statement has a name, the claim of one
 * message, and it need not be there: a handler may deallocate it, and a pooler
 * give the next transaction another session.  The schema is part of its name, so
 * whoever meets it in such a session means the same.
 */
#define SQL_MAX (INBOX_QUOTED_MAX + 128)
#define PURGE_ROWS 1000 /* a piece: messages wait for it */

/* A statement without parameters. */
static enum inbox_code
run(struct inbox_database * d, const char * sql, struct inbox_error * error)
{
	PGresult * result = PQexec(d->db, sql);
	ExecStatusType status = PQresultStatus(result);
	enum inbox_code code = INBOX_OK;

	if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
		code = inbox_error_result(error, d->db, result);
	PQclear(result);
	return (code);
}

/* A lock_timeout that the role or the conninfo sets is theirs to set. */
static enum inbox_code
set_up(struct inbox_database * d, struct inbox_error * error)
{
	char sql[SQL_MAX];

	snprintf(sql, sizeof(sql),
	    "SELECT set_config('lock_timeout', '%" PRId64 "', false) "
	    "WHERE current_setting('lock_timeout') = '0'",
	    d->options->lock_timeout_ms);
	return (run(d, sql, error));
}

static void
claim_sql(const struct inbox_database * d, char sql[SQL_MAX])
{
	snprintf(sql, SQL_MAX, "SELECT %s.claim($1, $2)", d->schema);
}

/* Nothing depends on it: what is wrong with the schema is told by the first claim. */
static void
prepare_claim(struct inbox_database * d)
{
	const Oid types[] = {INBOX_OID_TEXT, INBOX_OID_TEXT};
	int length = snprintf(d->claim, sizeof(d->claim), "inbox_claim %s", d->schema);
	char sql[SQL_MAX];
	PGresult * result;

	claim_sql(d, sql);
	result = (size_t)length < sizeof(d->claim) ?
	    PQprepare(d->db, d->claim, sql, 2, types) :
	    NULL;
	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		*d->claim = '\0';
	PQclear(result);
}

enum inbox_code
inbox_database_open(struct inbox_database * d, struct inbox_error * error)
{
	/* What the conninfo says comes after these and wins. */
	const char * const keys[] = {"connect_timeout", "keepalives_idle", "keepalives_interval",
	    "keepalives_count", "tcp_user_timeout", "client_encoding", "fallback_application_name",
	    "dbname", NULL};
	const char * const values[] = {"5", "30", "10", "3", "30000", "UTF8", d->options->name,
	    d->options->postgres, NULL};
	enum inbox_code code;

	if ((d->db = PQconnectdbParams(keys, values, 1)) == NULL)
		return (inbox_error_set(error, INBOX_NO_MEMORY, "no memory for a connection"));
	if (PQstatus(d->db) != CONNECTION_OK)
		code = inbox_error_set(error, INBOX_NO_CONNECTION, "%s", PQerrorMessage(d->db));
	else
		code = set_up(d, error);
	if (code != INBOX_OK) {
		inbox_database_close(d);
		return (code);
	}
	prepare_claim(d);
	return (inbox_error_set(error, INBOX_OK, "%s:%s database=%s", PQhost(d->db), PQport(d->db),
	    PQdb(d->db)));
}

void
inbox_database_close(struct inbox_database * d)
{
	PQfinish(d->db);
	d->db = NULL;
}

static enum inbox_code
check_commit(PGresult * result, struct inbox_error * error)
{
	if (strcmp(PQcmdStatus(result), "COMMIT") == 0)
		return (INBOX_OK);
	return (inbox_error_set(error, INBOX_FAILED, "COMMIT was answered with %s",
	    PQcmdStatus(result)));
}

static int
send_claims(struct inbox_database * d, const char * const * ids, size_t count,
    const struct inbox_array * array)
{
	const Oid types[] = {INBOX_OID_TEXT, count == 1 ? INBOX_OID_TEXT : INBOX_OID_TEXT_ARRAY};
	const char * const values[] = {d->options->name, count == 1 ? ids[0] : array->data};
	const int lengths[] = {0, array->len};
	const int formats[] = {0, count == 1 ? 0 : 1};
	char sql[SQL_MAX];
	int sent;

	if (!PQsendQueryParams(d->db, "BEGIN", 0, NULL, NULL, NULL, NULL, 0))
		return (0);
	if (count == 1 && *d->claim != '\0')
		sent = PQsendQueryPrepared(d->db, d->claim, 2, values, NULL, NULL, 0);
	else {
		claim_sql(d, sql);
		sent = PQsendQueryParams(d->db, sql, 2, types, values, lengths, formats, 0);
	}
	return (sent && PQpipelineSync(d->db));
}

/* Up to the next Sync; keeps the first result of the kind that is ${wanted}. */
static enum inbox_code
read_part(struct inbox_database * d, ExecStatusType wanted, PGresult ** kept,
    struct inbox_error * error)
{
	enum inbox_code code = INBOX_OK;
	int nothing = 0;

	*kept = NULL;
	/* One NULL ends a statement; more say that nothing will come. */
	while (nothing < 2) {
		PGresult * result = PQgetResult(d->db);
		ExecStatusType status = PQresultStatus(result);

		nothing = result == NULL ? nothing + 1 : 0;
		if (status == wanted && *kept == NULL) {
			*kept = result;
			continue;
		}
		if (result != NULL && status == PGRES_FATAL_ERROR && code == INBOX_OK)
			code = inbox_error_result(error, d->db, result);
		PQclear(result);
		if (status == PGRES_PIPELINE_SYNC)
			break;
	}
	if (code == INBOX_OK && *kept == NULL)
		code = inbox_error_result(error, d->db, NULL);
	return (code);
}

static enum inbox_code
cannot_send(struct inbox_database * d, struct inbox_error * error)
{
	return (inbox_error_set(error, INBOX_NO_CONNECTION, "cannot send to Postgres: %s",
	    PQerrorMessage(d->db)));
}

/* The answers to BEGIN and the claims are read or lost; whatever fails leaves no transaction. */
static enum inbox_code
leave(struct inbox_database * d, enum inbox_code code, struct inbox_error * error)
{
	struct inbox_error more;

	if (!PQexitPipelineMode(d->db) && code != INBOX_NO_CONNECTION)
		code = inbox_error_set(error, INBOX_NO_CONNECTION, "out of step with Postgres: %s",
		    PQerrorMessage(d->db));
	if (code == INBOX_REFUSED && inbox_database_rollback(d, &more) != INBOX_OK) {
		*error = more;
		code = more.code;
	}
	return (code);
}

static enum inbox_code
begin(struct inbox_database * d, const char * const * ids, size_t count,
    const struct inbox_array * array, bool * are_new, struct inbox_error * error)
{
	PGresult * rows = NULL;
	enum inbox_code code;

	if (!PQenterPipelineMode(d->db))
		return (inbox_error_result(error, d->db, NULL));
	if (send_claims(d, ids, count, array))
		code = read_part(d, PGRES_TUPLES_OK, &rows, error);
	else
		code = cannot_send(d, error);
	if (code == INBOX_OK && count == 1)
		are_new[0] = *PQgetvalue(rows, 0, 0) == 't';
	else if (code == INBOX_OK && !inbox_claims_match(rows, ids, count, are_new))
		code = inbox_error_set(error, INBOX_NO_MEMORY, "no memory for a batch");
	PQclear(rows);
	return (leave(d, code, error));
}

/* The statement is gone: from now on, on this connection, without it. */
static bool
claim_is_gone(struct inbox_database * d, const struct inbox_error * error)
{
	if (*d->claim == '\0' || strcmp(error->sqlstate, "26000") != 0)
		return (false);
	*d->claim = '\0';
	return (true);
}

enum inbox_code
inbox_database_begin(struct inbox_database * d, const char * const * ids, size_t count,
    bool * are_new, struct inbox_error * error)
{
	struct inbox_array array = {NULL, 0};
	enum inbox_code code;

	if (count > 1 && !inbox_array_make(&array, ids, count))
		return (inbox_error_set(error, INBOX_NO_MEMORY, "no memory for a batch"));
	code = begin(d, ids, count, &array, are_new, error);
	if (code == INBOX_REFUSED && claim_is_gone(d, error))
		code = begin(d, ids, count, &array, are_new, error);
	free(array.data);
	return (code);
}

/* In pipeline mode, up to the end of this statement. */
static enum inbox_code
read_commit(struct inbox_database * d, struct inbox_error * error)
{
	PGresult * result = PQgetResult(d->db);
	enum inbox_code code;

	if (PQresultStatus(result) == PGRES_COMMAND_OK)
		code = check_commit(result, error);
	else
		code = inbox_error_result(error, d->db, result);
	while (result != NULL) {
		PQclear(result);
		result = PQgetResult(d->db);
	}
	return (code);
}

enum inbox_code
inbox_database_commit_and_begin(struct inbox_database * d, const char * id, bool * is_new,
    struct inbox_error * error, struct inbox_error * begun)
{
	const struct inbox_array none = {NULL, 0};
	PGresult * rows;
	enum inbox_code code;

	if (!PQenterPipelineMode(d->db) ||
	    !PQsendQueryParams(d->db, "COMMIT", 0, NULL, NULL, NULL, NULL, 0) ||
	    !send_claims(d, &id, 1, &none))
		return (cannot_send(d, error));
	code = read_commit(d, error);
	inbox_error_set(begun, INBOX_OK, "%s", "");
	if (read_part(d, PGRES_TUPLES_OK, &rows, begun) == INBOX_OK)
		*is_new = *PQgetvalue(rows, 0, 0) == 't';
	PQclear(rows);
	leave(d, begun->code, begun);
	if (code == INBOX_OK && claim_is_gone(d, begun)) {
		inbox_error_set(begun, INBOX_OK, "%s", "");
		begin(d, &id, 1, &none, is_new, begun);
	}
	return (code);
}

enum inbox_code
inbox_database_check(struct inbox_database * d, struct inbox_error * error)
{
	const char * message = PQerrorMessage(d->db);

	if (PQstatus(d->db) != CONNECTION_OK)
		return (inbox_error_set(error, INBOX_NO_CONNECTION,
		    "the connection to Postgres was lost in the handler"));
	/* Whatever comes in would belong to the handler's statements. */
	if (PQpipelineStatus(d->db) != PQ_PIPELINE_OFF ||
	    PQtransactionStatus(d->db) == PQTRANS_ACTIVE)
		return (inbox_error_set(error, INBOX_NO_CONNECTION,
		    "the handler left a statement or pipeline mode behind"));
	/* Its first line alone: the DETAIL may repeat a row. */
	if (PQtransactionStatus(d->db) == PQTRANS_INERROR)
		return (inbox_error_set(error, INBOX_FAILED, "%.*s", (int)strcspn(message, "\n"),
		    message));
	if (PQtransactionStatus(d->db) != PQTRANS_INTRANS)
		return (inbox_error_set(error, INBOX_NO_TRANSACTION,
		    "the handler ended the transaction"));
	return (INBOX_OK);
}

enum inbox_code
inbox_database_commit(struct inbox_database * d, struct inbox_error * error)
{
	PGresult * result = PQexec(d->db, "COMMIT");
	enum inbox_code code;

	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		code = inbox_error_result(error, d->db, result);
	else
		code = check_commit(result, error);
	PQclear(result);
	return (code);
}

enum inbox_code
inbox_database_rollback(struct inbox_database * d, struct inbox_error * error)
{
	if (PQtransactionStatus(d->db) == PQTRANS_IDLE)
		return (INBOX_OK);
	return (run(d, "ROLLBACK", error));
}

enum inbox_code
inbox_database_count_failure(struct inbox_database * d, const char * id, const char * reason,
    int * failures, struct inbox_error * error)
{
	const char * const values[] = {d->options->name, id, reason};
	const Oid types[] = {INBOX_OID_TEXT, INBOX_OID_TEXT, INBOX_OID_TEXT};
	enum inbox_code code = INBOX_OK;
	char sql[SQL_MAX];
	PGresult * result;

	snprintf(sql, sizeof(sql), "SELECT %s.fail($1, $2, $3)", d->schema);
	result = PQexecParams(d->db, sql, 3, types, values, NULL, NULL, 0);
	if (PQresultStatus(result) == PGRES_TUPLES_OK)
		*failures = atoi(PQgetvalue(result, 0, 0));
	else
		code = inbox_error_result(error, d->db, result);
	PQclear(result);
	return (code);
}

enum inbox_code
inbox_database_forget_failures(struct inbox_database * d, const char * id,
    struct inbox_error * error)
{
	const char * const values[] = {d->options->name, id};
	const Oid types[] = {INBOX_OID_TEXT, INBOX_OID_TEXT};
	enum inbox_code code = INBOX_OK;
	char sql[SQL_MAX];
	PGresult * result;

	snprintf(sql, sizeof(sql), "DELETE FROM %s.attempt WHERE consumer = $1 AND message_id = $2",
	    d->schema);
	result = PQexecParams(d->db, sql, 2, types, values, NULL, NULL, 0);
	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		code = inbox_error_result(error, d->db, result);
	PQclear(result);
	return (code);
}

enum inbox_code
inbox_database_purge(struct inbox_database * d, bool * more, struct inbox_error * error)
{
	enum inbox_code code = INBOX_OK;
	char sql[SQL_MAX];
	PGresult * result;

	*more = false;
	snprintf(sql, sizeof(sql), "SELECT %s.purge(interval '1 second' * %" PRId64 ", %d)",
	    d->schema, d->options->retention_s, PURGE_ROWS);
	result = PQexec(d->db, sql);
	if (PQresultStatus(result) == PGRES_TUPLES_OK)
		*more = atoi(PQgetvalue(result, 0, 0)) >= PURGE_ROWS;
	else
		code = inbox_error_result(error, d->db, result);
	PQclear(result);
	return (code);
}
