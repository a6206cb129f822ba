#include "amqp/confirms.h"

#include <assert.h>
#include <stdlib.h>

/*
 * A ring over the tags [first, next).  What must stay true (L): a ticket is
 * answered for its own tag only, once.  An entry is marked settled and first
 * moved on before the callback runs, since that may add new tags.  The message
 * of a settled entry may be gone.
 */

#define SIZE_FIRST 64

int
confirms_init(struct confirms * c, uint32_t window)
{
	*c = (struct confirms){.mask = SIZE_FIRST - 1,
	    .size_max = SIZE_FIRST,
	    .first = 1,
	    .next = 1,
	    .hint = 1};
	/* Twice the window: settled tags behind an unsettled one take room. */
	while (c->size_max < 2 * (uint64_t)window)
		c->size_max *= 2;
	if ((c->entries = reallocarray(NULL, SIZE_FIRST, sizeof(c->entries[0]))) == NULL)
		return (-1);
	return (0);
}

void
confirms_free(struct confirms * c)
{
	free(c->entries);
	c->entries = NULL;
}

void
confirms_reset(struct confirms * c)
{
	c->first = c->next = c->hint = 1;
	c->unsettled = 0;
}

static bool
full(const struct confirms * c)
{
	return (c->next - c->first > c->mask);
}

bool
confirms_room(struct confirms * c)
{
	uint64_t size = 2 * (c->mask + 1);
	struct confirms_entry * entries;

	if (!full(c))
		return (true);
	if (size > c->size_max || (entries = reallocarray(NULL, size, sizeof(entries[0]))) == NULL)
		return (false);
	for (uint64_t tag = c->first; tag < c->next; tag++)
		entries[tag & (size - 1)] = c->entries[tag & c->mask];
	free(c->entries);
	c->entries = entries;
	c->mask = size - 1;
	return (true);
}

void
confirms_add(struct confirms * c, uint64_t ticket, const struct message * message)
{
	assert(!full(c));
	c->entries[c->next++ & c->mask] = (struct confirms_entry){.ticket = ticket,
	    .message = message};
	c->unsettled++;
}

bool
confirms_has_exchange(const struct confirms * c, struct bytes exchange)
{
	uint64_t tag;

	for (tag = c->first; tag < c->next; tag++) {
		const struct confirms_entry * entry = &c->entries[tag & c->mask];

		if (!entry->settled && bytes_equal(entry->message->exchange, exchange))
			return (true);
	}
	return (false);
}

/* Find ${id} among the tags [from, to) and mark it. */
static int
mark_returned(struct confirms * c, uint64_t from, uint64_t to, int64_t id, uint16_t code)
{
	uint64_t tag;

	for (tag = from; tag < to; tag++) {
		struct confirms_entry * entry = &c->entries[tag & c->mask];

		if (entry->settled || entry->message->id != id || entry->return_code != 0)
			continue;
		entry->return_code = code;
		c->hint = tag + 1;
		return (0);
	}
	return (-1);
}

int
confirms_return(struct confirms * c, int64_t id, uint16_t code)
{
	/* Returns come in the order of publishing, so behind the last one first. */
	if (c->hint < c->first || c->hint > c->next)
		c->hint = c->first;
	if (mark_returned(c, c->hint, c->next, id, code) == 0)
		return (0);
	return (mark_returned(c, c->first, c->hint, id, code));
}

static void
settle_one(struct confirms * c, uint64_t tag, bool nacked, confirms_settled * settled,
    void * context)
{
	struct confirms_entry entry = c->entries[tag & c->mask];

	if (entry.settled)
		return;
	c->entries[tag & c->mask].settled = true;
	c->unsettled--;
	while (c->first < c->next && c->entries[c->first & c->mask].settled)
		c->first++;
	settled(context, &entry, nacked);
}

int
confirms_settle(struct confirms * c, uint64_t tag, bool multiple, bool nacked,
    confirms_settled * settled, void * context)
{
	if (tag == 0 && multiple)
		tag = c->next - 1;
	if (tag >= c->next || (tag == 0 && !multiple))
		return (-1);
	if (multiple) {
		/* From first each time: it passes over what was settled out of
		 * order, whose entries the callback may have used anew. */
		while (c->first <= tag)
			settle_one(c, c->first, nacked, settled, context);
	} else if (tag >= c->first)
		settle_one(c, tag, nacked, settled, context);
	return (0);
}
