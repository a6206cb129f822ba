#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

/*
 * simulate [--seed N] [--histories N] [--verbose]
 *
 * Drives the core through histories, each made from its seed alone, and stops
 * at the first broken promise.  A history: writers, broker, database and
 * clock do what the dice say; then faults end, and everything must drain.
 */

#define QUIET_TURNS 20000

uint64_t
world_random(struct world * w)
{
	/* splitmix64: every seed is as good as any other. */
	uint64_t z = w->random += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return (z ^ z >> 31);
}

void
world_say(struct world * w, const char * format, ...)
{
	va_list arguments;

	if (!w->verbose)
		return;
	printf("%10.3f ms  ", (double)w->now / 1e6);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
}

void
world_broken(struct world * w, const char * promise, const char * format, ...)
{
	va_list arguments;

	fflush(stdout);
	fprintf(stderr, "broken promise (%s) at seed %llu: ", promise, (unsigned long long)w->seed);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fprintf(stderr,
	    "\nreplay: build/tests/simulation/simulate --seed %llu --histories 1"
	    " --verbose\n",
	    (unsigned long long)w->seed);
	exit(1);
}

/* ---- the loop around the core ---- */

static void
do_actions(struct world * w)
{
	struct core_action action;

	for (int count = 0;; count++) {
		if (count > 10 * WORLD_ROWS)
			world_broken(w, "V", "the core never rests");
		switch (core_next(w->core, w->now, &action)) {
		case CORE_NOTHING:
			promise_at_rest(w);
			return;
		case CORE_FETCH:
			database_fetch(w, &action);
			break;
		case CORE_PUBLISH:
			broker_publish(w, &action);
			break;
		case CORE_RECORD:
			database_record(w, &action);
			break;
		case CORE_FINISHED:
			w->finished = true;
			return;
		}
	}
}

static void
new_core(struct world * w)
{
	w->core = core_new(&w->options);
	if (w->core == NULL)
		world_broken(w, "simulation", "out of memory");
	w->stopping = w->finished = false;
	w->lease = 0;
	w->former.ticket = 0;
}

/* The process dies, or has ended, and is started again. */
static void
restart(struct world * w)
{
	if (w->link_up)
		broker_lost(w);
	if (w->source_up)
		database_lost(w);
	core_free(w->core);
	new_core(w);
}

static void
lose_source(struct world * w)
{
	database_lost(w);
	core_on_source_down(w->core, w->now);
	/* Nothing of the old session is ours any more, late confirms or not. */
	for (uint32_t n = 0; n < w->row_count; n++)
		w->rows[n].ticket = 0;
}

static void
fault(struct world * w)
{
	switch (below(w, 6)) {
	case 0:
		if (w->link_up) {
			broker_lost(w);
			core_on_link_down(w->core, w->now);
		}
		break;
	case 1:
		if (w->source_up)
			lose_source(w);
		break;
	case 2:
		if (w->link_up && !w->blocked) {
			happened(w, EVENT_link_blocked);
			w->blocked = true;
			core_on_blocked(w->core, w->now, true);
		}
		break;
	case 3:
		if (w->lease > w->now) {
			happened(w, EVENT_lease_ran_out);
			w->now = w->lease;
		}
		break;
	case 4:
		if (one_in(w, 3)) {
			happened(w, EVENT_crashed);
			world_say(w, "crash");
			restart(w);
		}
		break;
	case 5:
		if (one_in(w, 3) && !w->stopping) {
			world_say(w, "stop");
			w->stopping = true;
			core_stop(w->core);
		}
		break;
	}
}

static void
heal(struct world * w)
{
	if (w->finished) {
		happened(w, EVENT_stopped_midway);
		restart(w);
	}
	if (!w->link_up)
		broker_up(w);
	if (!w->source_up)
		database_up(w);
	if (w->blocked) {
		w->blocked = false;
		core_on_blocked(w->core, w->now, false);
	}
	if (w->full) {
		w->full = false;
		core_on_link_full(w->core, false);
	}
	if (w->lease <= w->now || one_in(w, 4)) {
		w->lease = w->quiet ? CLOCK_NEVER : w->now + CLOCK_MS(10);
		core_lease(w->core, w->lease);
	}
}

static void
turn(struct world * w, uint32_t fault_rate)
{
	switch (below(w, 8)) {
	case 0:
		database_write(w);
		break;
	case 1:
		if (one_in(w, 2))
			database_end_some_transaction(w);
		break;
	case 2:
		database_answer_fetch(w);
		break;
	case 3:
		database_answer_record(w);
		break;
	case 4:
		broker_process(w);
		break;
	case 5:
	case 6:
		broker_settle(w);
		break;
	case 7:
		w->now += below(w, CLOCK_MS(2));
		break;
	}
	if (one_in(w, fault_rate))
		fault(w);
	if (one_in(w, 10))
		heal(w);
	if (!w->finished)
		do_actions(w);
}

