/*
 * Two shapes of a message.  A small row is copied into a block of its own,
 * which goes when the message is settled: with an ordering key that may be
 * long after its neighbours, and a batch must not stay for one of its rows.
 * Rows with large bodies stay in libpq's result, and the messages point into
 * it, so that a body of 100 MiB is not copied once more.
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

/* A batch whose messages lie in the result, or in blocks of their own. */
struct rows {
	struct batch batch;
	PGresult * result;               /* NULL: blocks */
	struct message * inside;         /* with the result */
	struct message * messages[];
};

/* One small row. */
struct block {
	struct batch batch;
	struct message * list[1];
	struct message message;
	char bytes[];
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

	if (rows->result == NULL)
		for (size_t i = 0; i < batch->count; i++)
			batch_unref(batch->messages[i]->batch);
	PQclear(rows->result);
	free(rows->inside);
	free(rows);
}

static void
block_destroy(struct batch * batch)
{
	free(batch);
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

/* Read the reader's row into a block of its own.  NULL: out of memory. */
static struct message *
read_block(struct reader * reader)
{
	struct block * block;

	block = malloc(sizeof(*block) + row_length(reader->result, reader->row, reader->base));
	if (block == NULL)
		return (NULL);
	block->list[0] = &block->message;
	block->batch = (struct batch){.references = 1, .count = 1, .messages = block->list,
	    .destroy = block_destroy};
	block->message.batch = &block->batch;
	reader->arena = block->bytes;
	read_message(reader, &block->message);
	return (&block->message);
}

/* -1: out of memory. */
static int
read_rows(struct reader * reader, struct rows * rows, int count)
{
	struct message * m;

	if (rows->result != NULL &&
	    (rows->inside = calloc((size_t)count, sizeof(*rows->inside))) == NULL)
		return (-1);
	for (int i = 0; i < count; i++, reader->row++) {
		if (rows->result == NULL) {
			if ((m = read_block(reader)) == NULL)
				return (-1);
		} else {
			m = &rows->inside[i];
			m->batch = &rows->batch;
			read_message(reader, m);
		}
		rows->messages[rows->batch.count++] = m;
	}
	return (0);
}

struct batch *
rows_to_batch(PGresult ** result, int column, int64_t * bytes, struct error * e)
{
	struct reader reader = {.result = *result, .base = column};
	int tuples = PQntuples(*result);
	int count;
	size_t length = 0;
	struct rows * rows;

	error_clear(e);
	*bytes = 0;
	if (PQnfields(*result) != column + COLUMNS) {
		error_set(e, EXIT_BUG, "the fetch answered with %d columns, not %d",
		    PQnfields(*result), column + COLUMNS);
		return (NULL);
	}
	while (reader.row < tuples && PQgetisnull(*result, reader.row, column + ID))
		reader.row++;
	if ((count = tuples - reader.row) == 0)
		return (NULL);
	for (int row = reader.row; row < tuples; row++) {
		length += row_length(*result, row, column);
		*bytes += wire_int32(*result, row, column + SIZE);
	}
	rows = calloc(1, sizeof(*rows) + (size_t)count * sizeof(rows->messages[0]));
	if (rows != NULL) {
		rows->batch = (struct batch){.references = 1, .messages = rows->messages,
		    .destroy = rows_destroy};
		if (length / (size_t)count > LARGE_MEAN) {
			rows->result = *result;
			*result = NULL;
		}
	}
	if (rows == NULL || read_rows(&reader, rows, count)) {
		batch_unref(rows == NULL ? NULL : &rows->batch);
		error_set(e, EXIT_BUG, "out of memory for %d rows", count);
		return (NULL);
	}
	return (&rows->batch);
}
