#include "core/discards.h"

void
discards_clear(struct discards * discards)
{
	for (size_t n = 0; n < discards->count; n++) {
		text_unref(discards->list[n].exchange);
		text_unref(discards->list[n].type);
		text_unref(discards->list[n].reason);
	}
	discards->count = 0;
}

void
discards_set(struct discards * discards, const struct discard * list, size_t count)
{
	discards_clear(discards);
	for (size_t n = 0; n < count && n < DISCARDS_MAX; n++) {
		struct kept_discard * kept = &discards->list[discards->count++];

		*kept = (struct kept_discard){
		    .exchange = text_new(list[n].exchange),
		    .type = text_new(list[n].type),
		    .reason = text_for_people(list[n].reason),
		    .created_before_s = list[n].created_before_s,
		    .max_id = list[n].max_id,
		};
		/* Never more than was meant. */
		if ((bytes_present(list[n].exchange) && kept->exchange == NULL) ||
		    (bytes_present(list[n].type) && kept->type == NULL))
			kept->max_id = INT64_MIN;
	}
}

static bool
is_meant(const struct kept_discard * kept, const struct message * message)
{
	return (message->origin != MESSAGE_SCHEDULED && message->id <= kept->max_id &&
	    message->timestamp_s < kept->created_before_s &&
	    (kept->exchange == NULL ||
		bytes_equal(text_bytes(kept->exchange), message->exchange)) &&
	    (kept->type == NULL ||
		(bytes_present(message->type) &&
		    bytes_equal(text_bytes(kept->type), message->type))));
}

const struct kept_discard *
discards_match(const struct discards * discards, const struct message * message)
{
	for (size_t n = 0; n < discards->count; n++) {
		if (is_meant(&discards->list[n], message))
			return (&discards->list[n]);
	}
	return (NULL);
}
