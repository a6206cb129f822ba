#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "postgres/dsn.h"

static void
what_libpq_reads_is_well(void ** state)
{
	static const char * const good[] = {"", "host=/run/postgresql dbname=orders user=relay",
	    "postgresql://u:p@h1:5432,h2/d?target_session_attrs=read-write", "password='a b\\'c'"};
	struct error e;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_int_equal(dsn_check(good[i], &e), 0);
}

static void
a_bad_dsn_is_refused_without_repeating_it(void ** state)
{
	static const struct {
		const char * dsn;
		const char * text;
		const char * remedy;
	} bad[] = {
	    {"host=a password=b hunter2", "a keyword without =", "single quotes"},
	    {"host=a passwort=hunter2", "invalid connection option", "did you mean password?"},
	    {"postgresql://u:hunter2@h/d?sslmod=x", "invalid URI query parameter",
		"did you mean sslmode?"},
	    {"postgresql://u:hunter2%zz@h/d", "invalid percent-encoded token", "postgresql://"},
	    {"password='hunter2", "unterminated quoted string", ""},
	    {"postgresql://u:hunter2@[::1/d", "end of string reached", ""},
	    {"postgresql://u:hunter2/x@h/d", "the port is not a number", "%2F"},
	};
	char shown[DSN_DESCRIPTION_MAX];
	struct error e;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(dsn_check(bad[i].dsn, &e), -1);
		assert_int_equal(e.code, EXIT_CONFIGURATION);
		assert_non_null(strstr(e.text, bad[i].text));
		assert_non_null(strstr(e.remedy, bad[i].remedy));
		assert_null(strstr(e.text, "hunter2"));
		assert_null(strstr(e.remedy, "hunter2"));
		dsn_describe(bad[i].dsn, shown);
		assert_string_equal(shown, "***");
	}
}

static void
descriptions_hide_every_password(void ** state)
{
	static const char * const with[][2] = {
	    {"host=a password=hunter2", "password=*** host=a"},
	    {"host=a password='hunter2 x' sslpassword=hunter2",
		"password=*** host=a sslpassword=***"},
	    {"postgresql://u:hunter2@h/d", "user=u password=*** dbname=d host=h"},
	    {"postgresql://h/d?password=hunter2", "password=*** dbname=d host=h"},
	    {"dbname='a b\\'c' password=hunter2", "password=*** dbname='a b\\'c'"},
	};
	char shown[DSN_DESCRIPTION_MAX];
	char huge[DSN_DESCRIPTION_MAX + 100];

	(void)state;
	for (size_t i = 0; i < sizeof(with) / sizeof(with[0]); i++) {
		dsn_describe(with[i][0], shown);
		assert_string_equal(shown, with[i][1]);
	}
	dsn_describe("postgresql://u@h/d", shown);
	assert_string_equal(shown, "postgresql://u@h/d");
	dsn_describe("", shown);
	assert_string_equal(shown, "");

	/* What does not fit is not cut in the middle of a secret. */
	snprintf(huge, sizeof(huge), "password=hunter2 dbname=%04060d", 1);
	dsn_describe(huge, shown);
	assert_null(strstr(shown, "hunter2"));
}

static void
hosts_are_taken_in_turn(void ** state)
{
	static const struct {
		const char * dsn;
		size_t first;
		const char * host;
		const char * hostaddr;
		const char * port;
	} cases[] = {
	    {"host=a,b,c port=1,2,3", 0, NULL, NULL, NULL},
	    {"host=a,b,c port=1,2,3", 1, "b,c,a", NULL, "2,3,1"},
	    {"host=a,b,c port=1", 5, "c,a,b", NULL, NULL},
	    {"host=a,b hostaddr=10.0.0.1,10.0.0.2", 1, "b,a", "10.0.0.2,10.0.0.1", NULL},
	    {"postgresql://u@a:1,b/d", 1, "b,a", NULL, ",1"},
	    {"host=a", 7, NULL, NULL, NULL},
	    {"dbname=d", 7, NULL, NULL, NULL},
	};
	struct dsn_hosts hosts;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		dsn_rotate_hosts(cases[i].dsn, cases[i].first, &hosts);
		assert_string_equal(hosts.host ? hosts.host : "-",
		    cases[i].host ? cases[i].host : "-");
		assert_string_equal(hosts.hostaddr ? hosts.hostaddr : "-",
		    cases[i].hostaddr ? cases[i].hostaddr : "-");
		assert_string_equal(hosts.port ? hosts.port : "-",
		    cases[i].port ? cases[i].port : "-");
		dsn_free_hosts(&hosts);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_libpq_reads_is_well),
	    cmocka_unit_test(a_bad_dsn_is_refused_without_repeating_it),
	    cmocka_unit_test(descriptions_hide_every_password),
	    cmocka_unit_test(hosts_are_taken_in_turn),
	};

	return (cmocka_run_group_tests_name("postgres/dsn", tests, NULL, NULL));
}
