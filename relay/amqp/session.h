#ifndef AMQP_SESSION_H
#define AMQP_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "amqp/codec.h"
#include "amqp/outbound.h"
#include "amqp/rabbitmq.h"
#include "amqp/url.h"
#include "base/clock.h"
#include "base/error.h"

/*
 * The AMQP 0-9-1 conversation on one connection, apart from its socket: login,
 * channels in confirm mode, answers, the end.  Bytes that arrive are fed in;
 * bytes to send are appended to an outbound.
 *
 * Channels have the numbers 1 to channel_count.  They are opened together, and
 * the session is up while all of them are.
 */
#define SESSION_CHANNELS_MAX 8

enum session_phase {
	SESSION_START,      /* protocol header sent, waits for connection.start */
	SESSION_TUNE,       /* start-ok sent */
	SESSION_OPEN,       /* tune-ok and open sent */
	SESSION_CHANNEL,    /* channels are being opened, or replaced */
	SESSION_UP,         /* ready to publish */
	SESSION_NO_CHANNEL, /* the broker closed a channel: session_reopen */
	SESSION_CLOSING,    /* connection.close sent */
	SESSION_CLOSED      /* close-ok came */
};

/* For session_channels.c alone. */
struct session_channel {
	enum {
		CHANNEL_SHUT,
		CHANNEL_OPENING,   /* channel.open sent */
		CHANNEL_SELECTING, /* confirm.select (or tx.select) sent */
		CHANNEL_UP,
		CHANNEL_LEAVING /* channel.close sent: it is opened again */
	} state;
	uint16_t return_code; /* of the return whose header is awaited, or 0 */
	uint64_t return_left; /* bytes of its body still to come */
};

struct session_events {
	void (*up)(void * context);
	/* By the broker.  ${exchange} as reply_exchange. */
	void (*channel_closed)(void * context, uint16_t channel, const struct error * e,
	    struct bytes exchange);
	/* The connection is being closed over something that was published;
	 * session_input returns -1 with the same error. */
	void (*blamed)(void * context, const struct error * e);
	/* 0, or -1 with e set: the broker answered what was never asked. */
	int (*confirmed)(void * context, uint16_t channel, uint64_t tag, bool multiple, bool nacked,
	    struct error * e);
	int (*returned)(void * context, uint16_t channel, int64_t id, uint16_t code,
	    struct error * e);
	void (*blocked)(void * context, bool blocked, const char * reason);
	/* Any other method on a channel while the session is up; 0, or -1 with e set.  NULL:
	 * there is nothing that could be answered. */
	int (*answered)(void * context, const amqp_method_t * method, struct error * e);
};

struct session_options {
	const char * user;
	const char * password; /* only read in session_input's login */
	const char * vhost;
	const char * connection_name;
	bool external;
	uint32_t heartbeat_s;   /* asked for */
	uint16_t channel_count; /* asked for; 1 to SESSION_CHANNELS_MAX */
	bool transactional;     /* channels are in tx mode instead of confirm mode */
};

struct session {
	struct session_options options;
	const struct session_events * events;
	void * context;
	struct outbound * out;
	struct codec * codec; /* told the frame_max */
	amqp_connection_state_t decoder;
	enum session_phase phase;
	uint32_t heartbeat_s;   /* agreed upon, from SESSION_OPEN on */
	uint16_t channel_count; /* likewise */
	bool heard;             /* bytes have come */
	bool mid_frame;         /* the decoder has part of a frame */
	struct session_channel channels[SESSION_CHANNELS_MAX];
};

/**
 * session_begin(s, options, events, context, out, codec, e):
 * Begin a conversation; the protocol header goes to ${out}.  All pointers are
 * borrowed until session_end.
 */
int session_begin(struct session * s, const struct session_options * options,
    const struct session_events * events, void * context, struct outbound * out,
    struct codec * codec, struct error * e);

/**
 * session_end(s):
 * Free what the conversation needed.  Fine on zeros and twice.
 */
void session_end(struct session * s);

/**
 * session_input(s, data, size, e):
 * Bytes have arrived.  -1: the connection must be dropped, ${e} says why; send
 * what is in the outbound first, as far as that goes.
 */
int session_input(struct session * s, char * data, size_t size, struct error * e);

/**
 * session_lost(s, e):
 * The stream ended with ${e}: make it say what that means in this phase.
 */
void session_lost(const struct session * s, struct error * e);

/**
 * session_channel_up(s, channel):
 * Whether ${channel} is open and in its mode: in SESSION_NO_CHANNEL too it may
 * still answer.
 */
bool session_channel_up(const struct session * s, uint16_t channel);

/**
 * session_reopen(s):
 * Open again what the broker has closed, in SESSION_NO_CHANNEL.  up follows.  -1
 * when out of room.
 */
int session_reopen(struct session * s);

/**
 * session_renew(s):
 * Close all channels that are up and open others, in SESSION_UP or
 * SESSION_NO_CHANNEL; what the broker still says on them is passed over.  up
 * follows, after session_reopen where that is needed.  -1 when out of room.
 */
int session_renew(struct session * s);

/**
 * session_close(s, reason):
 * Say goodbye; ${reason} is cut at 255 bytes.  -1 when out of room.
 */
int session_close(struct session * s, const char * reason);

#endif /* AMQP_SESSION_H */
