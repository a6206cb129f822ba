#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/message.h"

/* The key of the paper's test vectors: bytes 0 to 15, little-endian. */
#define PAPER_K0 UINT64_C(0x0706050403020100)
#define PAPER_K1 UINT64_C(0x0f0e0d0c0b0a0908)

static uint64_t
key_of_counting_bytes(size_t len)
{
	char bytes[64];

	for (size_t n = 0; n < len; n++)
		bytes[n] = (char)n;
	return (message_key((struct bytes){bytes, len}));
}

static void
the_hash_is_siphash_2_4(void ** state)
{
	(void)state;
	message_key_seed(PAPER_K0, PAPER_K1);
	assert_true(key_of_counting_bytes(15) == UINT64_C(0xa129ca6149be45e5));
	/* From the reference implementation's list: lengths 0, 1, 7, 8. */
	assert_true(key_of_counting_bytes(0) == UINT64_C(0x726fdb47dd0e0e31));
	assert_true(key_of_counting_bytes(1) == UINT64_C(0x74f839c593dc67fd));
	assert_true(key_of_counting_bytes(7) == UINT64_C(0xab0200f58b01d137));
	assert_true(key_of_counting_bytes(8) == UINT64_C(0x93f5f5799a932462));
}

static void
the_seed_decides(void ** state)
{
	uint64_t before;

	(void)state;
	message_key_seed(1, 2);
	before = message_key(bytes_from("customer-1"));
	assert_true(before == message_key(bytes_from("customer-1")));
	assert_true(before != message_key(bytes_from("customer-2")));
	message_key_seed(1, 3);
	assert_true(before != message_key(bytes_from("customer-1")));
}

static void
every_byte_and_the_length_count(void ** state)
{
	char bytes[24] = {0};
	uint64_t zeros;

	(void)state;
	message_key_seed(5, 6);
	zeros = message_key((struct bytes){bytes, sizeof(bytes)});
	for (size_t n = 0; n < sizeof(bytes); n++) {
		bytes[n] = 1;
		assert_true(message_key((struct bytes){bytes, sizeof(bytes)}) != zeros);
		bytes[n] = 0;
		assert_true(message_key((struct bytes){bytes, n}) != zeros);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_hash_is_siphash_2_4),
	    cmocka_unit_test(the_seed_decides),
	    cmocka_unit_test(every_byte_and_the_length_count),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
