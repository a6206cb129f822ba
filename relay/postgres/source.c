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
 * While it leads, one fetch and one mark may be open.  A fetch that may wait
 * goes through the wake module, which says when to read; empty reads on the
 * way are not answers.
 */
#include "postgres/source.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/backoff.h"
#include "base/log.h"
#include "postgres/cursor.h"
#include "postgres/flush.h"
#include "postgres/guard.h"
#include "postgres/lead.h"
#include "postgres/marks.h"
#include "postgres/rotation.h"
#include "postgres/connection.h"
#include "postgres/pooler.h"
#include "postgres/sql.h"
#include "postgres/wake.h"
#include "postgres/wire.h"

/*
 * Postgres sends in pieces of 8 KiB, and to wake up for each costs both sides
 * more than the piece.  In bulk the socket's buffer collects them meanwhile.
 */
#define BULK_PAUSE CLOCK_MS(1)

/* Shorter than the lease: whoever waits for a lock still proves that it leads. */
#define LOCK_TIMEOUT "5s"

enum state { DOWN, CONNECTING, CONTENDING, LEADING };

/* Nothing, a read under way, a read put off, or rows held back until flushed. */
enum fetch_state { FETCH_NONE, FETCH_READING, FETCH_WAITING, FETCH_FLUSHING };

struct source {
	struct source_options options;
	struct source_events events;
	void * context;
	char application_name[64];
	struct connection_options connection_options;
	struct connection * connection;
	struct cursor * cursor;
	struct marks * marks;
	struct pooler * pooler;
	struct wake * wake;
	struct rotation * rotation;
	struct flush * flush; /* NULL unless wait_for_flush */
	char * guard_schema;
	char * guard_record;
	char * lead_try;
	char * lead_end_stuck;
	enum state state;
	clock_ns now; /* of this turn, for answers */
	clock_ns retry_at;
	struct backoff backoff;
	bool was_well; /* ever: the checks found nothing */
	bool has_trigger;
	bool told_standby;
	uint64_t random;
	clock_ns try_at; /* CONTENDING: the next try for the lock */
	/* LEADING */
	enum fetch_state fetch;
	bool fetch_may_wait;
	uint32_t fetch_rows;
	size_t fetch_bytes;
	bool more;                 /* the last fetch left rows behind */
	clock_ns read_at;          /* in bulk: the next look at the socket */
	struct batch * held_batch; /* FETCH_FLUSHING */
	uint64_t held_interval;
	bool held_exhausted;
	uint64_t recording;      /* interval of the open mark; 0: none */
	struct source_mark mark; /* that mark */
	clock_ns mark_again_at;  /* the server could not take it; CLOCK_NEVER: no such */
	struct backoff mark_backoff;
	int64_t mark_warned;
	struct error failure; /* found in an answer; ends this turn */
	bool failed;
};

/*
 * The planner must never see a reason to read more than the index gives
 * (cursor.c); a mark must be on disk when it counts (local), but no replica
 * must be waited for; nothing may hang.
 */
static const char * const connection_settings[] = {"enable_seqscan", "off", "enable_bitmapscan",
    "off", "enable_hashjoin", "off", "enable_mergejoin", "off", "jit", "off", "work_mem", "16MB",
    "plan_cache_mode", "force_generic_plan", "synchronous_commit", "local",
    "default_transaction_isolation", "read committed", "statement_timeout", "60s",
    "idle_in_transaction_session_timeout", "60s", "lock_timeout", LOCK_TIMEOUT, NULL};

static const char * const listener_settings[] = {"statement_timeout", "10s", NULL};

static void source_on_fetched(void * context, struct batch * batch, uint64_t interval,
    bool exhausted, const struct error * e);
