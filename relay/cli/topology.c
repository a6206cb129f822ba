/*
 * What must stay true: "check" changes nothing, and "apply" deletes nothing.
 * Whether something differs is found by declaring what is there: RabbitMQ
 * refuses with 406 and changes nothing, or finds nothing to do.  So it is
 * asked first whether it is there.
 *
 * AMQP has no question for bindings.  One whose ends are there is unknown to
 * "check", and "apply" makes it again, which changes nothing if it was there.
 */
#include "cli/topology.h"

#include <stdio.h>
#include <string.h>

#define TIMEOUT CLOCK_S(10)
#define WHAT_MAX 800

_Static_assert(CONFIG_ARGUMENTS_MAX + 1 <= ENQUIRY_ARGUMENTS_MAX, "x-queue-type, too");

struct visit {
	struct enquiry * enquiry;
	bool apply;
	topology_visitor * visitor;
	void * context;
	struct error * e;
};

static void
copy_arguments(struct enquiry_arguments * to, const struct config_arguments * from)
{
	static const enum enquiry_argument_kind kinds[] = {
	    [CONFIG_ARGUMENT_TEXT] = ENQUIRY_ARGUMENT_TEXT,
	    [CONFIG_ARGUMENT_INTEGER] = ENQUIRY_ARGUMENT_INTEGER,
	    [CONFIG_ARGUMENT_BOOLEAN] = ENQUIRY_ARGUMENT_BOOLEAN,
	    [CONFIG_ARGUMENT_NOTHING] = ENQUIRY_ARGUMENT_NOTHING,
	};

	for (size_t i = 0; from != NULL && i < from->count; i++)
		to->list[to->count++] = (struct enquiry_argument){.name = from->list[i].name,
		    .kind = kinds[from->list[i].kind],
		    .text = from->list[i].text,
		    .number = from->list[i].number};
}

static int
tell(const struct visit * v, struct topology_verdict * verdict, enum topology_state state)
{
	verdict->state = state;
	v->visitor(v->context, verdict);
	return (0);
}

/* What to make of an answer to a declaration of something that ${exists}, or did not. */
static int
declared(const struct visit * v, struct topology_verdict * verdict, enum enquiry_answer answer,
    bool exists)
{
	switch (answer) {
	case ENQUIRY_YES:
		return (tell(v, verdict, exists ? TOPOLOGY_OK : TOPOLOGY_DECLARED));
	case ENQUIRY_DIFFERS:
		error_remedy(&verdict->e,
		    "it cannot be changed: declare at %s what is there, or delete it in RabbitMQ "
		    "and apply again",
		    verdict->place);
		return (tell(v, verdict, exists ? TOPOLOGY_DIFFERS : TOPOLOGY_FAILED));
	case ENQUIRY_BLOCKED:
	case ENQUIRY_LOST:
		*v->e = verdict->e;
		return (-1);
	default:
		break;
	}
	error_remedy(&verdict->e,
	    "grant the right to declare: rabbitmqctl set_permissions -p \"%s\" \"%s\" '.*' '.*' '.*'",
	    enquiry_vhost(v->enquiry), enquiry_user(v->enquiry));
	return (tell(v, verdict, exists ? TOPOLOGY_UNKNOWN : TOPOLOGY_FAILED));
}

typedef enum enquiry_answer asking(struct enquiry *, const char *, struct error *);
typedef enum enquiry_answer declaring(struct enquiry *, const struct enquiry_declaration *,
    struct error *);

static int
visit_one(const struct visit * v, const struct enquiry_declaration * declaration, asking * ask,
    declaring * declare, struct topology_verdict * verdict)
{
	switch (ask(v->enquiry, declaration->name, &verdict->e)) {
	case ENQUIRY_YES:
		return (declared(v, verdict, declare(v->enquiry, declaration, &verdict->e), true));
	case ENQUIRY_MISSING:
		if (v->apply)
			return (declared(v, verdict, declare(v->enquiry, declaration, &verdict->e),
			    false));
		error_remedy(&verdict->e, "outbox-relay topology apply");
		return (tell(v, verdict, TOPOLOGY_MISSING));
	case ENQUIRY_DIFFERS:
	case ENQUIRY_REFUSED:
		return (tell(v, verdict, TOPOLOGY_UNKNOWN));
	default:
		*v->e = verdict->e;
		return (-1);
	}
}

