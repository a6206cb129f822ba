/*
 * libpq tells why a connection failed in words, so its reasons are recognised
 * by the server's untranslated phrases.  A server that speaks another language
 * (lc_messages) is understood by the number of the state, if the connection is
 * asked for it (PQERRORS_VERBOSE).  What is not recognised is "unreachable",
 * which is retried.
 *
 * With several hosts libpq goes on to the next after one that is away, starting
 * or a standby, and stops at any other refusal: the last host's words decide.
 * That all of several are standbys now is a promotion under way, for all we
 * know; of one alone it is a mistake.
 */
#include "postgres/sqlerror.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#define STATE_LENGTH 5 /* of a SQLSTATE */

struct reason {
	const char * phrase;
	enum exit_code code;
	const char * remedy;
};

static const struct reason connection_reasons[] = {
    {"password authentication failed", EXIT_PERMISSION,
	"check the user and the password in postgres.dsn, or postgres.password_file"},
    {"no password supplied", EXIT_PERMISSION,
	"set postgres.password_file, or a password in postgres.dsn"},
    {"requires a valid client certificate", EXIT_PERMISSION,
	"name sslcert and sslkey in postgres.dsn, signed by the CA in the server's ssl_ca_file"},
    {"no pg_hba.conf entry", EXIT_PERMISSION,
	"allow this user, host and database in the server's pg_hba.conf"},
    {"authentication failed", EXIT_PERMISSION,
	"check the user in postgres.dsn and the server's pg_hba.conf"},
    {"permission denied for database", EXIT_PERMISSION,
	"GRANT CONNECT ON DATABASE to the relay's role"},
    {"is not permitted to log in", EXIT_PERMISSION, "ALTER ROLE ... LOGIN"},
    {"the database system is ", EXIT_UNREACHABLE,
	"none needed, unless it lasts: the server starts, stops or recovers"},
    {"too many c", EXIT_UNREACHABLE,
	"end idle sessions, or raise max_connections or the CONNECTION LIMIT of role and database:"
	" a relay needs two"},
    {"remaining connection slots are reserved", EXIT_UNREACHABLE,
	"end idle sessions, or raise max_connections: a relay needs two"},
    {"certificate verify failed", EXIT_UNREACHABLE,
	"renew the server's certificate if it is expired, or name the CA that signed it as"
	" sslrootcert in postgres.dsn"},
    {"does not match host name", EXIT_UNREACHABLE,
	"use the name in the server's certificate as host in postgres.dsn, or renew the"
	" certificate"},
    {" alert ", EXIT_PERMISSION,
	"renew sslcert and sslkey, if expired; the server's ssl_ca_file must hold their CA"},
    {"server does not support SSL", EXIT_CONFIGURATION,
	"switch on ssl at the server, or choose another sslmode in postgres.dsn"},
    {"certificate file \"", EXIT_CONFIGURATION,
	"correct sslrootcert and sslcert in postgres.dsn, and who may read those files"},
    {"private key file", EXIT_CONFIGURATION,
	"correct sslkey in postgres.dsn; the file must belong to the relay's user and be readable"
	" by nobody else (chmod 600)"},
};

/* These may be several of the above. */
static const struct reason connection_states[] = {
    {"28P01", EXIT_PERMISSION,
	"check the user and the password in postgres.dsn, or postgres.password_file"},
    {"28000", EXIT_PERMISSION,
	"check that the role exists and may log in, and the server's pg_hba.conf"},
    {"3D000", EXIT_CONFIGURATION, "correct postgres.dsn, or create the database that it names"},
    {"42501", EXIT_PERMISSION, "GRANT CONNECT ON DATABASE to the relay's role"},
    {"53300", EXIT_UNREACHABLE,
	"end idle sessions, or raise max_connections or the CONNECTION LIMIT of role and database:"
	" a relay needs two"},
    {"57P03", EXIT_UNREACHABLE,
	"none needed, unless it lasts: the server starts, stops or recovers"},
};

static const struct reason standby_reason = {NULL, EXIT_CONFIGURATION,
    "the relay needs the primary: name it, or all hosts, in postgres.dsn; of the primary itself,"
    " of role or database, default_transaction_read_only must be off"};
static const char * const standby_phrases[] = {"session is read-only", "server is in hot standby"};

static const struct reason state_reasons[] = {
    {"42501", EXIT_PERMISSION, "as the owner of the schema: SELECT outbox.grant_relay('ROLE')"},
    {"28P01", EXIT_PERMISSION, "check the user and the password"},
    {"3F000", EXIT_CONFIGURATION, "apply the migrations: outbox-relay migrate up"},
    {"42P01", EXIT_CONFIGURATION, "apply the migrations: outbox-relay migrate up"},
    {"42883", EXIT_CONFIGURATION, "apply the migrations: outbox-relay migrate up"},
    {"22P05", EXIT_UNREACHABLE,
	"a row holds a character that UTF-8 lacks: as the owner, UPDATE the text of that row, which"
	" is among the oldest pending or delayed ones"},
    {"53100", EXIT_UNREACHABLE, "free disk space on the Postgres server"},
    {"55P03", EXIT_UNREACHABLE,
	"end what holds the lock: SELECT pg_blocking_pids(pid), * FROM pg_stat_activity WHERE"
	" wait_event_type = 'Lock'"},
};

