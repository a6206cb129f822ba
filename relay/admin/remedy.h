#ifndef ADMIN_REMEDY_H
#define ADMIN_REMEDY_H

#include <stddef.h>

/*
 * Commands for a person to type, which connect as the DSN does but as another
 * role: the one that owns what is to be mended.  No password is repeated.
 */
#define REMEDY_MAX 2400
#define REMEDY_DSN_MAX 1024

/**
 * remedy_dsn(dsn, role, database, out):
 * The DSN for ${role}; ${database} NULL: the DSN's own.
 */
void remedy_dsn(const char * dsn, const char * role, const char * database,
    char out[REMEDY_DSN_MAX]);

/**
 * remedy_psql(dsn, role, database, sql, out):
 * psql "host=... user=ROLE" -c "SQL".  ${sql}: statements, one a line, each
 * with a -c (and so a transaction) of its own.  Returns ${out}.
 */
char * remedy_psql(const char * dsn, const char * role, const char * database, const char * sql,
    char out[REMEDY_MAX]);

/**
 * remedy_relay(dsn, has_password_file, role, command, out):
 * OUTBOX_RELAY_POSTGRES_DSN="..." COMMAND; without the relay's own password if
 * it comes from a file.  Returns ${out}.
 */
char * remedy_relay(const char * dsn, int has_password_file, const char * role,
    const char * command, char out[REMEDY_MAX]);

/**
 * remedy_value(dsn, keyword, out, size):
 * What the DSN says of ${keyword}, else libpq's defaults; "" if neither does.
 */
void remedy_value(const char * dsn, const char * keyword, char * out, size_t size);

/**
 * remedy_identifier(name, out, size):
 * ${name} quoted as SQL asks for; "" if it is too long.  Returns ${out}.
 */
char * remedy_identifier(const char * name, char * out, size_t size);

#endif /* ADMIN_REMEDY_H */
