/*
 * States while somebody waits for rows:
 *   POLLING   read again at next_read
 *   TRYING    the gate was asked for, and a read follows it
 *   ASLEEP    the gate is held and that read found nothing; a NOTIFY or
 *             next_read ends it
 * A sleep costs its first writer a NOTIFY, so there are at most
 * 1 / SLEEP_SPACING sleeps a second, and none while rows come in faster than
 * QUIET: between, short polls are cheaper for everybody.  They stay short until
 * it is quiet, and below POLL_AWAKE until the next sleep is due: growing pauses
 * would fall into step with a steady writer and find each row at the end of the
 * longest.
 */
#include "postgres/wake.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "postgres/sql.h"
#include "postgres/wire.h"

/*
 * A read of nothing costs the server some 50 us and the relay as much.  Where
 * writers, both servers and the relay share two cores, shorter pauses cost the
 * messages more time than they save, and the writers a tenth of their rate.
 */
#define POLL_FIRST CLOCK_US(400)
#define POLL_AWAKE CLOCK_US(1600)
#define QUIET CLOCK_MS(3)
#define SLEEP_SPACING CLOCK_MS(10)

/* Falling asleep often must not mean to look at the delayed messages as often. */
#define TELL_SPACING CLOCK_MS(100)

/* A LISTEN that was refused may be so for good. */
#define REFUSED_RETRY CLOCK_S(10)

/* The keys of a gate hold for a second at least; renew it before. */
#define SLEEP_MAX CLOCK_MS(900)

#define GATE_KEYS 3

static const char gate_sql[] =
    "SELECT k.key, pg_try_advisory_lock('outbox.message'::regclass::oid::int4, k.key) FROM ("
    "SELECT ((floor(date_part('epoch', clock_timestamp()))::bigint + n) & 1073741823)::int4 AS key "
    "FROM (VALUES (-1), (0), (1)) AS near (n)) k";

static const char release_sql[] =
    "SELECT pg_advisory_unlock('outbox.message'::regclass::oid::int4, k) "
    "FROM unnest($1::int4[]) AS k";

enum state { POLLING, TRYING, ASLEEP };

struct wake {
	struct wake_options options;
	char * gate;
	char * release;
	char * listen;
	struct connection * main; /* NULL: not leading */
	struct connection * listener;
	bool listening; /* LISTEN is committed */
	bool gated;     /* writers notify, and we may sleep */
	enum state state;
	bool got_gate;
	int32_t keys[GATE_KEYS]; /* held on the main connection */
	size_t held;
	bool notified;
	bool woken; /* the read under way follows a NOTIFY */
	clock_ns last_told;
	clock_ns pause;
	clock_ns next_read;
	clock_ns last_rows;
	clock_ns last_sleep;
	clock_ns listen_retry;
	int64_t warned;
	struct wake_counts counts;
};

static void
wake_on_listening(void * context, PGresult ** result, const struct error * e)
{
	struct wake * wake = context;

	(void)result;
	if (e == NULL) {
		wake->listening = true;
		return;
	}
	/* V: it is tried again, on a new session. */
	wake->listen_retry = clock_now() + REFUSED_RETRY;
	if (log_due(&wake->warned, clock_now()))
		log_failure(LOG_LEVEL_WARN, "listen_refused", e);
	connection_close(wake->listener);
}

static void
wake_on_connected(void * context)
{
	struct wake * wake = context;

	connection_send(wake->listener, clock_now(), wake->listen, 0, NULL, wake_on_listening,
	    wake);
}

static void
wake_on_failed(void * context, const struct error * e)
{
	struct wake * wake = context;
	clock_ns now = clock_now();

	wake->listening = false;
	wake->listen_retry = now + CLOCK_S(1);
	if (log_due(&wake->warned, now))
		log_failure(LOG_LEVEL_WARN, "listen_connection_lost", e);
	/* What was notified meanwhile is lost: read again. */
	if (wake->state == ASLEEP)
		wake->notified = true;
}

static void
wake_on_notified(void * context, const char * channel)
{
	struct wake * wake = context;

	(void)channel;
	wake->notified = true;
}

static const struct connection_events listener_events = {
    .connected = wake_on_connected, .failed = wake_on_failed, .notified = wake_on_notified};

struct wake *
wake_new(const struct wake_options * options)
{
	struct wake * wake;

	if ((wake = calloc(1, sizeof(*wake))) == NULL)
		return (NULL);
	wake->options = *options;
	wake->gate = sql_in_schema(gate_sql, options->schema);
	wake->release = sql_in_schema(release_sql, options->schema);
	if (asprintf(&wake->listen, "LISTEN %s_wake", options->schema) < 0)
		wake->listen = NULL;
	wake->listener = connection_new(options->connection, &listener_events, wake);
	if (wake->gate == NULL || wake->release == NULL || wake->listen == NULL ||
	    wake->listener == NULL) {
		wake_free(wake);
		return (NULL);
	}
	return (wake);
}

void
wake_free(struct wake * wake)
{
	if (wake == NULL)
		return;
	connection_free(wake->listener);
	free(wake->gate);
	free(wake->release);
	free(wake->listen);
	free(wake);
}

