#include "world.h"

/*
 * One relay: the core, and around it what the daemon is in the real one.
 */

static const char * const exchange_names[WORLD_EXCHANGES] = {"", "e1", "e2", "e3"};
static const char * const queue_names[WORLD_QUEUES] = {"q0", "q1", "q2"};

struct bytes
relay_exchange_name(uint32_t exchange)
{
	return (bytes_from(exchange_names[exchange]));
}

struct bytes
relay_queue_name(uint32_t queue)
{
	return (bytes_from(queue_names[queue]));
}

void
relay_knows_lane(struct relay * relay, const struct lane * lane)
{
	for (uint32_t e = 0; e < WORLD_EXCHANGES; e++) {
		if (!bytes_equal(lane->exchange, relay_exchange_name(e)))
			continue;
		for (uint32_t q = 0; q < WORLD_QUEUES; q++) {
			if (bytes_present(lane->routing_key) &&
			    bytes_equal(lane->routing_key, relay_queue_name(q)))
				relay->lane_known[e][q] = true;
		}
		if (!bytes_present(lane->routing_key))
			relay->lane_known[e][WORLD_QUEUES] = true;
	}
}

void
relay_start(struct world * w, struct relay * relay)
{
	relay->core = core_new(&w->options);
	if (relay->core == NULL)
		world_broken(w, "simulation", "out of memory");
	relay->frozen = relay->stopping = relay->draining = relay->finished = false;
	relay->lease = INT64_MIN;
	relay->former_ticket = 0;
	relay->unnamed_close = false;
	for (uint32_t e = 0; e < WORLD_EXCHANGES; e++) {
		for (uint32_t q = 0; q <= WORLD_QUEUES; q++)
			relay->lane_known[e][q] = false;
	}
	relay->expected = (struct core_counts){0};
	world_say(w, "relay %u starts", relay->number);
}

void
relay_end(struct world * w, struct relay * relay)
{
	core_free(relay->core);
	relay->core = NULL;
	broker_lost(w, relay, CORE_MAIN);
	broker_lost(w, relay, CORE_SUSPECTS);
	session_lost(w, relay);
}

/* A process that was stopped and goes on sees to this first. */
static void
check_lease(struct world * w, struct relay * relay)
{
	if (w->now < relay->lease || (!w->calm && one_in(w, 2)))
		return;
	for (enum core_link link = 0; link < CORE_LINKS; link++) {
		if (!relay->connections[link].up)
			continue;
		happened(w, EVENT_link_cut_by_lease);
		broker_lost(w, relay, link);
		core_on_link_down(relay->core, w->now, link);
	}
}

static void
reset(struct world * w, struct relay * relay, enum core_link link)
{
	happened(w, link == CORE_MAIN ? EVENT_core_reset_main : EVENT_core_reset_suspects);
	world_say(w, "relay %u resets a link", relay->number);
	promise_at_reset(w, relay, link);
	broker_reset(w, relay, link);
}

void
relay_act(struct world * w, struct relay * relay)
{
	struct core_action action;

	if (relay->frozen || relay->finished)
		return;
	check_lease(w, relay);
	for (int count = 0;; count++) {
		if (count > 20 * WORLD_ROWS)
			world_broken(w, "V", "the core never rests");
		switch (core_next(relay->core, w->now, &action)) {
		case CORE_NOTHING:
			promise_at_rest(w, relay);
			return;
		case CORE_FETCH:
			session_fetch(w, relay, &action);
			break;
		case CORE_FETCH_DELAYED:
			session_search(w, relay, &action);
			break;
		case CORE_PUBLISH:
			broker_publish(w, relay, &action);
			break;
		case CORE_RECORD:
			session_record(w, relay, &action);
			break;
		case CORE_RESET:
			reset(w, relay, action.reset.link);
			break;
		case CORE_FINISHED:
			world_say(w, "relay %u has finished", relay->number);
			promise_nobody_can_go(w, relay);
			relay->finished = true;
			return;
		}
	}
}
