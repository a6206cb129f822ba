/*
 * What must stay true (D): a dead letter leaves outbox.dead in the statement
 * that puts it into outbox.delayed, so whoever interrupts this between two
 * steps, or runs it twice at once, finds it in one place.
 *
 * Steps go by id, so that messages of one key become due in their order, and
 * on from the last one: what earlier steps deleted is not read again, even
 * while an old snapshot keeps it from being vacuumed.
 *
 * Whatever its statistics say, the table is read by its indexes where few rows
 * are enough: by died_at for the newest, by id for the steps.  What is looked
 * for may be rare or not there, though, and an index on the way through all of a
 * million rows takes four times as long as the table itself.  So a list looks
 * among the newest first, and then through all.
 */
#include "admin/dead.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct dead {
	struct oneshot * oneshot;
	struct dead_filter filter;
	char older_than[32]; /* seconds */
	char until[64];      /* when this began, by the server's clock */
	char last[24];       /* the id that the last step ended at */
	bool scans;          /* the session reads whole tables, not by indexes */
};

#define PARAMETERS 9

/* clang-format off */

/* $1 to $8; with constants in place of the parameters the planner sees what is left of it. */
#define NAMES_SQL \
	"(($1::bigint[] IS NULL AND $2::uuid[] IS NULL) OR ($1::bigint[] IS NOT NULL AND x.id = ANY ($1::bigint[])) " \
	"OR ($2::uuid[] IS NOT NULL AND x.message_id = ANY ($2::uuid[]))) " \
	"AND ($3::text IS NULL OR x.exchange = $3::text) " \
	"AND ($4::text IS NULL OR x.routing_key = $4::text) " \
	"AND ($5::text IS NULL OR position(lower($5::text COLLATE \"C\") IN lower(x.reason COLLATE \"C\")) > 0) "
#define AGE_SQL \
	"($6::float8 IS NULL OR x.died_at < $8::timestamptz - make_interval(secs => $6::float8)) " \
	"AND ($7::boolean IS NULL OR (x.discarded_at IS NOT NULL) = $7::boolean) " \
	"AND x.died_at <= $8::timestamptz "
#define FILTER_SQL NAMES_SQL "AND " AGE_SQL

static const char now_sql[] = "SELECT clock_timestamp()";

/* For the functions: they put it into outbox.operation. */
static const char operator_sql[] =
    "SELECT set_config('outbox_relay.operator', jsonb_strip_nulls(jsonb_build_object("
    "'user', $1::text, 'host', $2::text, 'exchange', $3::text, 'routing_key', $4::text, "
    "'reason', $5::text, 'older_than_seconds', $6::float8))::text, false)";

static const char count_sql[] =
    "SELECT count(*) FROM outbox.dead AS x WHERE " FILTER_SQL "AND $9::bigint IS NOT NULL";

#define NEWEST_SQL "ORDER BY x.died_at DESC, x.id DESC LIMIT "
#define LIST_SQL(table, filter) \
	"SELECT x.id, x.message_id, date_trunc('second', x.died_at) AS died_at, x.exchange, " \
	"x.routing_key, x.attempts, x.reason, row_to_json(x)::text AS json FROM (" \
	"SELECT x.id, x.message_id, x.died_at, x.exchange, x.routing_key, x.ordering_key, x.type, " \
	"x.attempts, x.reason, x.last_error, x.holds_key, x.created_at, x.discarded_at " \
	"FROM " table " AS x WHERE " filter NEWEST_SQL "$9::bigint) AS x"

static const char list_sql[] = LIST_SQL("outbox.dead", FILTER_SQL);

/* Among the newest alone. */
static const char near_sql[] = LIST_SQL(
    "(SELECT * FROM outbox.dead AS x WHERE " AGE_SQL NEWEST_SQL "20000)", NAMES_SQL);

static const char show_sql[] =
    "SELECT x.id, x.message_id, x.reason, x.died_at, x.discarded_at, x.attempts, x.last_error, "
    "x.holds_key, x.exchange, x.routing_key, x.ordering_key, x.type, x.app_id, x.content_type, "
    "x.content_encoding, x.correlation_id, x.reply_to, x.expiration, x.priority, x.persistent, "
    "x.headers, x.created_at, x.deliver_at, "
    "coalesce(octet_length(x.payload), octet_length(x.payload_text), octet_length(x.payload_json::text)) "
    "AS payload_bytes, (SELECT string_agg(concat_ws('  ', h.event ->> 'at', h.event ->> 'event', "
    "h.event ->> 'reason'), E'\\n' ORDER BY h.n) "
    "FROM jsonb_array_elements(x.history) WITH ORDINALITY AS h (event, n)) AS history "
    "FROM outbox.dead AS x WHERE " FILTER_SQL "ORDER BY x.id LIMIT $9::bigint";

