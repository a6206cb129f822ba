#ifndef ADMIN_CHECKUP_H
#define ADMIN_CHECKUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/finding.h"

/*
 * Everything that a healthy relay needs of Postgres, asked by the relay's own
 * role in transactions that can only read.  Blocks, for seconds at worst
 * where a server answers.
 */
struct checkup_options {
	const char * dsn;
	const char * password_file; /* NULL: none */
	const char * schema;
	bool listens;           /* wake.mode is listen */
	bool waits_for_flush;   /* postgres.wait_for_flush */
	int64_t patience_s;     /* transactions that are older are named */
	const char * arguments; /* behind commands that are to be typed: " --config FILE", or "" */
};

/* What messages of late ask of the broker. */
enum checkup_need {
	CHECKUP_EXCHANGE, /* it is published to, with that routing key among others */
	CHECKUP_QUEUE,    /* that routing key is used at the default exchange */
	CHECKUP_ROUTE     /* messages wait since they were returned: no queue is bound */
};

struct checkup_route {
	enum checkup_need need;
	char exchange[256];
	char routing_key[256];
	int64_t messages; /* that wait; CHECKUP_ROUTE alone */
};

#define CHECKUP_ROUTES_MAX 100 /* of each need */

struct checkup_routes {
	bool known; /* the database could be asked */
	size_t count;
	struct checkup_route list[3 * CHECKUP_ROUTES_MAX];
};

/**
 * checkup_postgres(options, findings, routes):
 * Add what was found to ${findings}, and fill ${routes} as far as it could be
 * read.
 */
void checkup_postgres(const struct checkup_options * options, struct findings * findings,
    struct checkup_routes * routes);

#endif /* ADMIN_CHECKUP_H */
