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
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "cli/broker.h"
#include "cli/notify.h"
#include "cli/pausing.h"

/* After a signal: for what is in flight. */
#define STOP_TIMEOUT CLOCK_MS(4000)

#define TIMER_SLACK_NS 5000UL

/* Signals first, then the broker's, then the source's. */
#define FDS_OF_SOURCE (1 + BROKER_FDS)

struct daemon {
	const struct daemon_options * options;
	struct core * core;
	struct source * source;
	struct broker * broker;
	struct telling * telling;
	int signals;
	clock_ns now;
	bool source_was_up;
	bool stopping;
	clock_ns stop_deadline;
	bool ended;
	bool finished; /* nothing is in flight or unrecorded */
	enum exit_code code;
	struct error * e;
	char source_status[512]; /* empty: it leads */
	char status[512];        /* as told */
	struct pausing pausing;
	bool discarding;
	struct log_repeat source_failure;
	int64_t warned_delayed;
	int64_t warned_dead;
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
	d->source_failure = (struct log_repeat){0};
	core_on_source_up(d->core, d->now);
	d->source_status[0] = '\0';
	telling_source(d->telling, STATS_LEADING, "");
}

static void
daemon_on_source_down(void * context, const struct error * e, clock_ns retry_in)
{
	struct daemon * d = context;

	core_on_source_down(d->core, d->now);
	telling_source(d->telling, STATS_STARTING, e->text);
	if (retry_in == CLOCK_NEVER || (d->options->until_empty && !d->source_was_up)) {
		daemon_end(d, e);
		return;
	}
	log_repeated(&d->source_failure, d->now, "database_lost", e);
	snprintf(d->source_status, sizeof(d->source_status), "no database: %.400s", e->text);
}

static void
daemon_on_standby(void * context)
{
	struct daemon * d = context;

	log_info("standby", LOG_STR("reason", "another relay leads"));
	strcpy(d->source_status, "standby: another relay leads");
	telling_source(d->telling, STATS_STANDBY, "");
}

static void
daemon_on_paused(void * context, const struct pause * pause)
{
	struct daemon * d = context;

	telling_paused(d->telling, pause);
	pausing_set(&d->pausing, pause, core_on_paused(d->core, d->now, pause));
}

static void
daemon_on_discards(void * context, const struct discard * list, size_t count)
{
	struct daemon * d = context;

	if (count > 0 || d->discarding)
		log_info("discarding", LOG_INT("orders", count));
	d->discarding = count > 0;
	core_on_discards(d->core, list, count);
}

static void
daemon_on_fetched(void * context, struct batch * batch, uint64_t interval, bool exhausted)
{
	struct daemon * d = context;

	core_on_fetched(d->core, d->now, batch, interval, exhausted);
}

static void
daemon_on_found(void * context, const struct found * found)
{
	struct daemon * d = context;

	core_on_delayed(d->core, d->now, found);
}

static void
daemon_on_recorded(void * context)
{
	struct daemon * d = context;

	core_on_recorded(d->core, d->now);
}

static void
daemon_on_backlog(void * context, const struct backlog * backlog)
{
	struct daemon * d = context;

	telling_backlog(d->telling, backlog);
}

static void
daemon_on_newest(void * context, const struct backlog_newest * newest)
{
	struct daemon * d = context;

	telling_newest(d->telling, newest);
}

static const struct source_events source_events = {.up = daemon_on_source_up,
    .down = daemon_on_source_down,
    .standby = daemon_on_standby,
    .paused = daemon_on_paused,
    .discards = daemon_on_discards,
    .fetched = daemon_on_fetched,
    .found = daemon_on_found,
    .recorded = daemon_on_recorded,
    .backlog = daemon_on_backlog,
    .newest = daemon_on_newest};

/* ---- the core's answers ---- */

/* What is put aside is told; of many at once the first stands for all. */
static void
daemon_log_move(struct daemon * d, const struct move * move)
{
	char reason[512];

	if (move->fate == FATE_DELIVERED || move->fate == FATE_BEHIND ||
	    move->fate == FATE_DISCARDED || move->paused)
		return;
	if (!log_due(move->fate == FATE_DEAD ? &d->warned_dead : &d->warned_delayed, d->now))
		return;
	snprintf(reason, sizeof(reason), "%.*s", (int)move->reason.len,
	    move->reason.data == NULL ? "" : move->reason.data);
	if (move->fate == FATE_DEAD)
		log_error("message_dead", LOG_INT("id", move->id), LOG_STR("reason", reason),
		    LOG_INT("attempts", move->attempts),
		    LOG_STR("remedy",
			"mend the cause, then outbox-relay dead retry ID, or dead discard ID"));
	else
		log_warn("message_delayed", LOG_INT("id", move->id), LOG_STR("reason", reason),
		    LOG_INT("attempts", move->attempts));
}

static void
daemon_record(struct daemon * d, const struct core_action * action)
{
	struct source_mark mark = {.interval = action->record.position.interval,
	    .last_id = action->record.position.last_id,
	    .exhausted = action->record.position.exhausted,
	    .messages = action->record.messages,
	    .max_id = action->record.max_id,
	    .moves = action->record.moves,
	    .move_count = action->record.move_count};

	for (size_t n = 0; n < mark.move_count; n++)
		daemon_log_move(d, &mark.moves[n]);
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
		case CORE_FETCH_DELAYED:
			source_search(d->source, d->now, &action.fetch_delayed);
			break;
		case CORE_PUBLISH:
			published = true;
			broker_publish(d->broker, d->now, &action);
			break;
		case CORE_RESET:
			broker_reset(d->broker, d->now, &action);
			break;
		case CORE_RECORD:
			daemon_record(d, &action);
			break;
		case CORE_FINISHED:
			d->finished = true;
			daemon_end(d, NULL);
			return;
		case CORE_NOTHING:
			break;
		}
	}
	if (published)
		broker_flush(d->broker, d->now);
}

