/*
 * One connection asks everything: RabbitMQ's answer to a message that is
 * published in a transaction and rolled back tells about exchange, permission
 * and alarms, and reaches no queue (amqp/enquiry.h).
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/shell.h"
#include "cli/doctor.h"
#include "cli/topology.h"

#define PURPOSE "outbox-relay doctor"
#define URLS_MAX 32
#define EXPIRY_WARNING_DAYS 14
#define DAY_S 86400
#define QUOTED_MAX 1100

struct look {
	const struct config * config;
	const struct checkup_routes * routes;
	const char * arguments;
	struct findings * findings;
	struct enquiry * enquiry;
	char vhost[QUOTED_MAX]; /* quoted for a shell */
	char user[QUOTED_MAX];
	size_t expected; /* by the topology */
	size_t unseen;
	size_t bad;
};

/* ---- the connection ---- */

static void
remedy_refusal(struct look * look, const struct url * url, const struct error * e)
{
	char vhost[QUOTED_MAX], user[QUOTED_MAX], file[QUOTED_MAX];
	const char * password_file = look->config->rabbitmq.password_file;

	shell_quote(vhost, sizeof(vhost), url->vhost);
	shell_quote(user, sizeof(user), url->user);
	finding_remedy(look->findings, "%s", e->remedy);
	if (strstr(e->text, "Connection refused") != NULL)
		finding_remedy(look->findings,
		    "systemctl start rabbitmq-server  # on %s; or correct rabbitmq.urls",
		    url->host);
	else if (e->amqp_code == 403 && !look->config->rabbitmq.auth && password_file != NULL)
		finding_remedy(look->findings, "cat >%s  # type the right password, Enter, Ctrl-D",
		    shell_quote(file, sizeof(file), password_file));
	else if (e->amqp_code == 403 && !look->config->rabbitmq.auth)
		finding_remedy(look->findings,
		    "rabbitmqctl change_password %s  # it asks for the one in rabbitmq.urls", user);
	else if (e->amqp_code == 530 && strstr(e->text, "not found") != NULL)
		finding_remedy(look->findings,
		    "rabbitmqctl add_vhost %s && rabbitmqctl set_permissions -p %s %s '' '.*' ''",
		    vhost, vhost, user);
	else if (e->amqp_code == 530 && strstr(e->text, "refused for user") != NULL)
		finding_remedy(look->findings,
		    "rabbitmqctl set_permissions -p %s %s '' '.*' ''  # configure, write, read",
		    vhost, user);
}

static void
check_expiry(struct look * look, const char * whose, int64_t expiry)
{
	int64_t days = (expiry - (int64_t)time(NULL)) / DAY_S;

	if (expiry == 0)
		return;
	if (days >= EXPIRY_WARNING_DAYS) {
		finding_ok(look->findings, "tls", "%s certificate is valid for %lld more days",
		    whose, (long long)days);
		return;
	}
	finding_warn(look->findings, "tls",
	    "%s certificate ends in %lld days: nobody connects then", whose, (long long)days);
	if (strcmp(whose, "our") == 0)
		finding_remedy(look->findings,
		    "renew %s; the relay reads it again whenever it connects",
		    look->config->rabbitmq.tls.cert_file);
	else
		finding_remedy(look->findings,
		    "rabbitmqctl eval 'ssl:clear_pem_cache().'  # after its file has been replaced");
}

/* Try all urls; the first that lets us in is kept. */
static void
connect_all(struct look * look)
{
	const struct config * config = look->config;
	static struct error failures[URLS_MAX];
	bool failed[URLS_MAX] = {false};
	size_t i;

	for (i = 0; i < config->rabbitmq.url_count && i < URLS_MAX; i++) {
		struct enquiry_options options = topology_options(config, config->rabbitmq.urls[i],
		    PURPOSE);
		struct enquiry * enquiry = enquiry_open(&options, &failures[i]);
		int64_t peer, own;
		char whose[600];

		failed[i] = enquiry == NULL;
		if (enquiry == NULL)
			continue;
		finding_ok(look->findings, "rabbitmq", "%s lets us in", enquiry_url(enquiry));
		enquiry_expiry(enquiry, &peer, &own);
		snprintf(whose, sizeof(whose), "the %.500s broker's", enquiry_url(enquiry));
		check_expiry(look, whose, peer);
		if (look->enquiry == NULL) {
			check_expiry(look, "our", own);
			look->enquiry = enquiry;
		} else
			enquiry_close(enquiry);
	}
	for (i = 0; i < config->rabbitmq.url_count && i < URLS_MAX; i++) {
		struct url url;

		if (!failed[i] || url_parse(&url, config->rabbitmq.urls[i], NULL))
			continue;
		/* The relay goes on to the next. */
		(look->enquiry == NULL ? finding_fail : finding_warn)(look->findings, "rabbitmq",
		    "%s", failures[i].text);
		remedy_refusal(look, &url, &failures[i]);
		explicit_bzero(&url, sizeof(url));
	}
}

