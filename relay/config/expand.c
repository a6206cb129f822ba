#include "config/expand.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"

/*
 * What a variable holds is taken as it is and never expanded again: a password
 * with a $ in it stays that password.
 */

const char *
expand_find(char * const * environment, const char * name)
{
	size_t len = strlen(name);

	for (char * const * e = environment; e != NULL && *e != NULL; e++) {
		if (strncmp(*e, name, len) == 0 && (*e)[len] == '=')
			return (*e + len + 1);
	}
	return (NULL);
}

/* The name between braces at p into name; its length, 0 if it is none. */
static size_t
read_name(const char * p, char * name, size_t size)
{
	size_t len = 0;

	while (isalnum((unsigned char)p[len]) || p[len] == '_')
		len++;
	if (len == 0 || len >= size || isdigit((unsigned char)p[0]) || p[len] != '}')
		return (0);
	memcpy(name, p, len);
	name[len] = '\0';
	return (len);
}

/* Append what the $ at *p stands for and move *p behind it. */
static int
expand_one(struct buffer * out, const char ** p, char * const * environment, char * why,
    size_t why_size)
{
	char name[128];
	const char * value;
	size_t len;

	if ((*p)[1] != '{') {
		*p += (*p)[1] == '$' ? 2 : 1;
		return (buffer_append(out, "$", 1));
	}
	if ((len = read_name(*p + 2, name, sizeof(name))) == 0) {
		snprintf(why, why_size, "${ must be followed by a variable's name and }");
		return (-1);
	}
	if ((value = expand_find(environment, name)) == NULL) {
		snprintf(why, why_size, "the environment variable %.100s is not set", name);
		return (-1);
	}
	*p += len + 3;
	return (buffer_append(out, value, strlen(value)));
}

const char *
expand_value(struct pool * pool, const char * text, char * const * environment, char * why,
    size_t why_size)
{
	struct buffer out = {.max = EXPAND_BYTES_MAX};
	const char * result = NULL;
	const char * p = text;

	if (strchr(text, '$') == NULL)
		return (text);
	snprintf(why, why_size, "longer than %d bytes once its variables are filled in",
	    EXPAND_BYTES_MAX);
	while (*p != '\0') {
		size_t len = strcspn(p, "$");

		if (len > 0 && buffer_append(&out, p, len))
			goto done;
		p += len;
		if (*p == '$' && expand_one(&out, &p, environment, why, why_size))
			goto done;
	}
	if ((result = pool_copy(pool, buffer_size(&out) > 0 ? buffer_content(&out) : "",
		 buffer_size(&out))) == NULL)
		why[0] = '\0';
done:
	buffer_free(&out);
	return (result);
}
