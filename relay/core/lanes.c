#include "core/lanes.h"

#include <assert.h>

/*
 * What must stay true: the counts are those of the breakers in that state, so
 * a relay whose lanes are all well asks for one number a message; and a
 * breaker keeps its place while a row refers to it.  A paused one is open or being
 * probed, and when it is open its probe is never due.
 *
 * There are few lanes, so they are simply looked through.
 */

static bool
is_shut(const struct breaker * breaker)
{
	return (breaker->state == BREAKER_OPEN || breaker->state == BREAKER_PROBING);
}

static void
count(struct lanes * lanes, const struct breaker * breaker, int by)
{
	lanes->shut = (uint16_t)(lanes->shut + by * is_shut(breaker));
	lanes->probing = (uint16_t)(lanes->probing + by * (breaker->state == BREAKER_PROBING));
	lanes->draining = (uint16_t)(lanes->draining + by * (breaker->state == BREAKER_DRAINING));
	lanes->reported = (uint16_t)(lanes->reported + by * breaker->reported);
	lanes->paused = (uint16_t)(lanes->paused + by * breaker->paused);
}

/* To be probed, it is still as it was reported. */
static void
change(struct lanes * lanes, struct breaker * breaker, enum breaker_state state)
{
	count(lanes, breaker, -1);
	breaker->state = (uint8_t)state;
	breaker->reported = breaker->reported && state == BREAKER_PROBING;
	count(lanes, breaker, 1);
}

static void
drop(struct breaker * breaker)
{
	text_unref(breaker->exchange);
	text_unref(breaker->routing_key);
	text_unref(breaker->reason);
	*breaker = (struct breaker){.state = BREAKER_NONE};
}

void
lanes_clear(struct lanes * lanes)
{
	for (uint16_t n = 0; n < lanes->top; n++)
		drop(&lanes->breaker[n]);
	lanes->top = 0;
	lanes->shut = lanes->probing = lanes->draining = lanes->reported = lanes->paused = 0;
}

static bool
is_lane(const struct breaker * breaker, struct bytes exchange, struct bytes routing_key)
{
	return (breaker->state != BREAKER_NONE &&
	    (breaker->routing_key != NULL) == (bytes_present(routing_key) != 0) &&
	    bytes_equal(text_bytes(breaker->exchange), exchange) &&
	    bytes_equal(text_bytes(breaker->routing_key), routing_key));
}

static uint16_t
find(const struct lanes * lanes, struct bytes exchange, struct bytes routing_key)
{
	for (uint16_t n = 0; n < lanes->top; n++) {
		if (is_lane(&lanes->breaker[n], exchange, routing_key))
			return (n);
	}
	return (LANE_NONE);
}

/* Of ${count} places from the first one on, one that is free; or LANE_NONE. */
static uint16_t
add(struct lanes * lanes, uint16_t count, struct bytes exchange, struct bytes routing_key)
{
	struct breaker * breaker;
	uint16_t n = 0;

	if (!bytes_present(exchange))
		exchange = bytes_from("");
	while (n < lanes->top && lanes->breaker[n].state != BREAKER_NONE)
		n++;
	if (n >= count)
		return (LANE_NONE);
	breaker = &lanes->breaker[n];
	*breaker = (struct breaker){
	    .exchange = text_new(exchange),
	    .routing_key = text_new(routing_key),
	};
	if (breaker->exchange == NULL ||
	    (bytes_present(routing_key) && breaker->routing_key == NULL)) {
		drop(breaker);
		return (LANE_NONE);
	}
	if (n == lanes->top)
		lanes->top++;
	return (n);
}

uint16_t
lanes_open(struct lanes * lanes, struct bytes exchange, struct bytes routing_key,
    struct text * reason, clock_ns probe_at)
{
	uint16_t n = find(lanes, exchange, routing_key);

