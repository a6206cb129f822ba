#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

/*
 * A history: writers, broker, database and clock do what the dice say.  Then
 * faults end, while bad messages, exchanges and queues stay what they are: the
 * good messages must go out soon (S).  Then all becomes well that ever will, and
 * everything must be settled with no one's help (V).
 */

/* Dice of the parts of a history that are no turns. */
#define STEP_OPTIONS (WORLD_TURNS + 1)
#define STEP_CALM (WORLD_TURNS + 2)
#define STEP_HEALED (WORLD_TURNS + 3)
#define STEP_QUIET (WORLD_TURNS + 4) /* and on */

#define QUIET_STEP CLOCK_US(50)
#define QUIET_JUMP CLOCK_S(1)

/*
 * How long it may take, besides confirm timeouts.  A probe goes every 5 s, and
 * a session that hangs is ended after 10.
 */
#define GOOD_MS 2000
#define SMALL_WINDOW 8
#define SETTLED_MS 60000

static void
choose_options(struct world * w)
{
	static const clock_ns timeouts[] = {CLOCK_MS(100), CLOCK_MS(500), CLOCK_S(3), CLOCK_S(8)};

	w->options = (struct core_options){
	    .window = 1 + (one_in(w, 2) ? below(w, 8) : below(w, 200)),
	    .max_bytes = 1 + below(w, 3000),
	    .pipelined = one_in(w, 5),
	    .record_interval = one_in(w, 2) ? CLOCK_MS(5) : 0,
	    .retry = {.initial = CLOCK_MS(1),
		.multiplier = 2,
		.max = one_in(w, 2) ? CLOCK_MS(20) : CLOCK_MS(300),
		.max_attempts = 1 + below(w, 5),
		.hold = one_in(w, 2)},
	    .confirm_timeout = timeouts[below(w, 4)],
	    .poll_interval = one_in(w, 2) ? CLOCK_MS(100) : CLOCK_S(1),
	    .seed = w->knobs.seed,
	};
	w->options.batch = 1 + below(w, w->options.window < 30 ? w->options.window : 30);
	w->silence_freezes = one_in(w, 2);
	w->held_by_later = one_in(w, 2);
	w->row_max = 1 + below(w, one_in(w, 4) ? WORLD_ROWS - 10 : 60);
	if (w->row_max > w->knobs.rows)
		w->row_max = w->knobs.rows;
	/* One history in eight is of a peaceful world. */
	w->kinds = one_in(w, 8) ? 0 : world_random(w) | (one_in(w, 4) ? world_random(w) : 0);
	w->kinds &= ~w->knobs.without;
	w->relay_count = has(w, KIND_second_relay) ? 2 : 1;
	world_say(w, "window %u, batch %u, %s, %s, %u attempts, confirm timeout %d ms, %u rows",
	    w->options.window, w->options.batch, w->options.pipelined ? "pipelined" : "strict",
	    w->options.retry.hold ? "hold" : "continue", w->options.retry.max_attempts,
	    (int)(w->options.confirm_timeout / CLOCK_MS(1)), w->row_max);
}

/* ---- no more faults ---- */

static bool
is_leading(const struct world * w)
{
	for (uint32_t n = 0; n < w->relay_count; n++) {
		const struct relay * relay = &w->relays[n];

		if (relay->session.locked && !relay->frozen && relay->connections[CORE_MAIN].up)
			return (true);
	}
	return (false);
}

static bool
is_busy(const struct world * w, const struct relay * relay)
{
	if (relay->frozen || relay->finished)
		return (false);
	if (!session_idle(&relay->session))
		return (true);
	for (enum core_link link = 0; link < CORE_LINKS; link++) {
		const struct connection * c = &relay->connections[link];

		if (c->up && c->closing != CLOSING_NOT)
			return (true);
		for (uint32_t n = 0; n < c->count; n++) {
			if (c->queue[n].state != SILENT)
				return (true);
			if (w->silence_freezes)
				break;
		}
		if (core_wants(relay->core, link) != c->up &&
		    relay->session.state == SESSION_LEADING && link == CORE_SUSPECTS)
			return (true);
	}
	return (relay->session.state == SESSION_DOWN);
}

static void
quiet_relay(struct world * w, struct relay * relay)
{
	if (relay->frozen || relay->finished)
		return;
	chaos_mend(w, relay);
	session_tend(w, relay);
	for (int n = 0; n < 3; n++) {
		session_execute(w, relay);
		session_answer(w, relay);
	}
	for (enum core_link link = 0; link < CORE_LINKS; link++) {
		broker_process(w, &relay->connections[link], WORLD_ROWS);
		for (int n = 0; n < 8; n++)
			broker_settle(w, relay, link);
	}
	relay_act(w, relay);
}

