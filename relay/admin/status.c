/*
 * Everything but payloads comes from the view message_status and from
 * backlog(), so that no question here reads the backlog, and what is said
 * agrees with what any SQL client sees.  The columns of an answer are named as
 * people read them; the same row as JSON is made by the server.
 */
#include "admin/status.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/direct.h"
#include "postgres/sql.h"
#include "postgres/version.h"

/* How far created_at may lie from the time inside a UUID version 7. */
#define UUID_WINDOW_S 600

/* It brought the table pause. */
#define MIGRATION_PAUSE 4

/* Types of Postgres' catalogue; their numbers never change. */
#define BOOL_OID 16
#define TEXT_ARRAY_OID 1009

struct status {
	struct status_options options;
	PGconn * conn;
	PGresult * result; /* of the last question: strings point into it */
	struct version version;
	unsigned char * payload;
};

/* The leader's lock is that of postgres/lead.h. */
#define LEADER_SQL \
	"SELECT l.pid FROM pg_locks AS l JOIN pg_database AS b ON b.oid = l.database" \
	" WHERE b.datname = current_database() AND l.locktype = 'advisory' AND l.granted" \
	" AND l.classid = 'outbox.message'::regclass::oid AND l.objid = 4294967295 AND l.objsubid = 2"

static const char present_sql[] = "SELECT to_regclass('outbox.message_status') IS NOT NULL";

#define OVERVIEW_SQL(paused, exchanges) \
	"WITH mark AS (SELECT seq, sent_at, max_id FROM outbox.sent ORDER BY seq DESC LIMIT 1)," \
	" leader AS (" LEADER_SQL " LIMIT 1)," \
	" recent AS (SELECT s.messages, s.sent_at FROM outbox.sent AS s ORDER BY s.seq DESC LIMIT 5000)," \
	" overview AS (" \
	"SELECT current_database()::text AS database, 'outbox'::text AS schema," \
	" outbox.schema_version() AS schema_version, outbox.applied_migrations() AS migrations," \
	" EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'outbox.message'::regclass" \
	" AND tgname = 'wake' AND tgenabled IN ('O', 'A')) AS wake_up_trigger," \
	" extract(epoch FROM outbox.retention())::bigint AS retention_seconds," \
	" b.pending, b.delayed, b.dead, b.estimated," \
	" round(extract(epoch FROM b.oldest_pending_age)::numeric, 1) AS oldest_pending_age_seconds," \
	" (SELECT pid FROM leader) AS leader_pid," \
	" (SELECT a.application_name FROM pg_stat_activity AS a JOIN leader ON leader.pid = a.pid)" \
	" AS leader_application," \
	" (SELECT a.backend_start FROM pg_stat_activity AS a JOIN leader ON leader.pid = a.pid)" \
	" AS leader_connected_at," \
	" (SELECT seq FROM mark) AS mark," \
	" (SELECT sent_at FROM mark) AS marked_at," \
	" (SELECT max_id FROM mark) AS greatest_id_sent," \
	" (SELECT coalesce(sum(messages), 0) FROM recent WHERE sent_at > clock_timestamp() - interval '1 minute')" \
	" AS sent_last_minute," \
	" " paused " AS paused, " exchanges " AS paused_exchanges" \
	" FROM outbox.backlog() AS b)" \
	" SELECT o.*, row_to_json(o)::text AS json FROM overview AS o"

static const char overview_sql[] = OVERVIEW_SQL(
    "EXISTS (SELECT FROM outbox.pause WHERE everything)",
    "(SELECT coalesce(array_agg(exchange ORDER BY exchange), '{}') FROM outbox.pause WHERE NOT everything)");

/* Of a schema without MIGRATION_PAUSE. */
static const char overview_old_sql[] = OVERVIEW_SQL("false", "'{}'::text[]");

static const char near_sql[] =
    "SELECT id FROM outbox.message_status WHERE message_id = $1::uuid AND created_at BETWEEN"
    " to_timestamp($3::double precision) AND to_timestamp($4::double precision)"
    " ORDER BY id LIMIT $2::integer";

static const char anywhere_sql[] =
    "SELECT id FROM outbox.message_status WHERE message_id = $1::uuid ORDER BY id LIMIT $2::integer";

