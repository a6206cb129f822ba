#ifndef INBOX_H
#define INBOX_H

/*
 * libinbox: handle each message once, though it may come twice.
 *
 * The message id is claimed in the transaction of your work: claim and work
 * are committed together or not at all, and a second delivery finds the claim
 * and is skipped.  Two ways:
 *
 *   - You have a loop of your own: call inbox_claim() first in the transaction,
 *     skip the message if it is not new, and acknowledge it after COMMIT.
 *   - inbox_consumer_run() is that loop: it connects to RabbitMQ and Postgres,
 *     and again when a connection is lost, begins, claims, calls your handler,
 *     commits and acknowledges.
 *
 *	static enum inbox_answer
 *	handle(const struct inbox_message * message, PGconn * db, void * context)
 *	{
 *		... statements on db; no BEGIN, no COMMIT ...
 *		return (failed ? INBOX_TRY_AGAIN : INBOX_DONE);
 *	}
 *
 *	const char * const urls[] = {"amqp://guest:guest@localhost", NULL};
 *	struct inbox_consumer_options options = {.name = "billing", .queue = "orders",
 *	    .urls = urls, .postgres = "dbname=billing", .handler = handle};
 *	struct inbox_consumer * consumer = inbox_consumer_new(&options, &error);
 *	... inbox_consumer_stop(consumer) in a handler of SIGTERM ...
 *	inbox_consumer_run(consumer, &error);
 *	inbox_consumer_free(consumer);
 *
 * The library starts no thread and writes nothing to stdout or stderr.  A
 * consumer belongs to one thread, but for inbox_consumer_stop().
 *
 * Compile and link with `pkg-config --cflags --libs inbox`.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libpq-fe.h>

#ifdef __cplusplus
extern "C" {
#endif

#define INBOX_API __attribute__((visibility("default")))

enum inbox_code {
	INBOX_OK = 0,
	INBOX_INVALID,        /* an argument or option; nothing was done */
	INBOX_NO_CONNECTION,  /* NULL, closed, or lost */
	INBOX_NO_TRANSACTION, /* none is open: the claim would not be your work's */
	INBOX_BUSY,           /* in pipeline mode, or the results of a statement are unread */
	INBOX_FAILED,         /* the transaction has failed before: roll it back */
	INBOX_NO_MEMORY,
	/* Postgres refused, see sqlstate: the transaction can only be rolled back.
	 * 53200: or there was no memory for its answer.
	 * 55P03: lock_timeout has passed while another transaction handles the
	 * message.  40001 (REPEATABLE READ and above), 40P01: begin anew. */
	INBOX_REFUSED
};

#define INBOX_ERROR_TEXT_SIZE 512

struct inbox_error {
	enum inbox_code code;
	char sqlstate[6];                 /* with INBOX_REFUSED; else "" */
	char text[INBOX_ERROR_TEXT_SIZE]; /* one line */
};

/* ---- for a loop of your own ---- */

/* NULL in place of options: all zeroes. */
struct inbox_options {
	const char * schema; /* NULL: inbox */
};

/**
 * inbox_claim(db, consumer, message_id, options, is_new, error):
 * Claim ${message_id} for ${consumer} in the open transaction of ${db}, before
 * any other statement of it that matters.  ${is_new} tells whether to handle
 * it: false means that it was handled before, so acknowledge it and go on.
 * While another transaction has claimed it and is still open, this waits for
 * its end; SET LOCAL lock_timeout bounds that.  Rolling back takes the claim
 * back, too.  Name and id are UTF-8.
 *
 * ${error} may be NULL.  Returns error.code.
 */
INBOX_API enum inbox_code inbox_claim(PGconn * db, const char * consumer, const char * message_id,
    const struct inbox_options * options, bool * is_new, struct inbox_error * error);

/**
 * inbox_claim_batch(db, consumer, message_ids, count, options, are_new, error):
 * The same for ${count} messages in one statement.  ${are_new} has room for
 * ${count}; of an id that stands there twice the first may be new.  Batches at
 * the same time wait for each other in turn, never both.
 */
INBOX_API enum inbox_code inbox_claim_batch(PGconn * db, const char * consumer,
    const char * const * message_ids, size_t count, const struct inbox_options * options,
    bool * are_new, struct inbox_error * error);

/* ---- the loop ---- */

/*
 * A message as it was delivered; borrowed for the call of the handler.  Text
 * is NULL where the message has no such property, and ends at its first zero
 * byte.
 */
struct inbox_message {
	const char * message_id;
	const void * body;
	size_t body_len;
	const char * exchange;
	const char * routing_key;
	const char * ordering_key; /* header x-ordering-key */
	const char * type;
	const char * app_id;
	const char * content_type;
	const char * content_encoding;
	const char * correlation_id;
	const char * reply_to;
	int64_t timestamp_s; /* since 1970; 0: none */
	int priority;
	int failures; /* how often handling it has failed, as far as is known here */
	bool redelivered;
	const void * headers; /* the library's own: see inbox_message_header() */
};

/**
 * inbox_message_header(message, name, text, size):
 * Write the header ${name} as text (numbers in decimal, booleans as true and
 * false) into ${text} of ${size} bytes.  False if there is none, if it is a
 * table, an array or of a kind that has no text, or if it does not fit.
 */
INBOX_API bool inbox_message_header(const struct inbox_message * message, const char * name,
    char * text, size_t size);

enum inbox_answer {
	INBOX_DONE,      /* commit, then acknowledge */
	INBOX_TRY_AGAIN, /* roll back; later again, or give up after max_attempts */
	INBOX_GIVE_UP    /* roll back; to the dead letter exchange of the queue */
};

