#include <assert.h>

#include "core/state.h"

/*
 * Looks for delayed messages: for whatever is due, at every poll interval; for
 * what falls due next, when that is known; for one of a lane that is not well,
 * as a probe, and for all of one that is well again.  One search at a time,
 * and none while the pool has no room, so what waits for the broker waits in
 * the database.
 *
 * What is found but cannot be held now is left out: it is found again.
 */

static size_t
room(const struct core * core)
{
	const struct pool * pool = &core->rows.pool;

	if (pool->count == pool->max || pool->bytes >= core->pool_bytes)
		return (0);
	return (core->pool_bytes - pool->bytes);
}

static bool
can_search(const struct core * core)
{
	return (core->source_up && !core->stopping && !core->paused && !core->search.under_way &&
	    room(core) > 0);
}

/* When the next probe is due.  None begins when all else of a drain is done:
 * where many lanes are bad, there is always one on its way. */
static clock_ns
probe_at(const struct core * core)
{
	if (core->draining && is_quiet(core))
		return (CLOCK_NEVER);
	return (lanes_probe_at(&core->lanes));
}

clock_ns
searches_deadline(const struct core * core)
{
	if (!can_search(core))
		return (CLOCK_NEVER);
	return (clock_min(clock_min(core->search.all_at, core->search.due_at), probe_at(core)));
}

static void
begin_lane(struct core * core, uint16_t lane, struct search * search)
{
	const struct breaker * breaker = &core->lanes.breaker[lane];

	search->what = SEARCH_LANE;
	search->lane = lanes_say(&core->lanes, lane);
	search->after = INT64_MIN;
	if (breaker->state == BREAKER_OPEN) {
		/* A probe; and those before it that are not to be sent. */
		if (core->discards.count == 0)
			search->rows = 1;
	} else
		search->after = breaker->drained_to;
	core->search.lane = lane;
	core->search.lane_state = breaker->state;
}

enum wish { WISH_DUE, WISH_PROBE, WISH_DRAIN, WISHES };

/* What falls due, lanes to probe and lanes to drain take turns: the pool may have
 * room for one only. */
static bool
choose_by_turn(struct core * core, clock_ns now, struct search * search)
{
	const uint16_t drain = lanes_to_drain(&core->lanes, core->search.lane);
	const bool wishes[WISHES] = {
	    [WISH_DUE] = now >= core->search.due_at,
	    [WISH_PROBE] = now >= probe_at(core),
	    [WISH_DRAIN] = drain != LANE_NONE,
	};
	unsigned int tried = 0;

	do {
		if (tried++ == WISHES)
			return (false);
		core->search.turn = (uint8_t)((core->search.turn + 1) % WISHES);
	} while (!wishes[core->search.turn]);
	if (core->search.turn == WISH_DUE) {
		search->what = SEARCH_DUE;
		core->search.due_at = CLOCK_NEVER;
	} else if (core->search.turn == WISH_PROBE)
		begin_lane(core, lanes_next(&core->lanes), search);
	else
		begin_lane(core, drain, search);
	return (true);
}

/* Asked once a message: most of the time nothing is. */
static bool
may_be_due(const struct core * core, clock_ns now)
{
	return (now >= core->search.all_at || now >= core->search.due_at || core->lanes.shut > 0 ||
	    core->lanes.draining > 0 || (core->draining && is_quiet(core)));
}

/* What to look for now; false: nothing. */
static bool
choose(struct core * core, clock_ns now, struct search * search)
{
	bool last = core->draining && !core->last.searched && is_quiet(core);

	if (!last && now < core->search.all_at)
		return (choose_by_turn(core, now, search));
	search->what = SEARCH_DUE_ALL;
	core->search.all_begun = now;
	core->search.all_at = later(now, core->options.poll_interval);
	core->search.due_at = CLOCK_NEVER;
	core->last.searching = last;
	return (true);
}

/* The look for whatever is due is dear where many passed through and an old snapshot
 * keeps them, or where many wait for earlier ones of their keys: it may take such a
 * share of the time, but rests for no longer than ... */
#define HASTE_SHARE 10
#define ALL_REST_MAX CLOCK_S(30)

static void
take_time(struct core * core, clock_ns now)
{
	clock_ns rest;

	core->search.all_took = now - core->search.all_begun;
	rest = HASTE_SHARE * core->search.all_took;
	if (rest > ALL_REST_MAX)
		rest = ALL_REST_MAX;
	if (core->search.all_at < later(now, rest) && !core->draining)
		core->search.all_at = later(now, rest);
}

void
searches_hasten(struct core * core, clock_ns now)
{
	clock_ns soonest = later(core->search.all_begun, HASTE_SHARE * core->search.all_took);

	if (soonest < now)
		soonest = now;
	core->search.all_at = clock_min(core->search.all_at, soonest);
}

bool
searches_begin(struct core * core, clock_ns now, struct core_action * action)
{
	const struct rows * rows = &core->rows;
	struct search * search = &action->fetch_delayed;
	size_t held = 0;

	if (!may_be_due(core, now) || !can_search(core))
		return (false);
	*search = (struct search){
	    .rows = rows->pool.max - rows->pool.count,
	    .bytes = room(core),
	    .except = core->search.except,
	};
	if (!choose(core, now, search))
		return (false);
	core->search.what = (uint8_t)search->what;
	for (uint32_t place = rows->ring; held < rows->pool.count; place++) {
		if (rows_at(rows, place)->state != ROW_FREE)
			core->search.except[held++] = rows_at(rows, place)->id;
	}
	search->except_count = held;
	core->search.under_way = true;
	action->type = CORE_FETCH_DELAYED;
	return (true);
}

