/*
 * What is paused stands in the database, so it outlasts a restart of the relay and
 * holds for whichever relay leads.
 */
#include "cli/pause.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "admin/pause.h"
#include "admin/pending.h"
#include "core/delayed.h"

#define EXCHANGE_MAX 255

static struct oneshot_options
connection(const struct cli_arguments * arguments, const struct config * config)
{
	return ((struct oneshot_options){.dsn = config->postgres.dsn,
	    .password_file = config->postgres.password_file,
	    .schema = config->postgres.schema,
	    .look_only = cli_flag(arguments, "dry-run")});
}

static void
print_what(const char * exchange)
{
	if (exchange == NULL)
		fputs("everything", stdout);
	else
		printf("exchange \"%s\"", exchange);
}

/* What is paused now, a line each; returns an exit code. */
static int
print_list(struct pause_command * command)
{
	const struct oneshot * list;
	struct error e;

	if ((list = pause_list(command, &e)) == NULL)
		return (cli_fail(&e));
	for (size_t n = 0; n < oneshot_rows(list); n++) {
		fputs("paused: ", stdout);
		print_what(oneshot_value(list, n, 0));
		printf(" since %s by %s", oneshot_value(list, n, 1), oneshot_value(list, n, 2));
		if (oneshot_value(list, n, 3) != NULL)
			printf(": %s", oneshot_value(list, n, 3));
		putchar('\n');
	}
	if (oneshot_rows(list) == 0)
		puts("nothing is paused");
	return (EXIT_WELL);
}

static int
check_exchange(const struct cli_arguments * arguments)
{
	const char * exchange = cli_value(arguments, "exchange");

	if (exchange != NULL && strlen(exchange) > EXCHANGE_MAX)
		return (cli_usage(arguments->command,
		    "--exchange: no exchange has a name of more than %d bytes", EXCHANGE_MAX));
	return (EXIT_WELL);
}

static int
begin(struct pause_command * command, const struct cli_arguments * arguments)
{
	struct error e;
	int code;

	switch (pause_begin(command, cli_value(arguments, "exchange"),
	    cli_value(arguments, "reason"), &e)) {
	case -1:
		return (cli_fail(&e));
	case 0:
		fputs("outbox-relay: it is paused already\n", stderr);
		return (print_list(command));
	default:
		code = print_list(command);
		fputs("outbox-relay: a running relay learns of it within a second, and still "
		      "records what is in flight\n",
		    stderr);
		return (code);
	}
}

/* What is paused, or was asked for, by that name; NULL is everything. */
static bool
same(const char * one, const char * other)
{
	return (one == NULL || other == NULL ? one == other : strcmp(one, other) == 0);
}

/* "would be ...: exchange "events", 12 pending and 3 delayed messages"; returns an exit code. */
static int
print_reach(struct pending * pending, const char * what, const char * exchange)
{
	const struct pending_filter filter = {.exchange = exchange};
	struct pending_state state;
	struct error e;

	pending_aim(pending, &filter);
	if (pending_look(pending, &state, &e))
		return (cli_fail(&e));
	printf("would be %s: ", what);
	print_what(exchange);
	printf(", %" PRId64 " pending and %" PRId64 " delayed messages\n", state.pending,
	    state.delayed);
	return (EXIT_WELL);
}

static int
foresee_pause(const struct oneshot * list, struct pending * pending,
    const struct cli_arguments * arguments)
{
	const char * exchange = cli_value(arguments, "exchange");
	size_t exchanges = 0;
	struct error e;

	for (size_t n = 0; n < oneshot_rows(list); n++) {
		if (same(oneshot_value(list, n, 0), exchange)) {
			fputs("outbox-relay: it is paused already\n", stderr);
			return (EXIT_WELL);
		}
		exchanges += oneshot_value(list, n, 0) != NULL;
	}
	if (exchange == NULL || exchanges < PAUSES_MAX)
		return (print_reach(pending, "paused", exchange));
	error_set(&e, EXIT_FOUND, "%d exchanges are paused already", PAUSES_MAX);
	error_remedy(&e, "pause everything instead");
	return (cli_fail(&e));
}

static int
foresee_resume(const struct oneshot * list, struct pending * pending,
    const struct cli_arguments * arguments)
{
	const char * exchange = cli_value(arguments, "exchange");
	bool any = false;
	int code = EXIT_WELL;

	for (size_t n = 0; n < oneshot_rows(list) && code == EXIT_WELL; n++) {
		const char * paused = oneshot_value(list, n, 0);

		if (!cli_flag(arguments, "all") && !same(paused, exchange))
			continue;
		any = true;
		code = print_reach(pending, "resumed", paused);
	}
	if (!any)
		fputs("outbox-relay: it was not paused\n", stderr);
	return (code);
}

