/*
 * From a new session to the lead: look at the server, at who is in between, at
 * the schema; compete for the lock; then learn what is paused, and where the
 * newest mark stands.  Each question is asked when the one before it is
 * answered, and only when all is known anything is read.
 */
#include "postgres/source_state.h"

#include "base/log.h"
#include "postgres/lead.h"
#include "postgres/wire.h"

static void
source_tell_orders(struct source * source)
{
	const struct discard * list;
	size_t count;

	source->events.paused(source->context, paused_now(source->paused));
	list = paused_discards(source->paused, &count);
	source->events.discards(source->context, list, count);
}

static void
source_on_record(void * context, PGresult ** result, const struct error * e)
{
	struct source * source = context;
	struct guard_record record;
	struct error why;

	if (e != NULL) {
		source_fail(source, e);
		return;
	}
	if (guard_check_record(*result, source->options.schema, &record, &why)) {
		source_fail(source, &why);
		return;
	}
	if (reading_start(source->reading, source->connection, source->now, &record.position) ||
	    recording_start(source->recording, source->connection, source->now, &record)) {
		error_set(&why, EXIT_BUG, "out of memory");
		source_fail(source, &why);
		return;
	}
	delayed_start(source->delayed, source->connection, source->now);
	rotation_start(source->rotation, source->connection, source->now);
	wake_start(source->wake, source->connection, source->now, source->schema.has_trigger);
	if (source->survey != NULL)
		survey_start(source->survey, source->now);
	source->state = LEADING;
	if (source->options.listen && !source->schema.has_trigger)
		log_warn("wake_trigger_missing",
		    LOG_STR("remedy",
			"apply the migration \"wake\", or set wake.mode: poll; polling meanwhile"));
	log_info("leading", LOG_STR("database", connection_database(source->connection)),
	    LOG_STR("schema", source->options.schema), LOG_INT("mark", record.seq));
	source->events.up(source->context);
	source_tell_orders(source);
}

/* It must be known before anything is published. */
void
source_on_paused(void * context, const struct error * e)
{
	struct source * source = context;

	if (e != NULL)
		source_fail(source, e);
	else if (source->state == LEADING)
		source_tell_orders(source);
	else
		connection_send(source->connection, source->now, source->guard_record, 0, NULL,
		    source_on_record, source);
}

/* Between half and one and a half of the interval, so that standbys spread. */
static clock_ns
source_jitter(struct source * source, clock_ns interval)
{
	source->random ^= source->random << 13;
	source->random ^= source->random >> 7;
	source->random ^= source->random << 17;
	return (interval / 2 + (clock_ns)(source->random % (uint64_t)interval));
}

static void
source_on_end_stuck(void * context, PGresult ** result, const struct error * e)
{
	struct source * source = context;

	if (e != NULL) {
		source_fail(source, e);
		return;
	}
	for (int row = 0; row < PQntuples(*result); row++) {
		if (!wire_bool(*result, row, 1))
			continue;
		log_warn("stuck_leader_ended", LOG_INT("pid", wire_int32(*result, row, 0)),
		    LOG_STR("reason", "its session has stood still for 10 s"));
		source->try_at = source->now + CLOCK_MS(50);
	}
}

static void
source_on_try(void * context, PGresult ** result, const struct error * e)
{
	struct source * source = context;

	if (e != NULL) {
		source_fail(source, e);
		return;
	}
	if (wire_bool(*result, 0, 0)) {
		paused_start(source->paused, source->connection, source->now);
		return;
	}
	source->try_at = source->now + source_jitter(source, LEAD_RETRY);
	connection_send(source->connection, source->now, source->lead_end_stuck, 0, NULL,
	    source_on_end_stuck, source);
	if (!source->told_standby) {
		source->told_standby = true;
		source->events.standby(source->context);
	}
}

void
source_try_lead(struct source * source)
{
	source->try_at = CLOCK_NEVER;
	connection_send(source->connection, source->now, source->lead_try, 0, NULL, source_on_try,
	    source);
}

/* It is no news at the next connect. */
static void
source_tell_schema(struct source * source)
{
	const struct version * version = &source->schema.version;

	if (source->told_migrations == version->migrations)
		return;
	source->told_migrations = version->migrations;
	if (version->behind[0] != '\0')
		log_warn("schema_behind", LOG_STR("missing", version->behind),
		    LOG_STR("remedy",
			"what these bring is off: outbox-relay migrate up, then restart the relay"));
	if (version->ahead[0] != '\0')
		log_info("schema_ahead", LOG_STR("newest", version->ahead));
}

static void
source_on_schema(void * context, PGresult ** result, const struct error * e)
{
	struct source * source = context;
	struct error why;

	if (e != NULL) {
		source_fail(source, e);
		return;
	}
	if (guard_check_schema(*result, source->options.schema, &source->schema, &why)) {
		source_fail(source, &why);
		return;
	}
	source->was_well = true;
	source_tell_schema(source);
	source_try_lead(source);
}

void
source_on_pooler(void * context, bool lends)
{
	struct source * source = context;
	struct error why;

	if (lends) {
		error_set(&why, EXIT_CONFIGURATION,
		    "between here and Postgres is a pooler in transaction mode, where nobody keeps "
		    "a lock or hears a NOTIFY");
		error_remedy(&why,
		    "connect directly, or through a pool in session mode: postgres.dsn");
		source_fail(source, &why);
		return;
	}
	connection_send(source->connection, source->now, source->guard_schema, 0, NULL,
	    source_on_schema, source);
}

static void
source_on_server(void * context, PGresult ** result, const struct error * e)
{
	struct source * source = context;
	struct error why;

	if (e != NULL) {
		source_fail(source, e);
		return;
	}
	if (guard_check_server(*result, source->options.schema, &why)) {
		source_fail(source, &why);
		return;
	}
	if (guard_backend_pid(*result) != connection_backend_pid(source->connection))
		pooler_start(source->pooler, source->connection, source->now);
	else
		source_on_pooler(source, false);
}

void
source_on_connected(void * context)
{
	struct source * source = context;
	const char * parameters[] = {source->options.schema};

	source->state = CONTENDING;
	source->try_at = CLOCK_NEVER;
	connection_send(source->connection, source->now, guard_server_sql, 1, parameters,
	    source_on_server, source);
}
