#ifndef CORE_SCRIPT_H
#define CORE_SCRIPT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/core.h"

/*
 * A core with all peers up, and a script of what happens to it.  Searches
 * find nothing unless the test asks for them.
 */

static struct core * core;
static struct core_action action;
static clock_ns now;
static int batches; /* alive */
static bool searches_are_seen;

struct slab {
	struct batch batch;
	struct message * list[64];
	struct message messages[64];
};

static void
slab_free(struct batch * batch)
{
	batches--;
	free(batch);
}

/* Rows with ids from first on, one for each letter: the key; '-' has none. */
static inline struct batch *
rows(int64_t first, const char * keys)
{
	struct slab * slab = calloc(1, sizeof(*slab));

	slab->batch = (struct batch){.references = 1,
	    .count = strlen(keys),
	    .messages = slab->list,
	    .destroy = slab_free};
	assert_in_range(slab->batch.count, 0, 64);
	for (size_t n = 0; n < slab->batch.count; n++) {
		slab->list[n] = &slab->messages[n];
		slab->messages[n] = (struct message){.id = first + (int64_t)n,
		    .key = keys[n] == '-' ? 0 : (uint64_t)keys[n],
		    .batch = &slab->batch,
		    .exchange = {"X", 1},
		    .routing_key = {"r", 1},
		    .body = {"0123456789", 10}};
	}
	batches++;
	return (&slab->batch);
}

static const struct core_options usual = {
    .window = 20,
    .batch = 10,
    .max_bytes = 1000,
    .record_interval = CLOCK_MS(50),
    .retry = {.initial = CLOCK_S(1), .multiplier = 2, .max = CLOCK_S(60), .max_attempts = 3},
    .confirm_timeout = CLOCK_S(15),
    .poll_interval = CLOCK_NEVER,
};

static inline void
start_with(struct core_options options)
{
	now = CLOCK_S(100);
	searches_are_seen = false;
	core = core_new(&options);
	assert_non_null(core);
	core_on_source_up(core, now);
	core_on_link_up(core, now, CORE_MAIN);
	core_on_link_up(core, now, CORE_SUSPECTS);
	core_lease(core, CLOCK_NEVER);
}

static inline int
start(void ** state)
{
	(void)state;
	start_with(usual);
	return (0);
}

static inline int
finish(void ** state)
{
	(void)state;
	core_free(core);
	core = NULL;
	return (batches);
}

static inline void
restart_with(struct core_options options)
{
	core_free(core);
	start_with(options);
}

static inline enum core_action_type
next(void)
{
	static const struct found nothing = {.next_in = CLOCK_NEVER};

	while (core_next(core, now, &action) == CORE_FETCH_DELAYED && !searches_are_seen)
		core_on_delayed(core, now, &nothing);
	return (action.type);
}

static inline void
expect(enum core_action_type type)
{
	assert_int_equal(next(), type);
}

static inline void
answer(struct batch * batch, uint64_t interval, bool exhausted)
{
	core_on_fetched(core, now, batch, interval, exhausted);
	batch_unref(batch);
}

/* The core fetches, and is answered. */
static inline void
fetched(struct batch * batch, uint64_t interval, bool exhausted)
{
	expect(CORE_FETCH);
	answer(batch, interval, exhausted);
}

/* The core fetches, and the answer stays out. */
static inline void
fetching(void)
{
	expect(CORE_FETCH);
}

/* The core looks for delayed messages. */
static inline void
searching(int what)
{
	searches_are_seen = true;
	expect(CORE_FETCH_DELAYED);
	assert_int_equal(action.fetch_delayed.what, what);
}

static inline void
found(struct batch * batch, bool more, clock_ns next_in)
{
	core_on_delayed(core, now,
	    &(struct found){.batch = batch, .more = more, .next_in = next_in});
	searches_are_seen = false;
	batch_unref(batch);
}

/* They waited for this, and have failed so often. */
static inline struct batch *
delayed(struct batch * batch, enum message_origin origin, uint32_t attempts)
{
	for (size_t n = 0; n < batch->count; n++) {
		batch->messages[n]->origin = (uint8_t)origin;
		batch->messages[n]->attempts = attempts;
	}
	return (batch);
}

static inline uint64_t
published_on(enum core_link link, int64_t id)
{
	expect(CORE_PUBLISH);
	assert_int_equal(action.publish.message->id, id);
	assert_int_equal(action.publish.link, link);
	return (action.publish.ticket);
}

static inline uint64_t
published(int64_t id)
{
	return (published_on(CORE_MAIN, id));
}

static inline void
settled(uint64_t ticket, enum core_outcome outcome)
{
	core_on_settled(core, now, ticket, outcome,
	    outcome == CORE_CONFIRMED ? BYTES_NONE : bytes_from("no"));
}

static inline void
confirmed(uint64_t ticket)
{
	settled(ticket, CORE_CONFIRMED);
}

static inline void
recorded(uint64_t interval, int64_t last_id, bool exhausted, uint64_t messages)
{
	expect(CORE_RECORD);
	assert_int_equal(action.record.position.interval, interval);
	assert_int_equal(action.record.position.last_id, last_id);
	assert_int_equal(action.record.position.exhausted, exhausted);
	assert_int_equal(action.record.messages, messages);
	core_on_recorded(core, now);
}

/* The mark's n-th move. */
static inline void
moves(size_t n, int64_t id, enum fate fate, uint32_t attempts)
{
	assert_in_range(n, 0, action.record.move_count - 1);
	assert_int_equal(action.record.moves[n].id, id);
	assert_int_equal(action.record.moves[n].fate, fate);
	assert_int_equal(action.record.moves[n].attempts, attempts);
}

/* A mark is due after its interval, and makes so many moves. */
static inline void
marked(size_t move_count)
{
	now += CLOCK_MS(50);
	expect(CORE_RECORD);
	assert_int_equal(action.record.move_count, move_count);
}

static inline void
committed(void)
{
	core_on_recorded(core, now);
}

static inline struct core_counts
counts(void)
{
	struct core_counts c;

	core_count(core, &c);
	return (c);
}

#endif /* CORE_SCRIPT_H */
