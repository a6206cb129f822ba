#ifndef OUTBOX_CHECK_H
#define OUTBOX_CHECK_H

#include "outbox.h"

#define OUTBOX_PAYLOAD_MAX 536870912 /* bytes: RabbitMQ carries no more */
#define OUTBOX_ORDERING_KEY_MAX 1024
#define OUTBOX_EXPIRATION_MAX_MS 4294967295         /* RabbitMQ's own */
#define OUTBOX_DELIVER_AT_MAX_US 253402300799999999 /* the end of 9999 */

/**
 * outbox_check_message(message, error):
 * Check every field without the server.  On failure fill ${error} but for its
 * index, and return OUTBOX_INVALID.
 */
enum outbox_code outbox_check_message(const struct outbox_message * message,
    struct outbox_error * error);

/**
 * outbox_error_set(error, code, field, format, ...):
 * Fill ${error}, leaving its index; control characters become spaces, and a
 * text that is too long is cut.  Returns ${code}.
 */
enum outbox_code outbox_error_set(struct outbox_error * error, enum outbox_code code,
    const char * field, const char * format, ...) __attribute__((format(printf, 4, 5)));

#endif /* OUTBOX_CHECK_H */
