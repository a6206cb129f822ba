#ifndef ADMIN_REPLAY_H
#define ADMIN_REPLAY_H

#include <stdbool.h>
#include <stdint.h>

#include "admin/oneshot.h"
#include "base/error.h"

/*
 * Messages that were sent and are still kept, once more: copies of their rows
 * are written to outbox.message, and the relay sends them like any other.
 */
struct replay_filter {
	const char * exchange; /* these are NULL for whatever it is */
	const char * routing_key;
	const char * ordering_key;
	const char * since; /* written at this time or later, as Postgres reads times */
	const char * until; /* written before this time */
	int64_t since_ms;   /* the same as an age; 0: not given */
	int64_t until_ms;
	int64_t after;         /* ids above this one */
	const char * to_queue; /* reach this queue alone; NULL: the exchange of each */
	bool look_only;        /* nothing will be written */
};

struct replay;

/**
 * replay_open(options, filter, e):
 * Connect; word, purpose and settings of ${options} are filled in here.  What
 * is not marked as sent at this moment does not match, nor do copies.  NULL
 * with ${e}: EXIT_USAGE for a time that Postgres cannot read.
 */
struct replay * replay_open(const struct oneshot_options * options,
    const struct replay_filter * filter, struct error * e);
void replay_close(struct replay * replay);

/**
 * replay_look(replay, total, e):
 * What matches: exchange and count, a row for each exchange, and how many they
 * are in ${*total}.  The answer lives until the next question; NULL with ${e}.
 */
const struct oneshot * replay_look(struct replay * replay, int64_t * total, struct error * e);

/**
 * replay_leads(replay, e):
 * Whether a relay leads: 1, 0, or -1 with ${e}.
 */
int replay_leads(struct replay * replay, struct error * e);

/**
 * replay_step(replay, limit, e):
 * Copy the next ${limit} that match, in the order written, in one transaction
 * that also records who did it: how many.  0: none is left; -1 with ${e}.
 */
int64_t replay_step(struct replay * replay, unsigned int limit, struct error * e);

/**
 * replay_beside_others(replay):
 * Whether somebody else has written messages between the last two steps, or
 * before the first one since ${replay} was opened.
 */
bool replay_beside_others(const struct replay * replay);

/**
 * replay_settled(replay, e):
 * Whether the relay is done with the last step: 1, 0, or -1 with ${e}.
 */
int replay_settled(struct replay * replay, struct error * e);

/**
 * replay_last(replay):
 * The id that the last step ended at: "after" for whoever goes on.
 */
int64_t replay_last(const struct replay * replay);

#endif /* ADMIN_REPLAY_H */
