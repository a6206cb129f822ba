#ifndef INBOX_DATABASE_H
#define INBOX_DATABASE_H

#include "inbox.h"
#include "inbox_claims.h"

#define INBOX_NAME_SIZE 64 /* Postgres looks at no more than 63 bytes */

/*
 * The database's side of a consumer: its own connection, on which the handler
 * works, too.  Results: INBOX_NO_CONNECTION means that it is lost, to be
 * closed and opened again; INBOX_REFUSED leaves it usable after a rollback.
 */
struct inbox_database {
	const struct inbox_consumer_options * options; /* with all defaults filled in */
	char schema[INBOX_QUOTED_MAX + 1];
	PGconn * db;                 /* NULL: closed */
	char claim[INBOX_NAME_SIZE]; /* a prepared statement; "": there is none */
};

/**
 * inbox_database_open(d, error):
 * Connect.  If it succeeds, ${error} holds where to.
 */
enum inbox_code inbox_database_open(struct inbox_database * d, struct inbox_error * error);

void inbox_database_close(struct inbox_database * d);

/**
 * inbox_database_begin(d, ids, count, are_new, error):
 * Begin a transaction and claim ${count} messages in it, in one round trip.
 * On failure no transaction is open.
 */
enum inbox_code inbox_database_begin(struct inbox_database * d, const char * const * ids,
    size_t count, bool * are_new, struct inbox_error * error);

/**
 * inbox_database_check(d, error):
 * Whether the transaction is still open and has not failed.
 */
enum inbox_code inbox_database_check(struct inbox_database * d, struct inbox_error * error);

/**
 * inbox_database_commit(d, error), inbox_database_rollback(d, error):
 * End the transaction.  After a failed commit it is rolled back, or the
 * connection is lost and nobody knows.
 */
enum inbox_code inbox_database_commit(struct inbox_database * d, struct inbox_error * error);
enum inbox_code inbox_database_rollback(struct inbox_database * d, struct inbox_error * error);

/**
 * inbox_database_commit_and_begin(d, id, is_new, error, begun):
 * The same, and begin the next transaction and claim ${id} in it, in the same
 * round trip.  The answers come together, so a claim that has to wait holds up
 * what is known of the commit.  Returns what became of the commit; if it
 * failed, there may be a transaction to be rolled back.  ${begun} tells what
 * became of the beginning, as for inbox_database_begin().
 */
enum inbox_code inbox_database_commit_and_begin(struct inbox_database * d, const char * id,
    bool * is_new, struct inbox_error * error, struct inbox_error * begun);

/**
 * inbox_database_count_failure(d, id, reason, failures, error):
 * Count a failed attempt in a transaction of its own.
 */
enum inbox_code inbox_database_count_failure(struct inbox_database * d, const char * id,
    const char * reason, int * failures, struct inbox_error * error);

/**
 * inbox_database_forget_failures(d, id, error):
 * In the open transaction: handling it has succeeded after all.
 */
enum inbox_code inbox_database_forget_failures(struct inbox_database * d, const char * id,
    struct inbox_error * error);

/**
 * inbox_database_purge(d, more, error):
 * Remove one bounded piece of old claims; ${more} tells whether to go on.
 */
enum inbox_code inbox_database_purge(struct inbox_database * d, bool * more,
    struct inbox_error * error);

#endif /* INBOX_DATABASE_H */
