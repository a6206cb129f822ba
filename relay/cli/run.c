#include "cli/run.h"

#include <malloc.h>
#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/log.h"
#include "base/version.h"
#include "cli/daemon.h"
#include "core/message.h"

#define RECORD_INTERVAL CLOCK_MS(50)
#define LINK_CONNECT_TIMEOUT CLOCK_S(10)
/* Sent whenever it is full, so it bounds memory, not a batch. */
#define LINK_BUFFER_MAX ((size_t)256 << 10)

/* Blocks above this go back to the system when freed: bodies of megabytes
 * must not leave holes in the heap. */
#define LARGE_BLOCK (4 << 20)

int
run_command(const struct config * config, bool until_empty)
{
	char connection_name[128];
	char host[64] = "";
	uint64_t seeds[3];
	struct error e;
	enum exit_code code;
	struct daemon_options options = {
	    .core = {.window = config->publish.window,
		.batch = config->publish.batch,
		.max_bytes = config->publish.max_bytes_in_flight,
		.pipelined = config->publish.ordering == CONFIG_ORDERING_PIPELINED,
		.record_interval = RECORD_INTERVAL,
		.retry = {.initial = config->retry.initial,
		    .multiplier = config->retry.multiplier,
		    .max = config->retry.max}},
	    .source = {.dsn = config->postgres.dsn,
		.password_file = config->postgres.password_file,
		.schema = config->postgres.schema,
		.wait_for_flush = config->postgres.wait_for_flush,
		.listen = config->wake.mode == CONFIG_WAKE_LISTEN,
		.poll_interval = config->wake.poll_interval},
	    .link = {.urls = config->rabbitmq.urls,
		.url_count = config->rabbitmq.url_count,
		.password_file = config->rabbitmq.password_file,
		.external_auth = config->rabbitmq.auth == CONFIG_AUTH_EXTERNAL,
		.heartbeat_s = (uint32_t)(config->rabbitmq.heartbeat / CLOCK_S(1)),
		.connect_timeout = LINK_CONNECT_TIMEOUT,
		.mandatory = config->publish.mandatory,
		.connection_name = connection_name,
		.send_buffer_max = LINK_BUFFER_MAX,
		.tls = {.ca_file = config->rabbitmq.tls.ca_file,
		    .cert_file = config->rabbitmq.tls.cert_file,
		    .key_file = config->rabbitmq.tls.key_file,
		    .server_name = config->rabbitmq.tls.server_name}},
	    .until_empty = until_empty};

	options.link.window = core_in_flight_max(&options.core);
	mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK);
	mallopt(M_TRIM_THRESHOLD, LARGE_BLOCK);
	if (getrandom(seeds, sizeof(seeds), 0) != (ssize_t)sizeof(seeds)) {
		log_error("no_randomness");
		return (EXIT_BUG);
	}
	message_key_seed(seeds[0], seeds[1]);
	options.core.seed = options.source.seed = options.link.seed = seeds[2];
	gethostname(host, sizeof(host) - 1);
	snprintf(connection_name, sizeof(connection_name), "outbox-relay %s@%s main",
	    config->postgres.schema, host);
	log_info("starting", LOG_STR("version", VERSION),
	    LOG_STR("schema", config->postgres.schema), LOG_INT("window", config->publish.window));
	code = daemon_run(&options, &e);
	if (code != EXIT_WELL)
		log_failure(LOG_LEVEL_ERROR, "ended", &e);
	return ((int)code);
}
