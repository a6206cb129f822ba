#include "fuzz.h"

#include <string.h>

#include <libpq-fe.h>

#include "postgres/dsn.h"

/*
 * postgres.dsn: what is shown of one never holds its password.  A corpus that
 * writes passwords as SECRET lets a leak be seen; nothing else may say SECRET.
 */

/* Whether there is a password, and SECRET stands nowhere else.  Without one all
 * is shown as it is, also a name that a later one of its keyword replaced. */
static bool
is_only_a_password(const PQconninfoOption * o)
{
	bool any = false;

	for (; o->keyword != NULL; o++) {
		bool password = strstr(o->keyword, "password") != NULL;

		if (o->val != NULL && !password && strstr(o->val, "SECRET") != NULL)
			return (false);
		any |= o->val != NULL && password;
	}
	return (any);
}

int
LLVMFuzzerTestOneInput(const uint8_t * data, size_t size)
{
	char * dsn = malloc(size + 1);
	char text[DSN_DESCRIPTION_MAX];
	PQconninfoOption * options;
	struct error e;

	memcpy(dsn, data, size);
	dsn[size] = '\0';
	error_clear(&e);
	memset(text, 'x', sizeof(text));
	dsn_describe(dsn, text);
	CHECK(memchr(text, '\0', sizeof(text)) != NULL);
	options = PQconninfoParse(dsn, NULL);
	if (dsn_check(dsn, &e)) {
		CHECK(e.code == EXIT_CONFIGURATION && e.text[0] != '\0');
		CHECK(strstr(e.text, "SECRET") == NULL && strstr(e.remedy, "SECRET") == NULL);
		CHECK(strcmp(text, "***") == 0);
	} else {
		CHECK(options != NULL);
		if (is_only_a_password(options))
			CHECK(strstr(text, "SECRET") == NULL);
	}
	PQconninfoFree(options);
	free(dsn);
	return (0);
}
