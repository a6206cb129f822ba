#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "postgres/connection.h"

/*
 * Servers of this test's own, in directories a and b, that say what they are
 * told to and otherwise nothing.
 */
#define SERVERS 2

static struct server {
	char directory[64];
	char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	int listener;
	int accepted; /* -1: none */
} servers[SERVERS];

static char dsn[512];

static int
open_servers(void ** state)
{
	(void)state;
	for (int i = 0; i < SERVERS; i++) {
		struct sockaddr_un address = {.sun_family = AF_UNIX};
		struct server * s = &servers[i];

		strcpy(s->directory, "/tmp/outbox-test-XXXXXX");
		assert_non_null(mkdtemp(s->directory));
		snprintf(address.sun_path, sizeof(address.sun_path), "%s/.s.PGSQL.1", s->directory);
		strcpy(s->path, address.sun_path);
		s->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
		s->accepted = -1;
		assert_int_equal(bind(s->listener, (struct sockaddr *)&address, sizeof(address)),
		    0);
		assert_int_equal(listen(s->listener, 4), 0);
	}
	snprintf(dsn, sizeof(dsn), "host=%s,%s port=1 target_session_attrs=any",
	    servers[0].directory, servers[1].directory);
	return (0);
}

static int
close_servers(void ** state)
{
	(void)state;
	for (int i = 0; i < SERVERS; i++) {
		close(servers[i].accepted);
		close(servers[i].listener);
		unlink(servers[i].path);
		rmdir(servers[i].directory);
	}
	return (0);
}

static void
say(struct server * s, const char * words, size_t size)
{
	assert_int_equal(write(s->accepted, words, size), size);
}

static void
hang_up(struct server * s)
{
	close(s->accepted);
	s->accepted = -1;
}

/* The login, and that it is ready for a query. */
static void
say_ready(struct server * s)
{
	static const char words[] = "R\0\0\0\010\0\0\0\0"
				    "S\0\0\0\030server_version\00015.0\0"
				    "Z\0\0\0\005I";

	say(s, words, sizeof(words) - 1);
}

static struct seen {
	int connected;
	int failed;
	struct error e;
} seen;

static void
on_connected(void * context)
{
	(void)context;
	seen.connected++;
}

static void
on_failed(void * context, const struct error * e)
{
	(void)context;
	seen.failed++;
	seen.e = *e;
}

static const struct connection_events events = {.connected = on_connected, .failed = on_failed};

static struct connection *
open_connection(clock_ns now)
{
	const struct connection_options options = {.dsn = dsn,
	    .application_name = "test",
	    .connect_timeout = CLOCK_S(10)};
	struct connection * connection = connection_new(&options, &events, NULL);

	assert_non_null(connection);
	memset(&seen, 0, sizeof(seen));
	connection_connect(connection, now);
	connection_turn(connection, now, true);
	return (connection);
}

/* Whether the connection has come to this server. */
static int
comes_to(struct server * s)
{
	close(s->accepted);
	s->accepted = accept(s->listener, NULL, NULL);
	return (s->accepted >= 0);
}

static void
each_attempt_begins_at_the_next_host(void ** state)
{
	clock_ns now = CLOCK_S(1);
	struct connection * connection = open_connection(now);

	(void)state;
	for (int attempt = 0; attempt < 4; attempt++) {
		assert_true(comes_to(&servers[attempt % 2]));
		assert_false(comes_to(&servers[1 - attempt % 2]));
		connection_turn(connection, now + CLOCK_S(10) - 1, true);
		assert_int_equal(seen.failed, attempt);
		assert_int_equal(connection_deadline(connection), now + CLOCK_S(10));
		connection_turn(connection, now + CLOCK_S(10), true);
		assert_int_equal(seen.failed, attempt + 1);
		assert_int_equal(seen.e.code, EXIT_UNREACHABLE);
		assert_non_null(strstr(seen.e.text, servers[attempt % 2].directory));
		now += CLOCK_S(11);
		connection_connect(connection, now);
		connection_turn(connection, now, true);
	}
	connection_free(connection);
}

