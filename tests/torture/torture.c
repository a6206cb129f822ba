#include "torture.h"

#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/*
 * Nothing here allocates or calls what is wrapped: it runs inside of both.
 */
WRAPPED(write);
WRAPPED(clock_gettime);

struct torture_point torture_memory = {.name = "memory"};

static struct torture_point * points;
static const char * chosen;
static size_t chosen_length;
static unsigned long chosen_call;
static bool goes_on;
static unsigned int speed = 1;

static void
say(int fd, const char * text, size_t len)
{
	if (__real_write(fd, text, len) != (ssize_t)len)
		_exit(99);
}

static void
write_counts(void)
{
	const char * file = getenv("OUTBOX_TORTURE_COUNT");
	char line[128];
	int fd, len;

	if (file == NULL || (fd = creat(file, 0644)) < 0)
		return;
	for (const struct torture_point * p = points; p != NULL; p = p->next) {
		len = snprintf(line, sizeof(line), "%s %lu\n", p->name, p->calls);
		say(fd, line, (size_t)len);
	}
	close(fd);
}

__attribute__((constructor)) static void
begin(void)
{
	const char * text = getenv("OUTBOX_TORTURE");
	const char * factor = getenv("OUTBOX_TORTURE_SPEED");
	const char * colon = text == NULL ? NULL : strchr(text, ':');
	char * end;

	if (factor != NULL)
		speed = (unsigned int)atoi(factor);
	if (colon != NULL) {
		chosen = text;
		chosen_length = (size_t)(colon - text);
		chosen_call = strtoul(colon + 1, &end, 10);
		goes_on = strcmp(end, ":on") == 0;
	}
	atexit(write_counts);
}

bool
torture_fails(struct torture_point * point)
{
	char line[128];
	int len;

	if (!point->known) {
		point->known = true;
		point->next = points;
		points = point;
	}
	point->calls++;
	if (chosen == NULL || strlen(point->name) != chosen_length ||
	    memcmp(point->name, chosen, chosen_length) != 0 || point->calls < chosen_call ||
	    (!goes_on && point->calls > chosen_call))
		return (false);
	if (point->calls == chosen_call) {
		len = snprintf(line, sizeof(line), "torture: %s fails at call %lu%s\n", point->name,
		    point->calls, goes_on ? " and from then on" : "");
		say(STDERR_FILENO, line, (size_t)len);
	}
	return (true);
}

bool
torture_goes_on(void)
{
	return (goes_on);
}

unsigned int
torture_way(unsigned int ways)
{
	return ((unsigned int)(chosen_call % ways));
}

/* ---- a clock that does not make a test wait ---- */

int
__wrap_clock_gettime(clockid_t clock, struct timespec * t)
{
	static struct timespec start;
	int64_t ns;

	if (__real_clock_gettime(clock, t) || clock != CLOCK_MONOTONIC || speed == 1)
		return (0);
	if (start.tv_sec == 0)
		start = *t;
	ns = (t->tv_sec - start.tv_sec) * INT64_C(1000000000) + (t->tv_nsec - start.tv_nsec);
	ns = ns * speed + start.tv_nsec;
	t->tv_sec = start.tv_sec + ns / 1000000000;
	t->tv_nsec = ns % 1000000000;
	return (0);
}

unsigned int
torture_speed(void)
{
	return (speed);
}
