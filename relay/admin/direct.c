/*
 * The settings are those of the daemon's session where they matter: UTF8, and
 * what follows dbname beats the dsn, what stands before yields to it.  Rows that
 * a policy hides are not counted as none (H): the server refuses instead.
 */
#include "admin/direct.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "postgres/sql.h"
#include "postgres/sqlerror.h"

#define PASSWORD_MAX 1024

PGconn *
direct_open(const struct direct_options * options, struct error * e)
{
	char password[PASSWORD_MAX];
	char name[64];
	const char * keywords[] = {"target_session_attrs", "connect_timeout", "dbname",
	    "application_name", "client_encoding", "password", NULL};
	const char * values[] = {options->writable ? "read-write" : "any", "10", options->dsn, name,
	    "UTF8", NULL, NULL};
	PGconn * conn;

	snprintf(name, sizeof(name), "outbox-relay %s", options->purpose);
	if (options->password_file != NULL) {
		if (file_read_secret(options->password_file, password, sizeof(password), e))
			return (NULL);
		values[5] = password;
	}
	conn = PQconnectdbParams(keywords, values, 1);
	explicit_bzero(password, sizeof(password));
	if (conn == NULL || PQstatus(conn) != CONNECTION_OK) {
		sqlerror_from_connection(e, conn);
		PQfinish(conn);
		return (NULL);
	}
	/* Such a database holds any bytes, and the server would not show a row that is no UTF-8. */
	if (strcmp(PQparameterStatus(conn, "server_encoding"), "SQL_ASCII") == 0)
		(void)PQsetClientEncoding(conn, "SQL_ASCII");
	/* Notices go to stderr as psql prints them; these commands explain themselves. */
	if (direct_run(conn,
		"SET client_min_messages = warning; SET row_security = off; "
		"SET quote_all_identifiers = off; SET array_nulls = on; SET DateStyle = ISO; "
		"SET default_transaction_isolation = 'read committed'; "
		"SET search_path = " SQL_SEARCH_PATH "; "
		/* What may last sets its statement_timeout itself; known since Postgres 17. */
		"SELECT set_config(name, '0', false) FROM pg_settings "
		"WHERE name = 'transaction_timeout'",
		e) ||
	    (options->look_only && direct_run(conn, "SET default_transaction_read_only = on", e))) {
		PQfinish(conn);
		return (NULL);
	}
	return (conn);
}

static int
direct_check(PGconn * conn, PGresult * result, struct error * e)
{
	ExecStatusType status = PQresultStatus(result);

	if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK)
		return (0);
	if (result == NULL || PQstatus(conn) != CONNECTION_OK)
		sqlerror_from_connection(e, conn);
	else
		sqlerror_from_result(e, result);
	return (-1);
}

static PGresult *
direct_ask(PGconn * conn, const char * sql, int count, const char * const * parameters, int format,
    struct error * e)
{
	PGresult * result = PQexecParams(conn, sql, count, NULL, parameters, NULL, NULL, format);

	if (direct_check(conn, result, e)) {
		PQclear(result);
		return (NULL);
	}
	return (result);
}

PGresult *
direct_query(PGconn * conn, const char * sql, int count, const char * const * parameters,
    struct error * e)
{
	return (direct_ask(conn, sql, count, parameters, 0, e));
}

PGresult *
direct_query_binary(PGconn * conn, const char * sql, int count, const char * const * parameters,
    struct error * e)
{
	return (direct_ask(conn, sql, count, parameters, 1, e));
}

int
direct_run(PGconn * conn, const char * sql, struct error * e)
{
	PGresult * result = PQexec(conn, sql);
	int failed = direct_check(conn, result, e);

	PQclear(result);
	return (failed);
}

void
direct_name_grant(PGconn * conn, const char * schema, const char * function, struct error * e)
{
	const char * role = PQuser(conn);
	char * literal;

	if (strcmp(e->sqlstate, "42501") != 0 ||
	    (literal = PQescapeLiteral(conn, role, strlen(role))) == NULL)
		return;
	error_remedy(e, "as the owner of the schema: SELECT %s.%s(%s)", schema, function, literal);
	PQfreemem(literal);
}
