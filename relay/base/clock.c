#include "base/clock.h"

#include <assert.h>
#include <time.h>

clock_ns
clock_now(void)
{
	struct timespec t;
	int failed = clock_gettime(CLOCK_BOOTTIME, &t);

	assert(!failed);
	(void)failed;
	return ((clock_ns)t.tv_sec * 1000000000 + t.tv_nsec);
}
