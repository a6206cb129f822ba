#ifndef AMQP_CHANNELS_H
#define AMQP_CHANNELS_H

#include <stdbool.h>
#include <stdint.h>

#include "amqp/confirms.h"
#include "amqp/session.h"

/*
 * What is unanswered on each channel of a link, and which channel a message
 * takes.  RabbitMQ serves a channel by one process, on one core at a time: with
 * several of them it confirms more messages a second.
 *
 * O: messages with the same ordering key take the same channel, in the order
 * published, and so do those without one.
 */
struct channels {
	struct confirms confirms[SESSION_CHANNELS_MAX]; /* of channel 1, 2, ... */
	uint16_t count;
};

/**
 * channels_init(c, count, window):
 * ${window} as for confirms_init, of each.  -1 when out of memory; channels_free
 * then, too.
 */
int channels_init(struct channels * c, uint16_t count, uint32_t window);

/**
 * channels_free(c):
 * Give the memory back.  Fine on zeros.
 */
void channels_free(struct channels * c);

/**
 * channels_confirms(c, channel):
 * Those of channel ${channel}, 1 to count.
 */
struct confirms * channels_confirms(struct channels * c, uint16_t channel);

/**
 * channels_choose(message, count):
 * The channel, of ${count}, that ${message} takes: that of its stripe.
 */
uint16_t channels_choose(const struct message * message, uint16_t count);

/**
 * channels_unsettled(c):
 * Messages of all channels.
 */
uint64_t channels_unsettled(const struct channels * c);

/**
 * channels_reset(c):
 * All channels are new.
 */
void channels_reset(struct channels * c);

#endif /* AMQP_CHANNELS_H */
