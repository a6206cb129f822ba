#ifndef ADMIN_HOLDING_H
#define ADMIN_HOLDING_H

#include "admin/oneshot.h"

/*
 * Which ordering keys are held, by what, and how many messages wait for it.
 */
struct holding;

/**
 * holding_open(options, e):
 * Connect; strings are borrowed.  NULL with ${e}.
 */
struct holding * holding_open(const struct oneshot_options * options, struct error * e);
void holding_close(struct holding * holding);

/**
 * holding_list(holding, limit, e):
 * At most ${limit} keys, those with the most waiting first, a row each: key, the
 * number of the message that holds it, what that waits for, why, how many wait
 * (counted up to 10,000), and the same as JSON.  NULL with ${e}.
 */
const struct oneshot * holding_list(struct holding * holding, unsigned int limit, struct error * e);

#endif /* ADMIN_HOLDING_H */
