#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

/*
 * queue --url URL --queue NAME [--type quorum|classic] [--max-length N] COMMAND
 *   recreate   delete the queue if it is there and declare it, durable
 *   delete     delete it if it is there
 *   count      print {"messages": N}
 *   get        take one message and print {"bytes": N} (-1: it is empty)
 */

static void
recreate(amqp_connection_state_t connection, amqp_bytes_t queue, const char * type,
    int64_t max_length)
{
	amqp_table_entry_t entries[2];
	amqp_table_t arguments = {.num_entries = 1, .entries = entries};

	entries[0].key = amqp_cstring_bytes("x-queue-type");
	entries[0].value.kind = AMQP_FIELD_KIND_UTF8;
	entries[0].value.value.bytes = amqp_cstring_bytes(type);
	if (max_length > 0) {
		entries[1].key = amqp_cstring_bytes("x-max-length");
		entries[1].value.kind = AMQP_FIELD_KIND_I64;
		entries[1].value.value.i64 = max_length;
		arguments.num_entries = 2;
	}
	amqp_queue_declare(connection, BENCH_CHANNEL, queue, 0, 1, 0, 0, arguments);
	bench_check(connection, "queue.declare");
}

static void
print_count(amqp_connection_state_t connection, amqp_bytes_t queue)
{
	const amqp_queue_declare_ok_t * ok;

	ok = amqp_queue_declare(connection, BENCH_CHANNEL, queue, 1, 0, 0, 0, amqp_empty_table);
	bench_check(connection, "queue.declare");
	printf("{\"messages\": %u}\n", ok->message_count);
}

static void
print_message(amqp_connection_state_t connection, amqp_bytes_t queue)
{
	amqp_rpc_reply_t reply;
	amqp_message_t message;

	reply = amqp_basic_get(connection, BENCH_CHANNEL, queue, 1);
	if (reply.reply_type != AMQP_RESPONSE_NORMAL)
		bench_check(connection, "basic.get");
	if (reply.reply.id == AMQP_BASIC_GET_EMPTY_METHOD) {
		printf("{\"bytes\": -1}\n");
		return;
	}
	reply = amqp_read_message(connection, BENCH_CHANNEL, &message, 0);
	if (reply.reply_type != AMQP_RESPONSE_NORMAL)
		bench_fail("the message broke off");
	printf("{\"bytes\": %zu}\n", message.body.len);
	amqp_destroy_message(&message);
}

int
main(int argc, char ** argv)
{
	static const struct option options[] = {{"url", required_argument, NULL, 'u'},
	    {"queue", required_argument, NULL, 'q'}, {"type", required_argument, NULL, 't'},
	    {"max-length", required_argument, NULL, 'm'}, {NULL, 0, NULL, 0}};
	const char * url = NULL;
	const char * name = NULL;
	const char * type = "quorum";
	const char * command;
	int64_t max_length = 0;
	amqp_connection_state_t connection;
	amqp_bytes_t queue;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'u':
			url = optarg;
			break;
		case 'q':
			name = optarg;
			break;
		case 't':
			type = optarg;
			break;
		case 'm':
			max_length = (int64_t)bench_number(optarg, 1000000000);
			break;
		default:
			return (64);
		}
	}
	if (url == NULL || name == NULL || optind + 1 != argc)
		bench_fail("--url, --queue and one command are needed");
	command = argv[optind];

	connection = bench_connect(url);
	queue = amqp_cstring_bytes(name);
	if (strcmp(command, "recreate") == 0 || strcmp(command, "delete") == 0) {
		amqp_queue_delete(connection, BENCH_CHANNEL, queue, 0, 0);
		bench_check(connection, "queue.delete");
		if (command[0] == 'r')
			recreate(connection, queue, type, max_length);
	} else if (strcmp(command, "count") == 0) {
		print_count(connection, queue);
	} else if (strcmp(command, "get") == 0) {
		print_message(connection, queue);
	} else {
		bench_fail("no command is called \"%s\"", command);
	}
	bench_disconnect(connection);
	return (0);
}
