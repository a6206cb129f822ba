/*
 * New messages must not queue up behind old ones: while a relay leads, a step
 * is written only once the relay is done with the one before, so that at most a
 * step lies in front of what the application writes; and not before a pause that
 * grows with the time that writing one takes.  While the application writes, too,
 * steps are small, and no more of them than --rate allows: whatever they take of
 * both servers is missing elsewhere.
 */
#include "cli/replay.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "admin/replay.h"
#include "base/clock.h"
#include "cli/work.h"
#include "config/value.h"

#define STEP 200
#define STEP_BESIDE 50
#define RATE 500
#define RATE_MAX 1000000
/* Writing a step takes one part in so many of the time, so that a busy server has room for others. */
#define SHARE 5
/* Between two looks at how far the relay is: it marks every 50 ms. */
#define LOOK_NS 10000000
#define NAME_MAX_BYTES 255

struct request {
	const struct cli_arguments * arguments;
	struct replay_filter filter;
	int64_t rate; /* copies a second beside others */
};

/* A time of Postgres's, or an age. */
static int
read_time(const struct cli_arguments * arguments, const char * option, const char ** text,
    int64_t * age_ms)
{
	const char * value = cli_value(arguments, option);
	clock_ns age;

	if (value == NULL)
		return (EXIT_WELL);
	if (value_duration(value, &age) != NULL) {
		*text = value;
		return (EXIT_WELL);
	}
	*age_ms = age / CLOCK_MS(1);
	if (*age_ms <= 0)
		return (cli_usage(arguments->command,
		    "--%s: an age above 0, or a time, not \"%.60s\"", option, value));
	return (EXIT_WELL);
}

static int
read_request(struct request * request, const struct cli_arguments * arguments)
{
	struct replay_filter * filter = &request->filter;
	const char * after = cli_value(arguments, "after");
	const char * rate = cli_value(arguments, "rate");
	int code;

	*request = (struct request){.arguments = arguments, .rate = RATE};
	filter->exchange = cli_value(arguments, "exchange");
	filter->routing_key = cli_value(arguments, "routing-key");
	filter->ordering_key = cli_value(arguments, "ordering-key");
	filter->to_queue = cli_value(arguments, "to-queue");
	filter->look_only = cli_flag(arguments, "dry-run");
	if ((code = read_time(arguments, "since", &filter->since, &filter->since_ms)) !=
		EXIT_WELL ||
	    (code = read_time(arguments, "until", &filter->until, &filter->until_ms)) != EXIT_WELL)
		return (code);
	if (after != NULL && (value_integer(after, &filter->after) != NULL || filter->after < 0))
		return (cli_usage(arguments->command,
		    "--after takes the number of a message, not \"%.60s\"", after));
	if (rate != NULL &&
	    (value_integer(rate, &request->rate) != NULL || request->rate < 1 ||
		request->rate > RATE_MAX))
		return (cli_usage(arguments->command,
		    "--rate takes 1 to %d messages a second, not \"%.60s\"", RATE_MAX, rate));
	if (filter->to_queue != NULL &&
	    (filter->to_queue[0] == '\0' || strlen(filter->to_queue) > NAME_MAX_BYTES))
		return (cli_usage(arguments->command, "--to-queue takes a name of 1 to %d bytes",
		    NAME_MAX_BYTES));
	if (filter->exchange == NULL && filter->routing_key == NULL &&
	    filter->ordering_key == NULL && cli_value(arguments, "since") == NULL &&
	    cli_value(arguments, "until") == NULL && !cli_flag(arguments, "all"))
		return (cli_usage(arguments->command,
		    "say which messages: a time, an exchange, a key, or --all"));
	return (EXIT_WELL);
}

static void
print_reach(FILE * out, const struct oneshot * answer, const struct request * request,
    int64_t total)
{
	if (request->filter.to_queue != NULL) {
		fprintf(out, "%" PRId64 " messages to queue %s alone\n", total,
		    request->filter.to_queue);
		return;
	}
	fprintf(out, "%" PRId64 " messages, to every queue that these exchanges route them to:\n",
	    total);
	for (size_t i = 0; i < oneshot_rows(answer); i++) {
		const char * name = oneshot_value(answer, i, 0);

		fprintf(out, "  %-40s %s\n", name[0] == '\0' ? "(the default exchange)" : name,
		    oneshot_value(answer, i, 1));
	}
}

/* Every consumer of those exchanges gets them: a person has to say yes. */
static int
ask(const struct request * request)
{
	char answer[16];

	if (request->filter.to_queue != NULL || cli_flag(request->arguments, "yes"))
		return (EXIT_WELL);
	if (!isatty(STDIN_FILENO))
		return (cli_usage(request->arguments->command,
		    "nobody is there to be asked: --yes, or --to-queue NAME to reach one queue alone"));
	fputs("Go on? [y/N] ", stderr);
	if (fgets(answer, sizeof(answer), stdin) != NULL && (answer[0] == 'y' || answer[0] == 'Y'))
		return (EXIT_WELL);
	fputs("outbox-relay: nothing was replayed\n", stderr);
	return (EXIT_FOUND);
}

