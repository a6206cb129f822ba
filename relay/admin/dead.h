#ifndef ADMIN_DEAD_H
#define ADMIN_DEAD_H

#include <stdbool.h>
#include <stdint.h>

#include "admin/oneshot.h"
#include "base/error.h"

/*
 * Dead letters, for people: which there are, and to send some of them again or
 * give them up for good, a bounded number in a transaction.
 */
struct dead_filter {
	const char * ids; /* an array literal of bigint; NULL: none */
	const char *
	    message_ids; /* the same of uuid, in addition to ids; both NULL: whatever the id */
	const char * exchange; /* these are NULL for whatever it is */
	const char * routing_key;
	const char * reason;   /* a part of it, in small or capital letters */
	int64_t older_than_ms; /* given up longer ago than that; 0: whenever */
	bool discarded;        /* those discarded, instead of those that wait for a decision */
	bool either;           /* both of them */
};

struct dead;

/**
 * dead_open(options, filter, e):
 * Connect; word, purpose and settings of ${options} are filled in here.  What
 * dies after this moment does not match ${filter}, so that what is sent again
 * and dies again is not sent for ever.  NULL with ${e}.
 */
struct dead * dead_open(const struct oneshot_options * options, const struct dead_filter * filter,
    struct error * e);
void dead_close(struct dead * dead);

/**
 * dead_count(dead, e):
 * How many match; -1 with ${e}.
 */
int64_t dead_count(struct dead * dead, struct error * e);

/**
 * dead_list(dead, limit, e):
 * The newest ${limit} that match.  The last column is the row as JSON.  The
 * answer lives until the next question; NULL with ${e}.
 */
const struct oneshot * dead_list(struct dead * dead, unsigned int limit, struct error * e);

/**
 * dead_show(dead, limit, e):
 * All about those that match, at most ${limit} of them, but their bodies; the last
 * column is the history, an event a line.
 */
const struct oneshot * dead_show(struct dead * dead, unsigned int limit, struct error * e);

/**
 * dead_retry(dead, limit, e), dead_discard(dead, limit, e):
 * The next ${limit} that match, by id, in one transaction that also records
 * who did it: how many were taken.  0: none is left; -1 with ${e}.
 */
int64_t dead_retry(struct dead * dead, unsigned int limit, struct error * e);
int64_t dead_discard(struct dead * dead, unsigned int limit, struct error * e);

#endif /* ADMIN_DEAD_H */
