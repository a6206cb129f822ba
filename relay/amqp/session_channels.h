#ifndef AMQP_SESSION_CHANNELS_H
#define AMQP_SESSION_CHANNELS_H

#include "amqp/rabbitmq.h"
#include "amqp/reply.h"
#include "amqp/session.h"
#include "base/error.h"

/* The channels of a session; private to it. */

#define SESSION_CONFIRM_FRAME 21 /* bytes of a basic.ack or basic.nack frame */

/**
 * session_open_channels(s):
 * Open all that are shut: SESSION_CHANNEL.  -1 when out of room.
 */
int session_open_channels(struct session * s);

/**
 * session_on_channel_frame(s, frame, e):
 * A frame on one of the channels.  -1 with ${e} as session_input.
 */
int session_on_channel_frame(struct session * s, const amqp_frame_t * frame, struct error * e);

/**
 * session_on_confirm(s, data, size, e):
 * Confirms come by the ten thousand and all look alike.  If ${data} begins with
 * a whole frame of that kind, SESSION_CONFIRM_FRAME bytes, it is done and the
 * answer is 1; 0: something else; -1 with ${e} as session_input.
 */
int session_on_confirm(struct session * s, const char * data, size_t size, struct error * e);

/* Of session.c, for all of its parts. */

/**
 * session_reply(s, code, text):
 * What the broker gave as its reason, in this phase.
 */
struct reply session_reply(const struct session * s, uint16_t code, amqp_bytes_t text);

/**
 * session_unexpected(s, id, e):
 * -1 with ${e}: ${id} means nothing in this phase.
 */
int session_unexpected(const struct session * s, uint32_t id, struct error * e);

#endif /* AMQP_SESSION_CHANNELS_H */