void
wake_start(struct wake * wake, struct connection * main, clock_ns now, bool has_trigger)
{
	wake->main = main;
	wake->gated = wake->options.listen && has_trigger;
	wake->state = POLLING;
	wake->held = 0;
	wake->notified = false;
	wake->woken = false;
	wake->last_told = now - TELL_SPACING;
	wake->pause = POLL_FIRST;
	wake->next_read = now;
	wake->last_rows = now;
	connection_prepare(main, now, "gate", wake->gate, NULL, NULL);
	connection_prepare(main, now, "gate_release", wake->release, NULL, NULL);
	if (wake->gated)
		connection_connect(wake->listener, now);
}

void
wake_stop(struct wake * wake)
{
	wake->main = NULL;
	wake->listening = false;
	wake->held = 0;
	connection_close(wake->listener);
}

static void
wake_release_gate(struct wake * wake, clock_ns now)
{
	char keys[GATE_KEYS * 12 + 3] = "{";
	size_t length = 1;
	const char * parameters[] = {keys};

	if (wake->held == 0)
		return;
	for (size_t i = 0; i < wake->held; i++)
		length += (size_t)snprintf(keys + length, sizeof(keys) - length, "%s%" PRId32,
		    i == 0 ? "" : ",", wake->keys[i]);
	strcat(keys, "}");
	wake->held = 0;
	connection_send_prepared(wake->main, now, "gate_release", 1, parameters, NULL, NULL);
}

static void
wake_on_gate(void * context, PGresult ** result, const struct error * e)
{
	struct wake * wake = context;

	wake->got_gate = e == NULL;
	wake->held = 0;
	for (int row = 0; e == NULL && row < PQntuples(*result) && row < GATE_KEYS; row++) {
		if (wire_bool(*result, row, 1))
			wake->keys[wake->held++] = wire_int32(*result, row, 0);
		else
			wake->got_gate = false;
	}
}

static bool
wake_may_sleep(const struct wake * wake, clock_ns now)
{
	return (wake->gated && wake->listening && now - wake->last_rows >= QUIET &&
	    now - wake->last_sleep >= SLEEP_SPACING);
}

/* The longest pause between polls, as things stand. */
static clock_ns
wake_pause_max(const struct wake * wake, clock_ns now)
{
	if (!wake->gated)
		return (wake->options.poll_interval);
	return (clock_min(wake->options.poll_interval,
	    now - wake->last_sleep < SLEEP_SPACING ? POLL_AWAKE : WAKE_POLL_MAX));
}

enum wake_advice
wake_advise(struct wake * wake, clock_ns now)
{
	bool asleep = wake->state == ASLEEP;

	if (now < wake->next_read && !(asleep && wake->notified))
		return (WAKE_WAIT);
	wake_release_gate(wake, now);
	wake->state = POLLING;
	/* A sleep that ran out quietly goes on; one that was disturbed does not. */
	if (asleep ? !wake->notified && wake->listening : wake_may_sleep(wake, now)) {
		wake->state = TRYING;
		connection_send_prepared(wake->main, now, "gate", 0, NULL, wake_on_gate, wake);
	}
	if (wake->notified)
		wake->counts.notify++;
	else if (asleep)
		wake->counts.timer++;
	else
		wake->counts.poll++;
	wake->woken = wake->notified;
	wake->notified = false;
	return (WAKE_READ);
}

/* Whether to tell of it, if ${always}, or if it was not told for some time. */
static bool
wake_tell(struct wake * wake, clock_ns now, bool always)
{
	if (!always && now - wake->last_told < TELL_SPACING)
		return (false);
	wake->last_told = now;
	return (true);
}

bool
wake_read_found(struct wake * wake, clock_ns now, bool rows)
{
	if (rows) {
		wake_release_gate(wake, now);
		wake->state = POLLING;
		wake->last_rows = now;
		wake->pause = POLL_FIRST;
		wake->next_read = now + wake->pause;
		return (false);
	}
	if (wake->state == TRYING && wake->got_gate) {
		wake->state = ASLEEP;
		wake->last_sleep = now;
		wake->next_read = now + clock_min(wake->options.poll_interval, SLEEP_MAX);
		return (wake_tell(wake, now, wake->woken));
	}
	wake_release_gate(wake, now);
	wake->state = POLLING;
	wake->next_read = now + wake->pause;
	if (now - wake->last_rows >= QUIET)
		wake->pause = clock_min(wake->pause * 2, wake_pause_max(wake, now));
	/* At the poll interval in any case: nothing else may end the wait. */
	return ((wake->woken || now - wake->last_told >= wake->options.poll_interval) &&
	    wake_tell(wake, now, true));
}

clock_ns
wake_deadline(const struct wake * wake)
{
	if (wake->state == ASLEEP && wake->notified)
		return (0);
	return (wake->next_read);
}

const struct wake_counts *
wake_counts(const struct wake * wake)
{
	return (&wake->counts);
}

struct connection *
wake_listener(struct wake * wake)
{
	return (wake->main != NULL && wake->gated ? wake->listener : NULL);
}

void
wake_turn(struct wake * wake, clock_ns now, bool readable)
{
	if (wake->main == NULL || !wake->gated)
		return;
	connection_turn(wake->listener, now, readable);
	if (!connection_is_open(wake->listener) && connection_fd(wake->listener) < 0 &&
	    now >= wake->listen_retry) {
		wake->listen_retry = now + CLOCK_S(1);
		connection_connect(wake->listener, now);
	}
}
