/*
 * A pooler that gives sessions for good never lets two clients that are both
 * connected use one server process, and never moves a client to another.  One
 * that lends them does the one or the other: asked twice by the first client
 * and then once by a second, while nobody is in a transaction, it either takes
 * the same process from its pool each time, or walks through its pool.
 *
 * A second client that gets no process at all waits for one that the first
 * keeps: that is a session for good.
 */
#include "postgres/pooler.h"

#include <stdlib.h>

#include "postgres/wire.h"

#define PATIENCE CLOCK_S(5)

static const char pid_sql[] = "SELECT pg_backend_pid()";

struct pooler {
	struct connection * first; /* NULL: nothing is judged */
	struct connection * second;
	pooler_answer * answer;
	void * context;
	clock_ns now;
	clock_ns deadline;
	int32_t pid; /* that served the first; 0: not known yet */
};

static void
pooler_end(struct pooler * pooler, bool lends)
{
	if (pooler->first == NULL)
		return;
	pooler->first = NULL;
	pooler->answer(pooler->context, lends);
}

static void
pooler_on_second(void * context, PGresult ** result, const struct error * e)
{
	struct pooler * pooler = context;

	pooler_end(pooler, e == NULL && wire_int32(*result, 0, 0) == pooler->pid);
}

static void
pooler_on_first(void * context, PGresult ** result, const struct error * e)
{
	struct pooler * pooler = context;
	int32_t pid;

	if (pooler->first == NULL)
		return;
	if (e != NULL) {
		pooler_end(pooler, false);
		return;
	}
	pid = wire_int32(*result, 0, 0);
	if (pooler->pid == 0) {
		pooler->pid = pid;
		connection_send(pooler->first, pooler->now, pid_sql, 0, NULL, pooler_on_first,
		    pooler);
	} else if (pid != pooler->pid)
		pooler_end(pooler, true);
	else {
		connection_send(pooler->second, pooler->now, pid_sql, 0, NULL, pooler_on_second,
		    pooler);
		connection_flush(pooler->second);
	}
}

static void
pooler_on_connected(void * context)
{
	struct pooler * pooler = context;

	if (pooler->first == NULL)
		return;
	connection_send(pooler->first, pooler->now, pid_sql, 0, NULL, pooler_on_first, pooler);
	connection_flush(pooler->first);
}

static void
pooler_on_failed(void * context, const struct error * e)
{
	(void)e;
	pooler_end(context, false);
}

static const struct connection_events events = {.connected = pooler_on_connected,
    .failed = pooler_on_failed};

struct pooler *
pooler_new(const struct connection_options * options, pooler_answer * answer, void * context)
{
	struct connection_options own = *options;
	struct pooler * pooler;

	own.settings = NULL;
	if ((pooler = calloc(1, sizeof(*pooler))) == NULL)
		return (NULL);
	pooler->answer = answer;
	pooler->context = context;
	if ((pooler->second = connection_new(&own, &events, pooler)) == NULL) {
		free(pooler);
		return (NULL);
	}
	return (pooler);
}

void
pooler_free(struct pooler * pooler)
{
	if (pooler == NULL)
		return;
	connection_free(pooler->second);
	free(pooler);
}

void
pooler_start(struct pooler * pooler, struct connection * connection, clock_ns now)
{
	pooler->first = connection;
	pooler->now = now;
	pooler->deadline = now + PATIENCE;
	pooler->pid = 0;
	connection_connect(pooler->second, now);
}

void
pooler_stop(struct pooler * pooler)
{
	pooler->first = NULL;
	connection_close(pooler->second);
}

struct connection *
pooler_connection(const struct pooler * pooler)
{
	return (pooler->first != NULL ? pooler->second : NULL);
}

clock_ns
pooler_deadline(const struct pooler * pooler)
{
	if (pooler->first == NULL)
		return (CLOCK_NEVER);
	return (clock_min(pooler->deadline, connection_deadline(pooler->second)));
}

void
pooler_turn(struct pooler * pooler, clock_ns now, bool readable)
{
	pooler->now = now;
	if (pooler->first != NULL)
		connection_turn(pooler->second, now, readable);
	if (now >= pooler->deadline)
		pooler_end(pooler, false);
	if (pooler->first == NULL && connection_fd(pooler->second) >= 0)
		connection_close(pooler->second);
}
