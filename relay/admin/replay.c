/*
 * What must stay true: a copy has the message id of its original, so that an
 * inbox knows it; what was never sent is not sent from here (the relay, or a
 * person who retries it, does that), so "sent" is judged by one mark, read when
 * this begins, and what lies in delayed or dead is left alone.  Copies are no
 * originals: a second replay does not multiply the first.
 *
 * Steps go by id, so the copies have the order of the originals, and a key's
 * order holds.  The copies are written now, and created_at says so: emptying of
 * slots and the age of the backlog go by it.  When the original was written
 * stands in a header.
 *
 * To reach one queue alone, RabbitMQ's own headers CC and BCC must go too: the
 * default exchange would route by them to more queues.
 */
#include "admin/replay.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct replay {
	struct oneshot * oneshot;
	struct replay_filter filter;
	char since[64]; /* "" is any time */
	char until[64];
	char * prev; /* of the mark that says what is sent; NULL: nothing is */
	char * target;
	char last_id[24];
	int64_t newest; /* greatest id when this began */
	int64_t last;
	char step_xid[24]; /* of the last step; "": none yet */
	int64_t written;   /* greatest id of a copy in it; before the first: newest */
	bool beside;
};

#define FILTER_PARAMETERS 10

/* clang-format off */

/* $1 to $10. */
#define FILTER_SQL \
	"m.id > $1::bigint AND m.id <= $2::bigint " \
	"AND (pg_visible_in_snapshot(m.xid, $3::pg_snapshot) " \
	"OR ($4::text IS NOT NULL AND m.id <= $5::bigint AND pg_visible_in_snapshot(m.xid, $4::pg_snapshot))) " \
	"AND ($6::text IS NULL OR m.exchange = $6::text) " \
	"AND ($7::text IS NULL OR m.routing_key = $7::text) " \
	"AND ($8::text IS NULL OR m.ordering_key = $8::text) " \
	"AND ($9::timestamptz IS NULL OR m.created_at >= $9::timestamptz) " \
	"AND ($10::timestamptz IS NULL OR m.created_at < $10::timestamptz) " \
	"AND NOT coalesce(m.headers ? 'x-replayed', false) " \
	"AND NOT EXISTS (SELECT FROM outbox.delayed AS o WHERE o.id = m.id) " \
	"AND NOT EXISTS (SELECT FROM outbox.dead AS o WHERE o.id = m.id) "

#define SAME_SQL \
	"payload, payload_text, payload_json, ordering_key, type, app_id, content_type, content_encoding, " \
	"correlation_id, reply_to, expiration, priority, persistent"

static const char mark_sql[] =
    "SELECT s.prev, s.target, s.last_id, "
    "(SELECT m.id FROM outbox.message AS m ORDER BY m.id DESC LIMIT 1), "
    "has_column_privilege('outbox.message', 'exchange', 'INSERT'), current_user::text, "
    "(SELECT pg_get_userbyid(c.relowner) FROM pg_class AS c WHERE c.oid = 'outbox.message'::regclass) "
    "FROM (SELECT) AS one LEFT JOIN (SELECT * FROM outbox.sent ORDER BY seq DESC LIMIT 1) AS s ON true";

static const char leads_sql[] =
    "SELECT count(*) FROM pg_locks AS l WHERE l.locktype = 'advisory' AND l.granted "
    "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "AND l.classid = 'outbox.message'::regclass::oid AND l.objid = 4294967295 AND l.objsubid = 2";

static const char look_sql[] =
    "SELECT m.exchange, count(*) AS messages, min(m.id) FROM outbox.message AS m WHERE " FILTER_SQL
    "GROUP BY m.exchange ORDER BY m.exchange";

/* From here on each step must be cheap, whatever the statistics say. */
static const char by_index_sql[] =
    "SELECT set_config(name, 'off', false) FROM unnest(ARRAY['enable_seqscan', 'enable_sort', "
    "'enable_bitmapscan', 'enable_hashjoin', 'enable_mergejoin']) AS name";

