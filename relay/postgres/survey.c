/*
 * What must stay true: nobody who locks a table for long makes this the
 * reason why messages wait.  So a lock is waited for only briefly, and after a
 * failure there is a long pause.
 */
#include "postgres/survey.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/utf8.h"
#include "postgres/sql.h"
#include "postgres/wire.h"

#define FAILURE_PAUSE CLOCK_S(60)

/* The lock_timeout is that of this transaction, and set before backlog() takes
 * any lock: OFFSET keeps the CASE in its place. */
static const char backlog_sql[] =
    "SELECT (b.j->>'pending')::bigint, (b.j->>'delayed')::bigint, (b.j->>'dead')::bigint, "
    "(b.j->>'estimated')::boolean, "
    "coalesce((extract(epoch FROM (b.j->>'oldest_pending_age')::interval) * 1000000)::bigint, -1) "
    "FROM (SELECT CASE WHEN set_config('lock_timeout', '200ms', true) <> '' "
    "THEN to_jsonb(outbox.backlog()) END AS j OFFSET 0) AS b";

/*
 * Of the delayed ones those that something is wrong with.  They have no index
 * of their own, so they are looked for among the newest thousand, and in the
 * lanes.
 */
#define ENTRY_SQL(time, reason) \
	"id, left(exchange, 255), left(routing_key, 255), attempts, " \
	"CASE WHEN isfinite(" time ") THEN (extract(epoch FROM " time ") * 1000)::bigint ELSE 0 " \
	"END, left(coalesce(" reason ", ''), 255) "
#define DELAYED_SQL "id, exchange, routing_key, attempts, next_attempt_at, last_error "

static const char newest_sql[] = "(SELECT true, " ENTRY_SQL("next_attempt_at",
    "last_error") "FROM ("
		  "(SELECT " DELAYED_SQL "FROM (SELECT " DELAYED_SQL
		  ", waits_for FROM outbox.delayed "
		  "ORDER BY id DESC LIMIT 1000) AS n WHERE waits_for = 'retry' AND last_error IS NOT NULL "
		  "ORDER BY id DESC LIMIT 10) "
		  "UNION ALL (SELECT " DELAYED_SQL
		  "FROM outbox.delayed WHERE waits_for = 'exchange' LIMIT 10) "
		  "UNION ALL (SELECT " DELAYED_SQL
		  "FROM outbox.delayed WHERE waits_for = 'queue' LIMIT 10)"
		  ") AS d ORDER BY id DESC LIMIT 10) "
		  "UNION ALL (SELECT false, " ENTRY_SQL("died_at",
		      "reason") "FROM (SELECT * FROM outbox.dead "
				"WHERE discarded_at IS NULL ORDER BY died_at DESC, id DESC LIMIT 10) AS x)";

struct survey {
	struct survey_events events;
	void * context;
	char * backlog_sql;
	char * newest_sql;
	bool wanted;
	const struct connection * asked; /* that owes an answer; NULL: none */
	clock_ns now;
	clock_ns backlog_at;
	clock_ns newest_at;
	int64_t warned;
	struct backlog_newest newest;
};

struct survey *
survey_new(const char * schema, const struct survey_events * events, void * context)
{
	struct survey * survey = calloc(1, sizeof(*survey));

	if (survey == NULL)
		return (NULL);
	survey->events = *events;
	survey->context = context;
	survey->backlog_sql = sql_in_schema(backlog_sql, schema);
	survey->newest_sql = sql_in_schema(newest_sql, schema);
	if (survey->backlog_sql == NULL || survey->newest_sql == NULL) {
		survey_free(survey);
		return (NULL);
	}
	return (survey);
}

void
survey_free(struct survey * survey)
{
	if (survey == NULL)
		return;
	free(survey->newest_sql);
	free(survey->backlog_sql);
	free(survey);
}

void
survey_start(struct survey * survey, clock_ns now)
{
	survey->asked = NULL;
	survey->backlog_at = survey->newest_at = now;
}

void
survey_stop(struct survey * survey)
{
	survey->asked = NULL;
}

