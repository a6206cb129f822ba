#include "base/control.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void
what_a_terminal_would_obey_has_a_length(void ** state)
{
	(void)state;
	assert_int_equal(control_length("\x1b[31m"), 1);
	assert_int_equal(control_length("\n"), 1);
	assert_int_equal(control_length("\x7f"), 1);
	assert_int_equal(control_length("\xc2\x9b"
					"31m"),
	    2);
	assert_int_equal(control_length("\xe2\x80\xa8"), 3);
	assert_int_equal(control_length("\xe2\x80\xae"), 3);
	assert_int_equal(control_length("\xe2\x81\xa6"), 3);
}

static void
what_is_seen_has_none(void ** state)
{
	(void)state;
	assert_int_equal(control_length(""), 0);
	assert_int_equal(control_length(" "), 0);
	assert_int_equal(control_length("a"), 0);
	assert_int_equal(control_length("\xc2\xa0"), 0);
	assert_int_equal(control_length("\xc3\xa9"), 0);
	assert_int_equal(control_length("\xe2\x80\xa6"), 0);
	assert_int_equal(control_length("\xe2\x82\xac"), 0);
	/* Cut short: the end of the text is part of no character. */
	assert_int_equal(control_length("\xc2"), 0);
	assert_int_equal(control_length("\xe2"), 0);
	assert_int_equal(control_length("\xe2\x80"), 0);
	assert_int_equal(control_length("\xe2\x81"), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_a_terminal_would_obey_has_a_length),
	    cmocka_unit_test(what_is_seen_has_none),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
