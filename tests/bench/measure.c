#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/*
 * measure FILE PROGRAM [ARGUMENT...]: run a program and write what it used to
 * FILE as JSON: wall time from before fork to its end, CPU, peak memory.
 *
 * It is small for a reason: a process inherits the peak memory of whoever
 * called exec, so a child of the Python harness would seem to need Python's.
 * It ends as its child does, and passes on SIGTERM, also when the harness dies;
 * SIGKILL reaches the child through the parent-death signal.
 */

static pid_t child;

static void
pass_on(int number)
{
	kill(child, number);
}

static double
now(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return ((double)t.tv_sec + (double)t.tv_nsec / 1e9);
}

static double
seconds(struct timeval t)
{
	return ((double)t.tv_sec + (double)t.tv_usec / 1e6);
}

int
main(int argc, char ** argv)
{
	struct sigaction action = {.sa_handler = pass_on};
	struct rusage used;
	double start, started_at, wall;
	pid_t parent = getpid();
	FILE * file;
	int status;

	if (argc < 3) {
		fprintf(stderr, "usage: measure FILE PROGRAM [ARGUMENT...]\n");
		return (64);
	}
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	started_at = now(CLOCK_REALTIME);
	start = now(CLOCK_MONOTONIC);
	if ((child = fork()) == -1) {
		perror("fork");
		return (1);
	}
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		execvp(argv[2], argv + 2);
		perror(argv[2]);
		_exit(127);
	}
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	while (wait4(child, &status, 0, &used) == -1) {
		if (errno != EINTR) {
			perror("wait4");
			return (1);
		}
	}
	wall = now(CLOCK_MONOTONIC) - start;

	if ((file = fopen(argv[1], "w")) == NULL) {
		perror(argv[1]);
		return (1);
	}
	fprintf(file,
	    "{\"started_at\": %.6f, \"wall_seconds\": %.6f, \"cpu_seconds\": %.6f, "
	    "\"peak_kib\": %ld}\n",
	    started_at, wall, seconds(used.ru_utime) + seconds(used.ru_stime), used.ru_maxrss);
	if (fclose(file) != 0) {
		perror(argv[1]);
		return (1);
	}
	return (WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}
