#include "inbox_error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum inbox_code
inbox_error_set(struct inbox_error * error, enum inbox_code code, const char * format, ...)
{
	va_list arguments;
	size_t len;

	if (error == NULL)
		return (code);
	error->code = code;
	error->sqlstate[0] = '\0';
	va_start(arguments, format);
	vsnprintf(error->text, sizeof(error->text), format, arguments);
	va_end(arguments);
	/* A cut character would not be UTF-8 any more, and Postgres refuse it. */
	len = strlen(error->text);
	if (len == sizeof(error->text) - 1) {
		while (len > 0 && (unsigned char)error->text[len - 1] >= 0x80)
			error->text[--len] = '\0';
	}
	for (char * p = error->text; *p != '\0'; p++) {
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = ' ';
	}
	return (code);
}

/* The DETAIL is left out: it may repeat a row. */
enum inbox_code
inbox_error_result(struct inbox_error * error, PGconn * db, const PGresult * result)
{
	const char * severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
	const char * state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char * text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

	/* FATAL, PANIC: the server has ended the session, though libpq may not know yet. */
	if (PQstatus(db) != CONNECTION_OK || (severity != NULL && strcmp(severity, "ERROR") != 0))
		return (inbox_error_set(error, INBOX_NO_CONNECTION,
		    "the connection to Postgres is lost: %s",
		    text != NULL ? text : PQerrorMessage(db)));
	if (state == NULL)
		return (inbox_error_set(error, INBOX_NO_MEMORY,
		    "no memory for a statement or its answer: %s", PQerrorMessage(db)));
	inbox_error_set(error, INBOX_REFUSED, "%s", text == NULL ? state : text);
	if (error != NULL)
		snprintf(error->sqlstate, sizeof(error->sqlstate), "%s", state);
	return (INBOX_REFUSED);
}
