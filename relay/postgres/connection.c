/*
 * A connection is in one of three states: closed, connecting, open.  Only
 * connection_turn leaves "connecting" or tells of a failure, so no caller is
 * surprised by an event from inside a call of its own.
 *
 * Requests are answered at their Sync, not at their result: in the extended
 * protocol the commit comes with the Sync, and "recorded" must mean committed.
 * Open requests lie in a ring in the order of sending; libpq answers in that
 * order.
 */
#include "postgres/connection.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "postgres/dsn.h"
#include "postgres/sqlerror.h"

#define REQUESTS_MAX 32
#define PASSWORD_MAX 1024

/*
 * Every statement has a timeout of a minute at most (source.c), so a server that
 * says nothing for longer, while it owes an answer, is one that hangs.
 */
#define SILENCE_MAX CLOCK_S(75)

/* How often one turn reads before it looks at the other sockets. */
#define READS_PER_TURN 16

/*
 * libpq reads as much as its buffer holds, which grows only for a message
 * that does not fit: from 16 KiB to what this one needs.  A fetch then takes
 * an eighth of the system calls.
 */
#define GROW_BUFFER_SQL "repeat(' ', 120000)"

enum state { CLOSED, CONNECTING, OPEN };

struct request {
	connection_answer * answer;
	void * context;
	clock_ns sent;
	PGresult * result;
	bool failed;
};

struct connection {
	struct connection_options options;
	struct connection_events events;
	void * context;
	enum state state;
	PGconn * conn;
	PostgresPollingStatusType polling;
	clock_ns connect_deadline; /* of the host that is being tried */
	const char * host;         /* which that is */
	size_t first_host;         /* where the next attempt begins in the dsn's list */
	struct error last_words;   /* the server's, unasked, before it hung up; or clear */
	struct error failure;      /* found outside a turn, told by the next */
	bool failure_pending;
	bool want_write;
	clock_ns proof;
	clock_ns last_sent;
	clock_ns last_read; /* when anything came */
	struct request requests[REQUESTS_MAX];
	size_t first;
	size_t pending;
	bool grouping; /* between connection_begin and connection_end */
};

static void
connection_forget_requests(struct connection * connection)
{
	for (; connection->pending > 0; connection->pending--) {
		struct request * r = &connection->requests[connection->first % REQUESTS_MAX];

		PQclear(r->result);
		r->result = NULL;
		connection->first++;
	}
}

static void
connection_note_failure(struct connection * connection)
{
	const struct request * oldest = &connection->requests[connection->first % REQUESTS_MAX];

	if (connection->failure_pending)
		return;
	/* It hung up after an error, or after words that nobody had asked for. */
	if (connection->pending > 0 && oldest->failed &&
	    PQresultErrorField(oldest->result, PG_DIAG_SQLSTATE) != NULL)
		sqlerror_from_result(&connection->failure, oldest->result);
	else if (connection->last_words.text[0] != '\0')
		connection->failure = connection->last_words;
	else
		sqlerror_from_connection(&connection->failure, connection->conn);
	connection->failure_pending = true;
}

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
connection_lose(struct connection * connection, const char * reason)
{
	if (connection->failure_pending)
		return;
	error_set(&connection->failure, EXIT_BUG, "%s", reason);
	connection->failure_pending = true;
}

struct connection *
connection_new(const struct connection_options * options, const struct connection_events * events,
    void * context)
{
	struct connection * connection;

	if ((connection = calloc(1, sizeof(*connection))) == NULL)
		return (NULL);
	connection->options = *options;
	connection->events = *events;
	connection->context = context;
	return (connection);
}

void
connection_free(struct connection * connection)
{
	if (connection == NULL)
		return;
	connection_close(connection);
	free(connection);
}

void
connection_close(struct connection * connection)
{
	connection_forget_requests(connection);
	PQfinish(connection->conn);
	connection->conn = NULL;
	connection->state = CLOSED;
	connection->failure_pending = false;
	connection->want_write = false;
	connection->grouping = false;
	connection->proof = 0;
	error_clear(&connection->last_words);
}

bool
connection_is_open(const struct connection * connection)
{
	return (connection->state == OPEN && !connection->failure_pending);
}

static void
connection_fail(struct connection * connection)
{
	struct error e = connection->failure;

	if (connection->state == CONNECTING)
		connection->first_host++;
	connection_close(connection);
	connection->events.failed(connection->context, &e);
}