/* A dry run. */
static int
foresee(struct pause_command * command, const struct cli_arguments * arguments,
    const struct config * config,
    int (*tell)(const struct oneshot *, struct pending *, const struct cli_arguments *))
{
	const struct oneshot_options options = connection(arguments, config);
	const struct pending_filter any = {.exchange = NULL};
	const struct oneshot * list;
	struct pending * pending;
	struct error e;
	int code;

	if ((list = pause_list(command, &e)) == NULL ||
	    (pending = pending_open(&options, &any, &e)) == NULL)
		return (cli_fail(&e));
	code = tell(list, pending, arguments);
	pending_close(pending);
	return (code);
}

static int
run_pause(const struct cli_arguments * arguments, const struct config * config)
{
	const struct oneshot_options options = connection(arguments, config);
	struct pause_command * command;
	struct error e;
	int code;

	if ((code = check_exchange(arguments)) != EXIT_WELL)
		return (code);
	if ((command = pause_open(&options, &e)) == NULL)
		return (cli_fail(&e));
	code = options.look_only ? foresee(command, arguments, config, foresee_pause) :
				   begin(command, arguments);
	pause_close(command);
	return (code);
}

/* All that is paused; -1 with ${e}, else how many it was. */
static int
resume_all(struct pause_command * command, struct error * e)
{
	const struct oneshot * list;
	char exchange[EXCHANGE_MAX + 1];
	int count = 0, ended;

	while ((list = pause_list(command, e)) != NULL) {
		const char * name;

		if (oneshot_rows(list) == 0)
			return (count);
		if ((name = oneshot_value(list, 0, 0)) != NULL)
			snprintf(exchange, sizeof(exchange), "%s", name);
		if ((ended = pause_end(command, name == NULL ? NULL : exchange, e)) == -1)
			return (-1);
		count += ended;
	}
	return (-1);
}

static int
end(struct pause_command * command, const struct cli_arguments * arguments)
{
	struct error e;
	int ended = cli_flag(arguments, "all") ?
	    resume_all(command, &e) :
	    pause_end(command, cli_value(arguments, "exchange"), &e);

	if (ended == -1)
		return (cli_fail(&e));
	if (ended == 0)
		fputs("outbox-relay: it was not paused\n", stderr);
	return (print_list(command));
}

static int
run_resume(const struct cli_arguments * arguments, const struct config * config)
{
	const struct oneshot_options options = connection(arguments, config);
	struct pause_command * command;
	struct error e;
	int code;

	if ((code = check_exchange(arguments)) != EXIT_WELL)
		return (code);
	if (cli_value(arguments, "exchange") != NULL && cli_flag(arguments, "all"))
		return (cli_usage(arguments->command, "either --exchange or --all, not both"));
	if ((command = pause_open(&options, &e)) == NULL)
		return (cli_fail(&e));
	code = options.look_only ? foresee(command, arguments, config, foresee_resume) :
				   end(command, arguments);
	pause_close(command);
	return (code);
}

static const struct cli_option pause_options[] = {
    {"exchange", "NAME", "messages to this exchange alone (\"\": the default exchange)"},
    {"reason", "TEXT", "why, for whoever looks at the status"},
    {"dry-run", NULL, "say what would wait"},
    {NULL, NULL, NULL},
};

const struct cli_command cli_pause = {
    .name = "pause",
    .summary = "have everything wait, or what goes to an exchange, until resume",
    .description =
	"Kept in the database, over restarts. Applications go on writing. What is in flight is\n"
	"still confirmed and recorded. Messages to a paused exchange wait among the delayed ones,\n"
	"without an attempt counted; what follows one of them with the same ordering key waits\n"
	"behind it, whatever its exchange. All other messages go on.",
    .example = "outbox-relay pause --exchange events --reason \"consumers are being mended\"",
    .options = pause_options,
    .run = run_pause,
};

static const struct cli_option resume_options[] = {
    {"exchange", "NAME", "the pause of this exchange, instead of that of everything"},
    {"all", NULL, "every pause there is"},
    {"dry-run", NULL, "say what would go on"},
    {NULL, NULL, NULL},
};

const struct cli_command cli_resume = {
    .name = "resume",
    .summary = "end a pause",
    .description =
	"Without options it ends the pause of everything; exchanges that were paused themselves\n"
	"stay so. What waited goes first, in the order of each key.",
    .example = "outbox-relay resume --exchange events",
    .options = resume_options,
    .run = run_resume,
};
