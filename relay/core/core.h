#ifndef CORE_CORE_H
#define CORE_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/histogram.h"
#include "core/delayed.h"
#include "core/message.h"

/*
 * THE RELAY, as a pure state machine.  It is told what happened (core_on_...)
 * and asked what to do (core_next); it does no I/O, knows no clock, and may
 * be driven by a fake world.  It owns every decision: what may be in flight,
 * in what order, what is tried again when, what is resolved, what may be
 * recorded.
 *
 * Three positions, never mixed up:  fetched >= resolved >= recorded.
 *   fetched   handed over by the source, in the source's order
 *   resolved  the unbroken run of rows from the recorded position on whose
 *             messages the broker has confirmed, or that are put aside
 *   recorded  the run that a mark in the database covers
 *
 * A message that the broker refuses is put aside: to the delayed messages, to
 * be tried again from there, or to the dead ones.  That is done by the very
 * mark that covers it, so there is never a moment at which it is nowhere or
 * in two places.  A key with a delayed message is held: what comes later of it
 * lines up behind, in the database, so order survives a restart.
 *
 * Promises kept here: L (only resolved rows are recorded), O (strict: one
 * unconfirmed message a key), D (never more than window messages published
 * and not recorded), V (every loss of a peer ends in a fresh start from what
 * is known), S (a bad message leaves the way of all other keys).
 */
struct core;

struct core_options {
	uint32_t window;          /* most messages published, not recorded; >= 1 */
	uint32_t batch;           /* rows a fetch; 1..window */
	size_t max_bytes;         /* most bytes held, a quarter of them for
	                                    delayed messages; in either share one
	                                    message more may pass, so that a message
	                                    above it is not stuck */
	bool pipelined;           /* false: strict order */
	clock_ns record_interval; /* at most one mark in this time, unless a
	                                    quarter of the window waits for it */
	struct core_retry {
		clock_ns initial;
		double multiplier;
		clock_ns max;
		uint32_t max_attempts; /* refused so often: dead; >= 1 */
		bool hold;             /* a dead message holds its key */
	} retry;                       /* of a message that the broker refused */
	clock_ns confirm_timeout;
	clock_ns poll_interval; /* between looks for delayed messages that
	                                    nobody knows of yet */
	uint64_t seed;          /* of every jitter */
};

/*
 * Two connections, since one bad queue freezes a whole connection: suspects
 * carries what was refused before, probes, and whatever may have closed a
 * channel.  It is wanted only while there is such a thing.
 */
enum core_link { CORE_MAIN, CORE_SUSPECTS, CORE_LINKS };
#define CORE_SUSPECTS_MAX 128 /* most unsettled there */

/*
 * A place in the outbox.  The source numbers its intervals 1, 2, 3, ... since
 * it was opened; what they mean in the database is its own business.
 */
struct core_position {
	uint64_t interval;
	int64_t last_id; /* rows of the interval up to this id ... */
	bool exhausted;  /* ... or all of them */
};

enum core_action_type {
	CORE_NOTHING,       /* nothing to do before core_deadline() */
	CORE_FETCH,         /* -> core_on_fetched, later */
	CORE_FETCH_DELAYED, /* -> core_on_delayed, later */
	CORE_PUBLISH,       /* -> core_on_settled, later, or core_on_link_down */
	CORE_RECORD,        /* -> core_on_recorded, later */
	CORE_RESET,         /* drop the connection and make a new one: the core takes
	                           it as down until core_on_link_up */
	CORE_FINISHED       /* asked to stop or to drain, and it is done; the
	                           answer from then on */
};

struct core_action {
	enum core_action_type type;
	union {
		struct {
			uint32_t rows; /* at most so many, at least 1 */
			size_t bytes;  /* stop after the row that passes this */
			bool wait;     /* the last answer left nothing behind: take
			                            this one when something was written */
		} fetch;
		struct search fetch_delayed; /* its pointers live until the next call */
		struct {
			const struct message * message; /* borrowed until it is settled */
			uint64_t ticket;                /* comes back in core_on_settled */
			bool again;                     /* it was published before */
			enum core_link link;
		} publish;
		struct {
			enum core_link link;
			struct bytes reason; /* for people; lives until the next call */
		} reset;
		struct {
			struct core_position position; /* interval 0: it stays */
			uint64_t messages;             /* newly covered by this mark */
			int64_t max_id;                /* greatest id covered by this mark and those
			                            committed since core_new; the source
			                            takes the greater of it and its own */
			const struct move * moves;     /* in the same transaction; they live
			                            until core_on_recorded */
			size_t move_count;             /* at most MOVES_MAX */
		} record;
	};
};

