#include <string.h>

#include "world.h"

/*
 * What must hold whenever a relay publishes, records or resets, and whenever a
 * message arrives; seen from outside the core.
 */

/* Published by this core and not recorded: would be sent again if it died now. */
static bool
is_out(const struct view * v)
{
	if (!v->handed || v->publications == 0)
		return (false);
	/* What waits and went down with its link was counted with that. */
	return (v->origin == MESSAGE_FRESH || !v->killed);
}

bool
promise_keeps_a_mark_back(const struct world * w, const struct relay * relay, uint32_t n)
{
	const struct view * v = &relay->views[n];

	for (uint32_t m = 0; v->origin == MESSAGE_FRESH && m < w->row_count; m++) {
		const struct view * other = &relay->views[m];

		if (other->handed && other->origin == MESSAGE_FRESH && other->publications > 0 &&
		    other->number >= v->number)
			return (true);
	}
	return (false);
}

static void
check_window(struct world * w, const struct relay * relay, uint32_t publishing)
{
	uint32_t out = is_out(&relay->views[publishing]) ? 0 : 1;

	for (uint32_t n = 0; n < w->row_count; n++)
		out += is_out(&relay->views[n]);
	if (out > w->options.window)
		world_broken(w, "D", "%u published and not recorded, window %u", out,
		    w->options.window);
	if (out == w->options.window)
		happened(w, EVENT_window_full);
}

static void
check_peers(struct world * w, const struct relay * relay, const struct core_action * action,
    uint32_t n)
{
	const struct connection * c = &relay->connections[action->publish.link];
	int id = (int)action->publish.message->id;

	if (!c->up || c->blocked || c->full)
		world_broken(w, "contract", "row %d published at the wrong time", id);
	if (relay->stopping && !promise_keeps_a_mark_back(w, relay, n))
		world_broken(w, "contract", "row %d published after the stop", id);
	if (relay->stopping)
		happened(w, EVENT_published_while_stopping);
	if (relay->session.state != SESSION_LEADING)
		world_broken(w, "O", "row %d published without the lead", id);
	if (relay->paused.all || relay->paused.exchange[w->rows[n].exchange])
		world_broken(w, "H", "row %d published although it is paused", id);
	if (w->now >= relay->lease)
		world_broken(w, "O", "row %d published after the lease", id);
}

void
promise_at_publish(struct world * w, struct relay * relay, const struct core_action * action)
{
	const struct message * message = action->publish.message;
	int id = (int)message->id;
	const struct view * v;
	const struct row * row;
	uint32_t n;

	memcpy(&n, message->message_id, sizeof(n));
	row = &w->rows[n];
	v = &relay->views[n];
	check_peers(w, relay, action, n);
	if (!v->handed || !row->committed)
		world_broken(w, "P", "row %d was never fetched, or is recorded", id);
	if (v->held && (v->origin == MESSAGE_FRESH || v->origin == MESSAGE_SCHEDULED))
		world_broken(w, "O", "row %d published although its key is held", id);
	if (row->id <= relay->discard[row->exchange] && v->publications == 0 &&
	    v->origin != MESSAGE_SCHEDULED)
		world_broken(w, "H", "row %d published although it is to be discarded", id);
	if (relay->session.alive && relay->session.locked && w->database.rows[n].place == DEAD)
		world_broken(w, "H", "row %d published although it is dead", id);
	if (v->ticket != 0 || v->confirmed)
		world_broken(w, "D", "row %d published without need", id);
	if (v->refusals > 0 || v->unfit)
		world_broken(w, "S", "row %d was refused and not put aside", id);
	if (row->scheduled && w->now < row->deliver_at)
		world_broken(w, "O", "row %d published before its time", id);
	if (v->attempts > 0 && action->publish.link != CORE_SUSPECTS)
		world_broken(w, "S", "row %d was refused before and goes by main", id);
	if (action->publish.again ? !row->published : v->publications > 0)
		world_broken(w, "H", "row %d: again is %d", id, action->publish.again);
	for (uint32_t m = 0; row->key != 0 && !w->options.pipelined && m < w->row_count; m++) {
		if (w->rows[m].key == row->key && relay->views[m].ticket != 0)
			world_broken(w, "O", "rows %d and %d of key %u are both unconfirmed",
			    (int)w->rows[m].id, id, row->key);
	}
	check_window(w, relay, n);
}

