/*
 * From a dsn to an open session, and with whom that is.
 *
 * What must stay true: the password is read for each attempt, so that it can be
 * replaced under a running relay (V), and is wiped; a host that says nothing
 * costs its own time and not that of the next one.
 */
#include "postgres/connection_state.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "postgres/dsn.h"
#include "postgres/sqlerror.h"

#define PASSWORD_MAX 1024

/*
 * libpq reads as much as its buffer holds, which grows only for a message
 * that does not fit: from 16 KiB to what this one needs.  A fetch then takes
 * an eighth of the system calls.
 */
#define GROW_BUFFER_SQL "repeat(' ', 120000)"

/* Without it libpq writes to stderr.  Only why the session ends is of interest. */
static void
connection_take_notice(void * context, const PGresult * notice)
{
	struct connection * connection = context;
	const char * severity = PQresultErrorField(notice, PG_DIAG_SEVERITY_NONLOCALIZED);

	if (severity != NULL && strcmp(severity, "FATAL") == 0)
		sqlerror_from_result(&connection->last_words, notice);
}

void
connection_begin_to_connect(struct connection * connection, clock_ns now)
{
	char password[PASSWORD_MAX];
	/* What stands before dbname yields to the dsn, what follows beats it. */
	const char * keywords[] = {"target_session_attrs", "keepalives_idle", "keepalives_interval",
	    "keepalives_count", "tcp_user_timeout", "dbname", "application_name", "client_encoding",
	    "password", "host", "hostaddr", "port", NULL};
	const char * values[] = {"read-write", "5", "2", "3", "8000", connection->options.dsn,
	    connection->options.application_name, "UTF8", NULL, NULL, NULL, NULL, NULL};
	struct dsn_hosts hosts;

	connection->connect_deadline = now + connection->options.connect_timeout;
	if (connection->options.password_file != NULL) {
		if (file_read_secret(connection->options.password_file, password, sizeof(password),
			&connection->failure)) {
			connection->failure_pending = true;
			return;
		}
		values[8] = password;
	}
	dsn_rotate_hosts(connection->options.dsn, connection->first_host, &hosts);
	values[9] = hosts.host;
	values[10] = hosts.hostaddr;
	values[11] = hosts.port;
	connection->conn = PQconnectStartParams(keywords, values, 1);
	dsn_free_hosts(&hosts);
	explicit_bzero(password, sizeof(password));
	if (connection->conn != NULL) {
		PQsetNoticeReceiver(connection->conn, connection_take_notice, connection);
		/* With the state's number: the words may be of any language. */
		PQsetErrorVerbosity(connection->conn, PQERRORS_VERBOSE);
	}
	connection->polling = PGRES_POLLING_WRITING;
	connection->host = NULL;
	if (connection->conn == NULL || PQstatus(connection->conn) == CONNECTION_BAD)
		connection_note_failure(connection);
}

static void
connection_answer_settings(void * context, PGresult ** result, const struct error * e)
{
	struct connection * connection = context;

	(void)result;
	if (e != NULL) {
		connection->failure = *e;
		connection->failure_pending = true;
		return;
	}
	connection->events.connected(connection->context);
}

/* One statement: set_config for each pair; the values are ours. */
static void
connection_apply_settings(struct connection * connection, clock_ns now)
{
	const char * parameters[CONNECTION_PARAMETERS_MAX];
	char sql[1024];
	size_t length;
	int count = 0;

	length = (size_t)snprintf(sql, sizeof(sql), "SELECT %s",
	    connection->options.bulk ? GROW_BUFFER_SQL : "true");
	for (const char * const * s = connection->options.settings; s != NULL && s[0] != NULL;
	     s += 2) {
		length += (size_t)snprintf(sql + length, sizeof(sql) - length,
		    ", set_config('%s', $%d, false)", s[0], count + 1);
		parameters[count++] = s[1];
	}
	/* Ends a session that only listens; known since Postgres 14. */
	if (PQserverVersion(connection->conn) >= 140000)
		length += (size_t)snprintf(sql + length, sizeof(sql) - length,
		    ", set_config('idle_session_timeout', '0', false)");
	/* Ends a session for a statement that has its own timeout; since Postgres 17. */
	if (PQserverVersion(connection->conn) >= 170000)
		length += (size_t)snprintf(sql + length, sizeof(sql) - length,
		    ", set_config('transaction_timeout', '0', false)");
	/* Such a database holds any bytes, and one row that is no UTF-8 would fail each
	 * fetch for ever (S): then they come as they are, and the link judges them. */
	if (strcmp(connection_parameter(connection, "server_encoding"), "SQL_ASCII") == 0)
		snprintf(sql + length, sizeof(sql) - length,
		    ", set_config('client_encoding', 'SQL_ASCII', false)");
	connection_send(connection, now, sql, count, parameters, connection_answer_settings,
	    connection);
}

short
connection_connecting_events(const struct connection * connection)
{
	return (connection->polling == PGRES_POLLING_READING ? POLLIN : POLLOUT);
}

/*
 * libpq goes on to the next host by itself when nobody listens, when the server
 * is starting or a standby, but not when it says nothing, hangs up or is full.
 * So each has its time, and the next attempt begins at the next host.
 */
static void
connection_check_patience(struct connection * connection, clock_ns now)
{
	/* Each host of the list has a string of its own. */
	if (connection->host != PQhost(connection->conn)) {
		connection->host = PQhost(connection->conn);
		connection->connect_deadline = now + connection->options.connect_timeout;
	}
	if (now < connection->connect_deadline)
		return;
	error_set(&connection->failure, EXIT_UNREACHABLE, "Postgres at %s did not answer in time",
	    connection_host(connection));
	error_remedy(&connection->failure, "check that the server runs and can be reached");
	connection->failure_pending = true;
}

void
connection_go_on_connecting(struct connection * connection, clock_ns now)
{
	struct pollfd fd = {.fd = PQsocket(connection->conn),
	    .events = connection_connecting_events(connection)};

	while (poll(&fd, 1, 0) > 0) {
		connection->polling = PQconnectPoll(connection->conn);
		if (connection->polling == PGRES_POLLING_FAILED) {
			connection_note_failure(connection);
			return;
		}
		if (connection->polling == PGRES_POLLING_OK) {
			connection->state = OPEN;
			PQsetErrorVerbosity(connection->conn, PQERRORS_DEFAULT);
			if (PQsetnonblocking(connection->conn, 1) ||
			    PQenterPipelineMode(connection->conn) != 1) {
				connection_note_failure(connection);
				return;
			}
			connection_apply_settings(connection, now);
			return;
		}
		fd.fd = PQsocket(connection->conn);
		fd.events = connection_connecting_events(connection);
	}
	connection_check_patience(connection, now);
}

int
connection_backend_pid(const struct connection * connection)
{
	return (connection->conn == NULL ? 0 : PQbackendPID(connection->conn));
}

const char *
connection_parameter(const struct connection * connection, const char * name)
{
	const char * value = connection->conn == NULL ?
	    NULL :
	    PQparameterStatus(connection->conn, name);

	return (value == NULL ? "" : value);
}

const char *
connection_database(const struct connection * connection)
{
	const char * name = connection->conn == NULL ? NULL : PQdb(connection->conn);

	return (name == NULL ? "" : name);
}

const char *
connection_host(const struct connection * connection)
{
	const char * name = connection->conn == NULL ? NULL : PQhost(connection->conn);

	return (name == NULL ? "" : name);
}