/* Until the relay is done with the last step, and the time is ${next}.  0, or -1 with ${e}. */
static int
wait_for_relay(struct replay * replay, clock_ns next, int64_t done, int64_t total, struct error * e)
{
	const struct timespec pause = {.tv_nsec = LOOK_NS};
	int settled = 0;

	while (!work_interrupted()) {
		if (settled == 0 && (settled = replay_settled(replay, e)) == -1)
			return (-1);
		if (settled == 1 && clock_now() >= next)
			break;
		work_progress("replayed", done, total);
		nanosleep(&pause, NULL);
	}
	return (0);
}

/* How long from the beginning of a step to the next one, if writing it took so long. */
static clock_ns
spacing(const struct request * request, int64_t count, bool beside, clock_ns took)
{
	clock_ns share = took * SHARE;
	clock_ns paced = beside ? CLOCK_S(1) * count / request->rate : 0;

	return (paced > share ? paced : share);
}

static int
replay_all(struct replay * replay, const struct request * request, int64_t total)
{
	int64_t count, done = 0;
	bool beside = true; /* until it is known */
	clock_ns began, next;
	struct error e;
	int leads;

	if ((leads = replay_leads(replay, &e)) == -1)
		return (cli_fail(&e));
	if (!leads)
		fputs("outbox-relay: no relay leads: they are sent once one does\n", stderr);
	work_begin();
	while (!work_interrupted()) {
		began = clock_now();
		if ((count = replay_step(replay, beside ? STEP_BESIDE : STEP, &e)) == 0)
			break;
		beside = replay_beside_others(replay);
		next = began + spacing(request, count, beside, clock_now() - began);
		if (count > 0)
			done += count;
		if (count == -1 || (leads && wait_for_relay(replay, next, done, total, &e))) {
			fprintf(stderr,
			    "outbox-relay: replayed %" PRId64 " of %" PRId64 "; --after %" PRId64
			    " goes on from there\n",
			    done, total, replay_last(replay));
			return (cli_fail(&e));
		}
		work_progress("replayed", done, total);
	}
	printf("replayed: %" PRId64 " messages\n", done);
	if (work_interrupted() && done < total)
		fprintf(stderr,
		    "outbox-relay: interrupted; --after %" PRId64 " goes on from there\n",
		    replay_last(replay));
	work_end();
	return (EXIT_WELL);
}

static int
replay_run(struct replay * replay, const struct request * request)
{
	const struct oneshot * answer;
	struct error e;
	int64_t total;
	int code;

	if ((answer = replay_look(replay, &total, &e)) == NULL)
		return (cli_fail(&e));
	if (total == 0) {
		error_set(&e, EXIT_FOUND, "no message that matches was sent and is still kept");
		error_remedy(&e,
		    "sent messages are kept for the retention: outbox.set_retention(interval)");
		return (cli_fail(&e));
	}
	if (request->filter.look_only) {
		print_reach(stdout, answer, request, total);
		return (EXIT_WELL);
	}
	print_reach(stderr, answer, request, total);
	if ((code = ask(request)) != EXIT_WELL)
		return (code);
	return (replay_all(replay, request, total));
}

static int
run(const struct cli_arguments * arguments, const struct config * config)
{
	const struct oneshot_options options = {.dsn = config->postgres.dsn,
	    .password_file = config->postgres.password_file,
	    .schema = config->postgres.schema,
	    .look_only = cli_flag(arguments, "dry-run")};
	struct request request;
	struct replay * replay;
	struct error e;
	int code;

	if ((code = read_request(&request, arguments)) != EXIT_WELL)
		return (code);
	if ((replay = replay_open(&options, &request.filter, &e)) == NULL)
		return (cli_fail(&e));
	code = replay_run(replay, &request);
	replay_close(replay);
	return (code);
}

static const struct cli_option options[] = {
    {"since", "TIME", "written then or later: a time, or an age like 90m or 2d"},
    {"until", "TIME", "written before then"},
    {"exchange", "NAME", "those for this exchange"},
    {"routing-key", "KEY", "those with this routing key"},
    {"ordering-key", "KEY", "those with this ordering key"},
    {"all", NULL, "every message kept, for want of a filter"},
    {"to-queue", "NAME", "reach this queue alone, by the default exchange"},
    {"after", "ID", "those behind message ID: what an interrupted replay names"},
    {"rate", "N", "messages a second while the application writes, too (500)"},
    {"yes", NULL, "do not ask"},
    {"dry-run", NULL, "say how many it would be, and where they would go"},
    {NULL, NULL, NULL},
};

const struct cli_command cli_replay = {
    .name = "replay",
    .summary = "publish messages again that were sent and are still kept",
    .description =
	"Copies with the same message ids and the header x-replayed; consumers with an inbox skip\n"
	"what they have handled unless they forget it first. Without --to-queue every queue bound\n"
	"to the exchanges gets them, so it names these and asks. While the application writes, too,\n"
	"it takes its time (--rate), and fifty at most are in front of a new message. The role needs\n"
	"to insert messages: set OUTBOX_RELAY_POSTGRES_DSN for this command, to connect as the owner\n"
	"of the schema.",
    .example = "outbox-relay replay --since 2h --exchange events --to-queue billing --dry-run",
    .options = options,
    .run = run,
};
