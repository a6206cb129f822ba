#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp.h>
#include <amqp_tcp_socket.h>
#endif

/*
 * What the benchmark programs share: the message that all of them send, a
 * plain rabbitmq-c publisher with confirms, and time.  A program that cannot
 * go on says why on stderr and exits with 1; there is nothing to recover in a
 * benchmark.
 */

#define BENCH_PAYLOAD_SIZE 512
#define BENCH_KEYS 10000
#define BENCH_WINDOW 10000
#define BENCH_CHANNEL 1
#define BENCH_TRACEPARENT "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

/**
 * bench_now():
 * Seconds of CLOCK_MONOTONIC.
 */
double bench_now(void);

/**
 * bench_cpu():
 * Seconds of CPU, user and system, that this process has used.
 */
double bench_cpu(void);

/**
 * bench_sleep_until(when):
 * Sleep until bench_now() would say ${when}.
 */
void bench_sleep_until(double when);

/**
 * bench_fail(format, ...):
 * One line on stderr, exit 1.
 */
void bench_fail(const char * format, ...) __attribute__((format(printf, 1, 2), noreturn));

/**
 * bench_number(text, max):
 * The number that an option was given, 0 to ${max}.
 */
uint64_t bench_number(const char * text, uint64_t max);

/**
 * bench_random(state):
 * The next number of a small generator (xorshift); ${*state} is never 0.
 */
uint64_t bench_random(uint64_t * state);

/*
 * The message: what the relay sends for a row of the benchmark, property for
 * property and header for header, so that every program moves the same bytes.
 */
struct bench_message {
	amqp_basic_properties_t properties;
	amqp_table_entry_t headers[3];
	char message_id[37];
	char ordering_key[16];
	char routing_key[64];
};

/**
 * bench_message_fill(message, id, random, traceparent):
 * The message of row ${id}; the ordering key is drawn by ${random}.  Its
 * properties point into ${message}.
 */
void bench_message_fill(struct bench_message * message, int64_t id, uint64_t random,
    bool traceparent);

/**
 * bench_body():
 * BENCH_PAYLOAD_SIZE bytes, the same for all.
 */
const char * bench_body(void);

/**
 * bench_connect(url):
 * A logged-in connection with channel BENCH_CHANNEL open.
 */
amqp_connection_state_t bench_connect(const char * url);

/**
 * bench_disconnect(connection):
 * Close it in order and free it.
 */
void bench_disconnect(amqp_connection_state_t connection);

/**
 * bench_check(connection, what):
 * Fail if the last call on ${connection} did, naming ${what}.
 */
void bench_check(amqp_connection_state_t connection, const char * what);

/*
 * A publisher as one writes it with rabbitmq-c: amqp_basic_publish for each
 * message, and confirms read when the window is full.  (Asking the socket
 * after every message would cost one more system call for each.)
 */
struct bench_publisher {
	amqp_connection_state_t connection;
	uint64_t published; /* the last delivery tag */
	uint64_t confirmed; /* how many */
	uint64_t oldest;    /* no tag up to this one is unconfirmed */
	uint64_t window;
	unsigned char * seen; /* by tag modulo 2^n: confirmed out of order */
	uint64_t mask;
};

/**
 * bench_publisher_open(publisher, connection, window):
 * Confirms are selected on the channel of ${connection}.
 */
void bench_publisher_open(struct bench_publisher * publisher, amqp_connection_state_t connection,
    uint64_t window);

/**
 * bench_publisher_send(publisher, routing_key, properties, body):
 * Publish to the default exchange, mandatory as the relay does; waits while
 * the window is full.
 */
void bench_publisher_send(struct bench_publisher * publisher, const char * routing_key,
    const amqp_basic_properties_t * properties, amqp_bytes_t body);

/**
 * bench_publisher_settle(publisher, outstanding):
 * Wait until at most ${outstanding} messages are unconfirmed.
 */
void bench_publisher_settle(struct bench_publisher * publisher, uint64_t outstanding);

/**
 * bench_publisher_poll(publisher):
 * Take the confirms that have come, without waiting.
 */
void bench_publisher_poll(struct bench_publisher * publisher);

/**
 * bench_publisher_close(publisher):
 * Free it, but not its connection.
 */
void bench_publisher_close(struct bench_publisher * publisher);

#endif /* BENCH_H */
