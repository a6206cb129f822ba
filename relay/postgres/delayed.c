/*
 * What must stay true:
 *
 * Every look is a walk along one index: heads along (next_attempt_at, id) or
 * along their lane, followers of each along their key, the rest by id.  What a
 * row is compared with stands as bounds in the order of that index, or inside
 * of a subquery of its own, so that no plan, whenever it was made, has another
 * way.
 *
 * No node sorts or counts before the limits: the walk ends where they end.
 * That is why the windows have no order of their own; n keeps theirs.
 *
 * Of those that hold a key only the first is a head, and only it brings
 * followers: so none comes twice, nor before one that is to go first.  Nearly
 * always the others wait for their key.  Some do not, where the first came
 * later than they did: an older transaction that committed late, a scheduled
 * message, a dead one that is tried again.  These stop those behind them, and
 * their own turn comes when they are the first: then they fall due anew.
 */
#include "postgres/delayed.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "postgres/array.h"
#include "postgres/rows.h"
#include "postgres/sql.h"
#include "postgres/wire.h"

/* A head is followed by so many at most: the next ones are found when these are gone. */
#define FOLLOWERS_MAX "100"

#define SIZE ROWS_SIZE_NAME
#define BEFORE "outbox_relay_before"

/* clang-format off */

#define OF_KEY(row, key) row ".ordering_key >= " key " AND " row ".ordering_key <= " key

#define HELD_BY_DEAD(key) \
	"(SELECT true FROM outbox.dead x WHERE x.holds_key AND " OF_KEY("x", key) \
	" ORDER BY x.ordering_key LIMIT 1) IS NOT NULL"

#define FIRST_OF_KEY(key) \
	"(SELECT w.id FROM outbox.delayed w WHERE " OF_KEY("w", key) \
	" AND w.waits_for <> 'schedule' ORDER BY w.ordering_key, w.id LIMIT 1)"

/*
 * $1 rows, $2 bytes, $3 ids that are known already, $4... of the heads.
 * Answers at least with one row, for next_in.
 */
#define SEARCH_SQL(condition, order) \
	"WITH heads AS (SELECT d.id, d.ordering_key, d.waits_for <> 'schedule' AS holds " \
	"FROM outbox.delayed d WHERE " condition " AND d.id NOT IN (SELECT unnest($3::bigint[])) " \
	"AND (d.ordering_key IS NULL OR (NOT " HELD_BY_DEAD("d.ordering_key") \
	" AND (d.waits_for = 'schedule' OR " FIRST_OF_KEY("d.ordering_key") " = d.id))) " \
	"ORDER BY " order " LIMIT $1::int), " \
	"picked AS (SELECT h.id AS head_id, p.id FROM heads h, LATERAL (" \
	"SELECT h.id UNION ALL (SELECT q.id FROM (SELECT f.id, " \
	"bool_and(f.waits_for = 'key') OVER (ROWS UNBOUNDED PRECEDING) AS fits FROM (" \
	"SELECT b.id, b.waits_for FROM outbox.delayed b " \
	"WHERE (b.ordering_key, b.id) > (h.ordering_key, h.id) AND b.ordering_key <= h.ordering_key " \
	"AND b.waits_for <> 'schedule' AND h.holds " \
	"ORDER BY b.ordering_key, b.id LIMIT " FOLLOWERS_MAX ") f) q " \
	"WHERE q.fits AND q.id NOT IN (SELECT unnest($3::bigint[])))) p (id) LIMIT $1::int), " \
	"sized AS (SELECT m.*, p.head_id = m.id AS outbox_relay_head, s.size AS " SIZE ", " \
	"sum(s.size) OVER (ROWS UNBOUNDED PRECEDING) - s.size AS " BEFORE ", " \
	"row_number() OVER (ROWS UNBOUNDED PRECEDING) AS outbox_relay_n " \
	"FROM picked p, LATERAL (SELECT * FROM outbox.delayed m WHERE m.id >= p.id AND m.id <= p.id " \
	"ORDER BY m.id LIMIT 1) m, " \
	"LATERAL (SELECT " ROWS_SIZE_SQL " AS size) s) " \
	"SELECT (SELECT (date_part('epoch', d.next_attempt_at - now()) * 1000000)::bigint " \
	"FROM outbox.delayed d WHERE d.next_attempt_at > now() AND d.next_attempt_at < 'infinity' " \
	"ORDER BY d.next_attempt_at, d.id LIMIT 1), " \
	"r.outbox_relay_head, r.next_attempt_at, r.attempts, " \
	"CASE r.waits_for WHEN 'schedule' THEN 's' WHEN 'retry' THEN 'r' WHEN 'key' THEN 'k' " \
	"ELSE 'l' END, " \
	"r.waits_for = 'schedule' AND r.ordering_key IS NOT NULL AND " \
	FIRST_OF_KEY("r.ordering_key") " IS NOT NULL, " \
	ROWS_COLUMNS_SQL \
	" FROM (SELECT 1) one LEFT JOIN sized r ON r." BEFORE " < $2::bigint ORDER BY r.outbox_relay_n"

