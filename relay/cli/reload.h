#ifndef CLI_RELOAD_H
#define CLI_RELOAD_H

#include "cli/cli.h"
#include "config/config.h"
#include "core/core.h"

/*
 * Reading the configuration again while the daemon runs (SIGHUP).
 *
 * In force at once: log.level, log.format, retry.initial, retry.multiplier,
 * retry.max, retry.max_attempts, and publish.window up to what it was at the
 * start.  Whatever else has changed is refused with a line in the log that
 * names it, and stays as it was.  A file with a mistake changes nothing.
 */
struct reload {
	const struct cli_arguments * arguments;
	const struct config * started; /* with */
	struct config in_force;        /* its strings are those of started */
};

/**
 * reload_init(reload, arguments, config):
 * ${config} is in force; both are borrowed for as long as ${reload} is used.
 */
void reload_init(struct reload * reload, const struct cli_arguments * arguments,
    const struct config * config);

/**
 * reload_now(reload, core):
 * Read it, put in force what can be, and log what became of it.
 */
void reload_now(struct reload * reload, struct core * core);

#endif /* CLI_RELOAD_H */
