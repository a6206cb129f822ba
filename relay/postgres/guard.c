/*
 * xids start anew in another cluster, so a position that came with a dump
 * means nothing there.  How a copy is told apart from its original:
 *   an xmax ahead of the server          any copy into a younger cluster
 *   same cluster, another database oid   CREATE DATABASE ... TEMPLATE
 *   another cluster, another table oid   restored from a dump
 *   the same table oid, the mark's xid   restored where oids happened to fall
 *     is not that of its row             the same
 *   the same table oid, and that, too    pg_upgrade: keeps xids and oids; fine
 * A copy of the disk keeps everything and cannot be recognised.  Messages that
 * came without any mark are recognised by their xids, if those are ahead: they
 * would wait until the server's have caught up.
 */
#include "postgres/guard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "postgres/wire.h"

#define SERVER_OLDEST 130000

const char guard_server_sql[] =
    "SELECT pg_is_in_recovery(), current_setting('server_version_num')::int, "
    "EXISTS (SELECT FROM pg_namespace WHERE nspname = $1), "
    "coalesce(has_schema_privilege((SELECT oid FROM pg_namespace WHERE nspname = $1), 'USAGE'), "
    "false), "
    "EXISTS (SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace "
    "WHERE n.nspname = $1 AND p.proname = 'schema_version'), "
    "current_database(), current_user::text, pg_backend_pid()";

int32_t
guard_backend_pid(const PGresult * result)
{
	return (wire_int32(result, 0, 7));
}

int
guard_check_server(const PGresult * result, const char * schema, struct error * e)
{
	const char * database = PQgetvalue(result, 0, 5);

	if (wire_bool(result, 0, 0)) {
		error_set(e, EXIT_CONFIGURATION,
		    "the server of database %s is a standby; its snapshots hide late commits",
		    database);
		strcpy(e->sqlstate, GUARD_STANDBY);
		return (error_remedy(e,
		    "name the primary, or all hosts, in postgres.dsn, without target_session_attrs"));
	}
	if (wire_int32(result, 0, 1) < SERVER_OLDEST) {
		error_set(e, EXIT_CONFIGURATION, "the server is older than Postgres 13");
		return (error_remedy(e, "upgrade the server"));
	}
	if (!wire_bool(result, 0, 2) || (wire_bool(result, 0, 3) && !wire_bool(result, 0, 4))) {
		error_set(e, EXIT_CONFIGURATION, "database %s has no outbox in schema %s", database,
		    schema);
		return (error_remedy(e, "apply the migrations: outbox-relay migrate up"));
	}
	if (!wire_bool(result, 0, 3)) {
		error_set(e, EXIT_PERMISSION, "role %s may not use schema %s in database %s",
		    PQgetvalue(result, 0, 6), schema, database);
		return (error_remedy(e, "as the owner of the schema: SELECT %s.grant_relay('%s')",
		    schema, PQgetvalue(result, 0, 6)));
	}
	return (0);
}

const char guard_schema_sql[] =
    "SELECT outbox.schema_version(), current_database(), current_user::text, "
    "has_table_privilege('outbox.message', 'SELECT') "
    "AND has_table_privilege('outbox.sent', 'SELECT') "
    "AND has_table_privilege('outbox.sent', 'INSERT'), "
    "EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'outbox.message'::regclass "
    "AND tgname = 'wake' AND tgenabled IN ('O', 'A')), "
    "array_to_string(outbox.applied_migrations(), ' '), "
    "(SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = 'outbox'::regnamespace "
    "AND c.relname IN ('message', 'message_0', 'message_1', 'message_2', 'sent', 'delayed', "
    "'dead', 'pause', 'discard') AND row_security_active(c.oid) ORDER BY c.relname LIMIT 1)";

bool
guard_has(const struct guard_schema * found, unsigned int migration)
{
	return (version_has(&found->version, migration));
}

int
guard_check_schema(const PGresult * result, const char * schema, struct guard_schema * found,
    struct error * e)
{
	const struct version_facts facts = {.line = "outbox",
	    .database = PQgetvalue(result, 0, 1),
	    .schema = schema,
	    .version = PQgetvalue(result, 0, 0),
	    .applied = PQgetvalue(result, 0, 5)};

