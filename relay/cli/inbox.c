/*
 * For consumers in languages that have no library of ours to purge for them:
 * by hand, by a systemd timer or a CronJob.
 */
#include "cli/inbox.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "admin/inbox.h"
#include "admin/migrate.h"
#include "cli/table.h"
#include "cli/work.h"
#include "config/value.h"

/* Bounds a transaction; no claim waits for it, but under SERIALIZABLE. */
#define STEP 10000

static int
status(struct inbox * inbox, const struct cli_arguments * arguments)
{
	const struct oneshot * answer;
	struct error e;
	size_t json;

	if ((answer = inbox_status(inbox, &e)) == NULL)
		return (cli_fail(&e));
	json = oneshot_columns(answer) - 1;
	if (cli_flag(arguments, "json")) {
		for (size_t i = 0; i < oneshot_rows(answer); i++)
			puts(oneshot_value(answer, i, json));
	} else if (oneshot_rows(answer) > 0)
		table_print(answer, oneshot_rows(answer), json);
	if (oneshot_rows(answer) == 0)
		fputs("outbox-relay: no consumer has claimed anything\n", stderr);
	return (EXIT_WELL);
}

/*
 * Failures are counted before and after, since a step tells of claims alone:
 * what somebody holds stays, and must not keep this going for ever.
 */
static int
purge(struct inbox * inbox, const struct cli_arguments * arguments)
{
	struct inbox_old before, left;
	int64_t purged, done = 0;
	struct error e;

	if (inbox_count(inbox, &left, &e))
		return (cli_fail(&e));
	if (cli_flag(arguments, "dry-run")) {
		printf("would be purged: %" PRId64 " claims and %" PRId64 " records of failures\n",
		    left.claims, left.attempts);
		return (EXIT_WELL);
	}
	work_begin();
	do {
		int64_t total = left.claims;

		before = left;
		do {
			if ((purged = inbox_purge(inbox, STEP, &e)) == -1)
				return (cli_fail(&e));
			done += purged;
			work_progress("purged", done, total > done ? total : done);
		} while (purged == STEP && !work_interrupted());
		if (inbox_count(inbox, &left, &e))
			return (cli_fail(&e));
	} while (left.attempts > 0 && left.attempts < before.attempts && !work_interrupted());
	printf("purged: %" PRId64 " claims\n", done);
	work_end();
	return (EXIT_WELL);
}

static int
run(const struct cli_arguments * arguments, const struct config * config)
{
	const char * schema = cli_value(arguments, "schema");
	const char * age = cli_value(arguments, "older-than");
	bool purging = strcmp(arguments->words[0], "purge") == 0;
	struct oneshot_options options = {.dsn = config->postgres.dsn,
	    .password_file = config->postgres.password_file,
	    .schema = schema == NULL ? "inbox" : schema,
	    .look_only = cli_flag(arguments, "dry-run")};
	struct inbox * inbox;
	clock_ns older_than = 0;
	struct error e;
	int code;

	if (!purging && strcmp(arguments->words[0], "status") != 0)
		return (cli_usage(arguments->command, "inbox status or purge, not \"%.60s\"",
		    arguments->words[0]));
	if (!migrate_schema_valid(options.schema))
		return (cli_usage(arguments->command,
		    "--schema takes small letters, digits and _, at most 40, not \"%.60s\"",
		    schema));
	if (purging != (age != NULL) || (age != NULL && value_duration(age, &older_than) != NULL))
		return (cli_usage(arguments->command,
		    purging ? "purge: write --older-than and an age like 30d" :
			      "--older-than belongs to purge"));
	if (purging ? cli_flag(arguments, "json") : cli_flag(arguments, "dry-run"))
		return (cli_usage(arguments->command,
		    "--json belongs to status, --dry-run to purge"));
	if ((inbox = inbox_open(&options, older_than / CLOCK_MS(1), &e)) == NULL)
		return (cli_fail(&e));
	code = purging ? purge(inbox, arguments) : status(inbox, arguments);
	inbox_close(inbox);
	return (code);
}

static const struct cli_option options[] = {
    {"schema", "NAME", "the inbox's schema (default inbox)"},
    {"older-than", "AGE", "purge: claims older than this, like 30d"},
    {"dry-run", NULL, "purge: say how many it would be"},
    {"json", NULL, "status: a JSON object a line"},
    {NULL, NULL, NULL},
};

const struct cli_command cli_inbox = {
    .name = "inbox",
    .words = "status|purge",
    .words_min = 1,
    .words_max = 1,
    .summary = "what consumers have claimed: see it, remove what is old",
    .description =
	"Connects as postgres.dsn says, which is the consumer's database: set\n"
	"OUTBOX_RELAY_POSTGRES_DSN for this command. Keep claims for longer than a message can come\n"
	"again: the replay window (the outbox's retention, twice) plus the longest stay in a dead\n"
	"letter queue. purge works in steps of 10,000, each a transaction, until nothing is left.",
    .example = "outbox-relay inbox purge --older-than 30d --dry-run",
    .options = options,
    .run = run,
};
