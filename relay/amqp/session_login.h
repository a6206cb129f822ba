#ifndef AMQP_SESSION_LOGIN_H
#define AMQP_SESSION_LOGIN_H

#include "amqp/rabbitmq.h"
#include "amqp/session.h"
#include "base/error.h"

/* The beginning of a session; private to it. */

#define SESSION_FRAME_LEAST 4096 /* bytes: AMQP's least frame_max */

/**
 * session_on_start(s, start, e):
 * Answer connection.start by the mechanism of s->options: SESSION_TUNE.  -1 with
 * ${e} if the broker does not offer it or speaks another protocol.
 */
int session_on_start(struct session * s, const amqp_connection_start_t * start, struct error * e);

/**
 * session_on_tune(s, tune, e):
 * Agree upon frame_max and heartbeat, tell decoder and codec, and open the
 * vhost: SESSION_OPEN.  -1 with ${e}.
 */
int session_on_tune(struct session * s, const amqp_connection_tune_t * tune, struct error * e);

/**
 * session_no_room(e):
 * -1 with ${e}: codec_method had no room for a frame that must be sent.
 */
int session_no_room(struct error * e);

#endif /* AMQP_SESSION_LOGIN_H */
