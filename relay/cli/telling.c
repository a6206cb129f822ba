/*
 * What must stay true: whatever changes in a turn is handed over within
 * POST_INTERVAL (H), and no turn pays for it more than a clock and a
 * comparison unless that time has passed.
 */
#include "cli/telling.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "http/recent.h"
#include "http/server.h"

#define POST_INTERVAL CLOCK_MS(100)
#define BUSY_PAUSE CLOCK_MS(10) /* the other thread is just copying */

struct telling {
	struct http_server * server; /* NULL: off */
	struct stats stats;
	struct recent recent;
	struct backlog_newest newest;
	bool newest_changed;
	bool was_connected; /* ever */
	clock_ns turned;
	clock_ns posted;
	clock_ns post_at; /* CLOCK_NEVER: nothing has happened since */
};

static int64_t
wall_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return ((int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000);
}

struct telling *
telling_new(const struct telling_options * options, struct error * e)
{
	struct telling * telling = calloc(1, sizeof(*telling));
	struct stats * s;

	if (telling == NULL) {
		error_set(e, EXIT_BUG, "out of memory");
		return (NULL);
	}
	telling->post_at = CLOCK_NEVER;
	s = &telling->stats;
	s->started_at_ms = wall_ms();
	s->pid = getpid();
	s->window = options->window;
	snprintf(s->schema, sizeof(s->schema), "%s", options->schema);
	gethostname(s->host, sizeof(s->host) - 1);
	if (options->listen != NULL &&
	    (telling->server = http_server_new(options->listen, e)) == NULL) {
		telling_free(telling);
		return (NULL);
	}
	return (telling);
}

void
telling_free(struct telling * telling)
{
	if (telling == NULL)
		return;
	http_server_free(telling->server);
	free(telling);
}

void
telling_source(struct telling * telling, enum stats_state state, const char * reason)
{
	struct stats * s = &telling->stats;
	bool up = state != STATS_STARTING;

	if (up && !s->postgres.up) {
		s->postgres.reconnects += telling->was_connected;
		telling->was_connected = true;
	}
	s->postgres.up = up;
	s->state = state;
	snprintf(s->postgres.reason, sizeof(s->postgres.reason), "%.250s", up ? "" : reason);
	/* Who does not lead knows nothing of it any more. */
	if (state != STATS_LEADING) {
		s->backlog = (struct backlog){.oldest_pending_s = -1};
		s->backlog_read_at_ms = 0;
		s->paused.all = false;
		s->paused.exchange_count = 0;
		telling->newest.delayed_count = telling->newest.dead_count = 0;
		telling->newest_changed = true;
	}
}

void
telling_backlog(struct telling * telling, const struct backlog * backlog)
{
	telling->stats.backlog = *backlog;
	telling->stats.backlog_read_at_ms = wall_ms();
}

void
telling_newest(struct telling * telling, const struct backlog_newest * newest)
{
	telling->newest = *newest;
	telling->newest_changed = true;
}

void
telling_paused(struct telling * telling, const struct pause * pause)
{
	struct stats * s = &telling->stats;

	s->paused.all = pause->all;
	s->paused.exchange_count = pause->lane_count;
	for (size_t i = 0; i < pause->lane_count && i < STATS_EXCHANGES_MAX; i++)
		snprintf(s->paused.exchanges[i], sizeof(s->paused.exchanges[0]), "%.*s",
		    (int)pause->lanes[i].exchange.len, pause->lanes[i].exchange.data);
}

/* ---- gathering ---- */

static void
add_reason(struct stats * s, const char * what, const char * why)
{
	snprintf(s->reasons[s->reason_count], sizeof(s->reasons[0]), "%s%s%.250s", what,
	    why[0] == '\0' ? "" : ": ", why);
	s->reason_count++;
}

static void
find_reasons(struct stats * s, bool leased)
{
	s->reason_count = 0;
	switch (s->state) {
	case STATS_STOPPING:
		add_reason(s, "stopping", "");
		return;
	case STATS_STARTING:
		add_reason(s, "not connected to Postgres", s->postgres.reason);
		return;
	case STATS_STANDBY:
		add_reason(s, "standby: another relay leads", "");
		return;
	case STATS_LEADING:
		break;
	}
	if (!leased)
		add_reason(s, "no answer from Postgres for 8 s: nothing is published", "");
	if (s->broker.blocked)
		add_reason(s, "blocked by RabbitMQ", s->broker.blocked_reason);
	else if (!s->broker.up)
		add_reason(s, "not connected to RabbitMQ", s->broker.reason);
}

