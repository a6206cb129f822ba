#ifndef AMQP_CONFIRMS_H
#define AMQP_CONFIRMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/message.h"

/*
 * Which published messages of one channel the broker has not answered yet.
 * The n-th message published in confirm mode has the delivery tag n; acks and
 * nacks name a tag, alone or with all before it (multiple), in any order.  A
 * return names no tag: it is matched by the message's id and comes before
 * the ack that settles the message.  (RabbitMQ: "Consumer Acknowledgements
 * and Publisher Confirms"; "extensions: publisher confirms".)
 *
 * Every tag is settled exactly once.  Pure: no I/O.
 */
struct confirms_entry {
	uint64_t ticket;
	const struct message * message; /* borrowed until settled */
	uint16_t return_code;           /* 0: not returned */
	bool settled;
};

struct confirms {
	struct confirms_entry * entries; /* ring, by tag; grows */
	uint64_t mask;                   /* its size, a power of two, minus 1 */
	uint64_t size_max;
	uint64_t first; /* the oldest tag not settled */
	uint64_t next;  /* the tag of the next message */
	uint64_t hint;  /* where the last return was found */
	uint64_t unsettled;
};

/**
 * confirms_settled(context, entry, nacked):
 * Told of each settled tag.  May call confirms_add.
 */
typedef void confirms_settled(void * context, const struct confirms_entry * entry, bool nacked);

/**
 * confirms_init(c, window):
 * Room for a span of at least ${window} tags, once it is needed.  -1 when out of
 * memory.
 */
int confirms_init(struct confirms * c, uint32_t window);

/**
 * confirms_free(c):
 * Give the memory back.
 */
void confirms_free(struct confirms * c);

/**
 * confirms_reset(c):
 * A new channel: forget all tags, count from 1.
 */
void confirms_reset(struct confirms * c);

/**
 * confirms_room(c):
 * Make room for one more tag.  False: the oldest must be settled first, or
 * memory is out.
 */
bool confirms_room(struct confirms * c);

/**
 * confirms_add(c, ticket, message):
 * The next message is published; there is room.
 */
void confirms_add(struct confirms * c, uint64_t ticket, const struct message * message);

/**
 * confirms_has_exchange(c, exchange):
 * Whether a message for ${exchange} is unsettled.
 */
bool confirms_has_exchange(const struct confirms * c, struct bytes exchange);

/**
 * confirms_return(c, id, code):
 * The message ${id} was returned; its ack follows.  -1 when no such message
 * waits.
 */
int confirms_return(struct confirms * c, int64_t id, uint16_t code);

/**
 * confirms_settle(c, tag, multiple, nacked, settled, context):
 * An ack or nack arrived.  Tags that are settled already are passed over; the
 * tag 0 with ${multiple} means all.  -1 when the tag was never given.
 */
int confirms_settle(struct confirms * c, uint64_t tag, bool multiple, bool nacked,
    confirms_settled * settled, void * context);

#endif /* AMQP_CONFIRMS_H */