/* ---- the loop ---- */

/* Before any byte may go out: does the lease hold? */
static void
daemon_check_lease(struct daemon * d)
{
	clock_ns lease = source_lease(d->source);

	core_lease(d->core, lease);
	broker_lease(d->broker, d->now, lease);
}

/* The truth, in one line, whenever it changes. */
static void
daemon_tell_status(struct daemon * d)
{
	const char * status = d->source_status[0] != '\0' ? d->source_status :
	    d->pausing.all                                ? d->pausing.why :
							    broker_status(d->broker);

	if (d->stopping || strcmp(status, d->status) == 0)
		return;
	snprintf(d->status, sizeof(d->status), "%s", status);
	notify_status("%s", d->status);
}

/* It takes as long as reading a file. */
static void
daemon_reload(struct daemon * d)
{
	if (d->stopping)
		return;
	notify_reloading();
	reload_now(d->options->reload, d->core);
	notify_reloaded();
}

static void
daemon_take_signal(struct daemon * d)
{
	struct signalfd_siginfo info;

	if (read(d->signals, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return;
	if (info.ssi_signo == SIGHUP) {
		daemon_reload(d);
		return;
	}
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

	deadline = clock_min(deadline, broker_deadline(d->broker));
	deadline = clock_min(deadline, telling_deadline(d->telling));
	if (d->stopping)
		deadline = clock_min(deadline, d->stop_deadline);
	return (clock_min(deadline, notify_deadline()));
}

static void
daemon_turn(struct daemon * d)
{
	struct pollfd fds[FDS_OF_SOURCE + SOURCE_FDS];
	size_t source_fds;
	clock_ns wait;
	struct timespec timeout;
	bool source_ready = false;
	struct error e;

	fds[0] = (struct pollfd){.fd = d->signals, .events = POLLIN};
	broker_poll(d->broker, fds + 1);
	source_fds = source_poll(d->source, fds + FDS_OF_SOURCE);
	wait = daemon_deadline(d) - clock_now();
	if (wait < 0)
		wait = 0;
	if (wait > CLOCK_S(60))
		wait = CLOCK_S(60);
	timeout = (struct timespec){.tv_sec = wait / CLOCK_S(1), .tv_nsec = wait % CLOCK_S(1)};
	if (ppoll(fds, FDS_OF_SOURCE + source_fds, &timeout, NULL) < 0) {
		/* Without it nothing is heard any more, signals neither. */
		if (errno != EINTR) {
			error_set(&e, EXIT_BUG, "cannot wait for sockets: %s", strerror(errno));
			daemon_end(d, &e);
			return;
		}
		for (size_t i = 0; i < FDS_OF_SOURCE + source_fds; i++)
			fds[i].revents = 0;
	}
	d->now = clock_now();
	for (size_t i = 0; i < source_fds; i++)
		source_ready |= fds[FDS_OF_SOURCE + i].revents != 0;
	if (source_ready || d->now >= source_deadline(d->source) ||
	    d->now >= source_lease(d->source))
		source_turn(d->source, d->now, fds + FDS_OF_SOURCE, source_fds);
	daemon_check_lease(d);
	if (fds[0].revents != 0)
		daemon_take_signal(d);
	broker_turn(d->broker, d->now, fds + 1);
	if (broker_failure(d->broker) != NULL)
		daemon_end(d, broker_failure(d->broker));
	if (!d->ended)
		daemon_act(d);
	if (d->stopping && d->now >= d->stop_deadline) {
		log_warn("stopped_with_messages_in_flight",
		    LOG_STR("reason", "they were not confirmed or recorded in time"),
		    LOG_STR("remedy", "none needed: they are published again"));
		daemon_end(d, NULL);
	}
	daemon_tell_status(d);
	telling_turn(d->telling, d->now,
	    &(struct telling_parts){.core = d->core,
		.source = d->source,
		.broker = d->broker,
		.pausing = &d->pausing,
		.stopping = d->stopping});
	notify_alive(d->now);
}

static int
daemon_open_signals(struct error * e)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
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
	    LOG_INT("published_again", counts.republished), LOG_INT("delayed", counts.delayed),
	    LOG_INT("dead", counts.dead));
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
	if ((d.broker = broker_new(&options->broker, d.core, e)) == NULL) {
		d.code = e->code;
		goto out;
	}
	if ((d.telling = telling_new(&options->telling, e)) == NULL)
		goto out;
	/* The kernel's habit of waking up to 50 us late would be felt in each poll. */
	prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS);
	if (options->until_empty)
		core_drain(d.core);
	notify_ready();
	while (!d.ended)
		daemon_turn(&d);
	/* A standby need not wait for our goodbye to the broker. */
	if (d.finished)
		source_close(d.source, clock_now());
	if (d.code == EXIT_WELL)
		broker_close(d.broker);
	if (!d.finished)
		source_close(d.source, clock_now());
	daemon_log_end(&d);
out:
	telling_free(d.telling);
	broker_free(d.broker);
	core_free(d.core);
	source_free(d.source);
	close(d.signals);
	return (d.code);
}
