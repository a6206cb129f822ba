#include "world.h"

/*
 * One turn: some things happen, then perhaps a fault, then one relay acts.
 */

#define TURN_MAX 4

/* ---- faults ---- */

static void
lose_link(struct world * w, struct relay * relay)
{
	enum core_link link = one_in(w, 3) ? CORE_SUSPECTS : CORE_MAIN;

	if (!relay->connections[link].up || relay->frozen)
		return;
	broker_lost(w, relay, link);
	core_on_link_down(relay->core, w->now, link);
}

static void
end_sessions(struct world * w)
{
	for (uint32_t n = 0; n < w->relay_count; n++)
		session_end(w, &w->relays[n]);
	w->ghost = false;
	w->deaths++;
}

static void
block(struct world * w, struct relay * relay)
{
	enum core_link link = one_in(w, 3) ? CORE_SUSPECTS : CORE_MAIN;
	struct connection * c = &relay->connections[link];

	if (!c->up || c->blocked || relay->frozen)
		return;
	happened(w, EVENT_link_blocked);
	world_say(w, "relay %u: blocked", relay->number);
	c->blocked = true;
	core_on_blocked(relay->core, w->now, link, true);
}

static void
crash(struct world * w, struct relay * relay)
{
	happened(w, EVENT_crashed);
	for (uint32_t n = 0; n < w->database.count; n++) {
		if (w->rows[n].key != 0 && database_holds(&w->database, n)) {
			happened(w, EVENT_crashed_with_key_held);
			break;
		}
	}
	world_say(w, "relay %u is killed", relay->number);
	relay_end(w, relay);
	relay_start(w, relay);
}

/* Long enough for another one to take the lead. */
static void
freeze(struct world * w, struct relay * relay)
{
	happened(w, EVENT_froze);
	world_say(w, "relay %u is stopped", relay->number);
	relay->frozen = true;
	if (one_in(w, 2))
		return;
	w->now += STUCK_AFTER;
	for (uint32_t n = 0; n < w->relay_count; n++) {
		if (!w->relays[n].frozen)
			session_tend(w, &w->relays[n]);
	}
}

/* What the broker said meanwhile lies in its sockets. */
static void
go_on(struct world * w, struct relay * relay)
{
	happened(w, w->now >= relay->lease ? EVENT_went_on_after_lease : EVENT_went_on);
	world_say(w, "relay %u goes on", relay->number);
	relay->frozen = false;
	for (uint32_t n = below(w, 8); n > 0; n--)
		broker_settle(w, relay, CORE_MAIN);
}

static void
jump(struct world * w)
{
	w->now += one_in(w, 4) ? below(w, CLOCK_S(4)) + below(w, CLOCK_S(4)) + CLOCK_S(4) :
				 below(w, CLOCK_MS(1500));
	world_say(w, "time passes");
}

static void
fault(struct world * w, struct relay * relay)
{
	static const enum world_kind kinds[] = {KIND_link_loss, KIND_source_loss,
	    KIND_server_restart, KIND_failover, KIND_lease, KIND_crash, KIND_freeze, KIND_freeze,
	    KIND_stop, KIND_block, KIND_mute, KIND_jump, KIND_pause, KIND_discard,
	    KIND_exchange_gone, KIND_forbidden, KIND_queue_silent, KIND_many_silent,
	    KIND_queue_refuses, KIND_unroutable};
	enum world_kind kind = kinds[below(w, sizeof(kinds) / sizeof(kinds[0]))];

	if (!has(w, kind))
		return;
	switch (kind) {
	case KIND_link_loss:
		lose_link(w, relay);
		break;
	case KIND_source_loss:
		if (!relay->frozen)
			session_lost(w, relay);
		break;
	case KIND_server_restart:
		happened(w, EVENT_server_restarted);
		world_say(w, "the database restarts");
		end_sessions(w);
		writers_abort_all(w);
		break;
	case KIND_failover:
		end_sessions(w);
		database_fail_over(w);
		break;
	case KIND_lease:
		if (relay->lease > w->now && relay->lease != CLOCK_NEVER) {
			happened(w, EVENT_lease_ran_out);
			w->now = relay->lease;
		}
		break;
	case KIND_crash:
		crash(w, relay);
		break;
	case KIND_freeze:
		if (relay->frozen)
			go_on(w, relay);
		else
			freeze(w, relay);
		break;
	case KIND_stop:
		if (!relay->frozen && !relay->stopping && one_in(w, 3)) {
			world_say(w, "relay %u is told to stop", relay->number);
			relay->stopping = true;
			core_stop(relay->core);
		}
		break;
	case KIND_block:
		block(w, relay);
		break;
	case KIND_mute:
		if (relay->connections[CORE_MAIN].up) {
			happened(w, EVENT_link_mute);
			relay->connections[one_in(w, 2)].mute = true;
		}
		break;
	case KIND_discard:
		discards_change(w);
		break;
	case KIND_pause:
		pauses_change(w);
		break;
	case KIND_jump:
		jump(w);
		break;
	case KIND_many_silent:
		broker_lose_node(w);
		break;
	default:
		broker_change(w);
		break;
	}
}

