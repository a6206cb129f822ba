#include <stdio.h>
#include <string.h>

#include "verdict.h"

/*
 * A failing history is made small by leaving out: rows, turns at the end, kinds
 * of faults, then single turns in ever smaller pieces; whatever is left out
 * stays out if the same promise still breaks.  Each turn has dice of its own,
 * so the others stay what they were.
 */

#define RUNS_MAX 3000

struct shrinking {
	char promise[sizeof(((struct verdict *)0)->promise)];
	uint32_t runs;
};

static bool
still_breaks(struct shrinking * s, const struct knobs * knobs)
{
	if (s->runs >= RUNS_MAX)
		return (false);
	s->runs++;
	return (!verdict_run(knobs, 1, 0, true) && strcmp(verdict->promise, s->promise) == 0);
}

/* The least value of ${number} that still breaks it, as far as halving finds one. */
static void
lower(struct shrinking * s, struct knobs * knobs, uint32_t * number)
{
	uint32_t low = 0;

	while (low + 1 < *number) {
		uint32_t high = *number;

		*number = low + (high - low) / 2;
		if (still_breaks(s, knobs))
			continue;
		low = *number;
		*number = high;
	}
}

static void
leave_out_kinds(struct shrinking * s, struct knobs * knobs)
{
	for (int kind = 0; kind < KIND_COUNT; kind++) {
		struct knobs smaller = *knobs;

		smaller.without |= UINT64_C(1) << kind;
		if (smaller.without != knobs->without && still_breaks(s, &smaller))
			*knobs = smaller;
	}
}

static bool
leave_out_turns(struct shrinking * s, struct knobs * knobs, uint32_t from, uint32_t count)
{
	struct knobs smaller = *knobs;
	bool some = false;

	for (uint32_t n = from; n < from + count && n < knobs->turns; n++) {
		uint64_t bit = UINT64_C(1) << n % 64;

		some |= (smaller.skipped[n / 64] & bit) == 0;
		smaller.skipped[n / 64] |= bit;
	}
	if (!some || !still_breaks(s, &smaller))
		return (false);
	*knobs = smaller;
	return (true);
}

void
shrink(struct knobs * knobs)
{
	struct shrinking s = {.runs = 0};
	bool smaller = true;

	memcpy(s.promise, verdict->promise, sizeof(s.promise));
	lower(&s, knobs, &knobs->turns);
	lower(&s, knobs, &knobs->rows);
	while (smaller && s.runs < RUNS_MAX) {
		smaller = false;
		leave_out_kinds(&s, knobs);
		for (uint32_t count = WORLD_TURNS / 2; count > 0; count /= 2) {
			for (uint32_t from = 0; from < knobs->turns; from += count)
				smaller |= leave_out_turns(&s, knobs, from, count);
		}
		lower(&s, knobs, &knobs->turns);
	}
}

/* ---- the result ---- */

static void
print_command(const struct knobs * knobs)
{
	static const char * const names[] = {
#define X(name) #name,
	    WORLD_KINDS(X)
#undef X
	};
	const char * separator = " --without ";

	printf("build/tests/simulation/simulate --seed %llu --turns %u --rows %u",
	    (unsigned long long)knobs->seed, knobs->turns, knobs->rows);
	for (int kind = 0; kind < KIND_COUNT; kind++) {
		if ((knobs->without >> kind & 1) == 0)
			continue;
		printf("%s%s", separator, names[kind]);
		separator = ",";
	}
	separator = " --skip ";
	for (uint32_t n = 0; n < knobs->turns; n++) {
		uint32_t from = n;

		while (n < knobs->turns && (knobs->skipped[n / 64] >> n % 64 & 1) != 0)
			n++;
		if (n == from)
			continue;
		printf("%s%u-%u", separator, from, n - 1);
		separator = ",";
	}
	printf(" --verbose\n");
}

void
shrink_print(const struct knobs * knobs)
{
	struct knobs told = *knobs;

	printf("\nthe same, as short as it gets:\n");
	told.verbose = true;
	verdict_run(&told, 1, 0, false);
	printf("\nreplay: ");
	print_command(knobs);
}
