#include "core/retries.h"

#include <assert.h>
#include <stdlib.h>

/*
 * A binary heap.  What must stay true: no entry is due before its parent.  A
 * row leaves only when it is due, or with all others, so nothing is ever
 * looked up.
 */

int
retries_init(struct retries * retries, uint32_t max)
{
	*retries = (struct retries){.max = max};
	retries->heap = calloc(max, sizeof(*retries->heap));
	return (retries->heap == NULL ? -1 : 0);
}

void
retries_free(struct retries * retries)
{
	free(retries->heap);
	retries->heap = NULL;
}

void
retries_add(struct retries * retries, uint32_t place, clock_ns due)
{
	uint32_t at = retries->count++;

	assert(at < retries->max);
	for (; at > 0 && retries->heap[(at - 1) / 2].due > due; at = (at - 1) / 2)
		retries->heap[at] = retries->heap[(at - 1) / 2];
	retries->heap[at] = (struct retry){.due = due, .place = place};
}

uint32_t
retries_take(struct retries * retries)
{
	uint32_t place = retries->heap[0].place;
	struct retry last;
	uint32_t at = 0;

	assert(retries->count > 0);
	last = retries->heap[--retries->count];
	for (;;) {
		uint64_t child = 2 * (uint64_t)at + 1;

		if (child >= retries->count)
			break;
		if (child + 1 < retries->count &&
		    retries->heap[child + 1].due < retries->heap[child].due)
			child++;
		if (retries->heap[child].due >= last.due)
			break;
		retries->heap[at] = retries->heap[child];
		at = (uint32_t)child;
	}
	retries->heap[at] = last;
	return (place);
}
