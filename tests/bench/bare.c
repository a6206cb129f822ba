#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

/*
 * The bare loop: amqp_basic_publish and confirms, no database.  What a service
 * could reach that publishes by itself with rabbitmq-c.
 *
 * bare --url URL --queue NAME [--count N] [--window N] [--traceparent]
 * Prints one line of JSON: the time from the first publish to the last confirm.
 */
int
main(int argc, char ** argv)
{
	static const struct option options[] = {{"url", required_argument, NULL, 'u'},
	    {"queue", required_argument, NULL, 'q'}, {"count", required_argument, NULL, 'n'},
	    {"window", required_argument, NULL, 'w'}, {"traceparent", no_argument, NULL, 't'},
	    {NULL, 0, NULL, 0}};
	const char * url = NULL;
	const char * queue = NULL;
	uint64_t count = 300000;
	uint64_t window = BENCH_WINDOW;
	uint64_t random = 88172645463325252U;
	bool traceparent = false;
	struct bench_publisher publisher;
	struct bench_message message;
	amqp_connection_state_t connection;
	amqp_bytes_t body;
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
		case 'n':
			count = bench_number(optarg, 1000000000);
			break;
		case 'w':
			window = bench_number(optarg, 1000000);
			break;
		case 't':
			traceparent = true;
			break;
		default:
			return (64);
		}
	}
	if (url == NULL || queue == NULL || window == 0)
		bench_fail("--url and --queue are needed, and a window");

	connection = bench_connect(url);
	bench_publisher_open(&publisher, connection, window);
	body.len = BENCH_PAYLOAD_SIZE;
	body.bytes = (void *)(uintptr_t)bench_body();

	cpu = bench_cpu();
	start = bench_now();
	for (uint64_t i = 1; i <= count; i++) {
		bench_message_fill(&message, (int64_t)i, bench_random(&random), traceparent);
		bench_publisher_send(&publisher, queue, &message.properties, body);
	}
	bench_publisher_settle(&publisher, 0);
	printf("{\"messages\": %llu, \"seconds\": %.6f, \"cpu_seconds\": %.6f}\n",
	    (unsigned long long)publisher.confirmed, bench_now() - start, bench_cpu() - cpu);

	bench_publisher_close(&publisher);
	bench_disconnect(connection);
	return (0);
}
