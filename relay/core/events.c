#include <assert.h>

#include "core/state.h"

/*
 * What has happened, and what it makes of the rows; core.c looks at the state
 * afterwards and decides what to do.
 *
 * What must stay true of a row in strict mode: it is in its key's chain from
 * the moment it is fetched until it is resolved, and only the first of the
 * chain is ready, in flight or refused.
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
	ready_clear(&core->ready);
	keys_clear(&core->keys);
	retries_clear(&core->retries);
	core->counts.in_flight = 0;
	core->counts.unrecorded = 0;
	core->source_up = false;
	core->fetching = false;
	core->source_empty = false;
	core->answer_empty = false;
}

void
core_on_fetched(struct core * core, clock_ns now, struct batch * batch, uint64_t interval,
    bool exhausted)
{
	size_t count = batch == NULL ? 0 : batch->count;

	(void)now;
	assert(core->fetching && count <= core->options.batch);
	for (size_t n = 0; n < count; n++) {
		const struct message * message = batch->messages[n];
		uint32_t place = rows_add(&core->rows, message, interval);
		uint32_t before = KEYS_NONE;

		if (!core->options.pipelined && message->key != 0)
			before = keys_append(&core->keys, message->key, place);
		if (before == KEYS_NONE)
			make_ready(core, place);
		else
			rows_at(&core->rows, before)->next = place;
	}
	if (exhausted)
		rows_end_interval(&core->rows, interval);
	core->fetching = false;
	core->source_empty = exhausted;
	/* Behind the end of an interval that was open before there may be more. */
	core->answer_empty = exhausted && count == 0 && core->fetching_new;
	core->drained = core->fetching_last && core->answer_empty;
	core->counts.fetched += count;
}

void
core_on_recorded(struct core * core, clock_ns now)
{
	uint64_t count;

	(void)now;
	assert(mark_under_way(core));
	count = rows_marked(&core->rows);
	core->counts.unrecorded -= (uint32_t)count;
	core->counts.recorded += count;
}

/* ---- the link ---- */

void
core_on_link_up(struct core * core, clock_ns now)
{
	(void)now;
	core->link_up = true;
	core->blocked = false;
	core->full = false;
}

void
core_on_link_down(struct core * core, clock_ns now)
{
	(void)now;
	core->link_up = false;
	for (uint64_t n = core->rows.resolved; core->counts.in_flight > 0; n++) {
		uint32_t place = rows_place(&core->rows, n);

		if (rows_at(&core->rows, place)->state != ROW_IN_FLIGHT)
			continue;
		make_ready(core, place);
		core->counts.in_flight--;
	}
}

void
core_on_blocked(struct core * core, clock_ns now, bool blocked)
{
	(void)now;
	core->blocked = blocked;
}

void
core_on_link_full(struct core * core, bool full)
{
	core->full = full;
}

/* The message is delivered: the next one of its key may go. */
static void
on_confirmed(struct core * core, struct row * row)
{
	if (!core->options.pipelined && row->message->key != 0) {
		if (row->next != ROW_NONE)
			make_ready(core, row->next);
		else
			keys_remove(&core->keys, row->message->key);
	}
	rows_resolve(&core->rows, row);
	core->counts.confirmed++;
}

/*
 * The one place that decides what becomes of a message that was not
 * delivered.  The row stays first of its key.  It also stays published, even
 * if it never went out: what is counted in the window once leaves it only
 * with its mark, or younger rows could take its place there for good.
 */
static void
on_refused(struct core * core, clock_ns now, struct row * row, uint32_t place,
    enum core_outcome outcome)
{
	clock_ns delay = core->options.retry.max;

	if (outcome != CORE_UNFIT) {
		core->backoff.failures = row->failures;
		delay = backoff_next(&core->backoff);
	}
	if (row->failures < UINT8_MAX)
		row->failures++;
	row->state = ROW_REFUSED;
	retries_add(&core->retries, place, later(now, delay));
}

/* Undo begin_publish; nobody knows the ticket, so it may be used again. */
static void
on_not_taken(struct core * core, struct row * row, uint32_t place)
{
	core->counts.published--;
	if (--row->publications == 0)
		core->counts.unrecorded--;
	else
		core->counts.republished--;
	make_ready(core, place);
}

void
core_on_settled(struct core * core, clock_ns now, uint64_t ticket, enum core_outcome outcome)
{
	uint64_t sequence = ticket >> TICKET_PUBLICATION_BITS;
	uint32_t place = rows_place(&core->rows, sequence);
	struct row * row = rows_at(&core->rows, place);

	if (sequence < core->rows.resolved || sequence >= core->rows.fetched ||
	    row->state != ROW_IN_FLIGHT || (uint16_t)row->publications != (uint16_t)ticket)
		return;
	core->counts.in_flight--;
	switch (outcome) {
	case CORE_CONFIRMED:
		on_confirmed(core, row);
		break;
	case CORE_NACKED:
		core->counts.nacked++;
		on_refused(core, now, row, place, outcome);
		break;
	case CORE_RETURNED:
		core->counts.returned++;
		on_refused(core, now, row, place, outcome);
		break;
	case CORE_UNFIT:
		core->counts.unfit++;
		on_refused(core, now, row, place, outcome);
		break;
	case CORE_NOT_TAKEN:
		on_not_taken(core, row, place);
		break;
	}
}
