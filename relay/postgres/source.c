/*
 * The way to the lead, and back:
 *
 *   DOWN -> CONNECTING -> CONTENDING -> LEADING
 *     ^----------------------------------'
 *
 * Every failure on the way, and every lost connection, leads to DOWN, which
 * tells the owner and comes back by itself, unless only a person can help.
 * Whatever the owner has asked for is forgotten then.
 *
 * While it leads, one fetch, one search and one mark may be open; all go
 * through one connection, in the order in which they were asked for, and are
 * answered in that order.
 */
#include "postgres/source_state.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "postgres/lead.h"
#include "postgres/sql.h"

/*
 * Postgres sends in pieces of 8 KiB, and to wake up for each costs both sides
 * more than the piece.  In bulk the socket's buffer collects them meanwhile.
 */
#define BULK_PAUSE CLOCK_MS(1)

/* Shorter than the lease: whoever waits for a lock still proves that it leads. */
#define LOCK_TIMEOUT "5s"

/*
 * The planner must never see a reason to read more than the index gives
 * (cursor.c); a mark must be on disk when it counts (local), but no replica
 * must be waited for; nothing may hang.  Rows that a policy hides would be
 * passed over as if there were none (L): then the server refuses instead.
 */
static const char * const connection_settings[] = {"search_path", SQL_SEARCH_PATH, "enable_seqscan",
    "off", "enable_bitmapscan", "off", "enable_hashjoin", "off", "enable_mergejoin", "off", "jit",
    "off", "work_mem", "16MB", "plan_cache_mode", "force_generic_plan", "synchronous_commit",
    "local", "default_transaction_isolation", "read committed", "statement_timeout", "60s",
    "idle_in_transaction_session_timeout", "60s", "lock_timeout", LOCK_TIMEOUT, "row_security",
    "off", "array_nulls", "on", NULL};

/* The survey goes this way, too. */
static const char * const listener_settings[] = {"search_path", SQL_SEARCH_PATH,
    "statement_timeout", "10s", "lock_timeout", "1s", "enable_seqscan", "off", "enable_bitmapscan",
    "off", "jit", "off", "row_security", "off", NULL};

static void source_on_fetched(void * context, struct batch * batch, uint64_t interval,
    bool exhausted, const struct error * e);
static void source_on_found(void * context, const struct found * found, const struct error * e);
static void source_on_recorded(void * context, const struct error * e);

static const struct connection_events main_events = {.connected = source_on_connected,
    .failed = source_on_failed};

struct source *
source_new(const struct source_options * options, const struct source_events * events,
    void * context, struct error * e)
{
	struct source * source;
	struct connection_options listener;
	char host[32] = "";

	if ((source = calloc(1, sizeof(*source))) == NULL) {
		error_set(e, EXIT_BUG, "out of memory");
		return (NULL);
	}
	gethostname(host, sizeof(host) - 1);
	snprintf(source->application_name, sizeof(source->application_name), "outbox-relay %s %s",
	    options->schema, host);
	source->options = *options;
	source->events = *events;
	source->context = context;
	source->random = options->seed | 1;
	source->connection_options = (struct connection_options){.dsn = options->dsn,
	    .password_file = options->password_file,
	    .application_name = source->application_name,
	    .settings = connection_settings,
	    .connect_timeout = CLOCK_S(10),
	    .bulk = true};
	listener = source->connection_options;
	listener.settings = listener_settings;
	listener.bulk = false;
	backoff_init(&source->backoff, CLOCK_MS(200), 2, CLOCK_S(10), options->seed);
	source->connection = connection_new(&source->connection_options, &main_events, source);
	source->delayed = delayed_new(options->schema, source_on_found, source);
	source->rotation = rotation_new(options->schema);
	source->paused = paused_new(options->schema, source_on_paused, source);
	if (options->survey)
		source->survey = survey_new(options->schema,
		    &(struct survey_events){.backlog = events->backlog, .newest = events->newest},
		    context);
	source->pooler = pooler_new(&source->connection_options, source_on_pooler, source);
	source->wake = wake_new(&(struct wake_options){.schema = options->schema,
	    .listen = options->listen,
	    .poll_interval = options->poll_interval,
	    .connection = &listener});
	source->reading = reading_new(&(struct reading_options){.schema = options->schema,
					  .wait_for_flush = options->wait_for_flush,
					  .strict = options->strict,
					  .wake = source->wake},
	    source_on_fetched, source);
	source->guard_schema = sql_in_schema(guard_schema_sql, options->schema);
	source->guard_record = sql_in_schema(guard_record_sql, options->schema);
	source->lead_try = sql_in_schema(lead_try_sql, options->schema);
	source->lead_end_stuck = sql_in_schema(lead_end_stuck_sql, options->schema);
	if (source->reading != NULL)
		source->recording = recording_new(
		    &(struct recording_options){.schema = options->schema,
			.seed = options->seed,
			.cursor = reading_cursor(source->reading),
			.held = reading_held(source->reading)},
		    source_on_recorded, source);
	if (source->connection == NULL || source->recording == NULL || source->delayed == NULL ||
	    source->rotation == NULL || source->paused == NULL || source->pooler == NULL ||
	    (options->survey && source->survey == NULL) || source->wake == NULL ||
	    source->guard_schema == NULL || source->guard_record == NULL ||
	    source->lead_try == NULL || source->lead_end_stuck == NULL) {
		error_set(e, EXIT_BUG, "out of memory");
		source_free(source);
		return (NULL);
	}
	return (source);
}

