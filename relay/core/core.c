#include "core/core.h"

#include <assert.h>
#include <stdlib.h>

#include "core/state.h"

/*
 * What to do next, and how much of it.  The order in which core_next asks is
 * no priority, but for two things: a link that has gone silent is dropped
 * before anything is given to it, and marks go before messages, since they
 * make room for them.
 *
 * Every gate is on publishing, not on confirms: what was sent counts, what
 * the broker thinks of it comes later or never.
 */

/*
 * The window bounds how many messages may have to be sent twice; this share of
 * it is in flight, the rest is confirmed and waits for older rows or for its
 * mark.  More in flight than the pipe holds only makes confirms late, and
 * that costs rate: rows of one key go one a confirm, and a chain of them that
 * takes longer than the window lasts stalls everybody.  With 10,000 random
 * keys a quarter lost 5 to 20% that way, a fifth nothing.  It also costs
 * memory, since a message is kept until it is settled.
 */
#define IN_FLIGHT_SHARE 5

/*
 * The pipe to a broker nearby holds even less, and a quorum queue of RabbitMQ 4
 * is the slower the more it has before it: 33,000 messages a second with 2,000
 * in flight, 47,000 with 800 (RabbitMQ 3.10: no difference).  So fewer may be
 * ahead of the newest answer.  Those that an answer has passed are not counted:
 * they wait for a queue that is slow or silent, and nobody else's way may be
 * narrower for that (S).
 */
#define AHEAD_SHARE 12

/* This share of the window, resolved, is worth a mark at once. */
#define MARK_SHARE 4

static uint64_t
greater(uint64_t a, uint64_t b)
{
	return (a > b ? a : b);
}

uint32_t
core_in_flight_max(const struct core_options * options)
{
	uint64_t max = greater(options->window / IN_FLIGHT_SHARE, 2 * (uint64_t)options->batch);

	return (max > options->window ? options->window : (uint32_t)max);
}

uint32_t
core_ahead_max(const struct core_options * options)
{
	return ((uint32_t)greater(options->window / AHEAD_SHARE, options->batch));
}

/* The delayed messages in memory: this share of the window, but not more than ... */
#define POOL_SHARE 4
#define POOL_MAX 2000

/* Of the bytes of fresh rows, one fetch takes this share at most. */
#define FETCH_BYTES_SHARE 4

/* This share of max_bytes is for them. */
#define POOL_BYTES_SHARE 4

static int
init(struct core * core)
{
	const struct core_options * options = &core->options;
	uint32_t pool = (uint32_t)greater(options->window / POOL_SHARE, 1);
	/* Rows that wait, a batch more, and those published. */
	uint64_t ring = (uint64_t)core->waiting_max + options->batch + options->window;
	uint64_t chained;

	pool = pool > POOL_MAX ? POOL_MAX : pool;
	if (rows_init(&core->rows, ring, pool))
		return (-1);
	core->pool_turn = core->rows.ring;
	for (enum core_link link = 0; link < CORE_LINKS; link++) {
		core->links[link].oldest = core->links[link].newest = ROW_NONE;
		if (ready_init(&core->ready[link][READY_NEW], core->rows.places) ||
		    ready_init(&core->ready[link][READY_AGAIN], core->rows.places))
			return (-1);
	}
	core->moves_max = core->rows.places < MOVES_MAX ? core->rows.places : MOVES_MAX;
	core->moves = calloc(core->moves_max, sizeof(*core->moves));
	core->search.except = calloc(pool, sizeof(*core->search.except));
	if (core->moves == NULL || core->search.except == NULL)
		return (-1);
	if (options->pipelined)
		return (keys_init(&core->chains, 0) || keys_init(&core->held, 0) ? -1 : 0);
	/* Only what is not settled stands in a chain. */
	chained = (uint64_t)core->waiting_max + options->batch + core->in_flight_max +
	    CORE_SUSPECTS_MAX + pool;
	return (keys_init(&core->chains, chained) || keys_init(&core->held, core->rows.places) ?
		-1 :
		0);
}

/* What follows from the window, and needs no other room. */
static void
derive(struct core * core)
{
	core->in_flight_max = core_in_flight_max(&core->options);
	core->ahead_max = core_ahead_max(&core->options);
	core->mark_at = (uint32_t)greater(core->options.window / MARK_SHARE, 1);
}

