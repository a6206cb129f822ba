#ifndef INBOX_HANDLING_H
#define INBOX_HANDLING_H

#include <stdbool.h>

#include "inbox_state.h"

/**
 * inbox_handle_next(c):
 * Handle what is due first, in one transaction: a message or a batch.  Both
 * connections are open.  False if nothing is due.
 */
bool inbox_handle_next(struct inbox_consumer * c);

#endif /* INBOX_HANDLING_H */
