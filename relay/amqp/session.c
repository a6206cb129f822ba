#include "amqp/session.h"

#include <assert.h>
#include <endian.h>
#include <stdio.h>
#include <string.h>

#include "amqp/reply.h"
#include "amqp/session_login.h"

/*
 * rabbitmq-c decodes; this file decides what each frame means in each phase.
 *
 * What must stay true: after a decode error, and after any -1, the decoder is
 * not fed again (rabbitmq-c#837: its state is poisoned).  Nothing that was
 * decoded is kept beyond its frame, so the decoder's memory is released after
 * each whole frame, and a returned body of 100 MiB costs one frame at a time.
 */
#define CONFIRM_FRAME 21 /* bytes of a basic.ack or basic.nack frame */
#define REASON_MAX 255   /* bytes of a reply text */

int
session_begin(struct session * s, const struct session_options * options,
    const struct session_events * events, void * context, struct outbound * out,
    struct codec * codec, struct error * e)
{
	*s = (struct session){.options = *options,
	    .events = events,
	    .context = context,
	    .out = out,
	    .codec = codec,
	    .phase = SESSION_START};
	codec->frame_max = SESSION_FRAME_LEAST;
	if ((s->decoder = amqp_new_connection()) == NULL)
		return (error_set(e, EXIT_BUG, "out of memory"));
	if (codec_protocol_header(out))
		return (session_no_room(e));
	return (0);
}

void
session_end(struct session * s)
{
	if (s->decoder != NULL)
		amqp_destroy_connection(s->decoder);
	s->decoder = NULL;
}

/* ---- the channel ---- */

static int
open_channel(struct session * s)
{
	amqp_channel_open_t open = {.out_of_band = rabbitmq_text("")};

	if (codec_method(s->out, CODEC_CHANNEL, AMQP_CHANNEL_OPEN_METHOD, &open))
		return (-1);
	s->phase = SESSION_CHANNEL;
	return (0);
}

int
session_reopen(struct session * s)
{
	assert(s->phase == SESSION_NO_CHANNEL);
	return (open_channel(s));
}

int
session_renew(struct session * s)
{
	amqp_channel_close_t close = {.reply_code = AMQP_REPLY_SUCCESS,
	    .reply_text = rabbitmq_text("another one follows")};

	assert(s->phase == SESSION_UP);
	if (codec_method(s->out, CODEC_CHANNEL, AMQP_CHANNEL_CLOSE_METHOD, &close))
		return (-1);
	s->phase = SESSION_LEAVING;
	return (0);
}

static int
on_channel_open(struct session * s, struct error * e)
{
	amqp_confirm_select_t confirm = {.nowait = 0};
	amqp_tx_select_t tx = {0};

	if (s->options.transactional ?
		codec_method(s->out, CODEC_CHANNEL, AMQP_TX_SELECT_METHOD, &tx) :
		codec_method(s->out, CODEC_CHANNEL, AMQP_CONFIRM_SELECT_METHOD, &confirm))
		return (session_no_room(e));
	s->phase = SESSION_CONFIRM;
	return (0);
}

/* ---- the end ---- */

static struct reply
broker_reply(const struct session * s, uint16_t code, amqp_bytes_t text)
{
	return ((struct reply){.code = code,
	    .text = {text.bytes, text.len},
	    .phase = s->phase <= SESSION_TUNE ? REPLY_LOGIN :
		s->phase == SESSION_OPEN      ? REPLY_VHOST :
						REPLY_LATER,
	    .external = s->options.external,
	    .user = s->options.user,
	    .vhost = s->options.vhost});
}

static int
on_connection_close(struct session * s, const amqp_connection_close_t * close, struct error * e)
{
	amqp_connection_close_ok_t ok = {0};

	struct reply reply = broker_reply(s, close->reply_code, close->reply_text);

	reply_explain(&reply, e);
	(void)codec_method(s->out, 0, AMQP_CONNECTION_CLOSE_OK_METHOD, &ok);
	if (s->phase == SESSION_UP && reply_blames_message(reply.code))
		s->events->blamed(s->context, e);
	return (-1);
}

static int
on_channel_close(struct session * s, const amqp_channel_close_t * close, struct error * e)
{
	struct reply reply = broker_reply(s, close->reply_code, close->reply_text);
	amqp_channel_close_ok_t ok = {0};
	struct error reason;

	/* Messages that wait in the outbound go before it; a broker drops
	 * whatever comes on a closed channel until this arrives. */
	if (codec_method(s->out, CODEC_CHANNEL, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok))
		return (session_no_room(e));
	/* It crossed ours on the wire, which is still to be answered. */
	if (s->phase == SESSION_CLOSING || s->phase == SESSION_LEAVING)
		return (0);
	reply_explain(&reply, &reason);
	s->phase = SESSION_NO_CHANNEL;
	s->return_code = 0;
	s->return_left = 0;
	s->events->channel_closed(s->context, &reason, reply_exchange(&reply));
	return (0);
}

