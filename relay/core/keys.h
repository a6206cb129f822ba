#ifndef CORE_KEYS_H
#define CORE_KEYS_H

#include <stdint.h>

/*
 * One row for each ordering key.  A table of fixed size: open addressing over
 * the keys' hashes, which are random already.  What else belongs to the key
 * hangs on that row.
 */
struct keys {
	struct keys_entry {
		uint64_t key; /* 0: free */
		uint32_t place;
	} * entries;
	uint64_t mask;
	uint32_t count;
};

#define KEYS_NONE UINT32_MAX

/**
 * keys_init(keys, max):
 * Room for ${max} different keys.  -1: out of memory.
 */
int keys_init(struct keys * keys, uint64_t max);

/**
 * keys_free(keys):
 * Also on a zeroed table.
 */
void keys_free(struct keys * keys);

void keys_clear(struct keys * keys);

/**
 * keys_put(keys, key, place):
 * ${place} is now the row of ${key} (not 0).  Returns the one before it, or
 * KEYS_NONE if the key was free.
 */
uint32_t keys_put(struct keys * keys, uint64_t key, uint32_t place);

/**
 * keys_get(keys, key):
 * The row of ${key}, or KEYS_NONE.
 */
uint32_t keys_get(const struct keys * keys, uint64_t key);

/**
 * keys_remove(keys, key):
 * ${key} has no row any more.  It must be in the table.
 */
void keys_remove(struct keys * keys, uint64_t key);

#endif /* CORE_KEYS_H */
