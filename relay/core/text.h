#ifndef CORE_TEXT_H
#define CORE_TEXT_H

#include <stddef.h>

#include "base/bytes.h"

/*
 * A short text that several rows share: why they were put aside, or the name
 * of what they wait for.  Single-threaded.
 */
struct text {
	unsigned int references;
	size_t len;
	char data[];
};
#define TEXT_MAX 1000

/**
 * text_new(from):
 * A copy of ${from} with one reference.  NULL for BYTES_NONE, for more than
 * TEXT_MAX bytes, and when out of memory.
 */
struct text * text_new(struct bytes from);

/**
 * text_for_people(from):
 * The same, but cut to TEXT_MAX bytes, and '?' in place of every byte that is
 * not part of a character of UTF-8: brokers cut within characters, and the
 * database takes no such text.  Without memory there is no reason, and nothing
 * depends on it.
 */
struct text * text_for_people(struct bytes from);

/**
 * text_ref(text) / text_unref(text):
 * One reference more (returns ${text}), or less.  NULL is fine.
 */
struct text * text_ref(struct text * text);
void text_unref(struct text * text);

/**
 * text_bytes(text):
 * What it says; BYTES_NONE for NULL.
 */
static inline struct bytes
text_bytes(const struct text * text)
{
	if (text == NULL)
		return (BYTES_NONE);
	return ((struct bytes){text->data, text->len});
}

#endif /* CORE_TEXT_H */