	if (n == LANE_NONE)
		n = add(lanes, LANES_MAX, exchange, routing_key);
	else if (is_shut(&lanes->breaker[n]))
		return (n);
	if (n == LANE_NONE)
		return (n);
	text_unref(lanes->breaker[n].reason);
	lanes->breaker[n].reason = text_ref(reason);
	lanes_reopen(lanes, n, probe_at);
	return (n);
}

void
lanes_report(struct lanes * lanes, const struct lane * lane, clock_ns probe_at)
{
	struct breaker * breaker;
	struct text * reason;
	uint16_t n;

	if (find(lanes, lane->exchange, lane->routing_key) != LANE_NONE)
		return;
	reason = text_for_people(lane->reason);
	n = lanes_open(lanes, lane->exchange, lane->routing_key, reason, probe_at);
	text_unref(reason);
	if (n == LANE_NONE)
		return;
	breaker = &lanes->breaker[n];
	count(lanes, breaker, -1);
	breaker->reported = true;
	count(lanes, breaker, 1);
}

/* ---- paused by a person ---- */

static void
set_paused(struct lanes * lanes, struct breaker * breaker, bool paused)
{
	count(lanes, breaker, -1);
	breaker->paused = paused;
	breaker->reported = !paused && breaker->state == BREAKER_OPEN;
	count(lanes, breaker, 1);
}

static bool
pause_one(struct lanes * lanes, const struct lane * lane)
{
	uint16_t n = find(lanes, lane->exchange, BYTES_NONE);
	struct breaker * breaker;

	if (n == LANE_NONE)
		n = add(lanes, LANES_MAX + PAUSES_MAX, lane->exchange, BYTES_NONE);
	if (n == LANE_NONE)
		return (false);
	breaker = &lanes->breaker[n];
	text_unref(breaker->reason);
	breaker->reason = text_for_people(lane->reason);
	if (breaker->state != BREAKER_PROBING)
		lanes_reopen(lanes, n, CLOCK_NEVER);
	set_paused(lanes, breaker, true);
	return (true);
}

static bool
is_listed(const struct breaker * breaker, const struct lane * list, size_t count)
{
	for (size_t n = 0; n < count; n++) {
		if (bytes_equal(text_bytes(breaker->exchange), list[n].exchange))
			return (true);
	}
	return (false);
}

bool
lanes_pause(struct lanes * lanes, clock_ns now, const struct lane * list, size_t count)
{
	bool all = true;

	for (uint16_t n = 0; n < lanes->top; n++) {
		struct breaker * breaker = &lanes->breaker[n];

		if (!breaker->paused || is_listed(breaker, list, count))
			continue;
		set_paused(lanes, breaker, false);
		breaker->probe_at = now;
	}
	for (size_t n = 0; n < count; n++)
		all &= pause_one(lanes, &list[n]);
	return (all);
}

/* ---- what waits where ---- */

uint16_t
lanes_shut(const struct lanes * lanes, struct bytes exchange, struct bytes routing_key)
{
	uint16_t found = LANE_NONE;

	for (uint16_t n = 0; n < lanes->top; n++) {
		const struct breaker * breaker = &lanes->breaker[n];

		if (!is_shut(breaker) || !bytes_equal(text_bytes(breaker->exchange), exchange) ||
		    (breaker->routing_key != NULL &&
			!bytes_equal(text_bytes(breaker->routing_key), routing_key)))
			continue;
		if (breaker->paused)
			return (n);
		if (found == LANE_NONE)
			found = n;
	}
	return (found);
}

void
lanes_probe(struct lanes * lanes, uint16_t lane, uint32_t place)
{
	assert(lanes->breaker[lane].state == BREAKER_OPEN);
	change(lanes, &lanes->breaker[lane], BREAKER_PROBING);
	lanes->breaker[lane].probe = place;
}

uint16_t
lanes_probed_by(const struct lanes * lanes, uint32_t place)
{
	uint16_t n = 0;

	while (lanes->breaker[n].state != BREAKER_PROBING || lanes->breaker[n].probe != place) {
		n++;
		assert(n < lanes->top);
	}
	return (n);
}

