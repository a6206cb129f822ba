#include "http/metrics.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/utf8.h"
#include "base/version.h"

/*
 * What must stay true (H): a metric that is not known is absent, not 0.  Names
 * and labels are a contract with whoever has made alerts of them.
 */
#define PREFIX "outbox_relay_"
#define LINE_MAX_BYTES 256

struct writer {
	struct buffer * out;
	bool failed;
};

static void __attribute__((format(printf, 2, 3))) line(struct writer * w, const char * format, ...)
{
	char * p = buffer_reserve(w->out, LINE_MAX_BYTES);
	va_list arguments;
	int len;

	if (p == NULL) {
		w->failed = true;
		return;
	}
	va_start(arguments, format);
	len = vsnprintf(p, LINE_MAX_BYTES, format, arguments);
	va_end(arguments);
	if (len >= LINE_MAX_BYTES)
		w->failed = true;
	else
		buffer_added(w->out, (size_t)len);
}

/* A label whose value comes from outside, as Prometheus wants it: valid UTF-8, with three escapes. */
static void
label(struct writer * w, const char * name, const char * value)
{
	const unsigned char * p = (const unsigned char *)value;

	line(w, ",%s=\"", name);
	while (*p != '\0') {
		size_t len = utf8_length(p);

		if (len == 0) {
			line(w, "\xef\xbf\xbd");
			len = 1;
		} else if (*p == '\n')
			line(w, "\\n");
		else
			line(w, "%s%.*s", *p == '\\' || *p == '"' ? "\\" : "", (int)len, p);
		p += len;
	}
	line(w, "\"");
}

static void
head(struct writer * w, const char * name, const char * type, const char * help)
{
	line(w, "# HELP " PREFIX "%s %s\n", name, help);
	line(w, "# TYPE " PREFIX "%s %s\n", name, type);
}

static void
gauge(struct writer * w, const char * name, double value, const char * help)
{
	head(w, name, "gauge", help);
	line(w, PREFIX "%s %.17g\n", name, value);
}

static void
counter(struct writer * w, const char * name, uint64_t value, const char * help)
{
	head(w, name, "counter", help);
	line(w, PREFIX "%s %" PRIu64 "\n", name, value);
}

