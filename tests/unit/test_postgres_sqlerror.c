#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "postgres/sqlerror.h"

#define HOST(n) "connection to server at \"127.0.0." #n "\", port 5432 failed: "

/* As libpq 15 and Postgres 15 say it. */
static const struct {
	const char * text;
	enum exit_code code;
	const char * remedy;
} words[] = {
    {"", EXIT_UNREACHABLE, "check that the server runs"},
    {"server closed the connection unexpectedly\n\tThis probably means ...", EXIT_UNREACHABLE,
	"check that the server runs"},
    {HOST(1) "Connection refused\n\tIs the server running on that host and accepting TCP/IP "
	     "connections?\n",
	EXIT_UNREACHABLE, "check that the server runs"},
    {HOST(1) "FATAL:  the database system is starting up\n", EXIT_UNREACHABLE, "none needed"},
    {HOST(1) "FATAL:  the database system is in recovery mode\n", EXIT_UNREACHABLE, "none needed"},
    {HOST(1) "FATAL:  the database system is not yet accepting connections\nDETAIL:  Consistent "
	     "recovery state has not been yet reached.\n",
	EXIT_UNREACHABLE, "none needed"},
    {HOST(1) "FATAL:  sorry, too many clients already\n", EXIT_UNREACHABLE, "max_connections"},
    {HOST(1) "FATAL:  too many connections for role \"relay\"\n", EXIT_UNREACHABLE,
	"CONNECTION LIMIT"},
    {HOST(1) "FATAL:  remaining connection slots are reserved for non-replication superuser "
	     "connections\n",
	EXIT_UNREACHABLE, "max_connections"},
    {HOST(1) "FATAL:  password authentication failed for user \"relay\"\n", EXIT_PERMISSION,
	"postgres.password_file"},
    {HOST(1) "FATAL:  role \"relay\" does not exist\n", EXIT_PERMISSION, "create what it names"},
    {HOST(1) "FATAL:  database \"d\" does not exist\n", EXIT_CONFIGURATION, "create what it names"},
    {HOST(1) "session is read-only\n", EXIT_CONFIGURATION, "the primary"},
    {HOST(1) "SSL error: certificate verify failed\n", EXIT_UNREACHABLE, "sslrootcert"},
    {HOST(1) "server certificate for \"a\" does not match host name \"b\"\n", EXIT_UNREACHABLE,
	"host in postgres.dsn"},
    {HOST(1) "SSL error: tlsv13 alert certificate required\n", EXIT_PERMISSION, "sslcert"},
    {HOST(1) "root certificate file \"/x\" does not exist\nEither provide the file or ...\n",
	EXIT_CONFIGURATION, "sslrootcert"},
    {HOST(1) "certificate present, but not private key file \"/x\"\n", EXIT_CONFIGURATION,
	"sslkey"},
    /* Several hosts: a mistake only if the last one says so, and not of standbys. */
    {HOST(1) "session is read-only\n" HOST(2) "Connection refused\n", EXIT_UNREACHABLE,
	"check that the server runs"},
    {HOST(1) "Connection refused\n" HOST(2) "session is read-only\n", EXIT_UNREACHABLE,
	"the primary"},
    {HOST(1) "session is read-only\n" HOST(2) "session is read-only\n", EXIT_UNREACHABLE,
	"the primary"},
    {HOST(1) "Connection refused\n" HOST(2) "FATAL:  role \"relay\" does not exist\n",
	EXIT_PERMISSION, "create what it names"},
};

static void
what_a_failed_connection_says_is_understood(void ** state)
{
	struct error e;

	(void)state;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		sqlerror_from_words(&e, words[i].text);
		if (e.code != words[i].code || strstr(e.remedy, words[i].remedy) == NULL)
			fail_msg("%s: %d, %s", words[i].text, (int)e.code, e.remedy);
		assert_null(strchr(e.text, '\n'));
	}
}

/* lc_messages of the server, with PQERRORS_VERBOSE. */
static const struct {
	const char * text;
	enum exit_code code;
	const char * sqlstate;
	const char * told;
} translated[] = {
    {HOST(1) "FATAL:  28P01: Passwort-Authentifizierung für Benutzer »relay« fehlgeschlagen\n"
	     "ORT:  auth_failed, auth.c:335\n",
	EXIT_PERMISSION, "28P01",
	"Postgres: " HOST(
	    1) "FATAL:  Passwort-Authentifizierung für Benutzer »relay« fehlgeschlagen"},
    {HOST(1) "FATAL:  28000: Rolle »relay« existiert nicht\nORT:  InitializeSessionUserId, "
	     "miscinit.c:721\n",
	EXIT_PERMISSION, "28000", "Postgres: " HOST(1) "FATAL:  Rolle »relay« existiert nicht"},
    {HOST(1) "FATAL:  3D000: la base de données « d » n'existe pas\n"
	     "EMPLACEMENT :  InitPostgres, postinit.c:941\n",
	EXIT_CONFIGURATION, "3D000",
	"Postgres: " HOST(1) "FATAL:  la base de données « d » n'existe pas"},
    {HOST(1) "FATAL:  57P03: das Datenbanksystem startet\nORT:  ProcessStartupPacket, "
	     "postmaster.c:2361\n" HOST(
		 2) "FATAL:  53300: tut mir leid, schon zu viele Verbindungen\n"
		    "ORT:  InitProcess, proc.c:352\n",
	EXIT_UNREACHABLE, "53300",
	"Postgres: " HOST(1) "FATAL:  das Datenbanksystem startet " HOST(
	    2) "FATAL:  tut mir leid, schon zu viele Verbindungen"},
    {HOST(1) "FATAL:  28000: role \"relay\" is not permitted to log in\n"
	     "LOCATION:  InitializeSessionUserId, miscinit.c:768\n",
	EXIT_PERMISSION, "28000",
	"Postgres: " HOST(1) "FATAL:  role \"relay\" is not permitted to log in"},
};

static void
a_server_of_another_language_is_understood(void ** state)
{
	struct error e;

	(void)state;
	for (size_t i = 0; i < sizeof(translated) / sizeof(translated[0]); i++) {
		sqlerror_from_words(&e, translated[i].text);
		assert_int_equal(e.code, translated[i].code);
		assert_string_equal(e.sqlstate, translated[i].sqlstate);
		assert_string_equal(e.text, translated[i].told);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_a_failed_connection_says_is_understood),
	    cmocka_unit_test(a_server_of_another_language_is_understood),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
