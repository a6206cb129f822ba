/*
 * Whether the table can be read is asked first, and again as long as it cannot:
 * a migration, or a right that came later, must not need a new connection.
 */
#include "postgres/paused.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "postgres/sql.h"
#include "postgres/wire.h"

/* A person who pauses expects it within a second. */
#define PAUSED_INTERVAL CLOCK_MS(500)

static const char find_sql[] =
    "SELECT t.pause IS NOT NULL, coalesce(has_table_privilege(t.pause, 'SELECT') "
    "AND has_table_privilege(t.discard, 'SELECT'), false) "
    "FROM (SELECT to_regclass('outbox.pause')::oid AS pause, "
    "to_regclass('outbox.discard')::oid AS discard) t";

/* One pause more than fit shows that there are too many. */
static const char read_sql[] =
    "(SELECT CASE WHEN p.everything THEN 'a' ELSE 'e' END, p.exchange, "
    "CASE WHEN p.everything THEN 'everything' ELSE 'exchange \"' || p.exchange || '\"' END "
    "|| ' is paused by ' || p.paused_by || coalesce(': ' || p.reason, ''), NULL, 0::bigint, 0::bigint "
    "FROM outbox.pause p ORDER BY p.everything, p.exchange LIMIT $1::int) UNION ALL "
    "(SELECT 'd', d.exchange, 'discarded: order ' || d.id || ' by ' || d.ordered_by, d.type, "
    "coalesce(floor(date_part('epoch', d.created_before))::bigint, 9223372036854775807), d.max_id "
    "FROM outbox.discard d WHERE d.done_at IS NULL ORDER BY d.id LIMIT $2::int)";

enum column { KIND, EXCHANGE, REASON, TYPE, CREATED_BEFORE, MAX_ID, COLUMNS };

struct paused {
	char * find;
	char * read;
	paused_changed * changed;
	void * context;
	struct connection * connection;
	bool told;     /* since the start */
	bool readable; /* the table is there for us */
	clock_ns ask_at;
	clock_ns now;
	int64_t warned;
	PGresult * answer; /* what the lanes point into */
	struct lane lanes[PAUSES_MAX + 1];
	struct pause pause;
	struct discard discards[DISCARDS_MAX];
	size_t discard_count;
};

struct paused *
paused_new(const char * schema, paused_changed * changed, void * context)
{
	struct paused * paused;

	if ((paused = calloc(1, sizeof(*paused))) == NULL)
		return (NULL);
	paused->find = sql_in_schema(find_sql, schema);
	paused->read = sql_in_schema(read_sql, schema);
	paused->changed = changed;
	paused->context = context;
	paused->pause.lanes = paused->lanes;
	if (paused->find == NULL || paused->read == NULL) {
		paused_free(paused);
		return (NULL);
	}
	return (paused);
}

static void
paused_forget(struct paused * paused)
{
	PQclear(paused->answer);
	paused->answer = NULL;
	paused->pause.all = false;
	paused->pause.lane_count = 0;
	paused->discard_count = 0;
}

void
paused_free(struct paused * paused)
{
	if (paused == NULL)
		return;
	paused_forget(paused);
	free(paused->read);
	free(paused->find);
	free(paused);
}

/* ---- answers ---- */

static bool
is_same(const PGresult * a, const PGresult * b)
{
	if (a == NULL || PQntuples(a) != PQntuples(b))
		return (false);
	for (int row = 0; row < PQntuples(a); row++) {
		for (int column = 0; column < COLUMNS; column++) {
			if (PQgetisnull(a, row, column) != PQgetisnull(b, row, column) ||
			    PQgetlength(a, row, column) != PQgetlength(b, row, column) ||
			    memcmp(PQgetvalue(a, row, column), PQgetvalue(b, row, column),
				(size_t)PQgetlength(a, row, column)) != 0)
				return (false);
		}
	}
	return (true);
}

