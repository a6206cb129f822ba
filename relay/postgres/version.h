#ifndef POSTGRES_VERSION_H
#define POSTGRES_VERSION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/*
 * Which versions of a schema this program works with: every minor version of
 * its major.  Program and migrations are deployed by different people, so a
 * schema may be older or newer than the program; what it lacks is left alone.
 */

/* Answers with one row of two texts, for line outbox; the word may be replaced. */
#define VERSION_SQL \
	"SELECT outbox.schema_version(), array_to_string(outbox.applied_migrations(), ' ')"

/* What a schema has. */
struct version {
	uint64_t migrations; /* bit N: migration N is applied */
	char behind[256];    /* those of this program that it lacks, but "wake"; "" for none */
	char ahead[24];      /* its newest, if this program does not know it; "" otherwise */
};

struct version_facts {
	const char * line;     /* "outbox" or "inbox" */
	const char * database; /* for messages */
	const char * schema;   /* its name, for messages */
	const char * version;  /* schema_version(): "1.0" */
	const char * applied;  /* applied_migrations(): "1 2 3" */
};

/**
 * version_check(version, facts, e):
 * Fill ${version} from ${facts}, which are borrowed.  0; -1 with ${e} if the
 * schema is of another major version.
 */
int version_check(struct version * version, const struct version_facts * facts, struct error * e);

/**
 * version_has(version, migration):
 * Whether what that migration brought may be used.  To be asked before
 * anything that came after outbox 0003 or inbox 0001.
 */
bool version_has(const struct version * version, unsigned int migration);

/**
 * version_require(version, line, schema, migration, e):
 * 0 if version_has; otherwise -1 with ${e} for a person who asked for it.
 */
int version_require(const struct version * version, const char * line, const char * schema,
    unsigned int migration, struct error * e);

#endif /* POSTGRES_VERSION_H */
