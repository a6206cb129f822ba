#include "world.h"

/*
 * The tables.  Commits are numbered, and a snapshot is the number of the last
 * one.  So a row with a small id that commits late falls into a later
 * interval, as it does under the real cursor.
 *
 * Every change of what waits or is dead goes through a mark, in its
 * transaction, fenced by seq; or is made by a person.  What must stay true at
 * every commit: of each key's waiting rows the one with the least id does not
 * wait for its key, unless a dead row holds it.
 */

bool
database_covers(const struct world * w, const struct position * position, uint32_t row)
{
	uint32_t commit = w->database.rows[row].commit;

	if (commit == 0)
		return (false);
	return (commit <= position->prev ||
	    (position->open && commit <= position->target && w->rows[row].id <= position->last_id));
}

bool
database_holds(const struct database * d, uint32_t row)
{
	const struct stored * s = &d->rows[row];

	if (s->commit == 0)
		return (false);
	return (s->place == DELAYED ? s->waits_for != SCHEDULE : s->place == DEAD && s->holds_key);
}

bool
database_held_by_dead(const struct world * w, uint8_t key)
{
	for (uint32_t n = 0; key != 0 && n < w->database.count; n++) {
		if (w->rows[n].key == key && w->database.rows[n].place == DEAD &&
		    database_holds(&w->database, n))
			return (true);
	}
	return (false);
}

uint32_t
database_row(const struct world * w, int64_t id)
{
	for (uint32_t n = 0; n < w->database.count; n++) {
		if (w->rows[n].id == id && w->database.rows[n].place != NOWHERE)
			return (n);
	}
	return (WORLD_ROWS);
}

bool
database_is_first(const struct world * w, uint32_t row)
{
	for (uint32_t n = 0; w->rows[row].key != 0 && n < row; n++) {
		if (w->rows[n].key == w->rows[row].key && database_holds(&w->database, n))
			return (false);
	}
	return (true);
}

void
database_free_key(struct world * w, uint8_t key, int64_t after)
{
	struct database * d = &w->database;

	if (key == 0 || database_held_by_dead(w, key))
		return;
	for (uint32_t n = 0; n < d->count; n++) {
		struct stored * s = &d->rows[n];

		if (w->rows[n].key != key || !database_holds(d, n))
			continue;
		if (s->waits_for != KEY &&
		    !(s->waits_for == RETRY && s->next_attempt_at <= w->now &&
			w->rows[n].id > after))
			return;
		happened(w,
		    s->waits_for == KEY ? EVENT_next_of_key_freed : EVENT_next_of_key_due_anew);
		s->waits_for = RETRY;
		/* By the clock of when its transaction began. */
		s->next_attempt_at = w->now - below(w, CLOCK_MS(2));
		return;
	}
}

/* ---- marks ---- */

static void
wait_for(struct world * w, uint32_t row, const struct move * move)
{
	static const enum waits waits[] = {[FATE_RETRY] = RETRY,
	    [FATE_WAIT_EXCHANGE] = EXCHANGE,
	    [FATE_WAIT_QUEUE] = QUEUE,
	    [FATE_BEHIND] = KEY};
	static const enum world_event from_fresh[] = {[FATE_RETRY] = EVENT_fresh_to_retry,
	    [FATE_WAIT_EXCHANGE] = EVENT_fresh_to_exchange_lane,
	    [FATE_WAIT_QUEUE] = EVENT_fresh_to_queue_lane,
	    [FATE_BEHIND] = EVENT_fresh_behind};
	static const enum world_event from_delayed[] = {[FATE_RETRY] = EVENT_delayed_to_retry,
	    [FATE_WAIT_EXCHANGE] = EVENT_delayed_to_exchange_lane,
	    [FATE_WAIT_QUEUE] = EVENT_delayed_to_queue_lane,
	    [FATE_BEHIND] = EVENT_delayed_behind};
	struct stored * s = &w->database.rows[row];

	happened(w, move->delayed ? from_delayed[move->fate] : from_fresh[move->fate]);
	if (!database_holds(&w->database, row))
		s->in_line = ++w->moment;
	s->place = DELAYED;
	s->waits_for = waits[move->fate];
	s->next_attempt_at = CLOCK_NEVER;
	if (move->fate != FATE_BEHIND)
		s->attempts = move->attempts;
	if (move->fate == FATE_RETRY)
		s->next_attempt_at = w->now + move->delay;
}

