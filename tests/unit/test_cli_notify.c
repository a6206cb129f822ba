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

#include "cli/notify.h"

/* In place of systemd. */
struct manager {
	int fd;
	char name[64]; /* a path, or a name that begins with @ */
};

static void
listen_at(struct manager * m, const char * name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t length = strlen(name);

	memcpy(address.sun_path, name, length);
	if (name[0] == '@')
		address.sun_path[0] = '\0';
	m->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_true(m->fd >= 0);
	assert_int_equal(bind(m->fd, (const struct sockaddr *)&address,
			     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)),
	    0);
	snprintf(m->name, sizeof(m->name), "%s", name);
	setenv("NOTIFY_SOCKET", name, 1);
}

static void
assert_told(const struct manager * m, const char * expected)
{
	char text[1024];
	ssize_t length = recv(m->fd, text, sizeof(text) - 1, 0);

	if (expected == NULL) {
		assert_int_equal(length, -1);
		return;
	}
	assert_true(length > 0);
	text[length] = '\0';
	assert_string_equal(text, expected);
}

static int
set_up(void ** state)
{
	static struct manager manager;
	char name[64];

	snprintf(name, sizeof(name), "@outbox-relay-notify-%d", (int)getpid());
	listen_at(&manager, name);
	*state = &manager;
	return (0);
}

static int
tear_down(void ** state)
{
	struct manager * m = *state;

	close(m->fd);
	if (m->name[0] == '/')
		unlink(m->name);
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
	return (0);
}

static void
the_manager_hears_ready_status_and_stopping(void ** state)
{
	notify_ready();
	assert_told(*state, "READY=1\nSTATUS=starting");
	notify_status("no broker: %s", "it is away");
	assert_told(*state, "STATUS=no broker: it is away");
	notify_stopping();
	assert_told(*state, "STOPPING=1\nSTATUS=finishing what is in flight");
	assert_int_equal(notify_deadline(), CLOCK_NEVER);
	notify_alive(CLOCK_S(100));
	assert_told(*state, NULL);
}

static void
a_status_that_is_too_long_is_cut(void ** state)
{
	char long_text[2000];
	char expected[520];

	memset(long_text, 'x', sizeof(long_text) - 1);
	long_text[sizeof(long_text) - 1] = '\0';
	snprintf(expected, sizeof(expected), "STATUS=%.512s", long_text);
	notify_status("%s", long_text);
	assert_told(*state, expected);
}

static void
a_socket_may_be_a_path(void ** state)
{
	struct manager * m = *state;
	char path[64];

	close(m->fd);
	snprintf(path, sizeof(path), "/tmp/outbox-relay-notify-%d", (int)getpid());
	listen_at(m, path);
	notify_status("well");
	assert_told(m, "STATUS=well");
}

static void
nobody_there_is_no_fault(void ** state)
{
	char long_name[200];

	setenv("NOTIFY_SOCKET", "/nonexistent/socket", 1);
	notify_status("well");
	setenv("NOTIFY_SOCKET", "vsock:2:1234", 1);
	notify_status("well");
	memset(long_name, '/', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	setenv("NOTIFY_SOCKET", long_name, 1);
	notify_status("well");
	unsetenv("NOTIFY_SOCKET");
	notify_status("well");
	assert_told(*state, NULL);
}

static void
another_process_has_the_watchdog(void ** state)
{
	setenv("WATCHDOG_USEC", "3000000", 1);
	setenv("WATCHDOG_PID", "1", 1);
	notify_ready();
	assert_told(*state, "READY=1\nSTATUS=starting");
	assert_int_equal(notify_deadline(), CLOCK_NEVER);
}

/* Last: the watchdog stays with the process. */
static void
the_watchdog_is_fed_at_a_third_of_its_time(void ** state)
{
	char pid[24];

	setenv("WATCHDOG_USEC", "nonsense", 1);
	notify_ready();
	assert_told(*state, "READY=1\nSTATUS=starting");
	assert_int_equal(notify_deadline(), CLOCK_NEVER);

	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	setenv("WATCHDOG_USEC", "3000000", 1);
	setenv("WATCHDOG_PID", pid, 1);
	notify_ready();
	assert_told(*state, "READY=1\nSTATUS=starting");
	notify_alive(CLOCK_S(100));
	assert_told(*state, "WATCHDOG=1");
	assert_int_equal(notify_deadline(), CLOCK_S(101));
	notify_alive(CLOCK_S(101) - 1);
	assert_told(*state, NULL);
	notify_alive(CLOCK_S(101));
	assert_told(*state, "WATCHDOG=1");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(the_manager_hears_ready_status_and_stopping, set_up,
		tear_down),
	    cmocka_unit_test_setup_teardown(a_status_that_is_too_long_is_cut, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_socket_may_be_a_path, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(nobody_there_is_no_fault, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(another_process_has_the_watchdog, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(the_watchdog_is_fed_at_a_third_of_its_time, set_up,
		tear_down),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
