#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "amqp/attempts.h"

static void
test_all_urls_are_tried_before_a_pause(void ** state)
{
	struct attempts a;
	size_t expected = 0;
	int pass, i;

	(void)state;
	attempts_init(&a, 3, 1);
	for (pass = 0; pass < 10; pass++) {
		for (i = 0; i < 3; i++) {
			clock_ns pause;

			assert_int_equal(a.url, expected);
			expected = (expected + 1) % 3;
			pause = attempts_down(&a, 0, ATTEMPTS_NEVER_UP);
			if (i < 2)
				assert_int_equal(pause, 0);
			else
				assert_in_range(pause, CLOCK_MS(50), CLOCK_S(10));
		}
	}
}

static void
test_pauses_grow_up_to_ten_seconds(void ** state)
{
	struct attempts a;
	clock_ns pause = 0;
	int i;

	(void)state;
	attempts_init(&a, 1, 1);
	assert_in_range(attempts_down(&a, 0, ATTEMPTS_NEVER_UP), CLOCK_MS(50), CLOCK_MS(100));
	for (i = 0; i < 20; i++)
		pause = attempts_down(&a, 0, ATTEMPTS_NEVER_UP);
	assert_in_range(pause, CLOCK_S(5), CLOCK_S(10));
}

static void
test_what_was_lost_is_tried_last(void ** state)
{
	struct attempts a;

	(void)state;
	attempts_init(&a, 3, 1);
	attempts_up(&a, 0);
	assert_in_range(attempts_down(&a, CLOCK_S(60), ATTEMPTS_LOST), CLOCK_MS(50), CLOCK_MS(100));
	assert_int_equal(a.url, 1);
	assert_int_equal(attempts_down(&a, CLOCK_S(60), ATTEMPTS_NEVER_UP), 0);
	assert_int_equal(a.url, 2);
	assert_int_equal(attempts_down(&a, CLOCK_S(60), ATTEMPTS_NEVER_UP), 0);
	assert_int_equal(a.url, 0);
}

/* A broker that lets us in and throws us out must not make us spin. */
static void
test_connections_that_do_not_last_wait_longer(void ** state)
{
	struct attempts a;
	clock_ns pause = 0;
	int i;

	(void)state;
	attempts_init(&a, 1, 1);
	for (i = 0; i < 20; i++) {
		attempts_up(&a, CLOCK_S(i));
		pause = attempts_down(&a, CLOCK_S(i + 1), ATTEMPTS_LOST);
	}
	assert_in_range(pause, CLOCK_S(5), CLOCK_S(10));
	attempts_up(&a, CLOCK_S(100));
	assert_in_range(attempts_down(&a, CLOCK_S(106), ATTEMPTS_LOST), CLOCK_MS(50),
	    CLOCK_MS(100));
}

static void
test_a_channel_is_opened_at_once_and_then_ever_later(void ** state)
{
	struct attempts a;
	clock_ns pause, total = 0;
	int i;

	(void)state;
	attempts_init(&a, 2, 1);
	attempts_up(&a, CLOCK_S(1));
	assert_int_equal(attempts_channel_closed(&a, CLOCK_S(10)), 0);
	/* Eight in a row, which find a culprit among 128, take no tenth. */
	for (i = 0; i < 7; i++) {
		attempts_up(&a, CLOCK_S(10));
		total += attempts_channel_closed(&a, CLOCK_S(10));
	}
	assert_in_range(total, CLOCK_MS(1), CLOCK_MS(100));
	for (i = 0; i < 20; i++)
		pause = attempts_channel_closed(&a, CLOCK_S(10));
	assert_in_range(pause, CLOCK_MS(10), CLOCK_MS(20));
	attempts_up(&a, CLOCK_S(20));
	assert_int_equal(attempts_channel_closed(&a, CLOCK_S(25)), 0);
	/* A connection that was closed over a message is as quick. */
	attempts_up(&a, CLOCK_S(30));
	assert_int_equal(attempts_down(&a, CLOCK_S(36), ATTEMPTS_BLAMED), 0);
}

static void
test_a_restart_begins_a_whole_pass(void ** state)
{
	struct attempts a;

	(void)state;
	attempts_init(&a, 2, 1);
	assert_int_equal(attempts_down(&a, 0, ATTEMPTS_NEVER_UP), 0);
	attempts_restart(&a, false);
	assert_int_equal(a.url, 1);
	assert_int_equal(attempts_down(&a, 0, ATTEMPTS_NEVER_UP), 0);
	attempts_restart(&a, true);
	assert_int_equal(a.url, 1);
}

static void
test_nacks_replace_the_channel_less_and_less_often(void ** state)
{
	struct attempts a;
	clock_ns now, last = 0;
	int renewed = 0;

	(void)state;
	attempts_init(&a, 1, 1);
	for (now = CLOCK_S(100); now < CLOCK_S(1000); now += CLOCK_MS(10)) {
		if (!attempts_nacked(&a, now))
			continue;
		if (renewed == 0)
			assert_int_equal(now, CLOCK_S(100));
		else
			assert_in_range(now - last, CLOCK_MS(500), CLOCK_S(30) + CLOCK_MS(10));
		last = now;
		renewed++;
	}
	assert_in_range(renewed, 30, 70);
	assert_true(attempts_nacked(&a, CLOCK_S(1100)));
	assert_true(attempts_nacked(&a, CLOCK_S(1101)));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_all_urls_are_tried_before_a_pause),
	    cmocka_unit_test(test_pauses_grow_up_to_ten_seconds),
	    cmocka_unit_test(test_what_was_lost_is_tried_last),
	    cmocka_unit_test(test_connections_that_do_not_last_wait_longer),
	    cmocka_unit_test(test_a_channel_is_opened_at_once_and_then_ever_later),
	    cmocka_unit_test(test_a_restart_begins_a_whole_pass),
	    cmocka_unit_test(test_nacks_replace_the_channel_less_and_less_often),
	};

	return (cmocka_run_group_tests_name("amqp/attempts", tests, NULL, NULL));
}
