#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "verdict.h"

/*
 * Drives the core through histories, each made from its seed alone, up to the
 * first broken promise; that one is replayed, shrunk and told.
 */

#define HISTORIES 100000

/* So many histories must have shown everything that can happen. */
#define ALL_EVENTS_IN 20000

static const char usage[] =
    "usage: simulate [--seed N] [--histories N | --hours N] [--no-shrink]\n"
    "       simulate --seed N [--turns N] [--rows N] [--without KIND,...] [--skip A-B,...]"
    " [--verbose]\n";

struct arguments {
	struct knobs knobs;
	uint64_t histories;
	double hours;
	bool one;
	bool no_shrink;
};

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
world_throw(struct world * w, uint64_t step)
{
	w->random = w->knobs.seed;
	w->random = world_random(w) ^ step * UINT64_C(0xd1342543de82ef95);
}

static int
report(void)
{
	static const char * const names[] = {
#define X(name) #name,
	    WORLD_EVENTS(X)
#undef X
	};
	uint64_t total = 0;
	int missing = 0;

	for (int n = 0; n < EVENT_COUNT; n++) {
		printf("%-28s %12llu%s\n", names[n], (unsigned long long)verdict->events[n],
		    verdict->events[n] == 0 ? "  never happened" : "");
		total += verdict->events[n];
		missing += verdict->events[n] == 0;
	}
	printf(
	    "good messages sent within %d ms (seed %llu), all settled within %d ms (seed %llu)\n",
	    (int)(verdict->slowest_good / CLOCK_MS(1)),
	    (unsigned long long)verdict->slowest_good_seed,
	    (int)(verdict->slowest_settled / CLOCK_MS(1)),
	    (unsigned long long)verdict->slowest_settled_seed);
	printf("%llu histories, %llu transitions: all promises kept\n",
	    (unsigned long long)verdict->histories, (unsigned long long)total);
	if (missing == 0 || verdict->histories < ALL_EVENTS_IN)
		return (0);
	fprintf(stderr, "%d transitions never happened\n", missing);
	return (1);
}

static uint64_t
kinds_of(char * list)
{
	static const char * const names[] = {
#define X(name) #name,
	    WORLD_KINDS(X)
#undef X
	};
	uint64_t kinds = 0;

	for (char * name = strtok(list, ","); name != NULL; name = strtok(NULL, ",")) {
		int kind = 0;

		while (kind < KIND_COUNT && strcmp(name, names[kind]) != 0)
			kind++;
		if (kind == KIND_COUNT) {
			fprintf(stderr, "no such kind: %s\n", name);
			exit(64);
		}
		kinds |= UINT64_C(1) << kind;
	}
	return (kinds);
}

static void
skip_turns(struct knobs * knobs, char * list)
{
	for (char * range = strtok(list, ","); range != NULL; range = strtok(NULL, ",")) {
		char * end;
		uint64_t from = strtoull(range, &end, 10);
		uint64_t to = *end == '-' ? strtoull(end + 1, NULL, 10) : from;

		for (; from <= to && from < WORLD_TURNS; from++)
			knobs->skipped[from / 64] |= UINT64_C(1) << from % 64;
	}
}

/* False: not understood. */
static bool
read_argument(struct arguments * a, const char * name, char * value)
{
	if (strcmp(name, "--seed") == 0) {
		a->knobs.seed = strtoull(value, NULL, 10);
	} else if (strcmp(name, "--histories") == 0) {
		a->histories = strtoull(value, NULL, 10);
	} else if (strcmp(name, "--hours") == 0) {
		a->hours = strtod(value, NULL);
		a->histories = 0;
	} else if (strcmp(name, "--turns") == 0) {
		a->knobs.turns = (uint32_t)strtoul(value, NULL, 10);
		a->one = true;
	} else if (strcmp(name, "--rows") == 0) {
		a->knobs.rows = (uint32_t)strtoul(value, NULL, 10);
		a->one = true;
	} else if (strcmp(name, "--without") == 0) {
		a->knobs.without = kinds_of(value);
	} else if (strcmp(name, "--skip") == 0) {
		skip_turns(&a->knobs, value);
		a->one = true;
	} else {
		return (false);
	}
	return (true);
}

static bool
read_arguments(struct arguments * a, int argc, char ** argv)
{
	for (int n = 1; n < argc; n++) {
		if (strcmp(argv[n], "--verbose") == 0)
			a->knobs.verbose = a->one = true;
		else if (strcmp(argv[n], "--no-shrink") == 0)
			a->no_shrink = true;
		else if (n + 1 == argc || !read_argument(a, argv[n], argv[n + 1]))
			return (false);
		else
			n++;
	}
	if (a->knobs.turns > WORLD_TURNS)
		a->knobs.turns = WORLD_TURNS;
	return (true);
}

int
main(int argc, char ** argv)
{
	struct arguments a = {.knobs = {.seed = 1, .turns = WORLD_TURNS, .rows = WORLD_ROWS},
	    .histories = HISTORIES};
	clock_ns until;

	if (!read_arguments(&a, argc, argv)) {
		fputs(usage, stderr);
		return (64);
	}
	if (verdict_init()) {
		fprintf(stderr, "out of memory\n");
		return (1);
	}
	until = clock_now() + (clock_ns)(a.hours * 3600 * 1e9);
	if (verdict_run(&a.knobs, a.one ? 1 : a.histories, until, false))
		return (a.one ? 0 : report());
	printf("broken promise (%s) at seed %llu: %s\n", verdict->promise,
	    (unsigned long long)verdict->seed, verdict->text);
	if (a.one)
		return (1);
	a.knobs.seed = verdict->seed;
	printf("replay: build/tests/simulation/simulate --seed %llu --verbose\n",
	    (unsigned long long)a.knobs.seed);
	if (!a.no_shrink) {
		shrink(&a.knobs);
		shrink_print(&a.knobs);
	}
	return (1);
}
