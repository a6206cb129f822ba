#ifndef CLI_DAEMON_H
#define CLI_DAEMON_H

#include <stdbool.h>

#include "base/error.h"
#include "cli/broker.h"
#include "cli/reload.h"
#include "cli/telling.h"
#include "core/core.h"
#include "postgres/source.h"

/*
 * The loop that ties source, core and link together: hears what happened on
 * either side, tells the core, and does what it answers.  Decides nothing
 * itself but when to end.
 */
struct daemon_options {
	struct core_options core;
	struct source_options source;
	struct broker_options broker;
	struct telling_options telling;
	struct reload * reload; /* for SIGHUP; borrowed */
	bool until_empty;       /* end with success once nothing is pending */
};

/**
 * daemon_run(options, e):
 * Run until SIGTERM or SIGINT, until nothing is pending, or until only a
 * person can help.  On a signal: finish what is in flight, record it, close
 * the link, release the lead last, within 5 s; on a second one leave at once.
 * On SIGHUP: reload.
 * Returns EXIT_WELL, or another code with ${e}.
 */
enum exit_code daemon_run(const struct daemon_options * options, struct error * e);

#endif /* CLI_DAEMON_H */
