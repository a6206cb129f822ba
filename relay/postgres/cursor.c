/*
 * What must stay true:
 *
 * The target is taken in the statement that reads its first rows and frozen
 * until the interval is exhausted; that statement has no xid of its own.
 *
 * An interval is small when at most PROBE - 1 rows lie in the range of xids
 * that it may span.  Then its ids are sorted outside of any index.  A large
 * one pages the primary key, between two bounds: the floor, the greatest id
 * visible in prev (a fresh row took its xid after prev, and its id after its
 * xid, so its id is greater), and the ceiling, the greatest id visible when
 * the target was taken.  Without the floor every kept row would be read
 * again; without the ceiling, every newer one.  The floor assumes that the
 * sequence never went back.  A human can make it go back, so a large interval
 * first asks the index, which is cheap, whether a fresh row lies below it.
 *
 * Stragglers, rows of transactions that were in progress in prev, come from
 * the index on (xid, id) by their xids and are merged in by id.  They may lie
 * anywhere below, so they never move the bounds.
 *
 * The plans must not depend on statistics: the session switches off the node
 * types that would tempt the planner, and tests assert the plans.
 */
#include "postgres/cursor.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "postgres/rows.h"
#include "postgres/sql.h"
#include "postgres/wire.h"

/* As a multiple of the rows asked for: when an interval counts as large. */
#define PROBE_FACTOR 4

/* Beside the columns of the table, to which the application may add its own. */
#define SIZE ROWS_SIZE_NAME
#define BEFORE "outbox_relay_before"

/* clang-format off */

/*
 * The rows of transactions that were in progress in prev ($1).  With m.xid =
 * x.xid the primary key would give the same order, and the planner would walk
 * all kept rows of a table in which few transactions wrote many.
 */
#define STRAGGLERS_SQL(columns, target, last_id, rows) \
	"SELECT s.* FROM unnest(ARRAY(SELECT pg_snapshot_xip($1::pg_snapshot))) AS x(xid), " \
	"LATERAL (SELECT " columns " FROM outbox.message m " \
	"WHERE (m.xid, m.id) > (x.xid, " last_id ") AND m.xid <= x.xid " \
	"AND pg_visible_in_snapshot(m.xid, " target ") " \
	"ORDER BY m.xid, m.id LIMIT " rows ") s "

/*
 * $1 prev, $2 target or NULL, $3 last_id, $4 rows, $5 bytes, $6 probe.
 * Always answers with a row, for the target; a large interval has no others,
 * but the ceiling.  Rows are looked up by xid, too, so that either index finds
 * one, and OFFSET 0 keeps that inside of the loop over picked: a plan that was
 * made while a slot was empty is kept, and might read all of it otherwise.
 */
static const char small_sql[] =
    "WITH now AS MATERIALIZED ("
    "SELECT coalesce($2::pg_snapshot, pg_current_snapshot()) AS target), "
    "probe AS MATERIALIZED ("
    "SELECT m.xid, m.id, m.slot FROM outbox.message m "
    "WHERE m.xid >= pg_snapshot_xmax($1::pg_snapshot) "
    "AND m.xid < (SELECT pg_snapshot_xmax(target) FROM now) "
    "ORDER BY m.xid, m.id LIMIT $6::int), "
    "size AS MATERIALIZED (SELECT count(*) >= $6::int AS large FROM probe), "
    "picked AS MATERIALIZED (SELECT u.xid, u.id, u.slot FROM ("
    STRAGGLERS_SQL("m.xid, m.id, m.slot", "(SELECT target FROM now)", "$3::bigint", "$4::int")
    "WHERE NOT (SELECT large FROM size) "
    "UNION ALL "
    "SELECT p.xid, p.id, p.slot FROM probe p WHERE NOT (SELECT large FROM size) "
    "AND p.id > $3::bigint AND pg_visible_in_snapshot(p.xid, (SELECT target FROM now))"
    ") u ORDER BY u.id LIMIT $4::int), "
    "sized AS (SELECT m.*, s.size AS " SIZE ", "
    "sum(s.size) OVER (ORDER BY m.id ROWS UNBOUNDED PRECEDING) - s.size AS " BEFORE " "
    "FROM picked p, LATERAL (SELECT * FROM outbox.message m "
    "WHERE m.xid = p.xid AND m.id = p.id AND m.slot = p.slot OFFSET 0) m, "
    "LATERAL (SELECT " ROWS_SIZE_SQL " AS size) s) "
    "SELECT n.target::text, z.large, "
    "CASE WHEN z.large THEN (SELECT max(id) FROM outbox.message) END, "
    ROWS_COLUMNS_SQL
    " FROM now n CROSS JOIN size z "
    "LEFT JOIN sized r ON r." BEFORE " < $5::bigint ORDER BY r.id";

