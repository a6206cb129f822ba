/*
 * How the outbox stands, and what its messages need of the broker.  No
 * question reads the backlog: each looks at the ends of an index, or at so
 * many rows at most.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/checkup_state.h"
#include "base/shell.h"
#include "postgres/guard.h"

#define SLOT_GRACE "600" /* seconds that emptying a slot may take */
#define RECENT "5000"    /* rows */
#define LOOKED_AT "100000"

static const char *
value(const PGresult * r, int row, int column)
{
	return (PQgetvalue(r, row, column));
}

/* ---- who leads ---- */

/* The leader's lock is that of postgres/lead.h. */
static const char leader_sql[] =
    "SELECT l.pid, coalesce(a.application_name, '-') FROM pg_locks AS l"
    " JOIN pg_database AS b ON b.oid = l.database"
    " LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid"
    " WHERE b.datname = current_database() AND l.locktype = 'advisory' AND l.granted"
    " AND l.classid = 'outbox.message'::regclass::oid AND l.objid = 4294967295 AND l.objsubid = 2";

static void
check_leader(struct checkup * c)
{
	PGresult * r = checkup_ask(c, "leader", leader_sql, 0, NULL, false);

	if (r == NULL)
		return;
	c->leads = PQntuples(r) > 0;
	if (c->leads)
		finding_ok(c->findings, "leader", "%s (process %s of the server)", value(r, 0, 1),
		    value(r, 0, 0));
	else {
		finding_warn(c->findings, "leader", "no relay leads: nothing is published");
		checkup_relay(c, NULL, "run");
	}
	PQclear(r);
}

/* ---- position ---- */

static void
check_position(struct checkup * c)
{
	PGresult * r = checkup_ask(c, "position", guard_record_sql, 0, NULL, true);
	struct guard_record record;
	struct error e;

	if (r == NULL)
		return;
	if (guard_check_record(r, c->options->schema, &record, &e) == 0)
		finding_ok(c->findings, "position", "%s",
		    record.seq == 0 ? "none yet: from the beginning" : "belongs to this database");
	else {
		finding_fail(c->findings, "position", "%s", e.text);
		checkup_relay(c, c->owner, "migrate rebase");
	}
	PQclear(r);
}

/* ---- the wake-up trigger ---- */

static const char trigger_sql[] =
    "SELECT t.tgenabled::text FROM (VALUES ('outbox.message'::regclass), ('outbox.delayed'::regclass))"
    " AS w (relation) LEFT JOIN pg_trigger AS t ON t.tgrelid = w.relation AND t.tgname = 'wake'"
    " ORDER BY coalesce(t.tgenabled::text, ' ') IN ('O', 'A'), t.tgenabled IS NOT NULL LIMIT 1";

static void
check_trigger(struct checkup * c)
{
	PGresult * r = checkup_ask(c, "wake-up", trigger_sql, 0, NULL, false);
	char state, sql[200];

	if (r == NULL)
		return;
	state = PQgetisnull(r, 0, 0) ? '-' : value(r, 0, 0)[0];
	PQclear(r);
	if (!c->options->listens)
		finding_ok(c->findings, "wake-up", "the relay asks by itself (wake.mode: poll)");
	else if (state == 'O' || state == 'A')
		finding_ok(c->findings, "wake-up", "writers wake a sleeping relay");
	else if (state == '-') {
		finding_warn(c->findings, "wake-up",
		    "the trigger of migration 0003_wake is missing: nothing wakes the relay, it asks "
		    "every wake.poll_interval");
		checkup_relay(c, c->owner, "migrate up");
	} else {
		finding_warn(c->findings, "wake-up",
		    "the wake-up trigger is disabled: nothing wakes the relay, it asks every "
		    "wake.poll_interval");
		snprintf(sql, sizeof(sql),
		    "ALTER TABLE %s.message ENABLE TRIGGER wake\n"
		    "ALTER TABLE %s.delayed ENABLE TRIGGER wake",
		    c->options->schema, c->options->schema);
		checkup_psql(c, c->owner, sql);
	}
}

/* ---- backlog and dead messages ---- */

static const char backlog_sql[] =
    "SELECT b.pending, b.delayed, b.dead, extract(epoch FROM b.oldest_pending_age)::bigint,"
    " CASE WHEN b.estimated THEN 'about ' ELSE '' END FROM outbox.backlog() AS b";

static const char dead_sql[] =
    "SELECT d.reason, count(*) FROM (SELECT reason FROM outbox.dead WHERE discarded_at IS NULL"
    " ORDER BY died_at DESC, id DESC LIMIT " RECENT ") AS d GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 1";

