#include "postgres/recording.h"

#include <stdlib.h>
#include <string.h>

#include "base/backoff.h"
#include "base/log.h"
#include "postgres/marks.h"
#include "postgres/moves.h"

struct recording {
	struct cursor * cursor;
	struct held * held;
	recording_answered * answered;
	void * context;
	struct marks * marks;
	struct moves * moves;
	struct connection * connection;
	clock_ns now;
	struct source_mark mark; /* the open one */
	clock_ns again_at;       /* the server could not take it; CLOCK_NEVER: no such */
	struct backoff backoff;
	int64_t warned;
};

struct recording *
recording_new(const struct recording_options * options, recording_answered * answered,
    void * context)
{
	struct recording * recording;

	if ((recording = calloc(1, sizeof(*recording))) == NULL)
		return (NULL);
	recording->cursor = options->cursor;
	recording->held = options->held;
	recording->answered = answered;
	recording->context = context;
	recording->again_at = CLOCK_NEVER;
	backoff_init(&recording->backoff, CLOCK_MS(100), 2, CLOCK_S(3), options->seed);
	recording->marks = marks_new(options->schema);
	recording->moves = moves_new(options->schema);
	if (recording->marks == NULL || recording->moves == NULL) {
		recording_free(recording);
		return (NULL);
	}
	return (recording);
}

void
recording_free(struct recording * recording)
{
	if (recording == NULL)
		return;
	moves_free(recording->moves);
	marks_free(recording->marks);
	free(recording);
}

int
recording_start(struct recording * recording, struct connection * connection, clock_ns now,
    const struct guard_record * record)
{
	recording->connection = connection;
	moves_start(recording->moves, connection);
	return (marks_prepare(recording->marks, connection, now, record));
}

void
recording_stop(struct recording * recording)
{
	recording->again_at = CLOCK_NEVER;
}

/*
 * Whether the server may take the same mark later: a full disk, a lock, a right
 * that is missing.  To go down for it would publish a whole window again, and
 * again after each attempt (D).  Not when another relay's mark is in the way, nor
 * when this server, this session or the schema is not what it was.
 */
static bool
can_wait(const struct error * e)
{
	static const char * const lasting[] = {"23505", "25", "26", "3F", "42P", "42703", "57P",
	    "08"};

	if (e->sqlstate[0] == '\0')
		return (false);
	for (size_t i = 0; i < sizeof(lasting) / sizeof(lasting[0]); i++)
		if (strncmp(e->sqlstate, lasting[i], strlen(lasting[i])) == 0)
			return (false);
	return (true);
}

static void
recording_on_answer(void * context, PGresult ** result, const struct error * e)
{
	struct recording * recording = context;
	struct error why;

	(void)result;
	if (e != NULL && can_wait(e)) {
		marks_take_back(recording->marks);
		recording->again_at = recording->now + backoff_next(&recording->backoff);
		if (log_due(&recording->warned, recording->now))
			log_failure(LOG_LEVEL_WARN, "mark_refused", e);
		return;
	}
	if (e != NULL) {
		why = *e;
		if (strcmp(e->sqlstate, "23505") == 0)
			error_set(&why, EXIT_UNREACHABLE,
			    "another relay has recorded a mark: it leads now");
		recording->answered(recording->context, &why);
		return;
	}
	backoff_reset(&recording->backoff);
	recording->warned = 0;
	cursor_forget(recording->cursor, recording->mark.interval);
	recording->answered(recording->context, NULL);
}

static void
recording_send(struct recording * recording)
{
	const struct source_mark * mark = &recording->mark;
	struct mark m = {.messages = mark->messages,
	    .max_id = mark->max_id,
	    .same_position = mark->interval == 0};

	recording->again_at = CLOCK_NEVER;
	if (!m.same_position)
		cursor_position(recording->cursor, mark->interval, mark->last_id, mark->exhausted,
		    &m.position);
	if (mark->move_count == 0) {
		marks_write(recording->marks, recording->connection, recording->now, &m,
		    recording_on_answer, recording);
		return;
	}
	if (moves_load(recording->moves, mark->moves, mark->move_count)) {
		connection_lose(recording->connection, "out of memory");
		return;
	}
	if (moves_hold(mark->moves, mark->move_count))
		held_expect(recording->held);
	connection_begin(recording->connection, recording->now, recording_on_answer, recording);
	marks_write(recording->marks, recording->connection, recording->now, &m, NULL, NULL);
	moves_send(recording->moves, recording->connection, recording->now);
	connection_end(recording->connection);
}

void
recording_write(struct recording * recording, clock_ns now, const struct source_mark * mark)
{
	recording->now = now;
	recording->mark = *mark;
	recording_send(recording);
}

void
recording_turn(struct recording * recording, clock_ns now)
{
	recording->now = now;
	if (now >= recording->again_at)
		recording_send(recording);
}

clock_ns
recording_deadline(const struct recording * recording)
{
	return (recording->again_at);
}
