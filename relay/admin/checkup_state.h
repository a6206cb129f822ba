#ifndef ADMIN_CHECKUP_STATE_H
#define ADMIN_CHECKUP_STATE_H

#include <libpq-fe.h>

#include "admin/checkup.h"
#include "admin/remedy.h"

/* What the parts of a checkup share; private to relay/admin/checkup*.c. */
#define CHECKUP_NAME_MAX 256 /* of a role or database, quoted for SQL */

struct checkup {
	const struct checkup_options * options;
	struct findings * findings;
	PGconn * conn;
	char role[CHECKUP_NAME_MAX];     /* that we are */
	char admin[CHECKUP_NAME_MAX];    /* the superuser of initdb */
	char owner[CHECKUP_NAME_MAX];    /* of the database, then of the schema */
	char database[CHECKUP_NAME_MAX]; /* its name */
	bool usable;                     /* there is an outbox */
	bool denied;                     /* a right is missing, and that was said */
	bool leads;                      /* a relay leads here */
	char remedy[REMEDY_MAX];         /* room for one */
};

/**
 * checkup_ask(c, check, sql, count, parameters, binary):
 * One question in a transaction of its own that can only read; the word outbox
 * is the schema.  NULL: a finding says why not.  PQclear it.
 */
PGresult * checkup_ask(struct checkup * c, const char * check, const char * sql, int count,
    const char * const * parameters, bool binary);

/**
 * checkup_psql(c, role, sql), checkup_relay(c, role, command):
 * A remedy for the last finding: statements, one a line, or one of our commands (with
 * the arguments that this one was given), as ${role}; NULL: the relay's own.
 */
void checkup_psql(struct checkup * c, const char * role, const char * sql);
void checkup_relay(struct checkup * c, const char * role, const char * command);

/* Activity of the server: transactions, slots, connections, durability, clock. */
void checkup_server(struct checkup * c);

/**
 * checkup_schema(c):
 * Whether there is an outbox that this role may use: 0, or -1.
 */
int checkup_schema(struct checkup * c);

/* What lies in it. */
void checkup_outbox(struct checkup * c, struct checkup_routes * routes);

#endif /* ADMIN_CHECKUP_STATE_H */