static void
each_host_has_its_own_time(void ** state)
{
	static const char starting[] = "E\0\0\0\040SFATAL\0C57P03\0Mstarting up\0";
	clock_ns now = CLOCK_S(1);
	struct connection * connection = open_connection(now);

	(void)state;
	assert_true(comes_to(&servers[0]));
	say(&servers[0], starting, sizeof(starting));
	now += CLOCK_S(9);
	connection_turn(connection, now, true);
	assert_int_equal(seen.failed, 0);
	assert_true(comes_to(&servers[1]));
	assert_int_equal(connection_deadline(connection), now + CLOCK_S(10));
	connection_free(connection);
}

static void
a_server_that_owes_an_answer_for_too_long_is_given_up(void ** state)
{
	clock_ns now = CLOCK_S(1);
	clock_ns asked;
	struct connection * connection = open_connection(now);

	(void)state;
	assert_true(comes_to(&servers[0]));
	say_ready(&servers[0]);
	connection_turn(connection, asked = now + CLOCK_S(1), true);
	assert_true(connection_is_open(connection));
	assert_int_equal(connection_pending(connection), 1);
	assert_true(connection_deadline(connection) > asked + CLOCK_S(60));
	now = connection_deadline(connection);
	connection_turn(connection, now - 1, false);
	assert_int_equal(seen.failed, 0);
	connection_turn(connection, now, false);
	assert_int_equal(seen.failed, 1);
	assert_int_equal(seen.e.code, EXIT_UNREACHABLE);
	assert_non_null(strstr(seen.e.text, "answers no more"));
	connection_connect(connection, now);
	connection_turn(connection, now, true);
	assert_true(comes_to(&servers[1]));
	connection_free(connection);
}

static void
one_that_hangs_up_is_not_tried_first_again(void ** state)
{
	clock_ns now = CLOCK_S(1);
	struct connection * connection = open_connection(now);

	(void)state;
	assert_true(comes_to(&servers[0]));
	hang_up(&servers[0]);
	connection_turn(connection, now, true);
	connection_turn(connection, now, true);
	assert_int_equal(seen.failed, 1);
	connection_connect(connection, now);
	connection_turn(connection, now, true);
	assert_true(comes_to(&servers[1]));
	connection_free(connection);
}

/* With their last zero. */
static const char last_words[] = "E\0\0\0\062SFATAL\0VFATAL\0C57P01\0Mterminated by a person\0";

/* Whether it says so unasked or in place of an answer. */
static void
the_last_words_of_a_server_are_the_reason(void ** state)
{
	static const char answer[] = "1\0\0\0\0042\0\0\0\004T\0\0\0\006\0\0C\0\0\0\015SELECT 1\0"
				     "Z\0\0\0\005I";

	(void)state;
	for (int asked = 0; asked < 2; asked++) {
		clock_ns now = CLOCK_S(1);
		struct connection * connection = open_connection(now);

		assert_true(comes_to(&servers[0]));
		say_ready(&servers[0]);
		connection_turn(connection, now, true);
		if (!asked) {
			say(&servers[0], answer, sizeof(answer) - 1);
			connection_turn(connection, now, true);
			assert_int_equal(seen.connected, 1);
			assert_int_equal(connection_pending(connection), 0);
		}
		say(&servers[0], last_words, sizeof(last_words));
		hang_up(&servers[0]);
		for (int i = 0; i < 3 && seen.failed == 0; i++)
			connection_turn(connection, now, true);
		assert_int_equal(seen.failed, 1);
		assert_int_equal(seen.e.code, EXIT_UNREACHABLE);
		assert_string_equal(seen.e.text, "Postgres: terminated by a person");
		connection_free(connection);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(each_attempt_begins_at_the_next_host, open_servers,
		close_servers),
	    cmocka_unit_test_setup_teardown(each_host_has_its_own_time, open_servers,
		close_servers),
	    cmocka_unit_test_setup_teardown(one_that_hangs_up_is_not_tried_first_again,
		open_servers, close_servers),
	    cmocka_unit_test_setup_teardown(a_server_that_owes_an_answer_for_too_long_is_given_up,
		open_servers, close_servers),
	    cmocka_unit_test_setup_teardown(the_last_words_of_a_server_are_the_reason, open_servers,
		close_servers),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
