#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "http/address.h"
#include "http/answer.h"
#include "http/server.h"

/* The server with its thread, asked over real sockets; "make tsan" watches. */

static in_port_t port; /* network order */
static char where[32];

/* A port that was free a moment ago. */
static int
choose_port(void ** state)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	(void)state;
	if (bind(fd, (struct sockaddr *)&address, size) != 0 ||
	    getsockname(fd, (struct sockaddr *)&address, &size) != 0)
		return (-1);
	close(fd);
	port = address.sin_port;
	snprintf(where, sizeof(where), "127.0.0.1:%u", ntohs(port));
	return (0);
}

/* The answer to a request, as a string; "" while nobody listens. */
static const char *
ask(const char * path, char * answer, size_t size)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
	    .sin_port = port,
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	char request[64];
	size_t len = 0;
	ssize_t n;

	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0) {
		snprintf(request, sizeof(request), "GET %s HTTP/1.0\r\n\r\n", path);
		assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
		while (len < size - 1 && (n = recv(fd, answer + len, size - 1 - len, 0)) > 0)
			len += (size_t)n;
	}
	close(fd);
	answer[len] = '\0';
	return (answer);
}

static struct http_server *
start(void)
{
	static char answer[4096];
	struct http_server * server;
	struct error e;

	server = http_server_new(where, &e);
	assert_non_null(server);
	while (ask("/healthz", answer, sizeof(answer))[0] == '\0')
		usleep(1000);
	return (server);
}

static atomic_bool done;

static void *
ask_again_and_again(void * context)
{
	static const char * const paths[] = {"/metrics", "/stats", "/readyz", "/", "/none"};
	char answer[65536];
	int asked = 0;

	(void)context;
	for (; !atomic_load(&done); asked++) {
		ask(paths[asked % 5], answer, sizeof(answer));
		assert_memory_equal(answer, "HTTP/1.1 ", 9);
		/* What was posted as one is seen as one. */
		if (asked % 5 == 1 && strstr(answer, "\"published\":0") == NULL) {
			const char * published = strstr(answer, "\"published\":");
			const char * confirmed = strstr(answer, "\"confirmed\":");

			assert_non_null(published);
			assert_non_null(confirmed);
			published += strlen("\"published\":");
			assert_memory_equal(published, confirmed + strlen("\"confirmed\":"),
			    strcspn(published, ","));
		}
	}
	return (NULL);
}

static void
the_loop_hands_over_while_clients_ask(void ** state)
{
	static struct stats stats;
	static struct backlog_newest newest;
	struct http_server * server = start();
	pthread_t clients[3];
	unsigned int posted = 0;

	(void)state;
	atomic_store(&done, false);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&clients[i], NULL, ask_again_and_again, NULL), 0);
	for (uint64_t n = 1; n <= 300; n++) {
		http_server_turned(server, clock_now());
		stats.published = stats.confirmed = n;
		newest.dead_count = n % BACKLOG_NEWEST_MAX;
		posted += http_server_post(server, &stats, n % 3 == 0 ? &newest : NULL);
		usleep(1000);
	}
	atomic_store(&done, true);
	for (size_t i = 0; i < 3; i++)
		pthread_join(clients[i], NULL);
	assert_true(posted > 200);
	assert_true(http_server_wants_newest(server, clock_now()));
	assert_false(http_server_wants_newest(server, clock_now() + CLOCK_S(60)));
	http_server_free(server);
}

static void
a_loop_that_does_not_turn_is_found_out(void ** state)
{
	struct http_server * server = start();
	struct stats stats = {.state = STATS_LEADING};
	char answer[4096];

	(void)state;
	http_server_turned(server, clock_now());
	assert_true(http_server_post(server, &stats, NULL));
	assert_non_null(strstr(ask("/healthz", answer, sizeof(answer)), "HTTP/1.1 200 "));
	assert_non_null(strstr(ask("/readyz", answer, sizeof(answer)), "HTTP/1.1 200 "));
	http_server_turned(server, clock_now() - ANSWER_STILL_MAX - CLOCK_S(1));
	assert_non_null(strstr(ask("/healthz", answer, sizeof(answer)), "HTTP/1.1 503 "));
	assert_non_null(strstr(ask("/readyz", answer, sizeof(answer)), "HTTP/1.1 503 "));
	http_server_free(server);
}

static void
it_ends_at_once_whether_it_has_its_port_or_not(void ** state)
{
	struct http_server *first = start(), *second;
	clock_ns begun = clock_now();
	struct error e;

	(void)state;
	second = http_server_new(where, &e);
	assert_non_null(second);
	http_server_free(second);
	http_server_free(first);
	http_server_free(NULL);
	assert_true(clock_now() - begun < CLOCK_S(1));
}

static void
an_address_has_two_parts(void ** state)
{
	static const struct {
		const char *text, *host, *port;
	} cases[] = {
	    {"127.0.0.1:9464", "127.0.0.1", "9464"},
	    {"[::1]:80", "::1", "80"},
	    {":9464", "", "9464"},
	    {"localhost:1", "localhost", "1"},
	    {"[]:1", "", "1"},
	};
	struct http_address address;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(http_address_split(cases[i].text, &address), 0);
		assert_string_equal(address.host, cases[i].host);
		assert_string_equal(address.port, cases[i].port);
	}
	assert_int_equal(http_address_split("no port", &address), -1);
	assert_int_equal(http_address_split("h:123456789", &address), -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(the_loop_hands_over_while_clients_ask, choose_port),
	    cmocka_unit_test_setup(a_loop_that_does_not_turn_is_found_out, choose_port),
	    cmocka_unit_test_setup(it_ends_at_once_whether_it_has_its_port_or_not, choose_port),
	    cmocka_unit_test(an_address_has_two_parts),
	};

	return (cmocka_run_group_tests_name("server", tests, NULL, NULL));
}