void
lanes_probe_was_silent(struct lanes * lanes, uint16_t lane)
{
	if (lanes->breaker[lane].silences < UINT8_MAX)
		lanes->breaker[lane].silences++;
}

void
lanes_reopen(struct lanes * lanes, uint16_t lane, clock_ns probe_at)
{
	struct breaker * breaker = &lanes->breaker[lane];

	change(lanes, breaker, BREAKER_OPEN);
	breaker->probe_at = breaker->paused ? CLOCK_NEVER : probe_at;
}

void
lanes_drain(struct lanes * lanes, uint16_t lane)
{
	if (lanes->breaker[lane].paused) {
		lanes_reopen(lanes, lane, CLOCK_NEVER);
		return;
	}
	change(lanes, &lanes->breaker[lane], BREAKER_DRAINING);
	lanes->breaker[lane].silences = 0;
	lanes->breaker[lane].drained_to = INT64_MIN;
	lanes->breaker[lane].drained = false;
}

static void
close(struct lanes * lanes, uint16_t lane)
{
	change(lanes, &lanes->breaker[lane], BREAKER_NONE);
	drop(&lanes->breaker[lane]);
	while (lanes->top > 0 && lanes->breaker[lanes->top - 1].state == BREAKER_NONE)
		lanes->top--;
}

void
lanes_drained(struct lanes * lanes, uint16_t lane, int64_t last_id, bool more)
{
	struct breaker * breaker = &lanes->breaker[lane];

	breaker->drained_to = last_id;
	breaker->drained = !more;
	if (breaker->drained && breaker->references == 0)
		close(lanes, lane);
}

void
lanes_empty(struct lanes * lanes, uint16_t lane, clock_ns probe_at)
{
	struct breaker * breaker = &lanes->breaker[lane];

	if (breaker->references == 0 && !breaker->paused)
		close(lanes, lane);
	else
		breaker->probe_at = breaker->paused ? CLOCK_NEVER : probe_at;
}

void
lanes_refer(struct lanes * lanes, uint16_t lane)
{
	lanes->breaker[lane].references++;
}

void
lanes_refer_no_more(struct lanes * lanes, uint16_t lane)
{
	struct breaker * breaker = &lanes->breaker[lane];

	assert(breaker->references > 0);
	if (--breaker->references == 0 && breaker->state == BREAKER_DRAINING && breaker->drained)
		lanes_drain(lanes, lane);
}

uint16_t
lanes_next(const struct lanes * lanes)
{
	uint16_t next = LANE_NONE;

	for (uint16_t n = 0; lanes->shut > 0 && n < lanes->top; n++) {
		const struct breaker * breaker = &lanes->breaker[n];

		if (breaker->state == BREAKER_OPEN &&
		    (next == LANE_NONE || breaker->probe_at < lanes->breaker[next].probe_at))
			next = n;
	}
	return (next);
}

clock_ns
lanes_probe_at(const struct lanes * lanes)
{
	uint16_t next = lanes_next(lanes);

	return (next == LANE_NONE ? CLOCK_NEVER : lanes->breaker[next].probe_at);
}

uint16_t
lanes_to_drain(const struct lanes * lanes, uint16_t after)
{
	for (uint32_t n = 1; lanes->draining > 0 && n <= lanes->top; n++) {
		uint16_t lane = (uint16_t)((after + n) % lanes->top);
		const struct breaker * breaker = &lanes->breaker[lane];

		if (breaker->state == BREAKER_DRAINING &&
		    !(breaker->drained && breaker->references > 0))
			return (lane);
	}
	return (LANE_NONE);
}

struct lane
lanes_say(const struct lanes * lanes, uint16_t lane)
{
	const struct breaker * breaker = &lanes->breaker[lane];

	return ((struct lane){
	    .exchange = text_bytes(breaker->exchange),
	    .routing_key = text_bytes(breaker->routing_key),
	    .reason = text_bytes(breaker->reason),
	});
}
