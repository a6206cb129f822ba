#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "inbox.h"

/*
 * A consumer for the tests.  The options are those of struct
 * inbox_consumer_options; "url" may stand several times.  What its handler does
 * is the first word of the message:
 *
 *   ok           one INSERT INTO effect, done
 *   poison       the same, try again
 *   giveup       the same, give up
 *   until N      try again until it has failed N times
 *   sql          a statement that fails, and done all the same
 *   commit       ends the transaction itself
 *   deallocate   deallocates every prepared statement
 *   busy         leaves a statement behind
 *   crash        the INSERT, and the process dies
 *   disconnect   the INSERT, and ends its own session
 *   pipeline     leaves pipeline mode behind
 *   alone        done, but try again where it is one of several
 *   sleep S      waits for so many seconds in the database, then as ok
 *   lock N       waits for that advisory lock in the database, then as ok
 *
 * With "whole 1" a batch handler does so for all, with one INSERT.  Each event
 * of the log and each call of a handler is a line on stdout.
 */
#define BATCH_MAX 1000

static struct inbox_consumer * consumer;

static void
stop(int signal_number)
{
	(void)signal_number;
	inbox_consumer_stop(consumer);
}

static bool
run(PGconn * db, const char * sql, const char * value)
{
	PGresult * result = PQexecParams(db, sql, value != NULL, NULL, &value, NULL, NULL, 0);
	bool good = PQresultStatus(result) == PGRES_COMMAND_OK ||
	    PQresultStatus(result) == PGRES_TUPLES_OK;

	PQclear(result);
	return (good);
}

/* Until the next call. */
static const char *
body_of(const struct inbox_message * m)
{
	static char body[64];

	snprintf(body, sizeof(body), "%.*s", (int)m->body_len, (const char *)m->body);
	return (body);
}

static enum inbox_answer
before(const struct inbox_message * m, PGconn * db)
{
	const char * body = body_of(m);

	if (!strncmp(body, "sleep ", 6))
		run(db, "SELECT pg_sleep($1::float8)", body + 6);
	if (!strncmp(body, "lock ", 5))
		run(db, "SELECT pg_advisory_xact_lock($1::bigint)", body + 5);
	if (!strncmp(body, "until ", 6) && m->failures < atoi(body + 6))
		return (INBOX_TRY_AGAIN);
	return (INBOX_DONE);
}

/* The row is written. */
static enum inbox_answer
after(const struct inbox_message * m, PGconn * db)
{
	const char * body = body_of(m);

	if (!strcmp(body, "crash"))
		_exit(9);
	if (!strcmp(body, "sql"))
		run(db, "SELECT 1/0", NULL);
	if (!strcmp(body, "deallocate"))
		run(db, "DEALLOCATE ALL", NULL);
	if (!strcmp(body, "commit"))
		run(db, "COMMIT", NULL);
	if (!strcmp(body, "busy"))
		PQsendQuery(db, "SELECT 1");
	if (!strcmp(body, "pipeline"))
		PQenterPipelineMode(db);
	if (!strcmp(body, "disconnect"))
		run(db, "SELECT pg_terminate_backend(pg_backend_pid())", NULL);
	if (!strcmp(body, "giveup"))
		return (INBOX_GIVE_UP);
	return (strcmp(body, "poison") ? INBOX_DONE : INBOX_TRY_AGAIN);
}

static enum inbox_answer
handle(const struct inbox_message * m, PGconn * db, void * context)
{
	char header[64];

	(void)context;
	printf("handled %s failures=%d redelivered=%d key=%s type=%s exchange=%s routing_key=%s "
	       "tenant=%s body=%s\n",
	    m->message_id, m->failures, m->redelivered, m->ordering_key, m->type, m->exchange,
	    m->routing_key,
	    inbox_message_header(m, "tenant", header, sizeof(header)) ? header : "-", body_of(m));
	if (before(m, db) != INBOX_DONE ||
	    !run(db, "INSERT INTO effect (message_id) VALUES ($1)", m->message_id))
		return (INBOX_TRY_AGAIN);
	return (after(m, db));
}

