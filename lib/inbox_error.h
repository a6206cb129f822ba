#ifndef INBOX_ERROR_H
#define INBOX_ERROR_H

#include "inbox.h"

/**
 * inbox_error_set(error, code, format, ...):
 * Fill ${error}, which may be NULL; control characters become spaces, and a
 * text that is too long is cut.  Returns ${code}.
 */
enum inbox_code inbox_error_set(struct inbox_error * error, enum inbox_code code,
    const char * format, ...) __attribute__((format(printf, 3, 4)));

/**
 * inbox_error_result(error, db, result):
 * Say why ${result} of ${db} (it may be NULL) is not what was hoped for:
 * INBOX_NO_CONNECTION, INBOX_NO_MEMORY or INBOX_REFUSED, which is returned.
 */
enum inbox_code inbox_error_result(struct inbox_error * error, PGconn * db,
    const PGresult * result);

#endif /* INBOX_ERROR_H */
