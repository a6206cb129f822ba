/*
 * A connection is in one of three states: closed, connecting, open.  Only
 * connection_turn leaves "connecting" or tells of a failure, so no caller is
 * surprised by an event from inside a call of its own.
 */
#include "postgres/connection_state.h"

#include <poll.h>
#include <stdlib.h>

/*
 * Every statement has a timeout of a minute at most (source.c), so a server that
 * says nothing for longer, while it owes an answer, is one that hangs.
 */
#define SILENCE_MAX CLOCK_S(75)

/* How often one turn reads before it looks at the other sockets. */
#define READS_PER_TURN 16

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
	connection_close(connection);
	connection->state = CONNECTING;
	connection_begin_to_connect(connection, now);
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
		return (connection_connecting_events(connection));
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
