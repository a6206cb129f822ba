#include <assert.h>

#include "core/state.h"

/*
 * Promise O within the core.  A key's unsettled rows stand in a chain, in the
 * order in which they came, and only the first one is ready or in flight:
 * one unsettled message a key, over ring and pool.
 *
 * A row that is put aside leaves the chain, and all behind it leave with it:
 * they line up in the database.  Until the marks with their moves are
 * committed the database does not know of them; meanwhile they are listed
 * here, and whatever comes of the key lines up behind them.  Afterwards the
 * source says so (message.held).
 *
 * A dead row that does not hold its key stays the first of its chain until it
 * is committed, and then the next one goes.
 */

void
order_join(struct core * core, uint32_t place)
{
	struct row * row = rows_at(&core->rows, place);
	uint32_t before = keys_put(&core->chains, row->key, place);

	if (before == KEYS_NONE) {
		make_ready(core, place);
		return;
	}
	rows_at(&core->rows, before)->next = place;
	row->suspected |= rows_at(&core->rows, before)->suspected;
}

bool
order_is_suspected(const struct core * core, uint64_t key)
{
	uint32_t last;

	if (core->rows.pool.count == 0)
		return (false);
	last = keys_get(&core->chains, key);
	return (last != KEYS_NONE && rows_at(&core->rows, last)->suspected);
}

void
order_go_on(struct core * core, uint32_t place)
{
	const struct row * row = rows_at(&core->rows, place);

	if (row->next == ROW_NONE)
		keys_remove(&core->chains, row->key);
	else
		make_ready(core, row->next);
}

uint32_t
order_dissolve(struct core * core, uint32_t place)
{
	const struct row * row = rows_at(&core->rows, place);

	keys_remove(&core->chains, row->key);
	return (row->next);
}

void
order_hold(struct core * core, uint32_t place)
{
	struct row * row = rows_at(&core->rows, place);

	row->next = keys_put(&core->held, row->key, place);
	row->older = ROW_NONE;
	if (row->next != KEYS_NONE)
		rows_at(&core->rows, row->next)->older = place;
}

void
order_let_go(struct core * core, uint32_t place)
{
	const struct row * row = rows_at(&core->rows, place);

	if (row->next != ROW_NONE)
		rows_at(&core->rows, row->next)->older = row->older;
	if (row->older != ROW_NONE)
		rows_at(&core->rows, row->older)->next = row->next;
	else if (row->next != ROW_NONE)
		keys_put(&core->held, row->key, row->next);
	else
		keys_remove(&core->held, row->key);
}

bool
order_is_held(const struct core * core, uint64_t key)
{
	return (core->held.count > 0 && keys_get(&core->held, key) != KEYS_NONE);
}

bool
order_is_held_before(const struct core * core, uint64_t key, int64_t id)
{
	uint32_t place = core->held.count > 0 ? keys_get(&core->held, key) : KEYS_NONE;

	while (place != KEYS_NONE && rows_at(&core->rows, place)->id >= id)
		place = rows_at(&core->rows, place)->next;
	return (place != KEYS_NONE);
}
