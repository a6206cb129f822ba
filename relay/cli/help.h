#ifndef CLI_HELP_H
#define CLI_HELP_H

#include <stdio.h>

#include "cli/cli.h"

/**
 * help_program(out):
 * What --help without a command prints.
 */
void help_program(FILE * out);

/**
 * help_command(command, out):
 * What COMMAND --help prints.
 */
void help_command(const struct cli_command * command, FILE * out);

#endif /* CLI_HELP_H */
