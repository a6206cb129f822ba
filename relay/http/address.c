#include "http/address.h"

#include <stdio.h>
#include <string.h>

int
http_address_split(const char * listen, struct http_address * address)
{
	const char * colon = strrchr(listen, ':');
	size_t len;

	if (colon == NULL)
		return (-1);
	len = (size_t)(colon - listen);
	if (len >= 2 && listen[0] == '[' && colon[-1] == ']') {
		listen++;
		len -= 2;
	}
	if (len >= sizeof(address->host) || strlen(colon + 1) >= sizeof(address->port))
		return (-1);
	snprintf(address->host, sizeof(address->host), "%.*s", (int)len, listen);
	snprintf(address->port, sizeof(address->port), "%s", colon + 1);
	return (0);
}
