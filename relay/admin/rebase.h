#ifndef ADMIN_REBASE_H
#define ADMIN_REBASE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/*
 * A new position for an outbox whose recorded one came from another database:
 * a dump that was restored, a template copy.  What had not been sent there, and
 * what was written here since, is pending; all else counts as sent.  Blocks.
 */
struct rebase_options {
	const char * dsn;
	const char * password_file; /* NULL: none */
	const char * schema;
	bool look_only; /* it will only be counted */
};

struct rebase;

/* How long it waits for a lock, while writers wait behind it. */
#define REBASE_LOCK_SECONDS 10

struct rebase_counts {
	int64_t kept;       /* rows of outbox.message */
	int64_t pending;    /* of them: to be published, or to be discarded */
	int64_t renumbered; /* of the pending: given new ids */
	int64_t sent;       /* of the kept: neither pending nor delayed nor dead */
	int64_t delayed;
	int64_t dead;
	int64_t rewritten; /* rows of outbox.message that were changed */
};

/**
 * rebase_open(options, e):
 * Connect; only the owner of the schema's tables may.  Strings are borrowed.
 * NULL with ${e}.
 */
struct rebase * rebase_open(const struct rebase_options * options, struct error * e);

/* Takes back what is not finished. */
void rebase_close(struct rebase * rebase);

/**
 * rebase_look(rebase, why, e):
 * 0 if the recorded position belongs to this database (or there is none, and
 * none is needed), 1 with what the relay would say in ${why} if it does not,
 * -1 with ${e}.
 */
int rebase_look(struct rebase * rebase, struct error * why, struct error * e);

/**
 * rebase_count(rebase, counts, e):
 * What a rebase would do now, without locks.  0, or -1 with ${e}.
 */
int rebase_count(struct rebase * rebase, struct rebase_counts * counts, struct error * e);

/**
 * rebase_begin(rebase, counts, e):
 * After rebase_look.  Keep relays away, lock the messages and count.  Writers
 * wait from here until rebase_finish or rebase_close.  0, or -1 with ${e}.
 */
int rebase_begin(struct rebase * rebase, struct rebase_counts * counts, struct error * e);

/**
 * rebase_finish(rebase, discard, why, counts, e):
 * Rewrite, record and commit.  ${discard}: what is pending or delayed becomes
 * dead instead.  ${why}: kept in outbox.operation.  0, or -1 with ${e} and
 * nothing changed.
 */
int rebase_finish(struct rebase * rebase, bool discard, const char * why,
    struct rebase_counts * counts, struct error * e);

/**
 * rebase_database(rebase):
 * Its name, for messages.
 */
const char * rebase_database(const struct rebase * rebase);

#endif /* ADMIN_REBASE_H */
