#ifndef CONFIG_REPORT_H
#define CONFIG_REPORT_H

#include <stdbool.h>

#include "config/config.h"

/* Where a mistake is. */
struct place {
	const char * source; /* a file's name or "environment"; copied */
	unsigned int line;   /* from 1; 0: the whole of it */
	unsigned int column; /* from 1, in characters */
};

struct config_mistake {
	struct config_mistake * next;
	bool warning;
	unsigned int line;
	unsigned int column;
	char * source;
	char text[600];
	char remedy[400];
};

/**
 * report_error(report, place, remedy, format, ...):
 * Add an error; ${remedy} may be NULL.  Beyond CONFIG_MISTAKES_MAX it is only
 * counted.
 */
void report_error(struct config_report * report, struct place place, const char * remedy,
    const char * format, ...) __attribute__((format(printf, 4, 5)));

/**
 * report_warning(report, place, remedy, format, ...):
 * The same for what does not stop the program.
 */
void report_warning(struct config_report * report, struct place place, const char * remedy,
    const char * format, ...) __attribute__((format(printf, 4, 5)));

/**
 * report_full(report):
 * Whether looking for more mistakes is pointless.
 */
bool report_full(const struct config_report * report);

#endif /* CONFIG_REPORT_H */
