#ifndef CLI_TOPOLOGY_H
#define CLI_TOPOLOGY_H

#include <stdbool.h>

#include "amqp/enquiry_declare.h"
#include "cli/cli.h"

/* topology check|apply */
extern const struct cli_command cli_topology;

/* How something that the configuration declares stands at the broker. */
enum topology_state {
	TOPOLOGY_OK,
	TOPOLOGY_MISSING,
	TOPOLOGY_DIFFERS,
	TOPOLOGY_UNKNOWN,  /* AMQP does not tell; the error says why, or says nothing */
	TOPOLOGY_DECLARED, /* it was missing, and is there now */
	TOPOLOGY_BOUND,    /* a binding is there now, whether or not it was before */
	TOPOLOGY_FAILED    /* it could not be declared */
};

struct topology_verdict {
	enum topology_state state;
	const char * place; /* where it is declared: "FILE:12" */
	const char * what;  /* like: queue billing */
	struct error e;     /* unless OK, DECLARED or BOUND */
};

typedef void topology_visitor(void * context, const struct topology_verdict * verdict);

/**
 * topology_visit(enquiry, config, apply, visit, context, e):
 * Look at all that is declared, in the order of exchanges, queues, bindings;
 * declare what is missing if ${apply}.  0, or -1 with ${e} when the broker
 * answers no more.
 */
int topology_visit(struct enquiry * enquiry, const struct config * config, bool apply,
    topology_visitor * visit, void * context, struct error * e);

/**
 * topology_connect(config, purpose, e):
 * To the first of rabbitmq.urls that lets us in.  NULL with ${e}: of the last.
 */
struct enquiry * topology_connect(const struct config * config, const char * purpose,
    struct error * e);

/**
 * topology_options(config, url, purpose):
 * How to connect to that one.
 */
struct enquiry_options topology_options(const struct config * config, const char * url,
    const char * purpose);

#endif /* CLI_TOPOLOGY_H */
