/*
 * What must stay true: nothing is changed, no message reaches a queue, nobody
 * is held up, and it ends in bounded time whatever the servers do.
 *
 * A server that cannot be reached is something found, so the exit code is 1.
 */
#include "cli/doctor.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/shell.h"
#include "config/report.h"
#include "config/value.h"

#define OLDER_THAN "5m"
#define ARGUMENTS_MAX 500

static void
check_configuration(const struct config_report * report, struct findings * findings)
{
	for (const struct config_mistake * m = report->first; m != NULL; m = m->next) {
		char place[32] = "";

		if (m->line > 0)
			snprintf(place, sizeof(place), ":%u:%u", m->line, m->column);
		(m->warning ? finding_warn : finding_fail)(findings, "configuration",
		    "%.400s%s: %s", m->source, place, m->text);
		finding_remedy(findings, "%s", m->remedy);
	}
	if (report->first == NULL)
		finding_ok(findings, "configuration", "is valid");
}

static void
check_mandatory(const struct config * config, struct findings * findings)
{
	if (config->publish.mandatory)
		return;
	finding_warn(findings, "routes",
	    "publish.mandatory is false: RabbitMQ drops what no queue takes, and confirms it");
	finding_remedy(findings,
	    "export OUTBOX_RELAY_PUBLISH_MANDATORY=true  # or set it in the configuration");
}

/* ---- output ---- */

static const char * const level_words[] = {"ok", "warn", "FAIL"};

static void
print_lines(const struct findings * findings)
{
	for (const struct finding * f = findings->first; f != NULL; f = f->next) {
		printf("%-5s %s: %s\n", level_words[f->level], f->check, f->text);
		if (f->remedy[0] != '\0')
			printf("      remedy: %s\n", f->remedy);
	}
	printf("%u ok, %u warn, %u FAIL\n", findings->counts[FINDING_OK],
	    findings->counts[FINDING_WARN], findings->counts[FINDING_FAIL]);
}

/* A finding is valid UTF-8 without control characters. */
static void
print_string(const char * text)
{
	putchar('"');
	for (; *text != '\0'; text++) {
		if (*text == '"' || *text == '\\')
			putchar('\\');
		putchar(*text);
	}
	putchar('"');
}

static void
print_json(const struct findings * findings)
{
	static const char * const words[] = {"ok", "warn", "fail"};

	printf("{\"well\": %s, \"checks\": [",
	    findings->counts[FINDING_FAIL] == 0 ? "true" : "false");
	for (const struct finding * f = findings->first; f != NULL; f = f->next) {
		printf("%s\n  {\"check\": \"%s\", \"result\": \"%s\", \"text\": ",
		    f == findings->first ? "" : ",", f->check, words[f->level]);
		print_string(f->text);
		fputs(", \"remedy\": ", stdout);
		if (f->remedy[0] == '\0')
			fputs("null", stdout);
		else
			print_string(f->remedy);
		putchar('}');
	}
	puts("\n]}");
}

static void
examine(const struct cli_arguments * arguments, const struct config * config, clock_ns older_than,
    struct findings * findings)
{
	static struct checkup_routes routes;
	char typed[ARGUMENTS_MAX] = "", quoted[ARGUMENTS_MAX - 16];
	const struct checkup_options options = {.dsn = config->postgres.dsn,
	    .password_file = config->postgres.password_file,
	    .schema = config->postgres.schema,
	    .listens = config->wake.mode == CONFIG_WAKE_LISTEN,
	    .waits_for_flush = config->postgres.wait_for_flush,
	    .patience_s = older_than / CLOCK_S(1),
	    .arguments = typed};

	check_configuration(arguments->report, findings);
	/* Of what is wrong nothing can be expected. */
	if (arguments->report->errors > 0)
		return;
	if (arguments->config_file != NULL)
		snprintf(typed, sizeof(typed), " --config %s",
		    shell_quote(quoted, sizeof(quoted), arguments->config_file));
	checkup_postgres(&options, findings, &routes);
	doctor_broker(config, &routes, typed, findings);
	check_mandatory(config, findings);
	doctor_http(config->http.listen, findings);
}

static int
run(const struct cli_arguments * arguments, const struct config * config)
{
	const char * age = cli_value(arguments, "older-than");
	struct findings findings = {0};
	clock_ns older_than;
	int code;

	if (value_duration(age != NULL ? age : OLDER_THAN, &older_than) != NULL ||
	    older_than > CLOCK_S(86400) * 365)
		return (cli_usage(arguments->command, "--older-than takes an age like 5m or 2h"));
	examine(arguments, config, older_than, &findings);
	if (cli_flag(arguments, "json"))
		print_json(&findings);
	else
		print_lines(&findings);
	code = findings.counts[FINDING_FAIL] > 0 ? EXIT_FOUND : EXIT_WELL;
	if (findings.out_of_memory)
		code = EXIT_BUG;
	findings_free(&findings);
	return (code);
}

static const struct cli_option options[] = {
    {"json", NULL, "print one JSON object"},
    {"older-than", "AGE", "transactions and pending messages to name (default " OLDER_THAN ")"},
    {NULL, NULL, NULL},
};

const struct cli_command cli_doctor = {
    .name = "doctor",
    .summary = "check everything that a healthy relay needs, and say what mends it",
    .description =
	"Connects to both servers as the relay would, and changes nothing. A line for each check: ok,\n"
	"warn (it works, but), FAIL; below it the remedy, most often a command to type, with the\n"
	"rest of the line behind # as a comment. Exit code 0 without, 1 with a FAIL, also when a server\n"
	"cannot be reached. docs/operations.md explains each line.",
    .example = "outbox-relay doctor --config outbox-relay.yaml",
    .options = options,
    .judges = true,
    .run = run,
};
