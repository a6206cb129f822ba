#include "cli/run.h"

#include <malloc.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "admin/status.h"
#include "base/log.h"
#include "base/version.h"
#include "cli/daemon.h"
#include "core/message.h"

#define RECORD_INTERVAL CLOCK_MS(50)
#define CONNECTION_NAME_MAX 128
#define LINK_CONNECT_TIMEOUT CLOCK_S(10)
/* Sent whenever it is full, so it bounds memory, not a batch. */
#define LINK_BUFFER_MAX ((size_t)256 << 10)

/* Blocks above this go back to the system when freed: bodies of megabytes
 * must not leave holes in the heap. */
#define LARGE_BLOCK (4 << 20)

/*
 * The relay often shares its cores with the database, and wakes thousands of
 * times a second: as a batch process it takes its share, but never a core from
 * another process the moment that it wakes.  A policy that somebody chose stays.
 */
static void
give_way(void)
{
	if (sched_getscheduler(0) == SCHED_OTHER)
		sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0});
}

/* One name a connection, for those who look at the broker. */
static void
name_connection(char name[CONNECTION_NAME_MAX], const char * schema, const char * what)
{
	char host[64] = "";

	gethostname(host, sizeof(host) - 1);
	snprintf(name, CONNECTION_NAME_MAX, "outbox-relay %s@%s %s", schema, host, what);
}

/* Empty means that nothing is pending or due; more may lie aside. */
static void
tell_what_is_left(const struct config * config)
{
	const struct status_options options = {.dsn = config->postgres.dsn,
	    .password_file = config->postgres.password_file,
	    .schema = config->postgres.schema};
	struct status_line lines[STATUS_LINES_MAX];
	const char * delayed = "unknown";
	const char * dead = "unknown";
	const char * json;
	struct status * status;
	struct error e;
	size_t count;

	if ((status = status_open(&options, &e)) == NULL)
		return;
	count = status_overview(status, lines, &json, &e);
	for (size_t n = 0; n < count; n++) {
		if (strcmp(lines[n].name, "delayed") == 0)
			delayed = lines[n].value;
		else if (strcmp(lines[n].name, "dead") == 0)
			dead = lines[n].value;
	}
	log_info("empty", LOG_STR("delayed", delayed), LOG_STR("dead", dead));
	status_close(status);
}

int
run_command(const struct cli_arguments * arguments, const struct config * config, bool until_empty)
{
	struct reload reload;
	char main_name[CONNECTION_NAME_MAX];
	char suspects_name[CONNECTION_NAME_MAX];
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
		    .max = config->retry.max,
		    .max_attempts = config->retry.max_attempts,
		    .hold = config->retry.on_dead == CONFIG_ON_DEAD_HOLD},
		.confirm_timeout = config->publish.confirm_timeout,
		.poll_interval = config->wake.poll_interval},
	    .source = {.dsn = config->postgres.dsn,
		.password_file = config->postgres.password_file,
		.schema = config->postgres.schema,
		.wait_for_flush = config->postgres.wait_for_flush,
		.strict = config->publish.ordering == CONFIG_ORDERING_STRICT,
		.listen = config->wake.mode == CONFIG_WAKE_LISTEN,
		.survey = config->http.listen != NULL,
		.poll_interval = config->wake.poll_interval},
	    .telling = {.listen = config->http.listen,
		.schema = config->postgres.schema,
		.window = config->publish.window},
	    .broker = {.names = {[CORE_MAIN] = main_name, [CORE_SUSPECTS] = suspects_name},
		.windows = {[CORE_SUSPECTS] = CORE_SUSPECTS_MAX},
		.once = until_empty,
		.link = {.urls = config->rabbitmq.urls,
		    .url_count = config->rabbitmq.url_count,
		    .password_file = config->rabbitmq.password_file,
		    .external_auth = config->rabbitmq.auth == CONFIG_AUTH_EXTERNAL,
		    .heartbeat_s = (uint32_t)(config->rabbitmq.heartbeat / CLOCK_S(1)),
		    .connect_timeout = LINK_CONNECT_TIMEOUT,
		    .mandatory = config->publish.mandatory,
		    .cloudevents = config->publish.cloudevents == CONFIG_CLOUDEVENTS_BINARY ?
			config->publish.cloudevents_source :
			NULL,
		    .send_buffer_max = LINK_BUFFER_MAX,
		    .tls = {.ca_file = config->rabbitmq.tls.ca_file,
			.cert_file = config->rabbitmq.tls.cert_file,
			.key_file = config->rabbitmq.tls.key_file,
			.server_name = config->rabbitmq.tls.server_name}}},
	    .reload = &reload,
	    .until_empty = until_empty};

	reload_init(&reload, arguments, config);
	give_way();
	options.broker.windows[CORE_MAIN] = core_in_flight_max(&options.core);
	/* One heap for both threads: a second one would only take memory. */
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK);
	mallopt(M_TRIM_THRESHOLD, LARGE_BLOCK);
	if (getrandom(seeds, sizeof(seeds), 0) != (ssize_t)sizeof(seeds)) {
		log_error("no_randomness");
		return (EXIT_BUG);
	}
	message_key_seed(seeds[0], seeds[1]);
	options.core.seed = options.source.seed = options.broker.link.seed = seeds[2];
	name_connection(main_name, config->postgres.schema, "main");
	name_connection(suspects_name, config->postgres.schema, "suspects");
	log_info("starting", LOG_STR("version", VERSION),
	    LOG_STR("schema", config->postgres.schema), LOG_INT("window", config->publish.window));
	code = daemon_run(&options, &e);
	if (code != EXIT_WELL)
		log_failure(LOG_LEVEL_ERROR, "ended", &e);
	else if (until_empty)
		tell_what_is_left(config);
	return ((int)code);
}
