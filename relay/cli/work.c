/*
 * A step is a transaction: it is finished before anybody looks at the signal.
 */
#include "cli/work.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>

#include "base/clock.h"

static volatile sig_atomic_t came;
static clock_ns said;

static void
remember(int number)
{
	came = number;
}

void
work_begin(void)
{
	/* SA_RESETHAND: the second one is not held up by us. */
	const struct sigaction action = {.sa_handler = remember,
	    .sa_flags = SA_RESTART | (int)SA_RESETHAND};

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	said = clock_now();
}

bool
work_interrupted(void)
{
	return (came != 0);
}

void
work_progress(const char * what, int64_t done, int64_t total)
{
	clock_ns now = clock_now();

	if (now - said < CLOCK_S(1))
		return;
	said = now;
	fprintf(stderr, "outbox-relay: %s %" PRId64 " of %" PRId64 "\n", what, done, total);
}

void
work_end(void)
{
	if (came == 0)
		return;
	fflush(stdout);
	signal(came, SIG_DFL);
	raise(came);
}
