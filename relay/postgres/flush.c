#include "postgres/flush.h"

#include <stdio.h>
#include <stdlib.h>

#include "postgres/wire.h"

#define FLUSH_POLL CLOCK_MS(5)

struct flush {
	char lsn[32]; /* to be reached; "" while not known */
	bool asking;
	bool reached;
	clock_ns now;
	clock_ns next;
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
	*flush = (struct flush){.asking = true, .now = now, .next = CLOCK_NEVER};
	connection_send(connection, now, "SELECT pg_current_wal_insert_lsn()::text", 0, NULL,
	    flush_on_written, flush);
}

bool
flush_turn(struct flush * flush, struct connection * connection, clock_ns now)
{
	const char * parameters[] = {flush->lsn};

	flush->now = now;
	if (!flush->reached && !flush->asking && now >= flush->next) {
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
