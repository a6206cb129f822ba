#include <stdlib.h>
#include <string.h>

#include "world.h"

/*
 * What the source's statements find, as of the moment at which the server
 * executes them.
 */

static const char key_names[] = "-abcdefgh";

/* Rows that wait behind a head come with it, as many as fit. */
#define FOLLOWERS 5

struct slab {
	struct batch batch;
	struct world * world;
	size_t bytes, max;
	struct message * list[WORLD_ROWS];
	struct message messages[];
};

static void
slab_free(struct batch * batch)
{
	struct slab * slab = (struct slab *)batch;

	slab->world->batches--;
	free(slab);
}

static struct slab *
slab_new(struct world * w, uint32_t rows)
{
	uint32_t max = rows < WORLD_ROWS ? rows : WORLD_ROWS;
	struct slab * slab = malloc(sizeof(*slab) + max * sizeof(slab->messages[0]));

	if (slab == NULL)
		world_broken(w, "simulation", "out of memory");
	slab->batch = (struct batch){.references = 1, .messages = slab->list, .destroy = slab_free};
	slab->world = w;
	slab->bytes = 0;
	slab->max = max;
	w->batches++;
	return (slab);
}

static void
slab_add(struct world * w, struct slab * slab, uint32_t n, enum message_origin origin)
{
	const struct row * row = &w->rows[n];
	struct message * m = &slab->messages[slab->batch.count];

	slab->list[slab->batch.count++] = m;
	*m = (struct message){.id = row->id,
	    .key = (uint64_t)row->key << 32 | row->key,
	    .batch = &slab->batch,
	    .exchange = relay_exchange_name(row->exchange),
	    .routing_key = relay_queue_name(row->queue),
	    .body = {"", row->size},
	    .timestamp_s = 1,
	    .expiration_ms = -1,
	    .priority = -1,
	    .origin = (uint8_t)origin,
	    .attempts = origin == MESSAGE_FRESH ? 0 : w->database.rows[n].attempts};
	if (row->key != 0)
		m->ordering_key = (struct bytes){&key_names[row->key], 1};
	memcpy(m->message_id, &n, sizeof(n));
	slab->bytes += row->size;
}

/*
 * Do earlier ones of its key wait, or does a dead one hold it?  The source may
 * take those that came later for earlier ones.
 */
static bool
is_held(const struct world * w, uint32_t n)
{
	for (uint32_t m = 0; m < (w->held_by_later ? w->database.count : n); m++) {
		if (m != n && w->rows[m].key == w->rows[n].key && database_holds(&w->database, m))
			return (true);
	}
	return (false);
}

/* ---- messages ---- */

static bool
in_interval(const struct world * w, const struct position * cursor, uint32_t n)
{
	const struct stored * s = &w->database.rows[n];

	return (s->commit > cursor->prev && s->commit <= cursor->target &&
	    w->rows[n].id > cursor->last_id && !w->rows[n].scheduled);
}

/*
 * It waits until something was written, be it scheduled, or the poll interval
 * is over; or wakes up for nothing.
 */
bool
reading_must_wait(struct world * w, struct session * session)
{
	return (session->fetch_waits && !session->cursor.open &&
	    w->database.commits == session->cursor.prev &&
	    w->now < session->read_at + w->options.poll_interval && (w->calm || !one_in(w, 8)));
}

