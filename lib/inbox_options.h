#ifndef INBOX_OPTIONS_H
#define INBOX_OPTIONS_H

#include "inbox.h"

/**
 * inbox_options_check(o, error):
 * See that all is there that is required and nothing beyond its bounds, and
 * put defaults in place of zeros.  INBOX_OK, or INBOX_INVALID with ${error}.
 */
enum inbox_code inbox_options_check(struct inbox_consumer_options * o, struct inbox_error * error);

#endif /* INBOX_OPTIONS_H */
