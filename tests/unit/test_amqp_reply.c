#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "amqp/reply.h"

static struct reply
later(uint16_t code, const char * text)
{
	return ((struct reply){.code = code,
	    .text = bytes_from(text),
	    .phase = REPLY_LATER,
	    .user = "relay",
	    .vhost = "/"});
}

static void
assert_names(uint16_t code, const char * text, const char * expected)
{
	struct reply reply = later(code, text);
	struct bytes exchange = reply_exchange(&reply);

	if (expected == NULL) {
		if (bytes_present(exchange))
			fail_msg("%s: named %.*s", text, (int)exchange.len, exchange.data);
		return;
	}
	if (!bytes_present(exchange) || !bytes_equal(exchange, bytes_from(expected)))
		fail_msg("%s: not %s", text, expected);
}

static void
test_the_exchange_of_a_404_is_named(void ** state)
{
	(void)state;
	assert_names(404, "NOT_FOUND - no exchange 'orders' in vhost '/'", "orders");
	assert_names(404, "NOT_FOUND - no exchange 'it's' in vhost '/'", "it's");
	assert_names(404, "NOT_FOUND - no exchange '' in vhost '/' in vhost '/'", "' in vhost '/");
	assert_names(404, "NOT_FOUND - no exchange 'a\nb' in vhost '/'", "a\nb");
	assert_names(404, "NOT_FOUND - no exchange '\xc3\xa9' in vhost '/'", "\xc3\xa9");
	assert_names(404, "NOT_FOUND - no exchange '' in vhost '/'", "");
}

static void
test_the_exchange_of_a_403_is_named(void ** state)
{
	(void)state;
	assert_names(403,
	    "ACCESS_REFUSED - access to exchange 'x' in vhost '/' refused for user 'u'", "x");
	assert_names(403,
	    "ACCESS_REFUSED - write access to exchange 'x' in vhost '/' refused for user 'u'", "x");
	assert_names(403,
	    "ACCESS_REFUSED - access to exchange 'x' in vhost '/' refused for user 'o'connor'",
	    "x");
	assert_names(403,
	    "ACCESS_REFUSED - access to exchange 'a' in vhost '/' refused for user 'u' in vhost '/' "
	    "refused for user 'u'",
	    "a' in vhost '/' refused for user 'u");
	assert_names(403, "ACCESS_REFUSED - cannot publish to internal exchange 'x' in vhost '/'",
	    "x");
}

static void
test_what_names_no_exchange_surely_names_none(void ** state)
{
	(void)state;
	assert_names(403,
	    "ACCESS_REFUSED - access to topic 'k' in exchange 'x' in vhost '/' refused for user 'u'",
	    NULL);
	assert_names(403,
	    "ACCESS_REFUSED - write access to topic 'access to exchange 'x' in vhost '/' refused for "
	    "user 'u' in exchange 'x' in vhost '/' refused for user 'u'",
	    NULL);
	assert_names(403, "ACCESS_REFUSED - access to queue 'x' in vhost '/' refused for user 'u'",
	    NULL);
	assert_names(404, "NOT_FOUND - no queue 'x' in vhost '/'", NULL);
	assert_names(404, "NOT_FOUND - no exchange 'x' in vhost 'other'", NULL);
	assert_names(404, "NOT_FOUND - no exchange 'long' in vhost...", NULL);
	assert_names(404, "NOT_FOUND - no exchange 'long in vhost '/'...", NULL);
	assert_names(406, "NOT_FOUND - no exchange 'x' in vhost '/'", NULL);
	assert_names(404, "NOT_FOUND - no exchange '", NULL);
	assert_names(403, "ACCESS_REFUSED", NULL);
	assert_names(404, "", NULL);
}

/* Each prefix of a text is what a broker that cuts elsewhere could send. */
static void
test_a_cut_text_names_nothing(void ** state)
{
	static const char * const texts[] = {"NOT_FOUND - no exchange 'x' in vhost '/'",
	    "ACCESS_REFUSED - write access to exchange 'x' in vhost '/' refused for user 'u'"};
	size_t i, len;

	(void)state;
	for (i = 0; i < 2; i++) {
		struct reply reply = later(i == 0 ? 404 : 403, texts[i]);

		for (len = 0; len < strlen(texts[i]); len++) {
			reply.text.len = len;
			assert_false(bytes_present(reply_exchange(&reply)));
		}
		reply.text.len = len;
		assert_true(bytes_present(reply_exchange(&reply)));
	}
}

static void
test_codes_that_blame_what_was_published(void ** state)
{
	static const uint16_t blamed[] = {501, 502, 503, 504, 505, 506, 540, 541};
	static const uint16_t others[] = {200, 320, 402, 403, 404, 406, 500, 507, 530, 542};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(blamed) / sizeof(blamed[0]); i++)
		assert_true(reply_blames_message(blamed[i]));
	for (i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		assert_false(reply_blames_message(others[i]));
}

static void
assert_explained(struct reply reply, enum exit_code code, const char * remedy)
{
	struct error e;

	reply_explain(&reply, &e);
	assert_int_equal(e.code, code);
	assert_int_equal(e.amqp_code, reply.code);
	assert_non_null(strstr(e.text, reply.text.data));
	if (strstr(e.remedy, remedy) == NULL)
		fail_msg("\"%s\" lacks \"%s\"", e.remedy, remedy);
}

