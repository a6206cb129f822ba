#include "postgres/dsn.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>

#include "base/suggest.h"

/*
 * libpq's own parser decides what is a password.  Its messages quote the part
 * of the DSN that it could not read, and that part may be one ("password=a b"
 * complains about b), so only the words before the first quote are passed on.
 * A URI whose password has a bare / reads well, with the password as port, and
 * one with a bare @, with its rest as host: a port that is no number and a host
 * with an @ are refused here, and then nothing is shown.
 */

static bool
is_password(const PQconninfoOption * option)
{
	/* libpq marks what a form should hide: password, sslpassword. */
	return (option->dispchar[0] == '*' || strstr(option->keyword, "password") != NULL);
}

/* One at the beginning of a host is an abstract Unix socket. */
static bool
has_stray_at(const char * hosts)
{
	for (const char * at = hosts; (at = strchr(at, '@')) != NULL; at++) {
		if (at > hosts && at[-1] != ',')
			return (true);
	}
	return (false);
}

/* What a person has to mend, or NULL.  Ports are numbers; an empty one is the default. */
static const char *
what_is_unreadable(const PQconninfoOption * options)
{
	for (const PQconninfoOption * o = options; o->keyword != NULL; o++) {
		if (o->val == NULL)
			continue;
		if (strcmp(o->keyword, "port") == 0 &&
		    o->val[strspn(o->val, "0123456789, ")] != '\0')
			return ("the port is not a number");
		if (strcmp(o->keyword, "host") == 0 && has_stray_at(o->val))
			return ("the host has an @ in it");
	}
	return (NULL);
}

/* The known keyword that libpq's message about an unknown one is near to. */
static const char *
nearest_keyword(const char * message, char * keyword, size_t size)
{
	const char * quoted = strchr(message, '"');
	PQconninfoOption * options;
	struct suggestion suggestion = {.word = keyword};

	if (quoted == NULL ||
	    (strncmp(message, "invalid connection option", 25) != 0 &&
		strncmp(message, "invalid URI query parameter", 27) != 0))
		return (NULL);
	snprintf(keyword, size, "%.*s", (int)strcspn(quoted + 1, "\""), quoted + 1);
	if ((options = PQconninfoParse("", NULL)) == NULL)
		return (NULL);
	for (const PQconninfoOption * o = options; o->keyword != NULL; o++)
		suggestion_offer(&suggestion, o->keyword);
	if (suggestion.best != NULL)
		snprintf(keyword, size, "%s", suggestion.best);
	PQconninfoFree(options);
	return (suggestion.best != NULL ? keyword : NULL);
}

static int
explain(const char * message, struct error * e)
{
	char keyword[64];
	const char * nearest = nearest_keyword(message, keyword, sizeof(keyword));

	if (strncmp(message, "missing \"=\"", 11) == 0)
		error_set(e, EXIT_CONFIGURATION, "libpq cannot read it: a keyword without =");
	else
		error_set(e, EXIT_CONFIGURATION, "libpq cannot read it: %.*s",
		    (int)strcspn(message, "\"\n:"), message);
	if (nearest != NULL)
		error_remedy(e, "did you mean %s?", nearest);
	else
		error_remedy(e,
		    "write \"host=... dbname=... user=...\", values with blanks in"
		    " single quotes, or postgresql://USER@HOST/DATABASE");
	return (-1);
}

int
dsn_check(const char * dsn, struct error * e)
{
	char * message = NULL;
	PQconninfoOption * options = PQconninfoParse(dsn, &message);
	const char * why = options == NULL ? NULL : what_is_unreadable(options);
	int status = 0;

	if (options == NULL && message == NULL) {
		status = error_set(e, EXIT_BUG, "out of memory");
	} else if (options == NULL) {
		status = explain(message, e);
	} else if (why != NULL) {
		error_set(e, EXIT_CONFIGURATION, "%s", why);
		status = error_remedy(e,
		    "write / as %%2F, @ as %%40 and : as %%3A in a URI's user and password");
	}
	PQconninfoFree(options);
	PQfreemem(message);
	return (status);
}

/* Append keyword='value'; false when it does not fit. */
static bool
put_option(char * text, size_t * len, const PQconninfoOption * option)
{
	const char * value = is_password(option) ? "***" : option->val;
	bool quote = value[0] == '\0' || strpbrk(value, " '\\") != NULL;
	size_t room = DSN_DESCRIPTION_MAX - *len;
	int n = snprintf(text + *len, room, "%s%s=%s", *len > 0 ? " " : "", option->keyword,
	    quote ? "'" : "");

	if (n < 0 || (size_t)n + 2 * strlen(value) + 2 > room)
		return (false);
	*len += (size_t)n;
	for (; *value != '\0'; value++) {
		if (*value == '\'' || *value == '\\')
			text[(*len)++] = '\\';
		text[(*len)++] = *value;
	}
	if (quote)
		text[(*len)++] = '\'';
	text[*len] = '\0';
	return (true);
}

void
dsn_describe(const char * dsn, char text[DSN_DESCRIPTION_MAX])
{
	PQconninfoOption * options = PQconninfoParse(dsn, NULL);
	bool fits = options != NULL && what_is_unreadable(options) == NULL;
	bool secret = !fits;
	size_t len = 0;

	for (PQconninfoOption * o = options; o != NULL && o->keyword != NULL; o++) {
		if (o->val == NULL)
			continue;
		secret |= is_password(o);
		fits = fits && put_option(text, &len, o);
	}
	if (!secret)
		snprintf(text, DSN_DESCRIPTION_MAX, "%s", dsn);
	else if (!fits)
		snprintf(text, DSN_DESCRIPTION_MAX, "***");
	PQconninfoFree(options);
}

/* "a,b,c" from b: "b,c,a"; NULL for a list of one, or without memory. */
static char *
rotate_list(const char * list, size_t first)
{
	size_t count = 1;
	const char * from = list;
	char * rotated;

	for (const char * c = list; *c != '\0'; c++)
		count += *c == ',';
	if (first % count == 0)
		return (NULL);
	for (size_t i = 0; i < first % count; i++)
		from = strchr(from, ',') + 1;
	if (asprintf(&rotated, "%s,%.*s", from, (int)(from - list - 1), list) < 0)
		return (NULL);
	return (rotated);
}

void
dsn_rotate_hosts(const char * dsn, size_t first, struct dsn_hosts * hosts)
{
	PQconninfoOption * options = PQconninfoParse(dsn, NULL);

	*hosts = (struct dsn_hosts){0};
	for (PQconninfoOption * o = options; o != NULL && o->keyword != NULL; o++) {
		if (o->val == NULL)
			continue;
		if (strcmp(o->keyword, "host") == 0)
			hosts->host = rotate_list(o->val, first);
		else if (strcmp(o->keyword, "hostaddr") == 0)
			hosts->hostaddr = rotate_list(o->val, first);
		else if (strcmp(o->keyword, "port") == 0)
			hosts->port = rotate_list(o->val, first);
	}
	PQconninfoFree(options);
}

void
dsn_free_hosts(struct dsn_hosts * hosts)
{
	free(hosts->host);
	free(hosts->hostaddr);
	free(hosts->port);
}
