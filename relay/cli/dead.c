/*
 * What changes something wants to be told which: ids, a filter, or --all.  What
 * is named by id is taken whether or not it was discarded before.
 */
#include "cli/dead.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "admin/dead.h"
#include "admin/status.h"
#include "cli/table.h"
#include "cli/work.h"
#include "config/value.h"

/* A transaction moves so many: short enough for Ctrl-C and for those who wait for its locks. */
#define STEP 1000
#define LIST_DEFAULT 20
#define LIST_MAX 100000
#define IDS_MAX 1024

struct request {
	const struct cli_arguments * arguments;
	struct dead_filter filter;
	unsigned int limit;
	size_t ids;
	bool filtered;
	char numbers[IDS_MAX];
	char uuids[IDS_MAX];
};

static int
read_ids(struct request * request)
{
	const struct cli_arguments * arguments = request->arguments;
	struct status_message id;

	strcpy(request->numbers, "{");
	strcpy(request->uuids, "{");
	for (size_t i = 1; i < arguments->word_count; i++) {
		char * list = request->numbers;
		size_t length;

		if (!status_message_from(arguments->words[i], &id))
			return (cli_usage(arguments->command,
			    "a message is named by its message id (a UUID) or its number, not \"%.60s\"",
			    arguments->words[i]));
		if (id.by_uuid)
			list = request->uuids;
		length = strlen(list);
		if (id.by_uuid)
			snprintf(list + length, IDS_MAX - length, "%s%s", length > 1 ? "," : "",
			    id.uuid);
		else
			snprintf(list + length, IDS_MAX - length, "%s%" PRId64,
			    length > 1 ? "," : "", id.id);
		request->ids++;
	}
	strcat(request->numbers, "}");
	strcat(request->uuids, "}");
	if (request->numbers[1] != '}')
		request->filter.ids = request->numbers;
	if (request->uuids[1] != '}')
		request->filter.message_ids = request->uuids;
	request->filter.either = request->ids > 0;
	return (EXIT_WELL);
}

static int
read_request(struct request * request, const struct cli_arguments * arguments)
{
	const char * age = cli_value(arguments, "older-than");
	const char * limit = cli_value(arguments, "limit");
	int64_t number;
	clock_ns older_than = 0;

	*request = (struct request){.arguments = arguments, .limit = LIST_DEFAULT};
	request->filter.exchange = cli_value(arguments, "exchange");
	request->filter.routing_key = cli_value(arguments, "routing-key");
	request->filter.reason = cli_value(arguments, "reason");
	request->filter.discarded = cli_flag(arguments, "discarded");
	if (age != NULL && (value_duration(age, &older_than) != NULL || older_than < 0))
		return (cli_usage(arguments->command,
		    "--older-than takes a duration like 90m or 2d, not \"%.60s\"", age));
	request->filter.older_than_ms = older_than / CLOCK_MS(1);
	if (limit != NULL) {
		if (value_integer(limit, &number) != NULL || number < 1 || number > LIST_MAX)
			return (cli_usage(arguments->command,
			    "--limit takes a number from 1 to %d, not \"%.60s\"", LIST_MAX, limit));
		request->limit = (unsigned int)number;
	}
	request->filtered = request->filter.exchange != NULL ||
	    request->filter.routing_key != NULL || request->filter.reason != NULL || age != NULL ||
	    request->filter.discarded;
	return (read_ids(request));
}

static int
none_found(const struct request * request)
{
	struct error e;

	error_set(&e, EXIT_FOUND,
	    request->ids > 0 ? "no such dead letter" : "no dead letter matches");
	error_remedy(&e,
	    request->filter.discarded ?
		"outbox-relay dead list --discarded shows those that were discarded" :
		"outbox-relay dead list shows them; outbox-relay message show ID tells where a "
		"message is");
	return (cli_fail(&e));
}

static int
list(struct dead * dead, const struct request * request)
{
	const struct oneshot * answer;
	struct error e;
	size_t rows;

	/* One more tells whether there are more. */
	if ((answer = dead_list(dead, request->limit + 1, &e)) == NULL)
		return (cli_fail(&e));
	rows = oneshot_rows(answer);
	if (rows > request->limit)
		rows = request->limit;
	if (cli_flag(request->arguments, "json")) {
		for (size_t i = 0; i < rows; i++)
			puts(oneshot_value(answer, i, oneshot_columns(answer) - 1));
	} else if (rows > 0)
		table_print(answer, rows, oneshot_columns(answer) - 1);
	if (oneshot_rows(answer) > rows)
		fprintf(stderr, "outbox-relay: the newest %zu; there are more: --limit N\n", rows);
	else if (rows == 0)
		fprintf(stderr, "outbox-relay: no dead letter%s\n",
		    request->filtered ? " matches" : "");
	return (EXIT_WELL);
}

static void
print_history(const char * history)
{
	for (const char * line = history; line != NULL; line = strchr(line, '\n')) {
		if (*line == '\n')
			line++;
		printf("%-28s", line == history ? "history" : "");
		table_print_line(line);
	}
}

static int
show(struct dead * dead, const struct request * request)
{
	const struct oneshot * answer;
	struct error e;

	if ((answer = dead_show(dead, request->limit, &e)) == NULL)
		return (cli_fail(&e));
	if (oneshot_rows(answer) == 0)
		return (none_found(request));
	for (size_t i = 0; i < oneshot_rows(answer); i++) {
		size_t last = oneshot_columns(answer) - 1;

		if (i > 0)
			putchar('\n');
		table_print_fields(answer, i, last);
		print_history(oneshot_value(answer, i, last));
	}
	return (EXIT_WELL);
}

