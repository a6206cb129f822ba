#ifndef CLI_CONFIGURE_H
#define CLI_CONFIGURE_H

#include "cli/cli.h"
#include "config/config.h"

/**
 * configure_load(config, arguments, report):
 * Load the configuration that the command line or the environment names, or that
 * of the default place, and see that its servers' names can be read.  The same
 * however often it is asked.  0, or -1 when ${report} holds an error; both are
 * to be freed either way.
 */
int configure_load(struct config * config, const struct cli_arguments * arguments,
    struct config_report * report);

#endif /* CLI_CONFIGURE_H */