/* What became of a message that was to be published. */
enum core_outcome {
	CORE_CONFIRMED,
	CORE_NACKED,   /* the broker refused it */
	CORE_RETURNED, /* unroutable; its ack followed */
	CORE_UNFIT,    /* the link can never carry it (LINK_UNFIT) */
	CORE_NOT_TAKEN /* the link had no room (LINK_FULL): as if it had not
	                           been asked for.  Follow with core_on_link_full */
};

/**
 * core_new(options):
 * A core that knows nothing yet: both peers are down, it does not lead and
 * has no lease.  NULL when out of memory.  All memory of its own but for
 * names and reasons is allocated here, about 200 bytes for each message of the
 * window; what the batches that it refers to take is bounded by window, batch
 * and max_bytes.
 */
struct core * core_new(const struct core_options * options);

/**
 * core_in_flight_max(options):
 * How many messages a core with ${options} has unsettled at most on each link.
 */
uint32_t core_in_flight_max(const struct core_options * options);

/**
 * core_ahead_max(options):
 * How many of them, at most, were published after the newest one that is settled.
 */
uint32_t core_ahead_max(const struct core_options * options);

/**
 * core_free(core):
 * Drops its references on batches.  NULL is fine.
 */
void core_free(struct core * core);

/**
 * core_next(core, now, action):
 * Decide what to do next.  Call until it says CORE_NOTHING, then again after
 * each event and at core_deadline().  Each answer is given once and counts as
 * begun.  Returns the type.
 */
enum core_action_type core_next(struct core * core, clock_ns now, struct core_action * action);

/**
 * core_deadline(core):
 * When core_next must be called although nothing happened; CLOCK_NEVER if
 * not at all.
 */
clock_ns core_deadline(const struct core * core);

/* ---- the source ---- */

/**
 * core_on_source_up(core, now):
 * This relay leads, and the source stands at the recorded position.  Nothing
 * is in flight on its side.
 */
void core_on_source_up(struct core * core, clock_ns now);

/**
 * core_on_source_down(core, now):
 * The database is lost, or the lead is.  Every row is forgotten (the source
 * will read it again from the recorded position) and nothing is published
 * until core_on_source_up.  Confirms of forgotten messages are ignored: a
 * ticket is not used again while anybody could still answer it.
 */
void core_on_source_down(struct core * core, clock_ns now);

/**
 * core_on_fetched(core, now, batch, interval, exhausted):
 * The answer to CORE_FETCH.  The core takes its own references on ${batch}
 * (which may be NULL for no rows).  ${interval} is that of all its rows; it
 * never goes back.  ${exhausted}: the interval has no rows beyond these.
 *
 * No rows although it was to wait: a message may have been scheduled.
 *
 * The mark of an interval's last row says exhausted if that is known by then.
 * If an empty answer says so later, no mark of its own follows: reading on
 * from a position that is not marked exhausted merely finds nothing.
 */
void core_on_fetched(struct core * core, clock_ns now, struct batch * batch, uint64_t interval,
    bool exhausted);

/**
 * core_on_delayed(core, now, found):
 * The answer to CORE_FETCH_DELAYED.
 */
void core_on_delayed(struct core * core, clock_ns now, const struct found * found);

/**
 * core_on_recorded(core, now):
 * The mark of the last CORE_RECORD is committed.
 */
void core_on_recorded(struct core * core, clock_ns now);

/* ---- the link ---- */

/**
 * core_on_link_up(core, now, link) / core_on_link_down(core, now, link):
 * Down: every unsettled message of the connection is to be published again, in
 * the source's order; nothing is counted against it.  Up: neither full nor
 * blocked; a connection that still is has to be reported again.
 */
void core_on_link_up(struct core * core, clock_ns now, enum core_link link);
void core_on_link_down(struct core * core, clock_ns now, enum core_link link);

/**
 * core_on_channel_closed(core, now, link, exchange, reason):
 * The broker closed the channel, or the connection, because of something that
 * was published.  The link counts as down until core_on_link_up.  ${exchange}:
 * the broker named it (404, 403); otherwise BYTES_NONE, and the culprit will
 * be isolated, as it is when nothing in flight on the link goes to that
 * exchange.  ${reason}: for people, copied.  For a confirm that does not
 * come, what was in flight goes on waiting when it is published again, as if
 * nothing had happened: probes close channels more often than confirm_timeout.
 */
void core_on_channel_closed(struct core * core, clock_ns now, enum core_link link,
    struct bytes exchange, struct bytes reason);

