#ifndef AMQP_LINK_H
#define AMQP_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/error.h"
#include "core/message.h"

/*
 * One connection to RabbitMQ with channels in confirm mode, kept up: it
 * connects, connects again after a loss (backoff with jitter, a full pass
 * over all urls before each long sleep), sends heartbeats and notices their
 * absence.  Nothing here ever blocks but the resolver.
 *
 * The socket is ours; rabbitmq-c serves as the codec.  Messages are encoded
 * into one buffer and sent once a turn; a body above a few KiB goes straight
 * from the batch, frame by frame.
 *
 * Every message taken gets exactly one answer: a settled event for its
 * ticket, or the down event that covers all that were not settled.
 */
struct link;

struct link_options {
	const char * const * urls; /* amqp:// or amqps://, validated; kept, not copied */
	size_t url_count;
	const char * password_file; /* read at each attempt; NULL: from the url */
	bool external_auth;         /* EXTERNAL: who we are stands in the client certificate */
	uint32_t heartbeat_s;       /* asked for; 0 = off */
	clock_ns connect_timeout;   /* for one url: TCP, TLS and login */
	bool mandatory;
	const char * cloudevents;     /* their source; NULL: messages are not CloudEvents */
	const char * connection_name; /* shown in RabbitMQ's management */
	uint32_t window;              /* most unsettled messages; bounds memory */
	uint16_t channels;            /* wished for; a broker that allows less gets one */
	size_t send_buffer_max;       /* full above this many bytes not yet sent */
	struct link_tls {
		const char * ca_file; /* NULL: the system's */
		const char * cert_file;
		const char * key_file;
		const char * server_name; /* NULL: the url's host */
	} tls;
	uint64_t seed;
};

/*
 * What the link tells its owner, from inside link_turn and link_publish
 * never, from link_turn only.  text pointers live for the call.
 */
enum link_outcome { LINK_CONFIRMED, LINK_NACKED, LINK_RETURNED };

struct link_events {
	/* Connected, channels open, confirms on. */
	void (*up)(void * context, const char * peer);
	/* Was up, or an attempt failed; all unsettled messages are off our hands
	 * (the broker may or may not have them).  e says why; the next attempt
	 * follows by itself after retry_in. */
	void (*down)(void * context, const struct error * e, clock_ns retry_in);
	/* Exactly once for a ticket.  e: NULL when confirmed. */
	void (*settled)(void * context, uint64_t ticket, enum link_outcome outcome,
	    const struct error * e);
	/* The broker closed a channel (404, 403, 406, ...), or the connection
	 * (501, 541, ...), because of something that was published: all unsettled
	 * messages are off our hands, as for down.  ${exchange}: the broker named
	 * it, and messages for it were among them; else BYTES_NONE.  After a closed
	 * channel, what other channels have in flight is waited for a moment, and
	 * only then is this told; a new one is opened on the same connection and up
	 * follows.  A closed connection's down event follows at once, as does that of
	 * one that ends meanwhile. */
	void (*channel_closed)(void * context, const struct error * e, struct bytes exchange);
	/* connection.blocked / unblocked; also false just before down, if it was
	 * true. */
	void (*blocked)(void * context, bool blocked, const char * reason);
};

/* What link_publish says. */
enum link_publish_result {
	LINK_TAKEN, /* exactly one answer will follow */
	LINK_FULL,  /* not taken; ask again after a turn */
	LINK_UNFIT  /* not taken and never will be: AMQP cannot carry it;
	                           the error names the field */
};

/**
 * link_new(options, events, context):
 * Connects at the first link_turn.  Keeps all three pointers' contents by
 * value, but the strings inside options are borrowed for the link's life.
 * NULL with ${e} set when a TLS file is unusable or memory is out.
 */
struct link * link_new(const struct link_options * options, const struct link_events * events,
    void * context, struct error * e);

/**
 * link_free(link):
 * Drops the connection at once.  NULL is fine.
 */
void link_free(struct link * link);

/**
 * link_fd(link) / link_poll_events(link):
 * What to poll: -1 while there is no socket; POLLIN and POLLOUT as wanted.
 * Both change with every turn.
 */
int link_fd(const struct link * link);
short link_poll_events(const struct link * link);

/**
 * link_deadline(link):
 * When link_turn must be called although the socket is silent.
 */
clock_ns link_deadline(const struct link * link);

/**
 * link_turn(link, now, revents):
 * Read, settle, do what is due, send what is buffered.  ${revents} as poll
 * gave them (0: only time has passed).  Calls events; they may call
 * link_publish but no other function of the link.
 */
void link_turn(struct link * link, clock_ns now, short revents);

/**
 * link_publish(link, message, ticket, e):
 * Encode ${message} behind what is not yet sent.  Only while up.  The message
 * is borrowed until it is settled or the link is down; its memory must stay.
 * Little goes out before link_flush or link_turn: each time 64 KiB have
 * gathered, what the socket takes is sent, so that the broker begins early.
 * A body that is not copied keeps its batch by itself until it is sent.
 */
enum link_publish_result link_publish(struct link * link, const struct message * message,
    uint64_t ticket, struct error * e);

/**
 * link_flush(link, now):
 * Send what is buffered, as far as the socket takes it.  Call once after a
 * run of link_publish, never while this relay may not publish.
 */
void link_flush(struct link * link, clock_ns now);

/**
 * link_reset(link, now, reason):
 * Drop the connection at once and connect again without a pause, beginning
 * with the next url: no confirms come.  No events for what was unsettled, nor
 * down, nor for the end of a block; up follows.  ${reason} is told to the broker
 * if nothing waits to be sent.  A link that is aborted or closed is left alone.
 */
void link_reset(struct link * link, clock_ns now, const char * reason);

/**
 * link_last_read(link):
 * When bytes came from the broker last, on this connection or the one before.
 */
clock_ns link_last_read(const struct link * link);

/**
 * link_peer(link):
 * The url that was tried last, without its password; "" before the first
 * attempt.  It changes with every turn.
 */
const char * link_peer(const struct link * link);

/**
 * link_certificate_expiry(link):
 * When the first certificate of this connection expires, in seconds since
 * 1970; 0: not connected, or no TLS.
 */
int64_t link_certificate_expiry(const struct link * link);

/**
 * link_lease(link, until):
 * Write nothing to the socket at or after ${until}, by the clock at the moment
 * of writing; CLOCK_NEVER, as at first: no bound.
 */
void link_lease(struct link * link, clock_ns until);

/**
 * link_abort(link, now):
 * Drop the connection and all unsent bytes now (the lead is lost), without
 * events for what was unsettled; reconnects only after link_resume.
 */
void link_abort(struct link * link, clock_ns now);

/**
 * link_resume(link, now):
 * Undo link_abort or link_close, also one that is under way: connect again at
 * once.  Any other link is left alone.
 */
void link_resume(struct link * link, clock_ns now);

/**
 * link_close(link, now):
 * A clean end: connection.close after what is buffered.  Turn until
 * link_closed, or give up; it takes 2 s at most.  Settled events still come,
 * but no others.  Nothing is lost by closing a link that is idle: it costs
 * neither socket nor time until link_resume.
 */
void link_close(struct link * link, clock_ns now);
bool link_closed(const struct link * link);

#endif /* AMQP_LINK_H */
