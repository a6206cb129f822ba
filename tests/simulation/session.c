#include <string.h>

#include "world.h"

/*
 * The source of one relay: its session with the database, the lock by which it
 * leads, and the requests that are on their way.
 */

static void
say(const struct world * w, const struct relay * relay, const char * what)
{
	world_say(w, "relay %u: %s", relay->number, what);
}

/* ---- requests ---- */

static void
push(struct session * s, enum request_kind kind)
{
	s->requests[s->request_count++] = (struct request){.kind = kind};
}

static bool
is_asked(const struct session * s, enum request_kind kind)
{
	for (uint32_t n = 0; n < s->request_count; n++) {
		if (s->requests[n].kind == kind)
			return (true);
	}
	return (false);
}

void
session_fetch(struct world * w, struct relay * relay, const struct core_action * action)
{
	struct session * s = &relay->session;

	if (s->state != SESSION_LEADING || is_asked(s, REQUEST_FETCH) ||
	    is_asked(s, REQUEST_LOOKUP) || relay->stopping || relay->paused.all)
		world_broken(w, "contract", "a fetch at the wrong time");
	if (action->fetch.rows < 1 || action->fetch.rows > w->options.batch ||
	    action->fetch.bytes < 1 || action->fetch.bytes > w->options.max_bytes)
		world_broken(w, "contract", "a fetch of %u rows, %zu bytes", action->fetch.rows,
		    action->fetch.bytes);
	s->fetch_rows = action->fetch.rows;
	s->fetch_bytes = action->fetch.bytes;
	s->fetch_waits = action->fetch.wait;
	push(s, REQUEST_FETCH);
}

void
session_search(struct world * w, struct relay * relay, const struct core_action * action)
{
	static const enum world_event events[] = {[SEARCH_DUE] = EVENT_searched_due,
	    [SEARCH_DUE_ALL] = EVENT_searched_all,
	    [SEARCH_LANE] = EVENT_searched_lane};
	struct session * s = &relay->session;
	const struct search * search = &action->fetch_delayed;

	if (s->state != SESSION_LEADING || is_asked(s, REQUEST_SEARCH) || relay->stopping ||
	    relay->paused.all)
		world_broken(w, "contract", "a search at the wrong time");
	if (search->rows < 1 || search->bytes < 1 || search->bytes > w->options.max_bytes ||
	    search->except_count > WORLD_ROWS)
		world_broken(w, "contract", "a search of %u rows, %zu bytes, but for %zu",
		    search->rows, search->bytes, search->except_count);
	if (search->what == SEARCH_LANE && !bytes_present(search->lane.routing_key))
		promise_at_lane_search(w, relay, &search->lane);
	happened(w, events[search->what]);
	world_say(w, "relay %u searches %s, at most %u", relay->number,
	    search->what == SEARCH_DUE         ? "what is due" :
		search->what == SEARCH_DUE_ALL ? "all that is due" :
						 "a lane",
	    search->rows);
	s->search = *search;
	if (search->except_count > 0)
		memcpy(s->except, search->except, search->except_count * sizeof(s->except[0]));
	s->search.except = s->except;
	push(s, REQUEST_SEARCH);
}

void
session_record(struct world * w, struct relay * relay, const struct core_action * action)
{
	struct session * s = &relay->session;
	const struct core_position * position = &action->record.position;

	if (s->state != SESSION_LEADING || is_asked(s, REQUEST_MARK))
		world_broken(w, "contract", "a mark at the wrong time");
	if (action->record.move_count > MOVES_MAX || action->record.move_count > WORLD_ROWS)
		world_broken(w, "contract", "%zu moves", action->record.move_count);
	s->mark = s->recorded;
	if (position->interval != 0) {
		const struct position * interval =
		    &s->intervals[position->interval % WORLD_INTERVALS];

		s->mark = *interval;
		s->mark.last_id = position->last_id;
		if (position->exhausted)
			s->mark = (struct position){.prev = interval->target};
	}
	s->mark_messages = action->record.messages;
	s->move_count = action->record.move_count;
	if (s->move_count > 0)
		memcpy(s->moves, action->record.moves, s->move_count * sizeof(s->moves[0]));
	for (uint32_t n = 0; n < w->row_count; n++)
		s->mark_covers[n] = relay->views[n].handed &&
		    relay->views[n].origin == MESSAGE_FRESH && database_covers(w, &s->mark, n);
	for (size_t n = 0; n < s->move_count; n++) {
		uint32_t row = database_row(w, s->moves[n].id);

		if (row < WORLD_ROWS)
			s->mark_covers[row] = true;
	}
	promise_at_mark(w, relay, action);
	push(s, REQUEST_MARK);
}