/* All answer at once; when there is nothing to answer, time passes. */
static void
quiet_turn(struct world * w)
{
	clock_ns next = w->now + QUIET_JUMP;
	bool busy = false;

	for (uint32_t n = 0; n < w->relay_count; n++)
		quiet_relay(w, &w->relays[n]);
	for (uint32_t n = 0; n < w->relay_count; n++) {
		busy |= is_busy(w, &w->relays[n]);
		if (!w->relays[n].frozen && !w->relays[n].finished)
			next = clock_min(next, core_deadline(w->relays[n].core));
	}
	if (busy || next <= w->now)
		next = w->now + QUIET_STEP;
	w->now = next;
}

static uint32_t
count_silent(const struct world * w)
{
	uint32_t count = 0;

	for (uint32_t e = 0; e < WORLD_EXCHANGES; e++) {
		for (uint32_t q = 0; q < WORLD_QUEUES; q++)
			count += w->queues[e][q] == IS_SILENT;
	}
	return (count);
}

static void
calm_down(struct world * w)
{
	world_throw(w, STEP_CALM);
	w->calm = true;
	writers_end_all(w);
	pauses_end(w, false);
	for (uint32_t e = 0; e < WORLD_EXCHANGES; e++) {
		for (uint32_t q = 0; q <= WORLD_QUEUES; q++)
			w->lasting[e][q] = one_in(w, 3);
	}
	for (uint32_t n = 0; n < w->relay_count; n++) {
		struct relay * relay = &w->relays[n];

		if (relay->frozen && !(w->relay_count > 1 && n == 0 && one_in(w, 2)))
			relay->frozen = false;
		for (enum core_link link = 0; link < CORE_LINKS && !relay->frozen; link++) {
			if (relay->connections[link].mute) {
				broker_lost(w, relay, link);
				core_on_link_down(relay->core, w->now, link);
			}
		}
		if (relay->stopping)
			relay->finished = true;
		chaos_mend(w, relay);
	}
	world_say(w, "faults end");
}

/*
 * In a window of a few messages, each may have to wait for some probes that fill
 * it until their confirm timeout.
 */
static clock_ns
bound_of_window(const struct world * w)
{
	if (w->options.window >= SMALL_WINDOW || count_silent(w) == 0)
		return (0);
	return (w->row_count * (w->options.confirm_timeout + CLOCK_MS(100)));
}

static uint32_t
count_poisonous(const struct world * w)
{
	uint32_t count = 0;

	for (uint32_t n = 0; n < w->row_count; n++)
		count += w->rows[n].kind == POISON;
	return (count);
}

/*
 * All silent queues are found out within two confirm timeouts, but for a moment each;
 * and who is suspected with a poisonous message may have to wait behind a probe of one.
 */
static clock_ns
bound_of_good(const struct world * w)
{
	uint32_t silent = count_silent(w);
	uint32_t timeouts = silent == 0 ? 1 : 2 + count_poisonous(w);

	return (CLOCK_MS(GOOD_MS) + timeouts * (w->options.confirm_timeout + CLOCK_MS(100)) +
	    silent * (promise_least_patience(w) + CLOCK_MS(100)) + bound_of_window(w));
}

/*
 * Probes of silent queues take turns on suspects, each for a confirm timeout;
 * and a lane with a poisonous message at its head needs one for each attempt.
 */
static clock_ns
bound_of_settled(const struct world * w)
{
	clock_ns round = (count_silent(w) + 1) * (w->options.confirm_timeout + CLOCK_S(5));
	uint32_t rounds = 2 + count_poisonous(w) * w->options.retry.max_attempts;

	return (CLOCK_MS(SETTLED_MS) + rounds * round + bound_of_window(w));
}

static void
until_good_are_sent(struct world * w)
{
	clock_ns bound = bound_of_good(w);
	clock_ns started = 0;

	for (uint32_t turns = 0; started == 0 || !promise_good_are_sent(w); turns++) {
		world_throw(w, STEP_QUIET + turns);
		if (started == 0 && is_leading(w)) {
			started = w->now;
			for (int n = 0; n < 3; n++)
				writers_write_good(w);
		}
		if (started != 0 && w->now > started + bound)
			world_broken(w, "S", "good messages still wait after %d ms",
			    (int)((w->now - started) / CLOCK_MS(1)));
		if (started == 0 && turns > 50000)
			world_broken(w, "V", "nobody leads");
		quiet_turn(w);
	}
	if (w->now - started > w->slowest_good)
		w->slowest_good = w->now - started;
}

