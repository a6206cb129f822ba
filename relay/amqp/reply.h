#ifndef AMQP_REPLY_H
#define AMQP_REPLY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"
#include "core/message.h"

/*
 * What a broker says when it refuses something: what it was about, and what a
 * person can do.  The texts are those of RabbitMQ 3.10 to 4.x; one that says
 * something else is repeated, and taken to name nothing.
 */
enum reply_phase {
	REPLY_LOGIN, /* to user and password, or to the certificate */
	REPLY_VHOST, /* to the virtual host */
	REPLY_LATER
};

struct reply {
	uint16_t code;
	struct bytes text; /* borrowed */
	enum reply_phase phase;
	bool external;      /* the user stands in the client certificate */
	const char * user;  /* of the url */
	const char * vhost; /* opened, or asked for */
};

/**
 * reply_explain(reply, e):
 * Fill ${e} with code and text, and with the remedy where one is known.
 */
void reply_explain(const struct reply * reply, struct error * e);

/**
 * reply_exchange(reply):
 * The exchange that a 404 or 403 is about, within the reply's text; BYTES_NONE
 * when it does not say, or says it incompletely.  RabbitMQ writes amq.default
 * for the default exchange.
 */
struct bytes reply_exchange(const struct reply * reply);

/**
 * reply_blames_message(code):
 * Whether a connection.close with ${code} means that something which was
 * published is at fault.
 */
bool reply_blames_message(uint16_t code);

/**
 * reply_returned(m, code, e) / reply_nacked(m, e):
 * Say that ${m} was returned (with ${code}), or refused by a nack.
 */
void reply_returned(const struct message * m, uint16_t code, struct error * e);
void reply_nacked(const struct message * m, struct error * e);

#endif /* AMQP_REPLY_H */