/* ---- what is declared ---- */

static bool
declares_exchange(const struct config * config, const char * name)
{
	for (size_t i = 0; i < config->topology.exchange_count; i++) {
		if (strcmp(config->topology.exchanges[i].name, name) == 0)
			return (true);
	}
	return (false);
}

static bool
declares_queue(const struct config * config, const char * name)
{
	for (size_t i = 0; i < config->topology.queue_count; i++) {
		if (strcmp(config->topology.queues[i].name, name) == 0)
			return (true);
	}
	return (false);
}

static bool
declares_binding(const struct config * config, const char * exchange)
{
	for (size_t i = 0; i < config->topology.binding_count; i++) {
		if (strcmp(config->topology.bindings[i].exchange, exchange) == 0)
			return (true);
	}
	return (false);
}

/* "apply" for what the configuration declares, else with a declaration in front. */
static void
remedy_apply(struct look * look, bool declared, const char * variable, const char * entry,
    const char * comment)
{
	char quoted[3 * QUOTED_MAX];

	if (declared)
		finding_remedy(look->findings, "outbox-relay topology apply%s", look->arguments);
	else
		finding_remedy(look->findings,
		    "OUTBOX_RELAY_TOPOLOGY_%s=%s outbox-relay topology apply%s%s", variable,
		    shell_quote(quoted, sizeof(quoted), entry), look->arguments, comment);
}

/* ${text} as a YAML scalar between double quotes. */
static const char *
yaml_quote(char out[600], const char * text)
{
	size_t len = 0;

	for (; *text != '\0' && len + 2 < 600; text++) {
		if (*text == '"' || *text == '\\')
			out[len++] = '\\';
		out[len++] = *text;
	}
	out[len] = '\0';
	return (out);
}

/* ---- exchanges, queues, routes ---- */

/* false: there is no use in asking more. */
static bool
check_exchange(struct look * look, const struct checkup_route * route)
{
	char name[600], entry[700];
	struct error e;

	switch (enquiry_publish(look->enquiry, route->exchange, route->routing_key, &e)) {
	case ENQUIRY_YES:
		look->expected++;
		return (true);
	case ENQUIRY_MISSING:
		look->bad++;
		finding_fail(look->findings, "exchanges",
		    "exchange \"%s\" does not exist; messages of late name it", route->exchange);
		snprintf(entry, sizeof(entry), "[{name: \"%s\", type: topic}]",
		    yaml_quote(name, route->exchange));
		remedy_apply(look, declares_exchange(look->config, route->exchange), "EXCHANGES",
		    entry, "  # or of another type");
		return (true);
	case ENQUIRY_LOST:
	case ENQUIRY_BLOCKED:
		finding_fail(look->findings, "exchanges", "cannot be asked for: %s", e.text);
		finding_remedy(look->findings, "%s", e.remedy);
		return (false);
	default:
		look->bad++;
		finding_fail(look->findings, "exchanges", "exchange \"%s\", routing key \"%s\": %s",
		    route->exchange, route->routing_key, e.text);
		finding_remedy(look->findings, "%s", e.remedy);
		if (e.amqp_code == 403 && strstr(e.text, "access to exchange") != NULL)
			finding_remedy(look->findings,
			    "rabbitmqctl set_permissions -p %s %s '' '.*' ''  # configure, write, "
			    "read: in place of those that it has",
			    look->vhost, look->user);
		return (true);
	}
}

