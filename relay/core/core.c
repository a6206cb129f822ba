#include "core/core.h"

#include <assert.h>
#include <stdlib.h>

#include "core/state.h"

/*
 * Every decision of the relay.  Rows come in the source's order and stand in
 * a ring; in strict mode a row joins its key's chain as it comes, and only
 * the first row of a chain may be published (O).  Of all rows that may, the
 * oldest always goes first.
 *
 * That last rule is more than neatness.  The window gate (D) counts every row
 * that was published and is not recorded, so younger rows could fill the
 * window while an older one waits for its key, and then neither could the old
 * one be published nor a mark move over it.  With oldest first this cannot
 * happen: whenever a younger row was published, the old one's predecessor was
 * published too, lies before it, and leaves the window with its mark (V).
 *
 * A refused message keeps its key and its place; all others go on as far as
 * the window lets them (S).
 *
 * Every gate is on publishing, not on confirms: what was sent counts, what
 * the broker thinks of it comes later or never.
 */

/*
 * The window bounds how many messages may have to be sent twice; this share of
 * it is in flight, the rest is confirmed and waits for older rows or for its
 * mark.  More in flight than the pipe holds only makes confirms late, and
 * that costs rate: rows of one key go one a confirm, and a chain of them that
 * takes longer than the window lasts stalls everybody.  With 10,000 random
 * keys a quarter lost 5 to 20% that way, a fifth nothing.  It also costs
 * memory, since a message is kept until it is settled.
 */
#define IN_FLIGHT_SHARE 5

/* This share of the window, resolved, is worth a mark at once. */
#define MARK_SHARE 4

static uint64_t
greater(uint64_t a, uint64_t b)
{
	return (a > b ? a : b);
}

uint32_t
core_in_flight_max(const struct core_options * options)
{
	uint64_t max = greater(options->window / IN_FLIGHT_SHARE, 2 * (uint64_t)options->batch);

	return (max > options->window ? options->window : (uint32_t)max);
}

struct core *
core_new(const struct core_options * options)
{
	struct core * core = calloc(1, sizeof(*core));
	uint64_t unresolved_max;

	if (core == NULL)
		return (NULL);
	assert(options->batch >= 1 && options->batch <= options->window);
	core->options = *options;
	core->in_flight_max = core_in_flight_max(options);
	core->waiting_max = core->in_flight_max - core->in_flight_max / 4;
	core->mark_at = (uint32_t)greater(options->window / MARK_SHARE, 1);
	core->lease = INT64_MIN;
	core->mark_due = INT64_MIN;
	backoff_init(&core->backoff, options->retry.initial, options->retry.multiplier,
	    options->retry.max, options->seed);

	/* Rows that wait, a batch more, and those in flight are unresolved; those
	 * published before are at most the window. */
	unresolved_max = (uint64_t)core->waiting_max + options->batch + core->in_flight_max;
	if (rows_init(&core->rows,
		(uint64_t)core->waiting_max + options->batch + options->window) ||
	    ready_init(&core->ready, (uint32_t)(core->rows.mask + 1)) ||
	    retries_init(&core->retries, (uint32_t)unresolved_max) ||
	    keys_init(&core->keys, options->pipelined ? 0 : unresolved_max)) {
		core_free(core);
		return (NULL);
	}
	return (core);
}

void
core_free(struct core * core)
{
	if (core == NULL)
		return;
	rows_free(&core->rows);
	ready_free(&core->ready);
	retries_free(&core->retries);
	keys_free(&core->keys);
	free(core);
}

/* ---- what may be done now ---- */

static bool
is_finished(const struct core * core)
{
	if (core->stopping)
		return (core->counts.in_flight == 0 && !mark_under_way(core) &&
		    unmarked(core) == 0);
	return (core->drained);
}