static const char show_sql[] =
    "SELECT m.id, m.message_id, m.state,"
    " CASE m.state"
    " WHEN 'pending' THEN CASE WHEN EXISTS (" LEADER_SQL ")"
    " THEN 'not published yet, or not confirmed, or not marked' ELSE 'no relay leads: start one' END"
    " WHEN 'sent' THEN 'confirmed by the broker, then marked'"
    " WHEN 'delayed' THEN CASE m.waits_for"
    " WHEN 'schedule' THEN CASE WHEN m.next_attempt_at > now() THEN 'scheduled'"
    " ELSE 'scheduled, and due' END"
    " WHEN 'retry' THEN coalesce('to be tried again: ' || m.last_error, 'due')"
    " WHEN 'exchange' THEN 'waits until its exchange is well: '"
    " || coalesce(m.last_error, 'no reason recorded')"
    " WHEN 'queue' THEN 'waits until its queue is well: '"
    " || coalesce(m.last_error, 'no reason recorded')"
    " ELSE 'behind an earlier message of its key' END"
    " ELSE 'given up: ' || coalesce(m.reason, 'no reason recorded') END AS why,"
    " m.sent_at, m.attempts, m.last_error, m.deliver_at, m.next_attempt_at, m.exchange,"
    " m.routing_key, m.ordering_key, m.type, m.slot, m.created_at"
    " FROM outbox.message_status AS m WHERE m.id = $1::bigint";

static const char payload_sql[] =
    "SELECT coalesce(p.payload, convert_to(coalesce(p.payload_text, p.payload_json::text), 'UTF8'))"
    " FROM (SELECT payload, payload_text, payload_json FROM outbox.message WHERE id = $1::bigint"
    " UNION ALL SELECT payload, payload_text, payload_json FROM outbox.delayed WHERE id = $1::bigint"
    " UNION ALL SELECT payload, payload_text, payload_json FROM outbox.dead WHERE id = $1::bigint)"
    " AS p LIMIT 1";

static void
status_forget(struct status * status)
{
	PQclear(status->result);
	PQfreemem(status->payload);
	status->result = NULL;
	status->payload = NULL;
}

/* The answer is kept until the next question.  0, or -1 with ${e}. */
static int
status_ask(struct status * status, const char * text, int count, const char * const * parameters,
    struct error * e)
{
	char * sql = sql_in_schema(text, status->options.schema);

	if (sql == NULL)
		return (error_set(e, EXIT_BUG, "out of memory"));
	status_forget(status);
	if ((status->result = direct_query(status->conn, sql, count, parameters, e)) == NULL)
		direct_name_grant(status->conn, status->options.schema, "grant_relay", e);
	free(sql);
	return (status->result == NULL ? -1 : 0);
}

static int
status_check_version(struct status * status, struct error * e)
{
	struct version_facts facts = {.line = "outbox",
	    .database = PQdb(status->conn),
	    .schema = status->options.schema};

	if (status_ask(status, VERSION_SQL, 0, NULL, e))
		return (-1);
	facts.version = PQgetvalue(status->result, 0, 0);
	facts.applied = PQgetvalue(status->result, 0, 1);
	return (version_check(&status->version, &facts, e));
}

struct status *
status_open(const struct status_options * options, struct error * e)
{
	const struct direct_options connection = {.dsn = options->dsn,
	    .password_file = options->password_file,
	    .purpose = "status"};
	struct status * status;

	if ((status = calloc(1, sizeof(*status))) == NULL) {
		error_set(e, EXIT_BUG, "out of memory");
		return (NULL);
	}
	status->options = *options;
	/* The slots have no statistics: without this a search by time would read them all. */
	if ((status->conn = direct_open(&connection, e)) == NULL ||
	    direct_run(status->conn, "SET enable_seqscan = off; SET statement_timeout = '5min'",
		e) ||
	    status_ask(status, present_sql, 0, NULL, e))
		goto fail;
	if (PQgetvalue(status->result, 0, 0)[0] != 't') {
		error_set(e, EXIT_CONFIGURATION, "database %s has no schema \"%s\" with an outbox",
		    PQdb(status->conn), options->schema);
		error_remedy(e,
		    "apply the migrations: outbox-relay migrate up; or correct "
		    "postgres.dsn or postgres.schema");
		goto fail;
	}
	if (status_check_version(status, e))
		goto fail;
	return (status);
fail:
	status_close(status);
	return (NULL);
}

void
status_close(struct status * status)
{
	if (status == NULL)
		return;
	status_forget(status);
	PQfinish(status->conn);
	free(status);
}

/* As a person reads it; NULL for NULL. */
static const char *
readable(const PGresult * result, int column)
{
	const char * value = PQgetvalue(result, 0, column);

	if (PQgetisnull(result, 0, column))
		return (NULL);
	if (PQftype(result, column) == BOOL_OID)
		return (value[0] == 't' ? "yes" : "no");
	if (PQftype(result, column) == TEXT_ARRAY_OID && strcmp(value, "{}") == 0)
		return ("none");
	return (value);
}

