/*
 * The protocol of sd_notify(3) is a datagram to the socket that the environment
 * names, and meant to be spoken without libsystemd, which brings six libraries
 * more and a megabyte of memory.
 */
#include "cli/notify.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* The watchdog belongs to the process, like the log. */
static clock_ns watchdog_interval;
static clock_ns watchdog_next = CLOCK_NEVER;

/* A name that begins with @ stands for one in the abstract namespace. */
static void
tell(const char * state)
{
	const char * name = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t length;
	int fd;

	if (name == NULL || (name[0] != '/' && name[0] != '@') ||
	    (length = strlen(name)) >= sizeof(address.sun_path))
		return;
	memcpy(address.sun_path, name, length);
	if (name[0] == '@')
		address.sun_path[0] = '\0';
	if ((fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) < 0)
		return;
	/* Nobody there: the manager will notice by itself. */
	(void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&address,
	    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
	close(fd);
}

/* A positive decimal number from the environment; 0: none. */
static uint64_t
number(const char * name)
{
	const char * text = getenv(name);
	char * end;
	unsigned long long value;

	if (text == NULL || text[0] < '0' || text[0] > '9')
		return (0);
	value = strtoull(text, &end, 10);
	return (*end == '\0' ? value : 0);
}

/* What WATCHDOG_PID names, if anything, must be this process. */
static bool
watchdog_is_ours(void)
{
	return (getenv("WATCHDOG_PID") == NULL || number("WATCHDOG_PID") == (uint64_t)getpid());
}

void
notify_ready(void)
{
	uint64_t usec = number("WATCHDOG_USEC");

	if (usec > 0 && usec < INT64_MAX / CLOCK_US(1) && watchdog_is_ours()) {
		watchdog_interval = CLOCK_US(usec) / 3;
		watchdog_next = 0;
	}
	tell("READY=1\nSTATUS=starting");
}

void
notify_stopping(void)
{
	tell("STOPPING=1\nSTATUS=finishing what is in flight");
}

void
notify_reloading(void)
{
	struct timespec now;
	char text[80];

	clock_gettime(CLOCK_MONOTONIC, &now);
	snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%lld",
	    (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
	tell(text);
}

void
notify_reloaded(void)
{
	tell("READY=1");
}

void
notify_status(const char * format, ...)
{
	char state[520] = "STATUS=";
	size_t length = strlen(state);
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(state + length, sizeof(state) - length, format, arguments);
	va_end(arguments);
	tell(state);
}

void
notify_alive(clock_ns now)
{
	if (now < watchdog_next)
		return;
	watchdog_next = now + watchdog_interval;
	tell("WATCHDOG=1");
}

clock_ns
notify_deadline(void)
{
	return (watchdog_next);
}