/* $11 how many, $12 the queue, $13 and $14 who. */
static const char step_sql[] =
    "WITH page AS MATERIALIZED (SELECT m.* FROM outbox.message AS m WHERE " FILTER_SQL
    "ORDER BY m.id LIMIT $11::bigint), "
    "copy AS (INSERT INTO outbox.message (message_id, exchange, routing_key, headers, " SAME_SQL ") "
    "SELECT message_id, CASE WHEN $12::text IS NULL THEN exchange ELSE '' END, "
    "coalesce($12::text, routing_key), CASE WHEN $12::text IS NULL THEN coalesce(headers, '{}') "
    "ELSE coalesce(headers, '{}') - 'CC' - 'BCC' || jsonb_build_object("
    "'x-replayed-exchange', exchange, 'x-replayed-routing-key', routing_key) END || "
    "jsonb_build_object('x-replayed', true, 'x-replayed-created-at', "
    "to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')), " SAME_SQL
    " FROM page ORDER BY page.id RETURNING id), "
    "noted AS (INSERT INTO outbox.operation (operation, details, messages) "
    "SELECT 'replay', jsonb_strip_nulls(jsonb_build_object('user', $13::text, 'host', $14::text, "
    "'exchange', $6::text, 'routing_key', $7::text, 'ordering_key', $8::text, "
    "'since', $9::timestamptz, 'until', $10::timestamptz, 'to_queue', $12::text, "
    "'first_id', min(page.id), 'last_id', max(page.id))), count(*) FROM page HAVING count(*) > 0) "
    "SELECT (SELECT max(page.id) FROM page), (SELECT count(*) FROM copy), "
    "(SELECT max(copy.id) FROM copy), pg_current_xact_id()";

/* $1 the step's xid, $2 its greatest id: as for any message, its newest mark tells. */
static const char settled_sql[] =
    "SELECT coalesce((SELECT pg_visible_in_snapshot($1::xid8, s.prev) "
    "OR (s.last_id >= $2::bigint AND pg_visible_in_snapshot($1::xid8, s.target)) "
    "FROM outbox.sent AS s ORDER BY s.seq DESC LIMIT 1), false)";

/* clang-format on */

/* A time, or an age of so many milliseconds, to a time that stays. */
static int
replay_time(struct replay * replay, const char * text, int64_t age_ms, char * time, size_t size,
    struct error * e)
{
	char seconds[32];
	const char * parameter = text;
	const char * sql = "SELECT $1::timestamptz";

	if (text == NULL && age_ms == 0)
		return (0);
	if (text == NULL) {
		snprintf(seconds, sizeof(seconds), "%" PRId64 ".%03d", age_ms / 1000,
		    (int)(age_ms % 1000));
		parameter = seconds;
		sql = "SELECT now() - make_interval(secs => $1::float8)";
	}
	if (oneshot_ask(replay->oneshot, sql, 1, &parameter, e)) {
		/* Class 22: what cannot be read as a time. */
		if (strncmp(e->sqlstate, "22", 2) != 0)
			return (-1);
		error_set(e, EXIT_USAGE, "\"%.60s\" is no time", text == NULL ? seconds : text);
		return (error_remedy(e,
		    "write a time like 2026-11-20T08:00Z, or an age like 90m or 2d"));
	}
	snprintf(time, size, "%s", oneshot_value(replay->oneshot, 0, 0));
	return (0);
}

static int
replay_no_right(const struct replay * replay, struct error * e)
{
	const struct oneshot * answer = replay->oneshot;

	error_set(e, EXIT_PERMISSION,
	    "role %s may not insert messages in database %s, and replay inserts copies",
	    oneshot_value(answer, 0, 5), oneshot_database(answer));
	return (error_remedy(e,
	    "connect as %s: set OUTBOX_RELAY_POSTGRES_DSN for this command; or give the role both "
	    "grant_writer and grant_relay",
	    oneshot_value(answer, 0, 6)));
}

static int
replay_prepare(struct replay * replay, struct error * e)
{
	const struct replay_filter * filter = &replay->filter;
	const struct oneshot * answer = replay->oneshot;

	if (replay_time(replay, filter->since, filter->since_ms, replay->since,
		sizeof(replay->since), e) ||
	    replay_time(replay, filter->until, filter->until_ms, replay->until,
		sizeof(replay->until), e) ||
	    oneshot_ask(replay->oneshot, mark_sql, 0, NULL, e))
		return (-1);
	if (!filter->look_only && oneshot_value(answer, 0, 4)[0] != 't')
		return (replay_no_right(replay, e));
	replay->newest = replay->written = oneshot_number(answer, 0, 3);
	if (oneshot_value(answer, 0, 0) == NULL)
		return (0);
	snprintf(replay->last_id, sizeof(replay->last_id), "%s", oneshot_value(answer, 0, 2));
	if ((replay->prev = strdup(oneshot_value(answer, 0, 0))) == NULL)
		return (error_set(e, EXIT_BUG, "out of memory"));
	if (oneshot_value(answer, 0, 1) != NULL &&
	    (replay->target = strdup(oneshot_value(answer, 0, 1))) == NULL)
		return (error_set(e, EXIT_BUG, "out of memory"));
	return (0);
}

