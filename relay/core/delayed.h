#ifndef CORE_DELAYED_H
#define CORE_DELAYED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "core/message.h"

/*
 * What core and source say to each other about messages that wait in the
 * database, and about dead ones.
 *
 * A waiting message waits for one thing: its time (scheduled, or the next
 * attempt), a lane, or the earlier messages of its key.  All but scheduled
 * ones hold their key: nothing later of it may pass.  Of each key that is
 * held, the one with the least id never waits for its key.
 */

/*
 * What many wait for together: an exchange that is missing or not permitted,
 * or a queue that does not confirm, known by its exchange and routing key.
 */
struct lane {
	struct bytes exchange;
	struct bytes routing_key; /* BYTES_NONE: the whole exchange */
	struct bytes reason;      /* for people */
};
#define LANES_MAX 256

/* What a person has paused: everything, or the lanes of exchanges. */
struct pause {
	bool all;
	struct bytes reason;       /* all: why, for people */
	const struct lane * lanes; /* without routing key; reason: why, for people */
	size_t lane_count;
};
#define PAUSES_MAX 64 /* lanes; if there are more, everything is paused */

/*
 * What a person wants not to be sent: messages that have not been published, up
 * to an id.  One that was scheduled is not meant before it has failed.
 */
struct discard {
	struct bytes exchange;    /* BYTES_NONE: any */
	struct bytes type;        /* BYTES_NONE: any */
	struct bytes reason;      /* for people */
	int64_t created_before_s; /* whole seconds since 1970; INT64_MAX: whenever */
	int64_t max_id;
};
#define DISCARDS_MAX 16

/* Where a mark puts a message. */
enum fate {
	FATE_DELIVERED,     /* out of the delayed ones: it is confirmed */
	FATE_RETRY,         /* delayed, until its next attempt */
	FATE_WAIT_EXCHANGE, /* delayed, in the lane of its exchange */
	FATE_WAIT_QUEUE,    /* delayed, in the lane of its exchange and routing key */
	FATE_BEHIND,        /* delayed, behind the earlier ones of its key; due at
	                           once if there are none by then */
	FATE_DEAD,
	FATE_DISCARDED /* dead, as a person wanted it, and not to be sent again */
};

/* Done by a mark, in its transaction. */
struct move {
	int64_t id;
	bool delayed; /* it lies in delayed; else among the messages */
	bool paused;  /* because a person wants it to wait */
	uint8_t fate; /* enum fate */
	bool hold;    /* FATE_DEAD: it goes on holding its key */
	uint32_t attempts;
	clock_ns delay;      /* FATE_RETRY: from now */
	struct bytes reason; /* for people; BYTES_NONE when delivered or behind */
};
#define MOVES_MAX 1000

/* A look for delayed messages. */
struct search {
	enum {
		SEARCH_DUE,     /* fell due after those that the last search found */
		SEARCH_DUE_ALL, /* whatever is due, and all lanes */
		SEARCH_LANE     /* wait in ${lane}, with ids above ${after} */
	} what;
	uint32_t rows; /* at most so many, at least 1 */
	size_t bytes;  /* stop after the row that passes this */
	struct lane lane;
	int64_t after;
	const int64_t * except; /* not these ids; at most rows_max of the core */
	size_t except_count;
};

struct found {
	/* NULL: none.  Those that fell due first come first (or by id, of a lane).
	 * The first message of a key may be followed by others that wait behind it
	 * (MESSAGE_BEHIND), in id order, right after it. */
	struct batch * batch;
	bool more;                 /* rows or bytes were the limit */
	clock_ns next_in;          /* from now until the next one falls due; 0: at once;
	                           CLOCK_NEVER: none is known */
	const struct lane * lanes; /* SEARCH_DUE_ALL: those where any wait, at most
	                                    LANES_MAX; for the call */
	size_t lane_count;
};

#endif /* CORE_DELAYED_H */
