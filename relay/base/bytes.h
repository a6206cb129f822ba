#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include <stddef.h>
#include <string.h>

/*
 * A run of bytes that somebody else owns.  data may be NULL only when len is
 * 0.  Nothing here is NUL-terminated.  An absent value (SQL NULL, a property
 * that is not sent) is BYTES_NONE; an empty one has a data pointer.
 */
struct bytes {
	const char * data;
	size_t len;
};

#define BYTES_NONE ((struct bytes){NULL, 0})

static inline struct bytes
bytes_from(const char * text)
{
	return ((struct bytes){text, text == NULL ? 0 : strlen(text)});
}

static inline int
bytes_present(struct bytes b)
{
	return (b.data != NULL);
}

static inline int
bytes_equal(struct bytes a, struct bytes b)
{
	return (a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0));
}

#endif /* BASE_BYTES_H */