struct core *
core_new(const struct core_options * options)
{
	struct core * core = calloc(1, sizeof(*core));

	if (core == NULL)
		return (NULL);
	assert(options->batch >= 1 && options->batch <= options->window);
	core->options = *options;
	if (options->pipelined)
		core->options.retry.hold = false;
	core->window_max = options->window;
	core->waiting_max = core_in_flight_max(options);
	core->waiting_max -= core->waiting_max / 4;
	derive(core);
	core->pool_bytes = greater(options->max_bytes / POOL_BYTES_SHARE, 1);
	core->fresh_bytes = greater(options->max_bytes - core->pool_bytes, 1);
	core->limit = CORE_SUSPECTS_MAX;
	core->lease = INT64_MIN;
	core->mark_due = INT64_MIN;
	backoff_init(&core->backoff, options->retry.initial, options->retry.multiplier,
	    options->retry.max, options->seed);
	if (init(core)) {
		core_free(core);
		return (NULL);
	}
	return (core);
}

void
core_free(struct core * core)
{
	if (core == NULL)
		return;
	rows_free(&core->rows);
	for (enum core_link link = 0; link < CORE_LINKS; link++) {
		ready_free(&core->ready[link][READY_NEW]);
		ready_free(&core->ready[link][READY_AGAIN]);
	}
	keys_free(&core->chains);
	keys_free(&core->held);
	lanes_clear(&core->lanes);
	discards_clear(&core->discards);
	free(core->search.except);
	free(core->moves);
	free(core);
}

/* ---- what may be done now ---- */

static bool
is_finished(const struct core * core, clock_ns now)
{
	const struct core_peer * main = &core->links[CORE_MAIN];

	/* A link that is full for now takes what was left behind in a moment. */
	if (core->stopping)
		return (in_flight(core) == 0 && !core->marking && !has_unmarked(core) &&
		    !(main->up && main->full) && flight_next(core, now) == ROW_NONE);
	return (core->draining && core->last.fetched && core->last.searched && is_quiet(core) &&
	    in_flight(core) == 0);
}

/* Rows are fetched when no more than this share of a batch is ready: they come while
 * the broker is busy with those in flight, and to have more of them ready is memory. */
#define READY_SHARE 2

static bool
should_fetch(const struct core * core)
{
	const struct rows * rows = &core->rows;

	if (!core->source_up || core->fetching || core->stopping || core->paused)
		return (false);
	if (core->ready[CORE_MAIN][READY_NEW].count > core->options.batch / READY_SHARE ||
	    rows->unresolved - rows->in_flight > core->waiting_max ||
	    rows_room(rows) < core->options.batch || rows->bytes >= core->fresh_bytes)
		return (false);
	/* What is to be drained was all fetched: ask again for what came since
	 * once that is through. */
	if (core->draining && core->answer_empty)
		return (held_rows(core) == 0 && !core->last.fetched);
	return (true);
}

static void
begin_fetch(struct core * core, struct core_action * action)
{
	bool last = core->draining && is_quiet(core);

	core->fetching = true;
	core->fetching_new = core->source_empty;
	core->last.fetching = last;
	action->type = CORE_FETCH;
	action->fetch.rows = core->options.batch;
	/* While an answer is taken apart it lies in memory twice: so no large ones. */
	action->fetch.bytes = core->fresh_bytes - core->rows.bytes;
	if (action->fetch.bytes > core->fresh_bytes / FETCH_BYTES_SHARE + 1)
		action->fetch.bytes = core->fresh_bytes / FETCH_BYTES_SHARE + 1;
	action->fetch.wait = core->draining ? core->answer_empty && !last : core->source_empty;
	core->fetching_waits = action->fetch.wait;
}

/* Say that a link is to be dropped: one that owes a confirm for too long. */
static bool
begin_reset(struct core * core, clock_ns now, struct core_action * action)
{
	for (enum core_link link = 0; link < CORE_LINKS; link++) {
		if (now < flight_deadline(core, link))
			continue;
		policy_silent(core, now, link);
		action->type = CORE_RESET;
		action->reset.link = link;
		action->reset.reason = bytes_from(core->reason);
		return (true);
	}
	return (false);
}

