#ifndef CLI_DEAD_H
#define CLI_DEAD_H

#include "cli/cli.h"

/* dead list|show|retry|discard [ID]... */
extern const struct cli_command cli_dead;

#endif /* CLI_DEAD_H */
