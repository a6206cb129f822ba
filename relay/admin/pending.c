/*
 * What is pending is found by (xid, id): nothing that the newest mark leaves out was
 * written by a transaction that had ended when its prev was taken, so the walk
 * begins at its xmin and reads what is pending and little more.
 */
#include "admin/pending.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* It brought the table discard and its functions. */
#define MIGRATION_DISCARD 4

/* program_limit_exceeded: discard_pending() raises it. */
#define TOO_MANY "54000"

struct pending {
	struct oneshot * oneshot;
	struct pending_filter filter;
	char older_than[32]; /* seconds */
	char order[24];      /* its number; empty: none was made */
};

#define PARAMETERS 4

/* clang-format off */

/* $1 exchange, $2 type, $3 seconds, $4 the order, which then says it instead. */
static const char look_sql[] =
    "WITH wanted AS MATERIALIZED (SELECT coalesce(d.exchange, $1::text) AS exchange, "
    "coalesce(d.type, $2::text) AS type, coalesce(d.created_before, "
    "date_trunc('second', now() - make_interval(secs => $3::float8))) AS created_before, "
    "coalesce(d.max_id, 9223372036854775807) AS max_id "
    "FROM (SELECT) one LEFT JOIN outbox.discard d ON d.id = $4::bigint), "
    "mark AS MATERIALIZED (SELECT s.prev, s.target, s.last_id, "
    "coalesce(pg_snapshot_xmin(s.prev), '0'::xid8) AS xmin "
    "FROM (SELECT) one LEFT JOIN (SELECT * FROM outbox.sent ORDER BY seq DESC LIMIT 1) s ON true) "
    "SELECT (SELECT count(*) FROM wanted w, mark n, outbox.message m "
    "WHERE m.xid >= (SELECT xmin FROM mark) AND m.id <= w.max_id "
    "AND (w.exchange IS NULL OR m.exchange = w.exchange) AND (w.type IS NULL OR m.type = w.type) "
    "AND (w.created_before IS NULL OR m.created_at < w.created_before) "
    "AND coalesce(pg_visible_in_snapshot(m.xid, n.prev) OR (m.id <= n.last_id "
    "AND pg_visible_in_snapshot(m.xid, n.target)), false) IS FALSE), "
    "(SELECT count(*) FROM wanted w, outbox.delayed m WHERE m.waits_for <> 'schedule' "
    "AND m.id <= w.max_id "
    "AND (w.exchange IS NULL OR m.exchange = w.exchange) AND (w.type IS NULL OR m.type = w.type) "
    "AND (w.created_before IS NULL OR m.created_at < w.created_before)), "
    "EXISTS (SELECT FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted "
    "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "AND l.classid = 'outbox.message'::regclass::oid AND l.objid = 4294967295 AND l.objsubid = 2), "
    "EXISTS (SELECT FROM outbox.pause p WHERE p.everything)";

static const char order_sql[] =
    "SELECT outbox.discard_pending($1::text, $2::text, make_interval(secs => $3::float8))";

static const char end_sql[] = "SELECT outbox.end_discard($1::bigint)";

static const char standing_sql[] =
    "SELECT d.id, date_trunc('second', d.ordered_at) AS ordered_at, d.ordered_by, d.exchange, d.type, "
    "(SELECT count(*) FROM outbox.dead x WHERE x.discarded_at >= d.ordered_at "
    "AND starts_with(x.reason, 'discarded: order ' || d.id || ' ')) AS discarded "
    "FROM outbox.discard d WHERE d.done_at IS NULL ORDER BY d.id";

static const char operator_sql[] =
    "SELECT set_config('outbox_relay.operator', "
    "jsonb_build_object('user', $1::text, 'host', $2::text)::text, false)";

/* clang-format on */

static const char settings_sql[] = "SET enable_seqscan = off; SET enable_bitmapscan = off; "
				   "SET statement_timeout = 0";

struct pending *
pending_open(const struct oneshot_options * options, const struct pending_filter * filter,
    struct error * e)
{
	struct oneshot_options connection = *options;
	struct pending * pending;
	const char * who[2];

	if ((pending = calloc(1, sizeof(*pending))) == NULL) {
		error_set(e, EXIT_BUG, "out of memory");
		return (NULL);
	}
	connection.word = "outbox";
	connection.purpose = "pending";
	connection.settings = settings_sql;
	pending_aim(pending, filter);
	if ((pending->oneshot = oneshot_open(&connection, e)) == NULL ||
	    oneshot_requires(pending->oneshot, MIGRATION_DISCARD, e)) {
		pending_close(pending);
		return (NULL);
	}
	who[0] = oneshot_user(pending->oneshot);
	who[1] = oneshot_host(pending->oneshot);
	if (oneshot_ask(pending->oneshot, operator_sql, 2, who, e)) {
		pending_close(pending);
		return (NULL);
	}
	return (pending);
}

void
pending_aim(struct pending * pending, const struct pending_filter * filter)
{
	pending->filter = *filter;
	pending->older_than[0] = '\0';
	pending->order[0] = '\0';
	if (filter->older_than_ms > 0)
		snprintf(pending->older_than, sizeof(pending->older_than), "%" PRId64 ".%03d",
		    filter->older_than_ms / 1000, (int)(filter->older_than_ms % 1000));
}

void
pending_close(struct pending * pending)
{
	if (pending == NULL)
		return;
	oneshot_close(pending->oneshot);
	free(pending);
}

static int
pending_ask(struct pending * pending, const char * sql, int count, struct error * e)
{
	const struct pending_filter * filter = &pending->filter;
	const char * parameters[PARAMETERS] = {filter->exchange, filter->type,
	    pending->older_than[0] == '\0' ? NULL : pending->older_than,
	    pending->order[0] == '\0' ? NULL : pending->order};

	return (oneshot_ask(pending->oneshot, sql, count, parameters, e));
}

int
pending_look(struct pending * pending, struct pending_state * state, struct error * e)
{
	if (pending_ask(pending, look_sql, PARAMETERS, e))
		return (-1);
	*state = (struct pending_state){.pending = oneshot_number(pending->oneshot, 0, 0),
	    .delayed = oneshot_number(pending->oneshot, 0, 1),
	    .led = oneshot_value(pending->oneshot, 0, 2)[0] == 't',
	    .paused = oneshot_value(pending->oneshot, 0, 3)[0] == 't'};
	return (0);
}

int64_t
pending_order(struct pending * pending, struct error * e)
{
	if (pending_ask(pending, order_sql, PARAMETERS - 1, e)) {
		if (strcmp(e->sqlstate, TOO_MANY) == 0)
			e->code = EXIT_FOUND;
		return (-1);
	}
	snprintf(pending->order, sizeof(pending->order), "%s",
	    oneshot_value(pending->oneshot, 0, 0));
	return (oneshot_number(pending->oneshot, 0, 0));
}

int64_t
pending_end(struct pending * pending, int64_t order, struct error * e)
{
	char number[24];
	const char * parameter = number;

	snprintf(number, sizeof(number), "%" PRId64, order);
	if (oneshot_ask(pending->oneshot, end_sql, 1, &parameter, e))
		return (-1);
	return (oneshot_number(pending->oneshot, 0, 0));
}

const struct oneshot *
pending_standing(struct pending * pending, struct error * e)
{
	return (oneshot_ask(pending->oneshot, standing_sql, 0, NULL, e) ? NULL : pending->oneshot);
}
