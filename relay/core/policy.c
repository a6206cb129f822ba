#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "core/state.h"

/*
 * What becomes of a message that was not delivered: the one place that
 * decides it.
 *
 * It is put aside, and its key with it, and is then out of the way of all
 * others (S).  What the broker said of this very message counts against it;
 * what is wrong with an exchange, a queue or a connection does not.
 *
 * A delayed message that is to wait where the database has it already needs no
 * move: it is let go, and found again in its time.
 */

void
policy_leave_pool(struct core * core, uint32_t place)
{
	const struct row * row = rows_at(&core->rows, place);

	if (row->publications > 0)
		core->counts.unrecorded--;
	if (row->from != LANE_NONE)
		lanes_refer_no_more(&core->lanes, row->from);
	rows_release(&core->rows, place);
}

/* The row itself, without what depends on it. */
static void
lay_aside(struct core * core, clock_ns now, uint32_t place, const struct row_move * move,
    struct text * reason)
{
	struct row * row = rows_at(&core->rows, place);

	if (row->probes) {
		row->probes = false;
		lanes_reopen(&core->lanes, lanes_probed_by(&core->lanes, place),
		    lanes_next_probe(now));
	}
	if (move->fate == row->fate && move->fate != FATE_RETRY) {
		policy_leave_pool(core, place);
		return;
	}
	if (move->lane != LANE_NONE)
		lanes_refer(&core->lanes, move->lane);
	rows_put_aside(&core->rows, place, move, reason);
}

void
policy_behind(struct core * core, clock_ns now, uint32_t place)
{
	const struct row * row = rows_at(&core->rows, place);
	struct row_move move = {.fate = FATE_BEHIND,
	    .lane = LANE_NONE,
	    .attempts = row->message->attempts};

	lay_aside(core, now, place, &move, NULL);
	if (row->state == ROW_ASIDE)
		order_hold(core, place);
}

/* Whoever wants it not to be sent; NULL also for what was published already. */
static const struct kept_discard *
meant_by(const struct core * core, const struct row * row)
{
	if (core->discards.count == 0 || row->publications > 0)
		return (NULL);
	return (discards_match(&core->discards, row->message));
}

#define DISCARDED(row) \
	{ \
		.fate = FATE_DISCARDED, .lane = LANE_NONE, .attempts = (row)->message->attempts \
	}

/* One that is in no chain.  Later ones of its key wait until that is committed: should
 * it not be, and the order be taken back, it comes before them. */
static void
discard(struct core * core, clock_ns now, uint32_t place, const struct kept_discard * kept)
{
	const struct row * row = rows_at(&core->rows, place);

	lay_aside(core, now, place, &(struct row_move)DISCARDED(row), kept->reason);
	if (row->key != 0)
		order_hold(core, place);
}

/* One before it, of its key, was put aside: it may be one to discard. */
static bool
is_held_up(const struct core * core, uint32_t place)
{
	const struct row * row = rows_at(&core->rows, place);

	return (order_is_held_before(core, row->key, row->id));
}

/*
 * The first of its chain, or one without a chain.  Those that came after it
 * line up behind it; but one that was written before it (it was scheduled, or
 * a person has put one back) is not behind it, and goes on.
 */
static void
put_aside(struct core * core, clock_ns now, uint32_t place, const struct row_move * move,
    struct text * reason)
{
	const struct row * row = rows_at(&core->rows, place);
	int64_t id = row->id;
	uint32_t next;

	if (row->key == 0 || (move->fate == FATE_DEAD && !core->options.retry.hold)) {
		lay_aside(core, now, place, move, reason);
		return;
	}
	next = order_dissolve(core, place);
	lay_aside(core, now, place, move, reason);
	if (row->state == ROW_ASIDE)
		order_hold(core, place);
	while ((place = next) != ROW_NONE) {
		const struct kept_discard * kept = meant_by(core, rows_at(&core->rows, place));

		next = rows_at(&core->rows, place)->next;
		if (kept != NULL)
			discard(core, now, place, kept);
		else if (rows_at(&core->rows, place)->id > id || is_held_up(core, place))
			policy_behind(core, now, place);
		else {
			rows_at(&core->rows, place)->next = ROW_NONE;
			order_join(core, place);
		}
	}
}

