#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/keys.h"
#include "core/ready.h"

/* The parts that the core is made of, each against a naive model. */

static uint64_t
next_random(uint64_t * x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return (*x);
}

static void
ready_finds_the_next_member_at_every_size(void ** state)
{
	static const uint32_t sizes[] = {1, 2, 63, 64, 65, 4096, 4097, 10000};
	static bool member[10000];
	uint64_t x = 1;

	(void)state;
	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		struct ready ready;
		uint32_t count = 0;

		assert_int_equal(ready_init(&ready, sizes[s]), 0);
		memset(member, 0, sizeof(member));
		for (int step = 0; step < 3000; step++) {
			uint32_t place = (uint32_t)(next_random(&x) % sizes[s]);
			uint32_t from = (uint32_t)(next_random(&x) % sizes[s]);

			if (member[place])
				ready_remove(&ready, place);
			else
				ready_add(&ready, place);
			count += member[place] ? UINT32_MAX : 1;
			member[place] = !member[place];
			assert_int_equal(ready.count, count);
			place = from;
			while (place < sizes[s] && !member[place])
				place++;
			assert_int_equal(ready_from(&ready, from),
			    place < sizes[s] ? place : READY_NONE);
		}
		ready_clear(&ready);
		assert_int_equal(ready_from(&ready, 0), READY_NONE);
		assert_int_equal(ready.count, 0);
		ready_free(&ready);
	}
}

static void
keys_remember_one_row_of_each(void ** state)
{
	enum { KEYS = 48 };
	uint32_t last[KEYS];
	struct keys keys;
	uint64_t x = 7;

	(void)state;
	assert_int_equal(keys_init(&keys, KEYS), 0);
	for (int n = 0; n < KEYS; n++)
		last[n] = KEYS_NONE;
	for (uint32_t step = 0; step < 20000; step++) {
		uint64_t n = next_random(&x) % KEYS;
		/* Few homes, at the table's end too, so that probes collide and wrap. */
		uint64_t key = (n + 1) << 32 | (n % 3 == 0 ? keys.mask : n % 5);

		if (last[n] != KEYS_NONE && next_random(&x) % 2 == 0) {
			keys_remove(&keys, key);
			last[n] = KEYS_NONE;
		} else {
			assert_int_equal(keys_put(&keys, key, step), last[n]);
			last[n] = step;
		}
	}
	keys_clear(&keys);
	assert_int_equal(keys_put(&keys, 42, 1), KEYS_NONE);
	keys_free(&keys);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(ready_finds_the_next_member_at_every_size),
	    cmocka_unit_test(keys_remember_one_row_of_each),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