static bool
should_fetch(const struct core * core)
{
	if (!core->source_up || core->fetching || core->stopping)
		return (false);
	if (core->ready.count >= core->options.batch ||
	    core->rows.unresolved - core->counts.in_flight > core->waiting_max ||
	    core->rows.bytes >= core->options.max_bytes)
		return (false);
	/* What is to be drained was all fetched: ask again for what came since
	 * only once that is through, or hangs on refused messages. */
	if (core->draining && core->answer_empty && held(core) > 0)
		return (core->counts.in_flight == 0 && core->retries.count > 0);
	return (true);
}

static void
begin_fetch(struct core * core, struct core_action * action)
{
	bool last = core->draining && held(core) == 0;

	core->fetching = true;
	core->fetching_new = core->source_empty;
	core->fetching_last = last;
	action->type = CORE_FETCH;
	action->fetch.rows = core->options.batch;
	action->fetch.bytes = core->options.max_bytes - core->rows.bytes;
	action->fetch.wait = core->draining ? core->answer_empty && !last : core->source_empty;
}

static bool
should_mark(const struct core * core, clock_ns now)
{
	uint64_t count = unmarked(core);

	if (count == 0)
		return (false);
	if (count >= core->mark_at || now >= core->mark_due)
		return (true);
	/* Nothing more will come for this mark to wait for. */
	return (core->counts.in_flight == 0 &&
	    (core->stopping || (core->draining && core->ready.count == 0)));
}

static void
begin_mark(struct core * core, clock_ns now, struct core_action * action)
{
	action->type = CORE_RECORD;
	rows_mark(&core->rows, action);
	core->mark_due = later(now, core->options.record_interval);
}

/* The place of the row to publish now, or READY_NONE. */
static uint32_t
next_to_publish(const struct core * core, clock_ns now)
{
	uint32_t place;

	if (core->ready.count == 0 || !core->link_up || !core->source_up || core->full ||
	    core->blocked || core->stopping || now >= core->lease ||
	    core->counts.in_flight >= core->in_flight_max)
		return (READY_NONE);
	place = ready_from(&core->ready, rows_place(&core->rows, core->rows.resolved));
	if (place == READY_NONE)
		place = ready_from(&core->ready, 0);
	if (rows_at(&core->rows, place)->publications == 0 &&
	    core->counts.unrecorded >= core->options.window)
		return (READY_NONE);
	return (place);
}

static void
begin_publish(struct core * core, uint32_t place, struct core_action * action)
{
	struct row * row = rows_at(&core->rows, place);

	ready_remove(&core->ready, place);
	row->state = ROW_IN_FLIGHT;
	core->counts.in_flight++;
	core->counts.published++;
	if (row->publications++ == 0)
		core->counts.unrecorded++;
	else
		core->counts.republished++;
	action->type = CORE_PUBLISH;
	action->publish.message = row->message;
	action->publish.ticket = rows_sequence(&core->rows, place) << TICKET_PUBLICATION_BITS |
	    (uint16_t)row->publications;
	action->publish.again = row->publications > 1;
}

enum core_action_type
core_next(struct core * core, clock_ns now, struct core_action * action)
{
	uint32_t place;

	while (now >= retries_due(&core->retries))
		make_ready(core, retries_take(&core->retries));
	if (is_finished(core))
		action->type = CORE_FINISHED;
	else if (should_fetch(core))
		begin_fetch(core, action);
	else if (should_mark(core, now))
		begin_mark(core, now, action);
	else if ((place = next_to_publish(core, now)) != READY_NONE)
		begin_publish(core, place, action);
	else
		action->type = CORE_NOTHING;
	return (action->type);
}

clock_ns
core_deadline(const struct core * core)
{
	clock_ns mark = unmarked(core) > 0 ? core->mark_due : CLOCK_NEVER;

	return (clock_min(mark, retries_due(&core->retries)));
}

/* ---- the operator ---- */

void
core_stop(struct core * core)
{
	core->stopping = true;
}

void
core_drain(struct core * core)
{
	core->draining = true;
}

void
core_lease(struct core * core, clock_ns until)
{
	core->lease = until;
}

void
core_count(const struct core * core, struct core_counts * counts)
{
	*counts = core->counts;
	counts->held_rows = (uint32_t)held(core);
	counts->bytes = core->rows.bytes;
}
