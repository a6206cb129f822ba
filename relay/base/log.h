#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdint.h>

#include "base/error.h"

/*
 * One line an event on stderr: level, event name, key=value pairs, as logfmt
 * or JSON.  Never a payload, never a password.
 *   info   a change of state
 *   warn   something is being retried (rate-limited by the caller: log_due)
 *   error  a person must act
 *
 *   log_event(LOG_INFO, "broker_connected", LOG_STR("host", host),
 *       LOG_INT("port", port));
 */
enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };
enum log_format { LOG_FORMAT_LOGFMT, LOG_FORMAT_JSON };

struct log_field {
	const char * key;  /* NULL ends the list */
	const char * text; /* NULL: use number */
	int64_t number;
};

#define LOG_STR(k, v) ((struct log_field){.key = (k), .text = (v) == NULL ? "" : (v)})
#define LOG_INT(k, v) ((struct log_field){.key = (k), .number = (int64_t)(v)})
#define LOG_END ((struct log_field){.key = NULL})

/**
 * log_event(level, event, fields...):
 * Write one line if ${level} is enabled.  Values are escaped as the format
 * asks; a line is at most 4096 bytes and is written with one write(2).
 */
#define log_event(level, ...) log_fields(level, __VA_ARGS__, LOG_END)
#define log_fields(level, event, ...) \
	log_write((level), (event), (const struct log_field[]){__VA_ARGS__})
#define log_debug(...) log_event(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_info(...) log_event(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warn(...) log_event(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_error(...) log_event(LOG_LEVEL_ERROR, __VA_ARGS__)

void log_write(enum log_level level, const char * event, const struct log_field * fields);

/**
 * log_failure(level, event, e):
 * The line for a struct error: error=, sqlstate= or amqp_code= when set, remedy=.
 */
void log_failure(enum log_level level, const char * event, const struct error * e);

/**
 * log_configure(level, format):
 * Until called: info, logfmt.
 */
void log_configure(enum log_level level, enum log_format format);

/**
 * log_due(last, now):
 * Whether a repeated warning may be written again: true when ${*last} is 0 or
 * 30 s before ${now} (both clock_ns); then sets ${*last}.
 */
int log_due(int64_t * last, int64_t now);

/*
 * A failure that lasts, as it was told.  Zero it when all is well.
 */
struct log_repeat {
	int64_t since;
	unsigned int told;
	char reason[64];
};

/**
 * log_repeated(repeat, now, event, e):
 * log_failure as a warning, every 30 s while the reason stays the same; a new
 * reason (sqlstate, AMQP code or remedy) is told at once, a few times in 30 s.
 */
#define LOG_REASONS_MAX 4
void log_repeated(struct log_repeat * repeat, int64_t now, const char * event,
    const struct error * e);

#endif /* BASE_LOG_H */