/* Faults are over: everything must be delivered and marked, with no one's help. */
static void
settle_down(struct world * w)
{
	bool drain = one_in(w, 2);

	w->quiet = true;
	while (w->row_count > 0) {
		uint64_t before = w->events[EVENT_committed] + w->events[EVENT_rolled_back];

		database_end_some_transaction(w);
		if (w->events[EVENT_committed] + w->events[EVENT_rolled_back] == before)
			break;
	}
	if (w->stopping)
		w->finished = true;
	heal(w);
	w->lease = CLOCK_NEVER;
	core_lease(w->core, w->lease);
	if (drain)
		core_drain(w->core);
	for (int turns = 0; !w->finished; turns++) {
		clock_ns deadline;

		do_actions(w);
		if (w->finished)
			break;
		if (turns > QUIET_TURNS)
			world_broken(w, "V", "not drained after %d turns", turns);
		if (w->full) {
			w->full = false;
			core_on_link_full(w->core, false);
		}
		broker_process(w);
		broker_settle(w);
		database_answer_fetch(w);
		database_answer_record(w);
		deadline = core_deadline(w->core);
		if (w->queue_count == 0 && deadline > w->now && deadline != CLOCK_NEVER)
			w->now = deadline;
		if (!drain && turns > 2000 && !w->stopping) {
			w->stopping = true;
			core_stop(w->core);
		}
	}
	happened(w, drain ? EVENT_drained : EVENT_stopped);
	promise_at_end(w);
	core_free(w->core);
	w->core = NULL;
	if (w->batches != 0)
		world_broken(w, "memory", "%d batches are left", w->batches);
}

static void
history(struct world * w, uint64_t seed)
{
	uint32_t fault_rate, turns;

	w->seed = w->random = seed;
	fault_rate = 5 + below(w, 100);
	turns = 50 + below(w, 1500);
	w->row_max = 1 + below(w, WORLD_ROWS);
	w->refusals = one_in(w, 2);
	w->options = (struct core_options){
	    .window = 1 + (one_in(w, 2) ? below(w, 8) : below(w, 200)),
	    .max_bytes = 1 + below(w, 3000),
	    .pipelined = one_in(w, 4),
	    .record_interval = one_in(w, 2) ? CLOCK_MS(5) : 0,
	    .retry = {.initial = CLOCK_MS(1), .multiplier = 2, .max = CLOCK_MS(20)},
	    .seed = seed,
	};
	w->options.batch = 1 + below(w, w->options.window < 30 ? w->options.window : 30);
	world_say(w, "window %u, batch %u, %s, %u rows", w->options.window, w->options.batch,
	    w->options.pipelined ? "pipelined" : "strict", w->row_max);
	new_core(w);
	heal(w);
	for (uint32_t n = 0; n < turns; n++)
		turn(w, fault_rate);
	settle_down(w);
}

static int
report(const uint64_t * events, uint64_t histories)
{
	static const char * const names[] = {
#define X(name) #name,
	    WORLD_EVENTS(X)
#undef X
	};
	uint64_t total = 0;
	int missing = 0;

	for (int n = 0; n < EVENT_COUNT; n++) {
		printf("%-28s %12llu%s\n", names[n], (unsigned long long)events[n],
		    events[n] == 0 ? "  never happened" : "");
		total += events[n];
		missing += events[n] == 0;
	}
	printf("%llu histories, %llu transitions: all promises kept\n",
	    (unsigned long long)histories, (unsigned long long)total);
	return (missing > 0 && histories >= 1000);
}

int
main(int argc, char ** argv)
{
	static struct world w;
	static uint64_t events[EVENT_COUNT];
	uint64_t seed = 1;
	uint64_t histories = 20000;
	bool verbose = false;

	for (int n = 1; n < argc; n++) {
		if (strcmp(argv[n], "--verbose") == 0)
			verbose = true;
		else if (strcmp(argv[n], "--seed") == 0 && n + 1 < argc)
			seed = strtoull(argv[++n], NULL, 10);
		else if (strcmp(argv[n], "--histories") == 0 && n + 1 < argc)
			histories = strtoull(argv[++n], NULL, 10);
		else {
			fprintf(stderr, "usage: simulate [--seed N] [--histories N] [--verbose]\n");
			return (64);
		}
	}
	for (uint64_t n = 0; n < histories; n++) {
		memset(&w, 0, sizeof(w));
		w.verbose = verbose;
		history(&w, seed + n);
		for (int e = 0; e < EVENT_COUNT; e++)
			events[e] += w.events[e];
	}
	return (report(events, histories));
}
