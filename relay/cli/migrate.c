/*
 * Each migration is its own transaction, so what was applied before a failure
 * stays applied and the next "up" goes on from there.  "down" alone takes back
 * one: more has to be asked for by --to.
 */
#include "cli/migrate.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/migrate.h"
#include "cli/migrate_print.h"
#include "cli/migrate_rebase.h"

#define FILES_MAX 1000
#define WHAT_MAX 200

struct request {
	struct migrate_options options;
	bool to_given;
	unsigned int to;
	enum migrate_format format;
	const char * directory; /* NULL: stdout */
};

/* Apply ${file} or take it back, or say that this would be done.  0, or -1 with ${e}. */
static int
step(struct migrate * migrate, const struct request * request, const struct migration_file * file,
    bool is_up, struct error * e)
{
	char lost[WHAT_MAX] = "";

	if (!request->options.look_only) {
		if (migrate_apply(migrate, file, is_up, e))
			return (-1);
		printf("%04u_%s %s\n", file->version, file->name, is_up ? "applied" : "taken back");
		return (0);
	}
	if (migrate_may(migrate, e) ||
	    (!is_up && migrate_loses(migrate, file, lost, sizeof(lost), e)))
		return (-1);
	printf("%04u_%s would be %s schema %s of database %s%s%s\n", file->version, file->name,
	    is_up ? "applied to" : "taken back from", request->options.schema,
	    migrate_database(migrate), lost[0] == '\0' ? "" : ", throwing away ", lost);
	return (0);
}

static int
up(struct migrate * migrate, const struct request * request, struct error * e)
{
	const struct migration_file * file = NULL;
	struct migrate_state state;
	unsigned int done = 0;

	if (migrate_check_version(migrate, e))
		return (-1);
	while ((file = migrate_next(request->options.line, file)) != NULL) {
		if (file->version > request->to)
			break;
		if (migrate_look(migrate, file, &state, e))
			return (-1);
		if (state.applied)
			continue;
		if (step(migrate, request, file, true, e))
			return (-1);
		done++;
	}
	if (done == 0)
		printf("schema %s: nothing to apply\n", request->options.schema);
	return (0);
}

static int
down(struct migrate * migrate, const struct request * request, struct error * e)
{
	const struct migration_file * files[FILES_MAX];
	const struct migration_file * file = NULL;
	struct migrate_state state;
	unsigned int newest, done = 0;
	size_t count = 0;

	switch (migrate_newest_unknown(migrate, &newest, e)) {
	case 0:
		break;
	case 1:
		error_set(e, EXIT_CONFIGURATION,
		    "migration %u of schema %s is newer than this program", newest,
		    request->options.schema);
		return (error_remedy(e,
		    "take it back with the version of outbox-relay that has it"));
	default:
		return (-1);
	}
	while (count < FILES_MAX && (file = migrate_next(request->options.line, file)) != NULL)
		files[count++] = file;
	while (count-- > 0 &&
	    (request->to_given ? files[count]->version > request->to : done == 0)) {
		if (migrate_look(migrate, files[count], &state, e))
			return (-1);
		if (!state.applied)
			continue;
		if (step(migrate, request, files[count], false, e))
			return (-1);
		done++;
	}
	if (done == 0)
		printf("schema %s: nothing to take back\n", request->options.schema);
	return (0);
}

static int
status(struct migrate * migrate, const struct request * request, struct error * e)
{
	const struct migration_file * file = NULL;
	struct migrate_state state;
	unsigned int newest;
	int unknown;

	while ((file = migrate_next(request->options.line, file)) != NULL) {
		if (migrate_look(migrate, file, &state, e))
			return (-1);
		printf("%04u_%-20s %s", file->version, file->name,
		    state.applied ? "applied" : "not applied");
		if (state.applied_at[0] != '\0')
			printf("  %s by %s", state.applied_at, state.applied_by);
		putchar('\n');
	}
	if ((unknown = migrate_newest_unknown(migrate, &newest, e)) == -1)
		return (-1);
	if (unknown)
		printf("%04u_%-20s applied  newer than this program\n", newest, "?");
	return (0);
}

static int
read_to(struct request * request, const struct cli_arguments * arguments, const char * to)
{
	const struct migration_file * file = NULL;
	unsigned long number;
	unsigned int newest = 0;
	char * end;

	while ((file = migrate_next(request->options.line, file)) != NULL)
		newest = file->version;
	errno = 0;
	number = strtoul(to, &end, 10);
	if (errno != 0 || *end != '\0' || to[0] < '0' || to[0] > '9' || number > newest)
		return (cli_usage(arguments->command,
		    "--to takes the number of a migration, at most %u in line %s, not \"%s\"",
		    newest, request->options.line, to));
	request->to_given = true;
	request->to = (unsigned int)number;
	return (EXIT_WELL);
}

static void
tell_waiting(const char * schema)
{
	fprintf(stderr,
	    "outbox-relay: somebody else migrates schema %s: waiting, at most a minute\n", schema);
}