static void
trim(char * text)
{
	size_t length = strlen(text);

	while (length > 0 && strchr(" \n\r\t", text[length - 1]) != NULL)
		text[--length] = '\0';
}

/* The words about the host that was tried last; ${hosts}: how many were. */
static const char *
last_host(const char * text, size_t * hosts)
{
	static const char head[] = "connection to server ";
	const char * last = text;

	*hosts = 0;
	for (const char * at = text; (at = strstr(at, head)) != NULL; at += sizeof(head) - 1) {
		if (at != text && at[-1] != '\n')
			continue;
		last = at;
		++*hosts;
	}
	return (last);
}

/*
 * "FATAL:  28P01: words", and behind them "LOCATION:  function, file.c:335": where
 * the five characters of the state stand in ${text}, or NULL.
 */
static const char *
find_state(const char * text)
{
	const char * at = text;

	while ((at = strstr(at, ":  ")) != NULL) {
		size_t length = 0;

		at += 3;
		while (isdigit((unsigned char)at[length]) || isupper((unsigned char)at[length]))
			length++;
		if (length == STATE_LENGTH && strncmp(at + length, ": ", 2) == 0)
			return (at);
	}
	return (NULL);
}

/* "...: function, file.c:335", whatever it begins with. */
static bool
is_location(const char * line, size_t length)
{
	while (length > 0 && isdigit((unsigned char)line[length - 1]))
		length--;
	return (length >= 3 && strncmp(line + length - 3, ".c:", 3) == 0);
}

/* Without what is of no use to a person: states, and where in the server's source it was. */
static void
leave_out_details(const char * text, char * plain, size_t size)
{
	const char * state = find_state(text);
	size_t used = 0;

	while (*text != '\0' && used + 1 < size) {
		size_t length = strcspn(text, "\n");

		if (text[length] == '\n')
			length++;
		if (!is_location(text, length - (text[length - 1] == '\n'))) {
			for (size_t i = 0; i < length && used + 1 < size; i++) {
				if (text + i == state)
					i += STATE_LENGTH + 2;
				plain[used++] = text[i];
			}
		}
		text += length;
		if (state != NULL && state < text)
			state = find_state(text);
	}
	plain[used] = '\0';
}

static const struct reason *
connection_reason(const char * words)
{
	for (size_t i = 0; i < sizeof(standby_phrases) / sizeof(standby_phrases[0]); i++)
		if (strstr(words, standby_phrases[i]) != NULL)
			return (&standby_reason);
	for (size_t i = 0; i < sizeof(connection_reasons) / sizeof(connection_reasons[0]); i++)
		if (strstr(words, connection_reasons[i].phrase) != NULL)
			return (&connection_reasons[i]);
	return (NULL);
}

static const struct reason *
connection_state(const char * state)
{
	for (size_t i = 0;
	     state != NULL && i < sizeof(connection_states) / sizeof(connection_states[0]); i++)
		if (strncmp(state, connection_states[i].phrase, STATE_LENGTH) == 0)
			return (&connection_states[i]);
	return (NULL);
}

void
sqlerror_from_words(struct error * e, const char * text)
{
	size_t hosts;
	const char * words = last_host(text, &hosts);
	const struct reason * reason = connection_reason(words);
	const char * state = find_state(words);
	char plain[ERROR_TEXT_MAX];
	const char * missing = strstr(words, "does not exist");

	leave_out_details(text, plain, sizeof(plain));
	error_set(e, EXIT_UNREACHABLE, "Postgres: %s",
	    plain[0] == '\0' ? "the connection is lost" : plain);
	if (state != NULL)
		memcpy(e->sqlstate, state, STATE_LENGTH);
	trim(e->text);
	if (reason == NULL && missing == NULL)
		reason = connection_state(state);
	if (reason != NULL) {
		e->code = reason == &standby_reason && hosts > 1 ? EXIT_UNREACHABLE : reason->code;
		error_remedy(e, "%s", reason->remedy);
		return;
	}
	error_remedy(e, "check that the server runs and that postgres.dsn names it");
	/* 'database "x" does not exist', 'role "x" does not exist' */
	if (strstr(words, "FATAL") != NULL && missing != NULL) {
		e->code = strstr(words, "role \"") != NULL ? EXIT_PERMISSION : EXIT_CONFIGURATION;
		error_remedy(e, "correct postgres.dsn, or create what it names");
	}
}

void
sqlerror_from_connection(struct error * e, const PGconn * conn)
{
	sqlerror_from_words(e, conn == NULL ? "out of memory" : PQerrorMessage(conn));
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
