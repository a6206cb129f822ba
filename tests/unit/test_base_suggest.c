#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/suggest.h"

static const char *
nearest(const char * word)
{
	static const char * const known[] = {"window", "batch", "mandatory", "on_dead", "publish",
	    "max", "max_attempts", NULL};
	struct suggestion s = {.word = word};

	for (size_t i = 0; known[i] != NULL; i++)
		suggestion_offer(&s, known[i]);
	return (s.best == NULL ? "nothing" : s.best);
}

static void
one_slip_in_three_letters_is_near(void ** state)
{
	(void)state;
	assert_string_equal(nearest("windwo"), "window");
	assert_string_equal(nearest("widow"), "window");
	assert_string_equal(nearest("WINDOWS"), "window");
	assert_string_equal(nearest("bacth"), "batch");
	assert_string_equal(nearest("on-dead"), "on_dead");
	assert_string_equal(nearest("maximum_attempts"), "max_attempts");
	assert_string_equal(nearest("max"), "max");
}

static void
a_strange_word_is_near_to_nothing(void ** state)
{
	char longest[200];

	(void)state;
	assert_string_equal(nearest("heartbeat"), "nothing");
	assert_string_equal(nearest("x"), "nothing");
	assert_string_equal(nearest(""), "nothing");
	memset(longest, 'w', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	assert_string_equal(nearest(longest), "nothing");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(one_slip_in_three_letters_is_near),
	    cmocka_unit_test(a_strange_word_is_near_to_nothing),
	};

	return (cmocka_run_group_tests_name("base/suggest", tests, NULL, NULL));
}
