#include "cli/configure.h"

#include <stdlib.h>
#include <unistd.h>

#include "cli/check.h"

#define DEFAULT_FILE "/etc/outbox-relay/outbox-relay.yaml"

/* Only the file that nobody named may be missing. */
static struct config_request
choose_file(const struct cli_arguments * arguments)
{
	const char * named = arguments->config_file;

	if (named == NULL)
		named = getenv("OUTBOX_RELAY_CONFIG");
	if (named != NULL && named[0] == '\0' && arguments->config_file == NULL)
		named = NULL;
	return ((struct config_request){
	    .file = named != NULL ? named : DEFAULT_FILE,
	    .file_required = named != NULL,
	    .environment = environ,
	});
}

int
configure_load(struct config * config, const struct cli_arguments * arguments,
    struct config_report * report)
{
	struct config_request request = choose_file(arguments);

	config_load(config, &request, report);
	if (!report->out_of_memory)
		check_servers(config, report);
	return (report->out_of_memory || report->errors > 0 ? -1 : 0);
}
