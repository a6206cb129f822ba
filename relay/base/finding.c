#include "base/finding.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/utf8.h"

/*
 * Names in findings come from databases and brokers: each stays one line of
 * valid UTF-8, also where it was cut.
 */
static void
make_line(char * text)
{
	while (*text != '\0') {
		size_t len = utf8_length((const unsigned char *)text);

		if (len == 0)
			*text = '?';
		else if ((unsigned char)*text < 0x20 || *text == 0x7f)
			*text = ' ';
		text += len == 0 ? 1 : len;
	}
}

static void __attribute__((format(printf, 4, 0))) add(struct findings * findings,
    enum finding_level level, const char * check, const char * format, va_list arguments)
{
	unsigned int total = 0;
	struct finding * finding;

	for (int i = 0; i < FINDING_LEVELS; i++)
		total += findings->counts[i];
	findings->counts[level]++;
	findings->dropped = true;
	if (total >= FINDINGS_MAX)
		return;
	if ((finding = calloc(1, sizeof(*finding))) == NULL) {
		findings->out_of_memory = true;
		return;
	}
	finding->level = level;
	finding->check = check;
	vsnprintf(finding->text, sizeof(finding->text), format, arguments);
	make_line(finding->text);
	if (findings->last == NULL)
		findings->first = finding;
	else
		findings->last->next = finding;
	findings->last = finding;
	findings->dropped = false;
}

void
finding_ok(struct findings * findings, const char * check, const char * format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	add(findings, FINDING_OK, check, format, arguments);
	va_end(arguments);
}

void
finding_warn(struct findings * findings, const char * check, const char * format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	add(findings, FINDING_WARN, check, format, arguments);
	va_end(arguments);
}

void
finding_fail(struct findings * findings, const char * check, const char * format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	add(findings, FINDING_FAIL, check, format, arguments);
	va_end(arguments);
}

void
finding_remedy(struct findings * findings, const char * format, ...)
{
	va_list arguments;

	if (findings->last == NULL || findings->dropped)
		return;
	va_start(arguments, format);
	vsnprintf(findings->last->remedy, sizeof(findings->last->remedy), format, arguments);
	va_end(arguments);
	make_line(findings->last->remedy);
}

void
findings_free(struct findings * findings)
{
	while (findings->first != NULL) {
		struct finding * finding = findings->first;

		findings->first = finding->next;
		free(finding);
	}
	*findings = (struct findings){0};
}
