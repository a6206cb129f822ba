#include "postgres/sql.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define WORD "outbox"
#define WORD_LENGTH (sizeof(WORD) - 1)

static bool
is_word_character(char c)
{
	return (isalnum((unsigned char)c) || c == '_' || c == '$');
}

static bool
is_schema_name(const char * text, const char * at)
{
	return (strncmp(at, WORD, WORD_LENGTH) == 0 && (at == text || !is_word_character(at[-1])) &&
	    !is_word_character(at[WORD_LENGTH]));
}

char *
sql_in_schema(const char * text, const char * schema)
{
	size_t schema_length = strlen(schema);
	size_t size = strlen(text) + 1;
	char * sql;
	char * out;

	for (const char * at = text; (at = strstr(at, WORD)) != NULL; at += WORD_LENGTH)
		size += schema_length;
	if ((sql = malloc(size)) == NULL)
		return (NULL);
	out = sql;
	for (const char * at = text; *at != '\0';) {
		if (!is_schema_name(text, at)) {
			*out++ = *at++;
			continue;
		}
		memcpy(out, schema, schema_length);
		out += schema_length;
		at += WORD_LENGTH;
	}
	*out = '\0';
	return (sql);
}
