#ifndef CLI_PROBE_H
#define CLI_PROBE_H

#include "base/error.h"
#include "cli/cli.h"

/* probe live|ready */
extern const struct cli_command cli_probe;

#define PROBE_ANSWER_MAX 16384

/**
 * probe_ask(listen, path, answer, e):
 * The answer of whoever listens at ${listen} (as http.listen) to a GET of
 * ${path}, within 3 s, as far as it fits.  0; -1 with ${e}: nobody listens; 1:
 * no answer.
 */
int probe_ask(const char * listen, const char * path, char answer[PROBE_ANSWER_MAX],
    struct error * e);

#endif /* CLI_PROBE_H */
