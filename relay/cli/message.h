#ifndef CLI_MESSAGE_H
#define CLI_MESSAGE_H

#include "cli/cli.h"

/* message show ID [--payload] */
extern const struct cli_command cli_message;

#endif /* CLI_MESSAGE_H */
