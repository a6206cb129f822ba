#include "cli/help.h"

/* The help is made from the table of commands, so it cannot forget one. */

static void
print_option(FILE * out, const char * option, const char * help)
{
	fprintf(out, "  %-24s %s\n", option, help);
}

void
help_program(FILE * out)
{
	fputs("Usage: outbox-relay COMMAND [OPTION]... [ARGUMENT]...\n"
	      "Publishes the rows of a Postgres outbox table to RabbitMQ: what committed is\n"
	      "delivered, what rolled back is not.\n"
	      "\n"
	      "Commands:\n",
	    out);
	for (size_t i = 0; cli_commands[i] != NULL; i++)
		print_option(out, cli_commands[i]->name, cli_commands[i]->summary);
	fputs("\nOptions:\n", out);
	print_option(out, "-c, --config FILE",
	    "the configuration; the default is"
	    " $OUTBOX_RELAY_CONFIG, else");
	print_option(out, "", "/etc/outbox-relay/outbox-relay.yaml, which may be missing");
	print_option(out, "-h, --help", "this help, or that of a command");
	print_option(out, "-V, --version", "the version");
	fputs("\n"
	      "Exit codes: 0 well, 1 the check found something, 64 usage, 69 a server cannot\n"
	      "be reached, 70 a bug, 77 no permission, 78 configuration.\n"
	      "\n"
	      "Example: outbox-relay run --config outbox-relay.yaml\n",
	    out);
}

void
help_command(const struct cli_command * command, FILE * out)
{
	char option[64];

	fprintf(out, "Usage: outbox-relay %s [OPTION]...%s%s\n", command->name,
	    command->words != NULL ? " " : "", command->words != NULL ? command->words : "");
	fprintf(out, "Does: %s.\n", command->summary);
	if (command->description != NULL)
		fprintf(out, "\n%s\n", command->description);
	fputs("\nOptions:\n", out);
	for (const struct cli_option * o = command->options; o != NULL && o->name != NULL; o++) {
		snprintf(option, sizeof(option), "    --%s%s%s", o->name,
		    o->argument != NULL ? " " : "", o->argument != NULL ? o->argument : "");
		print_option(out, option, o->help);
	}
	print_option(out, "-c, --config FILE", "the configuration");
	print_option(out, "-h, --help", "this help");
	fprintf(out, "\nExample: %s\n", command->example);
}
