#include "torture.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <yaml.h>

#include "amqp/rabbitmq.h"

/*
 * Whatever needs memory: the allocator, and those calls of libraries that fail
 * for lack of it and of nothing else.
 */
WRAPPED(malloc);
WRAPPED(calloc);
WRAPPED(realloc);
WRAPPED(reallocarray);
WRAPPED(strdup);
WRAPPED(asprintf);
WRAPPED(open_memstream);
WRAPPED(json_loadb);
WRAPPED(amqp_new_connection);
WRAPPED(amqp_tune_connection);
WRAPPED(amqp_handle_input);
WRAPPED(yaml_parser_initialize);
WRAPPED(yaml_parser_parse);

static bool
no_memory(void)
{
	if (!torture_fails(&torture_memory))
		return (false);
	errno = ENOMEM;
	return (true);
}

void *
__wrap_malloc(size_t size)
{
	return (no_memory() ? NULL : __real_malloc(size));
}

void *
__wrap_calloc(size_t count, size_t size)
{
	return (no_memory() ? NULL : __real_calloc(count, size));
}

void *
__wrap_realloc(void * p, size_t size)
{
	return (no_memory() ? NULL : __real_realloc(p, size));
}

void *
__wrap_reallocarray(void * p, size_t count, size_t size)
{
	return (no_memory() ? NULL : __real_reallocarray(p, count, size));
}

char *
__wrap_strdup(const char * text)
{
	return (no_memory() ? NULL : __real_strdup(text));
}

int
__wrap_asprintf(char ** text, const char * format, ...)
{
	va_list arguments;
	int rc;

	if (no_memory())
		return (-1);
	va_start(arguments, format);
	rc = vasprintf(text, format, arguments);
	va_end(arguments);
	return (rc);
}

FILE *
__wrap_open_memstream(char ** text, size_t * size)
{
	return (no_memory() ? NULL : __real_open_memstream(text, size));
}

json_t *
__wrap_json_loadb(const char * text, size_t size, size_t flags, json_error_t * e)
{
	if (!no_memory())
		return (__real_json_loadb(text, size, flags, e));
	*e = (json_error_t){.line = -1, .column = -1};
	e->text[JSON_ERROR_TEXT_LENGTH - 1] = json_error_out_of_memory;
	return (NULL);
}

amqp_connection_state_t
__wrap_amqp_new_connection(void)
{
	return (no_memory() ? NULL : __real_amqp_new_connection());
}

int
__wrap_amqp_tune_connection(amqp_connection_state_t state, int channel_max, int frame_max,
    int heartbeat)
{
	return (no_memory() ?
		AMQP_STATUS_NO_MEMORY :
		__real_amqp_tune_connection(state, channel_max, frame_max, heartbeat));
}

int
__wrap_amqp_handle_input(amqp_connection_state_t state, amqp_bytes_t data, amqp_frame_t * frame)
{
	return (no_memory() ? AMQP_STATUS_NO_MEMORY : __real_amqp_handle_input(state, data, frame));
}

int
__wrap_yaml_parser_initialize(yaml_parser_t * parser)
{
	return (no_memory() ? 0 : __real_yaml_parser_initialize(parser));
}

int
__wrap_yaml_parser_parse(yaml_parser_t * parser, yaml_event_t * event)
{
	if (!no_memory())
		return (__real_yaml_parser_parse(parser, event));
	parser->error = YAML_MEMORY_ERROR;
	return (0);
}
