#ifndef CLI_INBOX_H
#define CLI_INBOX_H

#include "cli/cli.h"

/* inbox status|purge --older-than AGE */
extern const struct cli_command cli_inbox;

#endif /* CLI_INBOX_H */
