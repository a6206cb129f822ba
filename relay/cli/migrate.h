#ifndef CLI_MIGRATE_H
#define CLI_MIGRATE_H

#include "cli/cli.h"

/* migrate up|down|status|print|rebase */
extern const struct cli_command cli_migrate;

#endif /* CLI_MIGRATE_H */