static void
test_refusals_come_with_a_remedy(void ** state)
{
	struct reply reply;

	(void)state;
	reply = later(403,
	    "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN.");
	reply.phase = REPLY_LOGIN;
	assert_explained(reply, EXIT_PERMISSION, "password_file");
	reply.external = true;
	assert_explained(reply, EXIT_PERMISSION, "certificate");
	reply = later(530, "NOT_ALLOWED - vhost shop not found");
	reply.phase = REPLY_VHOST;
	reply.vhost = "shop";
	assert_explained(reply, EXIT_CONFIGURATION, "add_vhost \"shop\"");
	/* With EXTERNAL the url does not know who we are; the broker does. */
	reply.text =
	    bytes_from("NOT_ALLOWED - access to vhost 'shop' refused for user 'CN=client'");
	assert_explained(reply, EXIT_PERMISSION, "-p \"shop\" \"CN=client\"");
	/* Whoever holds the connections may leave at any time: no matter of permission. */
	reply.text = bytes_from(
	    "NOT_ALLOWED - access to vhost 'shop' refused for user 'u': connection "
	    "limit (9) is reached");
	assert_explained(reply, EXIT_UNREACHABLE, "set_vhost_limits");
	reply.text = bytes_from(
	    "NOT_ALLOWED - connection refused for user 'u': user connection limit "
	    "(9) is reached");
	assert_explained(reply, EXIT_UNREACHABLE, "set_user_limits");
	reply.code = 541;
	reply.text = bytes_from(
	    "INTERNAL_ERROR - access to vhost 'shop' refused for user 'u': vhost "
	    "'shop' is down");
	assert_explained(reply, EXIT_UNREACHABLE, "restart_vhost -p \"shop\"");
	assert_explained(
	    later(403, "ACCESS_REFUSED - access to exchange 'x' in vhost '/' refused for user 'u'"),
	    EXIT_PERMISSION, "set_permissions -p \"/\" \"u\"");
	assert_explained(
	    later(403,
		"ACCESS_REFUSED - access to topic 'k' in exchange 'x' in vhost '/' refused for user 'u'"),
	    EXIT_PERMISSION, "set_topic_permissions -p \"/\" \"u\"");
	assert_explained(
	    later(403, "ACCESS_REFUSED - cannot publish to internal exchange 'x' in vhost '/'"),
	    EXIT_PERMISSION, "internal");
	assert_explained(later(404, "NOT_FOUND - no exchange 'x' in vhost '/'"), EXIT_CONFIGURATION,
	    "declare the exchange");
	assert_explained(
	    later(406,
		"PRECONDITION_FAILED - message size 200 is larger than configured max size 100"),
	    EXIT_CONFIGURATION, "max_message_size");
	assert_explained(later(541, "INTERNAL_ERROR"), EXIT_UNREACHABLE, "broker's log");
}

static void
test_a_return_names_exchange_and_routing_key(void ** state)
{
	struct message m = {.exchange = bytes_from("orders"), .routing_key = bytes_from("a.b")};
	struct error e;

	(void)state;
	reply_returned(&m, 312, &e);
	assert_string_equal(e.text,
	    "no queue is bound for routing key 'a.b' at exchange 'orders' (312 NO_ROUTE)");
	assert_non_null(strstr(e.remedy, "bind a queue"));
	assert_int_equal(e.amqp_code, 312);
	m.exchange = BYTES_NONE;
	reply_returned(&m, 312, &e);
	assert_string_equal(e.text, "there is no queue 'a.b' (default exchange, 312 NO_ROUTE)");
	reply_returned(&m, 313, &e);
	assert_string_equal(e.text,
	    "the broker returned the message for routing key 'a.b' at the default exchange (313)");
}

static void
test_a_nack_names_exchange_and_routing_key(void ** state)
{
	struct message m = {.exchange = bytes_from("orders"), .routing_key = bytes_from("")};
	struct error e;

	(void)state;
	reply_nacked(&m, &e);
	assert_string_equal(e.text,
	    "a queue refused the message for routing key '' at exchange 'orders' (basic.nack)");
	assert_non_null(strstr(e.remedy, "reject-publish"));
}

/* 255 bytes each, and not all of them printable. */
static void
test_long_and_odd_names_fit(void ** state)
{
	char name[256];
	struct message m = {.exchange = {name, 255}, .routing_key = {name, 255}};
	struct error e;

	(void)state;
	memset(name, '\n', 255);
	reply_returned(&m, 312, &e);
	assert_non_null(strstr(e.text, "' (312 NO_ROUTE)"));
	assert_null(strchr(e.text, '\n'));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_the_exchange_of_a_404_is_named),
	    cmocka_unit_test(test_the_exchange_of_a_403_is_named),
	    cmocka_unit_test(test_what_names_no_exchange_surely_names_none),
	    cmocka_unit_test(test_a_cut_text_names_nothing),
	    cmocka_unit_test(test_codes_that_blame_what_was_published),
	    cmocka_unit_test(test_refusals_come_with_a_remedy),
	    cmocka_unit_test(test_a_return_names_exchange_and_routing_key),
	    cmocka_unit_test(test_a_nack_names_exchange_and_routing_key),
	    cmocka_unit_test(test_long_and_odd_names_fit),
	};

	return (cmocka_run_group_tests_name("amqp/reply", tests, NULL, NULL));
}
