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
    "SELECT t.oid IS NOT NULL, coalesce(has_table_privilege(t.oid, 'SELECT'), false) "
    "FROM (SELECT to_regclass('outbox.pause')::oid AS oid) t";

/* One more than fit shows that there are too many. */
static const char read_sql[] =
    "SELECT p.everything, p.exchange, CASE WHEN p.everything THEN 'everything' "
    "ELSE 'exchange \"' || p.exchange || '\"' END || ' is paused by ' || p.paused_by "
    "|| coalesce(': ' || p.reason, '') "
    "FROM outbox.pause p ORDER BY p.everything, p.exchange LIMIT $1::int";

enum column { EVERYTHING, EXCHANGE, REASON, COLUMNS };

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
			if (PQgetlength(a, row, column) != PQgetlength(b, row, column) ||
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
	return ((struct bytes){PQgetvalue(result, row, (int)column),
	    (size_t)PQgetlength(result, row, (int)column)});
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
	for (int row = 0; row < PQntuples(paused->answer); row++) {
		if (wire_bool(paused->answer, row, EVERYTHING)) {
			paused->pause.all = true;
			paused->pause.reason = value(paused->answer, row, REASON);
		} else
			paused->lanes[paused->pause.lane_count++] = (struct lane){
			    .exchange = value(paused->answer, row, EXCHANGE),
			    .routing_key = BYTES_NONE,
			    .reason = value(paused->answer, row, REASON)};
	}
	paused->told = true;
	paused->changed(paused->context, NULL);
}

static void
paused_read(struct paused * paused)
{
	char rows[16];
	const char * parameter = rows;

	snprintf(rows, sizeof(rows), "%d", PAUSES_MAX + 1);
	connection_send(paused->connection, paused->now, paused->read, 1, &parameter,
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
			"this role may not read the table pause, so nothing is paused"),
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