/* amqp://user@host:port/vhost; a "@" within a name is written as %40. */
static void
copy_peer(char * to, size_t size, const char * peer)
{
	const char * scheme = strstr(peer, "://");
	const char * at = scheme == NULL ? NULL : strchr(scheme, '@');

	if (at == NULL)
		snprintf(to, size, "%s", peer);
	else
		snprintf(to, size, "%.*s%s", (int)(scheme + 3 - peer), peer, at + 1);
}

static void
gather_peers(struct telling * telling, clock_ns now, const struct telling_parts * parts)
{
	struct stats * s = &telling->stats;
	const char * database = source_database(parts->source);
	struct broker_report broker;

	if (database[0] != '\0')
		snprintf(s->database, sizeof(s->database), "%s", database);
	broker_report(parts->broker, &broker);
	s->broker.up = broker.up;
	s->broker.blocked = broker.blocked;
	s->broker.reconnects = broker.reconnects;
	s->broker.certificate_expires_s = broker.certificate_expiry_s;
	snprintf(s->broker.blocked_reason, sizeof(s->broker.blocked_reason), "%s",
	    broker.blocked_reason);
	snprintf(s->broker.reason, sizeof(s->broker.reason), "%s", broker.reason);
	copy_peer(s->broker.url, sizeof(s->broker.url), broker.peer);
	s->paused.all = parts->pausing->all;
	s->paused.exchange_count = parts->pausing->exchange_count;
	for (size_t n = 0; n < s->paused.exchange_count && n < STATS_EXCHANGES_MAX; n++)
		strcpy(s->paused.exchanges[n], parts->pausing->exchanges[n]);
	if (parts->stopping)
		s->state = STATS_STOPPING;
	find_reasons(s, now < source_lease(parts->source));
}

static void
gather_flow(struct telling * telling, clock_ns now, const struct telling_parts * parts)
{
	const struct wake_counts * wakeups = source_wakeups(parts->source);
	const struct core_latencies * latencies = core_latencies(parts->core);
	struct stats * s = &telling->stats;
	struct core_counts counts;

	core_count(parts->core, &counts);
	s->window = counts.window;
	s->in_flight = counts.in_flight;
	s->unrecorded = counts.unrecorded;
	s->published = counts.published;
	s->republished = counts.republished;
	s->confirmed = counts.confirmed;
	s->nacked = counts.nacked;
	s->returned = counts.returned;
	s->unfit = counts.unfit;
	s->delayed = counts.delayed;
	s->dead = counts.dead;
	s->recorded = counts.recorded;
	s->wakeups.notify = wakeups->notify;
	s->wakeups.timer = wakeups->timer;
	s->wakeups.poll = wakeups->poll;
	s->confirm = latencies->confirm;
	s->commit_to_confirm = latencies->commit;
	recent_fill(&telling->recent, now, s);
}

/* ---- the turn ---- */

void
telling_turn(struct telling * telling, clock_ns now, const struct telling_parts * parts)
{
	struct stats * s = &telling->stats;

	if (telling->server == NULL)
		return;
	telling->turned = now;
	http_server_turned(telling->server, now);
	if (telling->post_at == CLOCK_NEVER)
		telling->post_at = telling->posted + POST_INTERVAL;
	if (now < telling->post_at)
		return;
	s->now_ms = wall_ms();
	core_wall_clock(parts->core, CLOCK_MS(s->now_ms) - now);
	gather_peers(telling, now, parts);
	gather_flow(telling, now, parts);
	source_want_newest(parts->source, http_server_wants_newest(telling->server, now));
	if (!http_server_post(telling->server, s,
		telling->newest_changed ? &telling->newest : NULL)) {
		telling->post_at = now + BUSY_PAUSE;
		return;
	}
	telling->newest_changed = false;
	telling->posted = now;
	telling->post_at = CLOCK_NEVER;
}

clock_ns
telling_deadline(const struct telling * telling)
{
	if (telling->server == NULL)
		return (CLOCK_NEVER);
	return (clock_min(telling->post_at, telling->turned + HTTP_TURN_MAX));
}
