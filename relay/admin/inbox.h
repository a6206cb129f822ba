#ifndef ADMIN_INBOX_H
#define ADMIN_INBOX_H

#include <stdint.h>

#include "admin/oneshot.h"
#include "base/error.h"

/*
 * What consumers have claimed, for people: how much of it is kept, and to
 * remove what is old, a bounded number in a transaction.
 */
struct inbox;

/**
 * inbox_open(options, older_than_ms, e):
 * Connect; word, purpose and settings of ${options} are filled in here.  An
 * age is of no use to inbox_status.  NULL with ${e}.
 */
struct inbox * inbox_open(const struct oneshot_options * options, int64_t older_than_ms,
    struct error * e);
void inbox_close(struct inbox * inbox);

/**
 * inbox_status(inbox, e):
 * A row for each consumer; its last column is the row as JSON.  The answer
 * lives until the next question; NULL with ${e}.
 */
const struct oneshot * inbox_status(struct inbox * inbox, struct error * e);

/* What is older than that. */
struct inbox_old {
	int64_t claims;
	int64_t attempts; /* records of failures */
};

/**
 * inbox_count(inbox, old, e):
 * 0, or -1 with ${e}.
 */
int inbox_count(struct inbox * inbox, struct inbox_old * old, struct error * e);

/**
 * inbox_purge(inbox, limit, e):
 * Remove at most ${limit} old claims, the oldest first, and as many records of
 * failures: how many claims; -1 with ${e}.  What somebody holds is left alone.
 */
int64_t inbox_purge(struct inbox * inbox, unsigned int limit, struct error * e);

#endif /* ADMIN_INBOX_H */
