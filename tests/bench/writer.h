#ifndef BENCH_WRITER_H
#define BENCH_WRITER_H

#include <libpq-fe.h>
#include <stdint.h>

/*
 * A service that writes messages: one connection, one message a transaction.
 */

/**
 * writer_connect(dsn):
 * A connection with the INSERT prepared; fails as bench_fail does.
 */
PGconn * writer_connect(const char * dsn);

/**
 * writer_commit(db, queue, key, body):
 * Write one message of BENCH_PAYLOAD_SIZE bytes at ${body} to outbox.message,
 * for the queue ${queue}, in a transaction of its own; returns once COMMIT is
 * answered.
 */
void writer_commit(PGconn * db, const char * queue, uint64_t key, const char * body);

#endif /* BENCH_WRITER_H */
