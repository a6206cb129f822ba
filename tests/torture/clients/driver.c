#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "inbox.h"
#include "outbox.h"

/*
 * A program with both client libraries, for tests/torture/run_clients: its
 * calls fail as those of the libraries do.
 *
 *   publish DSN RUN            one message, then a batch, in a transaction
 *   claim DSN RUN              one claim, then a batch, in a transaction
 *   one DSN URL QUEUE          libinbox's loop until SIGTERM; a body "give up" is, "once" fails once
 *   batches DSN URL QUEUE      the same, several messages in a transaction
 *
 * It ends with 0 (committed, or stopped), ROLLED_BACK, UNKNOWN (whether COMMIT
 * has happened), or ENDED (the loop, by itself), and says why; it aborts when a
 * library leaves the connection in a state that it should not.
 */
enum { ROLLED_BACK = 3, UNKNOWN = 4, ENDED = 5 };

#define BATCH 5
#define IDS 6

static struct inbox_consumer * consumer;

static bool
run(PGconn * db, const char * sql)
{
	PGresult * result = PQexec(db, sql);
	bool good = PQresultStatus(result) == PGRES_COMMAND_OK;

	PQclear(result);
	return (good);
}

/* The rules of both headers: what is told before anything is sent costs no transaction. */
static void
check_state(PGconn * db, int code, const char * text)
{
	if (code != OUTBOX_OK && *text == '\0')
		abort();
	if (PQstatus(db) != CONNECTION_OK || code == OUTBOX_NO_CONNECTION)
		return;
	if (PQpipelineStatus(db) != PQ_PIPELINE_OFF || PQisnonblocking(db))
		abort();
	if (code == OUTBOX_OK && PQtransactionStatus(db) != PQTRANS_INTRANS)
		abort();
}

/* After a refusal whoever commits all the same commits nothing. */
static int
end(PGconn * db, bool good, bool refused, const char * text)
{
	int code = good ? 0 : ROLLED_BACK;

	if ((good || refused) && !run(db, "COMMIT") && good)
		code = UNKNOWN;
	if (code != 0)
		fprintf(stderr, "not committed: %s\n", good ? PQerrorMessage(db) : text);
	PQfinish(db);
	return (code);
}

static int
publish(const char * dsn, const char * name)
{
	PGconn * db = PQconnectdb(dsn);
	struct outbox_message messages[BATCH] = {{.exchange = ""}};
	struct outbox_error error = {.text = "BEGIN"};
	char ids[BATCH][OUTBOX_ID_SIZE];
	bool good = run(db, "BEGIN");

	for (size_t i = 0; i < BATCH; i++)
		messages[i] = (struct outbox_message){.routing_key = "nowhere",
		    .payload_json = "{\"n\": [1, 2.5, \"x\"]}",
		    .headers = "{\"a\": \"b\", \"deep\": {\"c\": [null]}}",
		    .ordering_key = name,
		    .expiration_ms = 60000,
		    .deliver_at_us = i == 3 ? INT64_C(4102444800000000) : 0};
	if (good) {
		good = outbox_publish(db, &messages[0], NULL, ids[0], &error) == OUTBOX_OK;
		check_state(db, (int)error.code, error.text);
	}
	if (good) {
		good = outbox_publish_batch(db, messages, BATCH, NULL, ids, &error) == OUTBOX_OK;
		check_state(db, (int)error.code, error.text);
	}
	return (end(db, good, error.code == OUTBOX_REFUSED, error.text));
}

static int
claim(const char * dsn, const char * name)
{
	PGconn * db = PQconnectdb(dsn);
	const char * ids[IDS] = {"a", "b", "c", "b", "d", "e"};
	struct inbox_error error = {.text = "BEGIN"};
	bool good = run(db, "BEGIN"), is_new = false, are_new[IDS] = {false};

	if (good) {
		good = inbox_claim(db, name, "x", NULL, &is_new, &error) == INBOX_OK;
		check_state(db, (int)error.code, error.text);
		if (good && !is_new)
			abort();
	}
	if (good) {
		good = inbox_claim_batch(db, name, ids, IDS, NULL, are_new, &error) == INBOX_OK;
		check_state(db, (int)error.code, error.text);
		for (size_t i = 0; good && i < IDS; i++) {
			if (are_new[i] != (i != 3))
				abort();
		}
	}
	return (end(db, good, error.code == INBOX_REFUSED, error.text));
}

static void
stop(int number)
{
	(void)number;
	inbox_consumer_stop(consumer);
}

static enum inbox_answer
handle(const struct inbox_message * message, PGconn * db, void * context)
{
	const char * values[] = {message->message_id};
	PGresult * result;
	bool good;

	(void)context;
	if (message->body_len == 7 && memcmp(message->body, "give up", 7) == 0)
		return (INBOX_GIVE_UP);
	if (message->body_len == 4 && memcmp(message->body, "once", 4) == 0 &&
	    message->failures == 0)
		return (INBOX_TRY_AGAIN);
	result = PQexecParams(db, "INSERT INTO effect (message_id) VALUES ($1)", 1, NULL, values,
	    NULL, NULL, 0);
	good = PQresultStatus(result) == PGRES_COMMAND_OK;
	PQclear(result);
	return (good ? INBOX_DONE : INBOX_TRY_AGAIN);
}

static void
tell(enum inbox_level level, const char * event, const char * text, void * context)
{
	(void)level;
	(void)context;
	fprintf(stderr, "event=%s %s\n", event, text);
}

static int
consume(const char * dsn, const char * url, const char * queue, int batch)
{
	const char * const urls[] = {url, NULL};
	struct inbox_consumer_options options = {.name = "torture",
	    .queue = queue,
	    .urls = urls,
	    .postgres = dsn,
	    .handler = handle,
	    .log = tell,
	    .prefetch = 20,
	    .batch = batch,
	    .max_attempts = 1000,
	    .retry_initial_ms = 20,
	    .retry_max_ms = 100,
	    .purge_interval_s = 1};
	struct inbox_error error = {.text = ""};
	enum inbox_code code = INBOX_NO_MEMORY;

	signal(SIGTERM, stop);
	if ((consumer = inbox_consumer_new(&options, &error)) != NULL)
		code = inbox_consumer_run(consumer, &error);
	if (code != INBOX_OK && error.text[0] == '\0')
		abort();
	if (code != INBOX_OK)
		fprintf(stderr, "ended: %s\n", error.text);
	signal(SIGTERM, SIG_DFL);
	inbox_consumer_free(consumer);
	return (code == INBOX_OK ? 0 : ENDED);
}

int
main(int argc, char ** argv)
{
	if (argc == 4 && strcmp(argv[1], "publish") == 0)
		return (publish(argv[2], argv[3]));
	if (argc == 4 && strcmp(argv[1], "claim") == 0)
		return (claim(argv[2], argv[3]));
	if (argc == 5 && strcmp(argv[1], "one") == 0)
		return (consume(argv[2], argv[3], argv[4], 1));
	if (argc == 5 && strcmp(argv[1], "batches") == 0)
		return (consume(argv[2], argv[3], argv[4], 3));
	return (64);
}