static void
check_dead(struct checkup * c, const PGresult * backlog)
{
	PGresult * r;

	if (strtoll(value(backlog, 0, 2), NULL, 10) == 0) {
		finding_ok(c->findings, "dead", "no message was given up");
		return;
	}
	if ((r = checkup_ask(c, "dead", dead_sql, 0, NULL, false)) == NULL)
		return;
	finding_warn(c->findings, "dead", "%s%s messages were given up; most often: %s",
	    value(backlog, 0, 4), value(backlog, 0, 2), PQntuples(r) > 0 ? value(r, 0, 0) : "-");
	finding_remedy(c->findings,
	    "outbox-relay dead retry --all%s  # when the reason is mended; or dead discard; dead "
	    "list shows them",
	    c->options->arguments);
	PQclear(r);
}

static void
check_backlog(struct checkup * c)
{
	PGresult * r = checkup_ask(c, "backlog", backlog_sql, 0, NULL, false);
	long long age;

	if (r == NULL)
		return;
	age = strtoll(value(r, 0, 3), NULL, 10);
	if (age <= c->options->patience_s)
		finding_ok(c->findings, "backlog", "%s%s messages are pending, %s are delayed",
		    value(r, 0, 4), value(r, 0, 0), value(r, 0, 1));
	else {
		finding_warn(c->findings, "backlog",
		    "%s%s messages are pending, the oldest for %lld s%s", value(r, 0, 4),
		    value(r, 0, 0), age,
		    c->leads ? ": the lines about RabbitMQ say why, or the log of the relay" : "");
		checkup_relay(c, NULL, c->leads ? "status" : "run");
	}
	check_dead(c, r);
	PQclear(r);
}

/* ---- slots ---- */

static const char slots_sql[] =
    "SELECT extract(epoch FROM clock_timestamp() - m.created_at)::bigint,"
    " extract(epoch FROM 2 * outbox.slot_period())::bigint, m.id,"
    " (SELECT s.state FROM outbox.message_status AS s WHERE s.id = m.id AND s.slot = m.slot),"
    " (SELECT min(l.pid) FROM pg_locks AS l WHERE l.granted AND l.pid <> pg_backend_pid()"
    " AND l.locktype = 'relation' AND l.relation = m.tableoid AND l.database ="
    " (SELECT oid FROM pg_database WHERE datname = current_database()))"
    " FROM (SELECT id, slot, created_at, tableoid FROM outbox.message ORDER BY id LIMIT 1) AS m"
    " WHERE m.created_at < clock_timestamp() - 2 * outbox.slot_period()"
    " - make_interval(secs => " SLOT_GRACE ")";

static void
check_slots(struct checkup * c)
{
	PGresult * r = checkup_ask(c, "slots", slots_sql, 0, NULL, false);
	const char * state;
	char sql[64];

	if (r == NULL)
		return;
	if (PQntuples(r) == 0) {
		finding_ok(c->findings, "slots", "sent messages go when their time has come");
		PQclear(r);
		return;
	}
	state = PQgetisnull(r, 0, 3) ? "kept" : value(r, 0, 3);
	finding_warn(c->findings, "slots",
	    "message %s (%s) is %s s old and still there; the retention ends after %s s",
	    value(r, 0, 2), state, value(r, 0, 0), value(r, 0, 1));
	if (!c->leads)
		checkup_relay(c, NULL, "run");
	else if (strcmp(state, "pending") == 0)
		checkup_relay(c, NULL, "status");
	else if (!PQgetisnull(r, 0, 4)) {
		snprintf(sql, sizeof(sql), "SELECT pg_terminate_backend(%s)", value(r, 0, 4));
		checkup_psql(c, c->admin, sql);
	} else
		finding_remedy(c->findings,
		    "look at the log of the relay for slot_not_emptied: it says why");
	PQclear(r);
}

/* ---- pauses ---- */

static const char has_pauses_sql[] =
    "SELECT EXISTS (SELECT FROM pg_class WHERE relnamespace = $1::regnamespace"
    " AND relname = 'pause')";

static const char pauses_sql[] =
    "SELECT p.everything, p.exchange, date_trunc('second', p.paused_at)::text,"
    " coalesce(p.paused_by, '-'), coalesce(p.reason, '') FROM outbox.pause AS p"
    " ORDER BY p.everything DESC, p.exchange LIMIT 20";