bool
session_idle(const struct session * s)
{
	for (uint32_t n = 0; n < s->request_count; n++) {
		if (s->requests[n].kind != REQUEST_FETCH || s->requests[n].executed ||
		    !s->fetch_waits)
			return (false);
	}
	return (true);
}

bool
session_searches(const struct session * s)
{
	return (is_asked(s, REQUEST_SEARCH));
}

/* ---- the server's side ---- */

static void
execute(struct world * w, struct relay * relay, struct request * request)
{
	struct session * s = &relay->session;

	request->executed = true;
	switch (request->kind) {
	case REQUEST_FETCH:
		reading_fetch(w, s);
		break;
	case REQUEST_LOOKUP:
		if (is_asked(s, REQUEST_MARK))
			happened(w, EVENT_mark_passed_a_lookup);
		reading_look_up(w, s);
		break;
	case REQUEST_SEARCH:
		reading_search(w, s);
		break;
	case REQUEST_MARK:
		if ((!s->locked && s->seq == w->database.seq) || !database_mark(w, s)) {
			say(w, relay, "its mark failed: another relay leads");
			session_lost(w, relay);
		}
		break;
	}
}

/* A fetch that waits for something to be written lets all others pass. */
static void
put_off_fetch(struct world * w, struct session * s)
{
	for (uint32_t n = 0; n + 1 < s->request_count; n++) {
		struct request fetch = s->requests[n];

		if (fetch.kind != REQUEST_FETCH || fetch.executed)
			continue;
		if (!reading_must_wait(w, s))
			return;
		for (; n + 1 < s->request_count; n++)
			s->requests[n] = s->requests[n + 1];
		s->requests[n] = fetch;
	}
}

/*
 * Without the lock the session has ended.  But a mark may be on its way, and the
 * fence must do without that.
 */
static void
execute_last_mark(struct world * w, struct relay * relay)
{
	struct session * s = &relay->session;

	for (uint32_t n = 0; n < s->request_count; n++) {
		if (s->requests[n].kind == REQUEST_MARK && !s->requests[n].executed) {
			execute(w, relay, &s->requests[n]);
			return;
		}
	}
	if (w->calm || one_in(w, 8))
		session_lost(w, relay);
}

void
session_execute(struct world * w, struct relay * relay)
{
	struct session * s = &relay->session;

	if (!s->alive)
		return;
	if (s->state == SESSION_LEADING && !s->locked) {
		execute_last_mark(w, relay);
		return;
	}
	put_off_fetch(w, s);
	for (uint32_t n = 0; n < s->request_count; n++) {
		struct request * request = &s->requests[n];

		if (request->executed)
			continue;
		if (request->kind == REQUEST_FETCH && reading_must_wait(w, s))
			return;
		s->active = w->now;
		execute(w, relay, request);
		return;
	}
}

void
session_end(struct world * w, struct relay * relay)
{
	struct session * s = &relay->session;

	if (!s->alive)
		return;
	happened(w, EVENT_session_ended_unnoticed);
	s->alive = s->locked = false;
	say(w, relay, "the server ended its session");
}

/* ---- the relay's side ---- */

static void
answer_fetch(struct world * w, struct relay * relay)
{
	struct session * s = &relay->session;
	struct batch * batch = s->fetched;

	s->fetched = NULL;
	for (size_t n = 0; n < batch->count; n++) {
		struct view * v;
		uint32_t row;

		memcpy(&row, batch->messages[n]->message_id, sizeof(row));
		v = &relay->views[row];
		if (v->handed)
			world_broken(w, "simulation", "row %d handed over twice",
			    (int)w->rows[row].id);
		*v = (struct view){.handed = true,
		    .held = batch->messages[n]->held,
		    .origin = MESSAGE_FRESH,
		    .number = relay->expected.fetched + n};
		if (w->rows[row].read_at == 0)
			w->rows[row].read_at = ++w->moment;
	}
	relay->expected.fetched += batch->count;
	world_say(w, "relay %u fetched %zu rows of interval %d%s", relay->number, batch->count,
	    (int)s->interval, s->fetched_exhausted ? ", exhausted" : "");
	core_on_fetched(relay->core, w->now, batch, s->interval, s->fetched_exhausted);
	batch_unref(batch);
}

