#include "amqp/session.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "amqp/reply.h"
#include "amqp/session_channels.h"
#include "amqp/session_login.h"

/*
 * rabbitmq-c decodes; this file decides what each frame means in each phase.
 *
 * What must stay true: after a decode error, and after any -1, the decoder is
 * not fed again (rabbitmq-c#837: its state is poisoned).  Nothing that was
 * decoded is kept beyond its frame, so the decoder's memory is released after
 * each whole frame, and a returned body of 100 MiB costs one frame at a time.
 */
#define REASON_MAX 255 /* bytes of a reply text */

int
session_begin(struct session * s, const struct session_options * options,
    const struct session_events * events, void * context, struct outbound * out,
    struct codec * codec, struct error * e)
{
	assert(options->channel_count > 0 && options->channel_count <= SESSION_CHANNELS_MAX);
	*s = (struct session){.options = *options,
	    .events = events,
	    .context = context,
	    .out = out,
	    .codec = codec,
	    .channel_count = options->channel_count,
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

/* ---- the end ---- */

struct reply
session_reply(const struct session * s, uint16_t code, amqp_bytes_t text)
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

int
session_unexpected(const struct session * s, uint32_t id, struct error * e)
{
	const char * name = amqp_method_name(id);

	return (error_set(e, EXIT_UNREACHABLE,
	    "unexpected frame %s (0x%08x) from the broker in "
	    "phase %d",
	    name == NULL ? "" : name, (unsigned int)id, (int)s->phase));
}

static int
on_connection_close(struct session * s, const amqp_connection_close_t * close, struct error * e)
{
	amqp_connection_close_ok_t ok = {0};

	struct reply reply = session_reply(s, close->reply_code, close->reply_text);

	reply_explain(&reply, e);
	(void)codec_method(s->out, 0, AMQP_CONNECTION_CLOSE_OK_METHOD, &ok);
	if (s->phase == SESSION_UP && reply_blames_message(reply.code))
		s->events->blamed(s->context, e);
	return (-1);
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
			return (session_open_channels(s) ? session_no_room(e) : 0);
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
	return (session_unexpected(s, method->id, e));
}

static int
on_frame(struct session * s, const amqp_frame_t * frame, struct error * e)
{
	if (frame->frame_type == AMQP_FRAME_HEARTBEAT)
		return (0);
	if (frame->channel > s->channel_count)
		return (error_set(e, EXIT_UNREACHABLE, "a frame on channel %u, which is not open",
		    (unsigned int)frame->channel));
	if (frame->channel > 0)
		return (session_on_channel_frame(s, frame, e));
	if (frame->frame_type == AMQP_FRAME_METHOD)
		return (on_connection_method(s, &frame->payload.method, e));
	return (session_unexpected(s, frame->frame_type, e));
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
			if ((rc = session_on_confirm(s, data, size, e)) < 0)
				return (-1);
			if (rc > 0) {
				data += SESSION_CONFIRM_FRAME;
				size -= SESSION_CONFIRM_FRAME;
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
