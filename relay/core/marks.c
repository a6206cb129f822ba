#include <assert.h>

#include "core/state.h"

/*
 * A mark records the resolved run, and in the same transaction the moves of the
 * rows put aside within it, and of those of the pool.  It takes MOVES_MAX moves
 * at most: half of them are kept for either side while both have more, so
 * neither waits for the other (V).
 *
 * The moves stay where they are until the mark is committed: nothing is added
 * in front of them meanwhile.
 */

/* Half the pool is worth a mark at once. */
#define POOL_MARK_SHARE 2

bool
marks_due(const struct core * core, clock_ns now)
{
	if (!has_unmarked(core))
		return (false);
	if (now >= core->mark_due || core->rows.resolved - core->rows.recorded >= core->mark_at ||
	    core->rows.pool.moves.count > core->rows.pool.max / POOL_MARK_SHARE)
		return (true);
	/* Nothing more will come for this mark to wait for. */
	return (in_flight(core) == 0 &&
	    ((core->stopping && flight_next(core, now) == ROW_NONE) ||
		(core->draining && !is_ready(core, CORE_MAIN) && !is_ready(core, CORE_SUSPECTS))));
}

static uint32_t
least(uint32_t a, uint32_t b)
{
	return (a < b ? a : b);
}

/* Describe the first ${count} moves of the list; returns the place after them. */
static uint32_t
describe(struct core * core, const struct row_list * list, uint32_t count, struct move * moves)
{
	uint32_t place = list->first;

	for (uint32_t n = 0; n < count; n++) {
		const struct row * row = rows_at(&core->rows, place);

		moves[n] = (struct move){
		    .id = row->id,
		    .delayed = rows_in_pool(&core->rows, place),
		    .paused = row->lane != LANE_NONE && core->lanes.breaker[row->lane].paused,
		    .fate = row->fate,
		    .hold = row->fate == FATE_DEAD && core->options.retry.hold,
		    .attempts = row->attempts,
		    .delay = row->fate == FATE_RETRY && row->due > core->mark_begun ?
			row->due - core->mark_begun :
			0,
		    .reason = text_bytes(row->reason),
		};
		place = row->newer;
	}
	return (place);
}

void
marks_begin(struct core * core, clock_ns now, struct core_action * action)
{
	struct rows * rows = &core->rows;
	uint32_t delayed = least(rows->pool.moves.count,
	    core->moves_max - least(rows->moves.count, core->moves_max / 2));
	uint32_t fresh = least(rows->moves.count, core->moves_max - delayed);
	uint64_t end = rows->resolved;
	uint32_t next;

	core->marking = true;
	core->mark_begun = now;
	core->mark_due = later(now, core->options.record_interval);
	core->marking_fresh = fresh;
	core->marking_delayed = delayed;
	describe(core, &rows->pool.moves, delayed, core->moves);
	next = describe(core, &rows->moves, fresh, core->moves + delayed);
	if (fresh < rows->moves.count)
		end = rows_sequence(rows, next);
	rows_mark(rows, end);

	action->type = CORE_RECORD;
	action->record.position = (struct core_position){.interval = 0};
	if (end > rows->recorded) {
		const struct row * last = rows_at(rows, rows_place(rows, end - 1));

		action->record.position = (struct core_position){
		    .interval = last->interval,
		    .last_id = last->id,
		    .exhausted = last->ends_interval,
		};
	}
	action->record.messages = end - rows->recorded;
	action->record.max_id = rows->marking_max_id;
	action->record.moves = core->moves;
	action->record.move_count = fresh + delayed;
}

/* What the database knows now, and whom it may have made due. */
static void
take_note(struct core * core, clock_ns now, uint32_t place)
{
	struct row * row = rows_at(&core->rows, place);
	bool goes_on = row->fate == FATE_DEAD && !core->options.retry.hold;

	if (row->key != 0 && goes_on)
		order_go_on(core, place);
	else if (row->key != 0 && row->fate != FATE_DELIVERED)
		order_let_go(core, place);
	if (row->fate == FATE_RETRY)
		core->search.due_at = clock_min(core->search.due_at,
		    later(now, row->due > core->mark_begun ? row->due - core->mark_begun : 0));
	else if (row->key != 0 && row->lane == LANE_NONE)
		core->search.due_at = now;
	if (row->lane != LANE_NONE)
		lanes_refer_no_more(&core->lanes, row->lane);
	if (row->fate == FATE_DEAD)
		core->counts.dead++;
	else if (row->fate == FATE_DISCARDED)
		core->counts.discarded++;
	else if (!rows_in_pool(&core->rows, place))
		core->counts.delayed++;
}

void
core_on_recorded(struct core * core, clock_ns now)
{
	struct rows * rows = &core->rows;
	uint32_t unpublished = 0;
	uint64_t count;

	assert(core->marking);
	core->marking = false;
	for (; core->marking_delayed > 0; core->marking_delayed--) {
		uint32_t place = rows_take_move(rows, &rows->pool.moves);

		take_note(core, now, place);
		policy_leave_pool(core, place);
	}
	for (; core->marking_fresh > 0; core->marking_fresh--) {
		uint32_t place = rows_take_move(rows, &rows->moves);
		struct row * row = rows_at(rows, place);

		take_note(core, now, place);
		text_unref(row->reason);
		unpublished += row->publications == 0;
	}
	count = rows_marked(rows);
	core->counts.unrecorded -= (uint32_t)count - unpublished;
	core->counts.recorded += count;
	if (core->search.missed) {
		core->search.missed = false;
		core->search.all_at = now;
	}
}
