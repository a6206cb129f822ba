#include "core/text.h"

#include <stdlib.h>
#include <string.h>

/* A byte within a character of UTF-8, not its first one. */
static int
continues(char byte)
{
	return (((unsigned char)byte & 0xc0) == 0x80);
}

struct text *
text_new(struct bytes from)
{
	struct text * text;

	if (!bytes_present(from))
		return (NULL);
	if (from.len > TEXT_MAX) {
		from.len = TEXT_MAX;
		while (from.len > 0 && continues(from.data[from.len]))
			from.len--;
	}
	text = malloc(sizeof(*text) + from.len);
	if (text == NULL)
		return (NULL);
	text->references = 1;
	text->len = from.len;
	if (from.len > 0)
		memcpy(text->data, from.data, from.len);
	return (text);
}

struct text *
text_ref(struct text * text)
{
	if (text != NULL)
		text->references++;
	return (text);
}

void
text_unref(struct text * text)
{
	if (text != NULL && --text->references == 0)
		free(text);
}
