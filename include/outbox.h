#ifndef OUTBOX_H
#define OUTBOX_H

/*
 * liboutbox: put messages into the outbox, in your own transaction.
 *
 *	PQclear(PQexec(db, "BEGIN"));
 *	... your own statements ...
 *	struct outbox_message message = {
 *	    .exchange = "shop", .routing_key = "order.created",
 *	    .payload_text = "{\"order\": 1}", .ordering_key = "customer-7"};
 *	struct outbox_error error;
 *	if (outbox_publish(db, &message, NULL, NULL, &error))
 *		fprintf(stderr, "%s\n", error.text);
 *	PQclear(PQexec(db, "COMMIT"));
 *
 * outbox-relay sends the message to RabbitMQ once the transaction is
 * committed, and never if it is rolled back.
 *
 * The library begins, commits and rolls back nothing, sets no savepoint, logs
 * nothing, starts no thread, prepares no named statement and keeps nothing
 * between calls.  A connection belongs to one thread at a time, as with libpq
 * itself.
 *
 * Compile and link with `pkg-config --cflags --libs outbox`.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libpq-fe.h>

#ifdef __cplusplus
extern "C" {
#endif

#define OUTBOX_API __attribute__((visibility("default")))

/*
 * A message.  Initialise it with zeroes ("= {...}", "= {0}", in C++ "= {}"):
 * what is NULL or 0 is left out.  Everything is borrowed for the call alone.
 * Text is UTF-8 whatever the client_encoding of the connection is.
 *
 * Exactly one of the three payloads is set.  JSON that consumers shall get
 * byte for byte goes into payload_text.
 */
struct outbox_message {
	const char * exchange;     /* NULL or "": RabbitMQ's default exchange */
	const char * routing_key;  /* required; may be "" */
	const void * payload;      /* bytes, */
	size_t payload_len;        /* so many */
	const char * payload_text; /* text */
	const char * payload_json; /* JSON, stored as jsonb: keys are reordered */
	const char * ordering_key; /* first delivered in the order written; at most 1024 bytes */
	const char * headers;      /* a JSON object */
	const char * type;         /* this and the next: at most 255 bytes, as all AMQP names */
	const char * app_id;       /* who sends */
	const char * content_type; /* NULL: application/json; "": none */
	const char * content_encoding;
	const char * correlation_id;
	const char * reply_to;
	const char * message_id; /* a UUID; NULL: a new one */
	int64_t expiration_ms;   /* 0: does not expire; OUTBOX_EXPIRES_AT_ONCE; below 2^32 */
	int64_t deliver_at_us;   /* microseconds since 1970 (UTC): not before; 0: at once */
	int priority;            /* 1 to 255; 0: none, which queues take as the lowest */
	bool transient;          /* a restart of the broker may lose it */
};

#define OUTBOX_EXPIRES_AT_ONCE (-1) /* unless a consumer takes it right away */

/* A message id in text form with its terminating zero. */
#define OUTBOX_ID_SIZE 37

/* NULL in place of options: all zeroes. */
struct outbox_options {
	const char * schema; /* NULL: outbox */
};

enum outbox_code {
	OUTBOX_OK = 0,
	/* Nothing was sent; the transaction is as it was. */
	OUTBOX_INVALID,        /* a field of the message; error.field says which */
	OUTBOX_NO_CONNECTION,  /* NULL, closed, lost, or of no use any more: close it */
	OUTBOX_NO_TRANSACTION, /* none is open: the message would be sent on its own */
	OUTBOX_BUSY,           /* in pipeline mode, or the results of a statement are unread */
	OUTBOX_FAILED,         /* the transaction has failed before: roll it back */
	OUTBOX_NO_MEMORY,      /* reserved */
	/* Postgres refused, or there was no memory for its answer (sqlstate 53200).
	 * As with any statement, the transaction can only be rolled back now, to a
	 * savepoint of yours if you have set one. */
	OUTBOX_REFUSED
};

#define OUTBOX_ERROR_TEXT_SIZE 512

struct outbox_error {
	enum outbox_code code;
	size_t index;     /* of the message in a batch */
	char field[32];   /* member of struct outbox_message, column or constraint; "" */
	char sqlstate[6]; /* with OUTBOX_REFUSED; else "" */
	char text[OUTBOX_ERROR_TEXT_SIZE]; /* one line: which field and why */
};

/**
 * outbox_publish(db, message, options, id, error):
 * Write ${message} into the outbox of ${db} as a part of its open transaction.
 * Everything that can be checked without the server is, before anything is
 * sent: see enum outbox_code for what is left of the transaction.  What only
 * the server knows (missing schema or grant, a payload above
 * outbox.payload_limit()) is OUTBOX_REFUSED.
 *
 * If ${id} is not NULL, the message id is written to it; if ${error} is not
 * NULL, it says what was wrong, or OUTBOX_OK.  Returns error.code.
 *
 * Waits for the server's answer, also on a connection in non-blocking mode.
 */
OUTBOX_API enum outbox_code outbox_publish(PGconn * db, const struct outbox_message * message,
    const struct outbox_options * options, char id[OUTBOX_ID_SIZE], struct outbox_error * error);

/**
 * outbox_publish_batch(db, messages, count, options, ids, error):
 * Write ${count} messages in their order, in pipeline mode: many times faster
 * than one by one over a network.  All are checked before the first is sent,
 * and error.index says which one was wrong.  ids is NULL or has room for
 * ${count} ids.  After an error the ids mean nothing.
 *
 * The connection leaves pipeline mode again.  The unnamed prepared statement
 * of the session is replaced, as PQexecParams does too.
 */
OUTBOX_API enum outbox_code outbox_publish_batch(PGconn * db,
    const struct outbox_message * messages, size_t count, const struct outbox_options * options,
    char (*ids)[OUTBOX_ID_SIZE], struct outbox_error * error);

/**
 * outbox_version():
 * Version of the library that is loaded, as in "0.1.0".
 */
OUTBOX_API const char * outbox_version(void);

#ifdef __cplusplus
}
#endif

#endif /* OUTBOX_H */