static void
check_exchanges(struct look * look)
{
	look->expected = look->bad = 0;
	for (size_t i = 0; i < look->routes->count; i++) {
		if (look->routes->list[i].need == CHECKUP_EXCHANGE &&
		    !check_exchange(look, &look->routes->list[i]))
			return;
	}
	if (look->bad == 0)
		finding_ok(look->findings, "exchanges",
		    "%zu named by messages of late: there, and this user may write to them",
		    look->expected);
}

/* The default exchange routes to the queue of that name. */
static void
check_queues(struct look * look)
{
	char name[600], entry[700];
	size_t there = 0, missing = 0;
	struct error e;

	for (size_t i = 0; i < look->routes->count; i++) {
		const struct checkup_route * route = &look->routes->list[i];

		/* Queues of one reply each come and go. */
		if (route->need != CHECKUP_QUEUE || route->routing_key[0] == '\0' ||
		    strncmp(route->routing_key, "amq.", 4) == 0)
			continue;
		switch (enquiry_queue(look->enquiry, route->routing_key, &e)) {
		case ENQUIRY_YES:
			there++;
			break;
		case ENQUIRY_MISSING:
			missing++;
			finding_fail(look->findings, "queues",
			    "queue \"%s\" does not exist; messages of late name it at the default "
			    "exchange",
			    route->routing_key);
			snprintf(entry, sizeof(entry), "[{name: \"%s\"}]",
			    yaml_quote(name, route->routing_key));
			remedy_apply(look, declares_queue(look->config, route->routing_key),
			    "QUEUES", entry, "");
			break;
		case ENQUIRY_LOST:
		case ENQUIRY_BLOCKED:
			finding_fail(look->findings, "queues", "cannot be asked for: %s", e.text);
			return;
		default:
			break;
		}
	}
	if (missing == 0)
		finding_ok(look->findings, "queues",
		    "%zu named by messages of late at the default exchange: there", there);
}

static void
check_routes(struct look * look)
{
	char exchange[600], key[600], entry[1400];
	size_t returned = 0;

	for (size_t i = 0; i < look->routes->count; i++) {
		const struct checkup_route * route = &look->routes->list[i];

		if (route->need != CHECKUP_ROUTE || route->exchange[0] == '\0')
			continue;
		returned++;
		finding_fail(look->findings, "routes",
		    "%lld messages wait because no queue is bound to exchange \"%s\" for routing key "
		    "\"%s\"",
		    (long long)route->messages, route->exchange, route->routing_key);
		snprintf(entry, sizeof(entry),
		    "[{exchange: \"%s\", queue: QUEUE, routing_key: \"%s\"}]",
		    yaml_quote(exchange, route->exchange), yaml_quote(key, route->routing_key));
		remedy_apply(look, declares_binding(look->config, route->exchange), "BINDINGS",
		    entry, "  # with the queue's name for QUEUE");
	}
	if (returned == 0 && look->config->publish.mandatory)
		finding_ok(look->findings, "routes",
		    "no message was returned for want of a queue; AMQP does not tell what is bound");
}

/* ---- topology ---- */

static void
on_verdict(void * context, const struct topology_verdict * verdict)
{
	struct look * look = context;

	switch (verdict->state) {
	case TOPOLOGY_OK:
		look->expected++;
		break;
	case TOPOLOGY_MISSING:
		look->bad++;
		finding_fail(look->findings, "topology", "%s is missing (%s)", verdict->what,
		    verdict->place);
		finding_remedy(look->findings, "outbox-relay topology apply%s", look->arguments);
		break;
	case TOPOLOGY_DIFFERS:
		look->bad++;
		finding_fail(look->findings, "topology", "%s differs (%s): %s", verdict->what,
		    verdict->place, verdict->e.text);
		finding_remedy(look->findings, "%s", verdict->e.remedy);
		break;
	default:
		look->unseen++;
		break;
	}
}

