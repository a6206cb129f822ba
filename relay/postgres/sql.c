#include "postgres/sql.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool
is_word(char c)
{
	return (isalnum((unsigned char)c) || c == '_');
}

char *
sql_rename(const char * sql, const char * word, const char * name)
{
	const char * from = sql;
	const char * found;
	size_t length = strlen(word), size;
	char * text;
	FILE * out;

	if ((out = open_memstream(&text, &size)) == NULL)
		return (NULL);
	while ((found = strstr(from, word)) != NULL) {
		bool bare = (found == sql || !is_word(found[-1])) && !is_word(found[length]);

		fwrite(from, 1, (size_t)(found - from), out);
		fputs(bare ? name : word, out);
		from = found + length;
	}
	fputs(from, out);
	if (fclose(out) != 0) {
		free(text);
		return (NULL);
	}
	return (text);
}

char *
sql_in_schema(const char * text, const char * schema)
{
	return (sql_rename(text, "outbox", schema));
}
