#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>

#include "config/config.h"

/*
 * The command line: outbox-relay COMMAND [OPTIONS] [ARGUMENTS].
 *
 * A command is a constant of its own file, declared in its header:
 *
 *   static const struct cli_option options[] = {
 *       {"json", NULL, "print JSON"},
 *       {"to", "N", "stop at migration N"},
 *       {NULL, NULL, NULL}};
 *   const struct cli_command cli_status = {
 *       .name = "status", .summary = "...", .example = "outbox-relay status --json",
 *       .options = options, .run = run};
 *
 * and one line in the table of relay/cli/commands.c.
 */
struct cli_option {
	const char * name;     /* without the dashes; NULL ends the list */
	const char * argument; /* its argument's name; NULL: a flag */
	const char * help;
};

/* Every command also takes --config FILE (-c) and --help (-h). */
#define CLI_OPTIONS_MAX 16
#define CLI_WORDS_MAX 16

struct cli_arguments {
	const struct cli_command * command;
	const char * config_file;            /* as named by --config; NULL: not */
	const struct config_report * report; /* what was said of the configuration */
	size_t word_count;                   /* what is no option, behind the command */
	const char * words[CLI_WORDS_MAX];
	const char * values[CLI_OPTIONS_MAX]; /* beside command->options; NULL: not given */
};

struct cli_command {
	const char * name;  /* one word */
	const char * words; /* "show ID" for the help; NULL: takes none */
	size_t words_min;
	size_t words_max;
	const char * summary;     /* half a line */
	const char * description; /* lines for --help; NULL: none */
	const char * example;
	const struct cli_option * options; /* NULL: none */
	bool daemon;                       /* what it has to say goes to the log */
	bool judges;                       /* it tells itself what arguments->report holds */

	/* Does it; returns an enum exit_code.  Data goes to stdout, all else to
	 * stderr (cli_fail).  The configuration is valid, unless it judges that. */
	int (*run)(const struct cli_arguments * arguments, const struct config * config);
};

/**
 * cli_parse(arguments, argc, argv):
 * Read the command line.  Returns -1 to go on, else the code to exit with:
 * help or version was printed, or what is wrong with the line.
 */
int cli_parse(struct cli_arguments * arguments, int argc, char ** argv);

/**
 * cli_value(arguments, option):
 * The argument of --${option}, "" for a flag; NULL when it was not given.
 * The last one counts.  The command must have declared the option.
 */
const char * cli_value(const struct cli_arguments * arguments, const char * option);

/**
 * cli_flag(arguments, option):
 * Whether it was given.
 */
bool cli_flag(const struct cli_arguments * arguments, const char * option);

/**
 * cli_usage(command, format, ...):
 * For what only the command can see to be wrong with its words: prints it to
 * stderr with a pointer to --help; returns EXIT_USAGE.
 */
int cli_usage(const struct cli_command * command, const char * format, ...)
    __attribute__((format(printf, 2, 3)));

/**
 * cli_fail(e):
 * Print "outbox-relay: TEXT" and the remedy to stderr; returns e->code.
 */
int cli_fail(const struct error * e);

/* The table, relay/cli/commands.c; NULL ends it. */
extern const struct cli_command * const cli_commands[];

#endif /* CLI_CLI_H */
