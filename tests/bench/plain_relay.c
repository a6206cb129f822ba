#include <endian.h>
#include <getopt.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

/*
 * A plain relay, as most are written: lock a batch with FOR UPDATE SKIP
 * LOCKED, publish it with rabbitmq-c, wait for its confirms, DELETE it,
 * commit; until the table is empty.  The table is plain.message, made by the
 * harness with the same columns.  Results are binary and statements prepared:
 * nothing is made slow on purpose.
 *
 * plain_relay --url URL --queue NAME --dsn DSN [--batch N]
 */

static const char * const SELECT =
    "SELECT id, message_id::text, routing_key, ordering_key, payload, "
    "extract(epoch FROM created_at)::bigint, headers->>'traceparent' "
    "FROM plain.message ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED";
static const char * const DELETE = "DELETE FROM plain.message WHERE id = ANY($1::bigint[])";

enum { BATCH_MAX = 10000, ID_DIGITS = 21 };

static PGresult *
checked(PGconn * db, PGresult * result, ExecStatusType expected)
{
	if (PQresultStatus(result) != expected)
		bench_fail("postgres: %s", PQerrorMessage(db));
	return (result);
}

static void
command(PGconn * db, const char * sql)
{
	PQclear(checked(db, PQexec(db, sql), PGRES_COMMAND_OK));
}

static int64_t
int64_at(const PGresult * result, int row, int column)
{
	uint64_t n;

	memcpy(&n, PQgetvalue(result, row, column), sizeof(n));
	return ((int64_t)be64toh(n));
}

static void
publish_row(struct bench_publisher * publisher, const char * queue, const PGresult * rows, int row)
{
	struct bench_message message;
	amqp_bytes_t body;
	int last;

	/* Fill in the shape, then what the row says. */
	bench_message_fill(&message, int64_at(rows, row, 0), 0, !PQgetisnull(rows, row, 6));
	message.properties.message_id = amqp_cstring_bytes(PQgetvalue(rows, row, 1));
	message.properties.timestamp = (uint64_t)int64_at(rows, row, 5);
	message.headers[1].value.value.bytes = amqp_cstring_bytes(PQgetvalue(rows, row, 3));
	last = message.properties.headers.num_entries - 1;
	if (last > 1)
		message.headers[last].value.value.bytes = amqp_cstring_bytes(PQgetvalue(rows, row,
		    6));
	body.len = (size_t)PQgetlength(rows, row, 4);
	body.bytes = PQgetvalue(rows, row, 4);
	bench_publisher_send(publisher, queue != NULL ? queue : PQgetvalue(rows, row, 2),
	    &message.properties, body);
}

/* One transaction; returns how many rows it moved. */
static int
move_batch(PGconn * db, struct bench_publisher * publisher, const char * queue, uint32_t batch,
    char * ids)
{
	uint64_t limit = htobe64(batch);
	const char * values[1] = {(const char *)&limit};
	const int lengths[1] = {sizeof(limit)};
	const int formats[1] = {1};
	PGresult * rows;
	char * p = ids;
	int count;

	command(db, "BEGIN");
	rows = checked(db, PQexecPrepared(db, "select", 1, values, lengths, formats, 1),
	    PGRES_TUPLES_OK);
	count = PQntuples(rows);
	*p++ = '{';
	for (int i = 0; i < count; i++) {
		publish_row(publisher, queue, rows, i);
		p += snprintf(p, ID_DIGITS + 1, "%s%lld", i == 0 ? "" : ",",
		    (long long)int64_at(rows, i, 0));
	}
	*p++ = '}';
	*p = '\0';
	bench_publisher_settle(publisher, 0);
	PQclear(rows);
	if (count > 0) {
		values[0] = ids;
		PQclear(checked(db, PQexecPrepared(db, "delete", 1, values, NULL, NULL, 0),
		    PGRES_COMMAND_OK));
	}
	command(db, "COMMIT");
	return (count);
}

int
main(int argc, char ** argv)
{
	static const struct option options[] = {{"url", required_argument, NULL, 'u'},
	    {"queue", required_argument, NULL, 'q'}, {"dsn", required_argument, NULL, 'd'},
	    {"batch", required_argument, NULL, 'b'}, {NULL, 0, NULL, 0}};
	const char * url = NULL;
	const char * queue = NULL;
	const char * dsn = NULL;
	uint32_t batch = 1000;
	struct bench_publisher publisher;
	amqp_connection_state_t connection;
	PGconn * db;
	char * ids;
	double start, cpu;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'u':
			url = optarg;
			break;
		case 'q':
			queue = optarg;
			break;
		case 'd':
			dsn = optarg;
			break;
		case 'b':
			batch = (uint32_t)bench_number(optarg, BATCH_MAX);
			break;
		default:
			return (64);
		}
	}
	if (url == NULL || dsn == NULL || batch == 0)
		bench_fail("--url and --dsn are needed, and a batch");

	db = PQconnectdb(dsn);
	if (PQstatus(db) != CONNECTION_OK)
		bench_fail("postgres: %s", PQerrorMessage(db));
	PQclear(checked(db, PQprepare(db, "select", SELECT, 0, NULL), PGRES_COMMAND_OK));
	PQclear(checked(db, PQprepare(db, "delete", DELETE, 0, NULL), PGRES_COMMAND_OK));
	if ((ids = malloc((size_t)batch * ID_DIGITS + 3)) == NULL)
		bench_fail("out of memory");
	connection = bench_connect(url);
	bench_publisher_open(&publisher, connection, BENCH_WINDOW);

	cpu = bench_cpu();
	start = bench_now();
	while (move_batch(db, &publisher, queue, batch, ids) > 0)
		;
	printf("{\"messages\": %llu, \"seconds\": %.6f, \"cpu_seconds\": %.6f}\n",
	    (unsigned long long)publisher.confirmed, bench_now() - start, bench_cpu() - cpu);

	bench_publisher_close(&publisher);
	bench_disconnect(connection);
	free(ids);
	PQfinish(db);
	return (0);
}
