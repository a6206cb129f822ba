/*
 * The way down, and whether there is one back: everything that the session had
 * begun is stopped, the owner is told, and the next attempt waits, unless only
 * a person can help.
 *
 * What must stay true: an answer never closes the session that it came from.
 * It calls source_fail, and the turn ends the session when it is out of it.
 */
#include "postgres/source_state.h"

#include <string.h>

#include "base/log.h"

void
source_fail(struct source * source, const struct error * e)
{
	if (source->failed)
		return;
	source->failure = *e;
	source->failed = true;
}

/*
 * Before this relay has ever been well, a refusal is a mistake for a person to
 * mend.  Later a password may be in rotation, a right be lost for a while, a
 * standby be about to be promoted; but a schema or position that does not fit
 * gets no better by itself.
 */
static bool
source_is_fatal(const struct source * source, const struct error * e)
{
	if (e->code != EXIT_PERMISSION && e->code != EXIT_CONFIGURATION)
		return (false);
	return (!source->was_well ||
	    (e->code == EXIT_CONFIGURATION && source->state == CONTENDING &&
		strcmp(e->sqlstate, GUARD_STANDBY) != 0));
}

void
source_go_down(struct source * source, const struct error * e)
{
	bool fatal = source_is_fatal(source, e);
	bool led = source->state == LEADING;
	clock_ns retry_in;

	source->state = DOWN;
	source->failed = false;
	source->told_standby = false;
	reading_stop(source->reading);
	recording_stop(source->recording);
	connection_close(source->connection);
	pooler_stop(source->pooler);
	wake_stop(source->wake);
	if (source->survey != NULL)
		survey_stop(source->survey);
	retry_in = fatal ? CLOCK_NEVER : backoff_next(&source->backoff);
	source->retry_at = fatal ? CLOCK_NEVER : source->now + retry_in;
	if (led)
		log_warn("stepped_down", LOG_STR("reason", e->text));
	source->events.down(source->context, e, retry_in);
}

void
source_on_failed(void * context, const struct error * e)
{
	struct source * source = context;

	source_go_down(source, e);
}
