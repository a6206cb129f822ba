#include "amqp/channels.h"

#include <assert.h>

int
channels_init(struct channels * c, uint16_t count, uint32_t window)
{
	assert(count > 0 && count <= SESSION_CHANNELS_MAX);
	*c = (struct channels){.count = count};
	for (uint16_t i = 0; i < count; i++) {
		if (confirms_init(&c->confirms[i], window))
			return (-1);
	}
	return (0);
}

void
channels_free(struct channels * c)
{
	for (uint16_t i = 0; i < c->count; i++)
		confirms_free(&c->confirms[i]);
}

struct confirms *
channels_confirms(struct channels * c, uint16_t channel)
{
	assert(channel > 0 && channel <= c->count);
	return (&c->confirms[channel - 1]);
}

uint16_t
channels_choose(const struct message * message, uint16_t count)
{
	return ((uint16_t)(1 + message_stripe(message) % count));
}

uint64_t
channels_unsettled(const struct channels * c)
{
	uint64_t unsettled = 0;

	for (uint16_t i = 0; i < c->count; i++)
		unsettled += c->confirms[i].unsettled;
	return (unsettled);
}

void
channels_reset(struct channels * c)
{
	for (uint16_t i = 0; i < c->count; i++)
		confirms_reset(&c->confirms[i]);
}
