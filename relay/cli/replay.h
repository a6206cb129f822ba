#ifndef CLI_REPLAY_H
#define CLI_REPLAY_H

#include "cli/cli.h"

/* replay --since TIME --exchange NAME ... [--to-queue NAME] */
extern const struct cli_command cli_replay;

#endif /* CLI_REPLAY_H */
