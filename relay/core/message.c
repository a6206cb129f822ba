#include "core/message.h"

#include <endian.h>

/*
 * SipHash-2-4 as published by Aumasson and Bernstein ("SipHash: a fast
 * short-input PRF", 2012): four words of state, two rounds for each eight
 * bytes of input, the input's length in the top byte of the last word, four
 * rounds at the end.
 */

static struct {
	uint64_t k0, k1;
} seed;

struct siphash {
	uint64_t v0, v1, v2, v3;
};

static inline uint64_t
rotate(uint64_t x, unsigned int by)
{
	return (x << by | x >> (64 - by));
}

static inline void
siphash_round(struct siphash * s)
{
	s->v0 += s->v1;
	s->v2 += s->v3;
	s->v1 = rotate(s->v1, 13) ^ s->v0;
	s->v3 = rotate(s->v3, 16) ^ s->v2;
	s->v0 = rotate(s->v0, 32);
	s->v2 += s->v1;
	s->v0 += s->v3;
	s->v1 = rotate(s->v1, 17) ^ s->v2;
	s->v3 = rotate(s->v3, 21) ^ s->v0;
	s->v2 = rotate(s->v2, 32);
}

static inline void
siphash_word(struct siphash * s, uint64_t word)
{
	s->v3 ^= word;
	siphash_round(s);
	siphash_round(s);
	s->v0 ^= word;
}

void
message_key_seed(uint64_t a, uint64_t b)
{
	seed.k0 = a;
	seed.k1 = b;
}

uint64_t
message_key(struct bytes ordering_key)
{
	struct siphash s = {
	    .v0 = seed.k0 ^ UINT64_C(0x736f6d6570736575),
	    .v1 = seed.k1 ^ UINT64_C(0x646f72616e646f6d),
	    .v2 = seed.k0 ^ UINT64_C(0x6c7967656e657261),
	    .v3 = seed.k1 ^ UINT64_C(0x7465646279746573),
	};
	const char * p = ordering_key.data;
	size_t left = ordering_key.len;
	uint64_t word, hash;

	for (; left >= sizeof(word); left -= sizeof(word), p += sizeof(word)) {
		memcpy(&word, p, sizeof(word));
		siphash_word(&s, le64toh(word));
	}
	word = 0;
	if (left > 0)
		memcpy(&word, p, left);
	siphash_word(&s, le64toh(word) | (uint64_t)ordering_key.len << 56);
	s.v2 ^= 0xff;
	for (int n = 0; n < 4; n++)
		siphash_round(&s);
	hash = s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
	return (hash == 0 ? 1 : hash);
}
