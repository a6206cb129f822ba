#include "world.h"

/* What must hold, seen from outside the core. */

static struct world_row *
row_of(struct world * w, const struct core_action * action)
{
	int64_t id = action->publish.message->id;

	if (id < 1 || id > w->row_count)
		world_broken(w, "P", "id %d does not exist", (int)id);
	return (&w->rows[id - 1]);
}

void
promise_at_publish(struct world * w, const struct core_action * action)
{
	struct world_row * row = row_of(w, action);
	int id = (int)action->publish.message->id;
	uint32_t out = row->out ? 0 : 1;

	if (row->commit == 0 || !row->handed)
		world_broken(w, "P", "row %d was never fetched", id);
	if (!w->link_up || !w->source_up || w->blocked || w->full || w->stopping)
		world_broken(w, "contract", "row %d published at the wrong time", id);
	if (w->now >= w->lease)
		world_broken(w, "O", "row %d published after the lease", id);
	if (row->ticket != 0 || row->settled || database_covers(&w->recorded, w, (uint32_t)id - 1))
		world_broken(w, "D", "row %d published without need", id);
	if (action->publish.again != row->out)
		world_broken(w, "H", "row %d: again is %d", id, action->publish.again);
	for (uint32_t n = 0; n < w->row_count; n++) {
		out += w->rows[n].out;
		if (!w->options.pipelined && row->key != 0 && w->rows[n].key == row->key &&
		    w->rows[n].ticket != 0)
			world_broken(w, "O", "rows %u and %d of key %u are both unconfirmed", n + 1,
			    id, (unsigned int)row->key);
	}
	if (out > w->options.window)
		world_broken(w, "D", "%u published and not recorded, window %u", out,
		    w->options.window);
	if (out == w->options.window)
		happened(w, EVENT_window_full);
}

void
promise_at_delivery(struct world * w, uint32_t row)
{
	uint64_t key = w->rows[row].key;

	if (w->rows[row].deliveries > 0 || key == 0 || (w->options.pipelined && w->refusals))
		return;
	for (uint32_t n = 0; n < row; n++) {
		if (w->rows[n].key == key && w->rows[n].commit != 0 && w->rows[n].deliveries == 0)
			world_broken(w, "O", "row %u of key %u delivered before row %u", row + 1,
			    (unsigned int)key, n + 1);
	}
}

void
promise_at_mark(struct world * w, const struct world_position * mark,
    const struct core_action * action)
{
	uint32_t newly = 0;
	int64_t max_id = w->max_id;

	for (uint32_t n = 0; n < w->row_count; n++) {
		if (database_covers(&w->recorded, w, n) && !database_covers(mark, w, n))
			world_broken(w, "D", "the mark goes back behind row %u", n + 1);
		if (!database_covers(mark, w, n) || database_covers(&w->recorded, w, n))
			continue;
		if (!w->rows[n].confirmed || !w->rows[n].settled)
			world_broken(w, "L", "row %u is marked and was not confirmed", n + 1);
		newly++;
		if (n + 1 > max_id)
			max_id = n + 1;
	}
	if (newly != action->record.messages || newly == 0)
		world_broken(w, "H", "the mark counts %u messages and covers %u",
		    (unsigned int)action->record.messages, newly);
	if (action->record.max_id > max_id ||
	    (max_id > w->max_id && action->record.max_id != max_id))
		world_broken(w, "L", "the mark's greatest id is %d, not %d",
		    (int)action->record.max_id, (int)max_id);
}

static bool
may_go(const struct world * w, uint32_t row)
{
	const struct world_row * r = &w->rows[row];

	if (!r->handed || r->settled || r->refused || r->ticket != 0)
		return (false);
	for (uint32_t n = 0; r->key != 0 && !w->options.pipelined && n < row; n++) {
		if (w->rows[n].key == r->key && w->rows[n].handed && !w->rows[n].settled)
			return (false);
	}
	return (true);
}

void
promise_at_rest(struct world * w)
{
	uint32_t out = 0;
	uint32_t in_flight = 0;

	if (!w->link_up || !w->source_up || w->blocked || w->full || w->stopping ||
	    w->now >= w->lease)
		return;
	for (uint32_t n = 0; n < w->row_count; n++) {
		out += w->rows[n].out;
		in_flight += w->rows[n].ticket != 0;
	}
	if (out >= w->options.window || in_flight >= w->options.batch)
		return;
	for (uint32_t n = 0; n < w->row_count; n++) {
		if (may_go(w, n))
			world_broken(w, "S", "row %u could be published, and the core rests",
			    n + 1);
	}
}

void
promise_at_end(struct world * w)
{
	uint64_t repeated = 0;

	for (uint32_t n = 0; n < w->row_count; n++) {
		const struct world_row * row = &w->rows[n];

		if (row->commit != 0 && (row->deliveries == 0 || !row->confirmed))
			world_broken(w, "L", "row %u never arrived", n + 1);
		if (row->commit != 0 && !database_covers(&w->recorded, w, n))
			world_broken(w, "V", "row %u is not marked", n + 1);
		if (row->commit == 0 && row->deliveries > 0)
			world_broken(w, "P", "row %u rolled back and arrived", n + 1);
		if (row->deliveries > 1)
			repeated += row->deliveries - 1;
	}
	if (repeated > (uint64_t)w->options.window * w->deaths + w->delivered_nacks)
		world_broken(w, "D", "%u messages repeated, %u deaths, window %u",
		    (unsigned int)repeated, w->deaths, w->options.window);
}
