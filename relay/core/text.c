#include "core/text.h"

#include <stdlib.h>
#include <string.h>

static struct text *
copy(struct bytes from)
{
	struct text * text = malloc(sizeof(*text) + from.len);

	if (text == NULL)
		return (NULL);
	text->references = 1;
	text->len = from.len;
	if (from.len > 0)
		memcpy(text->data, from.data, from.len);
	return (text);
}

struct text *
text_new(struct bytes from)
{
	if (!bytes_present(from) || from.len > TEXT_MAX)
		return (NULL);
	return (copy(from));
}

/* The length of the character that ${at} begins with; 0: there is none.  By
 * RFC 3629: the second byte decides on overlong forms, surrogates and what lies
 * beyond Unicode. */
static size_t
character(const unsigned char * at, size_t left)
{
	unsigned char low = 0x80;
	unsigned char high = 0xbf;
	size_t length;

	if (at[0] >= 0x01 && at[0] <= 0x7f)
		return (1);
	if (at[0] < 0xc2 || at[0] > 0xf4)
		return (0);
	length = at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;
	if (left < length)
		return (0);
	if (at[0] == 0xe0)
		low = 0xa0;
	else if (at[0] == 0xed)
		high = 0x9f;
	else if (at[0] == 0xf0)
		low = 0x90;
	else if (at[0] == 0xf4)
		high = 0x8f;
	if (at[1] < low || at[1] > high)
		return (0);
	for (size_t n = 2; n < length; n++) {
		if (at[n] < 0x80 || at[n] > 0xbf)
			return (0);
	}
	return (length);
}

struct text *
text_for_people(struct bytes from)
{
	struct text * text;

	if (!bytes_present(from))
		return (NULL);
	if (from.len > TEXT_MAX)
		from.len = TEXT_MAX;
	text = copy(from);
	for (size_t n = 0; text != NULL && n < text->len;) {
		size_t length = character((const unsigned char *)text->data + n, text->len - n);

		if (length == 0)
			text->data[n] = '?';
		n += length == 0 ? 1 : length;
	}
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
