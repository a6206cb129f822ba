#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "postgres/array.h"

static void
test_numbers_and_booleans(void ** state)
{
	struct array a = {.failed = false};

	(void)state;
	array_add_number(&a, 0);
	array_add_number(&a, INT64_MIN);
	array_add_number(&a, INT64_MAX);
	assert_string_equal(array_text(&a), "{0,-9223372036854775808,9223372036854775807}");
	array_free(&a);
	array_add_bool(&a, true);
	array_add_bool(&a, false);
	assert_string_equal(array_text(&a), "{t,f}");
	array_free(&a);
}

static void
test_text_is_quoted_and_null_is_not(void ** state)
{
	struct array a = {.failed = false};

	(void)state;
	array_add_text(&a, bytes_from("plain"));
	array_add_text(&a, bytes_from(""));
	array_add_text(&a, BYTES_NONE);
	array_add_text(&a, bytes_from("NULL"));
	array_add_text(&a, bytes_from("a \"b\" \\ {c,d}\n"));
	assert_string_equal(array_text(&a),
	    "{\"plain\",\"\",NULL,\"NULL\",\"a \\\"b\\\" \\\\ {c,d}\n\"}");
	array_free(&a);
}

static void
test_an_empty_one_and_one_that_is_too_large(void ** state)
{
	static char large[ARRAY_MAX / 2 + 1];
	struct array a = {.failed = false};

	(void)state;
	assert_string_equal(array_text(&a), "{}");
	array_free(&a);
	array_add_text(&a, (struct bytes){large, sizeof(large)});
	array_add_number(&a, 1);
	assert_null(array_text(&a));
	array_free(&a);
	array_add_number(&a, 1);
	assert_string_equal(array_text(&a), "{1}");
	array_free(&a);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_numbers_and_booleans),
	    cmocka_unit_test(test_text_is_quoted_and_null_is_not),
	    cmocka_unit_test(test_an_empty_one_and_one_that_is_too_large),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
