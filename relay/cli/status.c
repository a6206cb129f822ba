/*
 * What is printed comes from the database alone, so it is the same from
 * anywhere, whether or not a relay runs.
 */
#include "cli/status.h"

#include <stdio.h>

#include "cli/table.h"

void
status_print(const struct status_line * lines, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		printf("%-28s", lines[i].name);
		table_print_text(lines[i].value);
	}
}

static int
run(const struct cli_arguments * arguments, const struct config * config)
{
	const struct status_options options = {.dsn = config->postgres.dsn,
	    .password_file = config->postgres.password_file,
	    .schema = config->postgres.schema};
	struct status_line lines[STATUS_LINES_MAX];
	struct status * status;
	const char * json;
	struct error e;
	size_t count;

	if ((status = status_open(&options, &e)) == NULL)
		return (cli_fail(&e));
	count = status_overview(status, lines, &json, &e);
	if (count > 0 && cli_flag(arguments, "json"))
		puts(json);
	else
		status_print(lines, count);
	status_close(status);
	return (count > 0 ? EXIT_WELL : cli_fail(&e));
}

static const struct cli_option options[] = {
    {"json", NULL, "print one JSON object"},
    {NULL, NULL, NULL},
};

const struct cli_command cli_status = {
    .name = "status",
    .summary = "backlog, position and leader, as the database knows them",
    .description =
	"pending, delayed and dead are exact up to 10,000 and estimates above (estimated is true).",
    .example = "outbox-relay status --json",
    .options = options,
    .run = run,
};