struct replay *
replay_open(const struct oneshot_options * options, const struct replay_filter * filter,
    struct error * e)
{
	struct oneshot_options connection = *options;
	struct replay * replay;

	if ((replay = calloc(1, sizeof(*replay))) == NULL) {
		error_set(e, EXIT_BUG, "out of memory");
		return (NULL);
	}
	connection.word = "outbox";
	connection.purpose = "replay";
	/* No flush of ours in the way of the application's: a mark flushes what it covers. */
	connection.settings = "SET statement_timeout = 0; SET synchronous_commit = off";
	replay->filter = *filter;
	replay->last = filter->after;
	if ((replay->oneshot = oneshot_open(&connection, e)) == NULL || replay_prepare(replay, e)) {
		replay_close(replay);
		return (NULL);
	}
	return (replay);
}

void
replay_close(struct replay * replay)
{
	if (replay == NULL)
		return;
	oneshot_close(replay->oneshot);
	free(replay->prev);
	free(replay->target);
	free(replay);
}

static const char *
given(const char * text)
{
	return (text[0] == '\0' ? NULL : text);
}

/* ${limit}: NULL for a statement that has the filter's parameters alone. */
static int
replay_ask(struct replay * replay, const char * sql, const char * limit, struct error * e)
{
	const struct replay_filter * filter = &replay->filter;
	char last[24], newest[24];
	const char * parameters[] = {last, newest, replay->prev, replay->target,
	    given(replay->last_id), filter->exchange, filter->routing_key, filter->ordering_key,
	    given(replay->since), given(replay->until), limit, filter->to_queue,
	    oneshot_user(replay->oneshot), oneshot_host(replay->oneshot)};
	int count = sizeof(parameters) / sizeof(parameters[0]);

	snprintf(last, sizeof(last), "%" PRId64, replay->last);
	snprintf(newest, sizeof(newest), "%" PRId64, replay->newest);
	return (oneshot_ask(replay->oneshot, sql, limit == NULL ? FILTER_PARAMETERS : count,
	    parameters, e));
}

const struct oneshot *
replay_look(struct replay * replay, int64_t * total, struct error * e)
{
	const struct oneshot * answer = replay->oneshot;
	int64_t least = INT64_MAX;

	if (replay_ask(replay, look_sql, NULL, e))
		return (NULL);
	*total = 0;
	for (size_t i = 0; i < oneshot_rows(answer); i++) {
		*total += oneshot_number(answer, i, 1);
		if (oneshot_number(answer, i, 2) < least)
			least = oneshot_number(answer, i, 2);
	}
	/* The first step need not read its way to there. */
	if (*total > 0)
		replay->last = least - 1;
	return (answer);
}

int
replay_leads(struct replay * replay, struct error * e)
{
	if (oneshot_ask(replay->oneshot, leads_sql, 0, NULL, e))
		return (-1);
	return (oneshot_number(replay->oneshot, 0, 0) > 0 ? 1 : 0);
}

int64_t
replay_step(struct replay * replay, unsigned int limit, struct error * e)
{
	const struct oneshot * answer = replay->oneshot;
	int64_t count, written;
	char number[16];

	snprintf(number, sizeof(number), "%u", limit);
	if (replay->step_xid[0] == '\0' && oneshot_ask(replay->oneshot, by_index_sql, 0, NULL, e))
		return (-1);
	if (replay_ask(replay, step_sql, number, e))
		return (-1);
	if ((count = oneshot_number(answer, 0, 1)) == 0)
		return (0);
	written = oneshot_number(answer, 0, 2);
	/* Ids that are not ours have gone to somebody else. */
	replay->beside = written - replay->written > count;
	replay->written = written;
	replay->last = oneshot_number(answer, 0, 0);
	snprintf(replay->step_xid, sizeof(replay->step_xid), "%s", oneshot_value(answer, 0, 3));
	return (count);
}

bool
replay_beside_others(const struct replay * replay)
{
	return (replay->beside);
}

int
replay_settled(struct replay * replay, struct error * e)
{
	char written[24];
	const char * parameters[] = {replay->step_xid, written};

	snprintf(written, sizeof(written), "%" PRId64, replay->written);
	if (oneshot_ask(replay->oneshot, settled_sql, 2, parameters, e))
		return (-1);
	return (oneshot_value(replay->oneshot, 0, 0)[0] == 't' ? 1 : 0);
}

int64_t
replay_last(const struct replay * replay)
{
	return (replay->last);
}