static void
answer_search(struct world * w, struct relay * relay)
{
	struct session * s = &relay->session;
	struct batch * batch = s->found;
	struct found found = {.batch = batch->count == 0 && one_in(w, 2) ? NULL : batch,
	    .more = s->found_more,
	    .next_in = CLOCK_NEVER,
	    .lanes = s->lanes,
	    .lane_count = s->lane_count};

	s->found = NULL;
	if (s->found_next != CLOCK_NEVER)
		found.next_in = s->found_next > w->now ? s->found_next - w->now : 0;
	for (size_t n = 0; n < batch->count; n++) {
		const struct message * m = batch->messages[n];
		struct view * v;
		uint32_t row;

		memcpy(&row, m->message_id, sizeof(row));
		v = &relay->views[row];
		if (v->handed && (v->ticket != 0 || v->confirmed))
			world_broken(w, "contract",
			    "a search does not except row %d, which is in hand", (int)m->id);
		*v = (struct view){.handed = true,
		    .held = m->held,
		    .origin = m->origin,
		    .attempts = m->attempts};
		if (w->rows[row].read_at == 0)
			w->rows[row].read_at = ++w->moment;
		world_say(w, "relay %u found id %d, origin %u", relay->number, (int)m->id,
		    m->origin);
	}
	for (uint32_t n = 0; n < s->lane_count; n++)
		relay_knows_lane(relay, &s->lanes[n]);
	core_on_delayed(relay->core, w->now, &found);
	batch_unref(batch);
}

static void
answer_mark(struct world * w, struct relay * relay)
{
	struct session * s = &relay->session;

	happened(w, EVENT_recorded);
	relay->expected.recorded += s->mark_messages;
	s->recorded = s->mark;
	s->seq++;
	for (uint32_t n = 0; n < w->row_count; n++) {
		if (s->mark_covers[n])
			relay->views[n] = (struct view){.handed = false};
	}
	for (size_t n = 0; n < s->move_count; n++) {
		relay->expected.dead += s->moves[n].fate == FATE_DEAD;
		relay->expected.discarded += s->moves[n].fate == FATE_DISCARDED;
		relay->expected.delayed += s->moves[n].fate < FATE_DEAD && !s->moves[n].delayed;
	}
	say(w, relay, "recorded");
	core_on_recorded(relay->core, w->now);
}

void
session_answer(struct world * w, struct relay * relay)
{
	struct session * s = &relay->session;
	enum request_kind kind;

	if (s->request_count == 0 || !s->requests[0].executed)
		return;
	kind = s->requests[0].kind;
	s->request_count--;
	memmove(&s->requests[0], &s->requests[1], s->request_count * sizeof(s->requests[0]));
	switch (kind) {
	case REQUEST_FETCH:
		if (!w->options.pipelined && s->fetched->count > 0)
			push(s, REQUEST_LOOKUP);
		else
			answer_fetch(w, relay);
		break;
	case REQUEST_LOOKUP:
		answer_fetch(w, relay);
		break;
	case REQUEST_SEARCH:
		answer_search(w, relay);
		break;
	case REQUEST_MARK:
		answer_mark(w, relay);
		break;
	}
}

/* ---- the lead ---- */

void
session_connect(struct world * w, struct relay * relay)
{
	struct session * s = &relay->session;

	if (s->state != SESSION_DOWN)
		return;
	s->state = SESSION_STANDBY;
	s->alive = true;
	s->locked = false;
	s->active = w->now;
}

