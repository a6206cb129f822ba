#include "core/ready.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/*
 * A bitmap with summaries: a bit of level n + 1 says whether a word of level
 * n has any bit set.  What must stay true: a summary bit is set exactly while
 * its word is not zero.  Sixteen thousand places take three levels, so every
 * operation touches at most a handful of words.
 */

#define WORD_BITS 64u

static inline uint64_t
bit(uint32_t n)
{
	return (UINT64_C(1) << (n % WORD_BITS));
}

static inline uint32_t
lowest(uint64_t word)
{
	return ((uint32_t)__builtin_ctzll(word));
}

int
ready_init(struct ready * ready, uint32_t places)
{
	uint32_t bits = places;

	assert(places >= 1 && places <= UINT32_C(1) << 31);
	*ready = (struct ready){.count = 0};
	do {
		uint32_t words = (bits + WORD_BITS - 1) / WORD_BITS;
		uint64_t * level = calloc(words, sizeof(*level));

		if (level == NULL)
			return (-1);
		assert(ready->levels < READY_LEVELS);
		ready->words[ready->levels] = words;
		ready->level[ready->levels++] = level;
		bits = words;
	} while (bits > 1);
	return (0);
}

void
ready_free(struct ready * ready)
{
	for (unsigned int n = 0; n < ready->levels; n++)
		free(ready->level[n]);
	*ready = (struct ready){.count = 0};
}

void
ready_clear(struct ready * ready)
{
	for (unsigned int n = 0; n < ready->levels; n++)
		memset(ready->level[n], 0, ready->words[n] * sizeof(*ready->level[n]));
	ready->count = 0;
}

void
ready_add(struct ready * ready, uint32_t place)
{
	assert((ready->level[0][place / WORD_BITS] & bit(place)) == 0);
	ready->count++;
	for (unsigned int n = 0; n < ready->levels; n++) {
		uint64_t * word = &ready->level[n][place / WORD_BITS];
		bool was_empty = *word == 0;

		*word |= bit(place);
		if (!was_empty)
			break;
		place /= WORD_BITS;
	}
}

void
ready_remove(struct ready * ready, uint32_t place)
{
	assert((ready->level[0][place / WORD_BITS] & bit(place)) != 0);
	ready->count--;
	for (unsigned int n = 0; n < ready->levels; n++) {
		uint64_t * word = &ready->level[n][place / WORD_BITS];

		*word &= ~bit(place);
		if (*word != 0)
			break;
		place /= WORD_BITS;
	}
}

uint32_t
ready_from(const struct ready * ready, uint32_t place)
{
	/* Up, until a summary knows of a member to the right ... */
	for (unsigned int n = 0; n < ready->levels; n++) {
		uint64_t found;

		if (place / WORD_BITS >= ready->words[n])
			break;
		found = ready->level[n][place / WORD_BITS] & ~(bit(place) - 1);
		if (found != 0) {
			/* ... and down again to its first one. */
			place = place / WORD_BITS * WORD_BITS + lowest(found);
			while (n-- > 0)
				place = place * WORD_BITS + lowest(ready->level[n][place]);
			return (place);
		}
		place = place / WORD_BITS + 1;
	}
	return (READY_NONE);
}