/* $10: on from there. */
#define STEP_SQL(function) \
	"WITH step AS MATERIALIZED (SELECT x.id FROM outbox.dead AS x WHERE " FILTER_SQL \
	"AND x.id > $10::bigint ORDER BY x.id LIMIT $9::bigint), " \
	"all_of AS MATERIALIZED (SELECT array_agg(s.id ORDER BY s.id) AS ids, max(s.id) AS last FROM step AS s) " \
	"SELECT a.last, outbox." function "(a.ids) FROM all_of AS a WHERE a.last IS NOT NULL"

/* $1, $2: of the step's ids, which this very transaction made due.  Bounds of a key, not equality: no
 * other index gives this order. */
static const char line_up_sql[] =
    "UPDATE outbox.delayed AS d SET waits_for = 'key', next_attempt_at = 'infinity' "
    "WHERE d.id > $1::bigint AND d.id <= $2::bigint AND d.waits_for = 'retry' "
    "AND d.next_attempt_at = now() AND d.ordering_key IS NOT NULL "
    "AND (SELECT l.id FROM outbox.delayed AS l WHERE l.ordering_key >= d.ordering_key "
    "AND l.ordering_key <= d.ordering_key AND l.waits_for <> 'schedule' "
    "ORDER BY l.ordering_key, l.id LIMIT 1) < d.id";

/* clang-format on */

/* $1: whether tables are read, $2: whether indexes. */
static const char scan_sql[] =
    "SELECT set_config(s.name, s.value, false) FROM (VALUES ('enable_seqscan', $1), "
    "('enable_sort', $1), ('enable_indexscan', $2)) AS s (name, value)";

/* Whoever stands still in a transaction must not keep the relay from its marks; whoever
 * looks takes one of the server's cores and not several. */
static const char settings_sql[] =
    "SET enable_seqscan = off; SET enable_sort = off; SET enable_bitmapscan = off; "
    "SET max_parallel_workers_per_gather = 0; "
    "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = '3s'";

/* ${limit}: the ninth parameter. */
static int
dead_ask(struct dead * dead, const char * sql, int count, const char * limit, struct error * e)
{
	const struct dead_filter * filter = &dead->filter;
	const char * parameters[] = {filter->ids, filter->message_ids, filter->exchange,
	    filter->routing_key, filter->reason,
	    filter->older_than_ms > 0 ? dead->older_than : NULL,
	    filter->either        ? NULL :
		filter->discarded ? "true" :
				    "false",
	    dead->until, limit, dead->last};

	return (oneshot_ask(dead->oneshot, sql, count, parameters, e));
}

static int
dead_prepare(struct dead * dead, struct error * e)
{
	const struct dead_filter * filter = &dead->filter;
	const char * about[] = {oneshot_user(dead->oneshot), oneshot_host(dead->oneshot),
	    filter->exchange, filter->routing_key, filter->reason,
	    filter->older_than_ms > 0 ? dead->older_than : NULL};

	if (oneshot_ask(dead->oneshot, now_sql, 0, NULL, e))
		return (-1);
	snprintf(dead->until, sizeof(dead->until), "%s", oneshot_value(dead->oneshot, 0, 0));
	return (oneshot_ask(dead->oneshot, operator_sql, 6, about, e));
}

struct dead *
dead_open(const struct oneshot_options * options, const struct dead_filter * filter,
    struct error * e)
{
	struct oneshot_options connection = *options;
	struct dead * dead;

	if ((dead = calloc(1, sizeof(*dead))) == NULL) {
		error_set(e, EXIT_BUG, "out of memory");
		return (NULL);
	}
	connection.word = "outbox";
	connection.purpose = "dead";
	connection.settings = settings_sql;
	dead->filter = *filter;
	snprintf(dead->older_than, sizeof(dead->older_than), "%" PRId64 ".%03d",
	    filter->older_than_ms / 1000, (int)(filter->older_than_ms % 1000));
	snprintf(dead->last, sizeof(dead->last), "%" PRId64, INT64_MIN);
	if ((dead->oneshot = oneshot_open(&connection, e)) == NULL || dead_prepare(dead, e)) {
		dead_close(dead);
		return (NULL);
	}
	return (dead);
}

void
dead_close(struct dead * dead)
{
	if (dead == NULL)
		return;
	oneshot_close(dead->oneshot);
	free(dead);
}