static int
visit_exchanges(const struct visit * v, const struct config * config)
{
	for (size_t i = 0; i < config->topology.exchange_count; i++) {
		const struct config_exchange * x = &config->topology.exchanges[i];
		struct enquiry_declaration declaration = {.name = x->name,
		    .type = x->type,
		    .durable = x->durable,
		    .auto_delete = x->auto_delete,
		    .internal = x->internal};
		char what[WHAT_MAX];
		struct topology_verdict verdict = {.place = x->place, .what = what};

		snprintf(what, sizeof(what), "exchange %s", x->name);
		copy_arguments(&declaration.arguments, x->arguments);
		if (visit_one(v, &declaration, enquiry_exchange, enquiry_declare_exchange,
			&verdict))
			return (-1);
	}
	return (0);
}

static int
visit_queues(const struct visit * v, const struct config * config)
{
	static const char * const types[] = {"quorum", "classic", "stream"};

	for (size_t i = 0; i < config->topology.queue_count; i++) {
		const struct config_queue * q = &config->topology.queues[i];
		struct enquiry_declaration declaration = {.name = q->name,
		    .durable = q->durable,
		    .auto_delete = q->auto_delete,
		    .arguments = {.count = 1,
			.list = {{.name = "x-queue-type",
			    .kind = ENQUIRY_ARGUMENT_TEXT,
			    .text = types[q->type]}}}};
		char what[WHAT_MAX];
		struct topology_verdict verdict = {.place = q->place, .what = what};

		snprintf(what, sizeof(what), "queue %s", q->name);
		copy_arguments(&declaration.arguments, q->arguments);
		if (visit_one(v, &declaration, enquiry_queue, enquiry_declare_queue, &verdict))
			return (-1);
	}
	return (0);
}

static int
bind(const struct visit * v, const struct config_binding * b, struct topology_verdict * verdict)
{
	struct enquiry_binding binding = {.exchange = b->exchange,
	    .destination = b->queue != NULL ? b->queue : b->to_exchange,
	    .to_exchange = b->queue == NULL,
	    .routing_key = b->routing_key};

	copy_arguments(&binding.arguments, b->arguments);
	switch (enquiry_bind(v->enquiry, &binding, &verdict->e)) {
	case ENQUIRY_YES:
		return (tell(v, verdict, TOPOLOGY_BOUND));
	case ENQUIRY_BLOCKED:
	case ENQUIRY_LOST:
		*v->e = verdict->e;
		return (-1);
	case ENQUIRY_MISSING:
		error_remedy(&verdict->e, "declare it, too");
		break;
	default:
		error_remedy(&verdict->e,
		    "binding needs the right to read from %s and to write to %s: rabbitmqctl "
		    "set_permissions -p \"%s\" \"%s\" '.*' '.*' '.*'",
		    b->exchange, binding.destination, enquiry_vhost(v->enquiry),
		    enquiry_user(v->enquiry));
		break;
	}
	return (tell(v, verdict, TOPOLOGY_FAILED));
}

/* Whether both ends are there; -1 when the broker answers no more. */
static int
has_ends(const struct visit * v, const struct config_binding * b, struct error * e)
{
	enum enquiry_answer answer = enquiry_exchange(v->enquiry, b->exchange, e);

	if (answer == ENQUIRY_YES)
		answer = b->queue != NULL ? enquiry_queue(v->enquiry, b->queue, e) :
					    enquiry_exchange(v->enquiry, b->to_exchange, e);
	if (answer == ENQUIRY_LOST || answer == ENQUIRY_BLOCKED) {
		*v->e = *e;
		return (-1);
	}
	return (answer != ENQUIRY_MISSING);
}

static int
visit_bindings(const struct visit * v, const struct config * config)
{
	for (size_t i = 0; i < config->topology.binding_count; i++) {
		const struct config_binding * b = &config->topology.bindings[i];
		char what[WHAT_MAX];
		struct topology_verdict verdict = {.place = b->place, .what = what};
		int there;

		snprintf(what, sizeof(what), "binding %s -> %s \"%s\"", b->exchange,
		    b->queue != NULL ? b->queue : b->to_exchange, b->routing_key);
		if (v->apply) {
			if (bind(v, b, &verdict))
				return (-1);
			continue;
		}
		if ((there = has_ends(v, b, &verdict.e)) == -1)
			return (-1);
		if (there == 0)
			error_remedy(&verdict.e, "outbox-relay topology apply");
		else
			error_set(&verdict.e, EXIT_FOUND,
			    "AMQP does not tell; apply makes sure of it");
		tell(v, &verdict, there == 0 ? TOPOLOGY_MISSING : TOPOLOGY_UNKNOWN);
	}
	return (0);
}