/* Whether there is an answer; without one it is long until the next question. */
static bool
survey_answered(struct survey * survey, const struct error * e)
{
	survey->asked = NULL;
	if (e == NULL)
		return (true);
	survey->backlog_at = survey->newest_at = survey->now + FAILURE_PAUSE;
	if (log_due(&survey->warned, survey->now))
		log_failure(LOG_LEVEL_WARN, "backlog_not_read", e);
	return (false);
}

static void
survey_on_backlog(void * context, PGresult ** result, const struct error * e)
{
	struct survey * survey = context;
	struct backlog backlog;
	int64_t age_us;

	if (!survey_answered(survey, e) || PQntuples(*result) != 1)
		return;
	age_us = wire_int64(*result, 0, 4);
	backlog = (struct backlog){.pending = wire_int64(*result, 0, 0),
	    .delayed = wire_int64(*result, 0, 1),
	    .dead = wire_int64(*result, 0, 2),
	    .estimated = wire_bool(*result, 0, 3),
	    .oldest_pending_s = age_us < 0 ? -1 : (double)age_us / 1e6};
	survey->events.backlog(survey->context, &backlog);
}

/* As much as fits, in whole characters. */
static void
copy_text(char * to, size_t size, const PGresult * result, int row, int column)
{
	const unsigned char * from = (const unsigned char *)PQgetvalue(result, row, column);
	size_t len = 0, next;

	while (from[len] != '\0') {
		next = utf8_length(from + len);
		if (next == 0)
			next = 1;
		if (len + next >= size)
			break;
		len += next;
	}
	memcpy(to, from, len);
	to[len] = '\0';
}

static void
survey_on_newest(void * context, PGresult ** result, const struct error * e)
{
	struct survey * survey = context;
	struct backlog_newest * newest = &survey->newest;

	if (!survey_answered(survey, e))
		return;
	newest->delayed_count = newest->dead_count = 0;
	for (int row = 0; row < PQntuples(*result); row++) {
		bool delayed = wire_bool(*result, row, 0);
		size_t * count = delayed ? &newest->delayed_count : &newest->dead_count;
		struct backlog_entry * entry;

		if (*count == BACKLOG_NEWEST_MAX)
			continue;
		entry = delayed ? &newest->delayed[*count] : &newest->dead[*count];
		++*count;
		entry->id = wire_int64(*result, row, 1);
		copy_text(entry->exchange, sizeof(entry->exchange), *result, row, 2);
		copy_text(entry->routing_key, sizeof(entry->routing_key), *result, row, 3);
		entry->attempts = wire_int32(*result, row, 4);
		entry->at_ms = wire_int64(*result, row, 5);
		copy_text(entry->reason, sizeof(entry->reason), *result, row, 6);
	}
	survey->events.newest(survey->context, newest);
}

void
survey_turn(struct survey * survey, struct connection * connection, clock_ns now)
{
	survey->now = now;
	/* What it was asked is forgotten with it. */
	if (survey->asked != NULL && !connection_is_open(survey->asked))
		survey->asked = NULL;
	if (survey->asked != NULL)
		return;
	if (now >= survey->backlog_at) {
		survey->asked = connection;
		survey->backlog_at = now + SURVEY_INTERVAL;
		connection_send(connection, now, survey->backlog_sql, 0, NULL, survey_on_backlog,
		    survey);
	} else if (survey->wanted && now >= survey->newest_at) {
		survey->asked = connection;
		survey->newest_at = now + SURVEY_INTERVAL;
		connection_send(connection, now, survey->newest_sql, 0, NULL, survey_on_newest,
		    survey);
	}
}

clock_ns
survey_deadline(const struct survey * survey)
{
	if (survey->asked != NULL)
		return (CLOCK_NEVER);
	return (survey->wanted ? clock_min(survey->backlog_at, survey->newest_at) :
				 survey->backlog_at);
}

void
survey_want_newest(struct survey * survey, bool wanted)
{
	survey->wanted = wanted;
}
