#ifndef POSTGRES_ARRAY_H
#define POSTGRES_ARRAY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/bytes.h"

/*
 * A parameter in the text form of a one-dimensional Postgres array.
 * Zero-initialise it; it grows up to ARRAY_MAX.  Running out of memory is told
 * by array_text alone.
 */
struct array {
	struct buffer text;
	bool failed;
};
#define ARRAY_MAX (64 << 20)

/**
 * array_add_number(array, n), array_add_bool(array, b), array_add_text(array, t):
 * Add an element.  BYTES_NONE is NULL; ${t} holds no NUL, and is in the
 * connection's encoding.
 */
void array_add_number(struct array * array, int64_t n);
void array_add_bool(struct array * array, bool b);
void array_add_text(struct array * array, struct bytes t);

/**
 * array_text(array):
 * The whole, NUL-terminated; lives until the array is freed.  NULL: out of
 * memory, or too large.  Nothing may be added after it.
 */
const char * array_text(struct array * array);

/* Empty and usable again. */
void array_free(struct array * array);

#endif /* POSTGRES_ARRAY_H */