void
reading_fetch(struct world * w, struct session * session)
{
	struct position * cursor = &session->cursor;
	struct slab * slab = slab_new(w, session->fetch_rows);
	bool more = false;

	session->read_at = w->now;
	if (!cursor->open) {
		cursor->target = w->database.commits;
		cursor->last_id = 0;
		cursor->open = true;
		/* Whether an empty one gets a number is the source's business. */
		if (w->database.commits > cursor->prev || one_in(w, 2))
			session->intervals[++session->interval % WORLD_INTERVALS] = *cursor;
	}
	for (uint32_t n = 0; n < w->database.count; n++) {
		if (!in_interval(w, cursor, n))
			continue;
		if (slab->batch.count == session->fetch_rows ||
		    slab->bytes >= session->fetch_bytes) {
			more = true;
			break;
		}
		slab_add(w, slab, n, MESSAGE_FRESH);
		if (w->rows[n].size > w->options.max_bytes)
			happened(w, EVENT_fetched_big_row);
	}
	if (slab->batch.count > 0)
		cursor->last_id = slab->batch.messages[slab->batch.count - 1]->id;
	session->fetched = &slab->batch;
	session->fetched_exhausted = !more && (slab->batch.count == 0 || !one_in(w, 4));
	happened(w,
	    slab->batch.count == 0 ? EVENT_fetched_empty :
		more               ? EVENT_fetched_in_part :
				     EVENT_fetched_rows);
	if (!more && !session->fetched_exhausted)
		happened(w, EVENT_fetched_exhausted_later);
	if (session->fetched_exhausted) {
		cursor->prev = cursor->target;
		cursor->open = false;
	}
}

void
reading_look_up(struct world * w, struct session * session)
{
	for (size_t n = 0; n < session->fetched->count; n++) {
		struct message * m = session->fetched->messages[n];
		uint32_t row;

		memcpy(&row, m->message_id, sizeof(row));
		m->held = m->key != 0 && is_held(w, row);
		if (m->held)
			happened(w, EVENT_fetched_held);
	}
}

/* ---- delayed ones ---- */

static bool
is_excepted(const struct session * session, int64_t id)
{
	for (size_t n = 0; n < session->search.except_count; n++) {
		if (session->except[n] == id)
			return (true);
	}
	return (false);
}

static bool
waits_for_time(const struct world * w, uint32_t n)
{
	const struct stored * s = &w->database.rows[n];

	return (s->commit != 0 && s->place == DELAYED &&
	    (s->waits_for == SCHEDULE || s->waits_for == RETRY));
}

/* Behind where the last search stopped, in the order of time and id? */
static bool
is_ahead(const struct world * w, const struct session * session, uint32_t n)
{
	clock_ns at = w->database.rows[n].next_attempt_at;

	return (at > session->due_at || (at == session->due_at && w->rows[n].id > session->due_id));
}

static bool
in_lane(const struct world * w, const struct session * session, uint32_t n)
{
	const struct stored * s = &w->database.rows[n];
	const struct lane * lane = &session->search.lane;

	if (s->commit == 0 || s->place != DELAYED ||
	    !bytes_equal(lane->exchange, relay_exchange_name(w->rows[n].exchange)))
		return (false);
	if (!bytes_present(lane->routing_key))
		return (s->waits_for == EXCHANGE);
	return (s->waits_for == QUEUE &&
	    bytes_equal(lane->routing_key, relay_queue_name(w->rows[n].queue)));
}

/* Not what a search would find, whatever it waits for. */
static bool
is_passed_over(const struct world * w, const struct session * session, uint32_t n)
{
	return (is_excepted(session, w->rows[n].id) || database_held_by_dead(w, w->rows[n].key) ||
	    (database_holds(&w->database, n) && !database_is_first(w, n)));
}

/* The head to take next, or WORLD_ROWS. */
static uint32_t
next_head(const struct world * w, const struct session * session, int64_t after)
{
	uint32_t best = WORLD_ROWS;

	for (uint32_t n = 0; n < w->database.count; n++) {
		if (is_passed_over(w, session, n))
			continue;
		if (session->search.what == SEARCH_LANE) {
			if (w->rows[n].id > after && in_lane(w, session, n))
				return (n);
			continue;
		}
		if (!waits_for_time(w, n) || !is_ahead(w, session, n) ||
		    w->database.rows[n].next_attempt_at > w->now)
			continue;
		if (best == WORLD_ROWS ||
		    w->database.rows[n].next_attempt_at < w->database.rows[best].next_attempt_at)
			best = n;
	}
	return (best);
}

/*
 * Those that wait behind ${head} and behind nobody else: not beyond another one
 * of its key that waits for something itself.
 */
