#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "bench.h"
#include "writer.h"

/*
 * From commit to consumer, at a steady rate.  Writers and the consumer live
 * in one process, so one clock times both ends.
 *
 * latency --url URL --queue NAME --mode relay|bare|dual [--dsn DSN]
 *         [--rate N] [--seconds N] [--threads N]
 *   relay  a writer commits; the relay publishes
 *   bare   a writer publishes by itself; no database
 *   dual   a writer commits and then publishes by itself: what a service
 *          without an outbox does, with the same load on the disk
 *
 * What must stay true: the stamp is taken when COMMIT has returned (bare:
 * right before basic.publish).  A commit is visible a moment before its
 * writer hears of it, so "from_commit_sent" is printed too: it includes the
 * flush of the WAL, which has nothing to do with any relay.
 */
enum { WARM_UP_PERCENT = 10, TIMEOUT_S = 30, THREADS_MAX = 16 };

struct plan {
	const char * url;
	const char * queue;
	const char * dsn;
	bool commits;
	bool publishes;
	double rate;
	uint64_t threads;
	uint64_t count;
	double start;
	double * sent; /* by number of the message: before COMMIT */
	double * committed;
	double * received;           /* 0: not */
	pthread_barrier_t connected; /* all of us */
	pthread_barrier_t started;   /* all but the consumer */
	_Atomic uint64_t arrived;
};

struct writer {
	pthread_t thread;
	struct plan * plan;
	uint64_t number;
};

static void
write_one(struct plan * plan, PGconn * db, struct bench_publisher * publisher, uint64_t i)
{
	struct bench_message message;
	char body[BENCH_PAYLOAD_SIZE];

	memset(body, 'x', sizeof(body));
	memcpy(body, &i, sizeof(i));
	plan->sent[i] = bench_now();
	if (plan->commits)
		writer_commit(db, plan->queue, i * 7919, body);
	if (plan->publishes)
		bench_message_fill(&message, (int64_t)i + 1, i * 7919, false);
	plan->committed[i] = bench_now();
	if (plan->publishes) {
		bench_publisher_send(publisher, plan->queue, &message.properties,
		    (amqp_bytes_t){sizeof(body), body});
		bench_publisher_poll(publisher);
	}
}

static void *
write_messages(void * argument)
{
	struct writer * writer = argument;
	struct plan * plan = writer->plan;
	struct bench_publisher publisher;
	amqp_connection_state_t connection = NULL;
	PGconn * db = NULL;

	if (plan->commits)
		db = writer_connect(plan->dsn);
	if (plan->publishes) {
		connection = bench_connect(plan->url);
		bench_publisher_open(&publisher, connection, BENCH_WINDOW);
	}
	pthread_barrier_wait(&plan->connected);
	pthread_barrier_wait(&plan->started);
	for (uint64_t i = writer->number; i < plan->count; i += plan->threads) {
		bench_sleep_until(plan->start + (double)i / plan->rate);
		write_one(plan, db, &publisher, i);
	}
	if (plan->publishes) {
		bench_publisher_settle(&publisher, 0);
		bench_publisher_close(&publisher);
		bench_disconnect(connection);
	}
	PQfinish(db);
	return (NULL);
}

static void *
consume(void * argument)
{
	struct plan * plan = argument;
	amqp_connection_state_t connection = bench_connect(plan->url);
	struct timeval timeout = {TIMEOUT_S, 0};
	amqp_envelope_t envelope;
	uint64_t i;

	amqp_basic_consume(connection, BENCH_CHANNEL, amqp_cstring_bytes(plan->queue),
	    amqp_empty_bytes, 0, 1, 0, amqp_empty_table);
	bench_check(connection, "basic.consume");
	pthread_barrier_wait(&plan->connected);
	while (plan->arrived < plan->count) {
		amqp_maybe_release_buffers(connection);
		if (amqp_consume_message(connection, &envelope, &timeout, 0).reply_type !=
		    AMQP_RESPONSE_NORMAL)
			bench_fail("only %" PRIu64 " of %" PRIu64 " messages arrived",
			    plan->arrived, plan->count);
		if (envelope.message.body.len != BENCH_PAYLOAD_SIZE)
			bench_fail("a message of another run");
		memcpy(&i, envelope.message.body.bytes, sizeof(i));
		if (i >= plan->count)
			bench_fail("a message of another run");
		if (plan->received[i] == 0) {
			plan->received[i] = bench_now();
			plan->arrived++;
		}
		amqp_destroy_envelope(&envelope);
	}
	bench_disconnect(connection);
	return (NULL);
}

