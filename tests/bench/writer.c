#include "writer.h"

#include <stdio.h>

#include "bench.h"

/*
 * What must stay true: a transaction is the INSERT and nothing else (a single
 * statement commits by itself), so that whatever the outbox costs is not
 * hidden behind other work.
 */

static const char * const INSERT =
    "INSERT INTO outbox.message (routing_key, ordering_key, payload) VALUES ($1, $2, $3)";

PGconn *
writer_connect(const char * dsn)
{
	/* text, text, bytea */
	static const Oid types[3] = {25, 25, 17};
	PGconn * db = PQconnectdb(dsn);
	PGresult * result;

	if (PQstatus(db) != CONNECTION_OK)
		bench_fail("postgres: %s", PQerrorMessage(db));
	result = PQprepare(db, "insert", INSERT, 3, types);
	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		bench_fail("postgres: %s", PQerrorMessage(db));
	PQclear(result);
	return (db);
}

void
writer_commit(PGconn * db, const char * queue, uint64_t key, const char * body)
{
	static const int lengths[3] = {0, 0, BENCH_PAYLOAD_SIZE};
	static const int formats[3] = {0, 0, 1};
	char ordering_key[16];
	const char * values[3] = {queue, ordering_key, body};
	PGresult * result;

	snprintf(ordering_key, sizeof(ordering_key), "key-%u", (unsigned int)(key % BENCH_KEYS));
	result = PQexecPrepared(db, "insert", 3, values, lengths, formats, 0);
	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		bench_fail("postgres: %s", PQerrorMessage(db));
	PQclear(result);
}
