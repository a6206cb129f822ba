/*
 * Payloads are shown only when asked for, and then as they are: bytes for a
 * pipe or a file, behind an empty line.
 */
#include "cli/message.h"

#include <stdio.h>
#include <string.h>

#include "admin/status.h"
#include "cli/status.h"

/* Rows that bear one message id: more are of no use to a person. */
#define SHOWN_MAX 20

static int
show_payload(struct status * status, int64_t id, struct error * e)
{
	struct bytes body;

	if (status_payload(status, id, &body, e))
		return (-1);
	putchar('\n');
	fwrite(body.data, 1, body.len, stdout);
	putchar('\n');
	return (0);
}

static int
show(struct status * status, const struct status_message * message, bool payload, struct error * e)
{
	struct status_line lines[STATUS_LINES_MAX];
	int64_t ids[SHOWN_MAX];
	int found;
	size_t count;

	if ((found = status_find(status, message, ids, SHOWN_MAX, e)) == -1)
		return (-1);
	if (found == 0) {
		error_set(e, EXIT_FOUND, "no message %s is kept", message->uuid);
		return (error_remedy(e,
		    "it was never written, its transaction rolled back, or it was sent "
		    "longer ago than the retention"));
	}
	for (int i = 0; i < found; i++) {
		if (i > 0)
			putchar('\n');
		if ((count = status_show(status, ids[i], lines, e)) == 0)
			return (-1);
		status_print(lines, count);
		if (payload && show_payload(status, ids[i], e))
			return (-1);
	}
	return (0);
}

static int
run(const struct cli_arguments * arguments, const struct config * config)
{
	const struct status_options options = {.dsn = config->postgres.dsn,
	    .password_file = config->postgres.password_file,
	    .schema = config->postgres.schema};
	struct status_message message;
	struct status * status;
	struct error e;
	int failed;

	if (strcmp(arguments->words[0], "show") != 0)
		return (cli_usage(arguments->command, "message show ID, not \"%s\"",
		    arguments->words[0]));
	if (!status_message_from(arguments->words[1], &message))
		return (cli_usage(arguments->command,
		    "a message is named by its message id (a UUID) or its "
		    "number, not \"%s\"",
		    arguments->words[1]));
	if ((status = status_open(&options, &e)) == NULL)
		return (cli_fail(&e));
	failed = show(status, &message, cli_flag(arguments, "payload"), &e);
	status_close(status);
	return (failed ? cli_fail(&e) : EXIT_WELL);
}

static const struct cli_option options[] = {
    {"payload", NULL, "print the body too"},
    {NULL, NULL, NULL},
};

const struct cli_command cli_message = {
    .name = "message",
    .words = "show ID",
    .words_min = 2,
    .words_max = 2,
    .summary = "where one message is, and why",
    .description =
	"ID is a message id (a UUID) or the number in the header x-outbox-id. A UUID version 7 is\n"
	"found by its time; any other is looked for in everything that is kept.",
    .example = "outbox-relay message show 0190f3a4-7c11-7d3e-9c55-1b2f6e0d4a77",
    .options = options,
    .run = run,
};