/* ---- order ---- */

/* Must ${m}, which is earlier, have been delivered before ${late}? */
static bool
comes_first(const struct world * w, uint32_t m, uint32_t late)
{
	const struct row * row = &w->rows[m];
	const struct stored * s = &w->database.rows[m];

	if (!row->committed || row->lost || s->commit == 0 || row->deliveries > 0)
		return (false);
	/* Without hold, the key goes on when one is dead. */
	if (row->discarded || (row->died && !w->options.retry.hold))
		return (false);
	if (!row->scheduled && !w->rows[late].scheduled)
		return (true);
	/* A scheduled one has no place before it is due; then it passes nobody who
	 * waits already, and nobody who is read later passes it. */
	return (s->place == DELAYED && s->waits_for != SCHEDULE &&
	    s->in_line < w->rows[late].read_at);
}

void
promise_at_delivery(struct world * w, const struct publication * publication)
{
	const struct row * row = &w->rows[publication->row];

	if (!row->committed)
		world_broken(w, "P", "id %d rolled back and was delivered", (int)row->id);
	if (row->scheduled && w->now < row->deliver_at)
		world_broken(w, "O", "id %d delivered before its time", (int)row->id);
	if (row->deliveries > 0 || row->key == 0 || w->options.pipelined || row->died)
		return;
	for (uint32_t m = 0; m < publication->row; m++) {
		if (w->rows[m].key == row->key && comes_first(w, m, publication->row))
			world_broken(w, "O", "id %d of key %u delivered before id %d", (int)row->id,
			    row->key, (int)w->rows[m].id);
	}
}

/* ---- marks ---- */

static bool
may_be_behind(const struct world * w, const struct relay * relay, uint32_t n)
{
	if (w->options.pipelined || w->rows[n].key == 0)
		return (false);
	if (relay->views[n].held)
		return (true);
	for (uint32_t m = 0; m < w->row_count; m++) {
		if (m == n || w->rows[m].key != w->rows[n].key)
			continue;
		/* The other's move may have to wait for what is before it. */
		if (w->rows[m].aside ||
		    ((w->rows[n].scheduled || w->rows[n].died) && relay->views[m].handed))
			return (true);
	}
	return (false);
}

