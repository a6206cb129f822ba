/*
 * Two shapes of a batch.  Small rows are copied side by side into one block
 * and the result is given back at once: libpq's own form costs half as much
 * again in memory.  Rows with large bodies stay in the result, and the
 * messages point into it, so that a body of 100 MiB is not copied once more.
 */
#include "postgres/rows.h"

#include <stdlib.h>

#include "postgres/wire.h"

enum column {
	ID, SIZE, MESSAGE_ID, EXCHANGE, ROUTING_KEY, PAYLOAD, PAYLOAD_TEXT, PAYLOAD_JSON,
	ORDERING_KEY, HEADERS, TYPE, APP_ID, CONTENT_TYPE, CONTENT_ENCODING, CORRELATION_ID,
	REPLY_TO, EXPIRATION, PRIORITY, PERSISTENT, CREATED_AT, COLUMNS
};

/* Bodies of this mean size are worth keeping the result for. */
#define LARGE_MEAN 4096

struct rows {
	struct batch batch;
	PGresult * result;               /* NULL: the bytes follow the messages */
	struct message messages[];
};

/* What is needed to read one row. */
struct reader {
	const PGresult * result;
	int row;
	int base;
	char * arena;                    /* NULL: point into the result */
};

static void
rows_destroy(struct batch * batch)
{
	struct rows * rows = (struct rows *)batch;

	PQclear(rows->result);
	free(rows);
}

static struct bytes
read_bytes(struct reader * reader, enum column column, size_t skip)
{
	int at = reader->base + (int)column;
	struct bytes b;

	if (PQgetisnull(reader->result, reader->row, at))
		return (BYTES_NONE);
	b.data = PQgetvalue(reader->result, reader->row, at) + skip;
	b.len = (size_t)PQgetlength(reader->result, reader->row, at) - skip;
	if (reader->arena != NULL) {
		memcpy(reader->arena, b.data, b.len);
		b.data = reader->arena;
		reader->arena += b.len;
	}
	return (b);
}

/* jsonb is sent as a version byte and its text. */
static struct bytes
read_body(struct reader * reader)
{
	struct bytes body;

	body = read_bytes(reader, PAYLOAD, 0);
	if (!bytes_present(body))
		body = read_bytes(reader, PAYLOAD_TEXT, 0);
	if (!bytes_present(body))
		body = read_bytes(reader, PAYLOAD_JSON, 1);
	return (body);
}

static void
read_message(struct reader * reader, struct message * m)
{
	const PGresult * result = reader->result;
	int row = reader->row;
	int base = reader->base;

	m->id = wire_int64(result, row, base + ID);
	memcpy(m->message_id, PQgetvalue(result, row, base + MESSAGE_ID), sizeof(m->message_id));
	m->exchange = read_bytes(reader, EXCHANGE, 0);
	m->routing_key = read_bytes(reader, ROUTING_KEY, 0);
	m->body = read_body(reader);
	m->ordering_key = read_bytes(reader, ORDERING_KEY, 0);
	m->headers = read_bytes(reader, HEADERS, 1);
	m->type = read_bytes(reader, TYPE, 0);
	m->app_id = read_bytes(reader, APP_ID, 0);
	m->content_type = read_bytes(reader, CONTENT_TYPE, 0);
	m->content_encoding = read_bytes(reader, CONTENT_ENCODING, 0);
	m->correlation_id = read_bytes(reader, CORRELATION_ID, 0);
	m->reply_to = read_bytes(reader, REPLY_TO, 0);
	m->expiration_ms = PQgetisnull(result, row, base + EXPIRATION)
	    ? -1 : wire_int64(result, row, base + EXPIRATION);
	m->priority = PQgetisnull(result, row, base + PRIORITY)
	    ? -1 : wire_int16(result, row, base + PRIORITY);
	m->persistent = wire_bool(result, row, base + PERSISTENT);
	m->timestamp_s =
	    (wire_int64(result, row, base + CREATED_AT) + WIRE_EPOCH_US) / 1000000;
	m->key = bytes_present(m->ordering_key) ? message_key(m->ordering_key) : 0;
}

/* Bytes that read_message will copy for a row, at most. */
static size_t
row_length(const PGresult * result, int row, int base)
{
	size_t length = 0;

	for (int column = EXCHANGE; column <= REPLY_TO; column++)
		length += (size_t)PQgetlength(result, row, base + column);
	return (length);
}

struct batch *
rows_to_batch(PGresult ** result, int column, int64_t * bytes, struct error * e)
{
	struct reader reader = {.result = *result, .base = column};
	int first = 0;
	int count = PQntuples(*result);
	size_t length = 0;
	bool keep;
	struct rows * rows;

	error_clear(e);
	*bytes = 0;
	if (PQnfields(*result) != column + COLUMNS) {
		error_set(e, EXIT_BUG, "the fetch answered with %d columns, not %d",
		    PQnfields(*result), column + COLUMNS);
		return (NULL);
	}
	while (first < count && PQgetisnull(*result, first, column + ID))
		first++;
	if (first == count)
		return (NULL);
	for (int row = first; row < count; row++) {
		length += row_length(*result, row, column);
		*bytes += wire_int32(*result, row, column + SIZE);
	}
	keep = length / (size_t)(count - first) > LARGE_MEAN;
	rows = malloc(sizeof(*rows) + (size_t)(count - first) * sizeof(rows->messages[0]) +
	    (keep ? 0 : length));
	if (rows == NULL) {
		error_set(e, EXIT_BUG, "out of memory for %d rows", count - first);
		return (NULL);
	}
	rows->batch = (struct batch){.references = 1, .count = (size_t)(count - first),
	    .messages = rows->messages, .destroy = rows_destroy};
	rows->result = keep ? *result : NULL;
	if (!keep)
		reader.arena = (char *)&rows->messages[count - first];
	for (reader.row = first; reader.row < count; reader.row++) {
		rows->messages[reader.row - first].batch = &rows->batch;
		read_message(&reader, &rows->messages[reader.row - first]);
	}
	if (keep)
		*result = NULL;
	return (&rows->batch);
}
