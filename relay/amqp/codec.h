#ifndef AMQP_CODEC_H
#define AMQP_CODEC_H

#include <stdbool.h>
#include <stdint.h>

#include "amqp/cloudevents.h"
#include "amqp/headers.h"
#include "amqp/link.h"
#include "amqp/outbound.h"
#include "amqp/rabbitmq.h"

/*
 * From messages and methods to AMQP 0-9-1 frames.
 *
 * Every message bears the header x-outbox-id (its id, by which a return is
 * matched), and x-ordering-key if it has an ordering key.
 */
#define CODEC_COPY_MAX 8192 /* bodies up to this size are copied into the buffer */

struct codec {
	uint32_t frame_max; /* as negotiated */
	bool mandatory;
	const char * cloudevents; /* their source; NULL: messages are not CloudEvents */
	struct headers headers;
};

/**
 * codec_init(codec, mandatory, cloudevents):
 * ${cloudevents} is borrowed.  frame_max comes with the session.
 */
void codec_init(struct codec * codec, bool mandatory, const char * cloudevents);

/**
 * codec_publish(codec, out, channel, message, e):
 * Append basic.publish, header and body of ${message}, wholly or not at all.
 * LINK_FULL when ${out} has no room or memory is out; LINK_UNFIT with ${e} naming the field.
 */
enum link_publish_result codec_publish(struct codec * codec, struct outbound * out,
    uint16_t channel, const struct message * message, struct error * e);

/**
 * codec_method(out, channel, id, method):
 * Append a method frame of at most 4096 bytes (AMQP's least frame_max).  -1
 * when it does not fit or ${out} has no room.
 */
int codec_method(struct outbound * out, uint16_t channel, amqp_method_number_t id, void * method);

/**
 * codec_heartbeat(out) / codec_protocol_header(out):
 * As codec_method.
 */
int codec_heartbeat(struct outbound * out);
int codec_protocol_header(struct outbound * out);

/**
 * codec_returned_id(properties, id):
 * Read x-outbox-id from a returned message.  -1 when it has none.
 */
int codec_returned_id(const amqp_basic_properties_t * properties, int64_t * id);

/**
 * codec_free(codec):
 * Give scratch memory back.
 */
void codec_free(struct codec * codec);

#endif /* AMQP_CODEC_H */
