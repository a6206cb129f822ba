#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"

static void
set_fills_and_forgets_what_was_there(void ** state)
{
	struct error e;

	(void)state;
	memset(&e, 'x', sizeof(e));
	assert_int_equal(error_set(&e, EXIT_UNREACHABLE, "no %s on port %d", "answer", 5672), -1);
	assert_int_equal(e.code, EXIT_UNREACHABLE);
	assert_string_equal(e.text, "no answer on port 5672");
	assert_string_equal(e.remedy, "");
	assert_string_equal(e.sqlstate, "");
	assert_int_equal(e.amqp_code, 0);

	assert_int_equal(error_remedy(&e, "start %s", "it"), -1);
	assert_string_equal(e.remedy, "start it");
	error_clear(&e);
	assert_int_equal(e.code, EXIT_WELL);
	assert_string_equal(e.text, "");
}

static void
an_error_may_quote_itself(void ** state)
{
	struct error e;

	(void)state;
	error_set(&e, EXIT_BUG, "inner");
	error_set(&e, EXIT_BUG, "outer: %s", e.text);
	assert_string_equal(e.text, "outer: inner");
}

static void
control_characters_become_spaces(void ** state)
{
	struct error e;

	(void)state;
	error_set(&e, EXIT_BUG, "FATAL:  no\n\tway\x1b[31m\x7f caf\xc3\xa9\n");
	assert_string_equal(e.text, "FATAL:  no  way [31m  caf\xc3\xa9");
}

static void
a_long_text_is_cut_between_characters(void ** state)
{
	char text[ERROR_TEXT_MAX + 10];
	struct error e;

	(void)state;
	for (size_t shift = 0; shift < 3; shift++) {
		memset(text, 'a', shift);
		for (size_t i = shift; i + 3 < sizeof(text); i += 3)
			memcpy(text + i, "\xe2\x82\xac", 4);
		error_set(&e, EXIT_BUG, "%s", text);
		assert_true(strlen(e.text) > ERROR_TEXT_MAX - 4);
		assert_int_equal((strlen(e.text) - shift) % 3, 0);
		assert_memory_equal(e.text, text, strlen(e.text));
	}
}

static void
nobody_has_to_ask_for_the_error(void ** state)
{
	(void)state;
	assert_int_equal(error_set(NULL, EXIT_BUG, "x"), -1);
	assert_int_equal(error_remedy(NULL, "x"), -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(set_fills_and_forgets_what_was_there),
	    cmocka_unit_test(an_error_may_quote_itself),
	    cmocka_unit_test(control_characters_become_spaces),
	    cmocka_unit_test(a_long_text_is_cut_between_characters),
	    cmocka_unit_test(nobody_has_to_ask_for_the_error),
	};

	return (cmocka_run_group_tests_name("base/error", tests, NULL, NULL));
}
