#include "postgres/array.h"

#include <inttypes.h>
#include <stdio.h>

/* Of ${size} bytes behind what separates them from the last element; NULL: out of memory. */
static char *
array_extend(struct array * array, size_t size)
{
	char * at;

	array->text.max = ARRAY_MAX;
	if (array->failed || (at = buffer_reserve(&array->text, size + 1)) == NULL) {
		array->failed = true;
		return (NULL);
	}
	*at = buffer_size(&array->text) == 0 ? '{' : ',';
	return (at + 1);
}

void
array_add_number(struct array * array, int64_t n)
{
	char * at = array_extend(array, 24);

	if (at != NULL)
		buffer_added(&array->text, 1 + (size_t)snprintf(at, 24, "%" PRId64, n));
}

void
array_add_bool(struct array * array, bool b)
{
	char * at = array_extend(array, 1);

	if (at == NULL)
		return;
	*at = b ? 't' : 'f';
	buffer_added(&array->text, 2);
}

void
array_add_text(struct array * array, struct bytes t)
{
	char * start = array_extend(array, bytes_present(t) ? 2 * t.len + 2 : 4);
	char * at = start;

	if (start == NULL)
		return;
	if (!bytes_present(t)) {
		memcpy(start, "NULL", 4);
		buffer_added(&array->text, 5);
		return;
	}
	*at++ = '"';
	for (size_t i = 0; i < t.len; i++) {
		if (t.data[i] == '"' || t.data[i] == '\\')
			*at++ = '\\';
		*at++ = t.data[i];
	}
	*at++ = '"';
	buffer_added(&array->text, 1 + (size_t)(at - start));
}

const char *
array_text(struct array * array)
{
	array->text.max = ARRAY_MAX;
	if (array->failed ||
	    (buffer_size(&array->text) == 0 && buffer_append(&array->text, "{", 1)) ||
	    buffer_append(&array->text, "}", 2))
		return (NULL);
	return (buffer_content(&array->text));
}

void
array_free(struct array * array)
{
	buffer_free(&array->text);
	array->failed = false;
}
