/*
 * Keys are found by steps along their index, one for each key, however many
 * messages wait for it.
 */
#include "admin/holding.h"

#include <stdio.h>
#include <stdlib.h>

struct holding {
	struct oneshot * oneshot;
};

/* So many keys are looked at, to find those with the most waiting. */
#define KEYS_MAX "1000"

/* clang-format off */

static const char list_sql[] =
    "WITH RECURSIVE k AS ((SELECT d.ordering_key AS key FROM outbox.delayed d "
    "WHERE d.ordering_key IS NOT NULL AND d.waits_for <> 'schedule' "
    "ORDER BY d.ordering_key, d.id LIMIT 1) UNION ALL "
    "SELECT n.ordering_key FROM k, LATERAL (SELECT d.ordering_key FROM outbox.delayed d "
    "WHERE d.ordering_key > k.key AND d.waits_for <> 'schedule' "
    "ORDER BY d.ordering_key, d.id LIMIT 1) n), "
    "keys AS ((SELECT k.key FROM k LIMIT " KEYS_MAX ") UNION (SELECT x.ordering_key "
    "FROM outbox.dead x WHERE x.holds_key ORDER BY x.ordering_key LIMIT " KEYS_MAX ")), "
    "held AS (SELECT s.key, coalesce(x.id, h.id) AS held_by, "
    "CASE WHEN x.id IS NOT NULL THEN 'a person: dead retry or dead discard' "
    "WHEN h.waits_for = 'retry' THEN 'its next attempt ' || date_trunc('second', h.next_attempt_at)::text "
    "WHEN h.waits_for = 'key' THEN 'its key' ELSE 'its ' || h.waits_for END AS waits_for, "
    "coalesce(x.reason, h.last_error) AS reason, "
    "c.waiting - (x.id IS NULL)::int AS waiting FROM keys s "
    "LEFT JOIN LATERAL (SELECT x.id, x.reason FROM outbox.dead x WHERE x.holds_key "
    "AND x.ordering_key = s.key ORDER BY x.ordering_key LIMIT 1) x ON true "
    "LEFT JOIN LATERAL (SELECT d.id, d.waits_for, d.next_attempt_at, d.last_error "
    "FROM outbox.delayed d WHERE d.ordering_key = s.key AND d.waits_for <> 'schedule' "
    "ORDER BY d.ordering_key, d.id LIMIT 1) h ON true, "
    "LATERAL (SELECT count(*) AS waiting FROM (SELECT FROM outbox.delayed d "
    "WHERE d.ordering_key = s.key AND d.waits_for <> 'schedule' LIMIT 10000) f) c) "
    "SELECT r.*, row_to_json(r)::text AS json FROM held r ORDER BY r.waiting DESC, r.key LIMIT $1::int";

/* clang-format on */

struct holding *
holding_open(const struct oneshot_options * options, struct error * e)
{
	struct oneshot_options connection = *options;
	struct holding * holding;

	if ((holding = calloc(1, sizeof(*holding))) == NULL) {
		error_set(e, EXIT_BUG, "out of memory");
		return (NULL);
	}
	connection.word = "outbox";
	connection.purpose = "status";
	connection.settings = "SET enable_seqscan = off; SET enable_bitmapscan = off; "
			      "SET statement_timeout = '5min'";
	if ((holding->oneshot = oneshot_open(&connection, e)) == NULL) {
		holding_close(holding);
		return (NULL);
	}
	return (holding);
}

void
holding_close(struct holding * holding)
{
	if (holding == NULL)
		return;
	oneshot_close(holding->oneshot);
	free(holding);
}

const struct oneshot *
holding_list(struct holding * holding, unsigned int limit, struct error * e)
{
	char number[16];
	const char * parameter = number;

	snprintf(number, sizeof(number), "%u", limit);
	return (oneshot_ask(holding->oneshot, list_sql, 1, &parameter, e) ?
		NULL :
		holding->oneshot);
}
