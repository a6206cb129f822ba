#include "config/report.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

/*
 * Mistakes are collected, so that a person sees all of them at once.  What is
 * quoted in them comes from outside and is made one printable line.
 */

static void
make_line(char * text)
{
	for (char * p = text; *p != '\0'; p++) {
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = ' ';
	}
}

static void __attribute__((format(printf, 5, 0))) add(struct config_report * report, bool warning,
    struct place place, const char * remedy, const char * format, va_list arguments)
{
	struct config_mistake * mistake;
	unsigned int count = report->errors + report->warnings;

	if (warning)
		report->warnings++;
	else
		report->errors++;
	if (count >= CONFIG_MISTAKES_MAX)
		return;
	if ((mistake = calloc(1, sizeof(*mistake))) == NULL ||
	    (mistake->source = strdup(place.source)) == NULL) {
		free(mistake);
		report->out_of_memory = true;
		return;
	}
	mistake->warning = warning;
	mistake->line = place.line;
	mistake->column = place.column;
	vsnprintf(mistake->text, sizeof(mistake->text), format, arguments);
	make_line(mistake->text);
	if (remedy != NULL)
		snprintf(mistake->remedy, sizeof(mistake->remedy), "%s", remedy);
	make_line(mistake->remedy);
	if (report->last == NULL)
		report->first = mistake;
	else
		report->last->next = mistake;
	report->last = mistake;
}

void
report_error(struct config_report * report, struct place place, const char * remedy,
    const char * format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	add(report, false, place, remedy, format, arguments);
	va_end(arguments);
}

void
report_warning(struct config_report * report, struct place place, const char * remedy,
    const char * format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	add(report, true, place, remedy, format, arguments);
	va_end(arguments);
}

bool
report_full(const struct config_report * report)
{
	return (report->out_of_memory || report->errors + report->warnings >= CONFIG_MISTAKES_MAX);
}

void
config_report_print(const struct config_report * report, FILE * out)
{
	for (const struct config_mistake * m = report->first; m != NULL; m = m->next) {
		fprintf(out, "%s:", m->source);
		if (m->line > 0)
			fprintf(out, "%u:%u:", m->line, m->column);
		fprintf(out, " %s: %s%s%s\n", m->warning ? "warning" : "error", m->text,
		    m->remedy[0] != '\0' ? "; " : "", m->remedy);
	}
	if (report->errors + report->warnings > CONFIG_MISTAKES_MAX)
		fprintf(out, "outbox-relay: more mistakes are not shown\n");
	if (report->out_of_memory)
		fprintf(out, "outbox-relay: out of memory\n");
}

void
config_report_log(const struct config_report * report)
{
	for (const struct config_mistake * m = report->first; m != NULL; m = m->next) {
		if (m->warning)
			log_warn("configuration_warning", LOG_STR("source", m->source),
			    LOG_INT("line", m->line), LOG_STR("warning", m->text),
			    LOG_STR("remedy", m->remedy));
		else
			log_error("configuration_error", LOG_STR("source", m->source),
			    LOG_INT("line", m->line), LOG_STR("error", m->text),
			    LOG_STR("remedy", m->remedy));
	}
}

void
config_report_free(struct config_report * report)
{
	while (report->first != NULL) {
		struct config_mistake * mistake = report->first;

		report->first = mistake->next;
		free(mistake->source);
		free(mistake);
	}
	*report = (struct config_report){0};
}
