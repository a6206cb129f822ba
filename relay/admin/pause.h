#ifndef ADMIN_PAUSE_H
#define ADMIN_PAUSE_H

#include <stdbool.h>

#include "admin/oneshot.h"

/*
 * Pausing and resuming, for the command line.
 */
struct pause_command;

/**
 * pause_open(options, e):
 * Connect; the schema must have migration 4.  NULL with ${e}.
 */
struct pause_command * pause_open(const struct oneshot_options * options, struct error * e);
void pause_close(struct pause_command * command);

/**
 * pause_begin(command, exchange, reason, e) / pause_end(command, exchange, e):
 * Of ${exchange}, or of everything (NULL).  1; 0: it is so already; -1 with ${e}.
 */
int pause_begin(struct pause_command * command, const char * exchange, const char * reason,
    struct error * e);
int pause_end(struct pause_command * command, const char * exchange, struct error * e);

/**
 * pause_list(command, e):
 * What is paused, a row each, that of everything first: exchange (NULL: everything),
 * since, by, reason.  NULL with ${e}.
 */
const struct oneshot * pause_list(struct pause_command * command, struct error * e);

#endif /* ADMIN_PAUSE_H */
