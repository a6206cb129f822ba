#ifndef ADMIN_MIGRATE_H
#define ADMIN_MIGRATE_H

#include <stdbool.h>

#include "base/error.h"
#include "postgres/migrations_embedded.h"

/*
 * Applies the migrations that are part of the binary, and takes them back.
 * Which ones are applied, the schema itself says (applied_migrations()), so
 * this and any other migration tool may take turns.  Blocks.
 */
struct migrate_options {
	const char * dsn;
	const char * password_file; /* NULL: none */
	const char * line;          /* "outbox" or "inbox" */
	const char * schema;        /* ^[a-z_][a-z0-9_]{0,39}$ */
	bool look_only;             /* nothing will be applied or taken back */
	void (*waiting)(
	    const char * schema); /* others migrate it: called before waiting for them */
};

struct migrate;

/* Where a migration stands. */
struct migrate_state {
	bool applied;
	char applied_at[64]; /* "" when the history does not tell */
	char applied_by[64];
};

/**
 * migrate_schema_valid(schema):
 * Whether it can name a schema here.
 */
bool migrate_schema_valid(const char * schema);

/**
 * migrate_next(line, previous):
 * The migrations of ${line} in ascending order: the first for NULL, NULL
 * behind the last.
 */
const struct migration_file * migrate_next(const char * line,
    const struct migration_file * previous);

/**
 * migrate_text(file, up, schema):
 * The SQL of ${file} for a schema of that name: every bare word that is the
 * line's own name is replaced.  To be freed; NULL when out of memory.
 */
char * migrate_text(const struct migration_file * file, bool up, const char * schema);

/**
 * migrate_open(options, e):
 * Connect and wait for others who migrate this schema (at most a minute).
 * Strings are borrowed.  NULL with ${e}.
 */
struct migrate * migrate_open(const struct migrate_options * options, struct error * e);
void migrate_close(struct migrate * migrate);

/**
 * migrate_look(migrate, file, state, e):
 * 0, or -1 with ${e}.
 */
int migrate_look(struct migrate * migrate, const struct migration_file * file,
    struct migrate_state * state, struct error * e);

/**
 * migrate_newest_unknown(migrate, version, e):
 * 1 with the greatest applied ${version} that this binary does not know, 0 if
 * there is none, -1 with ${e}.
 */
int migrate_newest_unknown(struct migrate * migrate, unsigned int * version, struct error * e);

/**
 * migrate_check_version(migrate, e):
 * 0 unless the schema is of another major version: -1 with ${e}.  A schema
 * that is not there yet is fine.
 */
int migrate_check_version(struct migrate * migrate, struct error * e);

/**
 * migrate_database(migrate):
 * Its name.
 */
const char * migrate_database(const struct migrate * migrate);

/**
 * migrate_may(migrate, e):
 * Whether the role may apply and take back migrations here, without trying: 0,
 * or -1 with ${e}.
 */
int migrate_may(struct migrate * migrate, struct error * e);

/**
 * migrate_loses(migrate, file, what, size, e):
 * Write what would be thrown away with ${file} into ${what}, "" for nothing.
 * 0; -1 with ${e}: it would refuse to be taken back, and says why, or nobody
 * knows.
 */
int migrate_loses(struct migrate * migrate, const struct migration_file * file, char * what,
    size_t size, struct error * e);

/**
 * migrate_apply(migrate, file, up, e):
 * Apply ${file}, or take it back, in one transaction.  0, or -1 with ${e} and
 * nothing changed.
 */
int migrate_apply(struct migrate * migrate, const struct migration_file * file, bool up,
    struct error * e);

#endif /* ADMIN_MIGRATE_H */
