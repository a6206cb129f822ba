#ifndef AMQP_CREDENTIALS_H
#define AMQP_CREDENTIALS_H

#include <stdbool.h>

#include "amqp/url.h"
#include "base/error.h"

/**
 * credentials_find(url, password_file, e):
 * Put the password to log in with into ${url}: that of ${password_file} (NULL:
 * none) before the url's own; guest's is known.  0, or -1 with ${e}.
 */
int credentials_find(struct url * url, const char * password_file, struct error * e);

#endif /* AMQP_CREDENTIALS_H */
