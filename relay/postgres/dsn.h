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

/*
 * The hosts that a DSN lists, begun with another than the first.  NULL: as the
 * DSN has it.
 */
struct dsn_hosts {
	char * host;
	char * hostaddr;
	char * port;
};

/**
 * dsn_rotate_hosts(dsn, first, hosts):
 * Begin the lists with number ${first} (from 0, taken modulo their length).
 * The caller frees them by dsn_free_hosts.  Out of memory: as the DSN has it.
 */
void dsn_rotate_hosts(const char * dsn, size_t first, struct dsn_hosts * hosts);
void dsn_free_hosts(struct dsn_hosts * hosts);

#endif /* POSTGRES_DSN_H */
