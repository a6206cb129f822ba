#ifndef POSTGRES_SOURCE_STATE_H
#define POSTGRES_SOURCE_STATE_H

#include "base/backoff.h"
#include "postgres/connection.h"
#include "postgres/delayed.h"
#include "postgres/guard.h"
#include "postgres/paused.h"
#include "postgres/pooler.h"
#include "postgres/reading.h"
#include "postgres/recording.h"
#include "postgres/rotation.h"
#include "postgres/source.h"
#include "postgres/survey.h"
#include "postgres/wake.h"

/* The state of a source; private to relay/postgres/source*.c. */

enum state { DOWN, CONNECTING, CONTENDING, LEADING };

struct source {
	struct source_options options;
	struct source_events events;
	void * context;
	char application_name[64];
	struct connection_options connection_options;
	struct connection * connection;
	struct reading * reading;
	struct delayed * delayed;
	struct recording * recording;
	struct paused * paused;
	struct pooler * pooler;
	struct wake * wake;
	struct rotation * rotation;
	struct survey * survey; /* NULL: nobody watches */
	char * guard_schema;
	char * guard_record;
	char * lead_try;
	char * lead_end_stuck;
	enum state state;
	clock_ns now; /* of this turn, for answers */
	clock_ns retry_at;
	struct backoff backoff;
	bool was_well; /* ever: the checks found nothing */
	struct guard_schema schema;
	uint64_t told_migrations; /* schema_behind and schema_ahead were logged for these */
	bool told_standby;
	uint64_t random;
	clock_ns try_at; /* CONTENDING: the next try for the lock */
	/* LEADING */
	clock_ns read_at;     /* in bulk: the next look at the socket */
	struct error failure; /* found in an answer; ends this turn */
	bool failed;
};

/* ---- source_lead.c: the way up ---- */

/* A session is there: look whether it can be used, and compete for the lead. */
void source_on_connected(void * context);
void source_on_pooler(void * context, bool lends);
void source_on_paused(void * context, const struct error * e);
void source_try_lead(struct source * source);

/* ---- source_down.c: the way down ---- */

/* From an answer: the session is still in use up the stack, so end it later. */
void source_fail(struct source * source, const struct error * e);

/* End it now; tell the owner, and when to try again. */
void source_go_down(struct source * source, const struct error * e);
void source_on_failed(void * context, const struct error * e);

#endif /* POSTGRES_SOURCE_STATE_H */
