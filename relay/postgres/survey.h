#ifndef POSTGRES_SURVEY_H
#define POSTGRES_SURVEY_H

#include <stdbool.h>

#include "base/clock.h"
#include "core/backlog.h"
#include "postgres/connection.h"

/*
 * How much waits, for metrics: outbox.backlog() every SURVEY_INTERVAL, which
 * never reads the backlog as a whole, and the newest delayed and dead messages
 * while somebody looks at them.  A connection of its own would not fit into the
 * budget, so it takes that of LISTEN, where nobody waits for anything while
 * there are rows to be read; only when polling is there no other than the main
 * one.
 */
struct survey;

#define SURVEY_INTERVAL CLOCK_S(5)

struct survey_events {
	void (*backlog)(void * context, const struct backlog * backlog);
	void (*newest)(void * context, const struct backlog_newest * newest);
};

/**
 * survey_new(schema, events, context):
 * NULL when out of memory.
 */
struct survey * survey_new(const char * schema, const struct survey_events * events,
    void * context);
void survey_free(struct survey * survey);

/**
 * survey_start(survey, now), survey_stop(survey):
 * This relay leads; its connections are lost.
 */
void survey_start(struct survey * survey, clock_ns now);
void survey_stop(struct survey * survey);

/**
 * survey_turn(survey, connection, now):
 * Ask on ${connection}, which is open, if it is time.  Called in each turn, so
 * that the loss of the one asked before is noticed.
 */
void survey_turn(struct survey * survey, struct connection * connection, clock_ns now);
clock_ns survey_deadline(const struct survey * survey);

/**
 * survey_want_newest(survey, wanted):
 * Whether anybody looks at the newest messages.
 */
void survey_want_newest(struct survey * survey, bool wanted);

#endif /* POSTGRES_SURVEY_H */
