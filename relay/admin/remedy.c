#include "admin/remedy.h"

#include <stdio.h>
#include <string.h>

#include <libpq-fe.h>

#include "base/shell.h"

/*
 * What the DSN leaves out comes from libpq's defaults and the environment, for
 * psql as for the relay, so only what it says is repeated.  A DSN that holds
 * a whole URI comes out as keywords and values.
 */
static const char * const left_out[] = {"password", "sslpassword", "passfile", "sslcert", "sslkey",
    "application_name", "fallback_application_name", "target_session_attrs", "connect_timeout",
    "client_encoding", "options", NULL};

static int
is_left_out(const char * keyword)
{
	for (const char * const * k = left_out; *k != NULL; k++) {
		if (strcmp(*k, keyword) == 0)
			return (1);
	}
	return (0);
}

/* keyword=value as libpq reads it; returns the new length. */
static size_t
append(char * out, size_t len, const char * keyword, const char * value)
{
	const size_t max = REMEDY_DSN_MAX - 8;
	int quoted = value[0] == '\0' || strpbrk(value, " '\\") != NULL;

	if (len + strlen(keyword) + 2 * strlen(value) + 4 > max)
		return (len);
	len += (size_t)sprintf(out + len, "%s%s=%s", len > 0 ? " " : "", keyword,
	    quoted ? "'" : "");
	for (; *value != '\0'; value++) {
		if (*value == '\'' || *value == '\\')
			out[len++] = '\\';
		out[len++] = *value;
	}
	if (quoted)
		out[len++] = '\'';
	out[len] = '\0';
	return (len);
}

void
remedy_dsn(const char * dsn, const char * role, const char * database, char out[REMEDY_DSN_MAX])
{
	PQconninfoOption * options = PQconninfoParse(dsn, NULL);
	size_t len = 0;

	out[0] = '\0';
	for (PQconninfoOption * o = options; o != NULL && o->keyword != NULL; o++) {
		if (o->val == NULL || is_left_out(o->keyword) || strcmp(o->keyword, "user") == 0 ||
		    (database != NULL && strcmp(o->keyword, "dbname") == 0))
			continue;
		len = append(out, len, o->keyword, o->val);
	}
	PQconninfoFree(options);
	if (database != NULL)
		len = append(out, len, "dbname", database);
	append(out, len, "user", role);
}

char *
remedy_psql(const char * dsn, const char * role, const char * database, const char * sql,
    char out[REMEDY_MAX])
{
	char target[REMEDY_DSN_MAX], quoted[REMEDY_DSN_MAX + 64], statement[1000];
	size_t len;

	remedy_dsn(dsn, role, database, target);
	len = (size_t)snprintf(out, REMEDY_MAX, "psql %s",
	    shell_quote(quoted, sizeof(quoted), target));
	while (*sql != '\0' && len < REMEDY_MAX) {
		size_t size = strcspn(sql, "\n");

		snprintf(statement, sizeof(statement), "%.*s", (int)size, sql);
		len += (size_t)snprintf(out + len, REMEDY_MAX - len, " -c %s",
		    shell_quote(quoted, sizeof(quoted), statement));
		sql += size + (sql[size] == '\n');
	}
	return (out);
}

char *
remedy_relay(const char * dsn, int has_password_file, const char * role, const char * command,
    char out[REMEDY_MAX])
{
	char target[REMEDY_DSN_MAX], quoted[REMEDY_DSN_MAX + 64];

	remedy_dsn(dsn, role, NULL, target);
	snprintf(out, REMEDY_MAX, "OUTBOX_RELAY_POSTGRES_DSN=%s %s%.1000s",
	    shell_quote(quoted, sizeof(quoted), target),
	    has_password_file ? "OUTBOX_RELAY_POSTGRES_PASSWORD_FILE= " : "", command);
	return (out);
}

void
remedy_value(const char * dsn, const char * keyword, char * out, size_t size)
{
	PQconninfoOption * lists[] = {PQconndefaults(), PQconninfoParse(dsn, NULL)};

	out[0] = '\0';
	for (size_t i = 0; i < 2; i++) {
		for (PQconninfoOption * o = lists[i]; o != NULL && o->keyword != NULL; o++) {
			if (strcmp(o->keyword, keyword) == 0 && o->val != NULL)
				snprintf(out, size, "%s", o->val);
		}
		PQconninfoFree(lists[i]);
	}
}

char *
remedy_identifier(const char * name, char * out, size_t size)
{
	size_t len = 0;

	out[0] = '\0';
	if (2 * strlen(name) + 3 > size)
		return (out);
	out[len++] = '"';
	for (; *name != '\0'; name++) {
		if (*name == '"')
			out[len++] = '"';
		out[len++] = *name;
	}
	out[len++] = '"';
	out[len] = '\0';
	return (out);
}