static struct bytes
value(const PGresult * result, int row, enum column column)
{
	if (PQgetisnull(result, row, (int)column))
		return (BYTES_NONE);
	return ((struct bytes){PQgetvalue(result, row, (int)column),
	    (size_t)PQgetlength(result, row, (int)column)});
}

static void
paused_take(struct paused * paused, int row)
{
	const PGresult * from = paused->answer;

	switch (PQgetvalue(from, row, KIND)[0]) {
	case 'a':
		paused->pause.all = true;
		paused->pause.reason = value(from, row, REASON);
		break;
	case 'e':
		paused->lanes[paused->pause.lane_count++] = (struct lane){
		    .exchange = value(from, row, EXCHANGE),
		    .routing_key = BYTES_NONE,
		    .reason = value(from, row, REASON)};
		break;
	case 'd':
		paused->discards[paused->discard_count++] = (struct discard){
		    .exchange = value(from, row, EXCHANGE),
		    .type = value(from, row, TYPE),
		    .reason = value(from, row, REASON),
		    .created_before_s = wire_int64(from, row, CREATED_BEFORE),
		    .max_id = wire_int64(from, row, MAX_ID)};
		break;
	}
}

static void
paused_on_read(void * context, PGresult ** result, const struct error * e)
{
	struct paused * paused = context;

	if (e != NULL) {
		paused->changed(paused->context, e);
		return;
	}
	paused->ask_at = paused->now + PAUSED_INTERVAL;
	if (paused->told && is_same(paused->answer, *result))
		return;
	paused_forget(paused);
	paused->answer = *result;
	*result = NULL;
	for (int row = 0; row < PQntuples(paused->answer); row++)
		paused_take(paused, row);
	paused->told = true;
	paused->changed(paused->context, NULL);
}

static void
paused_read(struct paused * paused)
{
	char pauses[16], discards[16];
	const char * parameters[] = {pauses, discards};

	snprintf(pauses, sizeof(pauses), "%d", PAUSES_MAX + 1);
	snprintf(discards, sizeof(discards), "%d", DISCARDS_MAX);
	connection_send(paused->connection, paused->now, paused->read, 2, parameters,
	    paused_on_read, paused);
}

static void
paused_on_found(void * context, PGresult ** result, const struct error * e)
{
	struct paused * paused = context;

	if (e != NULL) {
		paused->changed(paused->context, e);
		return;
	}
	if (wire_bool(*result, 0, 1)) {
		paused->readable = true;
		paused_read(paused);
		return;
	}
	paused->ask_at = paused->now + PAUSED_INTERVAL;
	if (wire_bool(*result, 0, 0) && log_due(&paused->warned, paused->now))
		log_warn("pauses_unreadable",
		    LOG_STR("reason",
			"this role may not read the tables pause and discard, so nothing is paused"),
		    LOG_STR("remedy",
			"as the owner of the schema: SELECT SCHEMA.grant_relay(role)"));
	if (paused->told)
		return;
	paused->told = true;
	paused->changed(paused->context, NULL);
}

/* ---- questions ---- */

static void
paused_ask(struct paused * paused)
{
	paused->ask_at = CLOCK_NEVER;
	if (paused->readable)
		paused_read(paused);
	else
		connection_send(paused->connection, paused->now, paused->find, 0, NULL,
		    paused_on_found, paused);
}

void
paused_start(struct paused * paused, struct connection * connection, clock_ns now)
{
	paused_forget(paused);
	paused->connection = connection;
	paused->now = now;
	paused->told = paused->readable = false;
	paused_ask(paused);
}

void
paused_turn(struct paused * paused, clock_ns now)
{
	paused->now = now;
	if (now >= paused->ask_at)
		paused_ask(paused);
}

clock_ns
paused_deadline(const struct paused * paused)
{
	return (paused->ask_at);
}

const struct pause *
paused_now(const struct paused * paused)
{
	return (&paused->pause);
}

const struct discard *
paused_discards(const struct paused * paused, size_t * count)
{
	*count = paused->discard_count;
	return (paused->discards);
}
