#include "cli/cli.h"

#include <assert.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/suggest.h"
#include "base/version.h"
#include "cli/help.h"

/*
 * getopt_long reads the line twice: up to the command with the program's own
 * options, behind it with the command's.  It prints nothing itself, so that
 * every complaint looks alike, names the nearest known word and exits with 64.
 */
#define COMMAND_OPTION 256 /* getopt's value of command->options[0] */
#define GO_ON (-1)

static const struct option program_options[] = {
    {"config", required_argument, NULL, 'c'},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {NULL, 0, NULL, 0},
};

static int __attribute__((format(printf, 2, 0)))
complain(const struct cli_command * command, const char * format, va_list arguments)
{
	fputs("outbox-relay: ", stderr);
	vfprintf(stderr, format, arguments);
	fprintf(stderr, "\nTry: outbox-relay %s%s--help\n", command != NULL ? command->name : "",
	    command != NULL ? " " : "");
	return (EXIT_USAGE);
}

static int __attribute__((format(printf, 1, 2))) usage(const char * format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	complain(NULL, format, arguments);
	va_end(arguments);
	return (EXIT_USAGE);
}

int
cli_usage(const struct cli_command * command, const char * format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	complain(command, format, arguments);
	va_end(arguments);
	return (EXIT_USAGE);
}

int
cli_fail(const struct error * e)
{
	fprintf(stderr, "outbox-relay: %s\n", e->text);
	if (e->remedy[0] != '\0')
		fprintf(stderr, "  remedy: %s\n", e->remedy);
	return ((int)e->code);
}

static size_t
option_index(const struct cli_command * command, const char * option)
{
	size_t i = 0;

	while (strcmp(command->options[i].name, option) != 0) {
		i++;
		assert(command->options[i].name != NULL);
	}
	return (i);
}

const char *
cli_value(const struct cli_arguments * arguments, const char * option)
{
	return (arguments->values[option_index(arguments->command, option)]);
}

bool
cli_flag(const struct cli_arguments * arguments, const char * option)
{
	return (cli_value(arguments, option) != NULL);
}

/* What getopt gave back '?' or ':' for. */
static int
bad_option(const struct cli_command * command, const struct option * options, int result,
    char ** argv)
{
	const char * word = argv[optind - 1];
	struct suggestion suggestion;
	char name[65];

	if (result == ':')
		return (cli_usage(command, "option %s needs an argument", word));
	if (strncmp(word, "--", 2) != 0)
		return (cli_usage(command, "unknown option -%c", optopt));
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(word + 2, "="), word + 2);
	if (optopt != 0)
		return (cli_usage(command, "option --%s takes no argument", name));
	suggestion = (struct suggestion){.word = name};
	for (; options->name != NULL; options++)
		suggestion_offer(&suggestion, options->name);
	if (suggestion.best == NULL)
		return (cli_usage(command, "unknown option --%s", name));
	return (cli_usage(command, "unknown option --%s; did you mean --%s?", name,
	    suggestion.best));
}

static int
unknown_command(const char * word)
{
	struct suggestion suggestion = {.word = word};

	for (size_t i = 0; cli_commands[i] != NULL; i++)
		suggestion_offer(&suggestion, cli_commands[i]->name);
	if (suggestion.best == NULL)
		return (usage("unknown command \"%.60s\"", word));
	return (usage("unknown command \"%.60s\"; did you mean \"%s\"?", word, suggestion.best));
}

static const struct cli_command *
find_command(const char * name)
{
	for (size_t i = 0; cli_commands[i] != NULL; i++) {
		if (strcmp(cli_commands[i]->name, name) == 0)
			return (cli_commands[i]);
	}
	return (NULL);
}

/* "help", and "help COMMAND" as others have it; ${name} is NULL for want of one. */
static int
help(const char * name)
{
	const struct cli_command * command;

	if (name == NULL)
		help_program(stdout);
	else if ((command = find_command(name)) != NULL)
		help_command(command, stdout);
	else
		return (unknown_command(name));
	return (EXIT_WELL);
}

/* The options in front of the command, and the command. */
static int
parse_program(struct cli_arguments * arguments, int argc, char ** argv)
{
	int result;

	opterr = 0;
	optind = 0;
	while ((result = getopt_long(argc, argv, "+:c:hV", program_options, NULL)) != -1) {
		switch (result) {
		case 'c':
			arguments->config_file = optarg;
			break;
		case 'h':
			help_program(stdout);
			return (EXIT_WELL);
		case 'V':
			puts("outbox-relay " VERSION);
			return (EXIT_WELL);
		default:
			return (bad_option(NULL, program_options, result, argv));
		}
	}
	if (optind == argc) {
		fputs("outbox-relay: a command is missing\n\n", stderr);
		help_program(stderr);
		return (EXIT_USAGE);
	}
	if ((arguments->command = find_command(argv[optind])) != NULL)
		return (GO_ON);
	if (strcmp(argv[optind], "help") == 0)
		return (help(argv[optind + 1]));
	return (unknown_command(argv[optind]));
}

static void
fill_options(const struct cli_command * command, struct option * options)
{
	size_t count = 0;

	for (; command->options != NULL && command->options[count].name != NULL; count++) {
		const struct cli_option * o = &command->options[count];

		assert(count < CLI_OPTIONS_MAX);
		options[count] = (struct option){o->name,
		    o->argument != NULL ? required_argument : no_argument, NULL,
		    COMMAND_OPTION + (int)count};
	}

	/* --version belongs to the program alone. */
	memcpy(options + count, program_options, 2 * sizeof(*options));
	options[count + 2] = (struct option){NULL, 0, NULL, 0};
}

static int
keep_words(struct cli_arguments * arguments, int argc, char ** argv)
{
	const struct cli_command * command = arguments->command;
	size_t count = (size_t)(argc - optind);

	assert(command->words_max <= CLI_WORDS_MAX);
	if (count > command->words_max)
		return (cli_usage(command, "%s: unexpected \"%.60s\"", command->name,
		    argv[optind + (int)command->words_max]));
	if (count < command->words_min)
		return (cli_usage(command, "%s: write %s", command->name, command->words));
	for (size_t i = 0; i < count; i++)
		arguments->words[i] = argv[optind + (int)i];
	arguments->word_count = count;
	return (GO_ON);
}

/* argv[0] is the command. */
static int
parse_command(struct cli_arguments * arguments, int argc, char ** argv)
{
	const struct cli_command * command = arguments->command;
	struct option options[CLI_OPTIONS_MAX + 3];
	int result;

	fill_options(command, options);
	optind = 0;
	while ((result = getopt_long(argc, argv, ":c:h", options, NULL)) != -1) {
		if (result >= COMMAND_OPTION) {
			arguments->values[result - COMMAND_OPTION] = optarg != NULL ? optarg : "";
		} else if (result == 'c') {
			arguments->config_file = optarg;
		} else if (result == 'h') {
			help_command(command, stdout);
			return (EXIT_WELL);
		} else {
			return (bad_option(command, options, result, argv));
		}
	}
	return (keep_words(arguments, argc, argv));
}

int
cli_parse(struct cli_arguments * arguments, int argc, char ** argv)
{
	int code;

	*arguments = (struct cli_arguments){0};
	if ((code = parse_program(arguments, argc, argv)) != GO_ON)
		return (code);
	return (parse_command(arguments, argc - optind, argv + optind));
}
