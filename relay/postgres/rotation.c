/*
 * What must stay true (L): a slot is emptied only under an ACCESS EXCLUSIVE
 * lock on that leaf, after a check in a statement that began when the lock was
 * held.  A writer of that slot holds a lock that conflicts until it ends, so
 * whatever it wrote is seen by the check or not yet there.  The lock is asked
 * for with NOWAIT: behind a dump or a slow writer we come again later instead
 * of making writers queue behind us.
 *
 * Which slot: of three, the one after the current; what lies there was
 * written a period ago at least.  How old it is, the newest row tells; writers
 * may set created_at, so one that lies in the future counts as now, and the
 * mark that covers it tells.  TRUNCATE flushes WAL and scans buffers, so
 * an empty leaf is left alone.
 *
 * A dead letter that was discarded stays at least as long as its message does among
 * the messages, where it would be taken for one that was sent (H).
 */
#include "postgres/rotation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "postgres/sql.h"
#include "postgres/wire.h"

/* The next slot, whether it holds anything, and whether old dead letters can be found. */
static const char look_sql[] =
    "SELECT n.slot, pg_relation_size(('outbox.message_' || n.slot)::regclass) > 0, "
    "to_regclass('outbox.dead_discarded_at_idx') IS NOT NULL "
    "FROM (SELECT (outbox.current_slot() + 1) % 3 AS slot) n";

/* The slot's number goes in three times: a DO block takes no parameters. */
static const char empty_sql[] =
    "DO $do$ DECLARE mark outbox.sent%%ROWTYPE; BEGIN "
    "LOCK TABLE ONLY outbox.message_%d IN ACCESS EXCLUSIVE MODE NOWAIT; "
    "SELECT * INTO mark FROM outbox.sent ORDER BY seq DESC LIMIT 1; "
    "IF mark.seq IS NULL OR (outbox.current_slot() + 1) %% 3 <> %d "
    "OR (SELECT CASE WHEN m.created_at <= now() THEN m.created_at ELSE ("
    "SELECT s.sent_at FROM outbox.sent s "
    "WHERE pg_snapshot_xmax(coalesce(s.target, s.prev)) > m.xid "
    "AND (pg_visible_in_snapshot(m.xid, s.prev) "
    "OR (m.id <= s.last_id AND pg_visible_in_snapshot(m.xid, s.target))) "
    "ORDER BY pg_snapshot_xmax(coalesce(s.target, s.prev)), s.seq LIMIT 1) END "
    "FROM outbox.message_%d m ORDER BY m.id DESC LIMIT 1) > now() - outbox.retention() "
    "OR EXISTS (SELECT FROM outbox.message_%d m "
    "WHERE m.xid >= pg_snapshot_xmax(mark.prev) "
    "AND (mark.target IS NULL OR NOT pg_visible_in_snapshot(m.xid, mark.target) "
    "OR m.id > mark.last_id)) "
    "OR EXISTS (SELECT FROM unnest(ARRAY(SELECT pg_snapshot_xip(mark.prev))) AS x (xid), "
    "LATERAL (SELECT FROM outbox.message_%d m WHERE m.xid = x.xid "
    "AND (mark.target IS NULL OR NOT pg_visible_in_snapshot(m.xid, mark.target) "
    "OR m.id > mark.last_id) LIMIT 1) s) "
    "THEN RETURN; END IF; "
    "TRUNCATE ONLY outbox.message_%d; END $do$";

/*
 * A bounded number of marks from before the oldest kept message; never the newest.
 * No more are looked at than may go: there are twenty a second, kept for days.
 */
static const char trim_sql[] =
    "DELETE FROM outbox.sent WHERE seq IN (SELECT s.seq FROM ("
    "SELECT o.seq, o.sent_at FROM outbox.sent o ORDER BY o.seq LIMIT 10000) s "
    "WHERE s.seq < (SELECT max(seq) FROM outbox.sent) "
    "AND s.sent_at < now() - outbox.retention() "
    "AND s.sent_at < coalesce((SELECT created_at FROM outbox.message ORDER BY id LIMIT 1), now()))";