/* How the following statements read: all of the table, or by its indexes. */
static int
dead_scan(struct dead * dead, bool scan, struct error * e)
{
	const char * how[] = {scan ? "on" : "off", scan ? "off" : "on"};

	if (dead->scans == scan)
		return (0);
	if (oneshot_ask(dead->oneshot, scan_sql, 2, how, e))
		return (-1);
	dead->scans = scan;
	return (0);
}

/* Whether only a look at every row finds what is meant; numbers have an index. */
static bool
dead_is_far(const struct dead_filter * filter)
{
	return (filter->ids == NULL || filter->message_ids != NULL);
}

int64_t
dead_count(struct dead * dead, struct error * e)
{
	if (dead_scan(dead, dead_is_far(&dead->filter), e) ||
	    dead_ask(dead, count_sql, PARAMETERS, "0", e))
		return (-1);
	return (oneshot_number(dead->oneshot, 0, 0));
}

static const struct oneshot *
dead_look(struct dead * dead, const char * sql, bool scan, unsigned int limit, struct error * e)
{
	char number[16];

	if (dead_scan(dead, scan, e))
		return (NULL);
	snprintf(number, sizeof(number), "%u", limit);
	return (dead_ask(dead, sql, PARAMETERS, number, e) ? NULL : dead->oneshot);
}

const struct oneshot *
dead_list(struct dead * dead, unsigned int limit, struct error * e)
{
	const struct dead_filter * filter = &dead->filter;
	const struct oneshot * answer;

	/* The index by died_at has only those that wait for a decision. */
	if (filter->discarded || filter->either)
		return (dead_look(dead, list_sql, true, limit, e));
	if (filter->exchange == NULL && filter->routing_key == NULL && filter->reason == NULL)
		return (dead_look(dead, list_sql, false, limit, e));
	if ((answer = dead_look(dead, near_sql, false, limit, e)) == NULL ||
	    oneshot_rows(answer) == limit)
		return (answer);
	return (dead_look(dead, list_sql, true, limit, e));
}

const struct oneshot *
dead_show(struct dead * dead, unsigned int limit, struct error * e)
{
	return (dead_look(dead, show_sql, dead_is_far(&dead->filter), limit, e));
}

/* Somebody else may have taken all of a step: then the next one is tried. */
static int64_t
dead_step(struct dead * dead, const char * sql, unsigned int limit, struct error * e)
{
	char number[16];
	int64_t taken = 0;

	snprintf(number, sizeof(number), "%u", limit);
	while (taken == 0) {
		if (dead_ask(dead, sql, PARAMETERS + 1, number, e))
			return (-1);
		if (oneshot_rows(dead->oneshot) == 0)
			return (0);
		snprintf(dead->last, sizeof(dead->last), "%s", oneshot_value(dead->oneshot, 0, 0));
		taken = oneshot_number(dead->oneshot, 0, 1);
	}
	return (taken);
}

/* One statement without parameters. */
static int
dead_do(struct dead * dead, const char * sql, struct error * e)
{
	return (oneshot_ask(dead->oneshot, sql, 0, NULL, e));
}

/*
 * What is retried lines up behind the earlier ones of its key, as what the
 * relay puts aside does.  Were all of a million due, each search would walk
 * over those whose turn it is not.  Nobody may leave the line while it is
 * looked who is there, so no mark is made meanwhile: each begins with a row of
 * outbox.sent.
 */
static int64_t
dead_retry_in_line(struct dead * dead, unsigned int limit, struct error * e)
{
	char before[sizeof(dead->last)];
	const char * step[] = {before, dead->last};
	int64_t taken;

	memcpy(before, dead->last, sizeof(before));
	if (dead_do(dead, "LOCK TABLE outbox.sent IN SHARE MODE", e) ||
	    (taken = dead_step(dead, STEP_SQL("retry_dead"), limit, e)) < 0 ||
	    oneshot_ask(dead->oneshot, line_up_sql, 2, step, e))
		return (-1);
	return (taken);
}

int64_t
dead_retry(struct dead * dead, unsigned int limit, struct error * e)
{
	struct error ignored;
	int64_t taken;

	if (dead_scan(dead, false, e) || dead_do(dead, "BEGIN", e))
		return (-1);
	taken = dead_retry_in_line(dead, limit, e);
	if (taken < 0)
		(void)dead_do(dead, "ROLLBACK", &ignored);
	else if (dead_do(dead, "COMMIT", e))
		return (-1);
	return (taken);
}

int64_t
dead_discard(struct dead * dead, unsigned int limit, struct error * e)
{
	if (dead_scan(dead, false, e))
		return (-1);
	return (dead_step(dead, STEP_SQL("discard_dead"), limit, e));
}