/**
 * core_on_heard(core, now, link):
 * Bytes have come from the broker.  A link that was silent all the time is to
 * blame itself for confirms that did not come.
 */
void core_on_heard(struct core * core, clock_ns now, enum core_link link);

/**
 * core_wants(core, link):
 * Whether there is anything for ${link} to carry.
 */
bool core_wants(const struct core * core, enum core_link link);

/**
 * core_on_blocked(core, now, link, blocked):
 * The broker asks to publish nothing for now (or is well again).
 */
void core_on_blocked(struct core * core, clock_ns now, enum core_link link, bool blocked);

/**
 * core_on_link_full(core, link, full):
 * The link's buffer is full (or drained): publish nothing until it is not.
 */
void core_on_link_full(struct core * core, enum core_link link, bool full);

/**
 * core_on_settled(core, now, ticket, outcome, reason):
 * ${reason}: for people, copied; BYTES_NONE when confirmed.  An unknown ticket
 * is ignored; so is one that was settled already, or went down with its link
 * or its source.
 */
void core_on_settled(struct core * core, clock_ns now, uint64_t ticket, enum core_outcome outcome,
    struct bytes reason);

/* ---- the operator ---- */

/**
 * core_on_paused(core, now, pause):
 * All that is paused from now on; told anew after each core_on_source_up, if there
 * is any.  ${pause} is borrowed for the call.
 *
 * Everything: nothing is published, fetched or searched for, what is in flight is
 * settled and recorded.  An exchange: what goes there waits in its lane, without an
 * attempt counted, and no probe asks how the exchange is.  Afterwards a
 * probe goes first.  False: there are too many, or no memory is left, so
 * everything is paused.
 */
bool core_on_paused(struct core * core, clock_ns now, const struct pause * pause);

/**
 * core_on_discards(core, list, count):
 * All orders to discard that stand from now on, at most DISCARDS_MAX; told anew after
 * each core_on_source_up, if there are any.  A message that one of them means is
 * put aside as discarded instead of being published for the first time; one that
 * was published goes on.  ${list} is borrowed for the call.
 */
void core_on_discards(struct core * core, const struct discard * list, size_t count);

/**
 * core_change(core, change):
 * From now on ${change} holds.  ${change->window} is at most what it was in core_new;
 * when it shrinks, what is out already stays out until it is recorded.  A delay
 * that has begun is not changed.
 */
struct core_change {
	uint32_t window;
	clock_ns initial; /* as in core_options.retry */
	double multiplier;
	clock_ns max;
	uint32_t max_attempts;
};
void core_change(struct core * core, const struct core_change * change);

/**
 * core_stop(core):
 * Fetch nothing more, and publish only what earlier ones of its key kept back while
 * later ones went out: no mark passes it.  Once all that was published is settled and
 * recorded (or cannot be, because a peer is down), CORE_FINISHED.
 */
void core_stop(struct core * core);

/**
 * core_drain(core):
 * CORE_FINISHED once everything is recorded and both a fetch begun after that,
 * in a new interval, and a search of the delayed ones find nothing that is
 * due.  Fetches wait only while other messages are still being settled.
 */
void core_drain(struct core * core);

/**
 * core_lease(core, until):
 * Publish nothing at or after ${until} (CLOCK_NEVER: no bound).  Nothing is
 * published before the first call.
 */
void core_lease(struct core * core, clock_ns until);

/* ---- what it is doing ---- */

struct core_counts {
	uint64_t fetched, published, republished, confirmed, nacked, returned, unfit, recorded;
	uint64_t delayed, dead, discarded; /* moved there */
	uint32_t held_rows;                /* fetched or found, not yet recorded */
	uint32_t in_flight;                /* published, not yet settled */
	uint32_t ahead;                    /* of them, on main, after the newest one settled */
	uint32_t window;                   /* as it is now */
	uint32_t unrecorded;               /* published, not yet recorded; <= window */
	size_t bytes;                      /* of rows fetched and unresolved */
};

void core_count(const struct core * core, struct core_counts * counts);

/* How long confirms took. */
struct core_latencies {
	struct histogram confirm; /* since the message was published last (but for those
	                             whose channel was closed over another one) */
	struct histogram commit;  /* since created_at, of fresh ones */
};

/**
 * core_latencies(core):
 * Since core_new.
 */
const struct core_latencies * core_latencies(const struct core * core);

/**
 * core_wall_clock(core, offset):
 * So much later than ${now} it is by the calendar: nanoseconds since 1970.
 * For core_latencies alone.
 */
void core_wall_clock(struct core * core, clock_ns offset);

#endif /* CORE_CORE_H */