static void
add_followers(struct world * w, struct session * session, struct slab * slab, uint32_t head)
{
	uint32_t most = below(w, FOLLOWERS + 1);
	uint8_t key = w->rows[head].key;

	if (key == 0 || !database_holds(&w->database, head))
		return;
	for (uint32_t n = head + 1; n < w->database.count && most > 0; n++) {
		if (w->rows[n].key != key || !database_holds(&w->database, n))
			continue;
		if (w->database.rows[n].place != DELAYED || w->database.rows[n].waits_for != KEY ||
		    slab->batch.count == slab->max || slab->bytes >= session->search.bytes)
			return;
		if (is_excepted(session, w->rows[n].id))
			continue;
		happened(w, EVENT_found_behind);
		slab_add(w, slab, n, MESSAGE_BEHIND);
		most--;
	}
}

static void
report_lanes(struct world * w, struct session * session)
{
	session->lane_count = 0;
	for (uint32_t e = 0; e < WORLD_EXCHANGES; e++) {
		for (uint32_t q = 0; q <= WORLD_QUEUES; q++) {
			struct lane lane = {.exchange = relay_exchange_name(e),
			    .routing_key = q < WORLD_QUEUES ? relay_queue_name(q) : BYTES_NONE,
			    .reason = bytes_from("as recorded")};

			session->search.lane = lane;
			for (uint32_t n = 0; n < w->database.count; n++) {
				if (!in_lane(w, session, n))
					continue;
				happened(w, EVENT_lanes_reported);
				session->lanes[session->lane_count++] = lane;
				break;
			}
		}
	}
}

static enum message_origin
origin_of(struct world * w, uint32_t n)
{
	switch (w->database.rows[n].waits_for) {
	case SCHEDULE:
		happened(w, EVENT_found_scheduled);
		return (MESSAGE_SCHEDULED);
	case RETRY:
		happened(w, EVENT_found_retry);
		return (MESSAGE_RETRY);
	default:
		happened(w, EVENT_found_lane_row);
		return (MESSAGE_LANE);
	}
}

static clock_ns
next_due(const struct world * w)
{
	clock_ns next = CLOCK_NEVER;

	for (uint32_t n = 0; n < w->database.count; n++) {
		if (waits_for_time(w, n) && w->database.rows[n].next_attempt_at > w->now)
			next = clock_min(next, w->database.rows[n].next_attempt_at);
	}
	return (next);
}

void
reading_search(struct world * w, struct session * session)
{
	struct slab * slab = slab_new(w, session->search.rows);
	int64_t after = session->search.after;
	uint32_t n;

	session->found_more = false;
	session->lane_count = 0;
	if (session->search.what == SEARCH_DUE_ALL)
		session->due_at = session->due_id = INT64_MIN;
	while ((n = next_head(w, session, after)) != WORLD_ROWS) {
		enum message_origin origin;

		if (slab->batch.count == slab->max || slab->bytes >= session->search.bytes) {
			session->found_more = true;
			happened(w, EVENT_found_more);
			break;
		}
		origin = origin_of(w, n);
		slab_add(w, slab, n, origin);
		if (origin == MESSAGE_SCHEDULED && !w->options.pipelined && w->rows[n].key != 0 &&
		    is_held(w, n)) {
			happened(w, EVENT_found_scheduled_held);
			slab->messages[slab->batch.count - 1].held = true;
		}
		if (session->search.what == SEARCH_LANE) {
			after = w->rows[n].id;
		} else {
			session->due_at = w->database.rows[n].next_attempt_at;
			session->due_id = w->rows[n].id;
		}
		add_followers(w, session, slab, n);
	}
	if (slab->batch.count == 0)
		happened(w, EVENT_found_nothing);
	session->found = &slab->batch;
	session->found_next = next_due(w);
	if (session->search.what == SEARCH_LANE && one_in(w, 2))
		session->found_next = CLOCK_NEVER;
	if (session->search.what == SEARCH_DUE_ALL)
		report_lanes(w, session);
}
