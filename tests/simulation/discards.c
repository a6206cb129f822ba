#include <string.h>

#include "world.h"

/*
 * Orders to discard stand in the database, and a relay reads them as it reads what
 * is paused.
 */

void
discards_change(struct world * w)
{
	uint32_t e = below(w, WORLD_EXCHANGES);
	int64_t * up_to = &w->database.discard[e];

	*up_to = *up_to == 0 ? w->database.sequence : 0;
	happened(w, *up_to == 0 ? EVENT_discard_taken_back : EVENT_discard_ordered);
	world_say(w, "exchange %u: discard up to id %d", e, (int)*up_to);
}

void
discards_end(struct world * w)
{
	memset(w->database.discard, 0, sizeof(w->database.discard));
}

static void
tell(struct world * w, struct relay * relay)
{
	struct discard list[WORLD_EXCHANGES];
	size_t count = 0;

	memcpy(relay->discard, w->database.discard, sizeof(relay->discard));
	for (uint32_t e = 0; e < WORLD_EXCHANGES; e++) {
		if (relay->discard[e] != 0)
			list[count++] = (struct discard){.exchange = relay_exchange_name(e),
			    .type = BYTES_NONE,
			    .reason = bytes_from("discarded"),
			    .created_before_s = INT64_MAX,
			    .max_id = relay->discard[e]};
	}
	for (uint32_t n = 0; n < w->row_count; n++)
		w->rows[n].to_discard |= w->rows[n].id <= relay->discard[w->rows[n].exchange];
	world_say(w, "relay %u learns what is to be discarded", relay->number);
	core_on_discards(relay->core, list, count);
}

void
discards_begin(struct world * w, struct relay * relay)
{
	memset(relay->discard, 0, sizeof(relay->discard));
	discards_learn(w, relay);
}

void
discards_learn(struct world * w, struct relay * relay)
{
	if (memcmp(w->database.discard, relay->discard, sizeof(relay->discard)) != 0)
		tell(w, relay);
}