enum { SMALL_TARGET, SMALL_LARGE, SMALL_CEILING, SMALL_ROWS };

/*
 * $1 prev, $2 target, $3 last_id, $4 rows, $5 bytes, $6 floor, $7 ceiling.
 * IS TRUE keeps the condition on xid out of the index's reach: without
 * statistics the planner would read the whole interval by (xid, id) and sort.
 */
static const char large_sql[] =
    "SELECT " ROWS_COLUMNS_SQL " FROM (SELECT u.*, "
    "sum(u." SIZE ") OVER (ORDER BY u.id ROWS UNBOUNDED PRECEDING) - u." SIZE " AS " BEFORE " "
    "FROM (SELECT m.*, " ROWS_SIZE_SQL " AS " SIZE " FROM (("
    STRAGGLERS_SQL("m.*", "$2::pg_snapshot", "$3::bigint", "$4::int")
    "ORDER BY s.id LIMIT $4::int) "
    "UNION ALL "
    "(SELECT m.* FROM outbox.message m "
    "WHERE m.id > greatest($3::bigint, $6::bigint) AND m.id <= $7::bigint "
    "AND (m.xid >= pg_snapshot_xmax($1::pg_snapshot)) IS TRUE "
    "AND pg_visible_in_snapshot(m.xid, $2::pg_snapshot) "
    "ORDER BY m.id LIMIT $4::int)"
    ") m ORDER BY m.id LIMIT $4::int) u) r "
    "WHERE r." BEFORE " < $5::bigint ORDER BY r.id";

/*
 * $1 prev, $2 target, $3 floor: whether a fresh row lies at or below the floor.
 * The order leaves the planner no other index than the one on (xid, id).
 */
static const char below_sql[] =
    "SELECT (SELECT true FROM outbox.message m "
    "WHERE m.xid >= pg_snapshot_xmax($1::pg_snapshot) "
    "AND m.xid < pg_snapshot_xmax($2::pg_snapshot) AND m.id <= $3::bigint "
    "ORDER BY m.xid, m.id LIMIT 1) IS NOT NULL";

/* clang-format on */

static const struct statement {
	const char * name;
	const char * sql;
} statements[] = {{"small", small_sql}, {"large", large_sql}, {"below", below_sql}};

#define STATEMENTS (sizeof(statements) / sizeof(statements[0]))

struct interval {
	uint64_t number;
	char * prev;
	char * target;
	int64_t floor_id;
	int64_t max_id; /* greatest id visible in target, so far */
	struct interval * next;
};

struct cursor {
	cursor_fetched * fetched;
	void * context;
	char * sql[STATEMENTS];
	struct interval * first; /* oldest that may still be recorded */
	struct interval * last;
	uint64_t number; /* of the newest interval */
	char * prev;     /* while no interval is open */
	int64_t floor_id;
	struct interval * open; /* == last, or NULL */
	int64_t last_id;        /* taken of the open interval */
	bool large;
	int64_t page_floor;
	int64_t ceiling;
	/* The fetch that is under way. */
	struct connection * connection;
	clock_ns now;
	uint32_t rows;
	size_t bytes;
};

static void
interval_free(struct interval * interval)
{
	free(interval->prev);
	free(interval->target);
	free(interval);
}

struct cursor *
cursor_new(const char * schema, cursor_fetched * fetched, void * context)
{
	struct cursor * cursor;

	if ((cursor = calloc(1, sizeof(*cursor))) == NULL)
		return (NULL);
	cursor->fetched = fetched;
	cursor->context = context;
	for (size_t i = 0; i < STATEMENTS; i++) {
		if ((cursor->sql[i] = sql_in_schema(statements[i].sql, schema)) == NULL) {
			cursor_free(cursor);
			return (NULL);
		}
	}
	return (cursor);
}

void
cursor_free(struct cursor * cursor)
{
	if (cursor == NULL)
		return;
	cursor_forget(cursor, UINT64_MAX);
	for (size_t i = 0; i < STATEMENTS; i++)
		free(cursor->sql[i]);
	free(cursor->prev);
	free(cursor);
}

static void
cursor_fail(struct cursor * cursor, const struct error * e)
{
	cursor->fetched(cursor->context, NULL, cursor->number, false, e);
}

