/*
 * What is printed comes from the database alone, so it is the same from
 * anywhere, whether or not a relay runs.
 *
 * Colours and a screen of its own are for a terminal alone; a pipe gets the same
 * lines as without.
 */
#include "cli/status.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "admin/holding.h"
#include "base/clock.h"
#include "cli/table.h"
#include "cli/work.h"
#include "config/value.h"

#define HELD_MAX 20
#define INTERVAL_DEFAULT CLOCK_S(1)

#define BOLD "\033[1m"
#define WORSE "\033[31m"
#define NOTE "\033[33m"
#define PLAIN "\033[0m"
#define FROM_THE_TOP "\033[H\033[J"

/* One that answers the question, over and over with --watch. */
struct view {
	const struct cli_arguments * arguments;
	struct status * status;
	struct holding * holding; /* with --held, instead */
	bool colour;
};

void
status_print(const struct status_line * lines, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		printf("%-28s", lines[i].name);
		table_print_text(lines[i].value);
	}
}

/* What a person should look at; NULL: nothing there. */
static const char *
colour_of(const struct status_line * line)
{
	const char * value = line->value;
	bool some = value != NULL && strcmp(value, "0") != 0;

	if (strcmp(line->name, "leader_pid") == 0)
		return (value == NULL ? WORSE : NULL);
	if (strcmp(line->name, "dead") == 0)
		return (some ? WORSE : NULL);
	if (strcmp(line->name, "delayed") == 0)
		return (some ? NOTE : NULL);
	if (strcmp(line->name, "paused") == 0)
		return (value != NULL && strcmp(value, "yes") == 0 ? WORSE : NULL);
	if (strcmp(line->name, "paused_exchanges") == 0)
		return (value != NULL && strcmp(value, "none") != 0 ? NOTE : NULL);
	if (strcmp(line->name, "wake_up_trigger") == 0)
		return (value != NULL && strcmp(value, "no") == 0 ? NOTE : NULL);
	return (NULL);
}

static void
print_lines(const struct view * view, const struct status_line * lines, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const char * colour = view->colour ? colour_of(&lines[i]) : NULL;

		if (colour != NULL)
			fputs(colour, stdout);
		status_print(&lines[i], 1);
		if (colour != NULL)
			fputs(PLAIN, stdout);
	}
}

static int
show_overview(const struct view * view, struct error * e)
{
	struct status_line lines[STATUS_LINES_MAX];
	const char * json;
	size_t count = status_overview(view->status, lines, &json, e);

	if (count == 0)
		return (-1);
	if (cli_flag(view->arguments, "json"))
		puts(json);
	else
		print_lines(view, lines, count);
	return (0);
}

static int
show_held(const struct view * view, struct error * e)
{
	const struct oneshot * list;
	size_t rows, json;

	if ((list = holding_list(view->holding, HELD_MAX + 1, e)) == NULL)
		return (-1);
	rows = oneshot_rows(list) > HELD_MAX ? HELD_MAX : oneshot_rows(list);
	json = oneshot_columns(list) - 1;
	if (cli_flag(view->arguments, "json")) {
		for (size_t n = 0; n < rows; n++)
			puts(oneshot_value(list, n, json));
	} else if (rows > 0)
		table_print(list, rows, json);
	if (oneshot_rows(list) > rows)
		fprintf(stderr, "outbox-relay: the %d keys for which most wait; there are more\n",
		    HELD_MAX);
	else if (rows == 0)
		fputs("outbox-relay: no key is held\n", stderr);
	return (0);
}

static int
show(const struct view * view, struct error * e)
{
	return (view->holding != NULL ? show_held(view, e) : show_overview(view, e));
}

/* Until somebody has seen enough. */
static int
watch(const struct view * view, clock_ns interval, struct error * e)
{
	bool screen = isatty(STDOUT_FILENO) && !cli_flag(view->arguments, "json");
	const struct timespec pause = {.tv_sec = interval / CLOCK_S(1),
	    .tv_nsec = interval % CLOCK_S(1)};

	work_begin();
	while (!work_interrupted()) {
		char now[32];
		time_t seconds = time(NULL);

		strftime(now, sizeof(now), "%F %T", localtime(&seconds));
		if (screen)
			printf(FROM_THE_TOP "%s%s%s\n\n", view->colour ? BOLD : "", now,
			    view->colour ? PLAIN : "");
		if (show(view, e))
			return (-1);
		if (!screen && !cli_flag(view->arguments, "json"))
			putchar('\n');
		if (fflush(stdout) != 0)
			return (error_set(e, EXIT_BUG, "cannot write the output: %s",
			    strerror(errno)));
		nanosleep(&pause, NULL);
	}
	return (0);
}

static int
read_interval(const struct cli_arguments * arguments, clock_ns * interval)
{
	const char * text = cli_value(arguments, "interval");

	*interval = INTERVAL_DEFAULT;
	if (text == NULL)
		return (EXIT_WELL);
	if (!cli_flag(arguments, "watch"))
		return (cli_usage(arguments->command, "--interval belongs to --watch"));
	if (value_duration(text, interval) != NULL || *interval < CLOCK_MS(100) ||
	    *interval > CLOCK_S(86400))
		return (cli_usage(arguments->command,
		    "--interval takes a duration from 100ms to 1d, not \"%.60s\"", text));
	return (EXIT_WELL);
}

static int
run(const struct cli_arguments * arguments, const struct config * config)
{
	const struct status_options options = {.dsn = config->postgres.dsn,
	    .password_file = config->postgres.password_file,
	    .schema = config->postgres.schema};
	const struct oneshot_options oneshot = {.dsn = options.dsn,
	    .password_file = options.password_file,
	    .schema = options.schema};
	const char * no_colour = getenv("NO_COLOR");
	struct view view = {.arguments = arguments,
	    .colour = isatty(STDOUT_FILENO) && (no_colour == NULL || no_colour[0] == '\0')};
	clock_ns interval;
	struct error e;
	int code, failed;

	if ((code = read_interval(arguments, &interval)) != EXIT_WELL)
		return (code);
	if (cli_flag(arguments, "held"))
		view.holding = holding_open(&oneshot, &e);
	else
		view.status = status_open(&options, &e);
	failed = view.holding == NULL && view.status == NULL;
	if (!failed)
		failed = cli_flag(arguments, "watch") ?
		    watch(&view, interval, &e) :
		    show(&view, &e);
	holding_close(view.holding);
	status_close(view.status);
	return (failed ? cli_fail(&e) : EXIT_WELL);
}

static const struct cli_option options[] = {
    {"held", NULL, "the ordering keys that are held, by what, and how many wait for each"},
    {"watch", NULL, "again and again, until Ctrl-C"},
    {"interval", "DURATION", "with --watch: so long apart (default 1s)"},
    {"json", NULL, "print one JSON object; --held: one a line"},
    {NULL, NULL, NULL},
};

const struct cli_command cli_status = {
    .name = "status",
    .summary = "backlog, position and leader, as the database knows them",
    .description =
	"pending, delayed and dead are exact up to 10,000 and estimates above (estimated is true).\n"
	"On a terminal what needs a look is coloured (NO_COLOR switches that off).",
    .example = "outbox-relay status --watch",
    .options = options,
    .run = run,
};
