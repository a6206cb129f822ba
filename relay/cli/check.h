#ifndef CLI_CHECK_H
#define CLI_CHECK_H

#include "cli/cli.h"

/* check [--print]: reads and validates the configuration only. */
extern const struct cli_command cli_check;

/**
 * check_servers(config, report):
 * Add what is wrong with the DSN and the URLs, which only libpq's and AMQP's
 * own readers can tell.  Connects nowhere.
 */
void check_servers(const struct config * config, struct config_report * report);

#endif /* CLI_CHECK_H */
