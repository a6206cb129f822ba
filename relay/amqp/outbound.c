#include "amqp/outbound.h"

#include <assert.h>
#include <stdlib.h>

/*
 * The stream is the buffered bytes with the references woven in: a reference
 * says before which of the bytes ever buffered it goes.  These counters only
 * grow, so the buffer may move its content as it likes.
 */

/* Memory that an idle link keeps for the next burst. */
#define KEEP (1024 * 1024)

void
outbound_init(struct outbound * o, size_t max)
{
	*o = (struct outbound){.bytes = {.max = max}};
}

static void
drop_first(struct outbound * o)
{
	batch_unref(o->references[o->first].batch);
	o->first = (o->first + 1) & (o->capacity - 1);
	o->count--;
}

void
outbound_clear(struct outbound * o)
{
	while (o->count > 0)
		drop_first(o);
	o->referenced = 0;
	o->taken = o->buffered;
	buffer_clear(&o->bytes, KEEP);
}

void
outbound_free(struct outbound * o)
{
	outbound_clear(o);
	buffer_free(&o->bytes);
	free(o->references);
	o->references = NULL;
	o->capacity = 0;
}

static int
reserve_references(struct outbound * o, size_t more)
{
	struct outbound_reference * references;
	size_t capacity = o->capacity == 0 ? 64 : o->capacity;
	size_t i;

	if (o->count + more <= o->capacity)
		return (0);
	while (capacity < o->count + more)
		capacity *= 2;
	if ((references = reallocarray(NULL, capacity, sizeof(references[0]))) == NULL)
		return (-1);
	for (i = 0; i < o->count; i++)
		references[i] = o->references[(o->first + i) & (o->capacity - 1)];
	free(o->references);
	o->references = references;
	o->capacity = capacity;
	o->first = 0;
	return (0);
}

char *
outbound_reserve(struct outbound * o, size_t size, size_t references)
{
	if (references > 0 && reserve_references(o, references))
		return (NULL);
	return (buffer_reserve(&o->bytes, size));
}

void
outbound_added(struct outbound * o, size_t size)
{
	buffer_added(&o->bytes, size);
	o->buffered += size;
}

void
outbound_refer(struct outbound * o, struct bytes data, struct batch * batch)
{
	assert(o->count < o->capacity && data.len > 0);
	if (batch != NULL)
		batch_ref(batch);
	o->references[(o->first + o->count++) & (o->capacity - 1)] = (struct outbound_reference){
	    .position = o->buffered,
	    .data = data.data,
	    .len = data.len,
	    .batch = batch};
	o->referenced += data.len;
}

static struct iovec
part(const char * data, size_t len)
{
	return ((struct iovec){.iov_base = (void *)(uintptr_t)data, .iov_len = len});
}

size_t
outbound_gather(const struct outbound * o, struct iovec * parts, size_t max)
{
	const char * content = buffer_content(&o->bytes);
	uint64_t position = o->taken;
	size_t n = 0, i;

	for (i = 0; i < o->count && n < max; i++) {
		const struct outbound_reference * reference =
		    &o->references[(o->first + i) & (o->capacity - 1)];

		if (reference->position > position) {
			parts[n++] = part(content + (position - o->taken),
			    (size_t)(reference->position - position));
			position = reference->position;
			if (n == max)
				return (n);
		}
		parts[n++] = part(reference->data, reference->len);
	}
	if (n < max && position < o->buffered)
		parts[n++] = part(content + (position - o->taken),
		    (size_t)(o->buffered - position));
	return (n);
}

void
outbound_sent(struct outbound * o, size_t size)
{
	struct outbound_reference * reference;
	size_t n;

	assert(size <= outbound_unsent(o));
	while (size > 0) {
		reference = o->count > 0 ? &o->references[o->first] : NULL;
		if (reference == NULL || reference->position > o->taken) {
			n = reference == NULL ? size : (size_t)(reference->position - o->taken);
			if (n > size)
				n = size;
			buffer_taken(&o->bytes, n);
			o->taken += n;
		} else {
			n = reference->len < size ? reference->len : size;
			reference->data += n;
			reference->len -= n;
			o->referenced -= n;
			if (reference->len == 0)
				drop_first(o);
		}
		size -= n;
	}
	if (outbound_unsent(o) == 0)
		buffer_clear(&o->bytes, KEEP);
}
