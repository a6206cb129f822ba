#include "verdict.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <unistd.h>

/* A history takes milliseconds. */
#define HANG_SECONDS 20

struct verdict * verdict;

static struct world world;

int
verdict_init(void)
{
	void * memory = mmap(NULL, sizeof(*verdict), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		return (-1);
	verdict = memory;
	return (0);
}

void
world_tell(const struct world * w, const char * format, ...)
{
	va_list arguments;

	printf("%12.3f ms  ", (double)w->now / 1e6);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
}

void
world_broken(struct world * w, const char * promise, const char * format, ...)
{
	va_list arguments;

	(void)w;
	snprintf(verdict->promise, sizeof(verdict->promise), "%s", promise);
	va_start(arguments, format);
	vsnprintf(verdict->text, sizeof(verdict->text), format, arguments);
	va_end(arguments);
	if (w->knobs.verbose)
		printf("broken promise (%s): %s\n", promise, verdict->text);
	fflush(stdout);
	_exit(1);
}

static void
add_up(const struct world * w)
{
	verdict->histories++;
	for (int e = 0; e < EVENT_COUNT; e++)
		verdict->events[e] += w->events[e];
	if (w->slowest_good > verdict->slowest_good) {
		verdict->slowest_good = w->slowest_good;
		verdict->slowest_good_seed = w->knobs.seed;
	}
	if (w->slowest_settled > verdict->slowest_settled) {
		verdict->slowest_settled = w->slowest_settled;
		verdict->slowest_settled_seed = w->knobs.seed;
	}
}

static void
run_all(struct knobs knobs, uint64_t histories, clock_ns until)
{
	for (uint64_t n = 0; histories == 0 || n < histories; n++, knobs.seed++) {
		if (n % 64 == 0) {
			alarm(HANG_SECONDS);
			if (histories == 0 && clock_now() >= until)
				break;
		}
		verdict->seed = knobs.seed;
		history_run(&world, &knobs);
		add_up(&world);
	}
}

bool
verdict_run(const struct knobs * knobs, uint64_t histories, clock_ns until, bool silent)
{
	int status;
	pid_t child;

	memset(verdict->promise, 0, sizeof(verdict->promise));
	memset(verdict->text, 0, sizeof(verdict->text));
	verdict->seed = knobs->seed;
	fflush(stdout);
	if ((child = fork()) == 0) {
		if (silent) {
			int null = open("/dev/null", O_WRONLY);

			dup2(null, STDOUT_FILENO);
			dup2(null, STDERR_FILENO);
		}
		if (knobs->verbose)
			setvbuf(stdout, NULL, _IOLBF, 0);
		run_all(*knobs, histories, until);
		exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child) {
		snprintf(verdict->promise, sizeof(verdict->promise), "simulation");
		snprintf(verdict->text, sizeof(verdict->text), "no child process");
		return (false);
	}
	if (WIFSIGNALED(status)) {
		snprintf(verdict->promise, sizeof(verdict->promise), "signal %d", WTERMSIG(status));
		snprintf(verdict->text, sizeof(verdict->text), "%s",
		    WTERMSIG(status) == SIGALRM ? "a history that hangs" :
						  strsignal(WTERMSIG(status)));
	} else if (WEXITSTATUS(status) != 0 && verdict->promise[0] == '\0') {
		snprintf(verdict->promise, sizeof(verdict->promise), "exit %d",
		    WEXITSTATUS(status));
	}
	return (verdict->promise[0] == '\0');
}
