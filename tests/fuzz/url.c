#include "fuzz.h"

#include <string.h>

#include "amqp/url.h"

/*
 * AMQP URLs.  What was accepted must come out of url_describe as a URL that
 * means the same, and nothing may repeat the password: a corpus that writes
 * passwords as SECRET lets a leak be seen.
 */

/* Whether SECRET stands in the password of ${text} and nowhere else. */
static bool
is_only_a_password(const char * text)
{
	const char * authority = strstr(text, "://");
	const char *at, *colon, *end, *secret;

	if (authority == NULL)
		return (false);
	authority += 3;
	end = authority + strcspn(authority, "/?");
	at = memrchr(authority, '@', (size_t)(end - authority));
	colon = at == NULL ? NULL : memchr(authority, ':', (size_t)(at - authority));
	for (secret = strstr(text, "SECRET"); secret != NULL; secret = strstr(secret + 1, "SECRET"))
		if (colon == NULL || secret < colon || secret > at)
			return (false);
	return (true);
}

static void
means_the_same(const struct url * url, const char * original)
{
	char text[URL_DESCRIPTION_MAX];
	struct url again;
	struct error e;

	memset(text, 'x', sizeof(text));
	url_describe(url, text);
	CHECK(memchr(text, '\0', sizeof(text)) != NULL);
	/* Each byte may take three of them. */
	if (strlen(text) > URL_TEXT_MAX)
		return;
	CHECK(url_parse(&again, text, &e) == 0);
	CHECK(!again.has_password && again.password[0] == '\0');
	CHECK(again.tls == url->tls && again.port == url->port);
	CHECK(strcmp(again.user, url->user) == 0);
	CHECK(strcmp(again.host, url->host) == 0);
	CHECK(strcmp(again.vhost, url->vhost) == 0);
	CHECK(strstr(text, "SECRET") == NULL || !is_only_a_password(original));
}

int
LLVMFuzzerTestOneInput(const uint8_t * data, size_t size)
{
	char * text = malloc(size + 1);
	struct url url;
	struct error e;

	memcpy(text, data, size);
	text[size] = '\0';
	error_clear(&e);
	if (url_parse(&url, text, &e) == 0) {
		CHECK(url.port != 0 && url.host[0] != '\0');
		CHECK(url.heartbeat_s >= -1 && url.heartbeat_s <= UINT16_MAX);
		CHECK(url.connection_timeout_ms == -1 || url.connection_timeout_ms > 0);
		means_the_same(&url, text);
	} else {
		CHECK(e.code == EXIT_CONFIGURATION && strncmp(e.text, "AMQP URL: ", 10) == 0);
		CHECK(strstr(e.text, "SECRET") == NULL && strstr(e.remedy, "SECRET") == NULL);
	}
	free(text);
	return (0);
}
