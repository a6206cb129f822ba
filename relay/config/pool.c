#include "config/pool.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

struct pool_block {
	struct pool_block * next;
	alignas(max_align_t) char memory[];
};

void *
pool_alloc(struct pool * pool, size_t size)
{
	struct pool_block * block = calloc(1, sizeof(*block) + size);

	if (block == NULL)
		return (NULL);
	block->next = pool->blocks;
	pool->blocks = block;
	return (block->memory);
}

char *
pool_copy(struct pool * pool, const char * text, size_t len)
{
	char * copy = pool_alloc(pool, len + 1);

	if (copy != NULL && len > 0)
		memcpy(copy, text, len);
	return (copy);
}

void
pool_free(struct pool * pool)
{
	while (pool->blocks != NULL) {
		struct pool_block * block = pool->blocks;

		pool->blocks = block->next;
		free(block);
	}
}
