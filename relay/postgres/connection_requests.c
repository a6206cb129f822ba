/*
 * Requests are answered at their Sync, not at their result: in the extended
 * protocol the commit comes with the Sync, and "recorded" must mean committed.
 * Open requests lie in a ring in the order of sending; libpq answers in that
 * order.
 */
#include "postgres/connection_state.h"

#include "postgres/sqlerror.h"

void
connection_forget_requests(struct connection * connection)
{
	for (; connection->pending > 0; connection->pending--) {
		struct request * r = &connection->requests[connection->first % REQUESTS_MAX];

		PQclear(r->result);
		r->result = NULL;
		connection->first++;
	}
}

void
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

void
connection_lose(struct connection * connection, const char * reason)
{
	if (connection->failure_pending)
		return;
	error_set(&connection->failure, EXIT_BUG, "%s", reason);
	connection->failure_pending = true;
}

bool
connection_is_open(const struct connection * connection)
{
	return (connection->state == OPEN && !connection->failure_pending);
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

void
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
