#include <assert.h>

#include "core/state.h"

/*
 * What has happened, and what it makes of the rows; core.c looks at the state
 * afterwards and decides what to do.
 */

/* ---- the source ---- */

void
core_on_source_up(struct core * core, clock_ns now)
{
	core_on_source_down(core, now);
	core->source_up = true;
}

void
core_on_source_down(struct core * core, clock_ns now)
{
	(void)now;
	rows_forget(&core->rows);
	for (int link = 0; link < CORE_LINKS; link++) {
		struct core_peer * peer = &core->links[link];

		ready_clear(&core->ready[link][READY_NEW]);
		ready_clear(&core->ready[link][READY_AGAIN]);
		peer->in_flight = 0;
		peer->front = peer->serial;
		for (int stripe = 0; stripe < MESSAGE_STRIPES; stripe++)
			peer->stripes[stripe].in_flight = 0;
		peer->oldest = peer->newest = ROW_NONE;
	}
	keys_clear(&core->chains);
	keys_clear(&core->held);
	lanes_clear(&core->lanes);
	discards_clear(&core->discards);
	core->limit = CORE_SUSPECTS_MAX;
	core->answered = 0;
	core->haste = 0;
	core->counts.unrecorded = 0;
	core->source_up = false;
	core->paused = false;
	core->fetching = false;
	core->source_empty = false;
	core->answer_empty = false;
	core->marking = false;
	core->search.under_way = false;
	core->search.missed = false;
	core->search.all_at = INT64_MIN;
	core->search.due_at = CLOCK_NEVER;
	disturb(core);
}

static void
take_fresh(struct core * core, clock_ns now, const struct message * message, uint64_t interval)
{
	uint32_t place = rows_add(&core->rows, message, interval);

	if (!core->options.pipelined)
		rows_at(&core->rows, place)->key = message->key;
	if (policy_discard(core, now, place))
		return;
	if (rows_at(&core->rows, place)->key == 0) {
		make_ready(core, place);
		return;
	}
	if (message->held || order_is_held(core, message->key) ||
	    order_is_suspected(core, message->key))
		policy_behind(core, now, place);
	else
		order_join(core, place);
}

void
core_on_fetched(struct core * core, clock_ns now, struct batch * batch, uint64_t interval,
    bool exhausted)
{
	size_t count = batch == NULL ? 0 : batch->count;

	assert(core->fetching && count <= core->options.batch);
	for (size_t n = 0; n < count; n++)
		take_fresh(core, now, batch->messages[n], interval);
	if (exhausted)
		rows_end_interval(&core->rows, interval);
	core->fetching = false;
	core->source_empty = exhausted;
	/* Behind the end of an interval that was open before there may be more. */
	core->answer_empty = exhausted && count == 0 && core->fetching_new;
	if (core->last.fetching && core->answer_empty)
		core->last.fetched = true;
	core->last.fetching = false;
	if (count > 0)
		disturb(core);
	else if (core->fetching_waits)
		searches_hasten(core, now);
	core->counts.fetched += count;
}

/* ---- the links ---- */

void
core_on_link_up(struct core * core, clock_ns now, enum core_link link)
{
	struct core_peer * peer = &core->links[link];

	peer->connected = now;
	for (int stripe = 0; stripe < MESSAGE_STRIPES; stripe++)
		peer->stripes[stripe].passed = peer->serial;
	peer->up = true;
	peer->blocked = false;
	peer->full = false;
}

void
core_on_link_down(struct core * core, clock_ns now, enum core_link link)
{
	(void)now;
	flight_lost(core, link);
}

void
core_on_channel_closed(struct core * core, clock_ns now, enum core_link link, struct bytes exchange,
    struct bytes reason)
{
	struct text * text = text_for_people(reason);
	enum core_link next = link;

	if (!bytes_present(exchange) || !policy_exchange_closed(core, now, link, exchange, text)) {
		policy_isolate(core, now, link, text);
		next = CORE_SUSPECTS;
	}
	text_unref(text);
	flight_interrupted(core, now, link, next);
}

void
core_on_heard(struct core * core, clock_ns now, enum core_link link)
{
	core->links[link].heard = now;
}

void
core_on_blocked(struct core * core, clock_ns now, enum core_link link, bool blocked)
{
	core->links[link].blocked = blocked;
	core->links[link].unblocked = now;
}

void
core_on_link_full(struct core * core, enum core_link link, bool full)
{
	core->links[link].full = full;
}

/* As if it had never been published; nobody knows the ticket. */
static void
on_not_taken(struct core * core, uint32_t place)
{
	struct row * row = rows_at(&core->rows, place);

	core->counts.published--;
	if (row->publications > 1)
		core->counts.republished--;
	else
		core->counts.unrecorded--;
	if (row->publications < UINT8_MAX)
		row->publications--;
	make_ready(core, place);
}

/* The broker refused it, or no link can carry it. */
static void
on_refused(struct core * core, clock_ns now, uint32_t place, enum core_outcome outcome,
    struct bytes reason)
{
	struct text * text = text_for_people(reason);

	if (outcome == CORE_NACKED)
		core->counts.nacked++;
	else if (outcome == CORE_RETURNED)
		core->counts.returned++;
	else
		core->counts.unfit++;
	policy_refused(core, now, place, outcome == CORE_UNFIT, text);
	text_unref(text);
}

/* Beyond the year 2255 nanoseconds do not fit; nobody waits for so long. */
#define CREATED_MAX_S INT64_C(9000000000)

static void
measure(struct core * core, clock_ns now, clock_ns since, const struct message * message)
{
	histogram_add(&core->latencies.confirm, now - since);
	if (message->origin == MESSAGE_FRESH && message->timestamp_s >= 0 &&
	    message->timestamp_s < CREATED_MAX_S)
		histogram_add(&core->latencies.commit,
		    now + core->wall_offset - CLOCK_S(message->timestamp_s) -
			CLOCK_US(message->timestamp_us));
}

void
core_on_settled(struct core * core, clock_ns now, uint64_t ticket, enum core_outcome outcome,
    struct bytes reason)
{
	uint32_t place = (uint32_t)ticket & TICKET_PLACE;
	const struct row * row;
	clock_ns since;

	if (place >= core->rows.places)
		return;
	row = rows_at(&core->rows, place);
	if (row->state != ROW_IN_FLIGHT || ticket_of(row, place) != ticket)
		return;
	since = row->since;
	if (outcome != CORE_NOT_TAKEN && outcome != CORE_UNFIT)
		flight_answered(core, now, row);
	else
		flight_undo(core, row);
	flight_end(core, place);
	if (outcome == CORE_NOT_TAKEN) {
		on_not_taken(core, place);
		return;
	}
	if (outcome != CORE_UNFIT)
		policy_answered(core, place);
	if (outcome == CORE_CONFIRMED) {
		core->counts.confirmed++;
		measure(core, now, since, row->message);
		policy_delivered(core, place);
	} else
		on_refused(core, now, place, outcome, reason);
}