static int
change(struct dead * dead, const struct request * request, const char * done_word,
    int64_t (*step)(struct dead *, unsigned int, struct error *))
{
	int64_t total, count, done = 0;
	struct error e;

	if ((total = dead_count(dead, &e)) == -1)
		return (cli_fail(&e));
	if (total == 0)
		return (none_found(request));
	if (cli_flag(request->arguments, "dry-run")) {
		printf("would be %s: %" PRId64 " dead letters\n", done_word, total);
		return (EXIT_WELL);
	}
	work_begin();
	while (!work_interrupted() && (count = step(dead, STEP, &e)) != 0) {
		if (count == -1) {
			fprintf(stderr,
			    "outbox-relay: %s %" PRId64 " of %" PRId64
			    ", then this happened; repeating the command goes on\n",
			    done_word, done, total);
			return (cli_fail(&e));
		}
		done += count;
		work_progress(done_word, done, total);
	}
	printf("%s: %" PRId64 " dead letters\n", done_word, done);
	if (work_interrupted() && done < total)
		fputs("outbox-relay: interrupted; repeating the command goes on\n", stderr);
	work_end();
	return (EXIT_WELL);
}

static int
retry(struct dead * dead, const struct request * request)
{
	return (change(dead, request, "retried", dead_retry));
}

static int
discard(struct dead * dead, const struct request * request)
{
	return (change(dead, request, "discarded", dead_discard));
}

static const struct verb {
	const char * name;
	bool changes;
	bool by_id;
	int (*run)(struct dead *, const struct request *);
} verbs[] = {{"list", false, false, list}, {"show", false, true, show},
    {"retry", true, false, retry}, {"discard", true, false, discard}};

static const struct verb *
find_verb(const char * name)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (strcmp(verbs[i].name, name) == 0)
			return (&verbs[i]);
	}
	return (NULL);
}

/* What would be passed over in silence, or would touch more than was meant. */
static int
check_request(const struct verb * verb, const struct request * request)
{
	const struct cli_arguments * arguments = request->arguments;
	bool all = cli_flag(arguments, "all");

	if (!verb->changes && (all || cli_flag(arguments, "dry-run")))
		return (cli_usage(arguments->command,
		    "--all and --dry-run belong to retry and discard"));
	if (strcmp(verb->name, "list") != 0 &&
	    (cli_flag(arguments, "json") || cli_value(arguments, "limit") != NULL))
		return (cli_usage(arguments->command, "--json and --limit belong to list"));
	if (request->ids > 0 && (request->filtered || all))
		return (cli_usage(arguments->command, "either IDs or a filter, not both"));
	if (verb->by_id && request->ids == 0)
		return (cli_usage(arguments->command, "%s: write its ID", verb->name));
	if (strcmp(verb->name, "list") == 0 && request->ids > 0)
		return (cli_usage(arguments->command, "list takes no ID: dead show ID"));
	if (strcmp(verb->name, "discard") == 0 && request->filter.discarded)
		return (cli_usage(arguments->command,
		    "what --discarded means is discarded already"));
	if (verb->changes && request->ids == 0 && !request->filtered && !all)
		return (cli_usage(arguments->command, "%s: write IDs, a filter, or --all",
		    verb->name));
	return (EXIT_WELL);
}

static int
run(const struct cli_arguments * arguments, const struct config * config)
{
	const struct oneshot_options options = {.dsn = config->postgres.dsn,
	    .password_file = config->postgres.password_file,
	    .schema = config->postgres.schema,
	    .look_only = cli_flag(arguments, "dry-run")};
	const struct verb * verb = find_verb(arguments->words[0]);
	struct request request;
	struct dead * dead;
	struct error e;
	int code;

	if (verb == NULL)
		return (cli_usage(arguments->command,
		    "dead list, show, retry or discard, not \"%.60s\"", arguments->words[0]));
	if ((code = read_request(&request, arguments)) != EXIT_WELL ||
	    (code = check_request(verb, &request)) != EXIT_WELL)
		return (code);
	if ((dead = dead_open(&options, &request.filter, &e)) == NULL)
		return (cli_fail(&e));
	code = verb->run(dead, &request);
	dead_close(dead);
	return (code);
}

static const struct cli_option options[] = {
    {"exchange", "NAME", "those for this exchange"},
    {"routing-key", "KEY", "those with this routing key"},
    {"reason", "TEXT", "those whose reason contains this"},
    {"older-than", "AGE", "those given up longer ago than this, like 90m or 2d"},
    {"discarded", NULL, "list, retry: those that were discarded, instead"},
    {"all", NULL, "retry, discard: every one, for want of a filter"},
    {"dry-run", NULL, "retry, discard: say how many it would be"},
    {"limit", "N", "list: no more than the newest N (default 20)"},
    {"json", NULL, "list: a JSON object a line"},
    {NULL, NULL, NULL},
};

const struct cli_command cli_dead = {
    .name = "dead",
    .words = "list|show|retry|discard [ID]...",
    .words_min = 1,
    .words_max = CLI_WORDS_MAX,
    .summary = "messages that were given up: see them, send them again, or discard them",
    .description =
	"ID is a message id (a UUID) or the number in the header x-outbox-id. retry has a running\n"
	"relay send them again, with all their attempts before them. Both work in steps of a\n"
	"transaction each: interrupted (Ctrl-C) and repeated, nothing is done twice. What dies\n"
	"again meanwhile stays. message show ID --payload prints a body.",
    .example = "outbox-relay dead retry --exchange events --reason NO_ROUTE --dry-run",
    .options = options,
    .run = run,
};
