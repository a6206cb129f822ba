#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "writer.h"

/*
 * Writers at full speed, or at a steady rate: how many transactions a second
 * they commit.
 *
 * writers --dsn DSN --queue NAME [--threads N] [--seconds N] [--rate N]
 * --rate is that of all together; 0: as fast as they can.
 */
struct plan {
	const char * dsn;
	const char * queue;
	uint64_t threads;
	double rate;
	pthread_barrier_t ready;
	double start;
	double end;
};

struct writer {
	pthread_t thread;
	struct plan * plan;
	PGconn * db;
	uint64_t number;
	uint64_t commits;
};

static void *
write_messages(void * argument)
{
	struct writer * writer = argument;
	struct plan * plan = writer->plan;
	uint64_t random = 88172645463325252U + writer->number;
	uint64_t turn = writer->number;

	pthread_barrier_wait(&plan->ready);
	bench_sleep_until(plan->start);
	while (bench_now() < plan->end) {
		writer_commit(writer->db, plan->queue, bench_random(&random), bench_body());
		writer->commits++;
		if (plan->rate > 0) {
			turn += plan->threads;
			bench_sleep_until(plan->start + (double)turn / plan->rate);
		}
	}
	return (NULL);
}

int
main(int argc, char ** argv)
{
	static const struct option options[] = {{"dsn", required_argument, NULL, 'd'},
	    {"queue", required_argument, NULL, 'q'}, {"threads", required_argument, NULL, 't'},
	    {"seconds", required_argument, NULL, 's'}, {"rate", required_argument, NULL, 'r'},
	    {NULL, 0, NULL, 0}};
	struct plan plan = {.threads = 8};
	struct writer writers[64];
	uint64_t seconds = 5;
	uint64_t commits = 0;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'd':
			plan.dsn = optarg;
			break;
		case 'q':
			plan.queue = optarg;
			break;
		case 't':
			plan.threads = bench_number(optarg, 64);
			break;
		case 's':
			seconds = bench_number(optarg, 3600);
			break;
		case 'r':
			plan.rate = (double)bench_number(optarg, 1000000);
			break;
		default:
			return (64);
		}
	}
	if (plan.dsn == NULL || plan.queue == NULL || plan.threads == 0)
		bench_fail("--dsn and --queue are needed, and a thread");

	bench_body(); /* filled before there are threads */
	pthread_barrier_init(&plan.ready, NULL, (unsigned int)plan.threads + 1);
	for (uint64_t i = 0; i < plan.threads; i++) {
		writers[i] = (struct writer){.plan = &plan, .number = i};
		writers[i].db = writer_connect(plan.dsn);
		if (pthread_create(&writers[i].thread, NULL, write_messages, &writers[i]) != 0)
			bench_fail("no more threads");
	}
	plan.start = bench_now() + 0.05;
	plan.end = plan.start + (double)seconds;
	pthread_barrier_wait(&plan.ready);
	for (uint64_t i = 0; i < plan.threads; i++) {
		pthread_join(writers[i].thread, NULL);
		commits += writers[i].commits;
		PQfinish(writers[i].db);
	}
	printf("{\"commits\": %" PRIu64 ", \"seconds\": %.6f}\n", commits,
	    bench_now() - plan.start);
	return (0);
}