static void source_on_marked(void * context, PGresult ** result, const struct error * e);
static void source_on_connected(void * context);
static void source_on_pooler(void * context, bool lends);
static void source_on_failed(void * context, const struct error * e);

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
	    .connect_timeout = CLOCK_S(10)};
	listener = source->connection_options;
	listener.settings = listener_settings;
	backoff_init(&source->backoff, CLOCK_MS(200), 2, CLOCK_S(10), options->seed);
	backoff_init(&source->mark_backoff, CLOCK_MS(100), 2, CLOCK_S(3), options->seed);
	source->mark_again_at = CLOCK_NEVER;
	source->connection = connection_new(&source->connection_options, &main_events, source);
	source->cursor = cursor_new(options->schema, source_on_fetched, source);
	source->marks = marks_new(options->schema);
	source->rotation = rotation_new(options->schema);
	source->pooler = pooler_new(&source->connection_options, source_on_pooler, source);
	source->wake = wake_new(&(struct wake_options){.schema = options->schema,
	    .listen = options->listen,
	    .poll_interval = options->poll_interval,
	    .connection = &listener});
	source->guard_schema = sql_in_schema(guard_schema_sql, options->schema);
	source->guard_record = sql_in_schema(guard_record_sql, options->schema);
	source->lead_try = sql_in_schema(lead_try_sql, options->schema);
	source->lead_end_stuck = sql_in_schema(lead_end_stuck_sql, options->schema);
	if (options->wait_for_flush)
		source->flush = flush_new();
	if (source->connection == NULL || source->cursor == NULL || source->marks == NULL ||
	    source->rotation == NULL || source->pooler == NULL || source->wake == NULL ||
	    source->guard_schema == NULL || source->guard_record == NULL ||
	    source->lead_try == NULL || source->lead_end_stuck == NULL ||
	    (options->wait_for_flush && source->flush == NULL)) {
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
	batch_unref(source->held_batch);
	free(source->lead_end_stuck);
	free(source->lead_try);
	free(source->guard_record);
	free(source->guard_schema);
	flush_free(source->flush);
	wake_free(source->wake);
	pooler_free(source->pooler);
	rotation_free(source->rotation);
	marks_free(source->marks);
	cursor_free(source->cursor);
	connection_free(source->connection);
	free(source);
}

/* ---- failure ---- */

static void
source_go_down(struct source * source, const struct error * e, bool fatal)
{
	bool led = source->state == LEADING;
	clock_ns retry_in;

	source->state = DOWN;
	source->failed = false;
	source->fetch = FETCH_NONE;
	source->more = false;
	source->recording = 0;
	source->mark_again_at = CLOCK_NEVER;
	source->told_standby = false;
	batch_unref(source->held_batch);
	source->held_batch = NULL;
	connection_close(source->connection);
	pooler_stop(source->pooler);
	wake_stop(source->wake);
	retry_in = fatal ? CLOCK_NEVER : backoff_next(&source->backoff);
	source->retry_at = fatal ? CLOCK_NEVER : source->now + retry_in;
	if (led)
		log_warn("stepped_down", LOG_STR("reason", e->text));
	source->events.down(source->context, e, retry_in);
}

/* From an answer: the session is still in use up the stack, so end it later. */
static void
source_fail(struct source * source, const struct error * e)
{
	if (source->failed)
		return;
	source->failure = *e;
	source->failed = true;
}

/*
 * Before this relay has ever been well, a refusal is a mistake for a person to
 * mend.  Later a password may be in rotation, a right be lost for a while, a
 * standby be about to be promoted; but a schema or position that does not fit
 * gets no better by itself.
 */
static bool
source_is_fatal(const struct source * source, const struct error * e)
{
	if (e->code != EXIT_PERMISSION && e->code != EXIT_CONFIGURATION)
		return (false);
	return (!source->was_well ||
	    (e->code == EXIT_CONFIGURATION && source->state == CONTENDING &&
		strcmp(e->sqlstate, GUARD_STANDBY) != 0));
}

static void
source_on_failed(void * context, const struct error * e)
{
	struct source * source = context;

	source_go_down(source, e, source_is_fatal(source, e));
}