/* The first row of the answer, its first ${columns} columns. */
static size_t
status_lines(const struct status * status, struct status_line lines[STATUS_LINES_MAX], int columns)
{
	size_t count = 0;

	for (int i = 0; i < columns && count < STATUS_LINES_MAX; i++) {
		lines[count].name = PQfname(status->result, i);
		lines[count++].value = readable(status->result, i);
	}
	return (count);
}

size_t
status_overview(struct status * status, struct status_line lines[STATUS_LINES_MAX],
    const char ** json, struct error * e)
{
	int columns;

	if (status_ask(status,
		version_has(&status->version, MIGRATION_PAUSE) ? overview_sql : overview_old_sql, 0,
		NULL, e))
		return (0);
	columns = PQnfields(status->result);
	*json = PQgetvalue(status->result, 0, columns - 1);
	return (status_lines(status, lines, columns - 1));
}

bool
status_message_from(const char * text, struct status_message * message)
{
	static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
	char * end;

	*message = (struct status_message){.by_uuid = strlen(text) == sizeof(form) - 1};
	if (!message->by_uuid) {
		errno = 0;
		message->id = strtoll(text, &end, 10);
		return (errno == 0 && text[0] >= '0' && text[0] <= '9' && *end == '\0');
	}
	for (size_t i = 0; i < sizeof(form) - 1; i++) {
		if (form[i] == '-' ? text[i] != '-' :
				     strchr("0123456789abcdefABCDEF", text[i]) == NULL)
			return (false);
	}
	memcpy(message->uuid, text, sizeof(form));
	return (true);
}

/* The time inside a UUID version 7, RFC 9562 section 5.7. */
static double
uuid_seconds(const char * uuid)
{
	char hex[13];

	snprintf(hex, sizeof(hex), "%.8s%.4s", uuid, uuid + 9);
	return ((double)strtoll(hex, NULL, 16) / 1000);
}

int
status_find(struct status * status, const struct status_message * message, int64_t * ids, int max,
    struct error * e)
{
	char limit[16], from[32], to[32];
	const char * parameters[] = {message->uuid, limit, from, to};
	int count;

	if (!message->by_uuid) {
		ids[0] = message->id;
		return (1);
	}
	snprintf(limit, sizeof(limit), "%d", max);
	count = 0;
	if (message->uuid[14] == '7') {
		snprintf(from, sizeof(from), "%.3f", uuid_seconds(message->uuid) - UUID_WINDOW_S);
		snprintf(to, sizeof(to), "%.3f", uuid_seconds(message->uuid) + UUID_WINDOW_S);
		if (status_ask(status, near_sql, 4, parameters, e))
			return (-1);
		count = PQntuples(status->result);
	}
	if (count == 0) {
		if (status_ask(status, anywhere_sql, 2, parameters, e))
			return (-1);
		count = PQntuples(status->result);
	}
	for (int i = 0; i < count && i < max; i++)
		ids[i] = strtoll(PQgetvalue(status->result, i, 0), NULL, 10);
	return (count);
}

size_t
status_show(struct status * status, int64_t id, struct status_line lines[STATUS_LINES_MAX],
    struct error * e)
{
	char number[24];
	const char * parameter = number;

	snprintf(number, sizeof(number), "%" PRId64, id);
	if (status_ask(status, show_sql, 1, &parameter, e))
		return (0);
	if (PQntuples(status->result) == 0) {
		error_set(e, EXIT_FOUND, "no message %" PRId64 " is kept in schema %s", id,
		    status->options.schema);
		error_remedy(e,
		    "it was never written, its transaction rolled back, or it was sent longer "
		    "ago than the retention");
		return (0);
	}
	return (status_lines(status, lines, PQnfields(status->result)));
}

int
status_payload(struct status * status, int64_t id, struct bytes * body, struct error * e)
{
	char number[24];
	const char * parameter = number;

	snprintf(number, sizeof(number), "%" PRId64, id);
	if (status_ask(status, payload_sql, 1, &parameter, e))
		return (-1);
	if (PQntuples(status->result) == 0)
		return (error_set(e, EXIT_FOUND, "message %" PRId64 " is gone", id));
	status->payload = PQunescapeBytea((const unsigned char *)PQgetvalue(status->result, 0, 0),
	    &body->len);
	if (status->payload == NULL)
		return (error_set(e, EXIT_BUG, "out of memory"));
	body->data = (const char *)status->payload;
	return (0);
}