/* Told here, what is wrong is not hidden by "no such statement". */
static void
cursor_answer_prepared(void * context, PGresult ** result, const struct error * e)
{
	(void)result;
	if (e != NULL)
		cursor_fail(context, e);
}

void
cursor_prepare(struct cursor * cursor, struct connection * connection, clock_ns now)
{
	for (size_t i = 0; i < STATEMENTS; i++)
		connection_prepare(connection, now, statements[i].name, cursor->sql[i],
		    cursor_answer_prepared, cursor);
}

void
cursor_forget(struct cursor * cursor, uint64_t number)
{
	while (cursor->first != NULL && cursor->first->number < number) {
		struct interval * next = cursor->first->next;

		if (cursor->open == cursor->first)
			cursor->open = NULL;
		interval_free(cursor->first);
		cursor->first = next;
	}
	if (cursor->first == NULL)
		cursor->last = NULL;
}

/* Open an interval from where the cursor stands to ${target}. */
static int
cursor_open(struct cursor * cursor, const char * target)
{
	struct interval * interval;

	if ((interval = calloc(1, sizeof(*interval))) == NULL)
		return (-1);
	interval->prev = strdup(cursor->prev);
	interval->target = strdup(target);
	if (interval->prev == NULL || interval->target == NULL) {
		interval_free(interval);
		return (-1);
	}
	interval->number = ++cursor->number;
	interval->floor_id = cursor->floor_id;
	interval->max_id = cursor->floor_id;
	if (cursor->last != NULL)
		cursor->last->next = interval;
	else
		cursor->first = interval;
	cursor->last = cursor->open = interval;
	cursor->last_id = 0;
	cursor->large = false;
	return (0);
}

/* The open interval is exhausted: its target is the next one's prev. */
static int
cursor_close(struct cursor * cursor)
{
	char * prev;

	if ((prev = strdup(cursor->open->target)) == NULL)
		return (-1);
	free(cursor->prev);
	cursor->prev = prev;
	cursor->floor_id = cursor->open->max_id;
	cursor->open = NULL;
	return (0);
}

int
cursor_load(struct cursor * cursor, const struct cursor_position * position)
{
	char * prev;

	if ((prev = strdup(position->prev)) == NULL)
		return (-1);
	cursor_forget(cursor, UINT64_MAX);
	free(cursor->prev);
	cursor->prev = prev;
	cursor->floor_id = position->floor_id;
	if (position->target == NULL)
		return (0);
	if (cursor_open(cursor, position->target))
		return (-1);
	cursor->last_id = position->last_id;
	if (position->last_id > cursor->open->max_id)
		cursor->open->max_id = position->last_id;
	return (0);
}

static void
cursor_fail_memory(struct cursor * cursor)
{
	struct error e;

	error_set(&e, EXIT_BUG, "out of memory");
	cursor_fail(cursor, &e);
}

/* Hand over what was read of the open interval. */
static void
cursor_deliver(struct cursor * cursor, PGresult ** result, int column)
{
	struct error e;
	struct batch * batch;
	int64_t bytes;
	bool exhausted;

	batch = rows_to_batch(result, column, &bytes, &e);
	if (batch == NULL && e.text[0] != '\0') {
		cursor_fail(cursor, &e);
		return;
	}
	exhausted = batch == NULL ||
	    (batch->count < cursor->rows && (uint64_t)bytes < cursor->bytes);
	if (batch != NULL) {
		cursor->last_id = batch->messages[batch->count - 1]->id;
		if (cursor->last_id > cursor->open->max_id)
			cursor->open->max_id = cursor->last_id;
	}
	if (exhausted && cursor_close(cursor))
		cursor_fail_memory(cursor);
	else
		cursor->fetched(cursor->context, batch, cursor->number, exhausted, NULL);
	batch_unref(batch);
}

static void
cursor_answer_large(void * context, PGresult ** result, const struct error * e)
{
	struct cursor * cursor = context;

	if (e != NULL)
		cursor_fail(cursor, e);
	else
		cursor_deliver(cursor, result, 0);
}

