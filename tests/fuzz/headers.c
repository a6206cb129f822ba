#include "fuzz.h"

#include <string.h>

#include "amqp/headers.h"

/*
 * Headers as JSON text to an AMQP table.  The input is the text of one
 * message's headers; the table goes through rabbitmq-c's encoder and decoder
 * and must be what the text says, by whichever way it was read.
 */
#define TABLE_MAX (1024 * 1024)
#define SPARE 6

static char encoded[TABLE_MAX];

/* As codec.c asks for it: the message's id, and its ordering key if it has one. */
static const amqp_table_entry_t own[HEADERS_OWN] = {
    {.key = {.len = 11, .bytes = "x-outbox-id"},
	.value = {.kind = AMQP_FIELD_KIND_I64, .value.i64 = INT64_MIN}},
    {.key = {.len = 14, .bytes = "x-ordering-key"},
	.value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = {.len = 3, .bytes = "key"}}},
};

static void
through_the_wire(const amqp_table_t * table, const struct reference * r, size_t own_count)
{
	amqp_table_t decoded;
	amqp_pool_t pool;
	size_t size = 0, at = 0;

	CHECK(amqp_encode_table((amqp_bytes_t){.len = sizeof(encoded), .bytes = encoded},
		  (amqp_table_t *)(uintptr_t)table, &size) == 0);
	CHECK(size == reference_size(r, own, own_count));
	init_amqp_pool(&pool, 4096);
	CHECK(amqp_decode_table((amqp_bytes_t){.len = size, .bytes = encoded}, &pool, &decoded,
		  &at) == 0);
	CHECK(at == size);
	reference_compare(r, own, own_count, &decoded);
	empty_amqp_pool(&pool);
}

int
LLVMFuzzerTestOneInput(const uint8_t * data, size_t size)
{
	/* An allocation of its own: one byte too far is seen. */
	char * text = malloc(size > 0 ? size : 1);
	struct headers headers = {.spare = size % 2 == 0 ? 0 : SPARE};
	struct reference r;
	amqp_table_t table;
	struct error e;
	size_t count;

	memcpy(text, data, size);
	r = reference_read((struct bytes){text, size});
	/* The memory of one table serves the next. */
	for (count = 0; count <= HEADERS_OWN; count++) {
		error_clear(&e);
		if (headers_parse(&headers, (struct bytes){text, size}, own, count, &table, &e)) {
			CHECK(r.why != NULL);
			CHECK(e.code == EXIT_FOUND && strncmp(e.text, "headers: ", 9) == 0);
		} else {
			CHECK(r.why == NULL);
			/* Whatever is appended to the table harms nothing in it. */
			memset(table.entries + table.num_entries, 0x5a,
			    headers.spare * sizeof(table.entries[0]));
			if (reference_size(&r, own, count) <= sizeof(encoded))
				through_the_wire(&table, &r, count);
		}
	}
	reference_free(&r);
	headers_free(&headers);
	free(text);
	return (0);
}
