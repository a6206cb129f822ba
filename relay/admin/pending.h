#ifndef ADMIN_PENDING_H
#define ADMIN_PENDING_H

#include <stdbool.h>
#include <stdint.h>

#include "admin/oneshot.h"

/*
 * Discarding what is pending, for the command line: an order that the relay
 * carries out, since it alone knows what it has published.
 */
struct pending;

struct pending_filter {
	const char * exchange; /* each NULL: any */
	const char * type;
	int64_t older_than_ms; /* 0: any age */
};

/* How far an order is. */
struct pending_state {
	int64_t pending; /* meant, and not yet met by the relay */
	int64_t delayed; /* meant, and waiting among the delayed ones */
	bool led;        /* a relay leads */
	bool paused;     /* everything is */
};

/**
 * pending_open(options, filter, e):
 * Connect; strings are borrowed.  The schema must have migration 4.  NULL with ${e}.
 */
struct pending * pending_open(const struct oneshot_options * options,
    const struct pending_filter * filter, struct error * e);
void pending_close(struct pending * pending);

/**
 * pending_aim(pending, filter):
 * Look from now on for what ${filter} means, as if no order had been made.
 */
void pending_aim(struct pending * pending, const struct pending_filter * filter);

/**
 * pending_look(pending, state, e):
 * What the order means that was made; before that: what it would mean.  Reads what
 * is pending, and nothing else.  0, or -1 with ${e}.
 */
int pending_look(struct pending * pending, struct pending_state * state, struct error * e);

/**
 * pending_order(pending, e):
 * Make the order.  Returns its number, or -1 with ${e}.
 */
int64_t pending_order(struct pending * pending, struct error * e);

/**
 * pending_end(pending, order, e):
 * End that order.  Returns how many messages it has discarded (0 also if it did not
 * stand), or -1 with ${e}.
 */
int64_t pending_end(struct pending * pending, int64_t order, struct error * e);

/**
 * pending_standing(pending, e):
 * The orders that stand, a row each: number, since, by, exchange, type, and how many
 * messages it has discarded.  NULL with ${e}.
 */
const struct oneshot * pending_standing(struct pending * pending, struct error * e);

#endif /* ADMIN_PENDING_H */