/*
 * Called in an open transaction in which the message is claimed.  It neither
 * begins, commits nor rolls back (a savepoint and back to it is fine), and
 * leaves no result unread and no pipeline mode behind.  If a statement has
 * failed, INBOX_DONE counts as INBOX_TRY_AGAIN.  With batches it may be called
 * again for a message whose transaction was rolled back for the sake of
 * another one: what it does outside of the database may happen twice.
 *
 * RabbitMQ closes a connection that is silent for two heartbeats: a handler
 * that takes longer works, but its message comes again, to be skipped.
 */
typedef enum inbox_answer inbox_handler(const struct inbox_message * message, PGconn * db,
    void * context);

/*
 * Called once for all new messages of a batch, in the order of delivery, so
 * that one statement can write them; from 1 to options.batch, borrowed for the
 * call.  The same rules hold, in the one transaction in which all are claimed.
 * INBOX_DONE: they are committed and acknowledged together.  Any other answer,
 * or a statement or COMMIT that fails: everything is rolled back, and each is
 * handled by inbox_handler in a transaction of its own.  So is a message that
 * comes alone, was delivered before, or has failed.
 */
typedef enum inbox_answer inbox_batch_handler(const struct inbox_message * const * messages,
    size_t count, PGconn * db, void * context);

enum inbox_level { INBOX_INFO, INBOX_WARNING, INBOX_ERROR };

/*
 * Told about:
 *   broker_connected, database_connected       INBOX_INFO
 *   broker_lost, database_lost                 INBOX_WARNING: tried again by itself
 *   batch_failed                               INBOX_WARNING: handled one by one
 *   message_failed                             INBOX_WARNING: tried again later
 *   message_given_up, message_without_id       INBOX_ERROR: went to the dead letter exchange
 *   purge_failed                               INBOX_WARNING
 * ${text} is one line, without payloads and passwords.
 */
typedef void inbox_log(enum inbox_level level, const char * event, const char * text,
    void * context);

/*
 * Initialise it with zeroes.  What is marked "required" must be set, 0 and
 * NULL stand for the default.  All is borrowed until inbox_consumer_free().
 *
 * The queue should have a dead letter exchange: RabbitMQ drops what is given
 * up if it has none.  A message that waits for its next attempt takes up one
 * of prefetch, and comes after later ones of its ordering key then.
 */
struct inbox_consumer_options {
	const char * name;         /* required: whose claims these are */
	const char * queue;        /* required; it exists */
	const char * const * urls; /* required: amqp:// or amqps://, up to NULL; tried in turn */
	const char * postgres;     /* required: conninfo or URI, as for libpq */
	inbox_handler * handler;   /* required, with a batch_handler, too */
	inbox_log * log;           /* NULL: silence */
	void * context;            /* for all of them */
	const char * schema;       /* inbox */
	const char * ca_file;      /* TLS: PEM; NULL: $SSL_CERT_FILE, or the system's */
	const char * cert_file;    /* TLS: a certificate of the client, and */
	const char * key_file;     /* its key */
	int prefetch;              /* messages at once from the broker (100; at most 65535) */
	int batch;                 /* messages in a transaction at most (1; at most prefetch) */
	int max_attempts;          /* before a message is given up (10) */
	int heartbeat_s;           /* of the broker's connection (30) */
	int64_t retry_initial_ms;  /* wait after the first failure (1000), then twice as long, */
	int64_t retry_max_ms;      /* at most so long (300000; RabbitMQ's limit is 30 minutes) */
	int64_t lock_timeout_ms;   /* of the connection, unless the role has one (5000) */
	int64_t retention_s;       /* removes older claims, of all consumers (604800); -1: none */
	int64_t purge_interval_s;  /* how often it does (3600) */
	inbox_batch_handler * batch_handler; /* NULL: handler for each; not called if batch is 1 */
};

struct inbox_consumer;

/**
 * inbox_consumer_new(options, error):
 * A consumer that is not connected yet; NULL with ${error} (INBOX_INVALID,
 * INBOX_NO_MEMORY) that says which option is wrong.
 */
INBOX_API struct inbox_consumer * inbox_consumer_new(const struct inbox_consumer_options * options,
    struct inbox_error * error);

/**
 * inbox_consumer_run(consumer, error):
 * Handle messages until inbox_consumer_stop(), then return INBOX_OK: what is
 * being handled is finished and acknowledged, everything else goes back to the
 * queue.  Servers that cannot be reached, and a queue that does not exist, are
 * tried again for ever; the log tells.  INBOX_NO_MEMORY ends it, too.
 *
 * A message is acknowledged only after its transaction is committed.  One that
 * was delivered before and not acknowledged is counted as a failure before it
 * is handled, so that a message that kills its consumer is given up in the end.
 * A message that was given up and is sent again from the dead letter queue has
 * all its attempts before it.
 *
 * A message without message id, or with one that cannot be claimed, is given
 * up at once: it could not be told from its repetition.
 */
INBOX_API enum inbox_code inbox_consumer_run(struct inbox_consumer * consumer,
    struct inbox_error * error);

/**
 * inbox_consumer_stop(consumer):
 * Have inbox_consumer_run() return soon, now or when it is called.  May be
 * called from a signal handler and from another thread.
 */
INBOX_API void inbox_consumer_stop(struct inbox_consumer * consumer);

/**
 * inbox_consumer_free(consumer):
 * Close its connections, free it.  NULL is fine.
 */
INBOX_API void inbox_consumer_free(struct inbox_consumer * consumer);

/**
 * inbox_version():
 * Version of the library that is loaded, as in "0.1.0".
 */
INBOX_API const char * inbox_version(void);

#ifdef __cplusplus
}
#endif

#endif /* INBOX_H */
