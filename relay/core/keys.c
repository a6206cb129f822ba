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
	if (keys->count > 0)
		memset(keys->entries, 0, (keys->mask + 1) * sizeof(*keys->entries));
	keys->count = 0;
}

/* The slot of the key, or the free one where it would go. */
static inline uint64_t
find(const struct keys * keys, uint64_t key)
{
	uint64_t slot = key & keys->mask;

	while (keys->entries[slot].key != 0 && keys->entries[slot].key != key)
		slot = (slot + 1) & keys->mask;
	return (slot);
}

uint32_t
keys_put(struct keys * keys, uint64_t key, uint32_t place)
{
	struct keys_entry * entry = &keys->entries[find(keys, key)];
	uint32_t before = KEYS_NONE;

	assert(key != 0);
	if (entry->key == key)
		before = entry->place;
	else
		keys->count++;
	*entry = (struct keys_entry){.key = key, .place = place};
	return (before);
}

uint32_t
keys_get(const struct keys * keys, uint64_t key)
{
	const struct keys_entry * entry = &keys->entries[find(keys, key)];

	return (entry->key == key ? entry->place : KEYS_NONE);
}

void
keys_remove(struct keys * keys, uint64_t key)
{
	uint64_t gap = find(keys, key);

	assert(keys->entries[gap].key == key);
	keys->count--;
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
