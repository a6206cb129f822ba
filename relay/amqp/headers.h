#ifndef AMQP_HEADERS_H
#define AMQP_HEADERS_H

#include <jansson.h>

#include "amqp/rabbitmq.h"
#include "base/bytes.h"
#include "base/error.h"

/*
 * The headers of a message, a JSON object, as an AMQP table.
 *
 *   object   table 'F'          true, false   boolean 't'
 *   array    array 'A'          null          void 'V'
 *   string   long string 'S'    integer       signed 64 bits 'l'
 *                               fraction      double 'd'
 *
 * What has no faithful form is refused, never mangled: integers outside 64
 * bits, keys above 255 bytes (rabbitmq-c would cut their length), nesting
 * below HEADERS_DEPTH_MAX (rabbitmq-c 0.11 decodes a returned message
 * recursively without a bound).
 */
#define HEADERS_DEPTH_MAX 32
#define HEADERS_TEXT_MAX (1024 * 1024) /* bytes of JSON; a table must fit one frame */
#define HEADERS_OWN 2                  /* entries left free for the relay's own */

/* Memory of one table at a time, used again for the next; start with zeros (but for spare). */
struct headers {
	amqp_table_entry_t * entries;
	amqp_field_value_t * values;
	size_t entry_capacity;
	size_t value_capacity;
	size_t spare;       /* entries left free behind those of each table */
	size_t entry_count; /* while a table is being made */
	size_t value_count;
	json_t * root; /* the strings of the table lie here */
};

/**
 * headers_parse(headers, text, own, own_count, table, e):
 * Make ${table} of the ${own_count} <= HEADERS_OWN entries of ${own} and of
 * the JSON object ${text} (BYTES_NONE: none).  An entry of ${text} with the
 * key of one of ${own} is replaced by it, as when an application forwards the
 * headers of a message that it consumed.  The table is valid until the next
 * call.  -1: AMQP cannot carry it, ${e} says why and where; or EXIT_BUG: out of
 * memory, and nothing is wrong with the headers.
 */
int headers_parse(struct headers * headers, struct bytes text, const amqp_table_entry_t * own,
    size_t own_count, amqp_table_t * table, struct error * e);

/**
 * headers_free(headers):
 * Give the memory back.
 */
void headers_free(struct headers * headers);

#endif /* AMQP_HEADERS_H */