/* Rows that nobody wants to be sent, or whose lane is not well, are not published. */
static void
park(struct core * core, clock_ns now)
{
	uint32_t place;

	while (core->lanes.shut + core->discards.count > 0 &&
	    (place = flight_next(core, now)) != ROW_NONE) {
		const struct row * row = rows_at(&core->rows, place);
		uint16_t lane;

		if (policy_discard(core, now, place))
			continue;
		lane = lanes_shut(&core->lanes, row->message->exchange, row->message->routing_key);
		if (lane == LANE_NONE || (row->probes && !core->lanes.breaker[lane].paused))
			return;
		ready_remove(ready_set(core, row), place);
		policy_wait(core, now, place, lane, core->lanes.breaker[lane].reason);
	}
}

static bool
begin_publish(struct core * core, clock_ns now, struct core_action * action)
{
	uint32_t place = flight_next(core, now);

	if (place == ROW_NONE)
		return (false);
	flight_begin(core, now, place, action);
	return (true);
}

enum core_action_type
core_next(struct core * core, clock_ns now, struct core_action * action)
{
	action->type = CORE_NOTHING;
	if (core->lanes.shut == core->lanes.paused)
		core->haste = 0;
	park(core, now);
	if (is_finished(core, now))
		action->type = CORE_FINISHED;
	else if (should_fetch(core))
		begin_fetch(core, action);
	else if (searches_begin(core, now, action) || begin_reset(core, now, action))
		return (action->type);
	else if (marks_due(core, now))
		marks_begin(core, now, action);
	else
		begin_publish(core, now, action);
	return (action->type);
}

clock_ns
core_deadline(const struct core * core)
{
	clock_ns deadline = has_unmarked(core) ? core->mark_due : CLOCK_NEVER;

	deadline = clock_min(deadline, searches_deadline(core));
	for (enum core_link link = 0; link < CORE_LINKS; link++)
		deadline = clock_min(deadline, flight_deadline(core, link));
	return (deadline);
}

bool
core_wants(const struct core * core, enum core_link link)
{
	return (link == CORE_MAIN || core->links[link].in_flight > 0 ||
	    (!core->stopping && !core->paused &&
		(is_ready(core, link) || core->lanes.shut > core->lanes.paused)));
}

/* ---- the operator ---- */

bool
core_on_paused(struct core * core, clock_ns now, const struct pause * pause)
{
	size_t count = pause->lane_count < PAUSES_MAX ? pause->lane_count : PAUSES_MAX;
	bool room = lanes_pause(&core->lanes, now, pause->lanes, count) &&
	    count == pause->lane_count;

	core->paused = pause->all || !room;
	return (room);
}

void
core_on_discards(struct core * core, const struct discard * list, size_t count)
{
	discards_set(&core->discards, list, count);
}

void
core_change(struct core * core, const struct core_change * change)
{
	struct core_retry * retry = &core->options.retry;

	assert(change->window >= 1 && change->window <= core->window_max);
	core->options.window = change->window;
	retry->initial = core->backoff.initial = change->initial;
	retry->multiplier = core->backoff.multiplier = change->multiplier;
	retry->max = core->backoff.max = change->max;
	retry->max_attempts = change->max_attempts;
	derive(core);
}

void
core_stop(struct core * core)
{
	const struct rows * rows = &core->rows;
	uint64_t end = rows->fetched;

	while (end > rows->recorded && rows_at(rows, rows_place(rows, end - 1))->publications == 0)
		end--;
	core->stops_at = end;
	core->stopping = true;
}

void
core_drain(struct core * core)
{
	core->draining = true;
}

void
core_lease(struct core * core, clock_ns until)
{
	core->lease = until;
}

const struct core_latencies *
core_latencies(const struct core * core)
{
	return (&core->latencies);
}

void
core_wall_clock(struct core * core, clock_ns offset)
{
	core->wall_offset = offset;
}

void
core_count(const struct core * core, struct core_counts * counts)
{
	*counts = core->counts;
	counts->window = core->options.window;
	counts->in_flight = in_flight(core);
	counts->ahead = ahead(&core->links[CORE_MAIN]);
	counts->held_rows = (uint32_t)held_rows(core) + core->rows.pool.count;
	counts->bytes = core->rows.bytes + core->rows.pool.bytes;
}
