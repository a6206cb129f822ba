#include "http/answer.h"

#include <stdio.h>
#include <string.h>

#include "base/version.h"
#include "http/json.h"
#include "http/metrics.h"
#include "http/page.h"

/*
 * What must stay true (H): nothing is called well that was well once.  If the
 * loop stands still, what it handed over last may be wrong by now: then the
 * relay is neither healthy nor ready.
 */
#define PLAIN "text/plain; charset=utf-8"
#define JSON "application/json"

/* Memory beyond it is given back. */
#define ANSWER_USUAL ((size_t)16 << 10)

/* Of everything but the page: it is shown as it is, and runs nothing. */
#define POLICY_NOTHING "default-src 'none'; frame-ancestors 'none'"

static bool
stands_still(const struct answer_facts * facts)
{
	return (facts->still > ANSWER_STILL_MAX);
}

static bool
is_ready(const struct answer_facts * facts)
{
	return (facts->stats.reason_count == 0 && !stands_still(facts));
}

static void
put_readiness(struct json * j, const struct answer_facts * facts)
{
	char still[64];

	json_bool(j, "ready", is_ready(facts));
	json_begin(j, "reasons", '[');
	if (stands_still(facts)) {
		snprintf(still, sizeof(still), "the loop has stood still for %.0f s",
		    (double)facts->still / (double)CLOCK_S(1));
		json_text(j, NULL, still);
	}
	for (size_t i = 0; i < facts->stats.reason_count; i++)
		json_text(j, NULL, facts->stats.reasons[i]);
	json_end(j, ']');
}

static const char *
state_name(const struct stats * s)
{
	static const char * const names[] = {[STATS_STARTING] = "starting",
	    [STATS_LEADING] = "leading",
	    [STATS_STANDBY] = "standby",
	    [STATS_STOPPING] = "stopping"};

	return (names[s->state]);
}

/* ---- /stats ---- */

static void
put_peers(struct json * j, const struct stats * s)
{
	json_begin(j, "postgres", '{');
	json_bool(j, "up", s->postgres.up);
	json_text_or_null(j, "reason", s->postgres.reason);
	json_end(j, '}');
	json_begin(j, "broker", '{');
	json_bool(j, "up", s->broker.up);
	json_bool(j, "blocked", s->broker.blocked);
	json_text_or_null(j, "blocked_reason", s->broker.blocked_reason);
	json_text_or_null(j, "reason", s->broker.reason);
	json_text_or_null(j, "url", s->broker.url);
	json_end(j, '}');
}

static void
put_backlog(struct json * j, const struct stats * s)
{
	const struct backlog * b = &s->backlog;

	json_begin(j, "backlog", '{');
	json_number(j, "pending", b->pending);
	json_bool(j, "estimated", b->estimated);
	json_decimal_or_null(j, "oldest_pending_age_seconds",
	    s->backlog_read_at_ms == 0 ? -1 : b->oldest_pending_s);
	json_number(j, "delayed", b->delayed);
	json_number(j, "dead", b->dead);
	json_time(j, "read_at", s->backlog_read_at_ms);
	json_end(j, '}');
	json_begin(j, "paused", '{');
	json_bool(j, "all", s->paused.all);
	json_begin(j, "exchanges", '[');
	for (size_t i = 0; i < s->paused.exchange_count && i < STATS_EXCHANGES_MAX; i++)
		json_text(j, NULL, s->paused.exchanges[i]);
	json_end(j, ']');
	json_end(j, '}');
}

static void
put_flow(struct json * j, const struct stats * s)
{
	json_begin(j, "window", '{');
	json_number(j, "size", (int64_t)s->window);
	json_number(j, "in_flight", (int64_t)s->in_flight);
	json_number(j, "unrecorded", (int64_t)s->unrecorded);
	json_end(j, '}');
	json_begin(j, "totals", '{');
	json_number(j, "published", (int64_t)s->published);
	json_number(j, "confirmed", (int64_t)s->confirmed);
	json_number(j, "nacked", (int64_t)s->nacked);
	json_number(j, "returned", (int64_t)s->returned);
	json_number(j, "unfit", (int64_t)s->unfit);
	json_number(j, "republished", (int64_t)s->republished);
	json_number(j, "delayed", (int64_t)s->delayed);
	json_number(j, "dead", (int64_t)s->dead);
	json_number(j, "recorded", (int64_t)s->recorded);
	json_number(j, "reconnects_postgres", (int64_t)s->postgres.reconnects);
	json_number(j, "reconnects_broker", (int64_t)s->broker.reconnects);
	json_end(j, '}');
	json_begin(j, "wakeups", '{');
	json_number(j, "notify", (int64_t)s->wakeups.notify);
	json_number(j, "timer", (int64_t)s->wakeups.timer);
	json_number(j, "poll", (int64_t)s->wakeups.poll);
	json_end(j, '}');
	json_begin(j, "rates", '{');
	json_decimal(j, "confirmed_per_second", s->confirmed_per_second);
	json_end(j, '}');
	json_begin(j, "confirm_seconds", '{');
	json_decimal_or_null(j, "p50", s->confirm_p50);
	json_decimal_or_null(j, "p99", s->confirm_p99);
	json_end(j, '}');
	json_begin(j, "commit_to_confirm_seconds", '{');
	json_decimal_or_null(j, "p50", s->commit_p50);
	json_decimal_or_null(j, "p99", s->commit_p99);
	json_end(j, '}');
}

