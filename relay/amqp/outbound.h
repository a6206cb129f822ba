#ifndef AMQP_OUTBOUND_H
#define AMQP_OUTBOUND_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/buffer.h"
#include "core/message.h"

/*
 * What is to be sent, in order: bytes in a buffer, and between them
 * references to large bodies that stay where they are.  The batch of a
 * referenced body is kept until the reference is sent or dropped.
 */
struct outbound_reference {
	uint64_t position; /* goes before this byte of the buffered ones */
	const char * data;
	size_t len;
	struct batch * batch; /* ours to unref; may be NULL */
};

struct outbound {
	struct buffer bytes;
	uint64_t buffered;                      /* bytes ever put into the buffer ... */
	uint64_t taken;                         /* ... and ever sent from it */
	struct outbound_reference * references; /* ring */
	size_t capacity;                        /* of the ring, 0 or a power of two */
	size_t first;
	size_t count;
	size_t referenced; /* bytes of all references */
};

/**
 * outbound_init(o, max):
 * Empty; the buffer takes at most ${max} bytes, references apart.
 */
void outbound_init(struct outbound * o, size_t max);

/**
 * outbound_free(o):
 * Drop everything.
 */
void outbound_free(struct outbound * o);

/**
 * outbound_clear(o):
 * Drop everything, keep the memory of the buffer.
 */
void outbound_clear(struct outbound * o);

/**
 * outbound_unsent(o):
 * Bytes that wait.
 */
static inline size_t
outbound_unsent(const struct outbound * o)
{
	return (buffer_size(&o->bytes) + o->referenced);
}

/**
 * outbound_reserve(o, size, references):
 * ${size} writable bytes at the end and room for ${references} references;
 * NULL if there is no room.  Until outbound_added nothing is changed.
 */
char * outbound_reserve(struct outbound * o, size_t size, size_t references);

/**
 * outbound_added(o, size):
 * ${size} of the reserved bytes are written.
 */
void outbound_added(struct outbound * o, size_t size);

/**
 * outbound_refer(o, data, batch):
 * Continue with ${data}, in place; reserved before.  The reference keeps
 * ${batch} (may be NULL).
 */
void outbound_refer(struct outbound * o, struct bytes data, struct batch * batch);

/**
 * outbound_gather(o, parts, max):
 * Fill at most ${max} parts with what comes next; returns how many.
 */
size_t outbound_gather(const struct outbound * o, struct iovec * parts, size_t max);

/**
 * outbound_sent(o, size):
 * The next ${size} bytes are sent.
 */
void outbound_sent(struct outbound * o, size_t size);

#endif /* AMQP_OUTBOUND_H */
