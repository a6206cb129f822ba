#ifndef POSTGRES_CONNECTION_H
#define POSTGRES_CONNECTION_H

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
 * every open request silently and is told once, by connection_failed.
 *
 * It does not connect again by itself: its owner decides when.
 */
struct connection;

/*
 * The answer to a request.  ${result} is the first result that carries rows,
 * or the last one; it is cleared after the call unless the callback takes it
 * by setting *result to NULL.  ${e} is not NULL when the server reported an
 * error; the connection lives on.
 */
typedef void connection_answer(void * context, PGresult ** result, const struct error * e);

struct connection_events {
	/* Connected; settings are applied. */
	void (*connected)(void * context);
	/* An attempt failed or the connection is lost.  The connection is closed;
	 * connection_connect may be called again, not from here. */
	void (*failed)(void * context, const struct error * e);
	/* A NOTIFY came in; may be NULL. */
	void (*notified)(void * context, const char * channel);
};

struct connection_options {
	const char * dsn;
	const char * password_file; /* NULL: none; read at each attempt */
	const char * application_name;
	const char * const * settings; /* name, value, ..., NULL: set after login */
	clock_ns connect_timeout;      /* for each host */
	bool bulk;                     /* answers will be large: a buffer for that */
};

/**
 * connection_new(options, events, context):
 * A connection that is not connected.  All strings are borrowed.  NULL: memory.
 */
struct connection * connection_new(const struct connection_options * options,
    const struct connection_events * events, void * context);
void connection_free(struct connection * connection);

/**
 * connection_connect(connection, now):
 * Begin to connect.  Failures are told by the failed event, from
 * connection_turn.
 */
void connection_connect(struct connection * connection, clock_ns now);

/**
 * connection_close(connection):
 * Close at once, without events; open requests are forgotten.
 */
void connection_close(struct connection * connection);

bool connection_is_open(const struct connection * connection);

/**
 * connection_send(connection, now, sql, parameters, answer, context):
 * Queue a request; binary results.  Only while connected.  Parameters are in
 * text form, NULL for SQL NULL, and are copied.  A failure to queue is a lost
 * connection and told as such by the next connection_turn.  So is an error of
 * the server when there is no ${answer} to take it.
 */
#define CONNECTION_PARAMETERS_MAX 16
void connection_send(struct connection * connection, clock_ns now, const char * sql, int count,
    const char * const * parameters, connection_answer * answer, void * context);

/**
 * connection_prepare(connection, now, name, sql, answer, context) and
 * connection_send_prepared(...):
 * The same by a prepared statement.
 */
void connection_prepare(struct connection * connection, clock_ns now, const char * name,
    const char * sql, connection_answer * answer, void * context);
void connection_send_prepared(struct connection * connection, clock_ns now, const char * name,
    int count, const char * const * parameters, connection_answer * answer, void * context);

/**
 * connection_begin(connection, now, answer, context), connection_end(connection):
 * What is sent between them is one request and one transaction: it commits as
 * a whole, and ${answer} is called once, after that or with the first error.
 * The requests in between take no answer of their own.
 */
void connection_begin(struct connection * connection, clock_ns now, connection_answer * answer,
    void * context);
void connection_end(struct connection * connection);

/**
 * connection_lose(connection, reason):
 * Give the connection up for a fault of ours; told by the next turn.
 */
void connection_lose(struct connection * connection, const char * reason);

/**
 * connection_flush(connection):
 * Start sending what is queued, before the next turn.
 */
void connection_flush(struct connection * connection);

/**
 * connection_fd, connection_poll_events, connection_deadline, connection_turn:
 * What to poll and when to turn; ${readable}: there may be something to read.
 */
int connection_fd(const struct connection * connection);
short connection_poll_events(const struct connection * connection);
clock_ns connection_deadline(const struct connection * connection);
void connection_turn(struct connection * connection, clock_ns now, bool readable);

/**
 * connection_proof(connection):
 * When the newest request that was answered had been sent: the server held
 * this connection then.  0: none yet.
 */
clock_ns connection_proof(const struct connection * connection);

/**
 * connection_last_sent(connection):
 * When the newest request was sent.
 */
clock_ns connection_last_sent(const struct connection * connection);

/**
 * connection_pending(connection):
 * How many requests are open.
 */
size_t connection_pending(const struct connection * connection);

/**
 * connection_backend_pid(connection):
 * The server process that answers, as the other side said at login: not so if
 * that was a pooler.
 */
int connection_backend_pid(const struct connection * connection);

/**
 * connection_parameter(connection, name):
 * What the server reports of itself, as server_encoding; "" if it does not.
 */
const char * connection_parameter(const struct connection * connection, const char * name);

/**
 * connection_database(connection), connection_host(connection):
 * For messages; "" while not connected.
 */
const char * connection_database(const struct connection * connection);
const char * connection_host(const struct connection * connection);

#endif /* POSTGRES_CONNECTION_H */
