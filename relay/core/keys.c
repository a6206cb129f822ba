#include "core/keys.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/*
 * Linear probing, at most two thirds full.  What must stay true: between an
 * entry and the slot that its key hashes to no slot is free.  Removing
 * closes the gap by moving later entries back, so there are no tombstones
 * and the table does not age.
 */

int
keys_init(struct keys * keys, uint64_t max)
{
	uint64_t slots = 4;

	while (slots < max + max / 2)
		slots *= 2;
	keys->mask = slots - 1;
	keys->entries = calloc(slots, sizeof(*keys->entries));
	return (keys->entries == NULL ? -1 : 0);
}

void
keys_free(struct keys * keys)
{
	free(keys->entries);
	keys->entries = NULL;
}

void
keys_clear(struct keys * keys)
{
	memset(keys->entries, 0, (keys->mask + 1) * sizeof(*keys->entries));
}

uint32_t
keys_append(struct keys * keys, uint64_t key, uint32_t place)
{
	uint64_t slot = key & keys->mask;
	uint32_t before;

	assert(key != 0);
	while (keys->entries[slot].key != 0 && keys->entries[slot].key != key)
		slot = (slot + 1) & keys->mask;
	before = keys->entries[slot].key == key ? keys->entries[slot].last : KEYS_NONE;
	keys->entries[slot] = (struct keys_entry){.key = key, .last = place};
	return (before);
}

void
keys_remove(struct keys * keys, uint64_t key)
{
	uint64_t gap = key & keys->mask;

	while (keys->entries[gap].key != key) {
		assert(keys->entries[gap].key != 0);
		gap = (gap + 1) & keys->mask;
	}
	for (uint64_t slot = (gap + 1) & keys->mask; keys->entries[slot].key != 0;
	     slot = (slot + 1) & keys->mask) {
		uint64_t home = keys->entries[slot].key & keys->mask;

		/* It may move back unless that would put it before its home. */
		if (((slot - home) & keys->mask) >= ((slot - gap) & keys->mask)) {
			keys->entries[gap] = keys->entries[slot];
			gap = slot;
		}
	}
	keys->entries[gap].key = 0;
}
