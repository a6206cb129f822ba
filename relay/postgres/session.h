#ifndef POSTGRES_SESSION_H
#define POSTGRES_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libpq-fe.h>

#include "base/clock.h"
#include "base/error.h"

/*
 * One connection to Postgres that never blocks (the resolver aside): it
 * connects, sends requests through libpq's pipeline mode, each with a Sync of
 * its own, so that none fails because of another, and hands each answer to
 * its request's callback in the order of sending.  A lost connection ends
 * every open request silently and is told once, by session_failed.
 *
 * It does not connect again by itself: its owner decides when.
 */
struct session;

/*
 * The answer to a request.  ${result} is the first result that carries rows,
 * or the last one; it is cleared after the call unless the callback takes it
 * by setting *result to NULL.  ${e} is not NULL when the server reported an
 * error; the connection lives on.
 */
typedef void session_answer(void * context, PGresult ** result, const struct error * e);

struct session_events {
	/* Connected; settings are applied. */
	void (*connected)(void * context);
	/* An attempt failed or the connection is lost.  The session is closed;
	 * session_connect may be called again, not from here. */
	void (*failed)(void * context, const struct error * e);
	/* A NOTIFY came in; may be NULL. */
	void (*notified)(void * context, const char * channel);
};

struct session_options {
	const char * dsn;
	const char * password_file;      /* NULL: none; read at each attempt */
	const char * application_name;
	const char * const * settings;   /* name, value, ..., NULL: set after login */
	clock_ns connect_timeout;
};

/**
 * session_new(options, events, context):
 * A session that is not connected.  All strings are borrowed.  NULL: memory.
 */
struct session * session_new(const struct session_options * options,
    const struct session_events * events, void * context);
void session_free(struct session * session);

/**
 * session_connect(session, now):
 * Begin to connect.  Failures are told by the failed event, from
 * session_turn.
 */
void session_connect(struct session * session, clock_ns now);

/**
 * session_close(session):
 * Close at once, without events; open requests are forgotten.
 */
void session_close(struct session * session);

bool session_is_open(const struct session * session);

/**
 * session_send(session, now, sql, parameters, answer, context):
 * Queue a request; binary results.  Only while connected.  Parameters are in
 * text form, NULL for SQL NULL, and are copied.  A failure to queue is a lost
 * connection and told as such by the next session_turn.
 */
#define SESSION_PARAMETERS_MAX 16
void session_send(struct session * session, clock_ns now, const char * sql, int count,
    const char * const * parameters, session_answer * answer, void * context);

/**
 * session_prepare(session, now, name, sql, answer, context) and
 * session_send_prepared(...):
 * The same by a prepared statement.
 */
void session_prepare(struct session * session, clock_ns now, const char * name,
    const char * sql, session_answer * answer, void * context);
void session_send_prepared(struct session * session, clock_ns now, const char * name, int count,
    const char * const * parameters, session_answer * answer, void * context);

/**
 * session_flush(session):
 * Start sending what is queued, before the next turn.
 */
void session_flush(struct session * session);

/**
 * session_fd, session_poll_events, session_deadline, session_turn:
 * As those of the source.
 */
int session_fd(const struct session * session);
short session_poll_events(const struct session * session);
clock_ns session_deadline(const struct session * session);
void session_turn(struct session * session, clock_ns now);

/**
 * session_proof(session):
 * When the newest request that was answered had been sent: the server held
 * this session then.  0: none yet.
 */
clock_ns session_proof(const struct session * session);

/**
 * session_last_sent(session):
 * When the newest request was sent.
 */
clock_ns session_last_sent(const struct session * session);

/**
 * session_pending(session):
 * How many requests are open.
 */
size_t session_pending(const struct session * session);

/**
 * session_database(session), session_host(session):
 * For messages; "" while not connected.
 */
const char * session_database(const struct session * session);
const char * session_host(const struct session * session);

#endif /* POSTGRES_SESSION_H */