/* Where the database has it. */
static uint8_t
fate_of(const struct core * core, const struct message * message)
{
	switch (message->origin) {
	case MESSAGE_RETRY:
		return (FATE_RETRY);
	case MESSAGE_BEHIND:
		return (FATE_BEHIND);
	case MESSAGE_LANE:
		return (core->lanes.breaker[core->search.lane].routing_key == NULL ?
			FATE_WAIT_EXCHANGE :
			FATE_WAIT_QUEUE);
	default:
		return (ROW_FATE_NONE);
	}
}

static bool
is_probe(const struct core * core)
{
	return (core->search.what == SEARCH_LANE && core->search.lane_state == BREAKER_OPEN);
}

/* One that nobody wants to be sent need not be the first of its key. */
static bool
discard(struct core * core, clock_ns now, const struct message * message)
{
	uint32_t place;

	if (core->discards.count == 0 || discards_match(&core->discards, message) == NULL)
		return (false);
	place = rows_add_delayed(&core->rows, message, fate_of(core, message));
	rows_at(&core->rows, place)->from = LANE_NONE;
	rows_at(&core->rows, place)->key = core->options.pipelined ? 0 : message->key;
	return (policy_discard(core, now, place));
}

/* Hold a message found; false: it is left out. */
static bool
take(struct core * core, clock_ns now, const struct message * message, bool head_taken)
{
	bool strict = !core->options.pipelined && message->key != 0;
	bool scheduled = message->origin == MESSAGE_SCHEDULED;
	uint32_t place;
	struct row * row;

	if (discard(core, now, message))
		return (true);
	if (strict && message->origin == MESSAGE_BEHIND && !head_taken)
		return (false);
	if (strict && !scheduled && order_is_held_before(core, message->key, message->id)) {
		core->search.missed = true;
		return (false);
	}
	place = rows_add_delayed(&core->rows, message, fate_of(core, message));
	row = rows_at(&core->rows, place);
	row->link = message->attempts > 0 || is_probe(core) ? CORE_SUSPECTS : CORE_MAIN;
	row->suspected = row->link == CORE_SUSPECTS;
	row->from = LANE_NONE;
	if (core->search.what == SEARCH_LANE) {
		row->from = core->search.lane;
		lanes_refer(&core->lanes, row->from);
	}
	if (is_probe(core)) {
		row->probes = true;
		lanes_probe(&core->lanes, row->from, place);
	}
	if (!strict) {
		make_ready(core, place);
		return (true);
	}
	row->key = message->key;
	if (scheduled && (message->held || order_is_held(core, message->key)))
		policy_behind(core, now, place);
	else
		order_join(core, place);
	return (true);
}

static void
take_all(struct core * core, clock_ns now, const struct batch * batch)
{
	uint64_t head = 0; /* the key of those taken last */

	for (size_t n = 0; n < batch->count; n++) {
		const struct message * message = batch->messages[n];

		head = take(core, now, message, message->key == head) ? message->key : 0;
	}
}

/* A page of a draining lane goes on after the last one that waited there, not
 * after those behind it. */
static int64_t
last_in_lane(const struct batch * batch)
{
	int64_t last = INT64_MIN;

	for (size_t n = 0; n < batch->count; n++) {
		if (batch->messages[n]->origin == MESSAGE_LANE && batch->messages[n]->id > last)
			last = batch->messages[n]->id;
	}
	return (last);
}

/* The first one that is to be sent; those that are not leave the lane. */
static void
take_probe(struct core * core, clock_ns now, const struct batch * batch)
{
	bool taken = false, tried = false;

	for (size_t n = 0; n < batch->count; n++) {
		const struct message * message = batch->messages[n];

		if (discards_match(&core->discards, message) != NULL)
			taken |= take(core, now, message, true);
		else if (!tried) {
			tried = true;
			taken |= take(core, now, message, false);
		}
	}
	if (!taken)
		lanes_reopen(&core->lanes, core->search.lane, lanes_next_probe(now));
}

static void
found_in_lane(struct core * core, clock_ns now, const struct found * found)
{
	const struct breaker * breaker = &core->lanes.breaker[core->search.lane];
	const struct batch * batch = found->batch;
	bool empty = batch == NULL || batch->count == 0;

	/* It went bad again meanwhile. */
	if (breaker->state != core->search.lane_state)
		return;
	if (breaker->state == BREAKER_DRAINING) {
		if (!empty)
			take_all(core, now, batch);
		lanes_drained(&core->lanes, core->search.lane,
		    empty ? INT64_MAX : last_in_lane(batch), found->more);
	} else if (empty && core->draining)
		/* Who waits there waits for its key as well: not for a drain to wait for,
		 * and it would be reported again. */
		lanes_reopen(&core->lanes, core->search.lane, lanes_next_probe(now));
	else if (empty)
		lanes_empty(&core->lanes, core->search.lane, lanes_next_probe(now));
	else
		take_probe(core, now, batch);
}

void
core_on_delayed(struct core * core, clock_ns now, const struct found * found)
{
	size_t count = found->batch == NULL ? 0 : found->batch->count;

	assert(core->search.under_way && count <= core->rows.pool.max - core->rows.pool.count);
	core->search.under_way = false;
	if (core->last.searching && !found->more)
		core->last.searched = true;
	core->last.searching = false;
	if (count > 0 && !is_probe(core))
		disturb(core);
	if (core->search.what == SEARCH_DUE_ALL)
		take_time(core, now);
	if (core->search.what == SEARCH_LANE) {
		found_in_lane(core, now, found);
		return;
	}
	if (count > 0)
		take_all(core, now, found->batch);
	core->search.due_at = clock_min(core->search.due_at,
	    found->more ? now : later(now, found->next_in));
	for (size_t n = 0; n < found->lane_count; n++)
		lanes_report(&core->lanes, &found->lanes[n], now);
}