void
source_free(struct source * source)
{
	if (source == NULL)
		return;
	free(source->lead_end_stuck);
	free(source->lead_try);
	free(source->guard_record);
	free(source->guard_schema);
	recording_free(source->recording);
	reading_free(source->reading);
	wake_free(source->wake);
	pooler_free(source->pooler);
	paused_free(source->paused);
	survey_free(source->survey);
	rotation_free(source->rotation);
	delayed_free(source->delayed);
	connection_free(source->connection);
	free(source);
}

/* ---- reading ---- */

static void
source_on_fetched(void * context, struct batch * batch, uint64_t interval, bool exhausted,
    const struct error * e)
{
	struct source * source = context;

	if (e != NULL) {
		source_fail(source, e);
		return;
	}
	/* Only now: a lead that cannot read must not come back at once for ever. */
	backoff_reset(&source->backoff);
	source->events.fetched(source->context, batch, interval, exhausted);
}

void
source_fetch(struct source * source, clock_ns now, uint32_t rows, size_t bytes, bool wait)
{
	source->now = now;
	if (source->state == LEADING)
		reading_fetch(source->reading, now, rows, bytes, wait);
}

static void
source_on_found(void * context, const struct found * found, const struct error * e)
{
	struct source * source = context;

	if (e != NULL)
		source_fail(source, e);
	else
		source->events.found(source->context, found);
}

void
source_search(struct source * source, clock_ns now, const struct search * search)
{
	source->now = now;
	if (source->state == LEADING)
		delayed_search(source->delayed, source->connection, now, search);
}

/* ---- recording ---- */

static void
source_on_recorded(void * context, const struct error * e)
{
	struct source * source = context;

	if (e != NULL)
		source_fail(source, e);
	else
		source->events.recorded(source->context);
}

void
source_record(struct source * source, clock_ns now, const struct source_mark * mark)
{
	source->now = now;
	if (source->state == LEADING)
		recording_write(source->recording, now, mark);
}

/* ---- the turn ---- */

/* Beside the main one; NULL: none. */
static struct connection *
source_second_connection(const struct source * source)
{
	if (source->state == CONTENDING)
		return (pooler_connection(source->pooler));
	return (wake_listener(source->wake));
}

/* By the connection where nobody waits for anything, if there is such a one. */
static void
source_turn_survey(struct source * source)
{
	struct connection * listener = wake_listener(source->wake);

	if (source->survey != NULL)
		survey_turn(source->survey,
		    listener != NULL && connection_is_open(listener) ? listener :
								       source->connection,
		    source->now);
}

