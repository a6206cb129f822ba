/*
 * Whether the database can be reached at all, and what to type if not; the
 * parts of the checkup look at the rest.
 */
#include "admin/checkup.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/checkup_state.h"
#include "admin/direct.h"
#include "base/clock.h"
#include "base/shell.h"

#define PATIENCE CLOCK_S(5)
#define SERVER_OLDEST 130000

/* ---- the connection ---- */

/* A statement of a superuser's that helps against these words of libpq's; "" if none does. */
static void
statement_for(const struct checkup * c, const char * words, char * sql, size_t size)
{
	char value[CHECKUP_NAME_MAX], role[2 * CHECKUP_NAME_MAX], database[2 * CHECKUP_NAME_MAX];
	bool missing = strstr(words, "does not exist") != NULL;

	remedy_value(c->options->dsn, "user", value, sizeof(value));
	remedy_identifier(value, role, sizeof(role));
	remedy_value(c->options->dsn, "dbname", database, sizeof(database));
	/* As libpq has it. */
	remedy_identifier(database[0] != '\0' ? strcpy(value, database) : value, database,
	    sizeof(database));
	sql[0] = '\0';
	if (missing && strstr(words, "role \"") != NULL)
		snprintf(sql, size, "CREATE ROLE %s LOGIN", role);
	else if (missing && strstr(words, "database \"") != NULL)
		snprintf(sql, size, "CREATE DATABASE %s", database);
	else if (strstr(words, "is not permitted to log in") != NULL)
		snprintf(sql, size, "ALTER ROLE %s LOGIN", role);
	else if (strstr(words, "permission denied for database") != NULL)
		snprintf(sql, size, "GRANT CONNECT ON DATABASE %s TO %s", database, role);
	else if (strstr(words, "too many connections for role") != NULL)
		snprintf(sql, size, "ALTER ROLE %s CONNECTION LIMIT -1", role);
	else if (strstr(words, "too many connections for database") != NULL)
		snprintf(sql, size, "ALTER DATABASE %s CONNECTION LIMIT -1", database);
}

static void
remedy_connection(struct checkup * c, const struct error * e)
{
	char sql[1200], quoted[1024], host[CHECKUP_NAME_MAX];

	statement_for(c, e->text, sql, sizeof(sql));
	if (sql[0] != '\0') {
		finding_remedy(c->findings, "%s  # as a superuser",
		    remedy_psql(c->options->dsn, "postgres", "postgres", sql, c->remedy));
	} else if (strstr(e->text, "password authentication failed") != NULL &&
	    c->options->password_file != NULL) {
		finding_remedy(c->findings, "cat >%s  # type the right password, Enter, Ctrl-D",
		    shell_quote(quoted, sizeof(quoted), c->options->password_file));
	} else if (strstr(e->text, "Connection refused") != NULL ||
	    strstr(e->text, "No such file or directory") != NULL) {
		remedy_value(c->options->dsn, "host", host, sizeof(host));
		finding_remedy(c->findings,
		    "systemctl start postgresql  # at %s; or correct postgres.dsn",
		    host[0] != '\0' ? host : "its host");
	} else
		finding_remedy(c->findings, "%s", e->remedy);
}

static const char server_sql[] =
    "SELECT pg_is_in_recovery(), current_setting('server_version'),"
    " current_setting('server_version_num')::int, current_user::text, current_database()::text,"
    " (SELECT rolname FROM pg_roles WHERE oid = 10),"
    " (SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()),"
    " current_setting('default_transaction_read_only')::bool,"
    " quote_ident(current_user), quote_ident(current_database()), pg_backend_pid()";

