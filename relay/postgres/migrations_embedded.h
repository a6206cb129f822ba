#ifndef POSTGRES_MIGRATIONS_EMBEDDED_H
#define POSTGRES_MIGRATIONS_EMBEDDED_H

#include <stddef.h>

/*
 * The files migrations/LINE/NNNN_NAME.{up,down}.sql as they were when the
 * binary was built, sorted by line and version.  The table is written by
 * embed_migrations.sh; its bytes are the files' bytes.
 */
struct migration_file {
	const char * line; /* "outbox" or "inbox" */
	unsigned int version;
	const char * name;
	const char * up; /* SQL, without BEGIN and COMMIT */
	const char * down;
};

extern const struct migration_file migration_files[];
extern const size_t migration_file_count;

#endif /* POSTGRES_MIGRATIONS_EMBEDDED_H */