void
policy_delivered(struct core * core, uint32_t place)
{
	static const struct row_move delivered = {.fate = FATE_DELIVERED, .lane = LANE_NONE};
	const struct row * row = rows_at(&core->rows, place);

	if (row->key != 0)
		order_go_on(core, place);
	if (!rows_in_pool(&core->rows, place)) {
		rows_resolve(&core->rows, place);
		return;
	}
	rows_put_aside(&core->rows, place, &delivered, NULL);
}

void
policy_refused(struct core * core, clock_ns now, uint32_t place, bool unfit, struct text * reason)
{
	const struct message * message = rows_at(&core->rows, place)->message;
	struct row_move move = {.fate = FATE_DEAD,
	    .lane = LANE_NONE,
	    .attempts = message->attempts};

	if (!unfit && ++move.attempts < core->options.retry.max_attempts) {
		core->backoff.failures = message->attempts;
		move.fate = FATE_RETRY;
		move.due = later(now, backoff_next(&core->backoff));
	}
	put_aside(core, now, place, &move, reason);
}

bool
policy_discard(struct core * core, clock_ns now, uint32_t place)
{
	const struct row * row = rows_at(&core->rows, place);
	const struct kept_discard * kept = meant_by(core, row);

	if (kept == NULL)
		return (false);
	if (row->state == ROW_READY) {
		ready_remove(ready_set(core, row), place);
		put_aside(core, now, place, &(struct row_move)DISCARDED(row), kept->reason);
	} else
		discard(core, now, place, kept);
	return (true);
}

void
policy_wait(struct core * core, clock_ns now, uint32_t place, uint16_t lane, struct text * reason)
{
	struct row_move move = {
	    .fate = FATE_RETRY,
	    .lane = lane,
	    .attempts = rows_at(&core->rows, place)->message->attempts,
	    .due = lanes_next_probe(now),
	};

	if (lane != LANE_NONE)
		move.fate = core->lanes.breaker[lane].routing_key == NULL ?
		    FATE_WAIT_EXCHANGE :
		    FATE_WAIT_QUEUE;
	put_aside(core, now, place, &move, reason);
}

bool
policy_exchange_closed(struct core * core, clock_ns now, enum core_link link, struct bytes exchange,
    struct text * reason)
{
	uint16_t lane = LANE_NONE;
	bool any = false;

	for (uint32_t place = core->links[link].oldest, newer; place != ROW_NONE; place = newer) {
		const struct row * row = rows_at(&core->rows, place);

		newer = row->newer;
		if (!bytes_equal(row->message->exchange, exchange))
			continue;
		if (!any)
			lane = lanes_open(&core->lanes, exchange, BYTES_NONE, reason,
			    lanes_next_probe(now));
		any = true;
		flight_end(core, place);
		policy_wait(core, now, place, lane, reason);
	}
	return (any);
}

/*
 * The culprit is one of those in flight.  All of them go by suspects from now
 * on, where fewer and fewer are let out at a time, until one is alone when it
 * happens again.
 */
void
policy_isolate(struct core * core, clock_ns now, enum core_link link, struct text * reason)
{
	uint32_t count = core->links[link].in_flight;
	uint32_t place = core->links[link].oldest;

	if (link != CORE_SUSPECTS || count == 0)
		return;
	core->answered = 0;
	if (count > 1) {
		core->limit = (core->limit < count ? core->limit : count) / 2;
		return;
	}
	flight_end(core, place);
	policy_refused(core, now, place, false, reason);
}

/* One message more of those on suspects did not make the broker close it. */
static void
calm_down(struct core * core)
{
	if (++core->answered < core->limit)
		return;
	core->answered = 0;
	core->limit = core->limit < CORE_SUSPECTS_MAX / 2 ? 2 * core->limit : CORE_SUSPECTS_MAX;
}

