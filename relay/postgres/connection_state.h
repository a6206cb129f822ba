#ifndef POSTGRES_CONNECTION_STATE_H
#define POSTGRES_CONNECTION_STATE_H

#include "postgres/connection.h"

/* The state of a connection; private to relay/postgres/connection*.c. */

#define REQUESTS_MAX 32

enum connection_state { CLOSED, CONNECTING, OPEN };

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
	enum connection_state state;
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

/* ---- connection_requests.c ---- */

/* Why it is lost, from what the server or libpq said; the next turn tells. */
void connection_note_failure(struct connection * connection);

/* Forget what has not been answered. */
void connection_forget_requests(struct connection * connection);

/* Answer what can be answered without reading more. */
void connection_take_results(struct connection * connection);

/* ---- connection_connect.c ---- */

/* Begin to connect; the state is CONNECTING and nothing is left of before. */
void connection_begin_to_connect(struct connection * connection, clock_ns now);
void connection_go_on_connecting(struct connection * connection, clock_ns now);
short connection_connecting_events(const struct connection * connection);

#endif /* POSTGRES_CONNECTION_STATE_H */
