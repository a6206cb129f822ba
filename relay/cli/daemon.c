/*
 * What must stay true: nothing is sent to the broker unless the lease holds
 * at that very moment.  A process that was stopped and goes on finds out here,
 * before any byte that waits in the link's buffer moves: the source is asked
 * first, and the link is cut as soon as the lease is over.
 */
#include "cli/daemon.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "cli/notify.h"

/* After a signal: for what is in flight, and for the broker's goodbye. */
#define STOP_TIMEOUT CLOCK_MS(4000)
#define GOODBYE_TIMEOUT CLOCK_MS(500)

#define TIMER_SLACK_NS 5000UL

struct daemon {
	const struct daemon_options * options;
	struct core * core;
	struct source * source;
	struct link * link;
	int signals;
	clock_ns now;
	bool link_wanted; /* we lead, and the lease holds */
	bool link_up;
	bool link_was_up;
	bool source_was_up;
	size_t link_attempts; /* failed since the start */
	bool stopping;
	clock_ns stop_deadline;
	bool ended;
	enum exit_code code;
	struct error * e;
	bool channel_only; /* the next up is of a channel, not a connection */
	int64_t warned_refused;
	int64_t warned_unfit;
	int64_t warned_channel;
	int64_t warned_source;
	int64_t warned_link;
};

static void
daemon_end(struct daemon * d, const struct error * e)
{
	if (d->ended)
		return;
	d->ended = true;
	d->code = e == NULL ? EXIT_WELL : e->code;
	if (e != NULL)
		*d->e = *e;
}

/* ---- the source's events ---- */

static void
daemon_on_source_up(void * context)
{
	struct daemon * d = context;

	d->source_was_up = true;
	d->warned_source = 0;
	core_on_source_up(d->core, d->now);
	notify_status("leading");
}

static void
daemon_on_source_down(void * context, const struct error * e, clock_ns retry_in)
{
	struct daemon * d = context;

	core_on_source_down(d->core, d->now);
	if (retry_in == CLOCK_NEVER || (d->options->until_empty && !d->source_was_up)) {
		daemon_end(d, e);
		return;
	}
	if (log_due(&d->warned_source, d->now))
		log_failure(LOG_LEVEL_WARN, "database_lost", e);
	notify_status("no database: %s", e->text);
}

static void
daemon_on_standby(void * context)
{
	(void)context;
	log_info("standby", LOG_STR("reason", "another relay leads"));
	notify_status("standby: another relay leads");
}

static void
daemon_on_fetched(void * context, struct batch * batch, uint64_t interval, bool exhausted)
{
	struct daemon * d = context;

	core_on_fetched(d->core, d->now, batch, interval, exhausted);
}

static void
daemon_on_recorded(void * context)
{
	struct daemon * d = context;

	core_on_recorded(d->core, d->now);
}

static const struct source_events source_events = {.up = daemon_on_source_up,
    .down = daemon_on_source_down,
    .standby = daemon_on_standby,
    .fetched = daemon_on_fetched,
    .recorded = daemon_on_recorded};

/* ---- the link's events ---- */

static void
daemon_on_link_up(void * context, const char * peer)
{
	struct daemon * d = context;

	d->link_up = d->link_was_up = true;
	if (!d->channel_only) {
		d->warned_link = 0;
		log_info("broker_connected", LOG_STR("peer", peer));
		notify_status("publishing to %s", peer);
	}
	d->channel_only = false;
	core_on_link_up(d->core, d->now);
}

/* As with the database: a refusal at the first attempt is for a person. */
static void
daemon_on_link_down(void * context, const struct error * e, clock_ns retry_in)
{
	struct daemon * d = context;
	bool refused = e->code == EXIT_PERMISSION || e->code == EXIT_CONFIGURATION;

	(void)retry_in;
	d->link_up = false;
	d->channel_only = false;
	d->link_attempts++;
	core_on_link_down(d->core, d->now);
	if (!d->link_was_up && d->link_attempts >= d->options->link.url_count &&
	    (refused || d->options->until_empty)) {
		daemon_end(d, e);
		return;
	}
	if (log_due(&d->warned_link, d->now))
		log_failure(LOG_LEVEL_WARN, "broker_lost", e);
	notify_status("no broker: %s", e->text);
}

static void
daemon_on_channel_closed(void * context, const struct error * e, struct bytes exchange)
{
	struct daemon * d = context;

	(void)exchange;
	d->channel_only = true;
	core_on_link_down(d->core, d->now);
	if (log_due(&d->warned_channel, d->now))
		log_failure(LOG_LEVEL_WARN, "channel_closed", e);
}