/* $4 microseconds since 2000, NULL: from the beginning; $5 id. */
static const char due_sql[] = SEARCH_SQL(
    "(d.next_attempt_at, d.id) > (CASE WHEN $4::bigint IS NULL THEN '-infinity' "
    "ELSE timestamptz '2000-01-01 00:00:00+00' + $4::bigint * interval '1 microsecond' END, "
    "$5::bigint) AND d.next_attempt_at <= now()",
    "d.next_attempt_at, d.id");

/* $4 exchange, $5 after. */
static const char exchange_sql[] = SEARCH_SQL(
    "d.waits_for = 'exchange' AND (d.exchange, d.id) > ($4::text, $5::bigint) "
    "AND d.exchange <= $4::text",
    "d.exchange, d.id");

/* $4 exchange, $5 after, $6 routing key. */
static const char queue_sql[] = SEARCH_SQL(
    "d.waits_for = 'queue' AND (d.exchange, d.routing_key, d.id) > ($4::text, $6::text, $5::bigint) "
    "AND (d.exchange, d.routing_key) <= ($4::text, $6::text)",
    "d.exchange, d.routing_key, d.id");

/* $1 how many of each kind.  A step for each lane, however many rows are in it. */
static const char lanes_sql[] =
    "WITH RECURSIVE e AS ("
    "(SELECT d.exchange, d.last_error FROM outbox.delayed d WHERE d.waits_for = 'exchange' "
    "ORDER BY d.exchange, d.id LIMIT 1) UNION ALL "
    "SELECT n.* FROM e, LATERAL (SELECT d.exchange, d.last_error FROM outbox.delayed d "
    "WHERE d.waits_for = 'exchange' AND d.exchange > e.exchange "
    "ORDER BY d.exchange, d.id LIMIT 1) n), "
    "q AS ((SELECT d.exchange, d.routing_key, d.last_error FROM outbox.delayed d "
    "WHERE d.waits_for = 'queue' ORDER BY d.exchange, d.routing_key, d.id LIMIT 1) UNION ALL "
    "SELECT n.* FROM q, LATERAL (SELECT d.exchange, d.routing_key, d.last_error "
    "FROM outbox.delayed d WHERE d.waits_for = 'queue' "
    "AND (d.exchange, d.routing_key) > (q.exchange, q.routing_key) "
    "ORDER BY d.exchange, d.routing_key, d.id LIMIT 1) n) "
    "(SELECT e.exchange, NULL, e.last_error FROM e LIMIT $1::int) UNION ALL "
    "(SELECT q.exchange, q.routing_key, q.last_error FROM q LIMIT $1::int)";

/* clang-format on */

enum column { NEXT_IN, HEAD, NEXT_ATTEMPT_AT, ATTEMPTS, WAITS_FOR, HELD, ROWS };

enum statement { DUE, EXCHANGE, QUEUE, LANES, STATEMENTS };

