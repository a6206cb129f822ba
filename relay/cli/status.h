#ifndef CLI_STATUS_H
#define CLI_STATUS_H

#include <stddef.h>

#include "admin/status.h"
#include "cli/cli.h"

/* status [--json] */
extern const struct cli_command cli_status;

/**
 * status_print(lines, count):
 * Names and values on stdout, in two columns; "-" for what has no value.
 * Control characters of values are printed as spaces.
 */
void status_print(const struct status_line * lines, size_t count);

#endif /* CLI_STATUS_H */