static void
check_drained(struct world * w, clock_ns at)
{
	for (uint32_t n = 0; n < w->database.count; n++) {
		const struct stored * s = &w->database.rows[n];

		if (s->commit == 0 || database_held_by_dead(w, w->rows[n].key))
			continue;
		if (s->place == MESSAGE && !database_covers(w, &w->database.recorded, n))
			world_broken(w, "H", "drained, and id %d is pending", (int)w->rows[n].id);
		if (s->place == DELAYED && s->waits_for == RETRY && database_is_first(w, n) &&
		    s->next_attempt_at < at - CLOCK_MS(5))
			world_broken(w, "H", "drained, and id %d is due", (int)w->rows[n].id);
	}
}

/* As "run --until-empty" does; then the daemon is started again. */
static void
drain(struct world * w)
{
	clock_ns bound = bound_of_settled(w);
	clock_ns started = w->now;
	clock_ns at = started;
	struct relay * relay = NULL;

	for (uint32_t n = 0; n < w->relay_count; n++) {
		if (w->relays[n].session.locked && !w->relays[n].frozen)
			relay = &w->relays[n];
	}
	if (relay == NULL)
		return;
	world_say(w, "drain");
	core_drain(relay->core);
	for (uint32_t turns = 0; !relay->finished; turns++) {
		at = w->now;
		world_throw(w, STEP_QUIET + turns);
		quiet_turn(w);
		if (w->now > started + bound || turns > 50000)
			world_broken(w, "V", "not drained");
	}
	check_drained(w, at);
	happened(w, EVENT_drained);
	relay_end(w, relay);
	relay_start(w, relay);
}

static void
until_settled(struct world * w)
{
	clock_ns started = w->now;
	clock_ns bound;
	char why[100];

	world_throw(w, STEP_HEALED);
	w->healed = true;
	broker_heal(w);
	pauses_end(w, true);
	discards_end(w);
	bound = bound_of_settled(w);
	world_say(w, "exchanges and queues are well again");
	for (uint32_t turns = 0; !promise_all_is_settled(w, why, sizeof(why)); turns++) {
		world_throw(w, STEP_QUIET + turns);
		quiet_turn(w);
		if (w->now > started + bound || turns > 50000)
			world_broken(w, "V", "after %d ms %s",
			    (int)((w->now - started) / CLOCK_MS(1)), why);
	}
	if (w->now - started > w->slowest_settled)
		w->slowest_settled = w->now - started;
}

static void
stop_all(struct world * w)
{
	clock_ns started = w->now;

	for (uint32_t n = 0; n < w->relay_count; n++) {
		struct relay * relay = &w->relays[n];

		if (!relay->frozen) {
			relay->stopping = true;
			core_stop(relay->core);
		}
		while (!relay->finished && !relay->frozen) {
			quiet_turn(w);
			if (w->now > started + CLOCK_S(30))
				world_broken(w, "V", "relay %u does not stop", relay->number);
		}
		happened(w, EVENT_stopped);
	}
	for (uint32_t n = 0; n < w->relay_count; n++)
		relay_end(w, &w->relays[n]);
}

void
history_run(struct world * w, const struct knobs * knobs)
{
	uint32_t fault_rate, turns;
	bool drains;

	memset(w, 0, sizeof(*w));
	w->knobs = *knobs;
	world_throw(w, STEP_OPTIONS);
	choose_options(w);
	fault_rate = 3 + below(w, 60);
	turns = 50 + below(w, one_in(w, 3) ? WORLD_TURNS - 50 : 500);
	drains = one_in(w, 3);
	if (turns > w->knobs.turns)
		turns = w->knobs.turns;
	for (uint32_t n = 0; n < w->relay_count; n++) {
		w->relays[n].number = n;
		relay_start(w, &w->relays[n]);
		session_connect(w, &w->relays[n]);
	}
	session_tend(w, &w->relays[0]);
	chaos_mend(w, &w->relays[0]);
	for (uint32_t n = 0; n < turns; n++) {
		if ((w->knobs.skipped[n / 64] >> n % 64 & 1) != 0)
			continue;
		world_throw(w, n);
		chaos_turn(w, fault_rate);
	}
	calm_down(w);
	until_good_are_sent(w);
	if (drains)
		drain(w);
	until_settled(w);
	promise_at_end(w);
	stop_all(w);
	if (w->batches != 0)
		world_broken(w, "memory", "%d batches are left", w->batches);
}
