#include "core/state.h"

/*
 * What is published and not settled, and what is published next.
 *
 * A confirm that does not come is noticed by the oldest row of a link.  A
 * closed channel does not set its clock back: probes of missing exchanges
 * close suspects more often than confirm_timeout, and a silent queue there
 * would never be noticed.
 *
 * Where one queue is silent others may be (a node has died), and one that
 * freezes a channel hides those behind it: to wait for each of them in turn as
 * long as for the first one would stall everybody (S).  So while a queue is known
 * to be silent, a channel on which nothing at all is answered has less and less
 * time.  One that answers, be it slowly, has all the time there is; and when a
 * queue that was accused answers its probe, so has every channel again.  What
 * other channels answer says nothing of those who stand behind a silent one.
 *
 * Rows that were published before go first: they are counted in the window (D)
 * already, and need no room there.  Others need a place, and whoever takes one
 * keeps it until its mark.  A mark cannot pass a fresh row that is not
 * resolved, so younger rows could fill the window while an older one waits for
 * a place, or for its key; then neither could be published nor marked.  That
 * does not happen, for these reasons (V):
 *  - Of the fresh rows the oldest goes first.  It waits only for an earlier
 *    one of its key, which is before it, or in the pool and goes by main as it
 *    does; a fresh row that would wait for suspects is put aside instead.
 *  - The pool goes before all fresh rows but the very next one of the run, so
 *    nobody takes a place who could be stuck behind one that waits for the pool.
 *  - That very next one, and the pool, take turns, so neither starves.
 *  - A row of the pool that is settled leaves the window with a mark of its
 *    own, whatever the fresh ones wait for.
 */

static uint32_t
first_fresh(const struct core * core, const struct ready * ready)
{
	uint32_t place;

	if (ready->count == 0)
		return (ROW_NONE);
	place = ready_from(ready, rows_place(&core->rows, core->rows.resolved));
	if (place == READY_NONE || rows_in_pool(&core->rows, place))
		place = ready_from(ready, 0);
	return (rows_in_pool(&core->rows, place) ? ROW_NONE : place);
}

/* The rows of the pool take turns, by their places. */
static uint32_t
next_delayed(const struct core * core, const struct ready * ready)
{
	uint32_t place;

	if (ready->count == 0 || core->rows.pool.count == 0)
		return (ROW_NONE);
	place = ready_from(ready, core->pool_turn);
	return (place != ROW_NONE ? place : ready_from(ready, core->rows.ring));
}

static bool
is_open(const struct core * core, enum core_link link)
{
	const struct core_peer * peer = &core->links[link];
	uint32_t max = core->in_flight_max;

	if (link == CORE_SUSPECTS && core->limit < max)
		max = core->limit;
	return (peer->up && !peer->full && !peer->blocked && peer->in_flight < max &&
	    ahead(peer) < core->ahead_max);
}

static uint32_t
next_again(const struct core * core, enum core_link link)
{
	const struct ready * ready = &core->ready[link][READY_AGAIN];
	uint32_t place = first_fresh(core, ready);

	return (place != ROW_NONE ? place : next_delayed(core, ready));
}

/* No mark passes a row that younger ones have overtaken while it waited for its key, and
 * whoever leads next would publish those again. */
static uint32_t
next_left_behind(const struct core * core)
{
	uint32_t again = first_fresh(core, &core->ready[CORE_MAIN][READY_AGAIN]);
	uint32_t fresh;

	if (again != ROW_NONE || core->counts.unrecorded >= core->options.window)
		return (again);
	fresh = first_fresh(core, &core->ready[CORE_MAIN][READY_NEW]);
	return (fresh != ROW_NONE && rows_sequence(&core->rows, fresh) < core->stops_at ?
		fresh :
		ROW_NONE);
}

