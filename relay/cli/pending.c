/*
 * The relay does it, in front of whatever it would publish next; here is the order,
 * and who watches it being carried out.  An order that nobody watches any more stands,
 * and is carried out all the same.
 */
#include "cli/pending.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "admin/pending.h"
#include "base/clock.h"
#include "cli/work.h"
#include "config/value.h"
#include "core/delayed.h"

/* Between two looks; a look over a large backlog takes one part in so many of the time. */
#define LOOK CLOCK_MS(200)
#define SHARE 5

static int
read_filter(struct pending_filter * filter, const struct cli_arguments * arguments)
{
	const char * age = cli_value(arguments, "older-than");
	clock_ns older_than = 0;

	*filter = (struct pending_filter){.exchange = cli_value(arguments, "exchange"),
	    .type = cli_value(arguments, "type")};
	if (age != NULL && (value_duration(age, &older_than) != NULL || older_than < CLOCK_S(1)))
		return (cli_usage(arguments->command,
		    "--older-than takes a duration of a second or more, like 90m or 2d, not \"%.60s\"",
		    age));
	filter->older_than_ms = older_than / CLOCK_MS(1);
	return (EXIT_WELL);
}

static int
check_arguments(const struct cli_arguments * arguments)
{
	bool filtered = cli_value(arguments, "exchange") != NULL ||
	    cli_value(arguments, "type") != NULL || cli_value(arguments, "older-than") != NULL;
	bool all = cli_flag(arguments, "all");

	if (strcmp(arguments->words[0], "discard") != 0)
		return (cli_usage(arguments->command, "pending discard, not \"%.60s\"",
		    arguments->words[0]));
	if (cli_flag(arguments, "cancel")) {
		if (filtered || all || cli_flag(arguments, "no-wait"))
			return (cli_usage(arguments->command,
			    "--cancel takes back every order, and takes no other option but --dry-run"));
	} else if (filtered == all)
		return (cli_usage(arguments->command,
		    "write --exchange, --type or --older-than; or --all"));
	return (EXIT_WELL);
}

static int
cancel(struct pending * pending)
{
	const struct oneshot * standing;
	int64_t order, discarded;
	struct error e;

	while ((standing = pending_standing(pending, &e)) != NULL) {
		if (oneshot_rows(standing) == 0)
			return (EXIT_WELL);
		order = oneshot_number(standing, 0, 0);
		if ((discarded = pending_end(pending, order, &e)) == -1)
			break;
		printf("taken back: order %" PRId64 ", which has discarded %" PRId64 " messages\n",
		    order, discarded);
	}
	return (cli_fail(&e));
}

static int
preview_cancel(struct pending * pending)
{
	const struct oneshot * standing;
	struct error e;

	if ((standing = pending_standing(pending, &e)) == NULL)
		return (cli_fail(&e));
	for (size_t n = 0; n < oneshot_rows(standing); n++)
		printf("would be taken back: order %s, which has discarded %s messages\n",
		    oneshot_value(standing, n, 0), oneshot_value(standing, n, 5));
	return (EXIT_WELL);
}

static int
preview(struct pending * pending)
{
	const struct oneshot * standing;
	struct pending_state state;
	struct error e;

	if ((standing = pending_standing(pending, &e)) == NULL)
		return (cli_fail(&e));
	if (oneshot_rows(standing) >= DISCARDS_MAX) {
		error_set(&e, EXIT_FOUND, "%d orders to discard stand already", DISCARDS_MAX);
		error_remedy(&e, "have them finished, or take them back: pending discard --cancel");
		return (cli_fail(&e));
	}
	if (pending_look(pending, &state, &e))
		return (cli_fail(&e));
	printf("would be discarded: %" PRId64 " pending messages, and %" PRId64
	       " delayed ones when their turn comes\n",
	    state.pending, state.delayed);
	return (EXIT_WELL);
}

/* Why it does not go on, said once. */
static void
tell_hindrance(const struct pending_state * state, bool * told)
{
	if (*told || state->pending == 0 || (state->led && !state->paused))
		return;
	*told = true;
	fprintf(stderr, "outbox-relay: %s; the order stands meanwhile, and Ctrl-C leaves it so\n",
	    state->paused ? "everything is paused, so it waits for \"resume\"" :
			    "no relay leads, so it waits for one");
}