static void
daemon_on_settled(void * context, uint64_t ticket, enum link_outcome outcome,
    const struct error * e)
{
	static const enum core_outcome outcomes[] = {[LINK_CONFIRMED] = CORE_CONFIRMED,
	    [LINK_NACKED] = CORE_NACKED,
	    [LINK_RETURNED] = CORE_RETURNED};
	struct daemon * d = context;

	core_on_settled(d->core, d->now, ticket, outcomes[outcome]);
	if (e != NULL && log_due(&d->warned_refused, d->now))
		log_failure(LOG_LEVEL_WARN, "message_refused", e);
}

static void
daemon_on_blocked(void * context, bool blocked, const char * reason)
{
	struct daemon * d = context;

	core_on_blocked(d->core, d->now, blocked);
	if (blocked) {
		log_warn("broker_blocked", LOG_STR("reason", reason),
		    LOG_STR("remedy", "free memory or disk on the RabbitMQ node"));
		notify_status("blocked by the broker: %s", reason);
	} else {
		log_info("broker_unblocked");
		notify_status("publishing");
	}
}

static const struct link_events link_events = {.up = daemon_on_link_up,
    .down = daemon_on_link_down,
    .settled = daemon_on_settled,
    .channel_closed = daemon_on_channel_closed,
    .blocked = daemon_on_blocked};

/* ---- the core's answers ---- */

static void
daemon_publish(struct daemon * d, const struct core_action * action)
{
	enum link_publish_result result;
	struct error e;

	result = link_publish(d->link, action->publish.message, action->publish.ticket, &e);
	if (result == LINK_FULL) {
		link_flush(d->link, d->now);
		result = link_publish(d->link, action->publish.message, action->publish.ticket, &e);
	}
	switch (result) {
	case LINK_TAKEN:
		break;
	case LINK_FULL:
		core_on_settled(d->core, d->now, action->publish.ticket, CORE_NOT_TAKEN);
		core_on_link_full(d->core, true);
		break;
	case LINK_UNFIT:
		if (log_due(&d->warned_unfit, d->now))
			log_event(LOG_LEVEL_ERROR, "message_unfit",
			    LOG_INT("id", action->publish.message->id), LOG_STR("reason", e.text),
			    LOG_STR("remedy", e.remedy));
		core_on_settled(d->core, d->now, action->publish.ticket, CORE_UNFIT);
		break;
	}
}

static void
daemon_record(struct daemon * d, const struct core_action * action)
{
	struct source_mark mark = {.interval = action->record.position.interval,
	    .last_id = action->record.position.last_id,
	    .exhausted = action->record.position.exhausted,
	    .messages = action->record.messages,
	    .max_id = action->record.max_id};

	source_record(d->source, d->now, &mark);
}

static void
daemon_act(struct daemon * d)
{
	struct core_action action;
	bool published = false;

	while (core_next(d->core, d->now, &action) != CORE_NOTHING) {
		switch (action.type) {
		case CORE_FETCH:
			source_fetch(d->source, d->now, action.fetch.rows, action.fetch.bytes,
			    action.fetch.wait);
			break;
		case CORE_PUBLISH:
			published = true;
			daemon_publish(d, &action);
			break;
		case CORE_RECORD:
			daemon_record(d, &action);
			break;
		case CORE_FINISHED:
			daemon_end(d, NULL);
			return;
		case CORE_NOTHING:
			break;
		}
	}
	if (published)
		link_flush(d->link, d->now);
}

/* ---- the loop ---- */

/* Before any byte may go out: does the lease hold? */
static void
daemon_check_lease(struct daemon * d)
{
	clock_ns lease = source_lease(d->source);
	bool wanted = d->now < lease;

	core_lease(d->core, lease);
	link_lease(d->link, lease);
	if (wanted == d->link_wanted)
		return;
	d->link_wanted = wanted;
	if (wanted) {
		link_resume(d->link, d->now);
		return;
	}
	link_abort(d->link, d->now);
	d->channel_only = false;
	if (d->link_up) {
		d->link_up = false;
		core_on_link_down(d->core, d->now);
	}
}

