/*
 * A connection is in one of three states: closed, connecting, open.  Only
 * session_turn leaves "connecting" or tells of a failure, so no caller is
 * surprised by an event from inside a call of its own.
 *
 * Requests are answered at their Sync, not at their result: in the extended
 * protocol the commit comes with the Sync, and "recorded" must mean committed.
 * Open requests lie in a ring in the order of sending; libpq answers in that
 * order.
 */
#include "postgres/session.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "postgres/sqlerror.h"

#define REQUESTS_MAX 32
#define PASSWORD_MAX 1024

/* How often one turn reads before it looks at the other sockets. */
#define READS_PER_TURN 16

enum state { CLOSED, CONNECTING, OPEN };

struct request {
	session_answer * answer;
	void * context;
	clock_ns sent;
	PGresult * result;
	bool failed;
};

struct session {
	struct session_options options;
	struct session_events events;
	void * context;
	enum state state;
	PGconn * conn;
	PostgresPollingStatusType polling;
	clock_ns connect_deadline;
	struct error failure;            /* found outside a turn, told by the next */
	bool failure_pending;
	bool want_write;
	clock_ns proof;
	clock_ns last_sent;
	struct request requests[REQUESTS_MAX];
	size_t first;
	size_t pending;
};

static void
session_forget_requests(struct session * session)
{
	for (; session->pending > 0; session->pending--) {
		struct request * r = &session->requests[session->first % REQUESTS_MAX];

		PQclear(r->result);
		r->result = NULL;
		session->first++;
	}
}

static void
session_note_failure(struct session * session)
{
	if (session->failure_pending)
		return;
	sqlerror_from_connection(&session->failure, session->conn);
	session->failure_pending = true;
}

struct session *
session_new(const struct session_options * options, const struct session_events * events,
    void * context)
{
	struct session * session;

	if ((session = calloc(1, sizeof(*session))) == NULL)
		return (NULL);
	session->options = *options;
	session->events = *events;
	session->context = context;
	return (session);
}

void
session_free(struct session * session)
{
	if (session == NULL)
		return;
	session_close(session);
	free(session);
}

void
session_close(struct session * session)
{
	session_forget_requests(session);
	PQfinish(session->conn);
	session->conn = NULL;
	session->state = CLOSED;
	session->failure_pending = false;
	session->want_write = false;
	session->proof = 0;
}

bool
session_is_open(const struct session * session)
{
	return (session->state == OPEN && !session->failure_pending);
}

static void
session_fail(struct session * session)
{
	struct error e = session->failure;

	session_close(session);
	session->events.failed(session->context, &e);
}

static unsigned int
count_hosts(const char * dsn)
{
	unsigned int hosts = 1;

	for (; *dsn != '\0'; dsn++)
		hosts += *dsn == ',';
	return (hosts);
}

void
session_connect(struct session * session, clock_ns now)
{
	char password[PASSWORD_MAX];
	/* What stands before dbname yields to the dsn, what follows beats it. */
	const char * keywords[] = {"target_session_attrs", "keepalives_idle",
	    "keepalives_interval", "keepalives_count", "tcp_user_timeout", "dbname",
	    "application_name", "client_encoding", "password", NULL};
	const char * values[] = {"read-write", "5", "2", "3", "8000", session->options.dsn,
	    session->options.application_name, "UTF8", NULL, NULL};

	session_close(session);
	session->state = CONNECTING;
	session->connect_deadline =
	    now + session->options.connect_timeout * count_hosts(session->options.dsn);
	if (session->options.password_file != NULL) {
		if (file_read_secret(session->options.password_file, password, sizeof(password),
		    &session->failure)) {
			session->failure_pending = true;
			return;
		}
		values[8] = password;
	}
	session->conn = PQconnectStartParams(keywords, values, 1);
	explicit_bzero(password, sizeof(password));
	session->polling = PGRES_POLLING_WRITING;
	if (session->conn == NULL || PQstatus(session->conn) == CONNECTION_BAD)
		session_note_failure(session);
}

static void
session_answer_settings(void * context, PGresult ** result, const struct error * e)
{
	struct session * session = context;

	(void)result;
	if (e != NULL) {
		session->failure = *e;
		session->failure_pending = true;
		return;
	}
	session->events.connected(session->context);
}

/* One statement: set_config for each pair; the values are ours. */
static void
session_apply_settings(struct session * session, clock_ns now)
{
	const char * parameters[SESSION_PARAMETERS_MAX];
	char sql[1024] = "SELECT 1";
	size_t length = strlen(sql);
	int count = 0;

	for (const char * const * s = session->options.settings; s != NULL && s[0] != NULL; s += 2) {
		length += (size_t)snprintf(sql + length, sizeof(sql) - length,
		    ", set_config('%s', $%d, false)", s[0], count + 1);
		parameters[count++] = s[1];
	}
	session_send(session, now, sql, count, parameters, session_answer_settings, session);
}

static void
session_go_on_connecting(struct session * session, clock_ns now)
{
	struct pollfd fd = {.fd = PQsocket(session->conn), .events = session_poll_events(session)};

	while (poll(&fd, 1, 0) > 0) {
		session->polling = PQconnectPoll(session->conn);
		if (session->polling == PGRES_POLLING_FAILED) {
			session_note_failure(session);
			return;
		}
		if (session->polling == PGRES_POLLING_OK) {
			session->state = OPEN;
			if (PQsetnonblocking(session->conn, 1) ||
			    PQenterPipelineMode(session->conn) != 1) {
				session_note_failure(session);
				return;
			}
			session_apply_settings(session, now);
			return;
		}
		fd.fd = PQsocket(session->conn);
		fd.events = session_poll_events(session);
	}
	if (now >= session->connect_deadline) {
		error_set(&session->failure, EXIT_UNREACHABLE,
		    "Postgres at %s did not answer in time", session_host(session));
		error_remedy(&session->failure, "check that the server runs and can be reached");
		session->failure_pending = true;
	}
}

