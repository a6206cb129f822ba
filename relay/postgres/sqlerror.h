#ifndef POSTGRES_SQLERROR_H
#define POSTGRES_SQLERROR_H

#include <libpq-fe.h>

#include "base/error.h"

/*
 * What libpq and the server say, as a struct error with the exit code and,
 * where it is known, the remedy.
 */

/**
 * sqlerror_from_connection(e, conn):
 * Why ${conn} (may be NULL: out of memory) could not connect, or was lost.
 */
void sqlerror_from_connection(struct error * e, const PGconn * conn);

/**
 * sqlerror_from_words(e, text):
 * The same, from what PQerrorMessage said.
 */
void sqlerror_from_words(struct error * e, const char * text);

/**
 * sqlerror_from_result(e, result):
 * The error that the server reported in ${result} (may be NULL).
 */
void sqlerror_from_result(struct error * e, const PGresult * result);

#endif /* POSTGRES_SQLERROR_H */