int
topology_visit(struct enquiry * enquiry, const struct config * config, bool apply,
    topology_visitor * visitor, void * context, struct error * e)
{
	const struct visit v = {.enquiry = enquiry,
	    .apply = apply,
	    .visitor = visitor,
	    .context = context,
	    .e = e};

	if (visit_exchanges(&v, config) || visit_queues(&v, config) || visit_bindings(&v, config))
		return (-1);
	return (0);
}

struct enquiry_options
topology_options(const struct config * config, const char * url, const char * purpose)
{
	return ((struct enquiry_options){.url = url,
	    .password_file = config->rabbitmq.password_file,
	    .external_auth = config->rabbitmq.auth == CONFIG_AUTH_EXTERNAL,
	    .tls = {.ca_file = config->rabbitmq.tls.ca_file,
		.cert_file = config->rabbitmq.tls.cert_file,
		.key_file = config->rabbitmq.tls.key_file,
		.server_name = config->rabbitmq.tls.server_name},
	    .connection_name = purpose,
	    .timeout = TIMEOUT});
}

struct enquiry *
topology_connect(const struct config * config, const char * purpose, struct error * e)
{
	for (size_t i = 0; i < config->rabbitmq.url_count; i++) {
		struct enquiry_options options = topology_options(config, config->rabbitmq.urls[i],
		    purpose);
		struct enquiry * enquiry = enquiry_open(&options, e);

		if (enquiry != NULL)
			return (enquiry);
	}
	return (NULL);
}

/* ---- the command ---- */

struct report {
	bool missing; /* something is, and nobody declared it */
	bool wrong;   /* something differs, or could not be declared */
};

static void
print(void * context, const struct topology_verdict * verdict)
{
	static const char * const words[] = {[TOPOLOGY_OK] = "ok",
	    [TOPOLOGY_MISSING] = "missing",
	    [TOPOLOGY_DIFFERS] = "differs",
	    [TOPOLOGY_UNKNOWN] = "unknown",
	    [TOPOLOGY_DECLARED] = "declared",
	    [TOPOLOGY_BOUND] = "bound",
	    [TOPOLOGY_FAILED] = "FAILED"};
	struct report * report = context;

	printf("%-9s %s", words[verdict->state], verdict->what);
	switch (verdict->state) {
	case TOPOLOGY_MISSING:
		report->missing = true;
		break;
	case TOPOLOGY_DIFFERS:
	case TOPOLOGY_FAILED:
		report->wrong = true;
		printf(": %s", verdict->e.text);
		if (verdict->e.remedy[0] != '\0')
			printf("\n  remedy: %s", verdict->e.remedy);
		break;
	case TOPOLOGY_UNKNOWN:
		printf(": %s", verdict->e.text);
		break;
	default:
		break;
	}
	putchar('\n');
}

static int
run(const struct cli_arguments * arguments, const struct config * config)
{
	bool applying = strcmp(arguments->words[0], "apply") == 0;
	bool dry = cli_flag(arguments, "dry-run");
	struct report report = {0};
	struct enquiry * enquiry;
	struct error e;
	int failed;

	if (!applying && strcmp(arguments->words[0], "check") != 0)
		return (cli_usage(arguments->command, "topology check or apply, not \"%.60s\"",
		    arguments->words[0]));
	if (!applying && dry)
		return (cli_usage(arguments->command, "--dry-run belongs to apply"));
	if (config->topology.exchange_count + config->topology.queue_count +
		config->topology.binding_count ==
	    0) {
		fputs("outbox-relay: the configuration declares nothing in topology\n", stderr);
		return (EXIT_WELL);
	}
	if ((enquiry = topology_connect(config, "outbox-relay topology", &e)) == NULL)
		return (cli_fail(&e));
	failed = topology_visit(enquiry, config, applying && !dry, print, &report, &e);
	enquiry_close(enquiry);
	if (failed)
		return (cli_fail(&e));
	return (report.wrong || (report.missing && !applying) ? EXIT_FOUND : EXIT_WELL);
}

static const struct cli_option options[] = {
    {"dry-run", NULL, "apply: say what it would do"},
    {NULL, NULL, NULL},
};

const struct cli_command cli_topology = {
    .name = "topology",
    .words = "check|apply",
    .words_min = 1,
    .words_max = 1,
    .summary = "exchanges, queues and bindings that the configuration declares",
    .description =
	"check says for each whether it is there as declared, and changes nothing; apply declares\n"
	"what is missing. Neither deletes or changes what is there: what differs is named, and the\n"
	"exit code is 1. AMQP does not tell about bindings: apply makes all of them again. The user\n"
	"needs to configure, write and read what it declares; run does not apply anything itself.",
    .example = "outbox-relay topology apply --dry-run",
    .options = options,
    .run = run,
};
