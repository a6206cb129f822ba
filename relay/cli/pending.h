#ifndef CLI_PENDING_H
#define CLI_PENDING_H

#include "cli/cli.h"

extern const struct cli_command cli_pending;

#endif /* CLI_PENDING_H */