static struct request *
session_add_request(struct session * session, clock_ns now, session_answer * answer,
    void * context)
{
	struct request * r;

	if (!session_is_open(session) || session->pending == REQUESTS_MAX) {
		if (!session->failure_pending) {
			error_set(&session->failure, EXIT_BUG, "too many open requests to Postgres");
			session->failure_pending = true;
		}
		return (NULL);
	}
	r = &session->requests[(session->first + session->pending++) % REQUESTS_MAX];
	*r = (struct request){.answer = answer, .context = context, .sent = now};
	session->last_sent = now;
	return (r);
}

static void
session_end_request(struct session * session, int sent)
{
	if (sent != 1 || PQpipelineSync(session->conn) != 1) {
		session_note_failure(session);
		return;
	}
	session->want_write = true;
}

void
session_send(struct session * session, clock_ns now, const char * sql, int count,
    const char * const * parameters, session_answer * answer, void * context)
{
	if (session_add_request(session, now, answer, context) == NULL)
		return;
	session_end_request(session, PQsendQueryParams(session->conn, sql, count, NULL, parameters,
	    NULL, NULL, 1));
}

void
session_prepare(struct session * session, clock_ns now, const char * name, const char * sql,
    session_answer * answer, void * context)
{
	if (session_add_request(session, now, answer, context) == NULL)
		return;
	session_end_request(session, PQsendPrepare(session->conn, name, sql, 0, NULL));
}

void
session_send_prepared(struct session * session, clock_ns now, const char * name, int count,
    const char * const * parameters, session_answer * answer, void * context)
{
	if (session_add_request(session, now, answer, context) == NULL)
		return;
	session_end_request(session, PQsendQueryPrepared(session->conn, name, count, parameters,
	    NULL, NULL, 1));
}

void
session_flush(struct session * session)
{
	int left;

	if (session->state != OPEN || session->failure_pending || !session->want_write)
		return;
	if ((left = PQflush(session->conn)) < 0)
		session_note_failure(session);
	session->want_write = left > 0;
}

/* Hand the oldest request its answer; its callback may send or close. */
static void
session_answer_oldest(struct session * session)
{
	struct request r = session->requests[session->first % REQUESTS_MAX];
	struct error e;

	session->first++;
	session->pending--;
	if (r.sent > session->proof)
		session->proof = r.sent;
	if (r.failed)
		sqlerror_from_result(&e, r.result);
	if (r.answer != NULL)
		r.answer(r.context, &r.result, r.failed ? &e : NULL);
	PQclear(r.result);
}

/* Whether anything was taken. */
static void
session_take_results(struct session * session)
{
	while (session->state == OPEN && !session->failure_pending && session->pending > 0 &&
	    !PQisBusy(session->conn)) {
		struct request * r = &session->requests[session->first % REQUESTS_MAX];
		PGresult * result = PQgetResult(session->conn);

		if (result == NULL)
			continue;
		switch (PQresultStatus(result)) {
		case PGRES_PIPELINE_SYNC:
			PQclear(result);
			session_answer_oldest(session);
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
session_take_notifications(struct session * session)
{
	PGnotify * n;

	while (session->state == OPEN && (n = PQnotifies(session->conn)) != NULL) {
		if (session->events.notified != NULL)
			session->events.notified(session->context, n->relname);
		PQfreemem(n);
	}
}

static void
session_read(struct session * session)
{
	struct pollfd fd = {.fd = PQsocket(session->conn), .events = POLLIN};

	for (int i = 0; i < READS_PER_TURN && session->state == OPEN; i++) {
		if (poll(&fd, 1, 0) <= 0)
			break;
		if (PQconsumeInput(session->conn) != 1) {
			session_note_failure(session);
			break;
		}
		session_take_results(session);
		if (session->failure_pending || session->conn == NULL)
			break;
	}
	session_take_notifications(session);
}

void
session_turn(struct session * session, clock_ns now)
{
	if (session->state == CONNECTING && !session->failure_pending)
		session_go_on_connecting(session, now);
	if (session->state == OPEN && !session->failure_pending)
		session_read(session);
	session_flush(session);
	if (session->failure_pending && session->state != CLOSED)
		session_fail(session);
}

int
session_fd(const struct session * session)
{
	return (session->conn == NULL ? -1 : PQsocket(session->conn));
}

short
session_poll_events(const struct session * session)
{
	if (session->state == CONNECTING)
		return (session->polling == PGRES_POLLING_READING ? POLLIN : POLLOUT);
	return ((short)(session->want_write ? POLLIN | POLLOUT : POLLIN));
}

clock_ns
session_deadline(const struct session * session)
{
	if (session->failure_pending)
		return (0);
	return (session->state == CONNECTING ? session->connect_deadline : CLOCK_NEVER);
}

clock_ns
session_proof(const struct session * session)
{
	return (session->proof);
}

clock_ns
session_last_sent(const struct session * session)
{
	return (session->last_sent);
}

size_t
session_pending(const struct session * session)
{
	return (session->pending);
}

const char *
session_database(const struct session * session)
{
	const char * name = session->conn == NULL ? NULL : PQdb(session->conn);

	return (name == NULL ? "" : name);
}

const char *
session_host(const struct session * session)
{
	const char * name = session->conn == NULL ? NULL : PQhost(session->conn);

	return (name == NULL ? "" : name);
}