static const struct {
	const char * name;
	const char * sql;
} statements[STATEMENTS] = {[DUE] = {"delayed_due", due_sql},
    [EXCHANGE] = {"delayed_exchange", exchange_sql},
    [QUEUE] = {"delayed_queue", queue_sql},
    [LANES] = {"delayed_lanes", lanes_sql}};

struct delayed {
	delayed_found * found;
	void * context;
	char * sql[STATEMENTS];
	/* Up to here along (next_attempt_at, id) everything due has been found. */
	bool started;
	int64_t at_us; /* since 2000 */
	int64_t at_id;
	/* The search that is under way. */
	bool due;
	bool all;
	uint32_t rows;
	size_t bytes;
	PGresult * lanes_result;
	struct lane lanes[LANES_MAX];
	size_t lane_count;
};

struct delayed *
delayed_new(const char * schema, delayed_found * found, void * context)
{
	struct delayed * delayed;

	if ((delayed = calloc(1, sizeof(*delayed))) == NULL)
		return (NULL);
	delayed->found = found;
	delayed->context = context;
	for (size_t i = 0; i < STATEMENTS; i++) {
		if ((delayed->sql[i] = sql_in_schema(statements[i].sql, schema)) == NULL) {
			delayed_free(delayed);
			return (NULL);
		}
	}
	return (delayed);
}

static void
delayed_forget_lanes(struct delayed * delayed)
{
	PQclear(delayed->lanes_result);
	delayed->lanes_result = NULL;
	delayed->lane_count = 0;
}

void
delayed_free(struct delayed * delayed)
{
	if (delayed == NULL)
		return;
	delayed_forget_lanes(delayed);
	for (size_t i = 0; i < STATEMENTS; i++)
		free(delayed->sql[i]);
	free(delayed);
}

void
delayed_start(struct delayed * delayed, struct connection * connection, clock_ns now)
{
	delayed->started = false;
	for (size_t i = 0; i < STATEMENTS; i++)
		connection_prepare(connection, now, statements[i].name, delayed->sql[i], NULL,
		    NULL);
}

/* ---- answers ---- */

static struct bytes
column(const PGresult * result, int row, int number)
{
	if (PQgetisnull(result, row, number))
		return (BYTES_NONE);
	return ((struct bytes){PQgetvalue(result, row, number),
	    (size_t)PQgetlength(result, row, number)});
}

static void
delayed_on_lanes(void * context, PGresult ** result, const struct error * e)
{
	struct delayed * delayed = context;

	delayed_forget_lanes(delayed);
	if (e != NULL) {
		delayed->found(delayed->context, NULL, e);
		return;
	}
	for (int row = 0; row < PQntuples(*result) && delayed->lane_count < LANES_MAX; row++)
		delayed->lanes[delayed->lane_count++] = (struct lane){
		    .exchange = column(*result, row, 0),
		    .routing_key = column(*result, row, 1),
		    .reason = column(*result, row, 2)};
	delayed->lanes_result = *result;
	*result = NULL;
}

static uint8_t
origin(char waits_for)
{
	switch (waits_for) {
	case 's':
		return (MESSAGE_SCHEDULED);
	case 'r':
		return (MESSAGE_RETRY);
	case 'k':
		return (MESSAGE_BEHIND);
	default:
		return (MESSAGE_LANE);
	}
}

/* What a message of the cursor does not have; and how far along the index that is. */
static void
delayed_complete(struct delayed * delayed, const PGresult * result, const struct batch * batch,
    bool more)
{
	int64_t at_us = 0, at_id = 0;

	for (size_t i = 0; i < batch->count; i++) {
		struct message * m = batch->messages[i];
		int row = (int)i;

		m->origin = origin(PQgetvalue(result, row, WAITS_FOR)[0]);
		m->attempts = (uint32_t)wire_int32(result, row, ATTEMPTS);
		m->held = wire_bool(result, row, HELD);
		if (wire_bool(result, row, HEAD)) {
			at_us = wire_int64(result, row, NEXT_ATTEMPT_AT);
			at_id = m->id;
		}
	}
	if (!delayed->due)
		return;
	/* Looking at all may have found none but old ones: not back for that. */
	if (more || !delayed->started || at_us > delayed->at_us ||
	    (at_us == delayed->at_us && at_id > delayed->at_id)) {
		delayed->started = true;
		delayed->at_us = at_us;
		delayed->at_id = at_id;
	}
}

