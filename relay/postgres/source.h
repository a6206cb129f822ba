#ifndef POSTGRES_SOURCE_H
#define POSTGRES_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/error.h"
#include "core/backlog.h"
#include "core/delayed.h"
#include "core/message.h"
#include "postgres/wake.h"

/*
 * The outbox as a stream of rows: connects (and again after a loss), competes
 * for the lead, reads rows by the snapshot cursor, records marks, sleeps and
 * wakes, empties old slots.  It owns the meaning of an interval; the core
 * only counts them.
 *
 * Never blocks (the resolver aside).  One connection for everything but
 * LISTEN, which has its own.
 */
struct source;

struct source_options {
	const char * dsn;           /* conninfo or URI, validated */
	const char * password_file; /* read at each attempt; NULL: none */
	const char * schema;        /* ^[a-z_][a-z0-9_]{0,39}$ */
	bool wait_for_flush;
	bool strict; /* look up which keys are held */
	bool listen; /* false: poll only, one connection */
	bool survey; /* read how much waits, every few seconds, while it leads */
	clock_ns poll_interval;
	uint64_t seed;
};

struct source_mark {
	uint64_t interval; /* as counted by fetched events; 0: the position stays */
	int64_t last_id;
	bool exhausted; /* all rows of the interval */
	uint64_t messages;
	int64_t max_id;
	const struct move * moves; /* borrowed until recorded or down */
	size_t move_count;
};

/* Called from inside source_turn only. */
struct source_events {
	/* This relay leads and stands at the recorded position; interval numbers
	 * go on from where they were. */
	void (*up)(void * context);
	/* Neither connected nor leading any more; source_publishable_until is
	 * past.  Also for a first attempt that fails.  A new attempt follows by
	 * itself after retry_in; CLOCK_NEVER: never, the process must end with
	 * e->code (restored database, missing schema, refused role). */
	void (*down)(void * context, const struct error * e, clock_ns retry_in);
	/* Connected, but another relay leads. */
	void (*standby)(void * context);
	/* What is paused: right after up, and whenever it changes.
	 * ${pause} is borrowed for the call. */
	void (*paused)(void * context, const struct pause * pause);
	/* The same of orders to discard. */
	void (*discards)(void * context, const struct discard * list, size_t count);
	/* Answer to source_fetch. */
	void (*fetched)(void * context, struct batch * batch, uint64_t interval, bool exhausted);
	/* Answer to source_search; NULL: nobody will search. */
	void (*found)(void * context, const struct found * found);
	/* Answer to source_record: committed. */
	void (*recorded)(void * context);
	/* With options.survey: how much waits, and, while somebody wants to know,
	 * the newest delayed and dead messages. */
	void (*backlog)(void * context, const struct backlog * backlog);
	void (*newest)(void * context, const struct backlog_newest * newest);
};

struct source * source_new(const struct source_options * options,
    const struct source_events * events, void * context, struct error * e);
void source_free(struct source * source);

/**
 * source_poll(source, fds):
 * Fill at most SOURCE_FDS struct pollfd; returns how many.
 */
#define SOURCE_FDS 2
struct pollfd;
size_t source_poll(struct source * source, struct pollfd * fds);

clock_ns source_deadline(const struct source * source);

/**
 * source_turn(source, now, fds, count):
 * Read what has come, do what is due, send what is buffered.  ${fds}: as
 * source_poll gave them, with their revents.
 */
void source_turn(struct source * source, clock_ns now, const struct pollfd * fds, size_t count);

/**
 * source_fetch(source, now, rows, bytes, wait):
 * Exactly one fetched event follows, or down.  At most one at a time.  With
 * ${wait} it follows when a row may have been written since, or at the poll
 * interval.  An empty one says that writers may have put something among the
 * delayed messages: look for SEARCH_DUE_ALL.  It comes when they woke the
 * source, and when that has fallen asleep, at most every 100 ms.
 */
void source_fetch(struct source * source, clock_ns now, uint32_t rows, size_t bytes, bool wait);

/**
 * source_search(source, now, search):
 * Look for delayed messages.  Exactly one found event follows, or down.  At
 * most one at a time; a fetch may wait meanwhile.  ${search} is borrowed for
 * the call.
 *
 * A lane is paged by the greatest id that came from it (MESSAGE_LANE), not by
 * those of the rows that follow.  Keys that a dead message holds are passed
 * over, scheduled messages among them; so is every message but the first of
 * those that hold a key, unless it follows that one.
 */
void source_search(struct source * source, clock_ns now, const struct search * search);

/**
 * source_record(source, now, mark):
 * Commit a mark and its moves, all or nothing; tried again while the server
 * cannot take it (full disk, lock, right withdrawn).  Exactly one recorded event
 * follows, or down.  At most one at a time.
 */
void source_record(struct source * source, clock_ns now, const struct source_mark * mark);

/**
 * source_lease(source):
 * Nothing may be published at or after this time: the last proof that this
 * relay leads, plus the lease.  0 while it does not lead.
 */
clock_ns source_lease(const struct source * source);

/**
 * source_want_newest(source, wanted):
 * Whether newest events are wanted.
 */
void source_want_newest(struct source * source, bool wanted);

/**
 * source_wakeups(source):
 * Reads that ended a wait, since the start.
 */
const struct wake_counts * source_wakeups(const struct source * source);

/**
 * source_database(source):
 * Its name; "" while not connected.
 */
const char * source_database(const struct source * source);

/**
 * source_close(source, now):
 * Release the lead and close, as the last thing; blocks for at most a second.
 */
void source_close(struct source * source, clock_ns now);

#endif /* POSTGRES_SOURCE_H */
