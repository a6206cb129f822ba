#include <string.h>

#include "world.h"

/*
 * What a person has paused stands in the database.  The source of a relay reads
 * it when it begins to lead, and again and again.
 */

void
pauses_change(struct world * w)
{
	struct paused * paused = &w->database.paused;
	uint32_t e = below(w, WORLD_EXCHANGES);

	if (one_in(w, 3)) {
		paused->all = !paused->all;
		happened(w, paused->all ? EVENT_paused_all : EVENT_resumed_all);
		world_say(w, "everything is %s", paused->all ? "paused" : "resumed");
		return;
	}
	paused->exchange[e] = !paused->exchange[e];
	happened(w, paused->exchange[e] ? EVENT_paused_exchange : EVENT_resumed_exchange);
	world_say(w, "exchange %u is %s", e, paused->exchange[e] ? "paused" : "resumed");
}

void
pauses_end(struct world * w, bool exchanges)
{
	w->database.paused.all = false;
	if (exchanges)
		w->database.paused = (struct paused){false};
}

static void
tell(struct world * w, struct relay * relay)
{
	struct paused * paused = &relay->paused;
	struct lane lanes[WORLD_EXCHANGES];
	struct pause pause = {.lanes = lanes};
	struct core_counts counts;

	core_count(relay->core, &counts);
	if (counts.in_flight > 0 && w->database.paused.all)
		happened(w, EVENT_paused_while_in_flight);
	*paused = w->database.paused;
	pause.all = paused->all;
	for (uint32_t e = 0; e < WORLD_EXCHANGES; e++) {
		if (!paused->exchange[e])
			continue;
		lanes[pause.lane_count] = (struct lane){.exchange = relay_exchange_name(e),
		    .routing_key = BYTES_NONE,
		    .reason = bytes_from("paused")};
		relay_knows_lane(relay, &lanes[pause.lane_count++]);
	}
	world_say(w, "relay %u learns what is paused", relay->number);
	if (!core_on_paused(relay->core, w->now, &pause))
		world_broken(w, "contract", "no room for %zu pauses", pause.lane_count);
}

void
pauses_begin(struct world * w, struct relay * relay)
{
	static const struct paused nothing;

	relay->paused = nothing;
	if (memcmp(&w->database.paused, &nothing, sizeof(nothing)) == 0)
		return;
	happened(w, EVENT_pause_learned_at_start);
	tell(w, relay);
}

void
pauses_learn(struct world * w, struct relay * relay)
{
	if (memcmp(&w->database.paused, &relay->paused, sizeof(relay->paused)) == 0)
		return;
	happened(w,
	    relay->paused.all && !w->database.paused.all ? EVENT_pause_over :
							   EVENT_pause_learned_later);
	tell(w, relay);
}
