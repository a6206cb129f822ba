#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "config/value.h"

static void
durations_read_with_their_units(void ** state)
{
	static const struct {
		const char * text;
		clock_ns value;
	} good[] = {
	    {"0", 0},
	    {"0s", 0},
	    {"500ms", CLOCK_MS(500)},
	    {"10s", CLOCK_S(10)},
	    {"1m", CLOCK_S(60)},
	    {"1h30m", CLOCK_S(5400)},
	    {"1d", CLOCK_S(86400)},
	};
	static const char * const bad[] = {"", "10", "s", "10x", "-1s", "1.5s", "10 s", "10s ",
	    "10sm", "1h30", "99999999999999999999s", "9223372037s", "9000000000s9000000000s", "1S"};
	clock_ns value;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_null(value_duration(good[i].text, &value));
		assert_int_equal(value, good[i].value);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const char * why = value_duration(bad[i], &value);

		if (why == NULL)
			fail_msg("\"%s\" was taken as a duration", bad[i]);
	}
}

static void
sizes_read_in_powers_of_1024(void ** state)
{
	static const char * const bad[] = {"", "64MB", "64 MiB", "-1", "MiB", "1.5MiB",
	    "9223372036854775807KiB", "18446744073709551616", "64mib"};
	int64_t value;

	(void)state;
	assert_null(value_size("65536", &value));
	assert_int_equal(value, 65536);
	assert_null(value_size("7B", &value));
	assert_int_equal(value, 7);
	assert_null(value_size("64MiB", &value));
	assert_int_equal(value, 64 << 20);
	assert_null(value_size("2TiB", &value));
	assert_int_equal(value, INT64_C(2) << 40);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (value_size(bad[i], &value) == NULL)
			fail_msg("\"%s\" was taken as a size", bad[i]);
	}
}

static void
numbers_are_used_up_whole(void ** state)
{
	static const char * const not_integers[] = {"", "-", "1e3", "1.0", "0x10", "1 ", " 1",
	    "10_000", "9223372036854775808"};
	static const char * const not_numbers[] = {"", ".", "1e3", "inf", "nan", "-1", "1.2.3",
	    "0x1", " 1"};
	int64_t integer;
	double number;
	bool flag;

	(void)state;
	assert_null(value_integer("-12", &integer));
	assert_int_equal(integer, -12);
	assert_null(value_integer("9223372036854775807", &integer));
	for (size_t i = 0; i < sizeof(not_integers) / sizeof(not_integers[0]); i++)
		assert_non_null(value_integer(not_integers[i], &integer));
	assert_null(value_number("1.5", &number));
	assert_true(number > 1.49 && number < 1.51);
	for (size_t i = 0; i < sizeof(not_numbers) / sizeof(not_numbers[0]); i++)
		assert_non_null(value_number(not_numbers[i], &number));
	assert_null(value_bool("Yes", &flag));
	assert_true(flag);
	assert_null(value_bool("off", &flag));
	assert_false(flag);
	assert_non_null(value_bool("1", &flag));
	assert_non_null(value_bool("", &flag));
}

static void
what_is_printed_reads_back(void ** state)
{
	static const int64_t values[] = {0, 1000000, CLOCK_MS(1500), CLOCK_S(90), CLOCK_S(60),
	    CLOCK_S(3600), CLOCK_S(86400), CLOCK_S(100000)};
	static const int64_t sizes[] = {0, 1, 1000, 1024, 65536, 64 << 20, INT64_C(3) << 30};
	char text[64];
	int64_t back;

	(void)state;
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		value_print_duration(text, sizeof(text), values[i]);
		assert_null(value_duration(text, &back));
		assert_int_equal(back, values[i]);
	}
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		value_print_size(text, sizeof(text), sizes[i]);
		assert_null(value_size(text, &back));
		assert_int_equal(back, sizes[i]);
	}
	value_print_duration(text, sizeof(text), CLOCK_S(300));
	assert_string_equal(text, "5m");
	value_print_size(text, sizeof(text), 64 << 20);
	assert_string_equal(text, "64MiB");
}

static void
passwords_are_noticed_where_they_can_stand(void ** state)
{
	static const char * const with[] = {"amqp://u:p@h", "postgresql://u:p@h/d",
	    "host=h password=p", "host=h password = 'p q'", "postgresql://h/d?password=p",
	    "sslpassword=p", "amqp://${USER}:p@h", "amqp://u:x${PW}@h"};
	static const char * const without[] = {"", "amqp://u@h:5672", "amqp://h:5672/%2f",
	    "amqp://u:${PW}@h", "amqp://${USER}:${PW}@h", "host=h password=${PW} user=u",
	    "host=h password='${PW}'", "password", "postgresql://h/d?password=${PW}&x=y"};

	(void)state;
	for (size_t i = 0; i < sizeof(with) / sizeof(with[0]); i++) {
		if (!value_holds_password(with[i]))
			fail_msg("the password in %s was not noticed", with[i]);
	}
	for (size_t i = 0; i < sizeof(without) / sizeof(without[0]); i++) {
		if (value_holds_password(without[i]))
			fail_msg("%s holds no password", without[i]);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(durations_read_with_their_units),
	    cmocka_unit_test(sizes_read_in_powers_of_1024),
	    cmocka_unit_test(numbers_are_used_up_whole),
	    cmocka_unit_test(what_is_printed_reads_back),
	    cmocka_unit_test(passwords_are_noticed_where_they_can_stand),
	};

	return (cmocka_run_group_tests_name("config/value", tests, NULL, NULL));
}
