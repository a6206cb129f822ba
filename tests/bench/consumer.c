#include <arpa/inet.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>

#include "bench.h"
#include "inbox.h"

/*
 * A consumer whose handler is one INSERT, written in four ways:
 *
 *   bare        libpq and rabbitmq-c: BEGIN, INSERT, COMMIT, acknowledge
 *   autocommit  the same without BEGIN and COMMIT: the INSERT alone is the transaction
 *   inbox       libinbox; with --batch N messages in one transaction, and
 *               with --whole one INSERT for all of them
 *
 * consumer --url URL --queue NAME --dsn DSN --count N [--batch N [--whole]] bare|autocommit|inbox
 * Prints one line of JSON: the time from the subscription to the last acknowledgement.
 */
#define PREFETCH 500
#define INSERT "INSERT INTO effect (message_id, body) VALUES ($1, $2)"
#define INSERT_ALL \
	"INSERT INTO effect (message_id, body) SELECT * FROM unnest($1::text[], $2::bytea[])"
#define OID_BYTEA 17
#define OID_TEXT 25

struct run {
	const char * url;
	const char * queue;
	const char * dsn;
	uint64_t count;
	int batch;
	bool whole;
	uint64_t done;
	double start;
	double cpu;
	struct inbox_consumer * consumer;
};

static void
begin_to_measure(struct run * run)
{
	run->start = bench_now();
	run->cpu = bench_cpu();
}

static void
insert(PGconn * db, const char * sql, const char * const * values, const int * lengths,
    const int * formats)
{
	PGresult * result = PQexecParams(db, sql, 2, NULL, values, lengths, formats, 0);

	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		bench_fail("insert: %s", PQerrorMessage(db));
	PQclear(result);
}

static void
insert_one(PGconn * db, const char * message_id, const void * body, size_t body_len)
{
	const char * values[] = {message_id, body};
	const int lengths[] = {0, (int)body_len}, formats[] = {0, 1};

	insert(db, INSERT, values, lengths, formats);
}

/* ---- with libpq and rabbitmq-c ---- */

static void
command(PGconn * db, const char * sql)
{
	PGresult * result = PQexec(db, sql);

	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		bench_fail("%s: %s", sql, PQerrorMessage(db));
	PQclear(result);
}

static void
one(PGconn * db, amqp_connection_state_t connection, bool transaction)
{
	amqp_envelope_t envelope;
	char message_id[64];
	amqp_rpc_reply_t reply;

	amqp_maybe_release_buffers(connection);
	reply = amqp_consume_message(connection, &envelope, NULL, 0);
	if (reply.reply_type != AMQP_RESPONSE_NORMAL)
		bench_fail("consume: no message came");
	snprintf(message_id, sizeof(message_id), "%.*s",
	    (int)envelope.message.properties.message_id.len,
	    (const char *)envelope.message.properties.message_id.bytes);
	if (transaction)
		command(db, "BEGIN");
	insert_one(db, message_id, envelope.message.body.bytes, envelope.message.body.len);
	if (transaction)
		command(db, "COMMIT");
	if (amqp_basic_ack(connection, BENCH_CHANNEL, envelope.delivery_tag, 0) != 0)
		bench_fail("acknowledge");
	amqp_destroy_envelope(&envelope);
}

static void
consume_bare(struct run * run, bool transaction)
{
	amqp_connection_state_t connection = bench_connect(run->url);
	PGconn * db = PQconnectdb(run->dsn);

	if (PQstatus(db) != CONNECTION_OK)
		bench_fail("postgres: %s", PQerrorMessage(db));
	amqp_basic_qos(connection, BENCH_CHANNEL, 0, PREFETCH, 0);
	bench_check(connection, "basic.qos");
	amqp_basic_consume(connection, BENCH_CHANNEL, amqp_cstring_bytes(run->queue),
	    amqp_empty_bytes, 0, 0, 0, amqp_empty_table);
	bench_check(connection, "basic.consume");
	begin_to_measure(run);
	for (; run->done < run->count; run->done++)
		one(db, connection, transaction);
	bench_disconnect(connection);
	PQfinish(db);
}

/* ---- with libinbox ---- */

static enum inbox_answer
finish(struct run * run, size_t count)
{
	run->done += count;
	if (run->done >= run->count)
		inbox_consumer_stop(run->consumer);
	return (INBOX_DONE);
}