/* Ids of tests need no quoting in an array. */
static enum inbox_answer
handle_whole(const struct inbox_message * const * messages, size_t count, PGconn * db,
    void * context)
{
	static char ids[BATCH_MAX * 256 + 2];
	enum inbox_answer answer = INBOX_DONE;
	size_t at = 0;

	(void)context;
	for (size_t i = 0; i < count; i++)
		at += (size_t)snprintf(ids + at, sizeof(ids) - at, "%c%s", i == 0 ? '{' : ',',
		    messages[i]->message_id);
	strcpy(ids + at, "}");
	printf("whole %s\n", ids);
	for (size_t i = 0; i < count && answer == INBOX_DONE; i++)
		answer = before(messages[i], db);
	if (answer != INBOX_DONE ||
	    !run(db, "INSERT INTO effect (message_id) SELECT unnest($1::text[])", ids))
		return (INBOX_TRY_AGAIN);
	for (size_t i = 0; i < count && answer == INBOX_DONE; i++)
		answer = strcmp(body_of(messages[i]), "alone") ?
		    after(messages[i], db) :
		    INBOX_TRY_AGAIN;
	return (answer);
}

static void
tell(enum inbox_level level, const char * event, const char * text, void * context)
{
	(void)context;
	printf("event=%s level=%d %s\n", event, (int)level, text);
}

int
main(int argc, char ** argv)
{
	static const char * urls[16];
	struct inbox_consumer_options o = {.urls = urls,
	    .handler = handle,
	    .log = tell,
	    .queue = "",
	    .name = ""};
	struct inbox_error error;
	int whole = 0;
	size_t count = 0;

	for (int i = 1; i + 1 < argc; i += 2) {
		const char * value = argv[i + 1];
		const struct {
			const char * name;
			const char ** text;
			int * number;
			int64_t * wide;
		} options[] = {
		    {"name", &o.name, NULL, NULL},
		    {"queue", &o.queue, NULL, NULL},
		    {"postgres", &o.postgres, NULL, NULL},
		    {"schema", &o.schema, NULL, NULL},
		    {"ca_file", &o.ca_file, NULL, NULL},
		    {"url", &urls[count], NULL, NULL},
		    {"prefetch", NULL, &o.prefetch, NULL},
		    {"batch", NULL, &o.batch, NULL},
		    {"whole", NULL, &whole, NULL},
		    {"max_attempts", NULL, &o.max_attempts, NULL},
		    {"heartbeat_s", NULL, &o.heartbeat_s, NULL},
		    {"retry_initial_ms", NULL, NULL, &o.retry_initial_ms},
		    {"retry_max_ms", NULL, NULL, &o.retry_max_ms},
		    {"lock_timeout_ms", NULL, NULL, &o.lock_timeout_ms},
		    {"retention_s", NULL, NULL, &o.retention_s},
		    {"purge_interval_s", NULL, NULL, &o.purge_interval_s},
		};
		size_t k = 0;

		while (k < sizeof(options) / sizeof(options[0]) &&
		    strcmp(options[k].name, argv[i]) != 0)
			k++;
		if (k == sizeof(options) / sizeof(options[0]))
			return (64);
		if (options[k].text != NULL)
			*options[k].text = value;
		if (options[k].number != NULL)
			*options[k].number = atoi(value);
		if (options[k].wide != NULL)
			*options[k].wide = atoll(value);
		if (!strcmp(argv[i], "url") && count < 14)
			count++;
	}
	if (o.batch > BATCH_MAX)
		return (64);
	o.batch_handler = whole ? handle_whole : NULL;
	setvbuf(stdout, NULL, _IOLBF, 0);
	if ((consumer = inbox_consumer_new(&o, &error)) == NULL) {
		printf("invalid %s\n", error.text);
		return (78);
	}
	signal(SIGTERM, stop);
	if (inbox_consumer_run(consumer, &error) != INBOX_OK)
		printf("ended %s\n", error.text);
	inbox_consumer_free(consumer);
	return (error.code == INBOX_OK ? 0 : 1);
}
