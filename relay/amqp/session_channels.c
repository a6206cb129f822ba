#include "amqp/session_channels.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

#include "amqp/codec.h"
#include "amqp/session_login.h"

/*
 * Channels open, close and answer each by itself; the phase says how they stand
 * together.
 *
 * What must stay true: frames of different channels may come between a return
 * and its body, so each channel remembers its own.  A channel that the broker
 * has closed says nothing more; one that we close may, and is not listened to.
 */

static struct session_channel *
find(struct session * s, uint16_t channel)
{
	assert(channel > 0 && channel <= s->channel_count);
	return (&s->channels[channel - 1]);
}

bool
session_channel_up(const struct session * s, uint16_t channel)
{
	return (s->channels[channel - 1].state == CHANNEL_UP);
}

/* ---- opening ---- */

static int
open_channel(struct session * s, uint16_t channel)
{
	amqp_channel_open_t open = {.out_of_band = rabbitmq_text("")};

	if (codec_method(s->out, channel, AMQP_CHANNEL_OPEN_METHOD, &open))
		return (-1);
	*find(s, channel) = (struct session_channel){.state = CHANNEL_OPENING};
	return (0);
}

int
session_open_channels(struct session * s)
{
	for (uint16_t channel = 1; channel <= s->channel_count; channel++) {
		if (find(s, channel)->state == CHANNEL_SHUT && open_channel(s, channel))
			return (-1);
	}
	s->phase = SESSION_CHANNEL;
	return (0);
}

int
session_reopen(struct session * s)
{
	assert(s->phase == SESSION_NO_CHANNEL);
	return (session_open_channels(s));
}

int
session_renew(struct session * s)
{
	amqp_channel_close_t close = {.reply_code = AMQP_REPLY_SUCCESS,
	    .reply_text = rabbitmq_text("another one follows")};

	assert(s->phase == SESSION_UP || s->phase == SESSION_NO_CHANNEL);
	for (uint16_t channel = 1; channel <= s->channel_count; channel++) {
		if (find(s, channel)->state != CHANNEL_UP)
			continue;
		if (codec_method(s->out, channel, AMQP_CHANNEL_CLOSE_METHOD, &close))
			return (-1);
		find(s, channel)->state = CHANNEL_LEAVING;
	}
	if (s->phase == SESSION_UP)
		s->phase = SESSION_CHANNEL;
	return (0);
}

static int
on_open(struct session * s, uint16_t channel, struct error * e)
{
	amqp_confirm_select_t confirm = {.nowait = 0};
	amqp_tx_select_t tx = {0};

	if (s->options.transactional ?
		codec_method(s->out, channel, AMQP_TX_SELECT_METHOD, &tx) :
		codec_method(s->out, channel, AMQP_CONFIRM_SELECT_METHOD, &confirm))
		return (session_no_room(e));
	find(s, channel)->state = CHANNEL_SELECTING;
	return (0);
}

static int
on_selected(struct session * s, uint16_t channel)
{
	find(s, channel)->state = CHANNEL_UP;
	if (s->phase != SESSION_CHANNEL)
		return (0);
	for (uint16_t other = 1; other <= s->channel_count; other++) {
		if (!session_channel_up(s, other))
			return (0);
	}
	s->phase = SESSION_UP;
	s->events->up(s->context);
	return (0);
}

/* ---- the end of one ---- */

static int
on_close(struct session * s, uint16_t channel, const amqp_channel_close_t * close, struct error * e)
{
	struct reply reply = session_reply(s, close->reply_code, close->reply_text);
	amqp_channel_close_ok_t ok = {0};
	struct error reason;

	/* Messages that wait in the outbound go before it; a broker drops
	 * whatever comes on a closed channel until this arrives. */
	if (codec_method(s->out, channel, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok))
		return (session_no_room(e));
	/* It crossed ours on the wire, which is still to be answered. */
	if (s->phase == SESSION_CLOSING || find(s, channel)->state == CHANNEL_LEAVING)
		return (0);
	reply_explain(&reply, &reason);
	*find(s, channel) = (struct session_channel){.state = CHANNEL_SHUT};
	s->phase = SESSION_NO_CHANNEL;
	s->events->channel_closed(s->context, channel, &reason, reply_exchange(&reply));
	return (0);
}

/* ---- answers ---- */