void
connection_connect(struct connection * connection, clock_ns now)
{
	char password[PASSWORD_MAX];
	/* What stands before dbname yields to the dsn, what follows beats it. */
	const char * keywords[] = {"target_session_attrs", "keepalives_idle", "keepalives_interval",
	    "keepalives_count", "tcp_user_timeout", "dbname", "application_name", "client_encoding",
	    "password", "host", "hostaddr", "port", NULL};
	const char * values[] = {"read-write", "5", "2", "3", "8000", connection->options.dsn,
	    connection->options.application_name, "UTF8", NULL, NULL, NULL, NULL, NULL};
	struct dsn_hosts hosts;

	connection_close(connection);
	connection->state = CONNECTING;
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
	if (connection->conn != NULL)
		PQsetNoticeReceiver(connection->conn, connection_take_notice, connection);
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
	/* Such a database holds any bytes, and one row that is no UTF-8 would fail each
	 * fetch for ever (S): then they come as they are, and the link judges them. */
	if (strcmp(connection_parameter(connection, "server_encoding"), "SQL_ASCII") == 0)
		snprintf(sql + length, sizeof(sql) - length,
		    ", set_config('client_encoding', 'SQL_ASCII', false)");
	connection_send(connection, now, sql, count, parameters, connection_answer_settings,
	    connection);
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

static void
connection_go_on_connecting(struct connection * connection, clock_ns now)
{
	struct pollfd fd = {.fd = PQsocket(connection->conn),
	    .events = connection_poll_events(connection)};

	while (poll(&fd, 1, 0) > 0) {
		connection->polling = PQconnectPoll(connection->conn);
		if (connection->polling == PGRES_POLLING_FAILED) {
			connection_note_failure(connection);
			return;
		}
		if (connection->polling == PGRES_POLLING_OK) {
			connection->state = OPEN;
			if (PQsetnonblocking(connection->conn, 1) ||
			    PQenterPipelineMode(connection->conn) != 1) {
				connection_note_failure(connection);
				return;
			}
			connection_apply_settings(connection, now);
			return;
		}
		fd.fd = PQsocket(connection->conn);
		fd.events = connection_poll_events(connection);
	}
	connection_check_patience(connection, now);
}

static struct request *
connection_add_request(struct connection * connection, clock_ns now, connection_answer * answer,
    void * context)
{
	struct request * r;

	if (!connection_is_open(connection) || connection->pending == REQUESTS_MAX) {
		connection_lose(connection, "too many open requests to Postgres");
		return (NULL);
	}
	r = &connection->requests[(connection->first + connection->pending++) % REQUESTS_MAX];
	*r = (struct request){.answer = answer, .context = context, .sent = now};
	connection->last_sent = now;
	return (r);
}

/* Whether a request may be sent: added, or a part of the one that is being made. */
static bool
connection_starts(struct connection * connection, clock_ns now, connection_answer * answer,
    void * context)
{
	if (connection->grouping)
		return (connection_is_open(connection));
	return (connection_add_request(connection, now, answer, context) != NULL);
}

static void
connection_sync(struct connection * connection)
{
	if (PQpipelineSync(connection->conn) != 1)
		connection_note_failure(connection);
	connection->want_write = true;
}

static void
connection_sent(struct connection * connection, int sent)
{
	if (sent != 1)
		connection_note_failure(connection);
	else if (!connection->grouping)
		connection_sync(connection);
}

void
connection_send(struct connection * connection, clock_ns now, const char * sql, int count,
    const char * const * parameters, connection_answer * answer, void * context)
{
	if (connection_starts(connection, now, answer, context))
		connection_sent(connection,
		    PQsendQueryParams(connection->conn, sql, count, NULL, parameters, NULL, NULL,
			1));
}

void
connection_prepare(struct connection * connection, clock_ns now, const char * name,
    const char * sql, connection_answer * answer, void * context)
{
	if (connection_starts(connection, now, answer, context))
		connection_sent(connection, PQsendPrepare(connection->conn, name, sql, 0, NULL));
}

void
connection_send_prepared(struct connection * connection, clock_ns now, const char * name, int count,
    const char * const * parameters, connection_answer * answer, void * context)
{
	if (connection_starts(connection, now, answer, context))
		connection_sent(connection,
		    PQsendQueryPrepared(connection->conn, name, count, parameters, NULL, NULL, 1));
}

void
connection_begin(struct connection * connection, clock_ns now, connection_answer * answer,
    void * context)
{
	connection->grouping = connection_add_request(connection, now, answer, context) != NULL;
}

/* Without the Sync nothing is committed, whatever has been sent already. */
void
connection_end(struct connection * connection)
{
	if (connection->grouping && connection_is_open(connection))
		connection_sync(connection);
	connection->grouping = false;
}

void
connection_flush(struct connection * connection)
{
	int left;

	if (connection->state != OPEN || connection->failure_pending || !connection->want_write)
		return;
	if ((left = PQflush(connection->conn)) < 0)
		connection_note_failure(connection);
	connection->want_write = left > 0;
}

/* Hand the oldest request its answer; its callback may send or close. */
static void
connection_answer_oldest(struct connection * connection)
{
	struct request r = connection->requests[connection->first % REQUESTS_MAX];
	struct error e;

	connection->first++;
	connection->pending--;
	if (r.sent > connection->proof)
		connection->proof = r.sent;
	if (r.failed)
		sqlerror_from_result(&e, r.result);
	if (r.answer != NULL)
		r.answer(r.context, &r.result, r.failed ? &e : NULL);
	else if (r.failed && !connection->failure_pending) {
		/* Nobody looks at it, but what follows relies on it: a statement
		 * that could not be prepared, above all. */
		connection->failure = e;
		connection->failure_pending = true;
	}
	PQclear(r.result);
}

static void
connection_take_results(struct connection * connection)
{
	bool ended = false;

	while (connection->state == OPEN && !connection->failure_pending &&
	    connection->pending > 0 && !PQisBusy(connection->conn)) {
		struct request * r = &connection->requests[connection->first % REQUESTS_MAX];
		PGresult * result = PQgetResult(connection->conn);

		/* The end of one request's results, or, again, of all: libpq says so
		 * for ever once the connection is gone. */
		if (result == NULL) {
			if (ended)
				break;
			ended = true;
			continue;
		}
		ended = false;
		switch (PQresultStatus(result)) {
		case PGRES_PIPELINE_SYNC:
			PQclear(result);
			connection_answer_oldest(connection);
			break;
		case PGRES_FATAL_ERROR:
		case PGRES_PIPELINE_ABORTED:
			if (!r->failed) {
				PQclear(r->result);
				r->result = result;
				r->failed = true;
			} else
				PQclear(result);
			break;
		default:
			if (!r->failed) {
				PQclear(r->result);
				r->result = result;
			} else
				PQclear(result);
		}
	}
}

static void
connection_take_notifications(struct connection * connection)
{
	PGnotify * n;

	while (connection->state == OPEN && (n = PQnotifies(connection->conn)) != NULL) {
		if (connection->events.notified != NULL)
			connection->events.notified(connection->context, n->relname);
		PQfreemem(n);
	}
}

static void
connection_read(struct connection * connection)
{
	struct pollfd fd = {.fd = PQsocket(connection->conn), .events = POLLIN};

	/* When nothing is owed, rows need not wait for one more look. */
	for (int i = 0; i < READS_PER_TURN && connection->state == OPEN; i++) {
		if (i > 0 && (connection->pending == 0 || poll(&fd, 1, 0) <= 0))
			break;
		if (PQconsumeInput(connection->conn) != 1) {
			/* What came before the end is read first: it may say why. */
			connection_take_results(connection);
			PQisBusy(connection->conn);
			connection_note_failure(connection);
			break;
		}
		connection_take_results(connection);
		if (connection->failure_pending || connection->conn == NULL)
			break;
	}
	connection_take_notifications(connection);
}

void
connection_turn(struct connection * connection, clock_ns now, bool readable)
{
	if (connection->state == CONNECTING && !connection->failure_pending)
		connection_go_on_connecting(connection, now);
	if (connection->state == OPEN && !connection->failure_pending && readable) {
		connection->last_read = now;
		connection_read(connection);
	}
	connection_flush(connection);
	if (connection->state == OPEN && !connection->failure_pending &&
	    now >= connection_deadline(connection)) {
		error_set(&connection->failure, EXIT_UNREACHABLE, "Postgres at %s answers no more",
		    connection_host(connection));
		error_remedy(&connection->failure, "check that the server runs and can be reached");
		connection->failure_pending = true;
		connection->first_host++;
	}
	if (connection->failure_pending && connection->state != CLOSED)
		connection_fail(connection);
}

int
connection_fd(const struct connection * connection)
{
	return (connection->conn == NULL ? -1 : PQsocket(connection->conn));
}

short
connection_poll_events(const struct connection * connection)
{
	if (connection->state == CONNECTING)
		return (connection->polling == PGRES_POLLING_READING ? POLLIN : POLLOUT);
	return ((short)(connection->want_write ? POLLIN | POLLOUT : POLLIN));
}

clock_ns
connection_deadline(const struct connection * connection)
{
	const struct request * oldest = &connection->requests[connection->first % REQUESTS_MAX];

	if (connection->failure_pending)
		return (0);
	if (connection->state == CONNECTING)
		return (connection->connect_deadline);
	if (connection->pending == 0)
		return (CLOCK_NEVER);
	return (SILENCE_MAX +
	    (oldest->sent > connection->last_read ? oldest->sent : connection->last_read));
}

clock_ns
connection_proof(const struct connection * connection)
{
	return (connection->proof);
}

clock_ns
connection_last_sent(const struct connection * connection)
{
	return (connection->last_sent);
}

size_t
connection_pending(const struct connection * connection)
{
	return (connection->pending);
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
