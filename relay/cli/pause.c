/*
 * What is paused stands in the database, so it outlasts a restart of the relay and
 * holds for whichever relay leads.
 */
#include "cli/pause.h"

#include <stdio.h>
#include <string.h>

#include "admin/pause.h"

#define EXCHANGE_MAX 255

static struct pause_command *
open_command(const struct config * config, struct error * e)
{
	const struct oneshot_options options = {.dsn = config->postgres.dsn,
	    .password_file = config->postgres.password_file,
	    .schema = config->postgres.schema};

	return (pause_open(&options, e));
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
run_pause(const struct cli_arguments * arguments, const struct config * config)
{
	struct pause_command * command;
	struct error e;
	int code;

	if ((code = check_exchange(arguments)) != EXIT_WELL)
		return (code);
	if ((command = open_command(config, &e)) == NULL)
		return (cli_fail(&e));
	switch (pause_begin(command, cli_value(arguments, "exchange"),
	    cli_value(arguments, "reason"), &e)) {
	case -1:
		code = cli_fail(&e);
		break;
	case 0:
		fputs("outbox-relay: it is paused already\n", stderr);
		code = print_list(command);
		break;
	default:
		code = print_list(command);
		fputs("outbox-relay: a running relay learns of it within a second, and still\n"
		      "records what is in flight\n",
		    stderr);
	}
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
run_resume(const struct cli_arguments * arguments, const struct config * config)
{
	const char * exchange = cli_value(arguments, "exchange");
	struct pause_command * command;
	struct error e;
	int code, ended;

	if ((code = check_exchange(arguments)) != EXIT_WELL)
		return (code);
	if (exchange != NULL && cli_flag(arguments, "all"))
		return (cli_usage(arguments->command, "either --exchange or --all, not both"));
	if ((command = open_command(config, &e)) == NULL)
		return (cli_fail(&e));
	ended = cli_flag(arguments, "all") ?
	    resume_all(command, &e) :
	    pause_end(command, exchange, &e);
	if (ended == -1)
		code = cli_fail(&e);
	else {
		if (ended == 0)
			fputs("outbox-relay: it was not paused\n", stderr);
		code = print_list(command);
	}
	pause_close(command);
	return (code);
}

static const struct cli_option pause_options[] = {
    {"exchange", "NAME", "messages to this exchange alone (\"\": the default exchange)"},
    {"reason", "TEXT", "why, for whoever looks at the status"},
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
