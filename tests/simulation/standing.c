#include <stdio.h>

#include "world.h"

/*
 * What must hold whenever the core rests, and how all must stand at the end.
 */

/* ---- at rest ---- */

#define CHECK_COUNT(name) \
	if (counts->name != expected->name) \
	world_broken(w, "H", #name " is %d, not %d", (int)counts->name, (int)expected->name)

/* Of those in flight. */
static uint32_t
ahead_on_main(const struct world * w, const struct relay * relay)
{
	uint32_t count = 0;

	for (uint32_t n = 0; n < w->row_count; n++) {
		const struct view * v = &relay->views[n];

		count += v->ticket != 0 && v->link == CORE_MAIN && !v->overtaken;
	}
	return (count);
}

static void
check_counts(struct world * w, const struct relay * relay, const struct core_counts * counts)
{
	const struct core_counts * expected = &relay->expected;
	size_t most = w->options.max_bytes + 2 * (size_t)2000;

	CHECK_COUNT(published);
	CHECK_COUNT(republished);
	CHECK_COUNT(confirmed);
	CHECK_COUNT(nacked);
	CHECK_COUNT(returned);
	CHECK_COUNT(unfit);
	CHECK_COUNT(in_flight);
	CHECK_COUNT(recorded);
	CHECK_COUNT(fetched);
	CHECK_COUNT(delayed);
	CHECK_COUNT(dead);
	CHECK_COUNT(discarded);
	if (counts->ahead != ahead_on_main(w, relay))
		world_broken(w, "H", "%u are ahead, not %u", counts->ahead,
		    ahead_on_main(w, relay));
	if (counts->ahead > core_ahead_max(&w->options))
		world_broken(w, "H", "%u are ahead, at most %u may be", counts->ahead,
		    core_ahead_max(&w->options));
	if (counts->unrecorded > w->options.window)
		world_broken(w, "D", "%u unrecorded, window %u", counts->unrecorded,
		    w->options.window);
	if (counts->bytes > most)
		world_broken(w, "memory", "%zu bytes held, at most %zu", counts->bytes,
		    w->options.max_bytes);
}

/* Nothing is known against it, nor against any other message of its key. */
static bool
may_go(const struct world * w, const struct relay * relay, uint32_t n)
{
	const struct view * v = &relay->views[n];
	const struct row * row = &w->rows[n];

	if (!v->handed || v->origin != MESSAGE_FRESH || v->held || row->to_discard ||
	    v->confirmed || v->unfit || v->ticket != 0 || v->refusals > 0 || v->suspect ||
	    relay->lane_known[row->exchange][row->queue] ||
	    relay->lane_known[row->exchange][WORLD_QUEUES])
		return (false);
	for (uint32_t m = 0; row->key != 0 && !w->options.pipelined && m < w->row_count; m++) {
		const struct view * other = &relay->views[m];

		if (m == n || w->rows[m].key != row->key)
			continue;
		if (w->rows[m].aside || w->rows[m].to_discard || w->rows[m].scheduled ||
		    other->refusals > 0 || other->unfit || other->suspect ||
		    (m < n && other->handed && !other->confirmed))
			return (false);
	}
	return (true);
}

/* Places in the window that delayed messages may have taken, or are to take. */
static uint32_t
reserved(const struct world * w, const struct relay * relay)
{
	uint32_t count = session_searches(&relay->session) ? relay->session.search.rows : 0;

	for (uint32_t n = 0; n < w->row_count; n++) {
		const struct view * v = &relay->views[n];

		count += v->handed && v->origin != MESSAGE_FRESH && v->publications == 0;
	}
	return (count);
}

void
promise_nobody_can_go(struct world * w, const struct relay * relay)
{
	const struct connection * c = &relay->connections[CORE_MAIN];
	struct core_counts counts;

	core_count(relay->core, &counts);
	if (!c->up || c->blocked || c->full || relay->unnamed_close || relay->paused.all ||
	    relay->session.state != SESSION_LEADING || w->now >= relay->lease ||
	    counts.unrecorded + reserved(w, relay) >= w->options.window ||
	    counts.in_flight >= core_in_flight_max(&w->options) ||
	    counts.ahead >= core_ahead_max(&w->options))
		return;
	for (uint32_t n = 0; n < w->row_count; n++) {
		if (may_go(w, relay, n) &&
		    (!relay->stopping || promise_keeps_a_mark_back(w, relay, n)))
			world_broken(w, relay->stopping ? "D" : "S",
			    "id %d could be published, and the core rests", (int)w->rows[n].id);
	}
}

void
promise_at_rest(struct world * w, struct relay * relay)
{
	struct core_counts counts;

	core_count(relay->core, &counts);
	check_counts(w, relay, &counts);
	if (core_deadline(relay->core) <= w->now)
		world_broken(w, "V", "the core rests, and wants to be asked again at once");
	if (core_wants(relay->core, CORE_SUSPECTS))
		happened(w, EVENT_wants_suspects);
	promise_nobody_can_go(w, relay);
}

/* ---- at the end ---- */

static bool
is_there(const struct world * w, uint32_t n)
{
	return (w->database.rows[n].commit != 0 && !w->rows[n].lost);
}

/* Good, and so are all others of its key. */
static bool
is_good(const struct world * w, uint32_t n)
{
	const struct row * row = &w->rows[n];

	for (uint32_t m = 0; m < w->database.count; m++) {
		if ((m == n || (row->key != 0 && w->rows[m].key == row->key)) && is_there(w, m) &&
		    (w->rows[m].id <= w->database.discard[w->rows[m].exchange] ||
			w->rows[m].kind != GOOD || w->rows[m].scheduled ||
			broker_lane_is_sick(w, &w->rows[m]) ||
			w->database.rows[m].place != MESSAGE))
			return (false);
	}
	return (true);
}

bool
promise_good_are_sent(struct world * w)
{
	for (uint32_t n = 0; n < w->database.count; n++) {
		if (is_there(w, n) && is_good(w, n) && w->rows[n].deliveries == 0)
			return (false);
	}
	return (true);
}

/* Does it wait for something that lasts, or behind somebody who does? */
static const char *
why_it_stands(const struct world * w, uint32_t n)
{
	const struct stored * s = &w->database.rows[n];
	const struct row * row = &w->rows[n];

	switch (s->place) {
	case NOWHERE:
	case DEAD:
		return (NULL);
	case DONE:
		return (row->confirmed && row->deliveries > 0 ? NULL : "gone and not delivered");
	case MESSAGE:
		if (!database_covers(w, &w->database.recorded, n))
			return ("not marked");
		return (row->confirmed && row->deliveries > 0 ? NULL : "marked and not delivered");
	case DELAYED:
		break;
	}
	if (database_held_by_dead(w, row->key))
		return (NULL);
	/* The first one of its key answers for the others. */
	if (s->waits_for != SCHEDULE && !database_is_first(w, n))
		return (NULL);
	switch (s->waits_for) {
	case SCHEDULE:
	case RETRY:
		return ("waits for its time");
	case EXCHANGE:
	case QUEUE:
		return (broker_lane_is_sick(w, row) ? NULL : "waits for a lane that is well");
	case KEY:
		break;
	}
	return ("waits behind nobody");
}

bool
promise_all_is_settled(struct world * w, char * why, size_t size)
{
	for (uint32_t n = 0; n < w->database.count; n++) {
		const char * reason = is_there(w, n) ? why_it_stands(w, n) : NULL;

		if (reason != NULL) {
			snprintf(why, size, "id %d: %s", (int)w->rows[n].id, reason);
			return (false);
		}
	}
	return (true);
}

static enum world_event
end_of(const struct world * w, uint32_t n)
{
	const struct stored * s = &w->database.rows[n];

	if (w->rows[n].lost)
		return (EVENT_end_lost_by_failover);
	if (s->place == DEAD)
		return (EVENT_end_dead);
	if (s->place == DELAYED)
		return (s->waits_for == KEY ? EVENT_end_behind_dead : EVENT_end_waits_in_lane);
	return (EVENT_end_delivered);
}

void
promise_at_end(struct world * w)
{
	uint64_t repeated = 0;

	for (uint32_t n = 0; n < w->row_count; n++) {
		const struct row * row = &w->rows[n];

		if (!row->committed) {
			if (row->deliveries > 0)
				world_broken(w, "P", "id %d rolled back and arrived", (int)row->id);
			continue;
		}
		happened(w, end_of(w, n));
		if (row->deliveries > 1)
			repeated += row->deliveries - 1;
	}
	if (repeated > (uint64_t)w->options.window * w->deaths + w->excused)
		world_broken(w, "D", "%u messages repeated, %u deaths, window %u, %u excused",
		    (unsigned int)repeated, w->deaths, w->options.window, (unsigned int)w->excused);
}