uint32_t
flight_next(const struct core * core, clock_ns now)
{
	bool main = is_open(core, CORE_MAIN);
	bool suspects = is_open(core, CORE_SUSPECTS);
	uint32_t fresh = ROW_NONE, delayed = ROW_NONE;

	if (!core->source_up || core->paused || now >= core->lease)
		return (ROW_NONE);
	if (core->stopping)
		return (main ? next_left_behind(core) : ROW_NONE);
	if (suspects && core->ready[CORE_SUSPECTS][READY_AGAIN].count > 0)
		return (next_again(core, CORE_SUSPECTS));
	if (main && core->ready[CORE_MAIN][READY_AGAIN].count > 0)
		return (next_again(core, CORE_MAIN));
	if (core->counts.unrecorded >= core->options.window)
		return (ROW_NONE);
	if (suspects)
		delayed = next_delayed(core, &core->ready[CORE_SUSPECTS][READY_NEW]);
	if (main) {
		fresh = first_fresh(core, &core->ready[CORE_MAIN][READY_NEW]);
		if (delayed == ROW_NONE)
			delayed = next_delayed(core, &core->ready[CORE_MAIN][READY_NEW]);
	}
	if (delayed == ROW_NONE)
		return (fresh);
	if (fresh != ROW_NONE && !core->ring_was_last &&
	    fresh == rows_place(&core->rows, core->rows.resolved))
		return (fresh);
	return (delayed);
}

/* Of a row in flight, or about to be. */
static uint16_t
stripe_of(const struct row * row)
{
	return (row->link == CORE_MAIN ? message_stripe(row->message) : 0);
}

static void
count(struct core * core, uint32_t place, const struct row * row, uint32_t by)
{
	core->links[row->link].in_flight += by;
	core->links[row->link].stripes[stripe_of(row)].in_flight += by;
	if (!rows_in_pool(&core->rows, place))
		core->rows.in_flight += by;
}

void
flight_begin(struct core * core, clock_ns now, uint32_t place, struct core_action * action)
{
	struct row * row = rows_at(&core->rows, place);
	struct core_peer * link = &core->links[row->link];

	ready_remove(ready_set(core, row), place);
	core->counts.published++;
	if (row->publications == 0)
		core->counts.unrecorded++;
	else
		core->counts.republished++;
	if (row->publications < UINT8_MAX)
		row->publications++;
	core->ring_was_last = !rows_in_pool(&core->rows, place);
	if (!core->ring_was_last)
		core->pool_turn = place + 1;

	if (link->stripes[stripe_of(row)].in_flight == 0)
		link->stripes[stripe_of(row)].stands = now;
	row->state = ROW_IN_FLIGHT;
	row->serial = ++link->serial;
	row->since = now - row->waited;
	row->newer = ROW_NONE;
	row->older = link->newest;
	if (link->newest == ROW_NONE)
		link->oldest = place;
	else
		rows_at(&core->rows, link->newest)->newer = place;
	link->newest = place;
	count(core, place, row, 1);

	action->type = CORE_PUBLISH;
	action->publish.message = row->message;
	action->publish.ticket = ticket_of(row, place);
	action->publish.again = row->publications > 1;
	action->publish.link = row->link;
}

void
flight_end(struct core * core, uint32_t place)
{
	struct row * row = rows_at(&core->rows, place);
	struct core_peer * link = &core->links[row->link];

	if (row->older == ROW_NONE)
		link->oldest = row->newer;
	else
		rows_at(&core->rows, row->older)->newer = row->newer;
	if (row->newer == ROW_NONE)
		link->newest = row->older;
	else
		rows_at(&core->rows, row->newer)->older = row->older;
	count(core, place, row, UINT32_MAX);
	if (link->in_flight == 0)
		link->front = link->serial;
	row->state = ROW_WAITING;
	row->waited = 0;
}

void
flight_undo(struct core * core, const struct row * row)
{
	/* Or it counts as ahead until the next answer. */
	if (row->newer == ROW_NONE)
		core->links[row->link].serial--;
}

void
flight_lost(struct core * core, enum core_link link)
{
	struct core_peer * peer = &core->links[link];

	peer->up = false;
	while (peer->oldest != ROW_NONE) {
		uint32_t place = peer->oldest;

		flight_end(core, place);
		make_ready(core, place);
	}
}

/* Since when the row has waited for its confirm, while it might have come. */
static clock_ns
waits_since(const struct core_peer * peer, const struct row * row)
{
	return (peer->unblocked > row->since ? peer->unblocked : row->since);
}

