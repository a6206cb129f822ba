#ifndef CORE_MESSAGE_H
#define CORE_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

/* A number that AMQP has no place for: the link must refuse the message. */
#define MESSAGE_UNFIT (-2)

/*
 * Where a message waited until the source handed it over.  All but the first
 * lie in the table of delayed messages.
 */
enum message_origin {
	MESSAGE_FRESH,     /* nowhere: it lies where its producer wrote it */
	MESSAGE_SCHEDULED, /* for its time; held nobody back meanwhile */
	MESSAGE_RETRY,     /* for its next attempt */
	MESSAGE_LANE,      /* for its exchange, or its queue, to be well again */
	MESSAGE_BEHIND     /* for an earlier message of its key */
};

/*
 * A message as the source hands it over and the link takes it.  Every bytes
 * points into memory of the batch; absent values are BYTES_NONE.
 */
struct message {
	/* What is asked for at each confirm stands first, in one cache line. */
	int64_t id;           /* outbox.message.id: header x-outbox-id */
	uint64_t key;         /* hash of ordering_key; 0: none */
	struct batch * batch; /* owns its memory: the batch it came in, or one that lists nothing */
	int64_t timestamp_s;  /* created: seconds since 1970, or MESSAGE_UNFIT ... */
	int64_t expiration_ms; /* -1: none; MESSAGE_UNFIT */
	uint32_t timestamp_us; /* ... and below 1,000,000 microseconds more */
	uint32_t attempts;     /* refused so often so far */
	int16_t priority;      /* 0..255; -1: none; MESSAGE_UNFIT */
	bool persistent;
	bool held;              /* fresh or scheduled: earlier messages of its key
	                                    wait in the database */
	uint8_t origin;         /* enum message_origin */
	uint8_t message_id[16]; /* UUID, network order */
	struct bytes exchange;  /* "" is the default exchange */
	struct bytes routing_key;
	struct bytes body;
	struct bytes ordering_key; /* header x-ordering-key */
	struct bytes headers;      /* JSON text of an object */
	struct bytes type;
	struct bytes app_id;
	struct bytes content_type;
	struct bytes content_encoding;
	struct bytes correlation_id;
	struct bytes reply_to;
};

/*
 * Messages of one key are of one stripe.  Those of a stripe share a channel of the main
 * connection; those of another one may be answered although this one is frozen.
 */
#define MESSAGE_STRIPES 4

static inline uint16_t
message_stripe(const struct message * message)
{
	return (message->key == 0 ? 0 : (uint16_t)((message->key >> 32) % MESSAGE_STRIPES));
}

/*
 * The rows of one fetch, and memory that messages lie in.  The source makes
 * it with one reference; whoever keeps a message holds one more on
 * message->batch; the last unref calls destroy.  Single-threaded.
 */
struct batch {
	unsigned int references;
	size_t count;
	struct message ** messages; /* in id order */
	void (*destroy)(struct batch *);
};

static inline void
batch_ref(struct batch * b)
{
	b->references++;
}

/* NULL is fine. */
static inline void
batch_unref(struct batch * b)
{
	if (b != NULL && --b->references == 0)
		b->destroy(b);
}

/**
 * message_size(m):
 * What ${m} counts against publish.max_bytes_in_flight: body and headers.
 */
static inline size_t
message_size(const struct message * m)
{
	return (m->body.len + m->headers.len);
}

/**
 * message_key(ordering_key):
 * The 64-bit hash by which the core tells ordering keys apart; never 0.  Two
 * keys with one hash would merely wait for each other.  The hash is keyed at
 * random once a process, so nobody can aim for collisions.
 */
uint64_t message_key(struct bytes ordering_key);

/**
 * message_key_seed(a, b):
 * Key the hash; called once at start (tests pass constants).
 */
void message_key_seed(uint64_t a, uint64_t b);

#endif /* CORE_MESSAGE_H */
