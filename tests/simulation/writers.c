#include "world.h"

/*
 * Applications write in transactions that overlap, so ids commit out of order.
 * Who writes a message with a key holds a lock on it until the transaction
 * ends: that is the premise of O.
 */

static uint32_t
transaction(struct world * w, uint32_t at)
{
	struct database * d = &w->database;

	if (d->open[at] == 0)
		d->open[at] = ++d->transactions;
	return (d->open[at]);
}

static void
choose_kind(struct world * w, struct row * row)
{
	if (has(w, KIND_unfit) && one_in(w, 40))
		row->kind = UNFIT;
	else if (has(w, KIND_poison) && one_in(w, 50))
		row->kind = POISON;
	else if (has(w, KIND_unroutable) && one_in(w, 30))
		row->kind = UNROUTABLE;
	else if (has(w, KIND_refused) && one_in(w, 20))
		row->kind = REFUSED;
	if (row->kind == REFUSED || row->kind == UNROUTABLE)
		row->refusals = one_in(w, 3) ? UINT32_MAX : 1 + below(w, 3);
}

/* One row in the transaction at ${at}; its dice are its own. */
static struct row *
write_row(struct world * w, uint32_t at, uint8_t key)
{
	uint32_t n = w->row_count++;
	struct database * d = &w->database;
	uint32_t of = transaction(w, at);
	struct row * row = &w->rows[n];

	if (key != 0 && w->keys_locked[key] != 0 && w->keys_locked[key] != of)
		key = 0;
	if (key != 0)
		w->keys_locked[key] = of;
	*row = (struct row){.id = ++d->sequence, .key = key, .size = 1 + below(w, 40)};
	d->count = w->row_count;
	d->rows[n] = (struct stored){.transaction = of, .place = MESSAGE};
	return (row);
}

static void
end(struct world * w, uint32_t at, bool commit)
{
	struct database * d = &w->database;
	uint32_t of = d->open[at];
	uint32_t rows = 0;

	d->open[at] = 0;
	if (commit)
		d->commits++;
	for (uint32_t n = 0; n < d->count; n++) {
		struct stored * s = &d->rows[n];

		if (s->transaction != of)
			continue;
		rows++;
		if (!commit) {
			*s = (struct stored){.place = NOWHERE};
			continue;
		}
		s->commit = d->commits;
		w->rows[n].committed = true;
		if (n + 1 < d->count && d->rows[n + 1].commit != 0)
			happened(w, EVENT_committed_out_of_order);
		world_say(w, "commit %d: id %d key %u exchange %u queue %u%s", (int)s->commit,
		    (int)w->rows[n].id, w->rows[n].key, w->rows[n].exchange, w->rows[n].queue,
		    w->rows[n].scheduled ? ", scheduled" : "");
	}
	for (uint32_t key = 1; key <= WORLD_KEYS; key++) {
		if (w->keys_locked[key] == of)
			w->keys_locked[key] = 0;
	}
	happened(w, commit ? EVENT_committed : EVENT_rolled_back);
	if (commit && rows > 1)
		happened(w, EVENT_committed_many);
	w->moment++;
}

void
writers_write(struct world * w)
{
	uint32_t at = below(w, WORLD_TRANSACTIONS);
	uint8_t key = (uint8_t)below(w, WORLD_KEYS + 1);
	struct row * row;

	if (w->row_count >= w->row_max)
		return;
	row = write_row(w, at, key);
	row->exchange = (uint8_t)(one_in(w, 2) ? 0 : below(w, WORLD_EXCHANGES));
	row->queue = (uint8_t)below(w, WORLD_QUEUES);
	if (one_in(w, 50))
		row->size = 2000;
	choose_kind(w, row);
	if (has(w, KIND_scheduled) && one_in(w, 10)) {
		happened(w, EVENT_scheduled);
		row->scheduled = true;
		row->deliver_at = w->now + below(w, CLOCK_MS(500));
		w->database.rows[w->row_count - 1].place = DELAYED;
		w->database.rows[w->row_count - 1].waits_for = SCHEDULE;
		w->database.rows[w->row_count - 1].next_attempt_at = row->deliver_at;
	}
	if (!one_in(w, 3))
		end(w, at, true);
}

/* To see how long it takes: no key, an exchange that is always there. */
void
writers_write_good(struct world * w)
{
	if (w->row_count >= WORLD_ROWS || w->knobs.rows == 0)
		return;
	write_row(w, 0, 0);
	end(w, 0, true);
}

void
writers_end_some(struct world * w)
{
	uint32_t start = below(w, WORLD_TRANSACTIONS);
	bool abort = has(w, KIND_rollback) && one_in(w, 4);

	for (uint32_t n = 0; n < WORLD_TRANSACTIONS; n++) {
		uint32_t at = (start + n) % WORLD_TRANSACTIONS;

		if (w->database.open[at] != 0) {
			end(w, at, !abort);
			return;
		}
	}
}

void
writers_end_all(struct world * w)
{
	for (uint32_t at = 0; at < WORLD_TRANSACTIONS; at++) {
		if (w->database.open[at] != 0)
			end(w, at, true);
	}
}

void
writers_abort_all(struct world * w)
{
	for (uint32_t at = 0; at < WORLD_TRANSACTIONS; at++) {
		if (w->database.open[at] != 0)
			end(w, at, false);
	}
	for (uint32_t key = 0; key <= WORLD_KEYS; key++)
		w->keys_locked[key] = 0;
}

/* Retries or discards a dead message, through the SQL functions for people. */
void
person_acts(struct world * w)
{
	struct database * d = &w->database;
	uint32_t start = below(w, WORLD_ROWS);
	bool retry = one_in(w, 2);

	for (uint32_t n = 0; n < d->count; n++) {
		uint32_t row = (start + n) % d->count;
		struct stored * s = &d->rows[row];

		if (s->place != DEAD || s->discarded)
			continue;
		if (s->holds_key)
			happened(w, EVENT_person_freed_a_key);
		if (retry) {
			happened(w, EVENT_person_retried);
			*s = (struct stored){.transaction = s->transaction,
			    .commit = s->commit,
			    .place = DELAYED,
			    .waits_for = RETRY,
			    .next_attempt_at = w->now,
			    .in_line = ++w->moment};
		} else {
			happened(w, EVENT_person_discarded);
			s->discarded = w->rows[row].discarded = true;
			s->holds_key = false;
		}
		world_say(w, "person %s id %d", retry ? "retries" : "discards",
		    (int)w->rows[row].id);
		database_free_key(w, w->rows[row].key, 0);
		w->moment++;
		return;
	}
}
