#include <stdlib.h>

#include "world.h"

/*
 * Commits are numbered, and a snapshot is the number of the last one.  So a
 * row with a small id that commits late falls into a later interval, as it
 * does under the real cursor.
 */

struct slab {
	struct batch batch;
	struct world * world;
	struct message ** list;
	struct message messages[];
};

static void
slab_free(struct batch * batch)
{
	struct slab * slab = (struct slab *)batch;

	slab->world->batches--;
	free(slab->list);
	free(slab);
}

/* A writer of a key has seen the former one of that key commit (the premise of O). */
static bool
key_is_locked(const struct world * w, uint64_t key)
{
	for (uint32_t n = 0; n < w->row_count; n++) {
		if (w->rows[n].key == key && w->rows[n].commit == 0 && !w->rows[n].rolled_back)
			return (true);
	}
	return (false);
}

void
database_write(struct world * w)
{
	uint64_t key = below(w, WORLD_KEYS + 1);
	struct world_row * row;

	if (w->row_count >= w->row_max)
		return;
	if (key != 0 && key_is_locked(w, key))
		key = 0;
	row = &w->rows[w->row_count++];
	*row = (struct world_row){.key = key, .size = 1 + below(w, 40)};
	if (one_in(w, 50))
		row->size = 2000;
	if (w->refusals && one_in(w, 50))
		row->unfit = 2;
	if (!one_in(w, 3))
		database_end_transaction(w, w->row_count - 1, true);
}

void
database_end_transaction(struct world * w, uint32_t row, bool commit)
{
	w->rows[row].rolled_back = !commit;
	happened(w, commit ? EVENT_committed : EVENT_rolled_back);
	if (!commit)
		return;
	w->rows[row].commit = ++w->commits;
	if (row + 1 < w->row_count && w->rows[row + 1].commit != 0)
		happened(w, EVENT_committed_out_of_order);
	world_say(w, "commit %u key %u", row + 1, (unsigned int)w->rows[row].key);
}

void
database_end_some_transaction(struct world * w)
{
	uint32_t start = below(w, WORLD_ROWS);

	for (uint32_t n = 0; n < w->row_count; n++) {
		uint32_t row = (start + n) % w->row_count;

		if (w->rows[row].commit == 0 && !w->rows[row].rolled_back) {
			database_end_transaction(w, row, !one_in(w, 4));
			return;
		}
	}
}

bool
database_covers(const struct world_position * position, const struct world * w, uint32_t row)
{
	uint32_t commit = w->rows[row].commit;

	if (commit == 0)
		return (false);
	return (commit <= position->prev ||
	    (position->open && commit <= position->target && row + 1 <= position->last_id));
}

void
database_up(struct world * w)
{
	w->source_up = true;
	w->cursor = w->recorded;
	if (w->cursor.open) {
		happened(w, EVENT_reread_after_restart);
		w->intervals[++w->interval % WORLD_INTERVALS] = w->cursor;
	}
	for (uint32_t n = 0; n < w->row_count; n++) {
		struct world_row * row = &w->rows[n];

		row->handed = row->out = row->settled = row->refused = false;
		row->ticket = 0;
	}
	world_say(w, "source up at prev %u target %u last id %d", w->recorded.prev,
	    w->recorded.target, (int)w->recorded.last_id);
	core_on_source_up(w->core, w->now);
}

static void
commit_mark(struct world * w)
{
	w->recorded = w->mark;
	w->mark_committed = true;
	for (uint32_t n = 0; n < w->row_count; n++) {
		if (database_covers(&w->recorded, w, n) && n + 1 > w->max_id)
			w->max_id = n + 1;
	}
}

void
database_lost(struct world * w)
{
	bool in_flight = false;

	for (uint32_t n = 0; n < w->row_count; n++)
		in_flight |= w->rows[n].ticket != 0;
	happened(w, in_flight ? EVENT_source_lost_in_flight : EVENT_source_lost_idle);
	if (w->marking && !w->mark_committed) {
		if (one_in(w, 2)) {
			commit_mark(w);
			happened(w, EVENT_mark_kept_unanswered);
		} else
			happened(w, EVENT_mark_lost);
	}
	w->source_up = w->fetching = w->marking = false;
	w->deaths++;
	world_say(w, "source lost");
}

