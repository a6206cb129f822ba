/*
 * What is asked for is where the WAL ends, which is behind the commits of all
 * rows that were read, but maybe behind what others have written too whose
 * transactions are still open.  The server flushes a page that is not full for
 * a commit alone, so these could keep the rows waiting for as long as they stay
 * open (V).  If it takes longer than the server needs for commits that do not
 * wait, a commit of our own, of nothing, has its WAL writer flush this far.
 */
#include "postgres/flush.h"

#include <stdio.h>
#include <stdlib.h>

#include "postgres/wire.h"

#define FLUSH_POLL CLOCK_MS(5)

/* The default of wal_writer_delay. */
#define FLUSH_PATIENCE CLOCK_MS(200)

struct flush {
	char lsn[32]; /* to be reached; "" while not known */
	bool asking;
	bool reached;
	clock_ns now;
	clock_ns next;
	clock_ns nudge_at;
};

struct flush *
flush_new(void)
{
	return (calloc(1, sizeof(struct flush)));
}

void
flush_free(struct flush * flush)
{
	free(flush);
}

static void
flush_on_written(void * context, PGresult ** result, const struct error * e)
{
	struct flush * flush = context;

	flush->asking = false;
	if (e == NULL)
		snprintf(flush->lsn, sizeof(flush->lsn), "%s", PQgetvalue(*result, 0, 0));
	flush->next = 0;
}

static void
flush_on_flushed(void * context, PGresult ** result, const struct error * e)
{
	struct flush * flush = context;

	flush->asking = false;
	flush->reached = e == NULL && wire_bool(*result, 0, 0);
	flush->next = flush->now + FLUSH_POLL;
}

void
flush_begin(struct flush * flush, struct connection * connection, clock_ns now)
{
	*flush = (struct flush){.asking = true,
	    .now = now,
	    .next = CLOCK_NEVER,
	    .nudge_at = now + FLUSH_PATIENCE};
	connection_send(connection, now, "SELECT pg_current_wal_insert_lsn()::text", 0, NULL,
	    flush_on_written, flush);
}

bool
flush_turn(struct flush * flush, struct connection * connection, clock_ns now)
{
	const char * parameters[] = {flush->lsn};

	flush->now = now;
	if (!flush->reached && !flush->asking && now >= flush->next) {
		/* A transaction that bears an xid and has written nothing commits at once. */
		if (now >= flush->nudge_at) {
			flush->nudge_at = CLOCK_NEVER;
			connection_send(connection, now, "SELECT pg_current_xact_id()", 0, NULL,
			    NULL, NULL);
		}
		flush->asking = true;
		flush->next = CLOCK_NEVER;
		if (flush->lsn[0] == '\0')
			flush_begin(flush, connection, now);
		else
			connection_send(connection, now,
			    "SELECT pg_current_wal_flush_lsn() >= $1::pg_lsn", 1, parameters,
			    flush_on_flushed, flush);
	}
	return (flush->reached);
}

clock_ns
flush_deadline(const struct flush * flush)
{
	return (flush->next);
}