/* ---- what comes back by itself ---- */

static void
mend_link(struct world * w, struct relay * relay, enum core_link link)
{
	struct connection * c = &relay->connections[link];
	bool wanted = relay->session.state == SESSION_LEADING && w->now < relay->lease &&
	    (link == CORE_MAIN || core_wants(relay->core, link));

	if (wanted && !c->up) {
		broker_up(w, relay, link);
	} else if (!wanted && c->up && link == CORE_SUSPECTS) {
		happened(w, EVENT_suspects_closed_unwanted);
		broker_lost(w, relay, link);
		core_on_link_down(relay->core, w->now, link);
	}
	if (c->blocked) {
		c->blocked = false;
		c->since = w->now;
		core_on_blocked(relay->core, w->now, link, false);
	}
	if (c->full) {
		c->full = false;
		core_on_link_full(relay->core, link, false);
	}
	if (w->calm)
		c->mute = false;
}

void
chaos_mend(struct world * w, struct relay * relay)
{
	if (relay->frozen)
		return;
	if (relay->finished) {
		happened(w, EVENT_stopped_midway);
		relay_end(w, relay);
		relay_start(w, relay);
	}
	session_connect(w, relay);
	if (w->calm || !one_in(w, 3))
		mend_link(w, relay, CORE_MAIN);
	if (w->calm || !one_in(w, 3))
		mend_link(w, relay, CORE_SUSPECTS);
}

/* ---- a turn ---- */

static void
pass_time(struct world * w, struct relay * relay)
{
	clock_ns deadline = core_deadline(relay->core);

	if (one_in(w, 3) && deadline > w->now && deadline < w->now + CLOCK_S(6))
		w->now = deadline;
	else
		w->now += below(w, CLOCK_MS(2));
}

static void
happen(struct world * w, struct relay * relay)
{
	enum core_link link = one_in(w, 3) ? CORE_SUSPECTS : CORE_MAIN;

	switch (below(w, 17)) {
	case 0:
	case 1:
		writers_write(w);
		break;
	case 2:
		writers_end_some(w);
		break;
	case 3:
	case 4:
	case 5:
		session_execute(w, relay);
		break;
	case 6:
	case 7:
	case 8:
		if (!relay->frozen)
			session_answer(w, relay);
		break;
	case 9:
	case 10:
		broker_process(w, &relay->connections[link], 1 + below(w, 8));
		break;
	case 11:
	case 12:
	case 13:
		if (!relay->frozen)
			broker_settle(w, relay, link);
		break;
	case 14:
		pass_time(w, relay);
		break;
	case 15:
		if (!relay->frozen)
			session_tend(w, relay);
		break;
	case 16:
		if (one_in(w, 2))
			chaos_mend(w, relay);
		else if (has(w, KIND_failover) && one_in(w, 2))
			database_replicate(w);
		else if (has(w, KIND_person) && one_in(w, 2))
			person_acts(w);
		break;
	}
}

void
chaos_turn(struct world * w, uint32_t fault_rate)
{
	struct relay * relay = &w->relays[below(w, w->relay_count)];

	if (relay->finished) {
		chaos_mend(w, relay);
		return;
	}
	if (relay->frozen && one_in(w, 50))
		go_on(w, relay);
	for (uint32_t n = 1 + below(w, TURN_MAX); n > 0; n--)
		happen(w, relay);
	if (one_in(w, fault_rate))
		fault(w, relay);
	relay_act(w, relay);
}
