#include "core/rows.h"

#include <stdlib.h>

/*
 * What must stay true: recorded <= marking <= resolved <= fetched, and all
 * rows below resolved are confirmed or put aside.  So a mark only ever covers
 * an unbroken run of resolved rows (L).
 *
 * A fresh row that is put aside joins the list of moves when the run reaches
 * it, so that list is in the source's order, and a mark over a part of the run
 * makes the moves of a part of the list.
 *
 * An id is not a position: intervals interleave in id order.  Therefore the
 * greatest id is carried along with the run, and one that was confirmed but
 * never recorded does not count: after a restore, ids above it are new.
 */

static const struct row_list empty = {.first = ROW_NONE, .last = ROW_NONE};

static void
clear_pool(struct rows * rows)
{
	struct pool * pool = &rows->pool;

	*pool = (struct pool){.max = pool->max, .free = ROW_NONE, .moves = empty};
	for (uint32_t place = rows->places; place-- > rows->places - pool->max;) {
		rows->row[place] = (struct row){.state = ROW_FREE, .next = pool->free};
		pool->free = place;
	}
}

int
rows_init(struct rows * rows, uint64_t max, uint32_t pool_max)
{
	*rows = (struct rows){.moves = empty, .pool = {.max = pool_max}};
	if (max > UINT64_C(1) << 30 || pool_max > UINT32_C(1) << 30)
		return (-1);
	rows->ring = (uint32_t)max;
	rows->places = rows->ring + pool_max;
	rows->row = calloc(rows->places, sizeof(*rows->row));
	if (rows->row == NULL)
		return (-1);
	clear_pool(rows);
	return (0);
}

void
rows_free(struct rows * rows)
{
	if (rows->row != NULL)
		rows_forget(rows);
	free(rows->row);
	rows->row = NULL;
}

static void
append(struct rows * rows, struct row_list * list, uint32_t place)
{
	rows_at(rows, place)->newer = ROW_NONE;
	if (list->count++ == 0)
		list->first = place;
	else
		rows_at(rows, list->last)->newer = place;
	list->last = place;
}

uint32_t
rows_take_move(struct rows * rows, struct row_list * list)
{
	uint32_t place = list->first;

	assert(list->count > 0);
	list->first = rows_at(rows, place)->newer;
	if (--list->count == 0)
		list->last = ROW_NONE;
	return (place);
}

static void
hold(struct row * row, const struct message * message)
{
	batch_ref(message->batch);
	*row = (struct row){
	    .message = message,
	    .id = message->id,
	    .next = ROW_NONE,
	    .state = ROW_WAITING,
	    .fate = ROW_FATE_NONE,
	};
}

uint32_t
rows_add(struct rows * rows, const struct message * message, uint64_t interval)
{
	uint32_t place = rows_place(rows, rows->fetched);
	struct row * row = rows_at(rows, place);

	assert(rows_room(rows) > 0);
	hold(row, message);
	row->interval = interval;
	rows->fetched++;
	rows->unresolved++;
	rows->bytes += message_size(message);
	return (place);
}

uint32_t
rows_add_delayed(struct rows * rows, const struct message * message, uint8_t fate)
{
	uint32_t place = rows->pool.free;
	struct row * row = rows_at(rows, place);

	assert(rows->pool.count < rows->pool.max);
	rows->pool.free = row->next;
	rows->pool.count++;
	hold(row, message);
	row->fate = fate;
	rows->pool.bytes += message_size(message);
	return (place);
}

void
rows_end_interval(struct rows * rows, uint64_t interval)
{
	struct row * last;

	if (rows->fetched == rows->recorded)
		return;
	last = rows_at(rows, rows_place(rows, rows->fetched - 1));
	if (last->interval == interval)
		last->ends_interval = true;
}

static void
give_back(struct rows * rows, uint32_t place)
{
	struct row * row = rows_at(rows, place);
	struct batch * batch = row->message->batch;
	size_t size = message_size(row->message);

	if (rows_in_pool(rows, place))
		rows->pool.bytes -= size;
	else {
		rows->bytes -= size;
		rows->unresolved--;
	}
	row->message = NULL;
	batch_unref(batch);
}

static void
extend_run(struct rows * rows)
{
	for (; rows->resolved < rows->fetched; rows->resolved++) {
		uint32_t place = rows_place(rows, rows->resolved);
		const struct row * row = rows_at(rows, place);

		if (row->state < ROW_RESOLVED)
			break;
		if (row->state == ROW_ASIDE)
			append(rows, &rows->moves, place);
		if (row->id > rows->resolved_max_id)
			rows->resolved_max_id = row->id;
	}
}

void
rows_resolve(struct rows * rows, uint32_t place)
{
	give_back(rows, place);
	rows_at(rows, place)->state = ROW_RESOLVED;
	extend_run(rows);
}

void
rows_put_aside(struct rows * rows, uint32_t place, const struct row_move * move,
    struct text * reason)
{
	struct row * row = rows_at(rows, place);

	give_back(rows, place);
	row->state = ROW_ASIDE;
	row->reason = text_ref(reason);
	row->fate = move->fate;
	row->lane = move->lane;
	row->attempts = move->attempts;
	row->due = move->due;
	if (rows_in_pool(rows, place))
		append(rows, &rows->pool.moves, place);
	else
		extend_run(rows);
}

void
rows_release(struct rows * rows, uint32_t place)
{
	struct row * row = rows_at(rows, place);

	if (row->state == ROW_ASIDE)
		text_unref(row->reason);
	else
		give_back(rows, place);
	row->state = ROW_FREE;
	row->next = rows->pool.free;
	rows->pool.free = place;
	rows->pool.count--;
}

void
rows_mark(struct rows * rows, uint64_t end)
{
	assert(rows->marking == rows->recorded && end <= rows->resolved);
	rows->marking = end;
	if (end == rows->resolved) {
		rows->marking_max_id = rows->resolved_max_id;
		return;
	}
	for (uint64_t n = rows->recorded; n < end; n++) {
		int64_t id = rows_at(rows, rows_place(rows, n))->id;

		if (id > rows->marking_max_id)
			rows->marking_max_id = id;
	}
}

/* All before ${sequence} is let go of. */
static void
stand_at(struct rows * rows, uint64_t sequence)
{
	rows->recorded_place = rows_place(rows, sequence);
	rows->recorded = sequence;
}

uint64_t
rows_marked(struct rows * rows)
{
	uint64_t count = rows->marking - rows->recorded;

	stand_at(rows, rows->marking);
	rows->recorded_max_id = rows->marking_max_id;
	return (count);
}

void
rows_forget(struct rows * rows)
{
	for (uint64_t n = rows->recorded; n < rows->fetched; n++) {
		uint32_t place = rows_place(rows, n);
		struct row * row = rows_at(rows, place);

		if (row->state == ROW_ASIDE)
			text_unref(row->reason);
		else if (row->state != ROW_RESOLVED)
			give_back(rows, place);
		row->state = ROW_FREE;
	}
	for (uint32_t place = rows->ring; place < rows->places; place++) {
		if (rows_at(rows, place)->state != ROW_FREE)
			rows_release(rows, place);
	}
	clear_pool(rows);
	rows->moves = empty;
	stand_at(rows, rows->fetched);
	rows->marking = rows->resolved = rows->fetched;
	rows->resolved_max_id = rows->marking_max_id = rows->recorded_max_id;
	rows->in_flight = 0;
}
