/*
 * Read anew for each attempt, so that a password can be rotated under a
 * running relay.
 */
#include "amqp/credentials.h"

#include <string.h>

#include "base/file.h"

int
credentials_find(struct url * url, const char * password_file, struct error * e)
{
	if (password_file != NULL)
		return (file_read_secret(password_file, url->password, sizeof(url->password), e));
	if (url->has_password)
		return (0);
	if (strcmp(url->user, "guest") == 0) {
		strcpy(url->password, "guest");
		return (0);
	}
	error_set(e, EXIT_CONFIGURATION, "no password for user \"%s\"", url->user);
	return (error_remedy(e, "set rabbitmq.password_file, or put it into rabbitmq.urls"));
}