static void
check_move(struct world * w, struct relay * relay, const struct move * move)
{
	uint32_t n = database_row(w, move->id);
	const struct view * v = &relay->views[n];
	const struct row * row = &w->rows[n];
	int id = (int)move->id;
	bool told = bytes_present(move->reason) && move->reason.len > 0;
	uint32_t counted;

	if (n == WORLD_ROWS || !v->handed || (v->origin != MESSAGE_FRESH) != move->delayed)
		world_broken(w, "L", "a move of id %d, which is not in hand", id);
	counted = v->attempts + v->refusals;
	if (move->fate != FATE_DELIVERED && (v->confirmed || v->ticket != 0))
		world_broken(w, "D", "id %d is put aside while it is %s", id,
		    v->confirmed ? "confirmed" : "in flight");
	switch ((enum fate)move->fate) {
	case FATE_DELIVERED:
		if (!v->confirmed || !move->delayed)
			world_broken(w, "L", "id %d is taken as delivered", id);
		return;
	case FATE_RETRY:
		if (move->attempts < counted || move->attempts > counted + v->accused ||
		    move->attempts <= v->attempts ||
		    move->attempts >= w->options.retry.max_attempts)
			world_broken(w, "H", "id %d: attempts %u, of %u and %u refusals", id,
			    move->attempts, v->attempts, v->refusals);
		if (move->delay < 0 || move->delay > 2 * w->options.retry.max)
			world_broken(w, "V", "id %d waits for %f s", id, (double)move->delay / 1e9);
		break;
	case FATE_WAIT_EXCHANGE:
		if (!relay->lane_known[row->exchange][WORLD_QUEUES] || move->attempts != counted)
			world_broken(w, "H", "id %d waits for exchange %u, attempts %u", id,
			    row->exchange, move->attempts);
		if (move->paused && !relay->paused.exchange[row->exchange])
			world_broken(w, "H", "id %d waits for a pause that is over", id);
		if (move->paused)
			happened(w, EVENT_moved_for_pause);
		break;
	case FATE_WAIT_QUEUE:
		if (!relay->lane_known[row->exchange][row->queue] || move->attempts != counted)
			world_broken(w, "H", "id %d waits for queue %u of exchange %u, attempts %u",
			    id, row->queue, row->exchange, move->attempts);
		break;
	case FATE_BEHIND:
		if (!may_be_behind(w, relay, n))
			world_broken(w, "S", "id %d is put behind nobody", id);
		return;
	case FATE_DISCARDED:
		if (v->publications > 0)
			world_broken(w, "H", "id %d is discarded after it was published", id);
		if (!row->to_discard)
			world_broken(w, "L", "id %d is discarded and nobody wants that", id);
		break;
	case FATE_DEAD:
		if (!v->unfit &&
		    (move->attempts < w->options.retry.max_attempts ||
			move->attempts > counted + v->accused))
			world_broken(w, "L", "id %d is dead after %u attempts", id, move->attempts);
		if (row->key != 0 && move->hold != (w->options.retry.hold && !w->options.pipelined))
			world_broken(w, "O", "id %d is dead, hold %d", id, move->hold);
		break;
	}
	if (!told)
		world_broken(w, "H", "id %d is put aside without a reason", id);
}

/* The move of ${n} out of the messages, or NULL; there may be one of each. */
static const struct move *
move_of(struct world * w, const struct core_action * action, uint32_t n)
{
	const struct move * found = NULL;

	for (size_t m = 0; m < action->record.move_count; m++) {
		const struct move * move = &action->record.moves[m];

		if (move->id != w->rows[n].id)
			continue;
		if (found != NULL)
			world_broken(w, "L", "id %d is moved twice", (int)move->id);
		found = move;
	}
	return (found);
}

static void
note_moves(struct world * w, const struct relay * relay, const struct core_action * action)
{
	for (size_t m = 0; m < action->record.move_count; m++) {
		const struct move * move = &action->record.moves[m];
		uint32_t n = database_row(w, move->id);

		if (n < WORLD_ROWS)
			w->rows[n].aside |= move->fate != FATE_DELIVERED;
		world_say(w, "relay %u moves id %d to fate %u%s, attempts %u", relay->number,
		    (int)move->id, move->fate, move->delayed ? " (delayed)" : "", move->attempts);
	}
}

