#ifndef AMQP_CLOUDEVENTS_H
#define AMQP_CLOUDEVENTS_H

#include "amqp/rabbitmq.h"
#include "core/message.h"

/*
 * Messages as CloudEvents 1.0 in binary mode: body and content_type are the
 * data, all attributes are headers (CloudEvents, AMQP protocol binding 1.0.2,
 * 3.1; headers are what it calls application properties, and RabbitMQ maps one
 * onto the other).
 *
 *   cloudEvents_specversion    1.0
 *   cloudEvents_id             message_id
 *   cloudEvents_source         of the configuration
 *   cloudEvents_type           type; without one the routing key, without that the exchange
 *   cloudEvents_time           created_at, whole seconds, UTC
 *   cloudEvents_partitionkey   ordering_key, if there is one (extension "partitioning")
 */
#define CLOUDEVENTS_ENTRIES 6
#define CLOUDEVENTS_TIME_MAX 21 /* 2026-11-21T05:32:06Z and its end */

/**
 * cloudevents_add(table, message, id, source, time):
 * Append those attributes to the headers ${table} of ${message}, which has room
 * for CLOUDEVENTS_ENTRIES more.  An attribute that the headers have already,
 * under the prefix "cloudEvents_" or "cloudEvents:", stays what it is.  A
 * message whose content_type says that it is a CloudEvent in structured mode,
 * and one that has nothing to be its type, is left alone.
 *
 * ${id} is its message id as text; ${time} is memory for the table to point to.
 */
void cloudevents_add(amqp_table_t * table, const struct message * message, amqp_bytes_t id,
    const char * source, char time[CLOUDEVENTS_TIME_MAX]);

#endif /* AMQP_CLOUDEVENTS_H */