int
session_close(struct session * s, const char * reason)
{
	amqp_connection_close_t close = {.reply_code = AMQP_REPLY_SUCCESS,
	    .reply_text = rabbitmq_text(reason)};

	if (close.reply_text.len > REASON_MAX)
		close.reply_text.len = REASON_MAX;
	if (codec_method(s->out, 0, AMQP_CONNECTION_CLOSE_METHOD, &close))
		return (-1);
	s->phase = SESSION_CLOSING;
	return (0);
}

void
session_lost(const struct session * s, struct error * e)
{
	/* TLS knows better: a client certificate may be refused only now. */
	if (e->code != EXIT_UNREACHABLE)
		return;
	switch (s->phase) {
	case SESSION_START:
		if (s->heard)
			break;
		error_set(e, EXIT_UNREACHABLE, "the broker closed the connection before it spoke");
		error_remedy(e, "is this port AMQP, and does it ask for TLS (amqps://)?");
		break;
	case SESSION_TUNE:
		error_set(e, EXIT_UNREACHABLE, "the broker closed the connection during login");
		error_remedy(e,
		    "correct the user or password (rabbitmq.urls, "
		    "rabbitmq.password_file)");
		break;
	case SESSION_OPEN:
		error_set(e, EXIT_UNREACHABLE,
		    "the broker closed the connection when the vhost "
		    "was opened");
		error_remedy(e, "does the vhost \"%s\" exist, and may \"%s\" use it?",
		    s->options.vhost, s->options.user);
		break;
	default:
		break;
	}
}

/* ---- frames ---- */

static int
on_blocked(struct session * s, const amqp_connection_blocked_t * blocked)
{
	char reason[256];

	(void)snprintf(reason, sizeof(reason), "%.*s", (int)blocked->reason.len,
	    (const char *)blocked->reason.bytes);
	s->events->blocked(s->context, true, reason);
	return (0);
}

static int
unexpected(const struct session * s, uint32_t id, struct error * e)
{
	const char * name = amqp_method_name(id);

	return (error_set(e, EXIT_UNREACHABLE,
	    "unexpected frame %s (0x%08x) from the broker in "
	    "phase %d",
	    name == NULL ? "" : name, (unsigned int)id, (int)s->phase));
}

static bool
publishing(const struct session * s)
{
	return (s->phase == SESSION_UP || s->phase == SESSION_CLOSING);
}

static int
on_connection_method(struct session * s, const amqp_method_t * method, struct error * e)
{
	switch (method->id) {
	case AMQP_CONNECTION_START_METHOD:
		if (s->phase == SESSION_START)
			return (session_on_start(s, method->decoded, e));
		break;
	case AMQP_CONNECTION_TUNE_METHOD:
		if (s->phase == SESSION_TUNE)
			return (session_on_tune(s, method->decoded, e));
		break;
	case AMQP_CONNECTION_OPEN_OK_METHOD:
		if (s->phase == SESSION_OPEN)
			return (open_channel(s) ? session_no_room(e) : 0);
		break;
	case AMQP_CONNECTION_CLOSE_METHOD:
		return (on_connection_close(s, method->decoded, e));
	case AMQP_CONNECTION_CLOSE_OK_METHOD:
		if (s->phase != SESSION_CLOSING)
			break;
		s->phase = SESSION_CLOSED;
		return (0);
	case AMQP_CONNECTION_BLOCKED_METHOD:
		return (on_blocked(s, method->decoded));
	case AMQP_CONNECTION_UNBLOCKED_METHOD:
		s->events->blocked(s->context, false, "");
		return (0);
	default:
		break;
	}
	return (unexpected(s, method->id, e));
}

static int
on_channel_method(struct session * s, const amqp_method_t * method, struct error * e)
{
	switch (method->id) {
	case AMQP_CHANNEL_OPEN_OK_METHOD:
		if (s->phase == SESSION_CHANNEL)
			return (on_channel_open(s, e));
		break;
	case AMQP_TX_SELECT_OK_METHOD:
	case AMQP_CONFIRM_SELECT_OK_METHOD:
		if (s->phase != SESSION_CONFIRM)
			break;
		s->phase = SESSION_UP;
		s->events->up(s->context);
		return (0);
	case AMQP_CHANNEL_CLOSE_METHOD:
		return (on_channel_close(s, method->decoded, e));
	case AMQP_CHANNEL_CLOSE_OK_METHOD:
		if (s->phase == SESSION_LEAVING)
			return (open_channel(s) ? session_no_room(e) : 0);
		break;
	case AMQP_BASIC_ACK_METHOD: {
		const amqp_basic_ack_t * ack = method->decoded;

		if (publishing(s))
			return (s->events->confirmed(s->context, ack->delivery_tag,
			    ack->multiple != 0, false, e));
		break;
	}
	case AMQP_BASIC_NACK_METHOD: {
		const amqp_basic_nack_t * nack = method->decoded;

		if (publishing(s))
			return (s->events->confirmed(s->context, nack->delivery_tag,
			    nack->multiple != 0, true, e));
		break;
	}
	case AMQP_BASIC_RETURN_METHOD: {
		const amqp_basic_return_t * returned = method->decoded;

		if (!publishing(s) || s->return_code != 0 || returned->reply_code == 0)
			break;
		s->return_code = returned->reply_code;
		return (0);
	}
	default:
		if (s->phase == SESSION_UP && s->events->answered != NULL)
			return (s->events->answered(s->context, method, e));
		break;
	}
	/* What crossed our connection.close on the wire means nothing any more. */
	return (s->phase == SESSION_CLOSING ? 0 : unexpected(s, method->id, e));
}