static void
apply(struct world * w, const struct move * move)
{
	uint32_t row = database_row(w, move->id);
	struct stored * s = &w->database.rows[row];

	if (row == WORLD_ROWS || s->place != (move->delayed ? DELAYED : MESSAGE))
		world_broken(w, "L", "row %d is not where the mark's move wants it", (int)move->id);
	switch ((enum fate)move->fate) {
	case FATE_DELIVERED:
		happened(w, EVENT_delayed_delivered);
		s->place = DONE;
		break;
	case FATE_DEAD:
		happened(w, move->delayed ? EVENT_delayed_to_dead : EVENT_fresh_to_dead);
		s->place = DEAD;
		s->holds_key = move->hold && w->rows[row].key != 0;
		s->attempts = move->attempts;
		w->rows[row].died = true;
		if (s->holds_key)
			happened(w, EVENT_dead_holds_key);
		break;
	case FATE_DISCARDED:
		happened(w, move->delayed ? EVENT_delayed_discarded : EVENT_fresh_discarded);
		s->place = DEAD;
		s->holds_key = false;
		s->discarded = w->rows[row].discarded = true;
		break;
	case FATE_RETRY:
	case FATE_WAIT_EXCHANGE:
	case FATE_WAIT_QUEUE:
	case FATE_BEHIND:
		wait_for(w, row, move);
		break;
	}
}

/* The least id of the key that waits no longer. */
static int64_t
least_gone(const struct world * w, const struct session * session, uint8_t key)
{
	int64_t least = INT64_MAX;

	for (size_t n = 0; n < session->move_count; n++) {
		const struct move * move = &session->moves[n];

		if ((move->fate == FATE_DELIVERED || move->fate >= FATE_DEAD) && move->id < least &&
		    w->rows[database_row(w, move->id)].key == key)
			least = move->id;
	}
	return (least);
}

bool
database_mark(struct world * w, struct session * session)
{
	struct database * d = &w->database;

	if (d->seq != session->seq) {
		happened(w, EVENT_stale_mark_fenced);
		return (false);
	}
	d->seq++;
	d->recorded = session->mark;
	for (size_t n = 0; n < session->move_count; n++)
		apply(w, &session->moves[n]);
	for (uint8_t key = 1; key <= WORLD_KEYS && session->move_count > 0; key++)
		database_free_key(w, key, least_gone(w, session, key));
	w->moment++;
	world_say(w, "mark %d committed: prev %u target %u last id %d, %zu moves", (int)d->seq,
	    d->recorded.prev, d->recorded.target, (int)d->recorded.last_id, session->move_count);
	return (true);
}

/* ---- the standby ---- */

void
database_replicate(struct world * w)
{
	happened(w, EVENT_replicated);
	w->standby = w->database;
}

/* Was it sent, as far as ${d} knows? */
static bool
is_done(const struct world * w, const struct database * d, uint32_t row)
{
	const struct stored * s = &d->rows[row];

	if (s->place != MESSAGE)
		return (s->place == DONE);
	return (s->commit != 0 &&
	    (s->commit <= d->recorded.prev ||
		(d->recorded.open && s->commit <= d->recorded.target &&
		    w->rows[row].id <= d->recorded.last_id)));
}

/*
 * The standby is promoted.  What committed since it last heard from the
 * primary is gone: rows, marks, moves; and what had not committed yet rolls
 * back.  Ids may be given out again.
 */
void
database_fail_over(struct world * w)
{
	struct database * old = &w->database;
	bool lost_rows = false;

	happened(w, EVENT_failed_over);
	if (old->seq != w->standby.seq)
		happened(w, EVENT_failed_over_losing_marks);
	for (uint32_t n = 0; n < old->count; n++) {
		bool there = n < w->standby.count && w->standby.rows[n].commit != 0;

		if (old->rows[n].commit != 0 && !there) {
			w->rows[n].lost = true;
			lost_rows = true;
		}
		if (there && is_done(w, old, n) && !is_done(w, &w->standby, n))
			w->excused++;
	}
	if (lost_rows)
		happened(w, EVENT_failed_over_losing_rows);
	w->database = w->standby;
	w->database.count = w->row_count;
	writers_abort_all(w);
	for (uint32_t n = w->standby.count; n < w->row_count; n++)
		w->database.rows[n] = (struct stored){.place = NOWHERE};
	w->moment++;
	world_say(w, "failover to mark %d, %u commits", (int)w->database.seq, w->database.commits);
}
