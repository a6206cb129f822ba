#ifndef AMQP_LINK_STATE_H
#define AMQP_LINK_STATE_H

#include "amqp/attempts.h"
#include "amqp/channels.h"
#include "amqp/codec.h"
#include "amqp/link.h"
#include "amqp/outbound.h"
#include "amqp/session.h"
#include "amqp/tls.h"
#include "amqp/transport.h"
#include "amqp/url.h"

/*
 * The state of a link, for link.c, link_connect.c and link_events.c alone.
 */
#define LINK_EXCHANGE_MAX 255 /* AMQP: a short string */

enum link_state {
	STATE_WAITING,    /* no socket; the next attempt is at retry_at */
	STATE_CONNECTING, /* TCP and TLS */
	STATE_TALKING,    /* the session says how far */
	STATE_ABORTED,
	STATE_CLOSED
};

struct link {
	struct link_options options;
	struct link_events events;
	void * context;
	enum link_state state;
	clock_ns now;   /* of the last call that told the time */
	clock_ns lease; /* nothing is written at or after it */

	struct attempts attempts;
	struct url url;
	char peer[URL_DESCRIPTION_MAX];
	clock_ns retry_at;
	clock_ns timeout;          /* of this url */
	clock_ns connect_deadline; /* for everything before up */

	struct tls_context * tls;
	struct transport * transport;
	struct session session;
	struct codec codec;
	struct outbound out;
	struct channels channels;
	uint16_t channels_wished;
	clock_ns reopen_at;   /* CLOCK_NEVER: no channel waits for it */
	bool renewing;        /* the channels are to be replaced ... */
	clock_ns renew_by;    /* ... if it can be done until then */
	bool settling;        /* a channel was closed; the others settle ... */
	clock_ns settle_by;   /* ... until then; then it is told: */
	struct error closed;  /* why */
	struct bytes culprit; /* the exchange that was meant */
	char culprit_name[LINK_EXCHANGE_MAX];
	bool was_up; /* on this connection */
	bool is_blocked;
	bool blamed;  /* it ends over something that was published */
	bool closing; /* link_close was called */

	char * input;     /* READ_SIZE bytes */
	bool read_more;   /* the last turn stopped before the end */
	bool would_block; /* the socket takes no more for now */
	bool write_failed;
	struct error write_error;
	clock_ns last_read;
	clock_ns last_write;
};

/**
 * link_check_tls(l, e):
 * Are the TLS files usable, if any url asks for TLS?
 */
int link_check_tls(const struct link * l, struct error * e);

/**
 * link_connect(l, now, e):
 * Open a socket to the url whose turn it is.  -1: the attempt has failed.
 */
int link_connect(struct link * l, clock_ns now, struct error * e);

/**
 * link_connecting(l, now, e):
 * Go on with the transport; when it is ready, begin to talk (STATE_TALKING).
 */
int link_connecting(struct link * l, clock_ns now, struct error * e);

/**
 * link_renew(l, now, e):
 * Replace the channels, if that is wanted and nothing is in flight.
 */
int link_renew(struct link * l, clock_ns now, struct error * e);

/**
 * link_settle(l, now, e):
 * Tell that a channel was closed, if one was and the others have settled, or
 * have had their time.
 */
int link_settle(struct link * l, clock_ns now, struct error * e);

/**
 * link_tell_closed(l):
 * Tell at once that a channel was closed (l->settling).  What is in flight on other
 * channels has settled, or they and what they say are given up.
 */
void link_tell_closed(struct link * l);

/* What the session tells; its context is the link. */
extern const struct session_events link_session_events;

#endif /* AMQP_LINK_STATE_H */