/* ---- to the lead ---- */

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
	if (cursor_load(source->cursor, &record.position)) {
		error_set(&why, EXIT_BUG, "out of memory");
		source_fail(source, &why);
		return;
	}
	cursor_prepare(source->cursor, source->connection, source->now);
	marks_prepare(source->marks, source->connection, source->now, &record);
	rotation_start(source->rotation, source->connection, source->now);
	wake_start(source->wake, source->connection, source->now, source->has_trigger);
	source->state = LEADING;
	if (source->options.listen && !source->has_trigger)
		log_warn("wake_trigger_missing",
		    LOG_STR("remedy",
			"apply the migration \"wake\", or set wake.mode: poll; polling meanwhile"));
	log_info("leading", LOG_STR("database", connection_database(source->connection)),
	    LOG_STR("schema", source->options.schema), LOG_INT("mark", record.seq));
	source->events.up(source->context);
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
		connection_send(source->connection, source->now, source->guard_record, 0, NULL,
		    source_on_record, source);
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

static void
source_try_lead(struct source * source)
{
	source->try_at = CLOCK_NEVER;
	connection_send(source->connection, source->now, source->lead_try, 0, NULL, source_on_try,
	    source);
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
	if (guard_check_schema(*result, source->options.schema, &source->has_trigger, &why)) {
		source_fail(source, &why);
		return;
	}
	source->was_well = true;
	source_try_lead(source);
}

static void
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

static void
source_on_connected(void * context)
{
	struct source * source = context;
	const char * parameters[] = {source->options.schema};

	source->state = CONTENDING;
	source->try_at = CLOCK_NEVER;
	connection_send(source->connection, source->now, guard_server_sql, 1, parameters,
	    source_on_server, source);
}

/* ---- reading ---- */

static void
source_answer_fetch(struct source * source, struct batch * batch, uint64_t interval, bool exhausted)
{
	source->fetch = FETCH_NONE;
	source->events.fetched(source->context, batch, interval, exhausted);
}

static void
source_on_fetched(void * context, struct batch * batch, uint64_t interval, bool exhausted,
    const struct error * e)
{
	struct source * source = context;
	bool found = batch != NULL || !exhausted;

	if (e != NULL) {
		source_fail(source, e);
		return;
	}
	/* Only now: a lead that cannot read must not come back at once for ever. */
	backoff_reset(&source->backoff);
	source->more = !exhausted;
	if (found || source->fetch_may_wait)
		wake_read_found(source->wake, source->now, found);
	if (!found && source->fetch_may_wait) {
		source->fetch = FETCH_WAITING;
		return;
	}
	if (source->flush == NULL || batch == NULL) {
		source_answer_fetch(source, batch, interval, exhausted);
		return;
	}
	batch_ref(batch);
	source->held_batch = batch;
	source->held_interval = interval;
	source->held_exhausted = exhausted;
	source->fetch = FETCH_FLUSHING;
	flush_begin(source->flush, source->connection, source->now);
}

static void
source_turn_flush(struct source * source)
{
	struct batch * batch;

	if (source->fetch != FETCH_FLUSHING ||
	    !flush_turn(source->flush, source->connection, source->now))
		return;
	batch = source->held_batch;
	source->held_batch = NULL;
	source_answer_fetch(source, batch, source->held_interval, source->held_exhausted);
	batch_unref(batch);
}

static void
source_read(struct source * source)
{
	source->fetch = FETCH_READING;
	cursor_fetch(source->cursor, source->connection, source->now, source->fetch_rows,
	    source->fetch_bytes);
}

void
source_fetch(struct source * source, clock_ns now, uint32_t rows, size_t bytes, bool wait)
{
	source->now = now;
	source->fetch_rows = rows;
	source->fetch_bytes = bytes;
	source->fetch_may_wait = wait;
	if (source->state != LEADING)
		return;
	if (wait)
		source->fetch = FETCH_WAITING;
	else
		source_read(source);
}

/* ---- recording ---- */

static void
source_write_mark(struct source * source)
{
	struct mark m = {.messages = source->mark.messages, .max_id = source->mark.max_id};

	source->mark_again_at = CLOCK_NEVER;
	cursor_position(source->cursor, source->mark.interval, source->mark.last_id,
	    source->mark.exhausted, &m.position);
	marks_write(source->marks, source->connection, source->now, &m, source_on_marked, source);
}

