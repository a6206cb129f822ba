/*
 * libpq tells why a connection failed in words alone, so its reasons are
 * recognised by the server's untranslated phrases; what is not recognised is
 * "unreachable", which is retried.
 */
#include "postgres/sqlerror.h"

#include <string.h>

static const struct reason {
	const char * phrase;
	enum exit_code code;
	const char * remedy;
} connection_reasons[] = {
    {"password authentication failed", EXIT_PERMISSION,
	"check the user and the password in postgres.dsn, or postgres.password_file"},
    {"no password supplied", EXIT_PERMISSION,
	"set postgres.password_file, or a password in postgres.dsn"},
    {"no pg_hba.conf entry", EXIT_PERMISSION,
	"allow this user, host and database in the server's pg_hba.conf"},
    {"authentication failed", EXIT_PERMISSION,
	"check the user in postgres.dsn and the server's pg_hba.conf"},
    {"permission denied for database", EXIT_PERMISSION,
	"GRANT CONNECT ON DATABASE to the relay's role"},
    {"is not permitted to log in", EXIT_PERMISSION, "ALTER ROLE ... LOGIN"},
    {"session is read-only", EXIT_CONFIGURATION,
	"the relay needs the primary: name it, or all hosts, in postgres.dsn"},
    {"is in recovery", EXIT_CONFIGURATION,
	"the relay needs the primary: name it, or all hosts, in postgres.dsn"},
};

static const struct reason state_reasons[] = {
    {"42501", EXIT_PERMISSION, "as the owner of the schema: SELECT outbox.grant_relay('ROLE')"},
    {"28P01", EXIT_PERMISSION, "check the user and the password"},
    {"3F000", EXIT_CONFIGURATION, "apply the migrations: outbox-relay migrate up"},
    {"42P01", EXIT_CONFIGURATION, "apply the migrations: outbox-relay migrate up"},
    {"42883", EXIT_CONFIGURATION, "apply the migrations: outbox-relay migrate up"},
};

static void
trim(char * text)
{
	size_t length = strlen(text);

	while (length > 0 && strchr(" \n\r\t", text[length - 1]) != NULL)
		text[--length] = '\0';
}

void
sqlerror_from_connection(struct error * e, const PGconn * conn)
{
	const char * text = conn == NULL ? "out of memory" : PQerrorMessage(conn);

	error_set(e, EXIT_UNREACHABLE, "Postgres: %s",
	    text[0] == '\0' ? "the connection is lost" : text);
	trim(e->text);
	error_remedy(e, "check that the server runs and that postgres.dsn names it");
	for (size_t i = 0; i < sizeof(connection_reasons) / sizeof(connection_reasons[0]); i++) {
		if (strstr(text, connection_reasons[i].phrase) == NULL)
			continue;
		e->code = connection_reasons[i].code;
		error_remedy(e, "%s", connection_reasons[i].remedy);
		return;
	}
	/* 'database "x" does not exist', 'role "x" does not exist' */
	if (strstr(text, "FATAL") != NULL && strstr(text, "does not exist") != NULL) {
		e->code = strstr(text, "role \"") != NULL ? EXIT_PERMISSION : EXIT_CONFIGURATION;
		error_remedy(e, "correct postgres.dsn, or create what it names");
	}
}

void
sqlerror_from_result(struct error * e, const PGresult * result)
{
	const char * text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	const char * state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char * hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);

	error_set(e, EXIT_BUG, "Postgres: %s", text == NULL ? "no answer" : text);
	if (state == NULL)
		return;
	memcpy(e->sqlstate, state, sizeof(e->sqlstate) - 1);
	e->sqlstate[sizeof(e->sqlstate) - 1] = '\0';
	/* 08 connection, 53 resources, 57 operator intervention, 40 rollback, 25006 read-only */
	if (strncmp(state, "08", 2) == 0 || strncmp(state, "53", 2) == 0 ||
	    strncmp(state, "57", 2) == 0 || strncmp(state, "40", 2) == 0 ||
	    strcmp(state, "25006") == 0)
		e->code = EXIT_UNREACHABLE;
	if (hint != NULL)
		error_remedy(e, "%s", hint);
	for (size_t i = 0; i < sizeof(state_reasons) / sizeof(state_reasons[0]); i++) {
		if (strcmp(state, state_reasons[i].phrase) == 0) {
			e->code = state_reasons[i].code;
			error_remedy(e, "%s", state_reasons[i].remedy);
		}
	}
}