static void
daemon_take_signal(struct daemon * d)
{
	struct signalfd_siginfo info;

	if (read(d->signals, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return;
	if (d->stopping) {
		log_warn("stopping_at_once", LOG_STR("reason", "a second signal"));
		daemon_end(d, NULL);
		return;
	}
	log_info("stopping", LOG_STR("signal", strsignal((int)info.ssi_signo)));
	notify_stopping();
	d->stopping = true;
	d->stop_deadline = d->now + STOP_TIMEOUT;
	core_stop(d->core);
}

static clock_ns
daemon_deadline(struct daemon * d)
{
	clock_ns deadline = clock_min(source_deadline(d->source), core_deadline(d->core));

	if (d->link_wanted) {
		deadline = clock_min(deadline, link_deadline(d->link));
		deadline = clock_min(deadline, source_lease(d->source));
	}
	if (d->stopping)
		deadline = clock_min(deadline, d->stop_deadline);
	return (clock_min(deadline, notify_deadline()));
}

static void
daemon_turn(struct daemon * d)
{
	struct pollfd fds[2 + SOURCE_FDS];
	size_t source_fds;
	clock_ns wait;
	struct timespec timeout;
	bool source_ready = false;

	fds[0] = (struct pollfd){.fd = d->signals, .events = POLLIN};
	fds[1] = (struct pollfd){.fd = link_fd(d->link), .events = link_poll_events(d->link)};
	source_fds = source_poll(d->source, fds + 2);
	wait = daemon_deadline(d) - clock_now();
	if (wait < 0)
		wait = 0;
	if (wait > CLOCK_S(60))
		wait = CLOCK_S(60);
	timeout = (struct timespec){.tv_sec = wait / CLOCK_S(1), .tv_nsec = wait % CLOCK_S(1)};
	if (ppoll(fds, 2 + source_fds, &timeout, NULL) < 0)
		for (size_t i = 0; i < 2 + source_fds; i++)
			fds[i].revents = 0;
	d->now = clock_now();
	for (size_t i = 0; i < source_fds; i++)
		source_ready |= fds[2 + i].revents != 0;
	if (source_ready || d->now >= source_deadline(d->source) ||
	    d->now >= source_lease(d->source))
		source_turn(d->source, d->now, fds + 2, source_fds);
	daemon_check_lease(d);
	if (fds[0].revents != 0)
		daemon_take_signal(d);
	if (d->link_wanted && (fds[1].revents != 0 || d->now >= link_deadline(d->link))) {
		link_turn(d->link, d->now, fds[1].revents);
		core_on_link_full(d->core, false);
	}
	if (!d->ended)
		daemon_act(d);
	if (d->stopping && d->now >= d->stop_deadline) {
		log_warn("stopped_with_messages_in_flight",
		    LOG_STR("reason", "they were not confirmed or recorded in time"),
		    LOG_STR("remedy", "none needed: they are published again"));
		daemon_end(d, NULL);
	}
	notify_alive(d->now);
}

/* Goodbye to the broker, as far as it answers in time. */
static void
daemon_close_link(struct daemon * d)
{
	clock_ns deadline = clock_now() + GOODBYE_TIMEOUT;

	if (!d->link_up || d->code != EXIT_WELL)
		return;
	link_close(d->link, clock_now());
	while (!link_closed(d->link) && clock_now() < deadline) {
		struct pollfd fd = {.fd = link_fd(d->link), .events = link_poll_events(d->link)};

		poll(&fd, 1, 10);
		link_turn(d->link, clock_now(), fd.revents);
	}
}

static int
daemon_open_signals(struct error * e)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	if ((fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)) < 0)
		error_set(e, EXIT_BUG, "cannot wait for signals: %s", strerror(errno));
	return (fd);
}

static void
daemon_log_end(struct daemon * d)
{
	struct core_counts counts;

	core_count(d->core, &counts);
	log_info("stopped", LOG_INT("published", counts.published),
	    LOG_INT("confirmed", counts.confirmed), LOG_INT("recorded", counts.recorded),
	    LOG_INT("published_again", counts.republished));
}

enum exit_code
daemon_run(const struct daemon_options * options, struct error * e)
{
	struct daemon d = {.options = options, .code = EXIT_BUG, .e = e, .signals = -1};

	error_clear(e);
	if ((d.signals = daemon_open_signals(e)) < 0)
		return (EXIT_BUG);
	if ((d.core = core_new(&options->core)) == NULL) {
		error_set(e, EXIT_BUG, "out of memory for a window of %u messages",
		    options->core.window);
		goto out;
	}
	if ((d.source = source_new(&options->source, &source_events, &d, e)) == NULL)
		goto out;
	if ((d.link = link_new(&options->link, &link_events, &d, e)) == NULL) {
		d.code = e->code;
		goto out;
	}
	/* The kernel's habit of waking up to 50 us late would be felt in each poll. */
	prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS);
	/* Only a leader talks to the broker. */
	link_abort(d.link, clock_now());
	if (options->until_empty)
		core_drain(d.core);
	notify_ready();
	while (!d.ended)
		daemon_turn(&d);
	daemon_close_link(&d);
	source_close(d.source, clock_now());
	daemon_log_end(&d);
out:
	link_free(d.link);
	core_free(d.core);
	source_free(d.source);
	close(d.signals);
	return (d.code);
}
