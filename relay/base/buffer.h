#ifndef BASE_BUFFER_H
#define BASE_BUFFER_H

#include <stddef.h>

/*
 * A growing run of bytes with a stated maximum.  Zero-initialise it with its
 * max: struct buffer b = {.max = N}.  Bytes between start and end are the
 * content; taking from the front is cheap.
 */
struct buffer {
	char * data;
	size_t start;
	size_t end;
	size_t capacity;
	size_t max; /* most bytes of capacity; from outside: always set */
};

/**
 * buffer_reserve(b, size):
 * Return a pointer to at least ${size} writable bytes behind the content, or
 * NULL if that would pass b->max or memory is out.  Valid until the next call
 * on ${b}.  Follow with buffer_added.
 */
char * buffer_reserve(struct buffer * b, size_t size);

/**
 * buffer_added(b, size):
 * ${size} bytes were written behind the content.
 */
void buffer_added(struct buffer * b, size_t size);

/**
 * buffer_append(b, data, size):
 * Copy ${size} bytes behind the content.  0, or -1 as buffer_reserve fails.
 */
int buffer_append(struct buffer * b, const void * data, size_t size);

/**
 * buffer_taken(b, size):
 * Drop ${size} bytes from the front.
 */
void buffer_taken(struct buffer * b, size_t size);

/**
 * buffer_content(b) / buffer_size(b):
 * The first byte of the content (NULL before anything was reserved), and how
 * many there are.
 */
static inline char *
buffer_content(const struct buffer * b)
{
	return (b->data == NULL ? NULL : b->data + b->start);
}

static inline size_t
buffer_size(const struct buffer * b)
{
	return (b->end - b->start);
}

/**
 * buffer_clear(b):
 * Forget the content.  Memory beyond ${keep} bytes of capacity is given back.
 */
void buffer_clear(struct buffer * b, size_t keep);

/**
 * buffer_free(b):
 * Give all memory back; ${b} is empty and usable again.
 */
void buffer_free(struct buffer * b);

#endif /* BASE_BUFFER_H */
