#include "postgres/held.h"

#include <stdlib.h>

#include "postgres/array.h"
#include "postgres/sql.h"
#include "postgres/wire.h"

/*
 * $1 keys.  Answers with the ordinals of those that are held, and with 0 if
 * anything is held at all.  Each key is looked up once, however often it
 * comes; it is bounded on both sides instead of compared for equality, so that
 * no other index gives the order, and from its end, where those lie that have
 * not passed yet.
 */
static const char held_sql[] =
    "WITH any_held AS MATERIALIZED (SELECT "
    "(SELECT true FROM outbox.delayed d WHERE d.ordering_key IS NOT NULL "
    "AND d.waits_for <> 'schedule' ORDER BY d.ordering_key, d.id LIMIT 1) IS NOT NULL "
    "OR (SELECT true FROM outbox.dead x WHERE x.holds_key ORDER BY x.ordering_key LIMIT 1) "
    "IS NOT NULL AS yes), "
    "asked AS MATERIALIZED (SELECT u.key, array_agg(u.n) AS ns FROM unnest($1::text[]) "
    "WITH ORDINALITY AS u (key, n) GROUP BY u.key) "
    "SELECT 0::bigint FROM any_held WHERE yes UNION ALL "
    "SELECT unnest(a.ns) FROM asked a WHERE (SELECT yes FROM any_held) AND ("
    "(SELECT true FROM outbox.delayed d WHERE d.ordering_key >= a.key AND d.ordering_key <= a.key "
    "AND d.waits_for <> 'schedule' ORDER BY d.ordering_key DESC, d.id DESC LIMIT 1) IS NOT NULL "
    "OR (SELECT true FROM outbox.dead x WHERE x.holds_key AND x.ordering_key >= a.key "
    "AND x.ordering_key <= a.key ORDER BY x.ordering_key LIMIT 1) IS NOT NULL)";

struct held {
	char * sql;
	held_looked * looked;
	void * context;
	bool expected; /* something may be held */
	bool doubted;  /* nothing was expected anew since the look that is open */
	struct batch * batch;
};

struct held *
held_new(const char * schema, held_looked * looked, void * context)
{
	struct held * held;

	if ((held = calloc(1, sizeof(*held))) == NULL)
		return (NULL);
	held->looked = looked;
	held->context = context;
	if ((held->sql = sql_in_schema(held_sql, schema)) == NULL) {
		free(held);
		return (NULL);
	}
	return (held);
}

void
held_free(struct held * held)
{
	if (held == NULL)
		return;
	free(held->sql);
	free(held);
}

void
held_start(struct held * held, struct connection * connection, clock_ns now)
{
	held->expected = true;
	connection_prepare(connection, now, "held", held->sql, NULL, NULL);
}

void
held_expect(struct held * held)
{
	held->expected = true;
	held->doubted = false;
}

/* The message with the ${ordinal}-th key of the batch, from 1. */
static struct message *
next_keyed(const struct batch * batch, size_t * at)
{
	while (batch->messages[*at]->key == 0)
		(*at)++;
	return (batch->messages[(*at)++]);
}

static int
compare_ordinals(const void * a, const void * b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return ((x > y) - (x < y));
}

static int
held_set(const struct held * held, const PGresult * result)
{
	size_t count = (size_t)PQntuples(result), at = 0;
	int64_t *ordinals, seen = 0;

	if ((ordinals = calloc(count + 1, sizeof(*ordinals))) == NULL)
		return (-1);
	for (size_t i = 0; i < count; i++)
		ordinals[i] = wire_int64(result, (int)i, 0);
	qsort(ordinals, count, sizeof(*ordinals), compare_ordinals);
	for (size_t i = 0; i < count; i++) {
		struct message * m = NULL;

		for (; seen < ordinals[i]; seen++)
			m = next_keyed(held->batch, &at);
		if (m != NULL)
			m->held = true;
	}
	free(ordinals);
	return (0);
}

static void
held_on_answer(void * context, PGresult ** result, const struct error * e)
{
	struct held * held = context;
	struct error why;

	if (e == NULL && held->doubted && PQntuples(*result) == 0)
		held->expected = false;
	if (e == NULL && held_set(held, *result)) {
		error_set(&why, EXIT_BUG, "out of memory");
		e = &why;
	}
	held->batch = NULL;
	held->looked(held->context, e);
}

bool
held_look(struct held * held, struct connection * connection, clock_ns now, struct batch * batch)
{
	struct array keys = {.failed = false};
	const char * parameter;
	size_t count = 0;

	if (!held->expected)
		return (false);
	for (size_t i = 0; i < batch->count; i++) {
		if (batch->messages[i]->key == 0)
			continue;
		array_add_text(&keys, batch->messages[i]->ordering_key);
		count++;
	}
	if (count > 0) {
		held->batch = batch;
		held->doubted = true;
		if ((parameter = array_text(&keys)) != NULL)
			connection_send_prepared(connection, now, "held", 1, &parameter,
			    held_on_answer, held);
		else
			connection_lose(connection, "out of memory");
	}
	array_free(&keys);
	return (count > 0);
}