static int
read_request(struct request * request, const struct cli_arguments * arguments,
    const struct config * config)
{
	const char * line = cli_value(arguments, "line");
	const char * schema = cli_value(arguments, "schema");
	const char * to = cli_value(arguments, "to");
	int code;

	*request = (struct request){.to = UINT_MAX, .directory = cli_value(arguments, "output")};
	request->options.look_only = cli_flag(arguments, "dry-run");
	request->options.waiting = tell_waiting;
	request->options.dsn = config->postgres.dsn;
	request->options.password_file = config->postgres.password_file;
	request->options.line = line == NULL ? "outbox" : line;
	if (strcmp(request->options.line, "outbox") != 0 &&
	    strcmp(request->options.line, "inbox") != 0)
		return (cli_usage(arguments->command, "--line is outbox or inbox, not \"%s\"",
		    line));
	if (migrate_next(request->options.line, NULL) == NULL)
		return (cli_usage(arguments->command, "this program has no migrations of line %s",
		    request->options.line));
	if (schema == NULL)
		schema = strcmp(request->options.line, "inbox") == 0 ?
		    "inbox" :
		    config->postgres.schema;
	if (!migrate_schema_valid(schema))
		return (cli_usage(arguments->command,
		    "--schema takes small letters, digits and _, "
		    "at most 40, not \"%s\"",
		    schema));
	request->options.schema = schema;
	if (to != NULL && (code = read_to(request, arguments, to)) != EXIT_WELL)
		return (code);
	if (!migrate_format_from(cli_value(arguments, "format"), &request->format))
		return (cli_usage(arguments->command,
		    "--format is plain, flyway, dbmate or goose, "
		    "not \"%s\"",
		    cli_value(arguments, "format")));
	return (EXIT_WELL);
}

static int
run_rebase(const struct cli_arguments * arguments, const struct request * request)
{
	const struct migrate_rebase rebase = {
	    .options = {.dsn = request->options.dsn,
		.password_file = request->options.password_file,
		.schema = request->options.schema,
		.look_only = request->options.look_only},
	    .discard = cli_flag(arguments, "discard-pending"),
	    .if_needed = cli_flag(arguments, "if-needed")};

	if (strcmp(request->options.line, "outbox") != 0)
		return (cli_usage(arguments->command, "only the line outbox has a position"));
	return (migrate_rebase(&rebase));
}

static int
run(const struct cli_arguments * arguments, const struct config * config)
{
	static const struct {
		const char * name;
		int (*run)(struct migrate *, const struct request *, struct error *);
	} verbs[] = {{"up", up}, {"down", down}, {"status", status}};
	struct request request;
	struct migrate * migrate;
	struct error e;
	int usage, failed;

	if ((usage = read_request(&request, arguments, config)) != EXIT_WELL)
		return (usage);
	if (strcmp(arguments->words[0], "rebase") == 0)
		return (run_rebase(arguments, &request));
	if (cli_flag(arguments, "discard-pending") || cli_flag(arguments, "if-needed"))
		return (cli_usage(arguments->command,
		    "--discard-pending and --if-needed belong to rebase"));
	if (request.options.look_only && strcmp(arguments->words[0], "up") != 0 &&
	    strcmp(arguments->words[0], "down") != 0)
		return (cli_usage(arguments->command, "--dry-run belongs to up, down and rebase"));
	if (strcmp(arguments->words[0], "print") == 0) {
		if (request.directory == NULL && request.format != MIGRATE_PLAIN)
			return (cli_usage(arguments->command,
			    "--format %s makes several files: "
			    "add --output DIR",
			    cli_value(arguments, "format")));
		failed = migrate_print(request.options.line, request.options.schema, request.to,
		    request.format, request.directory, &e);
		return (failed ? cli_fail(&e) : EXIT_WELL);
	}
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (strcmp(arguments->words[0], verbs[i].name) != 0)
			continue;
		if ((migrate = migrate_open(&request.options, &e)) == NULL)
			return (cli_fail(&e));
		failed = verbs[i].run(migrate, &request, &e);
		migrate_close(migrate);
		return (failed ? cli_fail(&e) : EXIT_WELL);
	}
	return (cli_usage(arguments->command,
	    "migrate up, down, status, print or rebase, not \"%s\"", arguments->words[0]));
}

static const struct cli_option options[] = {
    {"line", "LINE", "outbox (default) or inbox"},
    {"schema", "NAME", "the schema's name (default: postgres.schema; inbox for that line)"},
    {"to", "N", "up and print: no further than migration N; down: back to N, 0 for none"},
    {"format", "FORMAT", "print: plain (default), flyway, dbmate or goose"},
    {"output", "DIR", "print: write files into DIR"},
    {"discard-pending", NULL, "rebase: what is pending or delayed becomes dead instead"},
    {"if-needed", NULL, "rebase: exit 0 where there is nothing to rebase, not 1"},
    {"dry-run", NULL, "up, down and rebase: say what would be done"},
    {NULL, NULL, NULL},
};

const struct cli_command cli_migrate = {
    .name = "migrate",
    .words = "up|down|status|print|rebase",
    .words_min = 1,
    .words_max = 1,
    .summary = "apply, take back, list or print the migrations; rebase a restored database",
    .description =
	"Connects as postgres.dsn says; the role needs to own the schema, or be allowed to create\n"
	"it: set OUTBOX_RELAY_POSTGRES_DSN for this command. down takes back the newest one unless\n"
	"--to is given, and refuses while messages wait (PGOPTIONS=\"-c outbox_relay.force_down=on\"\n"
	"throws them away). print needs no database.\n"
	"\n"
	"rebase gives a restored or copied database a position of its own. What was pending,\n"
	"delayed or dead when the copy was made stays so, under the same message ids; what was\n"
	"written since is pending. Stop the relays first; writers wait meanwhile.",
    .example = "outbox-relay migrate print --format flyway --output db/migrations",
    .options = options,
    .run = run,
};
