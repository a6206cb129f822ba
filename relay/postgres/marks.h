#ifndef POSTGRES_MARKS_H
#define POSTGRES_MARKS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "postgres/cursor.h"
#include "postgres/guard.h"
#include "postgres/connection.h"

/*
 * The marks in outbox.sent: each is one INSERT that says up to which position
 * every message is confirmed or put aside.  Nothing is written a message, so nothing
 * bloats.  A mark's key is the previous one's plus one: of two relays that
 * both believe they lead, the second fails here and steps down.
 */
struct marks;

struct marks * marks_new(const char * schema);
void marks_free(struct marks * marks);

/**
 * marks_prepare(marks, connection, now, record):
 * On a new connection, after ${record} was read.  -1 when out of memory.
 */
int marks_prepare(struct marks * marks, struct connection * connection, clock_ns now,
    const struct guard_record * record);

/**
 * marks_write(marks, connection, now, position, messages, max_id, answer, context):
 * ${answer} is called when the mark is committed, or with the error.
 */
struct mark {
	struct cursor_position position;
	bool same_position; /* instead: that of the newest mark */
	uint64_t messages;
	int64_t max_id;
};
void marks_write(struct marks * marks, struct connection * connection, clock_ns now,
    const struct mark * mark, connection_answer * answer, void * context);

/**
 * marks_take_back(marks):
 * The mark just answered for was refused and none was written since: the next
 * one takes its number.
 */
void marks_take_back(struct marks * marks);

#endif /* POSTGRES_MARKS_H */
