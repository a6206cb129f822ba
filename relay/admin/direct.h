#ifndef ADMIN_DIRECT_H
#define ADMIN_DIRECT_H

#include <stdbool.h>

#include <libpq-fe.h>

#include "base/error.h"

/*
 * A connection for one-shot commands: it blocks.
 */
struct direct_options {
	const char * dsn;           /* conninfo or URI */
	const char * password_file; /* NULL: none */
	const char * purpose;       /* for application_name */
	bool writable;              /* the primary is needed */
	bool look_only; /* for a dry run: the server refuses whatever would change something */
};

/**
 * direct_open(options, e):
 * Connect within 10 s a host, or return NULL with ${e}.  PQfinish it.
 */
PGconn * direct_open(const struct direct_options * options, struct error * e);

/**
 * direct_query(conn, sql, count, parameters, e):
 * Run one statement with text parameters (NULL is SQL NULL), answer in text
 * form.  NULL with ${e} when it failed.  PQclear it.
 */
PGresult * direct_query(PGconn * conn, const char * sql, int count, const char * const * parameters,
    struct error * e);

/**
 * direct_query_binary(conn, sql, count, parameters, e):
 * The same, answered in binary form, as postgres/wire.h reads it.
 */
PGresult * direct_query_binary(PGconn * conn, const char * sql, int count,
    const char * const * parameters, struct error * e);

/**
 * direct_run(conn, sql, e):
 * Run statements that give no rows.  0, or -1 with ${e}.
 */
int direct_run(PGconn * conn, const char * sql, struct error * e);

/**
 * direct_name_grant(conn, schema, function, e):
 * If ${e} says that this role lacks a right, make its remedy the statement that
 * gives it: SELECT ${schema}.${function}('the role').
 */
void direct_name_grant(PGconn * conn, const char * schema, const char * function, struct error * e);

#endif /* ADMIN_DIRECT_H */