/* The header of a returned message tells which one it is. */
static int
on_header(struct session * s, const amqp_frame_t * frame, struct error * e)
{
	uint16_t code = s->return_code;
	int64_t id;

	if (code == 0)
		return (unexpected(s, frame->payload.properties.class_id, e));
	s->return_code = 0;
	s->return_left = frame->payload.properties.body_size;
	if (codec_returned_id(frame->payload.properties.decoded, &id))
		return (error_set(e, EXIT_UNREACHABLE,
		    "the broker returned a message without its header x-outbox-id"));
	return (s->events->returned(s->context, id, code, e));
}

static int
on_frame(struct session * s, const amqp_frame_t * frame, struct error * e)
{
	if (frame->frame_type == AMQP_FRAME_HEARTBEAT)
		return (0);
	if (frame->channel > CODEC_CHANNEL)
		return (error_set(e, EXIT_UNREACHABLE, "a frame on channel %u, which is not open",
		    (unsigned int)frame->channel));
	switch (frame->frame_type) {
	case AMQP_FRAME_METHOD:
		if (frame->channel == 0)
			return (on_connection_method(s, &frame->payload.method, e));
		return (on_channel_method(s, &frame->payload.method, e));
	case AMQP_FRAME_HEADER:
		return (on_header(s, frame, e));
	case AMQP_FRAME_BODY:
		if (frame->payload.body_fragment.len > s->return_left)
			return (unexpected(s, frame->frame_type, e));
		s->return_left -= frame->payload.body_fragment.len;
		return (0);
	default:
		return (unexpected(s, frame->frame_type, e));
	}
}

/*
 * Confirms come by the ten thousand and all look alike: frame type 1, our
 * channel, 13 bytes: method id, tag, flags.  Decoding them here costs a tenth
 * of amqp_handle_input.  Returns 1: done, 0: something else, -1.
 */
static int
confirm_frame(struct session * s, const char * data, size_t size, struct error * e)
{
	static const char head[] = {AMQP_FRAME_METHOD, 0, CODEC_CHANNEL, 0, 0, 0, 13, 0, 60, 0};
	uint64_t tag;
	bool nacked;

	if (size < CONFIRM_FRAME || memcmp(data, head, sizeof(head)) != 0 ||
	    (data[10] != 80 && data[10] != 120) || (unsigned char)data[20] != AMQP_FRAME_END ||
	    !publishing(s))
		return (0);
	nacked = data[10] == 120;
	memcpy(&tag, data + 11, sizeof(tag));
	return (s->events->confirmed(s->context, be64toh(tag), (data[19] & 1) != 0, nacked, e) ?
		-1 :
		1);
}

/* Somebody else than an AMQP 0-9-1 broker answers. */
static int
check_first(const char * data, struct error * e)
{
	switch (data[0]) {
	case AMQP_FRAME_METHOD:
		return (0);
	case 0x15:
	case 0x16:
		error_set(e, EXIT_CONFIGURATION, "the answer is TLS, not AMQP");
		return (error_remedy(e, "this port speaks TLS: write amqps:// in the url"));
	case 'A':
		return (error_set(e, EXIT_UNREACHABLE, "the broker does not speak AMQP 0-9-1"));
	case 'H':
		error_set(e, EXIT_CONFIGURATION, "the answer is HTTP, not AMQP");
		return (error_remedy(e, "name the AMQP port, usually 5672, in the url"));
	default:
		return (error_set(e, EXIT_UNREACHABLE, "the answer is not AMQP"));
	}
}

int
session_input(struct session * s, char * data, size_t size, struct error * e)
{
	amqp_frame_t frame;
	int rc;

	if (!s->heard && size > 0) {
		if (check_first(data, e))
			return (-1);
		s->heard = true;
	}
	while (size > 0 && s->phase != SESSION_CLOSED) {
		if (!s->mid_frame) {
			if ((rc = confirm_frame(s, data, size, e)) < 0)
				return (-1);
			if (rc > 0) {
				data += CONFIRM_FRAME;
				size -= CONFIRM_FRAME;
				continue;
			}
		}
		rc = amqp_handle_input(s->decoder, (amqp_bytes_t){.len = size, .bytes = data},
		    &frame);
		if (rc < 0 || (rc == 0 && frame.frame_type == 0))
			return (error_set(e, EXIT_UNREACHABLE,
			    "the broker sent what is not AMQP: %s", amqp_error_string2(rc)));
		data += rc;
		size -= (size_t)rc;
		s->mid_frame = frame.frame_type == 0;
		if (s->mid_frame)
			continue;
		if (on_frame(s, &frame, e))
			return (-1);
		amqp_maybe_release_buffers(s->decoder);
	}
	return (0);
}
