#include "base/shell.h"

#include <stdio.h>
#include <string.h>

/*
 * Remedies are commands that a person pastes into a shell, and names in them
 * come from databases and brokers: nothing in such a name may be taken for
 * anything but a name.
 */
#define BARE "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./:=@%+,-"

char *
shell_quote(char * out, size_t size, const char * text)
{
	size_t len = 0;

	/* "!" is history to an interactive shell, between double quotes too. */
	if (text[0] != '\0' && text[strspn(text, BARE)] == '\0' && text[0] != '-') {
		if ((size_t)snprintf(out, size, "%s", text) < size)
			return (out);
	} else if (strchr(text, '\'') != NULL && strpbrk(text, "$`\\\"!") == NULL) {
		if ((size_t)snprintf(out, size, "\"%s\"", text) < size)
			return (out);
	} else {
		/* Four bytes for a quote, and the closing one with the end. */
		if (size < 3)
			goto too_long;
		out[len++] = '\'';
		for (; *text != '\0'; text++) {
			if (len + 6 > size)
				goto too_long;
			if (*text == '\'') {
				memcpy(out + len, "'\\''", 4);
				len += 4;
			} else
				out[len++] = *text;
		}
		out[len++] = '\'';
		out[len] = '\0';
		return (out);
	}
too_long:
	snprintf(out, size, "...");
	return (out);
}