/* Is the lock free?  A holder that stands still is ended by who wants it. */
static bool
take_lock(struct world * w)
{
	if (w->ghost) {
		if (w->now < w->ghost_active + STUCK_AFTER) {
			happened(w, EVENT_lock_refused);
			return (false);
		}
		happened(w, EVENT_ghost_ended);
		w->ghost = false;
	}
	for (uint32_t n = 0; n < w->relay_count; n++) {
		struct relay * holder = &w->relays[n];

		if (!holder->session.locked)
			continue;
		if (w->now < holder->session.active + STUCK_AFTER) {
			happened(w, EVENT_lock_refused);
			return (false);
		}
		happened(w, EVENT_idle_leader_ended);
		w->deaths++;
		/* Its last words may come late, as if through a pooler. */
		holder->session.locked = false;
		if (one_in(w, 2))
			session_end(w, holder);
	}
	return (true);
}

static void
lead(struct world * w, struct relay * relay)
{
	struct session * s = &relay->session;

	happened(w,
	    w->leaders > 0 && w->last_leader != (int)relay->number ?
		EVENT_led_after_other :
		EVENT_led_first);
	w->leaders++;
	w->last_leader = (int)relay->number;
	s->state = SESSION_LEADING;
	s->locked = true;
	s->active = w->now;
	s->seq = w->database.seq;
	s->recorded = s->cursor = w->database.recorded;
	s->due_at = s->due_id = INT64_MIN;
	if (s->cursor.open) {
		happened(w, EVENT_reread_after_restart);
		s->intervals[++s->interval % WORLD_INTERVALS] = s->cursor;
	}
	memset(relay->views, 0, sizeof(relay->views[0]) * w->row_count);
	world_say(w, "relay %u leads at mark %d: prev %u target %u last id %d", relay->number,
	    (int)s->seq, s->recorded.prev, s->recorded.target, (int)s->recorded.last_id);
	core_on_source_up(relay->core, w->now);
	pauses_begin(w, relay);
	discards_begin(w, relay);
}

void
session_tend(struct world * w, struct relay * relay)
{
	struct session * s = &relay->session;

	switch (s->state) {
	case SESSION_DOWN:
		return;
	case SESSION_STANDBY:
		if (!s->alive) {
			session_lost(w, relay);
			return;
		}
		s->active = w->now;
		if (!take_lock(w))
			return;
		lead(w, relay);
		break;
	case SESSION_LEADING:
		if (!s->locked) {
			if (w->calm || one_in(w, 8))
				session_lost(w, relay);
			return;
		}
		if (s->alive) {
			pauses_learn(w, relay);
			discards_learn(w, relay);
		}
		break;
	}
	s->active = w->now;
	relay->lease = w->now + LEASE;
	core_lease(relay->core, relay->lease);
}

/* What of its last requests did the server still execute? */
static void
last_words(struct world * w, struct session * s)
{
	for (uint32_t n = 0; n < s->request_count; n++) {
		if (s->requests[n].kind != REQUEST_MARK)
			continue;
		if (!s->requests[n].executed && s->alive && s->locked && one_in(w, 2))
			s->requests[n].executed = database_mark(w, s);
		happened(w, s->requests[n].executed ? EVENT_mark_kept_unanswered : EVENT_mark_lost);
	}
}

void
session_lost(struct world * w, struct relay * relay)
{
	struct session * s = &relay->session;
	bool in_flight = false;

	if (s->state == SESSION_DOWN)
		return;
	for (uint32_t n = 0; n < w->row_count; n++)
		in_flight |= relay->views[n].ticket != 0;
	if (s->state == SESSION_LEADING) {
		happened(w, in_flight ? EVENT_source_lost_in_flight : EVENT_source_lost_idle);
		w->deaths++;
		last_words(w, s);
	}
	if (s->locked && has(w, KIND_half_open) && one_in(w, 2)) {
		w->ghost = true;
		w->ghost_active = s->active;
	}
	s->state = SESSION_DOWN;
	s->alive = s->locked = false;
	s->request_count = 0;
	batch_unref(s->fetched);
	batch_unref(s->found);
	s->fetched = s->found = NULL;
	memset(relay->views, 0, sizeof(relay->views[0]) * w->row_count);
	relay->expected.in_flight = 0;
	relay->unnamed_close = false;
	say(w, relay, "lost the database");
	if (relay->core != NULL)
		core_on_source_down(relay->core, w->now);
}
