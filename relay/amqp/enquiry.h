#ifndef AMQP_ENQUIRY_H
#define AMQP_ENQUIRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "amqp/link.h"
#include "amqp/url.h"
#include "base/clock.h"
#include "base/error.h"

/*
 * A connection to RabbitMQ for one-shot commands: it blocks, and asks one
 * thing at a time.  Nothing that is asked reaches a queue, and nothing is
 * changed but by what enquiry_declare.h has.
 */
struct enquiry;

struct enquiry_options {
	const char * url;           /* amqp:// or amqps:// */
	const char * password_file; /* NULL: the url's password */
	bool external_auth;
	struct link_tls tls;
	const char * connection_name;
	clock_ns timeout; /* to connect, and for each answer; the url may have its own */
};

enum enquiry_answer {
	ENQUIRY_YES,
	ENQUIRY_MISSING, /* 404: there is none */
	ENQUIRY_DIFFERS, /* 406: there is one that differs */
	ENQUIRY_REFUSED, /* 403 and others: the broker does not tell, or does not do it */
	ENQUIRY_BLOCKED, /* an alarm: the broker reads nothing from us now */
	ENQUIRY_LOST     /* no answer, or the connection is gone: ask no more */
};

/**
 * enquiry_open(options, e):
 * Connect and log in.  Strings are borrowed.  NULL with ${e}.
 */
struct enquiry * enquiry_open(const struct enquiry_options * options, struct error * e);
void enquiry_close(struct enquiry * enquiry);

/**
 * enquiry_url(enquiry):
 * Where it is connected to, without the password.
 */
const char * enquiry_url(const struct enquiry * enquiry);
const char * enquiry_vhost(const struct enquiry * enquiry);
const char * enquiry_user(const struct enquiry * enquiry);

/**
 * enquiry_expiry(enquiry, peer, own):
 * Until when the certificates are valid: seconds since 1970, 0: there is none.
 */
void enquiry_expiry(const struct enquiry * enquiry, int64_t * peer, int64_t * own);

/*
 * All below: any answer but ENQUIRY_YES comes with ${e}.
 */

/**
 * enquiry_exchange(enquiry, name, e) / enquiry_queue(enquiry, name, e):
 * Is there one of that name (not empty)?
 */
enum enquiry_answer enquiry_exchange(struct enquiry * enquiry, const char * name, struct error * e);
enum enquiry_answer enquiry_queue(struct enquiry * enquiry, const char * name, struct error * e);

/**
 * enquiry_publish(enquiry, exchange, routing_key, e):
 * Is the exchange there and may this user publish to it with that routing
 * key?  Also finds out about alarms: RabbitMQ tells of them to publishers
 * only.
 */
enum enquiry_answer enquiry_publish(struct enquiry * enquiry, const char * exchange,
    const char * routing_key, struct error * e);

#endif /* AMQP_ENQUIRY_H */