void
policy_answered(struct core * core, uint32_t place)
{
	struct row * row = rows_at(&core->rows, place);

	/* A refusal, too, shows that its exchange and its queues are well. */
	if (row->probes) {
		/* It may have been accused in haste. */
		if (policy_silent_lane(core, place) != NULL)
			core->haste = 0;
		row->probes = false;
		lanes_drain(&core->lanes, lanes_probed_by(&core->lanes, place));
	}
	if (row->link == CORE_SUSPECTS)
		calm_down(core);
}

/* No name is the empty one. */
static struct bytes
named(struct bytes name)
{
	return (bytes_present(name) ? name : bytes_from(""));
}

const struct breaker *
policy_silent_lane(const struct core * core, uint32_t place)
{
	const struct breaker * lane;

	if (!rows_at(&core->rows, place)->probes)
		return (NULL);
	lane = &core->lanes.breaker[lanes_probed_by(&core->lanes, place)];
	return (lane->routing_key == NULL ? NULL : lane);
}

/* Its queue does not confirm; core->reason says so. */
static void
accuse(struct core * core, clock_ns now, uint32_t place)
{
	const struct row * row = rows_at(&core->rows, place);
	struct bytes exchange = named(row->message->exchange);
	struct bytes routing_key = named(row->message->routing_key);
	struct text * reason;

	snprintf(core->reason, sizeof(core->reason),
	    "no confirm within %.3g s: exchange \"%.*s\", routing key \"%.*s\"",
	    (double)flight_waited(core, now, row) / (double)CLOCK_S(1), (int)exchange.len,
	    exchange.data, (int)routing_key.len, routing_key.data);
	reason = text_for_people(bytes_from(core->reason));
	if (row->probes)
		lanes_probe_was_silent(&core->lanes, lanes_probed_by(&core->lanes, place));
	flight_end(core, place);
	policy_wait(core, now, place,
	    lanes_open(&core->lanes, exchange, routing_key, reason, lanes_next_probe(now)), reason);
	text_unref(reason);
}

/* A queue that others were faster than for this share of the timeout is silent as well:
 * not to wait for each of them in turn is worth one that was slow. */
#define PASSED_SHARE 2

/* Of those in flight on the link but ${first}, all that have waited for so long, and not
 * for one before them; returns how many. */
static uint32_t
accuse_passed(struct core * core, clock_ns now, enum core_link link, uint32_t first)
{
	uint32_t count = 0;

	for (uint32_t place = core->links[link].oldest, newer; place != ROW_NONE; place = newer) {
		const struct row * row = rows_at(&core->rows, place);

		newer = row->newer;
		if (place == first || !flight_passed(core, row) ||
		    flight_waited(core, now, row) < core->options.confirm_timeout / PASSED_SHARE)
			continue;
		accuse(core, now, place);
		count++;
	}
	return (count);
}

void
policy_silent(struct core * core, clock_ns now, enum core_link link)
{
	const struct core_peer * peer = &core->links[link];
	uint32_t place = peer->oldest;
	const struct row * row = rows_at(&core->rows, place);
	uint32_t others;
	bool known = policy_silent_lane(core, place) != NULL;

	if (now < flight_stands_until(core, link) && peer->heard <= row->since) {
		snprintf(core->reason, sizeof(core->reason),
		    "the broker has said nothing for %.3g s",
		    (double)core->options.confirm_timeout / (double)CLOCK_S(1));
		flight_lost(core, link);
		return;
	}
	others = accuse_passed(core, now, link, place);
	accuse(core, now, place);
	if (others > 0)
		snprintf(core->reason + strlen(core->reason),
		    sizeof(core->reason) - strlen(core->reason), ", and %u messages more",
		    (unsigned int)others);
	if (!known && core->haste < HASTE_MAX)
		core->haste++;
	if (link == CORE_SUSPECTS)
		calm_down(core);
	flight_again(core, now, link);
}
