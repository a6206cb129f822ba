#ifndef INBOX_STATE_H
#define INBOX_STATE_H

#include <stdatomic.h>

#include "inbox_database.h"
#include "inbox_delivery.h"
#include "inbox_queue.h"
#include "inbox_retry.h"

/*
 * A consumer, as the loop (inbox_consumer.c) and what it does with messages
 * (inbox_handling.c) see it; private to them.
 */
struct inbox_consumer {
	struct inbox_consumer_options options; /* with all defaults filled in */
	struct inbox_queue queue;
	struct inbox_retry queue_retry;
	struct inbox_database database;
	struct inbox_retry database_retry;
	struct inbox_delivery ** deliveries; /* unacknowledged, by delivery tag; prefetch at most */
	size_t count;
	/* For one transaction; options.batch of each. */
	struct inbox_delivery ** picked;
	const char ** ids;
	bool * are_new;
	const struct inbox_message ** messages; /* the new ones */
	int64_t purge_at_ms;
	unsigned int seed;
	int stop_fd; /* readable once it shall stop */
	atomic_bool stopping;
	bool no_memory;
};

/**
 * inbox_now_ms():
 * On the clock of all deadlines; it is never set back.
 */
int64_t inbox_now_ms(void);

/**
 * inbox_say(c, level, event, format, ...):
 * Tell the application, if it listens.
 */
void inbox_say(struct inbox_consumer * c, enum inbox_level level, const char * event,
    const char * format, ...) __attribute__((format(printf, 4, 5)));

/**
 * inbox_drop_deliveries(c):
 * Forget what was delivered and is not acknowledged.
 */
void inbox_drop_deliveries(struct inbox_consumer * c);

/**
 * inbox_queue_lost(c, error), inbox_database_lost(c, error):
 * Close, say why, connect again later.  With the queue all deliveries go.
 */
void inbox_queue_lost(struct inbox_consumer * c, const struct inbox_error * error);
void inbox_database_lost(struct inbox_consumer * c, const struct inbox_error * error);

#endif /* INBOX_STATE_H */
