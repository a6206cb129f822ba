#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "admin/remedy.h"
#include "postgres/dsn.h"

static void
another_role_connects_as_the_dsn_does(void ** state)
{
	char out[REMEDY_DSN_MAX];

	(void)state;
	remedy_dsn("host=h1,h2 port=1,2 dbname=d user=relay password=hunter2 connect_timeout=3"
		   " application_name=x target_session_attrs=read-write sslmode=require",
	    "own er", NULL, out);
	assert_string_equal(out, "dbname=d host=h1,h2 port=1,2 sslmode=require user='own er'");
	remedy_dsn("postgresql://relay:hunter2@h:5433/my%20db?sslcert=c&sslkey=k", "o'x\\y", NULL,
	    out);
	assert_string_equal(out, "dbname='my db' host=h port=5433 user='o\\'x\\\\y'");
	remedy_dsn("host=h dbname=d", "o", "postgres", out);
	assert_string_equal(out, "host=h dbname=postgres user=o");
	remedy_dsn("", "o", NULL, out);
	assert_string_equal(out, "user=o");
	/* Whatever comes out, libpq reads it. */
	assert_int_equal(dsn_check(out, NULL), 0);
}

static void
what_is_too_long_is_left_out_whole(void ** state)
{
	char dsn[2000] = "host=", out[REMEDY_DSN_MAX];

	(void)state;
	memset(dsn + 5, 'h', 1500);
	strcpy(dsn + 1505, " port=7");
	remedy_dsn(dsn, "o", NULL, out);
	assert_string_equal(out, "port=7 user=o");
}

static void
each_statement_has_its_own_transaction(void ** state)
{
	char out[REMEDY_MAX];

	(void)state;
	assert_string_equal(remedy_psql("host=h", "o", NULL, "SELECT 1", out),
	    "psql 'host=h user=o' -c 'SELECT 1'");
	assert_string_equal(remedy_psql("", "o", NULL, "ALTER SYSTEM SET a = 1\nSELECT f('x')",
				out),
	    "psql user=o -c 'ALTER SYSTEM SET a = 1' -c \"SELECT f('x')\"");
}

static void
a_command_of_ours_leaves_the_relays_password_aside(void ** state)
{
	char out[REMEDY_MAX];

	(void)state;
	assert_string_equal(remedy_relay("host=h", 0, "o", "outbox-relay migrate up", out),
	    "OUTBOX_RELAY_POSTGRES_DSN='host=h user=o' outbox-relay migrate up");
	assert_string_equal(remedy_relay("host=h", 1, "o", "outbox-relay migrate up", out),
	    "OUTBOX_RELAY_POSTGRES_DSN='host=h user=o' OUTBOX_RELAY_POSTGRES_PASSWORD_FILE= "
	    "outbox-relay migrate up");
}

static void
values_come_from_the_dsn_then_from_the_environment(void ** state)
{
	char out[64];

	(void)state;
	setenv("PGUSER", "environment", 1);
	remedy_value("user=dsn", "user", out, sizeof(out));
	assert_string_equal(out, "dsn");
	remedy_value("host=h", "user", out, sizeof(out));
	assert_string_equal(out, "environment");
	remedy_value("host=h", "frobnicate", out, sizeof(out));
	assert_string_equal(out, "");
}

static void
identifiers_are_quoted(void ** state)
{
	char out[16];

	(void)state;
	assert_string_equal(remedy_identifier("relay", out, sizeof(out)), "\"relay\"");
	assert_string_equal(remedy_identifier("a\"b", out, sizeof(out)), "\"a\"\"b\"");
	assert_string_equal(remedy_identifier("much too long", out, sizeof(out)), "");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(another_role_connects_as_the_dsn_does),
	    cmocka_unit_test(what_is_too_long_is_left_out_whole),
	    cmocka_unit_test(each_statement_has_its_own_transaction),
	    cmocka_unit_test(a_command_of_ours_leaves_the_relays_password_aside),
	    cmocka_unit_test(values_come_from_the_dsn_then_from_the_environment),
	    cmocka_unit_test(identifiers_are_quoted),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