static void
delayed_on_rows(void * context, PGresult ** result, const struct error * e)
{
	struct delayed * delayed = context;
	const PGresult * from = *result;
	struct found found = {.next_in = CLOCK_NEVER};
	struct error why;
	int64_t bytes, us;

	if (e == NULL) {
		found.batch = rows_to_batch(result, ROWS, &bytes, &why);
		if (found.batch == NULL && why.text[0] != '\0')
			e = &why;
	}
	if (e != NULL) {
		delayed->found(delayed->context, NULL, e);
		return;
	}
	if (!PQgetisnull(from, 0, NEXT_IN)) {
		us = wire_int64(from, 0, NEXT_IN);
		found.next_in = us < CLOCK_NEVER / 1000 ? us * 1000 : CLOCK_NEVER;
	}
	if (found.batch != NULL) {
		found.more = found.batch->count >= delayed->rows ||
		    (uint64_t)bytes >= delayed->bytes;
		delayed_complete(delayed, from, found.batch, found.more);
	}
	if (delayed->due && found.more)
		found.next_in = 0;
	if (delayed->all) {
		found.lanes = delayed->lanes;
		found.lane_count = delayed->lane_count;
	}
	delayed->found(delayed->context, &found, NULL);
	batch_unref(found.batch);
	delayed_forget_lanes(delayed);
}

/* ---- questions ---- */

/* As a parameter is passed.  The caller frees it. */
static char *
text(struct bytes b)
{
	return (strndup(b.data == NULL ? "" : b.data, b.len));
}

void
delayed_search(struct delayed * delayed, struct connection * connection, clock_ns now,
    const struct search * search)
{
	enum statement statement = search->what != SEARCH_LANE ? DUE :
	    bytes_present(search->lane.routing_key)            ? QUEUE :
								 EXCHANGE;
	struct array except = {.failed = false};
	char rows[24], bytes[24], at[24], after[24], lanes[24];
	const char * parameters[6] = {rows, bytes, NULL, NULL, after, NULL};
	const char * lanes_parameter = lanes;
	char * exchange = text(search->lane.exchange);
	char * routing_key = text(search->lane.routing_key);
	int count = statement == QUEUE ? 6 : 5;

	delayed->due = statement == DUE;
	delayed->all = search->what == SEARCH_DUE_ALL;
	delayed->rows = search->rows;
	delayed->bytes = search->bytes;
	for (size_t i = 0; i < search->except_count; i++)
		array_add_number(&except, search->except[i]);
	snprintf(rows, sizeof(rows), "%" PRIu32, search->rows);
	snprintf(bytes, sizeof(bytes), "%zu", search->bytes);
	snprintf(after, sizeof(after), "%" PRId64, search->after);
	parameters[2] = array_text(&except);
	if (statement == DUE) {
		snprintf(after, sizeof(after), "%" PRId64, delayed->at_id);
		snprintf(at, sizeof(at), "%" PRId64, delayed->at_us);
		if (!delayed->all && delayed->started)
			parameters[3] = at;
	} else {
		parameters[3] = exchange;
		parameters[5] = routing_key;
	}
	if (delayed->all) {
		snprintf(lanes, sizeof(lanes), "%d", LANES_MAX);
		connection_send_prepared(connection, now, statements[LANES].name, 1,
		    &lanes_parameter, delayed_on_lanes, delayed);
	}
	if (parameters[2] == NULL || exchange == NULL || routing_key == NULL)
		connection_lose(connection, "out of memory");
	else
		connection_send_prepared(connection, now, statements[statement].name, count,
		    parameters, delayed_on_rows, delayed);
	free(exchange);
	free(routing_key);
	array_free(&except);
}