clock_ns
flight_waited(const struct core * core, clock_ns now, const struct row * row)
{
	const struct core_peer * peer = &core->links[row->link];

	return (peer->blocked ? 0 : now - waits_since(peer, row));
}

void
flight_interrupted(struct core * core, clock_ns now, enum core_link link, enum core_link next)
{
	struct core_peer * peer = &core->links[link];

	peer->up = false;
	while (peer->oldest != ROW_NONE) {
		uint32_t place = peer->oldest;
		struct row * row = rows_at(&core->rows, place);
		clock_ns waited = flight_waited(core, now, row);

		flight_end(core, place);
		row->waited = waited;
		row->link = (uint8_t)next;
		make_ready(core, place);
	}
}

void
flight_again(struct core * core, clock_ns now, enum core_link link)
{
	struct core_peer * peer = &core->links[link];

	peer->up = false;
	while (peer->oldest != ROW_NONE) {
		uint32_t place = peer->oldest;
		struct row * row = rows_at(&core->rows, place);
		clock_ns waited = flight_passed(core, row) ? flight_waited(core, now, row) : 0;

		flight_end(core, place);
		row->waited = waited;
		make_ready(core, place);
	}
}

/* Serial numbers begin anew after 2^32. */
static bool
is_before(uint32_t a, uint32_t b)
{
	return ((int32_t)(a - b) < 0);
}

void
flight_answered(struct core * core, clock_ns now, const struct row * row)
{
	struct core_peer * peer = &core->links[row->link];
	struct core_stripe * stripe = &peer->stripes[stripe_of(row)];

	stripe->stands = now;
	if (is_before(stripe->passed, row->serial))
		stripe->passed = row->serial;
	if (is_before(peer->front, row->serial))
		peer->front = row->serial;
}

bool
flight_passed(const struct core * core, const struct row * row)
{
	return (is_before(row->serial, core->links[row->link].stripes[stripe_of(row)].passed));
}

static clock_ns
latest(clock_ns a, clock_ns b)
{
	return (a > b ? a : b);
}

/* The time that a channel may stand still is divided by this for each queue found silent,
 * HASTE_MAX times at most; but it is never less than ... */
#define HASTE_SHARE 4
#define HASTE_LEAST CLOCK_MS(250)

/* A probe of a silent queue has twice as much each time: that may just be slow (V). */
static clock_ns
patience(const struct core * core, uint32_t place)
{
	const struct breaker * lane = policy_silent_lane(core, place);
	clock_ns full = core->options.confirm_timeout;
	clock_ns time = full;

	for (uint8_t n = lane == NULL ? core->haste : HASTE_MAX; n > 0; n--)
		time /= HASTE_SHARE;
	time = latest(time, HASTE_LEAST);
	for (uint8_t n = lane == NULL ? 0 : lane->silences; n > 0 && time < full; n--)
		time *= 2;
	return (clock_min(time, full));
}

clock_ns
flight_stands_until(const struct core * core, enum core_link link)
{
	const struct core_peer * peer = &core->links[link];
	clock_ns stands, time;

	/* Asked once a message: most of the time no queue is known to be silent. */
	if (core->haste == 0 && core->lanes.probing == 0)
		return (CLOCK_NEVER);
	if (peer->oldest == ROW_NONE || peer->blocked)
		return (CLOCK_NEVER);
	time = patience(core, peer->oldest);
	if (time == core->options.confirm_timeout)
		return (CLOCK_NEVER);
	stands = peer->stripes[stripe_of(rows_at(&core->rows, peer->oldest))].stands;
	stands = latest(stands, peer->unblocked);
	/* Nothing came either shortly before or since: the link itself may be silent. */
	if (later(latest(peer->heard, peer->connected), time) < stands)
		return (CLOCK_NEVER);
	return (later(stands, time));
}

clock_ns
flight_deadline(const struct core * core, enum core_link link)
{
	const struct core_peer * peer = &core->links[link];

	if (peer->oldest == ROW_NONE || peer->blocked)
		return (CLOCK_NEVER);
	return (clock_min(flight_stands_until(core, link),
	    later(waits_since(peer, rows_at(&core->rows, peer->oldest)),
		core->options.confirm_timeout)));
}
