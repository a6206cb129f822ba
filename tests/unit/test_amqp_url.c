#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "amqp/url.h"

struct good {
	const char * text;
	const char *user, *password, *host, *vhost;
	int port;
	int tls;
};

/* The first twelve are the examples of RabbitMQ's URI specification. */
static const struct good goods[] = {
    {"amqp://user:pass@host:10000/vhost", "user", "pass", "host", "vhost", 10000, 0},
    {"amqp://user%61:%61pass@ho%61st:10000/v%2fhost", "usera", "apass", "hoast", "v/host", 10000,
	0},
    {"amqp://", "guest", NULL, "localhost", "/", 5672, 0},
    {"amqp://:@/", "", "", "localhost", "", 5672, 0},
    {"amqp://user@", "user", NULL, "localhost", "/", 5672, 0},
    {"amqp://user:pass@", "user", "pass", "localhost", "/", 5672, 0},
    {"amqp://host", "guest", NULL, "host", "/", 5672, 0},
    {"amqp://:10000", "guest", NULL, "localhost", "/", 10000, 0},
    {"amqp:///vhost", "guest", NULL, "localhost", "vhost", 5672, 0},
    {"amqp://host/", "guest", NULL, "host", "", 5672, 0},
    {"amqp://host/%2f", "guest", NULL, "host", "/", 5672, 0},
    {"amqp://[::1]", "guest", NULL, "::1", "/", 5672, 0},
    {"amqps://h", "guest", NULL, "h", "/", 5671, 1},
    {"AMQPS://[fe80::1]:5/v", "guest", NULL, "fe80::1", "v", 5, 1},
    {"amqp://u:p%40%3a%2f%3f@h/%c3%a9%FF", "u", "p@:/?", "h", "\xc3\xa9\xff", 5672, 0},
    {"amqp://u:a@b@h", "u", "a@b", "h", "/", 5672, 0},
};

static void
test_reads_what_the_specification_says(void ** state)
{
	struct error e;
	struct url url;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(goods) / sizeof(goods[0]); i++) {
		const struct good * g = &goods[i];

		if (url_parse(&url, g->text, &e))
			fail_msg("%s: %s", g->text, e.text);
		assert_string_equal(url.user, g->user);
		assert_int_equal(url.has_password, g->password != NULL);
		if (g->password != NULL)
			assert_string_equal(url.password, g->password);
		assert_string_equal(url.host, g->host);
		assert_string_equal(url.vhost, g->vhost);
		assert_int_equal(url.port, g->port);
		assert_int_equal(url.tls, g->tls);
		assert_int_equal(url.heartbeat_s, -1);
		assert_int_equal(url.connection_timeout_ms, -1);
	}
}

static void
test_reads_query_parameters(void ** state)
{
	struct error e;
	struct url url;

	(void)state;
	assert_int_equal(url_parse(&url, "amqp://h?heartbeat=0&connection_timeout=1500", &e), 0);
	assert_int_equal(url.heartbeat_s, 0);
	assert_int_equal(url.connection_timeout_ms, 1500);
	assert_string_equal(url.vhost, "/");
	assert_int_equal(url_parse(&url, "amqp://h/v?heartbeat=7", &e), 0);
	assert_int_equal(url.heartbeat_s, 7);
	assert_string_equal(url.vhost, "v");
}

static const struct {
	const char * text;
	const char * says;
} bads[] = {
    {"", "must begin with amqp://"},
    {"http://h", "must begin with amqp://"},
    {"amqp://h:0", "port"},
    {"amqp://h:65536", "port"},
    {"amqp://h:", "port"},
    {"amqp://h:12x", "port"},
    {"amqp://u:sec/ret@h", "port"},
    {"amqp://u:12/secret@h", "'@'"},
    {"amqp://[::1", "bracket"},
    {"amqp://[]", "empty brackets"},
    {"amqp://[::1]x", "port"},
    {"amqp://h/a/b", "vhost contains a '/'"},
    {"amqp://h/%2", "a % in the vhost"},
    {"amqp://h/%zz", "a % in the vhost"},
    {"amqp://h/%00", "%00"},
    {"amqp://u:secret%@h", "a % in the password"},
    {"amqp://u v@h", "space"},
    {"amqp://h#x", "'#'"},
    {"amqp://h?heartbeat=x", "heartbeat"},
    {"amqp://h?heartbeat=65536", "heartbeat"},
    {"amqp://h?connection_timeout=0", "connection_timeout"},
    {"amqp://h?cacertfile=/secret", "cacertfile"},
    {"amqp://h?verify=verify_none", "verify"},
    {"amqp://h?secret=1", "unknown query parameter"},
};

static void
test_refuses_by_name_and_tells_no_secret(void ** state)
{
	struct error e;
	struct url url;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bads) / sizeof(bads[0]); i++) {
		if (url_parse(&url, bads[i].text, &e) != -1)
			fail_msg("accepted: %s", bads[i].text);
		assert_int_equal(e.code, EXIT_CONFIGURATION);
		if (strstr(e.text, bads[i].says) == NULL)
			fail_msg("%s: %s", bads[i].text, e.text);
		assert_null(strstr(e.text, "secret"));
		assert_null(strstr(e.remedy, "secret"));
	}
}

static void
test_bounds_each_part(void ** state)
{
	char text[URL_TEXT_MAX + 100] = "amqp://h/";
	struct error e;
	struct url url;

	(void)state;
	memset(text + 9, 'v', 255);
	text[9 + 255] = '\0';
	assert_int_equal(url_parse(&url, text, &e), 0);
	assert_int_equal(strlen(url.vhost), 255);
	text[9 + 255] = 'v';
	text[9 + 256] = '\0';
	assert_int_equal(url_parse(&url, text, &e), -1);
	assert_non_null(strstr(e.text, "255"));
	memset(text + 9, 'v', URL_TEXT_MAX);
	text[9 + URL_TEXT_MAX] = '\0';
	assert_int_equal(url_parse(&url, text, &e), -1);
	assert_non_null(strstr(e.text, "longer than"));
}

static void
test_describes_without_the_password(void ** state)
{
	char text[URL_DESCRIPTION_MAX];
	char worst[URL_TEXT_MAX];
	struct error e;
	struct url url, again;

	(void)state;
	assert_int_equal(url_parse(&url, "amqps://us%40er:secret@[::1]:7/a%2fb%ff", &e), 0);
	url_describe(&url, text);
	assert_string_equal(text, "amqps://us%40er@[::1]:7/a%2fb%ff");
	assert_int_equal(url_parse(&again, text, &e), 0);
	assert_string_equal(again.vhost, url.vhost);

	/* The longest description fits. */
	memset(&url, 0, sizeof(url));
	memset(worst, '%', sizeof(worst));
	memcpy(url.user, worst, URL_PART_MAX);
	memcpy(url.host, worst, URL_PART_MAX);
	url.host[0] = ':';
	memcpy(url.vhost, worst, URL_PART_MAX);
	url.tls = true;
	url.port = 65535;
	url_describe(&url, text);
	assert_in_range(strlen(text), 9 * URL_PART_MAX, URL_DESCRIPTION_MAX - 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_reads_what_the_specification_says),
	    cmocka_unit_test(test_reads_query_parameters),
	    cmocka_unit_test(test_refuses_by_name_and_tells_no_secret),
	    cmocka_unit_test(test_bounds_each_part),
	    cmocka_unit_test(test_describes_without_the_password),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
