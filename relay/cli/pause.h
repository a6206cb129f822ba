#ifndef CLI_PAUSE_H
#define CLI_PAUSE_H

#include "cli/cli.h"

/* pause and resume. */
extern const struct cli_command cli_pause;
extern const struct cli_command cli_resume;

#endif /* CLI_PAUSE_H */