static int
on_method(struct session * s, uint16_t channel, const amqp_method_t * method, struct error * e)
{
	struct session_channel * c = find(s, channel);

	switch (method->id) {
	case AMQP_CHANNEL_OPEN_OK_METHOD:
		if (c->state == CHANNEL_OPENING)
			return (on_open(s, channel, e));
		break;
	case AMQP_TX_SELECT_OK_METHOD:
	case AMQP_CONFIRM_SELECT_OK_METHOD:
		if (c->state == CHANNEL_SELECTING)
			return (on_selected(s, channel));
		break;
	case AMQP_CHANNEL_CLOSE_METHOD:
		return (on_close(s, channel, method->decoded, e));
	case AMQP_CHANNEL_CLOSE_OK_METHOD:
		if (c->state == CHANNEL_LEAVING)
			return (open_channel(s, channel) ? session_no_room(e) : 0);
		break;
	case AMQP_BASIC_ACK_METHOD: {
		const amqp_basic_ack_t * ack = method->decoded;

		if (c->state == CHANNEL_UP)
			return (s->events->confirmed(s->context, channel, ack->delivery_tag,
			    ack->multiple != 0, false, e));
		break;
	}
	case AMQP_BASIC_NACK_METHOD: {
		const amqp_basic_nack_t * nack = method->decoded;

		if (c->state == CHANNEL_UP)
			return (s->events->confirmed(s->context, channel, nack->delivery_tag,
			    nack->multiple != 0, true, e));
		break;
	}
	case AMQP_BASIC_RETURN_METHOD: {
		const amqp_basic_return_t * returned = method->decoded;

		if ((c->state != CHANNEL_UP && c->state != CHANNEL_LEAVING) ||
		    c->return_code != 0 || returned->reply_code == 0)
			break;
		c->return_code = returned->reply_code;
		return (0);
	}
	default:
		if (s->phase == SESSION_UP && s->events->answered != NULL)
			return (s->events->answered(s->context, method, e));
		break;
	}
	/* What crossed our close on the wire means nothing any more. */
	if (s->phase == SESSION_CLOSING || c->state == CHANNEL_LEAVING)
		return (0);
	return (session_unexpected(s, method->id, e));
}

/* The header of a returned message tells which one it is. */
static int
on_header(struct session * s, uint16_t channel, const amqp_frame_t * frame, struct error * e)
{
	struct session_channel * c = find(s, channel);
	uint16_t code = c->return_code;
	int64_t id;

	if (code == 0)
		return (session_unexpected(s, frame->payload.properties.class_id, e));
	c->return_code = 0;
	c->return_left = frame->payload.properties.body_size;
	if (c->state == CHANNEL_LEAVING)
		return (0);
	if (codec_returned_id(frame->payload.properties.decoded, &id))
		return (error_set(e, EXIT_UNREACHABLE,
		    "the broker returned a message without its header x-outbox-id"));
	return (s->events->returned(s->context, channel, id, code, e));
}

static int
on_body(struct session * s, uint16_t channel, const amqp_frame_t * frame, struct error * e)
{
	struct session_channel * c = find(s, channel);

	if (frame->payload.body_fragment.len > c->return_left)
		return (session_unexpected(s, frame->frame_type, e));
	c->return_left -= frame->payload.body_fragment.len;
	return (0);
}

int
session_on_channel_frame(struct session * s, const amqp_frame_t * frame, struct error * e)
{
	switch (frame->frame_type) {
	case AMQP_FRAME_METHOD:
		return (on_method(s, frame->channel, &frame->payload.method, e));
	case AMQP_FRAME_HEADER:
		return (on_header(s, frame->channel, frame, e));
	case AMQP_FRAME_BODY:
		return (on_body(s, frame->channel, frame, e));
	default:
		return (session_unexpected(s, frame->frame_type, e));
	}
}

/*
 * Frame type, channel, 13 bytes: method id, tag, flags.  Reading them here costs
 * a tenth of amqp_handle_input.
 */
int
session_on_confirm(struct session * s, const char * data, size_t size, struct error * e)
{
	static const char rest[] = {0, 0, 0, 13, 0, 60, 0};
	uint16_t channel;
	uint64_t tag;

	if (size < SESSION_CONFIRM_FRAME || data[0] != AMQP_FRAME_METHOD ||
	    memcmp(data + 3, rest, sizeof(rest)) != 0 || (data[10] != 80 && data[10] != 120) ||
	    (unsigned char)data[20] != AMQP_FRAME_END)
		return (0);
	memcpy(&channel, data + 1, sizeof(channel));
	channel = be16toh(channel);
	if (channel == 0 || channel > s->channel_count || !session_channel_up(s, channel))
		return (0);
	memcpy(&tag, data + 11, sizeof(tag));
	return (s->events->confirmed(s->context, channel, be64toh(tag), (data[19] & 1) != 0,
		    data[10] == 120, e) ?
		-1 :
		1);
}