	if (version_check(&found->version, &facts, e))
		return (-1);
	if (!wire_bool(result, 0, 3)) {
		error_set(e, EXIT_PERMISSION,
		    "role %s may not read %s.message or write %s.sent in database %s",
		    PQgetvalue(result, 0, 2), schema, schema, PQgetvalue(result, 0, 1));
		return (error_remedy(e, "as the owner of the schema: SELECT %s.grant_relay('%s')",
		    schema, PQgetvalue(result, 0, 2)));
	}
	if (!PQgetisnull(result, 0, 6)) {
		error_set(e, EXIT_PERMISSION,
		    "row-level security hides rows of %s.%s in database %s from role %s", schema,
		    PQgetvalue(result, 0, 6), PQgetvalue(result, 0, 1), PQgetvalue(result, 0, 2));
		return (error_remedy(e,
		    "ALTER TABLE %s.%s DISABLE ROW LEVEL SECURITY, or as a superuser: ALTER ROLE %s "
		    "BYPASSRLS",
		    schema, PQgetvalue(result, 0, 6), PQgetvalue(result, 0, 2)));
	}
	found->has_trigger = wire_bool(result, 0, 4);
	return (0);
}

const char guard_record_sql[] =
    "SELECT (SELECT system_identifier FROM pg_control_system()), d.oid, "
    "'outbox.message'::regclass::oid, d.datname::text, "
    "s.seq, s.prev::text, s.target::text, s.last_id, s.floor_id, s.max_id, "
    "s.system_identifier, s.database_oid, s.table_oid, "
    "coalesce(pg_snapshot_xmax(coalesce(s.target, s.prev)) > "
    "pg_snapshot_xmax(pg_current_snapshot()), false), "
    "s.seq IS NULL AND coalesce((SELECT m.xid FROM outbox.message m ORDER BY m.xid DESC LIMIT 1) >= "
    "pg_snapshot_xmax(pg_current_snapshot()), false), s.xid::xid = s.written_by "
    "FROM pg_database d LEFT JOIN (SELECT *, xmin AS written_by FROM outbox.sent "
    "ORDER BY seq DESC LIMIT 1) s ON true "
    "WHERE d.datname = current_database()";

enum { RECORD_SEQ = 4, RECORD_AHEAD = 13, RECORD_MESSAGES_AHEAD, RECORD_MARK_IN_PLACE };

static int
guard_remedy(struct error * e)
{
	return (error_remedy(e,
	    "outbox-relay migrate rebase (keeps what is pending; "
	    "--discard-pending for a copy that must stay silent)"));
}

int
guard_check_record(const PGresult * result, const char * schema, struct guard_record * record,
    struct error * e)
{
	struct guard_identity from;
	const char * why = NULL;

	*record = (struct guard_record){.identity = {.system_identifier = wire_int64(result, 0, 0),
					    .database_oid = (uint32_t)wire_int32(result, 0, 1),
					    .table_oid = (uint32_t)wire_int32(result, 0, 2)},
	    .position = CURSOR_START};
	if (PQgetisnull(result, 0, RECORD_SEQ)) {
		if (!wire_bool(result, 0, RECORD_MESSAGES_AHEAD))
			return (0);
		error_set(e, EXIT_CONFIGURATION,
		    "the messages in database %s, schema %s, came from another cluster: "
		    "their transaction ids are ahead of this server",
		    PQgetvalue(result, 0, 3), schema);
		return (guard_remedy(e));
	}
	record->seq = wire_int64(result, 0, 4);
	record->position = (struct cursor_position){.prev = PQgetvalue(result, 0, 5),
	    .target = PQgetisnull(result, 0, 6) ? NULL : PQgetvalue(result, 0, 6),
	    .last_id = wire_int64(result, 0, 7),
	    .floor_id = wire_int64(result, 0, 8)};
	record->max_id = wire_int64(result, 0, 9);
	from = (struct guard_identity){.system_identifier = wire_int64(result, 0, 10),
	    .database_oid = (uint32_t)wire_int32(result, 0, 11),
	    .table_oid = (uint32_t)wire_int32(result, 0, 12)};
	if (from.system_identifier != record->identity.system_identifier) {
		if (from.table_oid != record->identity.table_oid ||
		    !wire_bool(result, 0, RECORD_MARK_IN_PLACE))
			why = "it was restored from a dump of another cluster";
	} else if (from.database_oid != record->identity.database_oid)
		why = "it is a copy of another database of this cluster";
	if (why == NULL && wire_bool(result, 0, RECORD_AHEAD))
		why = "its transaction ids are ahead of this server";
	if (why == NULL)
		return (0);
	error_set(e, EXIT_CONFIGURATION,
	    "the position recorded in database %s, schema %s, does not belong to it: %s",
	    PQgetvalue(result, 0, 3), schema, why);
	return (guard_remedy(e));
}