static void
check_topology(struct look * look)
{
	const struct config * config = look->config;
	struct error e;

	look->expected = look->unseen = look->bad = 0;
	if (config->topology.exchange_count + config->topology.queue_count +
		config->topology.binding_count ==
	    0) {
		finding_ok(look->findings, "topology", "the configuration declares nothing");
		return;
	}
	if (topology_visit(look->enquiry, config, false, on_verdict, look, &e)) {
		finding_fail(look->findings, "topology", "cannot be asked for: %s", e.text);
		finding_remedy(look->findings, "%s", e.remedy);
	} else if (look->bad == 0)
		finding_ok(look->findings, "topology",
		    "%zu there as declared; %zu cannot be seen (bindings, and what this user may not "
		    "declare)",
		    look->expected, look->unseen);
}

static bool
is_text(const struct config_argument * argument, const char * name)
{
	return (strcmp(argument->name, name) == 0 && argument->kind == CONFIG_ARGUMENT_TEXT);
}

/* A queue with a bound that drops its oldest messages: lost after the confirm (L). */
static bool
drops(const struct config_queue * queue)
{
	bool bounded = false, rejects = false;

	for (size_t i = 0; queue->arguments != NULL && i < queue->arguments->count; i++) {
		const struct config_argument * a = &queue->arguments->list[i];

		bounded = bounded || strcmp(a->name, "x-max-length") == 0 ||
		    strcmp(a->name, "x-max-length-bytes") == 0;
		rejects = rejects ||
		    (is_text(a, "x-overflow") && strncmp(a->text, "reject-publish", 14) == 0);
	}
	/* A stream is bounded by its nature. */
	return (bounded && !rejects && queue->type != CONFIG_QUEUE_STREAM);
}

static void
check_overflow(struct look * look)
{
	size_t bad = 0;

	for (size_t i = 0; i < look->config->topology.queue_count; i++) {
		const struct config_queue * queue = &look->config->topology.queues[i];

		if (!drops(queue))
			continue;
		bad++;
		finding_warn(look->findings, "overflow",
		    "queue %s (%s) drops its oldest messages when it is full, though they were "
		    "confirmed",
		    queue->name, queue->place);
		finding_remedy(look->findings,
		    "add x-overflow: reject-publish to its arguments there; a queue that exists must "
		    "be deleted before topology apply");
	}
	if (bad == 0)
		finding_ok(look->findings, "overflow",
		    "no queue declared here drops messages; policies do not show in AMQP: "
		    "rabbitmqctl list_policies -p %s",
		    look->vhost);
}

/* ---- alarms ---- */

/* 0: RabbitMQ takes messages. */
static int
check_alarm(struct look * look)
{
	struct error e;

	/* Whether this user may use the default exchange is another question. */
	switch (enquiry_publish(look->enquiry, "", "outbox-relay doctor", &e)) {
	case ENQUIRY_BLOCKED:
		finding_fail(look->findings, "alarm", "RabbitMQ takes no messages from anybody: %s",
		    e.text);
		finding_remedy(look->findings,
		    strstr(e.text, "disk") != NULL ?
			"rabbitmqctl set_disk_free_limit 50MB  # for now: free disk space on its host" :
			"rabbitmqctl set_vm_memory_high_watermark 0.6  # for now: have its queues "
			"consumed, or give it memory");
		return (-1);
	case ENQUIRY_LOST:
		finding_fail(look->findings, "alarm", "cannot be asked for: %s", e.text);
		finding_remedy(look->findings, "%s", e.remedy);
		return (-1);
	default:
		finding_ok(look->findings, "alarm", "RabbitMQ takes messages");
		return (0);
	}
}

void
doctor_broker(const struct config * config, const struct checkup_routes * routes,
    const char * arguments, struct findings * findings)
{
	static struct look look;

	look = (struct look){.config = config,
	    .routes = routes,
	    .arguments = arguments,
	    .findings = findings};
	connect_all(&look);
	if (look.enquiry == NULL)
		return;
	shell_quote(look.vhost, sizeof(look.vhost), enquiry_vhost(look.enquiry));
	shell_quote(look.user, sizeof(look.user), enquiry_user(look.enquiry));
	if (check_alarm(&look) == 0) {
		if (routes->known) {
			check_exchanges(&look);
			check_queues(&look);
			check_routes(&look);
		}
		check_topology(&look);
	}
	check_overflow(&look);
	enquiry_close(look.enquiry);
}
