#ifndef INBOX_DELIVERY_H
#define INBOX_DELIVERY_H

#include "inbox.h"
#include "inbox_rabbitmq.h"

/*
 * A message that the broker has delivered and that is not acknowledged yet.
 */
struct inbox_delivery {
	amqp_envelope_t envelope;     /* ours until inbox_delivery_free() */
	struct inbox_message message; /* points into envelope and text */
	char * text;
	int64_t due_ms; /* not before; 0: at once */
	bool alone;     /* in a transaction of its own */
	bool counted;   /* as a failure, before it is handled */
	bool failing;   /* a failure is still to be recorded, with its reason */
	bool give_up;   /* and then the message goes */
	char reason[INBOX_ERROR_TEXT_SIZE];
};

/**
 * inbox_delivery_make(envelope):
 * A delivery that owns what is in ${envelope}; NULL when there is no memory,
 * and then ${envelope} is still the caller's.
 */
struct inbox_delivery * inbox_delivery_make(const amqp_envelope_t * envelope);

/**
 * inbox_delivery_free(delivery):
 * NULL is fine.
 */
void inbox_delivery_free(struct inbox_delivery * delivery);

#endif /* INBOX_DELIVERY_H */
