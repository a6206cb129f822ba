#include "cli/cli.h"

#include "cli/check.h"
#include "cli/dead.h"
#include "cli/doctor.h"
#include "cli/inbox.h"
#include "cli/message.h"
#include "cli/migrate.h"
#include "cli/pause.h"
#include "cli/pending.h"
#include "cli/probe.h"
#include "cli/replay.h"
#include "cli/run.h"
#include "cli/status.h"
#include "cli/topology.h"

/*
 * All commands, in the order in which the help lists them.  The daemon's
 * entry stands here, so that relay/cli/run.c knows nothing of command lines.
 */
static const struct cli_option run_options[] = {
    {"until-empty", NULL, "end with 0 once nothing is pending"},
    {NULL, NULL, NULL},
};

static int
run(const struct cli_arguments * arguments, const struct config * config)
{
	return (run_command(arguments, config, cli_flag(arguments, "until-empty")));
}

static const struct cli_command cli_run = {
    .name = "run",
    .summary = "publish what the outbox holds, until told to stop",
    .description = "The daemon. SIGTERM and SIGINT finish what is in flight, record it and end;\n"
		   "a second signal ends at once. SIGHUP reads the configuration again.",
    .example = "outbox-relay run --config outbox-relay.yaml",
    .options = run_options,
    .daemon = true,
    .run = run,
};

const struct cli_command * const cli_commands[] = {
    &cli_run,
    &cli_probe,
    &cli_check,
    &cli_doctor,
    &cli_migrate,
    &cli_status,
    &cli_message,
    &cli_dead,
    &cli_pending,
    &cli_pause,
    &cli_resume,
    &cli_replay,
    &cli_inbox,
    &cli_topology,
    NULL,
};
