#ifndef AMQP_ENQUIRY_ASK_H
#define AMQP_ENQUIRY_ASK_H

#include "amqp/enquiry.h"
#include "amqp/rabbitmq.h"
#include "base/error.h"

/**
 * enquiry_ask(enquiry, id, method, answer, e):
 * Send ${method} and wait for the method ${answer}; the end of the channel is an
 * answer, too, and followed by another channel.  Private to enquiry*.c.
 */
enum enquiry_answer enquiry_ask(struct enquiry * enquiry, amqp_method_number_t id, void * method,
    amqp_method_number_t answer, struct error * e);

#endif /* AMQP_ENQUIRY_ASK_H */
