#ifndef POSTGRES_DSN_H
#define POSTGRES_DSN_H

#include <stddef.h>

#include "base/error.h"

/* Most bytes of a DSN that dsn_describe gives back. */
#define DSN_DESCRIPTION_MAX 4096

/**
 * dsn_check(dsn, e):
 * Whether libpq can read ${dsn}, a conninfo string or a URI.  0, or -1 with
 * ${e} (EXIT_CONFIGURATION), which never repeats a password.  Connects nowhere.
 */
int dsn_check(const char * dsn, struct error * e);

/**
 * dsn_describe(dsn, text):
 * ${dsn} for people's eyes: unchanged when it holds no password, else as
 * keywords and values with *** for each password; *** alone when libpq cannot
 * read it.
 */
void dsn_describe(const char * dsn, char text[DSN_DESCRIPTION_MAX]);

#endif /* POSTGRES_DSN_H */
