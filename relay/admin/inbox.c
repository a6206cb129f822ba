/*
 * The schema's own functions decide; a step is one call, in a transaction of
 * its own.
 */
#include "admin/inbox.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct inbox {
	struct oneshot * oneshot;
	char older_than[32]; /* seconds */
};

/* clang-format off */

static const char status_sql[] =
    "SELECT s.consumer, s.claimed, date_trunc('second', s.oldest) AS oldest, "
    "date_trunc('second', s.newest) AS newest, s.failing, row_to_json(s)::text AS json "
    "FROM inbox.status AS s ORDER BY s.consumer";

static const char count_sql[] =
    "SELECT (SELECT count(*) FROM inbox.message AS m WHERE m.claimed_at < now() - make_interval(secs => $1::float8)), "
    "(SELECT count(*) FROM inbox.attempt AS a WHERE a.last_at < now() - make_interval(secs => $1::float8))";

static const char purge_sql[] =
    "SELECT inbox.purge(make_interval(secs => $1::float8), $2::integer)";

/* clang-format on */

struct inbox *
inbox_open(const struct oneshot_options * options, int64_t older_than_ms, struct error * e)
{
	struct oneshot_options connection = *options;
	struct inbox * inbox;

	if ((inbox = calloc(1, sizeof(*inbox))) == NULL) {
		error_set(e, EXIT_BUG, "out of memory");
		return (NULL);
	}
	connection.word = "inbox";
	connection.purpose = "inbox";
	connection.settings = "SET statement_timeout = 0";
	snprintf(inbox->older_than, sizeof(inbox->older_than), "%" PRId64 ".%03d",
	    older_than_ms / 1000, (int)(older_than_ms % 1000));
	if ((inbox->oneshot = oneshot_open(&connection, e)) == NULL) {
		inbox_close(inbox);
		return (NULL);
	}
	return (inbox);
}

void
inbox_close(struct inbox * inbox)
{
	if (inbox == NULL)
		return;
	oneshot_close(inbox->oneshot);
	free(inbox);
}

const struct oneshot *
inbox_status(struct inbox * inbox, struct error * e)
{
	return (oneshot_ask(inbox->oneshot, status_sql, 0, NULL, e) ? NULL : inbox->oneshot);
}

int
inbox_count(struct inbox * inbox, struct inbox_old * old, struct error * e)
{
	const char * parameter = inbox->older_than;

	if (oneshot_ask(inbox->oneshot, count_sql, 1, &parameter, e))
		return (-1);
	*old = (struct inbox_old){.claims = oneshot_number(inbox->oneshot, 0, 0),
	    .attempts = oneshot_number(inbox->oneshot, 0, 1)};
	return (0);
}

int64_t
inbox_purge(struct inbox * inbox, unsigned int limit, struct error * e)
{
	char number[16];
	const char * parameters[] = {inbox->older_than, number};

	snprintf(number, sizeof(number), "%u", limit);
	if (oneshot_ask(inbox->oneshot, purge_sql, 2, parameters, e))
		return (-1);
	return (oneshot_number(inbox->oneshot, 0, 0));
}