static enum inbox_answer
handle(const struct inbox_message * message, PGconn * db, void * context)
{
	insert_one(db, message->message_id, message->body, message->body_len);
	return (finish(context, 1));
}

/* A binary array of Postgres, see array_recv() there; it grows as needed. */
struct array {
	char * data;
	size_t len;
	size_t size;
};

static void
put(struct array * array, const void * bytes, size_t len)
{
	if (array->size - array->len < len) {
		array->size = 2 * array->size + len;
		if ((array->data = realloc(array->data, array->size)) == NULL)
			bench_fail("no memory");
	}
	memcpy(array->data + array->len, bytes, len);
	array->len += len;
}

static void
put_int(struct array * array, uint32_t number)
{
	uint32_t big = htonl(number);

	put(array, &big, sizeof(big));
}

static void
begin_array(struct array * array, uint32_t element_type, size_t count)
{
	array->len = 0;
	put_int(array, 1); /* dimensions */
	put_int(array, 0); /* no NULLs */
	put_int(array, element_type);
	put_int(array, (uint32_t)count);
	put_int(array, 1); /* the first index */
}

static void
put_element(struct array * array, const void * bytes, size_t len)
{
	put_int(array, (uint32_t)len);
	put(array, bytes, len);
}

static enum inbox_answer
handle_batch(const struct inbox_message * const * messages, size_t count, PGconn * db,
    void * context)
{
	static struct array ids, bodies;
	static const int formats[] = {1, 1};

	begin_array(&ids, OID_TEXT, count);
	begin_array(&bodies, OID_BYTEA, count);
	for (size_t i = 0; i < count; i++) {
		put_element(&ids, messages[i]->message_id, strlen(messages[i]->message_id));
		put_element(&bodies, messages[i]->body, messages[i]->body_len);
	}
	insert(db, INSERT_ALL, (const char * const[]){ids.data, bodies.data},
	    (const int[]){(int)ids.len, (int)bodies.len}, formats);
	return (finish(context, count));
}

static void
tell(enum inbox_level level, const char * event, const char * text, void * context)
{
	if (level != INBOX_INFO)
		bench_fail("%s: %s", event, text);
	if (strcmp(event, "broker_connected") == 0)
		begin_to_measure(context);
}

static void
consume_inbox(struct run * run)
{
	const char * const urls[] = {run->url, NULL};
	struct inbox_consumer_options options = {.name = "bench",
	    .queue = run->queue,
	    .urls = urls,
	    .postgres = run->dsn,
	    .handler = handle,
	    .log = tell,
	    .context = run,
	    .prefetch = PREFETCH,
	    .batch = run->batch,
	    .batch_handler = run->whole ? handle_batch : NULL};
	struct inbox_error error;

	if ((run->consumer = inbox_consumer_new(&options, &error)) == NULL ||
	    inbox_consumer_run(run->consumer, &error) != INBOX_OK)
		bench_fail("%s", error.text);
	inbox_consumer_free(run->consumer);
}

int
main(int argc, char ** argv)
{
	static const struct option options[] = {{"url", required_argument, NULL, 'u'},
	    {"queue", required_argument, NULL, 'q'}, {"dsn", required_argument, NULL, 'd'},
	    {"count", required_argument, NULL, 'n'}, {"batch", required_argument, NULL, 'b'},
	    {"whole", no_argument, NULL, 'w'}, {NULL, 0, NULL, 0}};
	struct run run = {.batch = 1};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'u':
			run.url = optarg;
			break;
		case 'q':
			run.queue = optarg;
			break;
		case 'd':
			run.dsn = optarg;
			break;
		case 'n':
			run.count = bench_number(optarg, 1000000000);
			break;
		case 'b':
			run.batch = (int)bench_number(optarg, PREFETCH);
			break;
		case 'w':
			run.whole = true;
			break;
		default:
			return (64);
		}
	}
	if (run.url == NULL || run.queue == NULL || run.dsn == NULL || run.count == 0 ||
	    optind + 1 != argc)
		bench_fail("--url, --queue, --dsn, --count and one way are needed");
	if (strcmp(argv[optind], "inbox") == 0)
		consume_inbox(&run);
	else
		consume_bare(&run, strcmp(argv[optind], "bare") == 0);
	printf("{\"messages\": %llu, \"seconds\": %.6f, \"cpu_seconds\": %.6f}\n",
	    (unsigned long long)run.done, bench_now() - run.start, bench_cpu() - run.cpu);
	return (0);
}