static void
histogram(struct writer * w, const char * name, const struct histogram * h, const char * help)
{
	uint64_t total = 0;

	head(w, name, "histogram", help);
	for (int i = 0; i < HISTOGRAM_BOUNDS; i++) {
		total += h->counts[i];
		line(w, PREFIX "%s_bucket{le=\"%.4g\"} %" PRIu64 "\n", name,
		    (double)histogram_bounds[i] / (double)CLOCK_S(1), total);
	}
	total += h->counts[HISTOGRAM_BOUNDS];
	line(w, PREFIX "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, total);
	line(w, PREFIX "%s_sum %.9f\n", name, (double)h->sum_ns / (double)CLOCK_S(1));
	line(w, PREFIX "%s_count %" PRIu64 "\n", name, total);
}

static void
write_peers(struct writer * w, const struct stats * s)
{
	head(w, "build_info", "gauge",
	    "Always 1; labels: the version, and which outbox this relay serves.");
	line(w, PREFIX "build_info{version=\"%s\"", VERSION);
	label(w, "database", s->database);
	label(w, "schema", s->schema);
	line(w, "} 1\n");
	gauge(w, "start_timestamp_seconds", (double)s->started_at_ms / 1000,
	    "When this process started, in seconds since 1970.");
	gauge(w, "ready", s->reason_count == 0, "1 if it publishes: as /readyz says.");
	gauge(w, "leader", s->state == STATS_LEADING,
	    "1 if this relay leads; a standby neither reads nor publishes.");
	gauge(w, "postgres_up", s->postgres.up, "1 if connected to Postgres.");
	gauge(w, "broker_up", s->broker.up,
	    "1 if connected to RabbitMQ; a standby is not, on purpose.");
	gauge(w, "broker_blocked", s->broker.blocked,
	    "1 while RabbitMQ takes nothing: memory or disk alarm.");
	if (s->broker.certificate_expires_s != 0)
		gauge(w, "tls_certificate_expiry_timestamp_seconds",
		    (double)s->broker.certificate_expires_s,
		    "When the first certificate of the connection to RabbitMQ expires, in seconds "
		    "since 1970.");
	head(w, "reconnects_total", "counter", "Connections made anew, by peer.");
	line(w, PREFIX "reconnects_total{peer=\"postgres\"} %" PRIu64 "\n", s->postgres.reconnects);
	line(w, PREFIX "reconnects_total{peer=\"broker\"} %" PRIu64 "\n", s->broker.reconnects);
}

static void
write_backlog(struct writer * w, const struct stats * s)
{
	const struct backlog * b = &s->backlog;

	if (s->state != STATS_LEADING)
		return;
	gauge(w, "paused", s->paused.all, "1 while a person has paused everything.");
	gauge(w, "paused_exchanges", (double)s->paused.exchange_count,
	    "Exchanges that a person has paused.");
	if (s->backlog_read_at_ms == 0)
		return;
	gauge(w, "pending_messages", (double)b->pending,
	    "Messages not yet recorded as sent; exact up to 10,000.");
	gauge(w, "oldest_pending_age_seconds", b->oldest_pending_s < 0 ? 0 : b->oldest_pending_s,
	    "Age of the oldest of them; 0: there is none.");
	gauge(w, "delayed_messages", (double)b->delayed,
	    "Messages that wait: scheduled, refused, or behind such a one.");
	gauge(w, "dead_messages", (double)b->dead,
	    "Messages given up that no person has decided about.");
	gauge(w, "backlog_estimated", b->estimated, "1 if one of these counts is an estimate.");
	gauge(w, "backlog_read_timestamp_seconds", (double)s->backlog_read_at_ms / 1000,
	    "When they were counted, in seconds since 1970.");
}

static void
write_flow(struct writer * w, const struct stats * s)
{
	gauge(w, "window_size", (double)s->window,
	    "Most messages published but not yet recorded: publish.window.");
	gauge(w, "inflight_messages", (double)s->in_flight,
	    "Messages published, neither confirmed nor refused yet.");
	gauge(w, "unrecorded_messages", (double)s->unrecorded,
	    "Messages published but not yet recorded: sent again if it dies now.");
	counter(w, "published_total", s->published, "Messages published, repeats included.");
	counter(w, "republished_total", s->republished, "Messages published again.");
	counter(w, "confirmed_total", s->confirmed, "Messages that RabbitMQ confirmed.");
	counter(w, "nacked_total", s->nacked, "Messages that RabbitMQ refused.");
	counter(w, "returned_total", s->returned, "Messages that no queue was bound for.");
	counter(w, "unfit_total", s->unfit, "Messages that AMQP cannot carry.");
	counter(w, "delayed_total", s->delayed, "Messages put aside, to be tried again.");
	counter(w, "dead_total", s->dead, "Messages given up.");
	counter(w, "recorded_total", s->recorded, "Messages recorded as sent, delayed or dead.");
	head(w, "wakeups_total", "counter", "Reads that ended a wait, by cause.");
	line(w, PREFIX "wakeups_total{cause=\"notify\"} %" PRIu64 "\n", s->wakeups.notify);
	line(w, PREFIX "wakeups_total{cause=\"timer\"} %" PRIu64 "\n", s->wakeups.timer);
	line(w, PREFIX "wakeups_total{cause=\"poll\"} %" PRIu64 "\n", s->wakeups.poll);
	histogram(w, "confirm_duration_seconds", &s->confirm, "From publish to confirm.");
	histogram(w, "commit_to_confirm_seconds", &s->commit_to_confirm,
	    "From created_at of the row to confirm, of messages sent without a delay.");
}

int
metrics_write(struct buffer * out, const struct stats * stats)
{
	struct writer w = {.out = out};

	write_peers(&w, stats);
	write_backlog(&w, stats);
	write_flow(&w, stats);
	return (w.failed ? -1 : 0);
}
