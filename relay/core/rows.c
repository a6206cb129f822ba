#include "core/rows.h"

#include <stdlib.h>

/*
 * What must stay true: recorded <= marking <= resolved <= fetched, and all
 * rows below resolved are resolved.  So a mark only ever covers an unbroken
 * run of resolved rows (L), and one comparison tells whether a sequence
 * number still means something.
 *
 * An id is not a position: intervals interleave in id order.  Therefore the
 * greatest id is carried along with the run, and one that was confirmed but
 * never recorded does not count: after a restore, ids above it are new.
 */

int
rows_init(struct rows * rows, uint64_t max)
{
	uint64_t places = 2;

	*rows = (struct rows){.mask = 0};
	if (max > UINT64_C(1) << 31)
		return (-1);
	while (places < max)
		places *= 2;
	rows->mask = places - 1;
	rows->ring = calloc(places, sizeof(*rows->ring));
	return (rows->ring == NULL ? -1 : 0);
}

void
rows_free(struct rows * rows)
{
	rows_forget(rows);
	free(rows->ring);
	rows->ring = NULL;
}

uint32_t
rows_add(struct rows * rows, const struct message * message, uint64_t interval)
{
	uint32_t place = rows_place(rows, rows->fetched);
	size_t size = message_size(message);

	assert(rows->fetched - rows->recorded <= rows->mask);
	assert(size <= UINT32_MAX);
	batch_ref(message->batch);
	rows->ring[place] = (struct row){
	    .message = message,
	    .id = message->id,
	    .interval = interval,
	    .size = (uint32_t)size,
	    .next = ROW_NONE,
	    .state = ROW_WAITING,
	};
	rows->fetched++;
	rows->unresolved++;
	rows->bytes += size;
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
give_back(struct rows * rows, struct row * row)
{
	struct batch * batch = row->message->batch;

	row->message = NULL;
	rows->bytes -= row->size;
	rows->unresolved--;
	batch_unref(batch);
}

void
rows_resolve(struct rows * rows, struct row * row)
{
	row->state = ROW_RESOLVED;
	give_back(rows, row);
	for (; rows->resolved < rows->fetched; rows->resolved++) {
		row = rows_at(rows, rows_place(rows, rows->resolved));
		if (row->state != ROW_RESOLVED)
			break;
		if (row->id > rows->resolved_max_id)
			rows->resolved_max_id = row->id;
	}
}

void
rows_mark(struct rows * rows, struct core_action * action)
{
	const struct row * last = rows_at(rows, rows_place(rows, rows->resolved - 1));

	assert(rows->marking == rows->recorded && rows->resolved > rows->recorded);
	rows->marking = rows->resolved;
	rows->marking_max_id = rows->resolved_max_id;
	action->record.position = (struct core_position){
	    .interval = last->interval,
	    .last_id = last->id,
	    .exhausted = last->ends_interval,
	};
	action->record.messages = rows->marking - rows->recorded;
	action->record.max_id = rows->marking_max_id;
}

uint64_t
rows_marked(struct rows * rows)
{
	uint64_t count = rows->marking - rows->recorded;

	rows->recorded = rows->marking;
	rows->recorded_max_id = rows->marking_max_id;
	return (count);
}

void
rows_forget(struct rows * rows)
{
	for (uint64_t n = rows->resolved; n < rows->fetched; n++) {
		struct row * row = rows_at(rows, rows_place(rows, n));

		if (row->state != ROW_RESOLVED)
			give_back(rows, row);
	}
	rows->recorded = rows->marking = rows->resolved = rows->fetched;
	rows->resolved_max_id = rows->recorded_max_id;
}