void
database_fetch(struct world * w, const struct core_action * action)
{
	size_t bytes = 0;

	if (!w->source_up || w->fetching || w->stopping)
		world_broken(w, "contract", "a fetch at the wrong time");
	if (action->fetch.rows < 1 || action->fetch.rows > w->options.batch ||
	    action->fetch.bytes < 1 || action->fetch.bytes > w->options.max_bytes)
		world_broken(w, "contract", "a fetch of %u rows, %zu bytes", action->fetch.rows,
		    action->fetch.bytes);
	for (uint32_t n = 0; n < w->row_count; n++)
		bytes += w->rows[n].handed && !w->rows[n].settled ? w->rows[n].size : 0;
	if (bytes + action->fetch.bytes != w->options.max_bytes)
		world_broken(w, "contract", "a fetch of %zu bytes while %zu are held",
		    action->fetch.bytes, bytes);
	w->fetching = true;
	w->fetch_waits = action->fetch.wait;
	w->fetch_rows = action->fetch.rows;
	w->fetch_bytes = action->fetch.bytes;
}

static bool
in_interval(const struct world * w, uint32_t row)
{
	return (w->rows[row].commit > w->cursor.prev && w->rows[row].commit <= w->cursor.target &&
	    row + 1 > w->cursor.last_id);
}

void
database_answer_fetch(struct world * w)
{
	struct slab * slab;
	size_t bytes = 0;
	bool more = false;
	bool exhausted;

	if (!w->fetching)
		return;
	if (!w->cursor.open) {
		if (w->fetch_waits && w->commits == w->cursor.prev && !one_in(w, 8))
			return;
		w->cursor.target = w->commits;
		w->cursor.last_id = 0;
		w->cursor.open = true;
		/* Whether an empty one gets a number is the source's business. */
		if (w->commits > w->cursor.prev || one_in(w, 2))
			w->intervals[++w->interval % WORLD_INTERVALS] = w->cursor;
	}
	slab = calloc(1, sizeof(*slab) + w->fetch_rows * sizeof(slab->messages[0]));
	slab->world = w;
	slab->list = calloc(w->fetch_rows, sizeof(slab->list[0]));
	slab->batch = (struct batch){.references = 1, .messages = slab->list, .destroy = slab_free};
	w->batches++;
	for (uint32_t n = 0; n < w->row_count && !more; n++) {
		if (!in_interval(w, n))
			continue;
		if (slab->batch.count == w->fetch_rows || bytes >= w->fetch_bytes) {
			more = true;
			break;
		}
		slab->list[slab->batch.count] = &slab->messages[slab->batch.count];
		slab->messages[slab->batch.count++] = (struct message){.id = n + 1,
		    .key = w->rows[n].key,
		    .batch = &slab->batch,
		    .body = {"", w->rows[n].size}};
		bytes += w->rows[n].size;
		if (w->rows[n].size > w->options.max_bytes)
			happened(w, EVENT_fetched_big_row);
		if (w->rows[n].handed)
			world_broken(w, "simulation", "row %u handed over twice", n + 1);
		w->rows[n].handed = true;
		w->cursor.last_id = n + 1;
	}
	if (slab->batch.count > 0)
		w->cursor.last_id = slab->messages[slab->batch.count - 1].id;
	exhausted = !more && (slab->batch.count == 0 || !one_in(w, 4));
	happened(w,
	    slab->batch.count == 0 ? EVENT_fetched_empty :
		more               ? EVENT_fetched_in_part :
				     EVENT_fetched_rows);
	if (!more && !exhausted)
		happened(w, EVENT_fetched_exhausted_later);
	if (exhausted) {
		w->cursor.prev = w->cursor.target;
		w->cursor.open = false;
	}
	w->fetching = false;
	world_say(w, "fetched %zu rows of interval %d%s", slab->batch.count, (int)w->interval,
	    exhausted ? ", exhausted" : "");
	core_on_fetched(w->core, w->now, &slab->batch, w->interval, exhausted);
	batch_unref(&slab->batch);
}

void
database_record(struct world * w, const struct core_action * action)
{
	const struct core_position * position = &action->record.position;
	const struct world_position * interval =
	    &w->intervals[position->interval % WORLD_INTERVALS];

	if (!w->source_up || w->marking)
		world_broken(w, "contract", "a mark at the wrong time");
	w->mark = *interval;
	w->mark.last_id = position->last_id;
	if (position->exhausted) {
		w->mark = (struct world_position){.prev = interval->target};
		happened(w, EVENT_recorded_exhausted);
	}
	w->marking = true;
	w->mark_committed = false;
	world_say(w, "mark (%d, %d, %d)", (int)position->interval, (int)position->last_id,
	    position->exhausted);
	promise_at_mark(w, &w->mark, action);
}

void
database_answer_record(struct world * w)
{
	if (!w->marking)
		return;
	/* It is committed a while before the relay hears of it. */
	if (!w->mark_committed) {
		commit_mark(w);
		return;
	}
	w->marking = false;
	happened(w, EVENT_recorded);
	for (uint32_t n = 0; n < w->row_count; n++) {
		if (database_covers(&w->recorded, w, n))
			w->rows[n].out = false;
	}
	world_say(w, "recorded");
	core_on_recorded(w->core, w->now);
}
