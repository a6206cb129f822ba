#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/log.h"

static char text[8192];

/* What the statement writes to stderr stands in text afterwards. */
#define CAPTURE(statement) \
	do { \
		FILE * file = tmpfile(); \
		int saved = dup(STDERR_FILENO); \
		ssize_t len; \
\
		assert_non_null(file); \
		dup2(fileno(file), STDERR_FILENO); \
		statement; \
		dup2(saved, STDERR_FILENO); \
		close(saved); \
		len = pread(fileno(file), text, sizeof(text) - 1, 0); \
		assert_true(len >= 0); \
		text[len] = '\0'; \
		fclose(file); \
	} while (0)

static int
reset(void ** state)
{
	(void)state;
	log_configure(LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
	return (0);
}

static void
a_logfmt_line_quotes_what_needs_it(void ** state)
{
	(void)state;
	CAPTURE(log_info("broker_connected", LOG_STR("host", "mq1"), LOG_INT("port", 5672),
	    LOG_STR("vhost", "a b"), LOG_STR("empty", ""), LOG_STR("absent", NULL),
	    LOG_STR("odd", "x=\"1\"\n\\\x01\xc2\x9b\xe2\x80\xae\xc3\xa9")));
	assert_memory_equal(text, "time=20", 7);
	assert_string_equal(strstr(text, " level="),
	    " level=info event=broker_connected"
	    " host=mq1 port=5672 vhost=\"a b\" empty=\"\" absent=\"\""
	    " odd=\"x=\\\"1\\\"\\n\\\\\\u0001\\u009b\\u202e\xc3\xa9\"\n");
}

static void
a_json_line_is_valid_whatever_the_value(void ** state)
{
	json_t * line;

	(void)state;
	log_configure(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
	CAPTURE(log_warn("odd", LOG_INT("n", INT64_MIN),
	    LOG_STR("bad", "\xff\xc3(\xed\xa0\x80|caf\xc3\xa9|\x7f\t\""), LOG_STR("z", "end")));
	line = json_loads(text, 0, NULL);
	assert_non_null(line);
	assert_string_equal(json_string_value(json_object_get(line, "level")), "warn");
	assert_string_equal(json_string_value(json_object_get(line, "event")), "odd");
	assert_int_equal(json_integer_value(json_object_get(line, "n")), INT64_MIN);
	assert_string_equal(json_string_value(json_object_get(line, "z")), "end");
	assert_string_equal(json_string_value(json_object_get(line, "bad")),
	    "\xef\xbf\xbd\xef\xbf\xbd(\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd|caf\xc3\xa9|\x7f\t\"");
	json_decref(line);
}

static void
a_long_line_is_cut_and_stays_valid(void ** state)
{
	static char value[9000];

	(void)state;
	log_configure(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
	for (size_t shift = 0; shift < 12; shift++) {
		json_t * line;

		memset(value, 'a', shift);
		for (size_t i = shift; i + 7 < sizeof(value); i += 7)
			memcpy(value + i, "\xe2\x82\xac\"\x01\\b", 8);
		CAPTURE(log_info("long", LOG_STR("v", value), LOG_STR("w", value),
		    LOG_INT("n", 1)));
		assert_true(strlen(text) <= 4096);
		assert_true(strlen(text) > 4000);
		assert_int_equal(text[strlen(text) - 1], '\n');
		line = json_loads(text, 0, NULL);
		assert_non_null(line);
		json_decref(line);
	}
	log_configure(LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
	memset(value, 'a', sizeof(value) - 1);
	CAPTURE(log_info("long", LOG_STR("v", value)));
	assert_true(strlen(text) > 4000 && strlen(text) <= 4096);
	assert_string_equal(text + strlen(text) - 3, "a\"\n");
}

static void
levels_below_the_configured_one_are_silent(void ** state)
{
	(void)state;
	CAPTURE(log_debug("d"));
	assert_string_equal(text, "");
	log_configure(LOG_LEVEL_ERROR, LOG_FORMAT_LOGFMT);
	CAPTURE(log_warn("w"));
	assert_string_equal(text, "");
	CAPTURE(log_error("e"));
	assert_non_null(strstr(text, "level=error event=e\n"));
	log_configure(LOG_LEVEL_DEBUG, LOG_FORMAT_LOGFMT);
	CAPTURE(log_debug("d"));
	assert_non_null(strstr(text, "level=debug event=d\n"));
}

static void
a_failure_tells_codes_and_remedy(void ** state)
{
	struct error e;

	(void)state;
	error_set(&e, EXIT_UNREACHABLE, "refused");
	CAPTURE(log_failure(LOG_LEVEL_ERROR, "lost", &e));
	assert_non_null(strstr(text, "event=lost error=refused\n"));
	memcpy(e.sqlstate, "28P01", 6);
	e.amqp_code = 403;
	error_remedy(&e, "set the password");
	CAPTURE(log_failure(LOG_LEVEL_ERROR, "lost", &e));
	assert_non_null(strstr(text,
	    " sqlstate=28P01 amqp_code=403 remedy=\"set the password\"\n"));
}

static void
a_repeated_warning_is_due_every_30_s(void ** state)
{
	int64_t last = 0;

	(void)state;
	assert_true(log_due(&last, 1000));
	assert_false(log_due(&last, 1000 + INT64_C(29999999999)));
	assert_true(log_due(&last, 1000 + INT64_C(30000000000)));
	assert_false(log_due(&last, 1000 + INT64_C(30000000001)));
}

static void
a_lasting_failure_is_told_again_when_its_reason_changes(void ** state)
{
	struct log_repeat repeat = {0};
	struct error e;
	char remedy[32];
	int64_t now = 1000;
	int lines = 0;

	(void)state;
	for (int i = 0; i < 20; i++) {
		error_set(&e, EXIT_UNREACHABLE, "away");
		snprintf(remedy, sizeof(remedy), "do %d", i / 2);
		error_remedy(&e, "%s", remedy);
		CAPTURE(log_repeated(&repeat, now + i, "lost", &e));
		lines += strstr(text, remedy) != NULL;
		assert_int_equal(lines, i / 2 < LOG_REASONS_MAX ? i / 2 + 1 : LOG_REASONS_MAX);
	}
	CAPTURE(log_repeated(&repeat, now + INT64_C(30000000000), "lost", &e));
	assert_non_null(strstr(text, remedy));
	CAPTURE(log_repeated(&repeat, now + INT64_C(30000000001), "lost", &e));
	assert_string_equal(text, "");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(a_logfmt_line_quotes_what_needs_it, reset),
	    cmocka_unit_test_setup(a_json_line_is_valid_whatever_the_value, reset),
	    cmocka_unit_test_setup(a_long_line_is_cut_and_stays_valid, reset),
	    cmocka_unit_test_setup(levels_below_the_configured_one_are_silent, reset),
	    cmocka_unit_test_setup(a_failure_tells_codes_and_remedy, reset),
	    cmocka_unit_test_setup(a_repeated_warning_is_due_every_30_s, reset),
	    cmocka_unit_test_setup(a_lasting_failure_is_told_again_when_its_reason_changes, reset),
	};

	return (cmocka_run_group_tests_name("base/log", tests, NULL, NULL));
}
