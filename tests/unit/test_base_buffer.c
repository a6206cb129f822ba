#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buffer.h"

static void
bytes_come_out_as_they_went_in(void ** state)
{
	struct buffer b = {.max = 5000};
	unsigned char in = 0;
	unsigned char out = 0;
	unsigned int random = 1;

	(void)state;
	for (int i = 0; i < 20000; i++) {
		size_t n = (random = random * 1103515245 + 12345) / 65536 % 90;

		if (random & 0x40000000) {
			char * p = buffer_reserve(&b, n);

			if (p == NULL) {
				assert_true(buffer_size(&b) + n > b.max);
				continue;
			}
			for (size_t k = 0; k < n; k++)
				p[k] = (char)in++;
			buffer_added(&b, n);
		} else {
			if (n > buffer_size(&b))
				n = buffer_size(&b);
			for (size_t k = 0; k < n; k++)
				assert_int_equal((unsigned char)buffer_content(&b)[k], out++);
			buffer_taken(&b, n);
		}
		assert_true(b.capacity <= b.max);
	}
	buffer_free(&b);
}

static void
the_maximum_holds(void ** state)
{
	struct buffer b = {.max = 10};

	(void)state;
	assert_int_equal(buffer_append(&b, "0123456789", 10), 0);
	assert_int_equal(buffer_append(&b, "x", 1), -1);
	assert_null(buffer_reserve(&b, SIZE_MAX));
	assert_non_null(buffer_reserve(&b, 0));
	buffer_taken(&b, 4);
	assert_int_equal(buffer_append(&b, "abcd", 4), 0);
	assert_int_equal(buffer_size(&b), 10);
	assert_memory_equal(buffer_content(&b), "456789abcd", 10);
	assert_int_equal(b.capacity, 10);
	buffer_free(&b);
}

static void
an_empty_buffer_costs_nothing(void ** state)
{
	struct buffer b = {.max = 100};

	(void)state;
	assert_int_equal(buffer_append(&b, NULL, 0), 0);
	assert_int_equal(buffer_size(&b), 0);
	assert_null(buffer_content(&b));
	buffer_taken(&b, 0);
	buffer_free(&b);
	assert_null(b.data);
}

static void
clear_gives_back_what_is_beyond_keep(void ** state)
{
	struct buffer b = {.max = 100000};

	(void)state;
	assert_non_null(buffer_reserve(&b, 50000));
	buffer_added(&b, 50000);
	buffer_clear(&b, 60000);
	assert_non_null(b.data);
	assert_int_equal(buffer_size(&b), 0);
	buffer_clear(&b, 1000);
	assert_null(b.data);
	assert_int_equal(buffer_append(&b, "again", 5), 0);
	buffer_free(&b);
}

static void
a_steady_stream_does_not_grow_it(void ** state)
{
	struct buffer b = {.max = 1 << 20};

	(void)state;
	for (int i = 0; i < 100000; i++) {
		assert_int_equal(buffer_append(&b, "0123456789abcdef", 16), 0);
		if (i >= 4)
			buffer_taken(&b, 16);
	}
	assert_true(b.capacity <= 512);
	buffer_free(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(bytes_come_out_as_they_went_in),
	    cmocka_unit_test(the_maximum_holds),
	    cmocka_unit_test(an_empty_buffer_costs_nothing),
	    cmocka_unit_test(clear_gives_back_what_is_beyond_keep),
	    cmocka_unit_test(a_steady_stream_does_not_grow_it),
	};

	return (cmocka_run_group_tests_name("base/buffer", tests, NULL, NULL));
}