/* The same of dead letters that were discarded. */
static const char clear_sql[] =
    "DELETE FROM outbox.dead WHERE id = ANY (ARRAY(SELECT x.id FROM outbox.dead x "
    "WHERE x.discarded_at < now() - 2 * outbox.slot_period() "
    "AND NOT EXISTS (SELECT FROM outbox.message m WHERE m.id = x.id) "
    "ORDER BY x.discarded_at LIMIT 10000))";

struct rotation {
	char * look;
	char * empty;
	char * trim;
	char * clear;
	struct connection * connection;
	clock_ns next;
	clock_ns now;
	int64_t warned;
};

struct rotation *
rotation_new(const char * schema)
{
	struct rotation * rotation;

	if ((rotation = calloc(1, sizeof(*rotation))) == NULL)
		return (NULL);
	rotation->look = sql_in_schema(look_sql, schema);
	rotation->empty = sql_in_schema(empty_sql, schema);
	rotation->trim = sql_in_schema(trim_sql, schema);
	rotation->clear = sql_in_schema(clear_sql, schema);
	if (rotation->look == NULL || rotation->empty == NULL || rotation->trim == NULL ||
	    rotation->clear == NULL) {
		rotation_free(rotation);
		return (NULL);
	}
	return (rotation);
}

void
rotation_free(struct rotation * rotation)
{
	if (rotation == NULL)
		return;
	free(rotation->look);
	free(rotation->empty);
	free(rotation->clear);
	free(rotation->trim);
	free(rotation);
}

void
rotation_start(struct rotation * rotation, struct connection * connection, clock_ns now)
{
	rotation->connection = connection;
	rotation->next = now + ROTATION_INTERVAL;
}

static void
rotation_warn(struct rotation * rotation, const char * event, const struct error * e)
{
	/* Somebody reads or writes the slot: it is tried again. */
	if (strcmp(e->sqlstate, "55P03") == 0)
		return;
	if (log_due(&rotation->warned, rotation->now))
		log_failure(LOG_LEVEL_WARN, event, e);
}

static void
rotation_on_trimmed(void * context, PGresult ** result, const struct error * e)
{
	(void)result;
	if (e != NULL)
		rotation_warn(context, "marks_not_trimmed", e);
}

static void
rotation_on_cleared(void * context, PGresult ** result, const struct error * e)
{
	(void)result;
	if (e != NULL)
		rotation_warn(context, "dead_letters_not_trimmed", e);
}

static void
rotation_on_emptied(void * context, PGresult ** result, const struct error * e)
{
	(void)result;
	if (e != NULL)
		rotation_warn(context, "slot_not_emptied", e);
}

static void
rotation_on_look(void * context, PGresult ** result, const struct error * e)
{
	struct rotation * rotation = context;
	char sql[2048];
	int slot;

	if (e != NULL) {
		rotation_warn(rotation, "slots_not_seen", e);
		return;
	}
	slot = wire_int32(*result, 0, 0);
	if (wire_bool(*result, 0, 1)) {
		snprintf(sql, sizeof(sql), rotation->empty, slot, slot, slot, slot, slot, slot);
		connection_send(rotation->connection, rotation->now, sql, 0, NULL,
		    rotation_on_emptied, rotation);
	}
	connection_send(rotation->connection, rotation->now, rotation->trim, 0, NULL,
	    rotation_on_trimmed, rotation);
	if (wire_bool(*result, 0, 2))
		connection_send(rotation->connection, rotation->now, rotation->clear, 0, NULL,
		    rotation_on_cleared, rotation);
}

void
rotation_turn(struct rotation * rotation, struct connection * connection, clock_ns now)
{
	if (now < rotation->next)
		return;
	rotation->connection = connection;
	rotation->now = now;
	rotation->next = now + ROTATION_INTERVAL;
	connection_send(connection, now, rotation->look, 0, NULL, rotation_on_look, rotation);
}

clock_ns
rotation_deadline(const struct rotation * rotation)
{
	return (rotation->next);
}
