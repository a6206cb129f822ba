#include "postgres/marks.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "postgres/sql.h"

static const char mark_sql[] =
    "INSERT INTO outbox.sent (seq, prev, target, last_id, floor_id, max_id, messages, "
    "system_identifier, database_oid, table_oid) VALUES ($1::bigint, $2::pg_snapshot, "
    "$3::pg_snapshot, $4::bigint, $5::bigint, $6::bigint, $7::bigint, $8::bigint, $9::oid, "
    "$10::oid)";

struct marks {
	char * sql;
	struct guard_identity identity;
	int64_t seq; /* of the newest mark sent */
	int64_t max_id;
	/* Of the newest mark; its strings are owned. */
	struct cursor_position position;
	char * prev;
	char * target;
};

struct marks *
marks_new(const char * schema)
{
	struct marks * marks;

	if ((marks = calloc(1, sizeof(*marks))) == NULL)
		return (NULL);
	if ((marks->sql = sql_in_schema(mark_sql, schema)) == NULL) {
		free(marks);
		return (NULL);
	}
	return (marks);
}

void
marks_free(struct marks * marks)
{
	if (marks == NULL)
		return;
	free(marks->prev);
	free(marks->target);
	free(marks->sql);
	free(marks);
}

/* -1: out of memory. */
static int
marks_keep(struct marks * marks, const struct cursor_position * position)
{
	char * prev = strdup(position->prev);
	char * target = position->target == NULL ? NULL : strdup(position->target);

	free(marks->prev);
	free(marks->target);
	marks->prev = prev;
	marks->target = target;
	marks->position = *position;
	marks->position.prev = prev;
	marks->position.target = target;
	return (prev == NULL || (position->target != NULL && target == NULL) ? -1 : 0);
}

int
marks_prepare(struct marks * marks, struct connection * connection, clock_ns now,
    const struct guard_record * record)
{
	if (marks_keep(marks, &record->position))
		return (-1);
	marks->identity = record->identity;
	marks->seq = record->seq;
	marks->max_id = record->max_id;
	connection_prepare(connection, now, "mark", marks->sql, NULL, NULL);
	return (0);
}

void
marks_write(struct marks * marks, struct connection * connection, clock_ns now,
    const struct mark * mark, connection_answer * answer, void * context)
{
	char numbers[8][24];
	const char * parameters[] = {numbers[0], NULL, NULL, numbers[1], numbers[2], numbers[3],
	    numbers[4], numbers[5], numbers[6], numbers[7]};

	if (!mark->same_position && marks_keep(marks, &mark->position)) {
		connection_lose(connection, "out of memory");
		return;
	}
	parameters[1] = marks->position.prev;
	parameters[2] = marks->position.target;
	if (mark->max_id > marks->max_id)
		marks->max_id = mark->max_id;
	snprintf(numbers[0], sizeof(numbers[0]), "%" PRId64, ++marks->seq);
	snprintf(numbers[1], sizeof(numbers[1]), "%" PRId64, marks->position.last_id);
	snprintf(numbers[2], sizeof(numbers[2]), "%" PRId64, marks->position.floor_id);
	snprintf(numbers[3], sizeof(numbers[3]), "%" PRId64, marks->max_id);
	snprintf(numbers[4], sizeof(numbers[4]), "%" PRIu64, mark->messages);
	snprintf(numbers[5], sizeof(numbers[5]), "%" PRId64, marks->identity.system_identifier);
	snprintf(numbers[6], sizeof(numbers[6]), "%" PRIu32, marks->identity.database_oid);
	snprintf(numbers[7], sizeof(numbers[7]), "%" PRIu32, marks->identity.table_oid);
	connection_send_prepared(connection, now, "mark", 10, parameters, answer, context);
}

void
marks_take_back(struct marks * marks)
{
	marks->seq--;
}
