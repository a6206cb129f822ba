#ifndef OUTBOX_TEXT_H
#define OUTBOX_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/*
 * What AMQP and Postgres take as text and JSON, checked before it is sent.
 * Reasons are short: they end a sentence that begins with the field's name.
 */
#define OUTBOX_HEADERS_DEPTH_MAX 32 /* RabbitMQ's decoders are recursive */
#define OUTBOX_JSON_DEPTH_MAX 512   /* Postgres's, too, but on a larger stack */
#define OUTBOX_KEY_MAX 255          /* bytes of an AMQP short string */

/**
 * outbox_utf8_invalid(text, len):
 * Return the offset of the first byte that is not a part of valid UTF-8
 * (RFC 3629: no surrogates, nothing overlong), or ${len} if all are.
 */
size_t outbox_utf8_invalid(const char * text, size_t len);

/**
 * outbox_json_check(text, reason, size):
 * Whether ${text}, valid UTF-8, is JSON (RFC 8259) that jsonb takes: no \u0000,
 * no half of a surrogate pair.  If not, write the reason with its offset.
 */
bool outbox_json_check(const char * text, char * reason, size_t size);

/**
 * outbox_headers_check(text, reason, size):
 * The same, and an object that an AMQP table can carry: keys of at most
 * OUTBOX_KEY_MAX bytes, OUTBOX_HEADERS_DEPTH_MAX levels, numbers within int64,
 * and neither of the relay's own headers.
 */
bool outbox_headers_check(const char * text, char * reason, size_t size);

#endif /* OUTBOX_TEXT_H */
