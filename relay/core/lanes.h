#ifndef CORE_LANES_H
#define CORE_LANES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "core/delayed.h"
#include "core/text.h"

/*
 * The lanes that are not well, each behind a breaker.  While one is open or
 * is being probed, its messages are not published: they wait in the database.
 * One that a person has paused is open, and nobody probes it.
 */
enum breaker_state {
	BREAKER_NONE,    /* a free place */
	BREAKER_OPEN,    /* until it is time for a probe */
	BREAKER_PROBING, /* one message is on its way to find out */
	BREAKER_DRAINING /* well again; those that waited are being published */
};

struct breaker {
	struct text * exchange;
	struct text * routing_key; /* NULL: the whole exchange */
	struct text * reason;
	uint8_t state;       /* enum breaker_state */
	bool reported;       /* by the database or a person, and not probed yet */
	bool paused;         /* by a person */
	uint8_t silences;    /* probes in a row that were not answered in time */
	bool drained;        /* draining: the last page was short */
	uint32_t probe;      /* probing: place of its row */
	uint32_t references; /* rows on their way there, or from there */
	clock_ns probe_at;   /* open: when to look for one */
	int64_t drained_to;  /* draining: the last page's last id */
};

#define LANE_NONE UINT16_MAX

struct lanes {
	struct breaker breaker[LANES_MAX + PAUSES_MAX];
	uint16_t top;  /* all places from here on are free */
	uint16_t shut; /* open or probing */
	uint16_t probing;
	uint16_t draining;
	uint16_t reported;
	uint16_t paused;
};

/**
 * lanes_clear(lanes):
 * Forget all.
 */
void lanes_clear(struct lanes * lanes);

/**
 * lanes_open(lanes, exchange, routing_key, reason, probe_at):
 * The lane (routing_key BYTES_NONE: the whole exchange) is not well.  Returns
 * its number; LANE_NONE if there are too many, or no memory is left.  A lane
 * that is open or being probed already stays as it is.
 */
uint16_t lanes_open(struct lanes * lanes, struct bytes exchange, struct bytes routing_key,
    struct text * reason, clock_ns probe_at);

/**
 * lanes_report(lanes, lane, probe_at):
 * Somebody waits in ${lane}, in the database.  If it has no breaker yet, open one.
 */
void lanes_report(struct lanes * lanes, const struct lane * lane, clock_ns probe_at);

/**
 * lanes_pause(lanes, now, list, count):
 * A person wants the ${count} exchanges of ${list} to wait, and no others.  Those
 * that waited are to be probed ${now}.  False: there is no room for all of them.
 */
bool lanes_pause(struct lanes * lanes, clock_ns now, const struct lane * list, size_t count);

/**
 * lanes_shut(lanes, exchange, routing_key):
 * The lane that such a message has to wait in, or LANE_NONE; a paused one before
 * any other.
 */
uint16_t lanes_shut(const struct lanes * lanes, struct bytes exchange, struct bytes routing_key);

/**
 * lanes_probe(lanes, lane, place):
 * The open lane is probed by the row at ${place}.
 */
void lanes_probe(struct lanes * lanes, uint16_t lane, uint32_t place);

/**
 * lanes_probed_by(lanes, place):
 * The lane which the row at ${place} probes.  There must be one.
 */
uint16_t lanes_probed_by(const struct lanes * lanes, uint32_t place);

/**
 * lanes_probe_was_silent(lanes, lane):
 * The probe of ${lane} was not answered in time.
 */
void lanes_probe_was_silent(struct lanes * lanes, uint16_t lane);

/**
 * lanes_reopen(lanes, lane, probe_at) / lanes_drain(lanes, lane):
 * The probe is over: it told nothing good, or that the lane is well.
 */
void lanes_reopen(struct lanes * lanes, uint16_t lane, clock_ns probe_at);
void lanes_drain(struct lanes * lanes, uint16_t lane);

/**
 * lanes_drained(lanes, lane, last_id, more):
 * A page of the draining lane ended at ${last_id}.  After the last page (not
 * ${more}) the lane is closed if no row refers to it; else it is drained once
 * more when none does.
 */
void lanes_drained(struct lanes * lanes, uint16_t lane, int64_t last_id, bool more);

/**
 * lanes_empty(lanes, lane, probe_at):
 * Nobody was found that waits in the open lane: it is closed if no row refers to
 * it; else the next look is at ${probe_at}.
 */
void lanes_empty(struct lanes * lanes, uint16_t lane, clock_ns probe_at);

/**
 * lanes_refer(lanes, lane) / lanes_refer_no_more(lanes, lane):
 * A row refers to the lane: a mark is to put it there, or it was found there.
 * No more: that mark is committed, or the row has left the pool.
 */
void lanes_refer(struct lanes * lanes, uint16_t lane);
void lanes_refer_no_more(struct lanes * lanes, uint16_t lane);

/**
 * lanes_next_probe(now):
 * When a lane that is not well ${now} is to be probed (again).
 */
static inline clock_ns
lanes_next_probe(clock_ns now)
{
	return (now + CLOCK_S(5));
}

/**
 * lanes_next(lanes) / lanes_probe_at(lanes):
 * The open lane whose probe is due first, or LANE_NONE / when it is, or
 * CLOCK_NEVER.
 */
uint16_t lanes_next(const struct lanes * lanes);
clock_ns lanes_probe_at(const struct lanes * lanes);

/**
 * lanes_to_drain(lanes, after):
 * The next draining lane after number ${after}, in a circle, of which a page may
 * be had; or LANE_NONE.
 */
uint16_t lanes_to_drain(const struct lanes * lanes, uint16_t after);

/**
 * lanes_say(lanes, lane):
 * The lane as told to the source; its bytes live as long as the lane.
 */
struct lane lanes_say(const struct lanes * lanes, uint16_t lane);

#endif /* CORE_LANES_H */