/* Where it leads to; 0: to a server that a relay can work with. */
static int
check_connection(struct checkup * c)
{
	PGresult * r = checkup_ask(c, "postgres", server_sql, 0, NULL, false);
	const char * host = PQhost(c->conn);
	char sql[600];
	int bad = -1;

	if (r == NULL)
		return (-1);
	snprintf(c->role, sizeof(c->role), "%s", PQgetvalue(r, 0, 3));
	snprintf(c->database, sizeof(c->database), "%s", PQgetvalue(r, 0, 4));
	snprintf(c->admin, sizeof(c->admin), "%s", PQgetvalue(r, 0, 5));
	snprintf(c->owner, sizeof(c->owner), "%s", PQgetvalue(r, 0, 6));
	if (PQgetvalue(r, 0, 0)[0] == 't') {
		finding_fail(c->findings, "postgres",
		    "the server of database %s at %s is a standby; the relay needs the primary",
		    c->database, host);
		finding_remedy(c->findings,
		    "name the primary, or all hosts, in postgres.dsn; or, if the primary is gone: %s",
		    remedy_psql(c->options->dsn, c->admin, NULL, "SELECT pg_promote()", c->remedy));
	} else if (strtol(PQgetvalue(r, 0, 2), NULL, 10) < SERVER_OLDEST) {
		finding_fail(c->findings, "postgres", "the server is Postgres %s, older than 13",
		    PQgetvalue(r, 0, 1));
		finding_remedy(c->findings, "upgrade the server");
	} else if (PQgetvalue(r, 0, 7)[0] == 't') {
		finding_fail(c->findings, "postgres",
		    "sessions of %s in database %s are read-only by default", c->role, c->database);
		snprintf(sql, sizeof(sql),
		    "SET default_transaction_read_only = off\n"
		    "ALTER ROLE %s IN DATABASE %s SET default_transaction_read_only = off",
		    PQgetvalue(r, 0, 8), PQgetvalue(r, 0, 9));
		checkup_psql(c, c->admin, sql);
	} else {
		finding_ok(c->findings, "postgres", "database %s at %s as %s: Postgres %s, primary",
		    c->database, host, c->role, PQgetvalue(r, 0, 1));
		bad = 0;
	}
	PQclear(r);
	return (bad);
}

/* ---- a pooler ---- */

/* The process that answers; 0: none within the time. */
static int
answering_pid(PGconn * conn)
{
	clock_ns deadline = clock_now() + PATIENCE;
	PGresult *last = NULL, *r;
	int pid = 0;

	if (PQsendQuery(conn, "SELECT pg_backend_pid()") != 1)
		return (0);
	while (PQisBusy(conn)) {
		struct pollfd fd = {.fd = PQsocket(conn), .events = POLLIN};
		clock_ns now = clock_now();

		if (now >= deadline)
			return (0);
		(void)poll(&fd, 1, (int)((deadline - now) / CLOCK_MS(1)) + 1);
		if (PQconsumeInput(conn) != 1)
			return (0);
	}
	while ((r = PQgetResult(conn)) != NULL) {
		if (PQresultStatus(r) == PGRES_TUPLES_OK && PQntuples(r) == 1)
			pid = (int)strtol(PQgetvalue(r, 0, 0), NULL, 10);
		PQclear(last);
		last = r;
	}
	PQclear(last);
	return (pid);
}

/*
 * Who answers is not who greeted: a pooler stands between.  It lends sessions
 * if a second client is served by the process that served the first a moment
 * ago, or the first by two (postgres/pooler.h).
 */
static void
check_pooler(struct checkup * c, const struct direct_options * options)
{
	int greeted = PQbackendPID(c->conn), pid = answering_pid(c->conn), again;
	PGconn * second;
	struct error e;
	bool lends = false;

	if (pid == greeted) {
		finding_ok(c->findings, "pooler",
		    "none: the connection leads to the server itself");
		return;
	}
	if ((second = direct_open(options, &e)) != NULL) {
		again = answering_pid(c->conn);
		lends = again != pid || answering_pid(second) == again;
		PQfinish(second);
	}
	if (!lends) {
		finding_ok(c->findings, "pooler",
		    "one stands in between and gives a session for good; it needs two for each "
		    "relay");
		return;
	}
	finding_fail(c->findings, "pooler",
	    "a pooler in transaction mode stands in between: the lock that makes a leader and "
	    "LISTEN do not survive it");
	finding_remedy(c->findings,
	    "name the server itself in postgres.dsn (host and port of Postgres, not of the "
	    "pooler)");
}

void
checkup_postgres(const struct checkup_options * options, struct findings * findings,
    struct checkup_routes * routes)
{
	const struct direct_options connection = {.dsn = options->dsn,
	    .password_file = options->password_file,
	    .purpose = "doctor"};
	struct checkup c = {.options = options, .findings = findings};
	struct error e;

	routes->known = false;
	routes->count = 0;
	if ((c.conn = direct_open(&connection, &e)) == NULL) {
		finding_fail(findings, "postgres", "%s", e.text);
		remedy_connection(&c, &e);
		return;
	}
	if (check_connection(&c) == 0) {
		check_pooler(&c, &connection);
		c.usable = checkup_schema(&c) == 0;
		if (c.usable)
			checkup_outbox(&c, routes);
		checkup_server(&c);
	}
	PQfinish(c.conn);
}