static int
compare(const void * a, const void * b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;

	return (x < y ? -1 : x > y);
}

/* Milliseconds from ${stamps} to the consumer at each permille, 0 to 1000. */
static void
print_permilles(const char * name, const struct plan * plan, const double * stamps)
{
	uint64_t skipped = plan->count * WARM_UP_PERCENT / 100;
	uint64_t count = plan->count - skipped;
	double * all;

	if ((all = calloc(count, sizeof(*all))) == NULL)
		bench_fail("out of memory");
	for (uint64_t i = 0; i < count; i++)
		all[i] = (plan->received[skipped + i] - stamps[skipped + i]) * 1e3;
	qsort(all, count, sizeof(*all), compare);
	printf("\"%s\": [", name);
	for (uint64_t p = 0; p <= 1000; p++)
		printf("%s%.4f", p == 0 ? "" : ", ", all[(count - 1) * p / 1000]);
	printf("]");
	free(all);
}

static void
run(struct plan * plan)
{
	struct writer writers[THREADS_MAX];
	pthread_t consumer;
	double last = 0;

	pthread_barrier_init(&plan->connected, NULL, (unsigned int)plan->threads + 2);
	pthread_barrier_init(&plan->started, NULL, (unsigned int)plan->threads + 1);
	if (pthread_create(&consumer, NULL, consume, plan) != 0)
		bench_fail("no more threads");
	for (uint64_t i = 0; i < plan->threads; i++) {
		writers[i] = (struct writer){.plan = plan, .number = i};
		if (pthread_create(&writers[i].thread, NULL, write_messages, &writers[i]) != 0)
			bench_fail("no more threads");
	}
	pthread_barrier_wait(&plan->connected);
	plan->start = bench_now() + 0.1;
	pthread_barrier_wait(&plan->started);
	for (uint64_t i = 0; i < plan->threads; i++)
		pthread_join(writers[i].thread, NULL);
	pthread_join(consumer, NULL);
	for (uint64_t i = 0; i < plan->count; i++)
		last = plan->committed[i] > last ? plan->committed[i] : last;

	printf("{\"messages\": %" PRIu64 ", \"rate\": %.1f, ", plan->count,
	    (double)plan->count / (last - plan->start));
	print_permilles("from_commit_ms", plan, plan->committed);
	printf(", ");
	print_permilles("from_commit_sent_ms", plan, plan->sent);
	printf("}\n");
}

int
main(int argc, char ** argv)
{
	static const struct option options[] = {{"url", required_argument, NULL, 'u'},
	    {"queue", required_argument, NULL, 'q'}, {"dsn", required_argument, NULL, 'd'},
	    {"mode", required_argument, NULL, 'm'}, {"rate", required_argument, NULL, 'r'},
	    {"seconds", required_argument, NULL, 's'}, {"threads", required_argument, NULL, 't'},
	    {NULL, 0, NULL, 0}};
	struct plan plan = {.rate = 1000, .threads = 4};
	const char * mode = "relay";
	uint64_t seconds = 10;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'u':
			plan.url = optarg;
			break;
		case 'q':
			plan.queue = optarg;
			break;
		case 'd':
			plan.dsn = optarg;
			break;
		case 'm':
			mode = optarg;
			break;
		case 'r':
			plan.rate = (double)bench_number(optarg, 100000);
			break;
		case 's':
			seconds = bench_number(optarg, 3600);
			break;
		case 't':
			plan.threads = bench_number(optarg, THREADS_MAX);
			break;
		default:
			return (64);
		}
	}
	plan.commits = strcmp(mode, "relay") == 0 || strcmp(mode, "dual") == 0;
	plan.publishes = strcmp(mode, "bare") == 0 || strcmp(mode, "dual") == 0;
	plan.count = (uint64_t)(plan.rate * (double)seconds);
	if (plan.url == NULL || plan.queue == NULL || plan.count == 0 || plan.threads == 0 ||
	    (!plan.commits && !plan.publishes) || (plan.commits && plan.dsn == NULL))
		bench_fail("--url, --queue, a mode and (unless it is bare) --dsn are needed");

	plan.sent = calloc(plan.count, sizeof(*plan.sent));
	plan.committed = calloc(plan.count, sizeof(*plan.committed));
	plan.received = calloc(plan.count, sizeof(*plan.received));
	if (plan.sent == NULL || plan.committed == NULL || plan.received == NULL)
		bench_fail("out of memory");

	run(&plan);

	free(plan.received);
	free(plan.committed);
	free(plan.sent);
	return (0);
}