static void
rest(clock_ns looked)
{
	clock_ns pause = SHARE * looked > LOOK ? SHARE * looked : LOOK;

	nanosleep(&(struct timespec){.tv_sec = pause / CLOCK_S(1), .tv_nsec = pause % CLOCK_S(1)},
	    NULL);
}

/* Until nothing that it means is pending; -1 with ${e}. */
static int
watch(struct pending * pending, struct pending_state * state, struct error * e)
{
	int64_t total = -1;
	bool told = false;

	for (;;) {
		clock_ns began = clock_now();

		if (pending_look(pending, state, e))
			return (-1);
		if (total < state->pending)
			total = state->pending;
		if (state->pending == 0 || work_interrupted())
			return (0);
		tell_hindrance(state, &told);
		work_progress("no longer pending:", total - state->pending, total);
		rest(clock_now() - began);
	}
}

static int
discard(struct pending * pending, bool wait)
{
	struct pending_state state = {.pending = 0};
	int64_t order, discarded;
	struct error e;

	if ((order = pending_order(pending, &e)) == -1)
		return (cli_fail(&e));
	work_begin();
	if (pending_look(pending, &state, &e) || (wait && watch(pending, &state, &e))) {
		fprintf(stderr, "outbox-relay: order %" PRId64 " stands, but this happened\n",
		    order);
		return (cli_fail(&e));
	}
	if (state.pending > 0 || state.delayed > 0) {
		printf("order %" PRId64 " stands: %" PRId64 " pending and %" PRId64
		       " delayed messages are discarded when their turn comes\n",
		    order, state.pending, state.delayed);
		fputs("outbox-relay: \"pending discard --cancel\" takes it back\n", stderr);
	} else {
		if ((discarded = pending_end(pending, order, &e)) == -1)
			return (cli_fail(&e));
		printf("discarded: %" PRId64 " messages\n", discarded);
	}
	work_end();
	return (EXIT_WELL);
}

static int
run(const struct cli_arguments * arguments, const struct config * config)
{
	const struct oneshot_options options = {.dsn = config->postgres.dsn,
	    .password_file = config->postgres.password_file,
	    .schema = config->postgres.schema,
	    .look_only = cli_flag(arguments, "dry-run")};
	struct pending_filter filter;
	struct pending * pending;
	struct error e;
	int code;

	if ((code = check_arguments(arguments)) != EXIT_WELL ||
	    (code = read_filter(&filter, arguments)) != EXIT_WELL)
		return (code);
	if ((pending = pending_open(&options, &filter, &e)) == NULL)
		return (cli_fail(&e));
	if (cli_flag(arguments, "cancel"))
		code = options.look_only ? preview_cancel(pending) : cancel(pending);
	else if (options.look_only)
		code = preview(pending);
	else
		code = discard(pending, !cli_flag(arguments, "no-wait"));
	pending_close(pending);
	return (code);
}

static const struct cli_option options[] = {
    {"exchange", "NAME", "messages to this exchange"},
    {"type", "TYPE", "messages of this type"},
    {"older-than", "AGE", "messages written longer ago than this, like 90m or 2d"},
    {"all", NULL, "every one, for want of a filter"},
    {"dry-run", NULL, "say how many it would be, or which orders --cancel would take back"},
    {"no-wait", NULL, "leave the order standing and end"},
    {"cancel", NULL, "take back the orders that stand"},
    {NULL, NULL, NULL},
};

const struct cli_command cli_pending = {
    .name = "pending",
    .words = "discard",
    .words_min = 1,
    .words_max = 1,
    .summary = "have messages that wait to be sent discarded instead",
    .description =
	"An order that stands in the database: the relay puts what is pending now and is meant into\n"
	"outbox.dead as discarded instead of publishing it. What it has published already, or\n"
	"publishes before it learns of the order (a second), is sent; nothing is both, unless a\n"
	"relay died with it unconfirmed. Ctrl-C leaves the order standing. dead list --discarded\n"
	"shows them, dead retry ID brings one back.",
    .example = "outbox-relay pending discard --exchange events --older-than 2d --dry-run",
    .options = options,
    .run = run,
};
