#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "base/error.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/configure.h"
#include "config/config.h"

/* Load the configuration, set up the log, say what is wrong; an exit code. */
static int
load(struct config * config, const struct cli_arguments * arguments, struct config_report * report)
{
	int code = EXIT_WELL;

	configure_load(config, arguments, report);
	if (report->out_of_memory)
		code = EXIT_BUG;
	else if (report->errors > 0)
		code = EXIT_CONFIGURATION;
	else
		log_configure((enum log_level)config->log.level,
		    (enum log_format)config->log.format);
	if (code != EXIT_BUG && arguments->command->judges)
		return (EXIT_WELL);
	if (code == EXIT_WELL && arguments->command->daemon)
		config_report_log(report);
	else
		config_report_print(report, stderr);
	return (code);
}

/* A full disk or a closed pipe must not look like success. */
static int
finish_output(int code)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return (code);
	fprintf(stderr, "outbox-relay: cannot write the output: %s\n", strerror(errno));
	return (code == EXIT_WELL ? EXIT_BUG : code);
}

int
main(int argc, char ** argv)
{
	struct cli_arguments arguments;
	struct config_report report = {0};
	struct config config = {0};
	int code;

	/* Passwords and messages in memory are for no core dump and no debugger of
	 * the same user; nor is the environment, in /proc. */
	prctl(PR_SET_DUMPABLE, 0);

	/* Read the command line. */
	if ((code = cli_parse(&arguments, argc, argv)) != -1)
		return (finish_output(code));

	/* Load the configuration; log as it says. */
	code = load(&config, &arguments, &report);
	arguments.report = &report;

	/* Do what the command is for. */
	if (code == EXIT_WELL)
		code = arguments.command->run(&arguments, &config);

	/* Leave nothing behind. */
	config_report_free(&report);
	config_free(&config);
	return (finish_output(code));
}
