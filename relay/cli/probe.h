#ifndef CLI_PROBE_H
#define CLI_PROBE_H

#include "cli/cli.h"

extern const struct cli_command cli_probe;

#endif /* CLI_PROBE_H */
