#ifndef CLI_RUN_H
#define CLI_RUN_H

#include <stdbool.h>

#include "cli/cli.h"
#include "config/config.h"

/**
 * run_command(arguments, config, until_empty):
 * The daemon: publishes until it is told to stop, or, with ${until_empty},
 * until nothing is pending.  Returns an enum exit_code.
 */
int run_command(const struct cli_arguments * arguments, const struct config * config,
    bool until_empty);

#endif /* CLI_RUN_H */
