#ifndef POSTGRES_WAKE_H
#define POSTGRES_WAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "postgres/connection.h"

/*
 * When to read again after nothing was left: falling asleep and waking.
 *
 * A writer sends a NOTIFY only while the relay sleeps, which it recognises by
 * an advisory lock (the gate) that the relay then holds exclusively and every
 * writer tries to share.  To fall asleep: LISTEN is committed; take the gate
 * (this fails while a writer of the last second or two is in flight: then
 * poll, backing off to WAKE_POLL_MAX); read once more in a new statement;
 * sleep.  So a writer is either seen by that read, or refused the gate and
 * notifies: no wake-up is lost, and writers pay nothing while the relay is
 * awake.
 *
 * The gate's key is the second of the server's clock, so a writer that stays
 * open soon stands in nobody's way; its own rows are found by the poll at
 * worst.  The relay holds the keys of the previous, this and the next second,
 * and takes new ones before they run out.
 */
struct wake;

/* The longest wait between reads while writers keep the relay from sleeping. */
#define WAKE_POLL_MAX CLOCK_MS(20)

enum wake_advice {
	WAKE_WAIT, /* nothing to do before wake_deadline */
	WAKE_READ  /* read now */
};

struct wake_options {
	const char * schema;
	bool listen; /* false: poll only */
	clock_ns poll_interval;
	const struct connection_options * connection; /* of the LISTEN connection */
};

struct wake * wake_new(const struct wake_options * options);
void wake_free(struct wake * wake);

/**
 * wake_start(wake, main, now, has_trigger):
 * This relay leads: from now on ${main} takes the gate; connect to LISTEN, if
 * writers notify at all.
 */
void wake_start(struct wake * wake, struct connection * main, clock_ns now, bool has_trigger);

/**
 * wake_stop(wake):
 * The main session is lost, and the gate with it.
 */
void wake_stop(struct wake * wake);

/**
 * wake_advise(wake, now):
 * While somebody waits for rows: whether to read now.  Before WAKE_READ the
 * gate has been taken or released by requests on the main connection, so the
 * read must be sent on it next.
 */
enum wake_advice wake_advise(struct wake * wake, clock_ns now);

/**
 * wake_read_found(wake, now, rows):
 * What the read found: rows end the sleep.  Whether there may be something new
 * among the delayed messages, if it found none: a NOTIFY came in, or the gate
 * has just been closed behind writers that sent none, or nothing was said for
 * the poll interval.
 */
bool wake_read_found(struct wake * wake, clock_ns now, bool rows);

clock_ns wake_deadline(const struct wake * wake);

/**
 * wake_counts(wake):
 * Reads that ended a wait, since the start.
 */
struct wake_counts {
	uint64_t notify; /* a writer's NOTIFY */
	uint64_t timer;  /* a sleep that ran out */
	uint64_t poll;   /* a short pause while awake */
};
const struct wake_counts * wake_counts(const struct wake * wake);

/**
 * wake_listener(wake):
 * The LISTEN connection, to be polled and turned; NULL if there is none.
 */
struct connection * wake_listener(struct wake * wake);
void wake_turn(struct wake * wake, clock_ns now, bool readable);

#endif /* POSTGRES_WAKE_H */
