#ifndef CONFIG_POOL_H
#define CONFIG_POOL_H

#include <stddef.h>

/*
 * Memory that lives and dies together: a document's nodes, a configuration's
 * strings.  Zero-initialise it.
 */
struct pool {
	struct pool_block * blocks;
};

/**
 * pool_alloc(pool, size):
 * Zeroed memory, aligned for anything; NULL when out of memory.
 */
void * pool_alloc(struct pool * pool, size_t size);

/**
 * pool_copy(pool, text, len):
 * A NUL-terminated copy of ${len} bytes; NULL when out of memory.
 */
char * pool_copy(struct pool * pool, const char * text, size_t len);

/**
 * pool_free(pool):
 * Give all of it back.
 */
void pool_free(struct pool * pool);

#endif /* CONFIG_POOL_H */
