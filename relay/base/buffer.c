#include "base/buffer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/*
 * Bytes taken from the front leave a gap.  The content is moved down over the
 * gap only when the gap is at least as long as the content (so moving costs no
 * more than what was taken), or when the buffer may not grow any more.
 */
#define BUFFER_FIRST_CAPACITY 256

static void
close_gap(struct buffer * b)
{
	assert(b->data != NULL);
	memmove(b->data, b->data + b->start, b->end - b->start);
	b->end -= b->start;
	b->start = 0;
}

static int
grow(struct buffer * b, size_t needed)
{
	size_t capacity = b->capacity < BUFFER_FIRST_CAPACITY / 2 ?
	    BUFFER_FIRST_CAPACITY :
	    b->capacity * 2;
	char * data;

	/* A capacity above half of the address space was never allocated. */
	if (capacity < needed)
		capacity = needed;
	if (capacity > b->max)
		capacity = b->max;
	if (b->start > 0)
		close_gap(b);
	if ((data = realloc(b->data, capacity)) == NULL)
		return (-1);
	b->data = data;
	b->capacity = capacity;
	return (0);
}

char *
buffer_reserve(struct buffer * b, size_t size)
{
	size_t content = b->end - b->start;

	assert(b->max > 0);
	if (content > b->max || size > b->max - content)
		return (NULL);
	if (b->data == NULL || b->capacity - b->end < size) {
		if (b->start >= content && content + size <= b->capacity && b->data != NULL)
			close_gap(b);
		else if (b->capacity >= b->max && b->data != NULL)
			close_gap(b);
		else if (grow(b, content + size))
			return (NULL);
	}
	return (b->data + b->end);
}

void
buffer_added(struct buffer * b, size_t size)
{
	assert(size <= b->capacity - b->end);
	b->end += size;
}

int
buffer_append(struct buffer * b, const void * data, size_t size)
{
	char * p;

	if (size == 0)
		return (0);
	if ((p = buffer_reserve(b, size)) == NULL)
		return (-1);
	memcpy(p, data, size);
	buffer_added(b, size);
	return (0);
}

void
buffer_taken(struct buffer * b, size_t size)
{
	assert(size <= b->end - b->start);
	b->start += size;
	if (b->start == b->end)
		b->start = b->end = 0;
}

void
buffer_clear(struct buffer * b, size_t keep)
{
	b->start = b->end = 0;
	if (b->capacity > keep) {
		free(b->data);
		b->data = NULL;
		b->capacity = 0;
	}
}

void
buffer_free(struct buffer * b)
{
	buffer_clear(b, 0);
}
