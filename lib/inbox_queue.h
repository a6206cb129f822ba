#ifndef INBOX_QUEUE_H
#define INBOX_QUEUE_H

#include "inbox.h"
#include "inbox_rabbitmq.h"

/*
 * The broker's side of a consumer: one connection, one channel, one queue.
 * Any failure is final for the connection: close it and open a new one.
 */
struct inbox_queue {
	const struct inbox_consumer_options * options; /* with all defaults filled in */
	amqp_connection_state_t state;                 /* NULL: closed */
	size_t next_url;
};

/**
 * inbox_queue_check_url(url, error):
 * Whether ${url} can be read.  The error does not repeat it: it may hold a
 * password.
 */
enum inbox_code inbox_queue_check_url(const char * url, struct inbox_error * error);

/**
 * inbox_queue_open(q, error):
 * Connect to the next url and begin to consume.  On failure ${q} is closed.
 * If it succeeds, ${error} holds where it is connected to.
 */
enum inbox_code inbox_queue_open(struct inbox_queue * q, struct inbox_error * error);

enum inbox_next { INBOX_GOT, INBOX_NOTHING, INBOX_LOST };

/**
 * inbox_queue_next(q, envelope, error):
 * The next message that has arrived, without waiting for one; it is the
 * caller's then.  Also keeps the connection alive: call it now and then.
 */
enum inbox_next inbox_queue_next(struct inbox_queue * q, amqp_envelope_t * envelope,
    struct inbox_error * error);

/**
 * inbox_queue_fd(q):
 * A descriptor that becomes readable when inbox_queue_next() may have more.
 */
int inbox_queue_fd(const struct inbox_queue * q);

/**
 * inbox_queue_ack(q, tag, multiple, error), inbox_queue_reject(q, tag, error):
 * It is done, or it goes to the dead letter exchange.
 */
enum inbox_code inbox_queue_ack(struct inbox_queue * q, uint64_t tag, bool multiple,
    struct inbox_error * error);
enum inbox_code inbox_queue_reject(struct inbox_queue * q, uint64_t tag,
    struct inbox_error * error);

/**
 * inbox_queue_close(q, politely):
 * What is not acknowledged goes back to the queue.  Politely: waits for the
 * broker to have seen every acknowledgement, up to a few seconds.
 */
void inbox_queue_close(struct inbox_queue * q, bool politely);

#endif /* INBOX_QUEUE_H */