static void
source_turn_leading(struct source * source, bool listener_readable)
{
	reading_turn(source->reading, source->now);
	recording_turn(source->recording, source->now);
	rotation_turn(source->rotation, source->connection, source->now);
	paused_turn(source->paused, source->now);
	if (connection_pending(source->connection) == 0 &&
	    source->now - connection_last_sent(source->connection) >= LEAD_HEARTBEAT)
		connection_send(source->connection, source->now, "SELECT 1", 0, NULL, NULL, NULL);
	wake_turn(source->wake, source->now, listener_readable);
	source_turn_survey(source);
}

static bool
is_readable(const struct connection * connection, const struct pollfd * fds, size_t count)
{
	for (size_t i = 0; connection != NULL && i < count; i++)
		if (fds[i].fd == connection_fd(connection) && fds[i].revents != 0)
			return (true);
	return (false);
}

void
source_turn(struct source * source, clock_ns now, const struct pollfd * fds, size_t count)
{
	bool readable = is_readable(source->connection, fds, count);

	source->now = now;
	if (reading_in_bulk(source->reading) && now >= source->read_at) {
		source->read_at = now + BULK_PAUSE;
		readable = true;
	}
	if (source->state == DOWN && now >= source->retry_at) {
		source->state = CONNECTING;
		connection_connect(source->connection, now);
	}
	if (source->state != DOWN)
		connection_turn(source->connection, now, readable);
	if (source->state != DOWN && !source->failed)
		pooler_turn(source->pooler, now,
		    is_readable(pooler_connection(source->pooler), fds, count));
	if (source->state == CONTENDING && !source->failed && now >= source->try_at)
		source_try_lead(source);
	if (source->state == LEADING && !source->failed)
		source_turn_leading(source, is_readable(wake_listener(source->wake), fds, count));
	if (source->failed && source->state != DOWN)
		source_go_down(source, &source->failure);
	connection_flush(source->connection);
}

size_t
source_poll(struct source * source, struct pollfd * fds)
{
	struct connection * connections[] = {source->connection, source_second_connection(source)};
	size_t count = 0;

	for (size_t i = 0; i < SOURCE_FDS; i++) {
		if (connections[i] == NULL || connection_fd(connections[i]) < 0)
			continue;
		connection_flush(connections[i]);
		fds[count++] = (struct pollfd){.fd = connection_fd(connections[i]),
		    .events = connection_poll_events(connections[i])};
		if (i == 0 && reading_in_bulk(source->reading))
			fds[count - 1].events &= (short)~POLLIN;
	}
	return (count);
}

clock_ns
source_deadline(const struct source * source)
{
	clock_ns deadline;
	struct connection * listener = wake_listener(source->wake);

	if (source->state == DOWN)
		return (source->retry_at);
	deadline = connection_deadline(source->connection);
	if (source->state == CONTENDING)
		deadline = clock_min(deadline,
		    clock_min(source->try_at, pooler_deadline(source->pooler)));
	if (source->state != LEADING)
		return (deadline);
	if (reading_in_bulk(source->reading))
		deadline = clock_min(deadline, source->read_at);
	if (listener != NULL)
		deadline = clock_min(deadline, connection_deadline(listener));
	deadline = clock_min(deadline, reading_deadline(source->reading));
	deadline = clock_min(deadline, recording_deadline(source->recording));
	deadline = clock_min(deadline, rotation_deadline(source->rotation));
	deadline = clock_min(deadline, paused_deadline(source->paused));
	if (source->survey != NULL)
		deadline = clock_min(deadline, survey_deadline(source->survey));
	return (clock_min(deadline, connection_last_sent(source->connection) + LEAD_HEARTBEAT));
}

clock_ns
source_lease(const struct source * source)
{
	if (source->state != LEADING || source->failed)
		return (0);
	return (connection_proof(source->connection) + LEAD_LEASE);
}

void
source_want_newest(struct source * source, bool wanted)
{
	if (source->survey != NULL)
		survey_want_newest(source->survey, wanted);
}

const struct wake_counts *
source_wakeups(const struct source * source)
{
	return (wake_counts(source->wake));
}

const char *
source_database(const struct source * source)
{
	return (connection_database(source->connection));
}

void
source_close(struct source * source, clock_ns now)
{
	source->now = now;
	source->state = DOWN;
	source->retry_at = CLOCK_NEVER;
	wake_stop(source->wake);
	connection_close(source->connection);
}