static void
check_pauses(struct checkup * c)
{
	const char * parameters[] = {c->options->schema};
	PGresult * r = checkup_ask(c, "paused", has_pauses_sql, 1, parameters, false);
	bool has = r != NULL && value(r, 0, 0)[0] == 't';

	PQclear(r);
	if (!has || (r = checkup_ask(c, "paused", pauses_sql, 0, NULL, false)) == NULL)
		return;
	if (PQntuples(r) == 0)
		finding_ok(c->findings, "paused", "nothing is");
	for (int i = 0; i < PQntuples(r); i++) {
		bool all = value(r, i, 0)[0] == 't';
		char quoted[1100], command[1200];

		finding_warn(c->findings, "paused", "%s%s is paused since %s by %s%s%s",
		    all ? "everything" : "exchange ", all ? "" : value(r, i, 1), value(r, i, 2),
		    value(r, i, 3), value(r, i, 4)[0] != '\0' ? ": " : "", value(r, i, 4));
		snprintf(command, sizeof(command), "resume%s%s", all ? "" : " --exchange ",
		    all ? "" : shell_quote(quoted, sizeof(quoted), value(r, i, 1)));
		checkup_relay(c, NULL, command);
	}
	PQclear(r);
}

/* ---- what messages need of the broker ---- */

#define RECENT_SQL \
	"((SELECT exchange, routing_key FROM outbox.message ORDER BY id DESC LIMIT " RECENT ")" \
	" UNION ALL (SELECT exchange, routing_key FROM outbox.delayed ORDER BY id DESC" \
	" LIMIT " RECENT ")) AS r"

static const char exchanges_sql[] = "SELECT r.exchange, min(r.routing_key), 0 FROM " RECENT_SQL
				    " WHERE r.exchange <> '' GROUP BY 1 ORDER BY 1 LIMIT 100";

static const char queues_sql[] = "SELECT '', r.routing_key, 0 FROM " RECENT_SQL
				 " WHERE r.exchange = '' GROUP BY 2 ORDER BY 2 LIMIT 100";

static const char returned_sql[] =
    "SELECT d.exchange, d.routing_key, count(*)"
    " FROM (SELECT exchange, routing_key, waits_for, last_error FROM outbox.delayed"
    " ORDER BY id LIMIT " LOOKED_AT ") AS d"
    " WHERE d.waits_for = 'retry' AND d.last_error LIKE '%312 NO_ROUTE%'"
    " GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 100";

/* Not returned, and not for want of an exchange: a queue nacks, or does not answer. */
static const char refused_sql[] =
    "SELECT d.exchange, d.routing_key, count(*), d.waits_for, min(d.last_error)"
    " FROM (SELECT exchange, routing_key, waits_for, last_error FROM outbox.delayed"
    " ORDER BY id LIMIT " LOOKED_AT ") AS d"
    " WHERE d.last_error IS NOT NULL AND (d.waits_for = 'queue'"
    " OR (d.waits_for = 'retry' AND d.last_error NOT LIKE '%312 NO_ROUTE%'))"
    " GROUP BY 1, 2, 4 ORDER BY 3 DESC, 1, 2 LIMIT 10";

static void
read_routes(struct checkup * c, enum checkup_need need, const char * sql,
    struct checkup_routes * routes)
{
	PGresult * r = checkup_ask(c, "routes", sql, 0, NULL, false);

	if (r == NULL) {
		routes->known = false;
		return;
	}
	for (int i = 0; i < PQntuples(r) && i < CHECKUP_ROUTES_MAX; i++) {
		struct checkup_route * route = &routes->list[routes->count++];

		route->need = need;
		snprintf(route->exchange, sizeof(route->exchange), "%s", value(r, i, 0));
		snprintf(route->routing_key, sizeof(route->routing_key), "%s", value(r, i, 1));
		route->messages = strtoll(value(r, i, 2), NULL, 10);
	}
	PQclear(r);
}

static void
check_refused(struct checkup * c)
{
	PGresult * r = checkup_ask(c, "refused", refused_sql, 0, NULL, false);

	if (r == NULL)
		return;
	if (PQntuples(r) == 0)
		finding_ok(c->findings, "refused", "no queue refuses messages");
	for (int i = 0; i < PQntuples(r); i++) {
		finding_warn(c->findings, "refused",
		    "%s messages for exchange \"%s\", routing key \"%s\" wait: %s", value(r, i, 2),
		    value(r, i, 0), value(r, i, 1), value(r, i, 4));
		finding_remedy(c->findings,
		    "rabbitmqctl list_queues name type state leader messages policy arguments  # "
		    "is one full, or without its leader?");
	}
	PQclear(r);
}

void
checkup_outbox(struct checkup * c, struct checkup_routes * routes)
{
	check_leader(c);
	check_position(c);
	check_trigger(c);
	check_pauses(c);
	check_backlog(c);
	check_slots(c);
	check_refused(c);
	routes->known = true;
	read_routes(c, CHECKUP_EXCHANGE, exchanges_sql, routes);
	read_routes(c, CHECKUP_QUEUE, queues_sql, routes);
	read_routes(c, CHECKUP_ROUTE, returned_sql, routes);
}
