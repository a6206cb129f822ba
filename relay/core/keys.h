#ifndef CORE_KEYS_H
#define CORE_KEYS_H

#include <stdint.h>

/*
 * Which row is the last one waiting of each ordering key.  A table of fixed
 * size: open addressing over the keys' hashes, which are random already.
 * The chain itself runs through the rows (row.next), oldest first.
 */
struct keys {
	struct keys_entry {
		uint64_t key;  /* 0: free */
		uint32_t last; /* place of the key's youngest row */
	} * entries;
	uint64_t mask;
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
 * keys_append(keys, key, place):
 * ${place} is now the youngest row of ${key} (not 0).  Returns the one before
 * it, or KEYS_NONE if the key was free.
 */
uint32_t keys_append(struct keys * keys, uint64_t key, uint32_t place);

/**
 * keys_remove(keys, key):
 * No row of ${key} is left.  It must be in the table.
 */
void keys_remove(struct keys * keys, uint64_t key);

#endif /* CORE_KEYS_H */