void
promise_at_mark(struct world * w, struct relay * relay, const struct core_action * action)
{
	const struct session * s = &relay->session;
	uint32_t newly = 0;
	uint32_t moved = 0;
	int64_t max_id = 0;

	/* After a failover the rows and their commits are not those it knows. */
	if (!s->alive)
		return;
	note_moves(w, relay, action);
	for (size_t m = 0; m < action->record.move_count; m++)
		check_move(w, relay, &action->record.moves[m]);
	for (uint32_t n = 0; n < w->database.count; n++) {
		const struct move * move;
		bool was = database_covers(w, &s->recorded, n);
		bool will = database_covers(w, &s->mark, n);

		if (w->rows[n].scheduled || w->database.rows[n].place == NOWHERE)
			continue;
		if (was && !will)
			world_broken(w, "D", "the mark goes back behind id %d", (int)w->rows[n].id);
		move = move_of(w, action, n);
		if (move != NULL && !move->delayed) {
			moved++;
			if (was || !will)
				world_broken(w, "L",
				    "id %d is moved by a mark that does not cover it",
				    (int)move->id);
		}
		if (was || !will)
			continue;
		newly++;
		max_id = w->rows[n].id;
		if (move == NULL && !relay->views[n].confirmed)
			world_broken(w, "L", "id %d is marked and was not confirmed", (int)max_id);
	}
	if (newly != action->record.messages)
		world_broken(w, "H", "the mark counts %u messages and covers %u",
		    (unsigned int)action->record.messages, newly);
	if (newly == 0 && action->record.move_count == 0)
		world_broken(w, "H", "a mark of nothing");
	if (newly == 0)
		happened(w, EVENT_recorded_moves_alone);
	if (action->record.max_id < max_id)
		world_broken(w, "L", "the mark's greatest id is %d, not %d",
		    (int)action->record.max_id, (int)max_id);
	if (action->record.position.exhausted)
		happened(w, EVENT_recorded_exhausted);
	world_say(w, "relay %u marks (%d, %d, %d), %u messages, %u of them moved", relay->number,
	    (int)action->record.position.interval, (int)action->record.position.last_id,
	    action->record.position.exhausted, newly, moved);
}

/* ---- searches ---- */

/* An exchange that a person has paused is left alone. */
void
promise_at_lane_search(struct world * w, const struct relay * relay, const struct lane * lane)
{
	for (uint32_t e = 0; e < WORLD_EXCHANGES; e++) {
		if (relay->paused.exchange[e] &&
		    bytes_equal(lane->exchange, relay_exchange_name(e)))
			world_broken(w, "H", "exchange %u is paused, and searched for", e);
	}
}

/* ---- resets ---- */

clock_ns
promise_least_patience(const struct world * w)
{
	clock_ns time = w->options.confirm_timeout / 16;

	return (clock_min(time > CLOCK_MS(250) ? time : CLOCK_MS(250), w->options.confirm_timeout));
}

/* Has it stood still for that long? */
static bool
stands_still(const struct world * w, const struct relay * relay, const struct connection * c,
    uint32_t row)
{
	const struct view * v = &relay->views[row];
	clock_ns since = v->published_at > c->since ? v->published_at : c->since;
	clock_ns answered_at = c->answered_at[broker_stripe(w, relay, c, row)];

	if (answered_at > since)
		since = answered_at;
	for (uint32_t n = 0; n < WORLD_EXCHANGES * WORLD_QUEUES; n++) {
		if (relay->lane_known[n / WORLD_QUEUES][n % WORLD_QUEUES])
			return (w->now - since >= promise_least_patience(w));
	}
	return (false);
}

static clock_ns
waited(const struct world * w, const struct connection * c, const struct view * v)
{
	return (w->now - (v->published_at > c->since ? v->published_at : c->since) + v->waited);
}

/* A confirm must be overdue; and who is to blame must have been published then. */
void
promise_at_reset(struct world * w, struct relay * relay, enum core_link link)
{
	const struct connection * c = &relay->connections[link];
	bool first = true;

	if (!c->up || c->blocked)
		world_broken(w, "contract", "a link reset that is down or blocked");
	for (uint32_t n = 0; n < c->count; n++) {
		const struct view * v = &relay->views[c->queue[n].row];
		const struct row * row = &w->rows[c->queue[n].row];
		bool to_blame;

		if (v->ticket != c->queue[n].ticket)
			continue;
		if (first) {
			bool hasty = stands_still(w, relay, c, c->queue[n].row);

			if (!hasty && waited(w, c, v) < w->options.confirm_timeout)
				world_broken(w, "H", "a link reset although id %d is not overdue",
				    (int)row->id);
			to_blame = hasty || c->heard_at >= v->published_at - v->waited;
		} else
			to_blame = v->passed && waited(w, c, v) >= w->options.confirm_timeout / 2;
		first = false;
		if (to_blame)
			relay->lane_known[row->exchange][row->queue] = true;
	}
	if (first)
		world_broken(w, "H", "a link reset although nothing is in flight");
}
