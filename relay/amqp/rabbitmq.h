#ifndef AMQP_RABBITMQ_H
#define AMQP_RABBITMQ_H

/*
 * rabbitmq-c, which serves as the codec, under the names of either version:
 * <amqp.h> up to 0.11, <rabbitmq-c/amqp.h> from 0.12 on (where the old name
 * merely warns).
 */
#if __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/framing.h>
#else
#include <amqp.h>
#include <amqp_framing.h>
#endif

#include "base/bytes.h"

/* A view of ${b} for rabbitmq-c, which does not write to what it encodes. */
static inline amqp_bytes_t
rabbitmq_bytes(struct bytes b)
{
	return ((amqp_bytes_t){.len = b.len, .bytes = (void *)(uintptr_t)b.data});
}

static inline amqp_bytes_t
rabbitmq_text(const char * text)
{
	return (rabbitmq_bytes(bytes_from(text)));
}

#endif /* AMQP_RABBITMQ_H */
