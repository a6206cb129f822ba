#ifndef POSTGRES_ROWS_H
#define POSTGRES_ROWS_H

#include <stdint.h>

#include <libpq-fe.h>

#include "base/error.h"
#include "core/message.h"

/*
 * Rows of outbox.message in libpq's binary form, as a batch.
 */

/*
 * The select list for a row named r; ROWS_SIZE_SQL is its size in bytes, for
 * a row named m, and goes into it as ROWS_SIZE_NAME.  What most rows lack comes as one record, since libpq spends
 * most of its time by the column.
 */
#define ROWS_SIZE_NAME "outbox_relay_size"

#define ROWS_COLUMNS_SQL \
	"r.id, r." ROWS_SIZE_NAME \
	", r.message_id, r.created_at, r.persistent, r.exchange, r.routing_key, " \
	"r.payload, r.payload_text, r.payload_json, r.ordering_key, r.headers, r.content_type, " \
	"CASE WHEN num_nonnulls(r.type, r.app_id, r.content_encoding, r.correlation_id, " \
	"r.reply_to, r.expiration, r.priority) > 0 " \
	"THEN ROW(r.type, r.app_id, r.content_encoding, r.correlation_id, r.reply_to, " \
	"(date_part('epoch', r.expiration) * 1000)::bigint, r.priority) END"

/*
 * A detoasted length is read from the toast pointer, without the value.  Only
 * JSON that is stored compressed has to be turned into text to be measured.
 */
#define ROWS_SIZE_SQL \
	"coalesce(octet_length(m.payload), octet_length(m.payload_text), " \
	"CASE WHEN pg_column_size(m.payload_json) < 2000 THEN pg_column_size(m.payload_json) " \
	"ELSE octet_length(m.payload_json::text) END, 0) " \
	"+ CASE WHEN m.headers IS NULL THEN 0 " \
	"WHEN pg_column_size(m.headers) < 2000 THEN pg_column_size(m.headers) " \
	"ELSE octet_length(m.headers::text) END"

/**
 * rows_to_batch(result, column, bytes, e):
 * Make a batch with one reference of the rows of ${*result}, whose row columns
 * start at ${column}; rows without an id are passed over (there may be one
 * that carries other columns alone).  Takes ${*result} over (sets it to NULL)
 * when the batch keeps it, because its bodies are large.  ${*bytes} is the sum
 * of the sizes.  NULL without an error when there are no rows; NULL with
 * e->text set when memory is out or a column is not what it should be.
 */
struct batch * rows_to_batch(PGresult ** result, int column, int64_t * bytes, struct error * e);

#endif /* POSTGRES_ROWS_H */
