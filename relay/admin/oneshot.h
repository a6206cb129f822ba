#ifndef ADMIN_ONESHOT_H
#define ADMIN_ONESHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/*
 * What the commands for people share: a connection that blocks, SQL for a
 * schema of any name, the last answer, and who sits before the terminal.
 */
struct oneshot;

struct oneshot_options {
	const char * dsn;
	const char * password_file; /* NULL: none */
	const char * word;          /* the schema's name in our SQL: outbox or inbox */
	const char * schema;        /* its real name */
	const char * purpose;       /* for application_name */
	const char * settings;      /* for this session; NULL: none */
	bool look_only;             /* as in struct direct_options */
};

/**
 * oneshot_open(options, e):
 * Connect to the primary and see that the schema is there, in a version that
 * we know.  Strings are borrowed.  NULL with ${e}.
 */
struct oneshot * oneshot_open(const struct oneshot_options * options, struct error * e);
void oneshot_close(struct oneshot * oneshot);

/**
 * oneshot_has(oneshot, migration):
 * Whether what that migration of its line brought may be used.
 *
 * oneshot_requires(oneshot, migration, e):
 * The same for a command that is nothing without it: 0, or -1 with ${e}.
 */
bool oneshot_has(const struct oneshot * oneshot, unsigned int migration);
int oneshot_requires(const struct oneshot * oneshot, unsigned int migration, struct error * e);

/**
 * oneshot_ask(oneshot, text, count, parameters, e):
 * Run one statement in a transaction of its own.  The answer is kept until the
 * next question.  0, or -1 with ${e}.
 */
int oneshot_ask(struct oneshot * oneshot, const char * text, int count,
    const char * const * parameters, struct error * e);

/**
 * oneshot_rows, oneshot_columns, oneshot_name, oneshot_value, oneshot_number:
 * The last answer.  A value is NULL where SQL says so; a number is then 0.
 */
size_t oneshot_rows(const struct oneshot * oneshot);
size_t oneshot_columns(const struct oneshot * oneshot);
const char * oneshot_name(const struct oneshot * oneshot, size_t column);
const char * oneshot_value(const struct oneshot * oneshot, size_t row, size_t column);
int64_t oneshot_number(const struct oneshot * oneshot, size_t row, size_t column);

/**
 * oneshot_user(oneshot), oneshot_host(oneshot):
 * Who does this, as the operating system says, for the table of operations.
 */
const char * oneshot_user(const struct oneshot * oneshot);
const char * oneshot_host(const struct oneshot * oneshot);

/**
 * oneshot_database(oneshot):
 * Its name.
 */
const char * oneshot_database(const struct oneshot * oneshot);

#endif /* ADMIN_ONESHOT_H */