/*
 * Whether the server may take the same mark later: a full disk, a lock, a right
 * that is missing.  To go down for it would publish a whole window again, and
 * again after each attempt (D).  Not when another relay's mark is in the way, nor
 * when this server, this session or the schema is not what it was.
 */
static bool
mark_can_wait(const struct error * e)
{
	static const char * const lasting[] = {"23505", "25", "26", "3F", "42P", "42703", "57P",
	    "08"};

	if (e->sqlstate[0] == '\0')
		return (false);
	for (size_t i = 0; i < sizeof(lasting) / sizeof(lasting[0]); i++)
		if (strncmp(e->sqlstate, lasting[i], strlen(lasting[i])) == 0)
			return (false);
	return (true);
}

static void
source_on_marked(void * context, PGresult ** result, const struct error * e)
{
	struct source * source = context;
	struct error why;

	(void)result;
	if (e != NULL && mark_can_wait(e)) {
		marks_take_back(source->marks);
		source->mark_again_at = source->now + backoff_next(&source->mark_backoff);
		if (log_due(&source->mark_warned, source->now))
			log_failure(LOG_LEVEL_WARN, "mark_refused", e);
		return;
	}
	if (e != NULL) {
		why = *e;
		if (strcmp(e->sqlstate, "23505") == 0)
			error_set(&why, EXIT_UNREACHABLE,
			    "another relay has recorded a mark: it leads now");
		source_fail(source, &why);
		return;
	}
	backoff_reset(&source->mark_backoff);
	source->mark_warned = 0;
	cursor_forget(source->cursor, source->recording);
	source->recording = 0;
	source->events.recorded(source->context);
}

void
source_record(struct source * source, clock_ns now, const struct source_mark * mark)
{
	source->now = now;
	if (source->state != LEADING)
		return;
	source->mark = *mark;
	source->recording = mark->interval;
	source_write_mark(source);
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

static void
source_turn_leading(struct source * source, bool listener_readable)
{
	if (source->fetch == FETCH_WAITING && wake_advise(source->wake, source->now) == WAKE_READ)
		source_read(source);
	source_turn_flush(source);
	if (source->now >= source->mark_again_at)
		source_write_mark(source);
	rotation_turn(source->rotation, source->connection, source->now);
	if (connection_pending(source->connection) == 0 &&
	    source->now - connection_last_sent(source->connection) >= LEAD_HEARTBEAT)
		connection_send(source->connection, source->now, "SELECT 1", 0, NULL, NULL, NULL);
	wake_turn(source->wake, source->now, listener_readable);
}

static bool
is_readable(const struct connection * connection, const struct pollfd * fds, size_t count)
{
	for (size_t i = 0; connection != NULL && i < count; i++)
		if (fds[i].fd == connection_fd(connection) && fds[i].revents != 0)
			return (true);
	return (false);
}

/* More rows than were asked for wait: it is the rate that counts. */
static bool
source_reads_in_bulk(const struct source * source)
{
	return (source->fetch == FETCH_READING && source->more);
}

void
source_turn(struct source * source, clock_ns now, const struct pollfd * fds, size_t count)
{
	bool readable = is_readable(source->connection, fds, count);

	source->now = now;
	if (source_reads_in_bulk(source) && now >= source->read_at) {
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
		source_go_down(source, &source->failure, source_is_fatal(source, &source->failure));
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
		if (i == 0 && source_reads_in_bulk(source))
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
	if (source_reads_in_bulk(source))
		deadline = clock_min(deadline, source->read_at);
	if (listener != NULL)
		deadline = clock_min(deadline, connection_deadline(listener));
	if (source->fetch == FETCH_WAITING)
		deadline = clock_min(deadline, wake_deadline(source->wake));
	if (source->fetch == FETCH_FLUSHING)
		deadline = clock_min(deadline, flush_deadline(source->flush));
	deadline = clock_min(deadline, source->mark_again_at);
	deadline = clock_min(deadline, rotation_deadline(source->rotation));
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
source_close(struct source * source, clock_ns now)
{
	source->now = now;
	source->state = DOWN;
	source->retry_at = CLOCK_NEVER;
	wake_stop(source->wake);
	connection_close(source->connection);
}
