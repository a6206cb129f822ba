#ifndef CORE_DISCARDS_H
#define CORE_DISCARDS_H

#include <stddef.h>

#include "core/delayed.h"
#include "core/message.h"
#include "core/text.h"

/*
 * What a person wants not to be sent any more: orders that stand until they are
 * taken back, kept by the core.
 */
struct discards {
	struct kept_discard {
		struct text * exchange; /* NULL: any */
		struct text * type;     /* NULL: any */
		struct text * reason;
		int64_t created_before_s;
		int64_t max_id;
	} list[DISCARDS_MAX];
	size_t count;
};

/**
 * discards_set(discards, list, count):
 * These and no others.  One that no memory is left for is passed over, as if it had
 * not been heard of yet.
 */
void discards_set(struct discards * discards, const struct discard * list, size_t count);

/**
 * discards_clear(discards):
 * None.
 */
void discards_clear(struct discards * discards);

/**
 * discards_match(discards, message):
 * The first one that means ${message}, or NULL.
 */
const struct kept_discard * discards_match(const struct discards * discards,
    const struct message * message);

#endif /* CORE_DISCARDS_H */
