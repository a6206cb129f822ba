#include "inbox_state.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "inbox_error.h"

/*
 * What must stay true: a connection that is lost is closed here and nowhere
 * else, so that none is closed without a word, and the next attempt waits.
 * Deliveries belong to the connection on which they came: with the queue all
 * of them go.
 */

int64_t
inbox_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return ((int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000);
}

void
inbox_say(struct inbox_consumer * c, enum inbox_level level, const char * event,
    const char * format, ...)
{
	struct inbox_error line;
	char text[INBOX_ERROR_TEXT_SIZE];
	va_list arguments;

	if (c->options.log == NULL)
		return;
	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	/* For its way of making one line of a text. */
	inbox_error_set(&line, INBOX_OK, "%s", text);
	c->options.log(level, event, line.text, c->options.context);
}

void
inbox_drop_deliveries(struct inbox_consumer * c)
{
	for (size_t i = 0; i < c->count; i++)
		inbox_delivery_free(c->deliveries[i]);
	c->count = 0;
}

void
inbox_queue_lost(struct inbox_consumer * c, const struct inbox_error * error)
{
	inbox_say(c, INBOX_WARNING, "broker_lost", "%s", error->text);
	inbox_queue_close(&c->queue, false);
	inbox_drop_deliveries(c);
	inbox_retry_lost(&c->queue_retry, inbox_now_ms(), (unsigned int)rand_r(&c->seed));
	c->no_memory = c->no_memory || error->code == INBOX_NO_MEMORY;
}

void
inbox_database_lost(struct inbox_consumer * c, const struct inbox_error * error)
{
	inbox_say(c, INBOX_WARNING, "database_lost", "%s", error->text);
	inbox_database_close(&c->database);
	inbox_retry_lost(&c->database_retry, inbox_now_ms(), (unsigned int)rand_r(&c->seed));
	c->no_memory = c->no_memory || error->code == INBOX_NO_MEMORY;
}