static void
cursor_send_large(struct cursor * cursor)
{
	char numbers[5][24];
	const char * parameters[] = {cursor->open->prev, cursor->open->target, numbers[0],
	    numbers[1], numbers[2], numbers[3], numbers[4]};

	snprintf(numbers[0], sizeof(numbers[0]), "%" PRId64, cursor->last_id);
	snprintf(numbers[1], sizeof(numbers[1]), "%" PRIu32, cursor->rows);
	snprintf(numbers[2], sizeof(numbers[2]), "%zu", cursor->bytes);
	snprintf(numbers[3], sizeof(numbers[3]), "%" PRId64, cursor->page_floor);
	snprintf(numbers[4], sizeof(numbers[4]), "%" PRId64, cursor->ceiling);
	connection_send_prepared(cursor->connection, cursor->now, "large", 7, parameters,
	    cursor_answer_large, cursor);
}

static void
cursor_answer_below(void * context, PGresult ** result, const struct error * e)
{
	struct cursor * cursor = context;

	if (e != NULL) {
		cursor_fail(cursor, e);
		return;
	}
	if (wire_bool(*result, 0, 0))
		cursor->page_floor = 0;
	cursor_send_large(cursor);
}

/* The interval turned out to be large: find its bounds, then read. */
static void
cursor_begin_large(struct cursor * cursor, const PGresult * result)
{
	char floor_id[24];
	const char * parameters[] = {cursor->open->prev, cursor->open->target, floor_id};

	cursor->large = true;
	cursor->page_floor = cursor->open->floor_id;
	cursor->ceiling = PQgetisnull(result, 0, SMALL_CEILING) ?
	    0 :
	    wire_int64(result, 0, SMALL_CEILING);
	snprintf(floor_id, sizeof(floor_id), "%" PRId64, cursor->page_floor);
	connection_send_prepared(cursor->connection, cursor->now, "below", 3, parameters,
	    cursor_answer_below, cursor);
}

static void
cursor_answer_small(void * context, PGresult ** result, const struct error * e)
{
	struct cursor * cursor = context;
	bool large;

	if (e != NULL) {
		cursor_fail(cursor, e);
		return;
	}
	large = wire_bool(*result, 0, SMALL_LARGE);
	if (cursor->open == NULL) {
		/* Nothing between prev and target: step over it without an interval. */
		if (!large && PQgetisnull(*result, 0, SMALL_ROWS)) {
			char * prev = strdup(PQgetvalue(*result, 0, SMALL_TARGET));

			if (prev == NULL) {
				cursor_fail_memory(cursor);
				return;
			}
			free(cursor->prev);
			cursor->prev = prev;
			cursor->fetched(cursor->context, NULL, cursor->number, true, NULL);
			return;
		}
		if (cursor_open(cursor, PQgetvalue(*result, 0, SMALL_TARGET))) {
			cursor_fail_memory(cursor);
			return;
		}
	}
	if (large)
		cursor_begin_large(cursor, *result);
	else
		cursor_deliver(cursor, result, SMALL_ROWS);
}

static void
cursor_send_small(struct cursor * cursor)
{
	char numbers[4][24];
	const char * parameters[] = {cursor->prev, NULL, numbers[0], numbers[1], numbers[2],
	    numbers[3]};

	if (cursor->open != NULL) {
		parameters[0] = cursor->open->prev;
		parameters[1] = cursor->open->target;
	}
	snprintf(numbers[0], sizeof(numbers[0]), "%" PRId64,
	    cursor->open == NULL ? 0 : cursor->last_id);
	snprintf(numbers[1], sizeof(numbers[1]), "%" PRIu32, cursor->rows);
	snprintf(numbers[2], sizeof(numbers[2]), "%zu", cursor->bytes);
	snprintf(numbers[3], sizeof(numbers[3]), "%" PRIu32, cursor->rows * PROBE_FACTOR + 1);
	connection_send_prepared(cursor->connection, cursor->now, "small", 6, parameters,
	    cursor_answer_small, cursor);
}

void
cursor_fetch(struct cursor * cursor, struct connection * connection, clock_ns now, uint32_t rows,
    size_t bytes)
{
	cursor->connection = connection;
	cursor->now = now;
	cursor->rows = rows;
	cursor->bytes = bytes;
	if (cursor->open != NULL && cursor->large)
		cursor_send_large(cursor);
	else
		cursor_send_small(cursor);
}

void
cursor_position(const struct cursor * cursor, uint64_t number, int64_t last_id, bool exhausted,
    struct cursor_position * position)
{
	const struct interval * interval = cursor->first;

	while (interval->number != number)
		interval = interval->next;
	if (exhausted)
		*position = (struct cursor_position){.prev = interval->target,
		    .floor_id = interval->max_id};
	else
		*position = (struct cursor_position){.prev = interval->prev,
		    .target = interval->target,
		    .last_id = last_id,
		    .floor_id = interval->floor_id};
}
