#include "postgres/version.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "admin/migrate.h"

static struct error e;

static int
check(struct version * version, const char * number, const char * applied)
{
	const struct version_facts facts = {.line = "outbox",
	    .database = "orders",
	    .schema = "outbox",
	    .version = number,
	    .applied = applied};

	return (version_check(version, &facts, &e));
}

/* All migrations of this program but ${without}, as applied_migrations() tells them. */
static const char *
all_but(unsigned int without, unsigned int more)
{
	static char text[512];
	const struct migration_file * file = NULL;
	size_t used = 0;

	text[0] = '\0';
	while ((file = migrate_next("outbox", file)) != NULL)
		if (file->version != without)
			used += (size_t)snprintf(text + used, sizeof(text) - used, "%u ",
			    file->version);
	if (more != 0)
		snprintf(text + used, sizeof(text) - used, "%u", more);
	return (text);
}

static void
each_migration_has_its_bit(void ** state)
{
	const struct migration_file * file = NULL;
	struct version version;

	(void)state;
	assert_int_equal(check(&version, "1.0", all_but(0, 0)), 0);
	while ((file = migrate_next("outbox", file)) != NULL) {
		assert_true(version_has(&version, file->version));
		assert_int_equal(version_require(&version, "outbox", "outbox", file->version, &e),
		    0);
	}
	assert_false(version_has(&version, 0));
	assert_false(version_has(&version, 63));
	assert_false(version_has(&version, 64));
	assert_string_equal(version.behind, "");
	assert_string_equal(version.ahead, "");
}

static void
what_is_missing_is_named_but_for_the_trigger(void ** state)
{
	struct version version;

	(void)state;
	assert_int_equal(check(&version, "1.7", all_but(2, 0)), 0);
	assert_string_equal(version.behind, "0002_functions");
	assert_int_equal(version_require(&version, "outbox", "orders_out", 2, &e), -1);
	assert_int_equal(e.code, EXIT_CONFIGURATION);
	assert_string_equal(e.text,
	    "schema orders_out lacks migration 0002_functions, which this needs");
	assert_string_equal(e.remedy, "apply it: outbox-relay migrate up");
	assert_int_equal(check(&version, "1.0", all_but(3, 0)), 0);
	assert_string_equal(version.behind, "");
	assert_false(version_has(&version, 3));
}

static void
what_is_unknown_is_told_and_nothing_more(void ** state)
{
	struct version version;

	(void)state;
	assert_int_equal(check(&version, "1.99", all_but(0, 63)), 0);
	assert_string_equal(version.ahead, "0063");
	assert_string_equal(version.behind, "");
	assert_int_equal(check(&version, "1.99", all_but(0, 4000000000)), 0);
	assert_string_equal(version.ahead, "4000000000");
	assert_int_equal(check(&version, "1.0", ""), 0);
	assert_memory_equal(version.behind, "0001_tables 0002_functions", 26);
	assert_int_equal(check(&version, "1.0", "nonsense"), 0);
	assert_false(version_has(&version, 1));
}

static void
another_major_version_is_refused(void ** state)
{
	struct version version;

	(void)state;
	assert_int_equal(check(&version, "2.0", all_but(0, 0)), -1);
	assert_int_equal(e.code, EXIT_CONFIGURATION);
	assert_non_null(strstr(e.text, "has version 2.0, too new"));
	assert_string_equal(e.remedy, "upgrade outbox-relay");
	assert_int_equal(check(&version, "0.9", all_but(0, 0)), -1);
	assert_non_null(strstr(e.text, "has version 0.9, too old"));
	assert_string_equal(e.remedy, "apply the migrations: outbox-relay migrate up");
	assert_int_equal(check(&version, "", ""), -1);
	assert_int_equal(check(&version, "10.0", ""), -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(each_migration_has_its_bit),
	    cmocka_unit_test(what_is_missing_is_named_but_for_the_trigger),
	    cmocka_unit_test(what_is_unknown_is_told_and_nothing_more),
	    cmocka_unit_test(another_major_version_is_refused),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
