#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/control.h"

/*
 * Texts come from servers, files and users.  They end up on one line of a log
 * or a terminal, so no control character may survive, and cutting must not
 * leave half of a UTF-8 sequence behind.
 */

/* Shorten text to its last whole UTF-8 sequence. */
static void
trim_partial_sequence(char * text, size_t len)
{
	size_t start = len;
	size_t need;

	while (start > 0 && len - start < 4 && ((unsigned char)text[start - 1] & 0xc0) == 0x80)
		start--;
	if (start == 0 || (unsigned char)text[start - 1] < 0xc0)
		return;
	start--;
	if ((unsigned char)text[start] >= 0xf0)
		need = 4;
	else if ((unsigned char)text[start] >= 0xe0)
		need = 3;
	else
		need = 2;
	if (len - start < need)
		text[start] = '\0';
}

static void __attribute__((format(printf, 3, 0)))
format_line(char * line, size_t size, const char * format, va_list arguments)
{
	int len = vsnprintf(line, size, format, arguments);

	if (len < 0) {
		line[0] = '\0';
		return;
	}
	if ((size_t)len >= size)
		trim_partial_sequence(line, size - 1);
	for (char * p = line; *p != '\0'; p++) {
		size_t control = control_length(p);

		for (size_t i = 0; i < control; i++)
			p[i] = ' ';
	}

	/* Messages of libpq and OpenSSL end with a newline. */
	for (size_t n = strlen(line); n > 0 && line[n - 1] == ' '; n--)
		line[n - 1] = '\0';
}

void
error_clear(struct error * e)
{
	memset(e, 0, sizeof(*e));
}

int
error_set(struct error * e, enum exit_code code, const char * format, ...)
{
	struct error fresh;
	va_list arguments;

	if (e == NULL)
		return (-1);

	/* The arguments may point into *e: build the new one beside it. */
	error_clear(&fresh);
	fresh.code = code;
	va_start(arguments, format);
	format_line(fresh.text, sizeof(fresh.text), format, arguments);
	va_end(arguments);
	*e = fresh;
	return (-1);
}

int
error_remedy(struct error * e, const char * format, ...)
{
	char remedy[ERROR_REMEDY_MAX];
	va_list arguments;

	if (e == NULL)
		return (-1);
	va_start(arguments, format);
	format_line(remedy, sizeof(remedy), format, arguments);
	va_end(arguments);
	memcpy(e->remedy, remedy, sizeof(remedy));
	return (-1);
}
