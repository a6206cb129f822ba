#ifndef CLI_MIGRATE_PRINT_H
#define CLI_MIGRATE_PRINT_H

#include <stdbool.h>

#include "base/error.h"

/*
 * The migrations as files of other tools.
 *   plain    0001_NAME.up.sql and .down.sql, as golang-migrate reads them
 *   flyway   V1__NAME.sql and U1__NAME.sql
 *   dbmate   0001_NAME.sql, both directions, marked
 *   goose    0001_NAME.sql, the same with goose's marks; each direction is one
 *            statement to it
 */
enum migrate_format { MIGRATE_PLAIN, MIGRATE_FLYWAY, MIGRATE_DBMATE, MIGRATE_GOOSE };

/**
 * migrate_format_from(name, format):
 * Whether there is a format of that name (NULL: plain).
 */
bool migrate_format_from(const char * name, enum migrate_format * format);

/**
 * migrate_print(line, schema, to, format, directory, e):
 * Write the migrations up to version ${to} into ${directory}, naming each file
 * on stdout; a file that exists is left alone.  With no directory (NULL) the
 * ups go to stdout, for psql -1; only for plain.  0, or -1 with ${e}.
 */
int migrate_print(const char * line, const char * schema, unsigned int to,
    enum migrate_format format, const char * directory, struct error * e);

#endif /* CLI_MIGRATE_PRINT_H */