static void
put_entries(struct json * j, const char * key, const char * time_key,
    const struct backlog_entry * entries, size_t count)
{
	json_begin(j, key, '[');
	for (size_t i = 0; i < count && i < BACKLOG_NEWEST_MAX; i++) {
		const struct backlog_entry * entry = &entries[i];

		json_begin(j, NULL, '{');
		json_number(j, "id", entry->id);
		json_text(j, "exchange", entry->exchange);
		json_text(j, "routing_key", entry->routing_key);
		json_number(j, "attempts", entry->attempts);
		json_time(j, time_key, entry->at_ms);
		json_text_or_null(j, "reason", entry->reason);
		json_end(j, '}');
	}
	json_end(j, ']');
}

static int
write_stats(struct buffer * out, const struct answer_facts * facts)
{
	const struct stats * s = &facts->stats;
	struct json j = {.out = out};

	json_begin(&j, NULL, '{');
	json_text(&j, "version", VERSION);
	json_time(&j, "started_at", s->started_at_ms);
	json_time(&j, "now", s->now_ms);
	json_text(&j, "state", state_name(s));
	put_readiness(&j, facts);
	json_text(&j, "schema", s->schema);
	json_text_or_null(&j, "database", s->database);
	json_text(&j, "host", s->host);
	json_number(&j, "pid", s->pid);
	put_peers(&j, s);
	put_backlog(&j, s);
	put_flow(&j, s);
	json_time(&j, "tls_certificate_expires_at", s->broker.certificate_expires_s * 1000);
	put_entries(&j, "newest_delayed", "next_attempt_at", facts->newest.delayed,
	    facts->newest.delayed_count);
	put_entries(&j, "newest_dead", "died_at", facts->newest.dead, facts->newest.dead_count);
	json_end(&j, '}');
	return (j.failed ? -1 : 0);
}

/* ---- the routes ---- */

static int
write_readyz(struct buffer * out, const struct answer_facts * facts)
{
	struct json j = {.out = out};

	json_begin(&j, NULL, '{');
	put_readiness(&j, facts);
	json_text(&j, "state", state_name(&facts->stats));
	json_end(&j, '}');
	return (j.failed ? -1 : 0);
}

static int
write_healthz(struct buffer * out, const struct answer_facts * facts)
{
	struct json j = {.out = out};

	json_begin(&j, NULL, '{');
	json_bool(&j, "healthy", !stands_still(facts));
	json_decimal(&j, "turned_seconds_ago", (double)facts->still / (double)CLOCK_S(1));
	json_end(&j, '}');
	return (j.failed ? -1 : 0);
}

static int
write_metrics(struct buffer * out, const struct answer_facts * facts)
{
	struct stats stats = facts->stats;

	/* As /readyz says it. */
	if (stands_still(facts) && stats.reason_count == 0)
		stats.reason_count = 1;
	return (metrics_write(out, &stats));
}

static const struct route {
	const char * path;
	const char * content_type;
	int (*write)(struct buffer * out, const struct answer_facts * facts);
} routes[] = {
    {"/healthz", JSON, write_healthz},
    {"/readyz", JSON, write_readyz},
    {"/stats", JSON, write_stats},
    {"/metrics", METRICS_CONTENT_TYPE, write_metrics},
};

static void
say(struct answer * answer, unsigned int status, const char * text)
{
	answer->status = status;
	answer->content_type = PLAIN;
	answer->body = bytes_from(text);
}

static void
run(struct answer * answer, const struct route * route, const struct answer_facts * facts,
    struct buffer * out)
{
	bool well = true;

	buffer_clear(out, ANSWER_USUAL);
	if (route->write(out, facts)) {
		say(answer, 500, "the answer does not fit\n");
		return;
	}
	if (route->write == write_healthz)
		well = !stands_still(facts);
	else if (route->write == write_readyz)
		well = is_ready(facts);
	answer->status = well ? 200 : 503;
	answer->content_type = route->content_type;
	answer->body = (struct bytes){buffer_content(out), buffer_size(out)};
}

void
answer_make(struct answer * answer, const char * method, const char * path,
    const struct answer_facts * facts, struct buffer * out)
{
	*answer = (struct answer){.policy = POLICY_NOTHING};
	if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
		answer->allow = true;
		say(answer, 405, "only GET and HEAD\n");
		return;
	}
	if (strcmp(path, "/") == 0) {
		answer->status = 200;
		answer->content_type = "text/html; charset=utf-8";
		answer->policy = page_policy;
		answer->body = (struct bytes){page_html, page_size};
		return;
	}
	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
		if (strcmp(path, routes[i].path) == 0) {
			run(answer, &routes[i], facts, out);
			return;
		}
	}
	say(answer, 404, "there are /, /metrics, /healthz, /readyz and /stats\n");
}

bool
answer_wants_newest(const char * path)
{
	return (strcmp(path, "/stats") == 0);
}
