/*
 * Two shapes of a message.  Rows are copied into blocks, a few small ones in
 * each, which go when all their messages are settled: with an ordering key or a
 * queue that does not confirm that may be long after their neighbours, and a
 * batch must not stay for one of its rows.  A large row that came alone stays in
 * libpq's result, and the message points into it, so that a body of 100 MiB is
 * not copied once more.
 */
#include "postgres/rows.h"

#include <stdlib.h>

#include "postgres/wire.h"

enum column {
	ID,
	SIZE,
	MESSAGE_ID,
	CREATED_AT,
	PERSISTENT,
	EXCHANGE,
	ROUTING_KEY,
	PAYLOAD,
	PAYLOAD_TEXT,
	PAYLOAD_JSON,
	ORDERING_KEY,
	HEADERS,
	CONTENT_TYPE,
	RARE,
	COLUMNS
};

/* The fields of the record RARE. */
enum rare { TYPE, APP_ID, CONTENT_ENCODING, CORRELATION_ID, REPLY_TO, EXPIRATION, PRIORITY, RARES };

/*
 * What a column's value must look like.  The server keeps to its types, but an
 * owner can alter them, and nothing may be read past the end of a value.
 */
struct form {
	bool required;
	size_t width; /* bytes; 0: any number */
};

static const struct form column_forms[COLUMNS] = {[ID] = {true, 8},
    [SIZE] = {true, 4},
    [MESSAGE_ID] = {true, 16},
    [CREATED_AT] = {true, 8},
    [PERSISTENT] = {true, 1},
    [EXCHANGE] = {true, 0},
    [ROUTING_KEY] = {true, 0}};

static const struct form rare_forms[RARES] = {[EXPIRATION] = {false, 8}, [PRIORITY] = {false, 2}};

/* A row of this size is worth keeping the result for. */
#define LARGE 4096

/* A batch whose messages lie in the result, or in blocks of their own. */
struct rows {
	struct batch batch;
	PGresult * result;       /* NULL: blocks */
	struct message * inside; /* with the result */
	struct message * messages[];
};

/*
 * Rows that lie behind each other, each a struct message and what it points to.
 * The batch lists none of them: it is but their memory.
 */
struct block {
	struct batch batch;
	char * free;
	size_t left;
	struct message first[];
};

/* So many share a block, unless they are larger than that. */
#define BLOCK_ROWS 4
#define BLOCK_ROW_MAX 4096

/* One row, as libpq holds it. */
struct row {
	struct bytes columns[COLUMNS];
	struct bytes rares[RARES];
	size_t length; /* of all that a message points to, at most */
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

static bool
has_form(struct bytes value, const struct form * form)
{
	if (!bytes_present(value))
		return (!form->required);
	return (form->width == 0 || value.len == form->width);
}

/*
 * A record is sent as the number of its fields, and for each its type, its
 * length (-1: NULL) and its bytes.
 */
static int
read_record(struct bytes record, struct bytes * fields, size_t count)
{
	const char * end = record.data + record.len;
	const char * at = record.data + sizeof(uint32_t);

	if (record.len < sizeof(uint32_t))
		return (-1);
	for (size_t i = 0; i < count; i++) {
		uint32_t len;

		if (end - at < (ptrdiff_t)(2 * sizeof(uint32_t)))
			return (-1);
		memcpy(&len, at + sizeof(uint32_t), sizeof(len));
		len = be32toh(len);
		at += 2 * sizeof(uint32_t);
		fields[i] = BYTES_NONE;
		if (len != UINT32_MAX) {
			if ((size_t)(end - at) < len)
				return (-1);
			fields[i] = (struct bytes){at, len};
			at += len;
		}
		if (!has_form(fields[i], &rare_forms[i]))
			return (-1);
	}
	return (0);
}

static bool
has_version(struct bytes json)
{
	return (!bytes_present(json) || json.len > 0);
}

/* Each call into libpq costs, so a column that is not empty takes two. */
static int
read_row(const PGresult * result, int number, int base, struct row * row)
{
	row->length = 0;
	for (int i = 0; i < COLUMNS; i++) {
		int len = PQgetlength(result, number, base + i);

		row->columns[i] = BYTES_NONE;
		if (len > 0 || !PQgetisnull(result, number, base + i))
			row->columns[i] = (struct bytes){PQgetvalue(result, number, base + i),
			    (size_t)len};
		if (!has_form(row->columns[i], &column_forms[i]))
			return (-1);
		if (column_forms[i].width == 0)
			row->length += (size_t)len;
	}
	/* jsonb begins with its version. */
	if (!has_version(row->columns[PAYLOAD_JSON]) || !has_version(row->columns[HEADERS]))
		return (-1);
	if (bytes_present(row->columns[RARE]))
		return (read_record(row->columns[RARE], row->rares, RARES));
	memset(row->rares, 0, sizeof(row->rares));
	return (0);
}

/* Copied to where ${*arena} points, or left where it is if that is NULL. */
static struct bytes
place(struct bytes b, char ** arena)
{
	if (*arena != NULL && bytes_present(b)) {
		memcpy(*arena, b.data, b.len);
		b.data = *arena;
		*arena += b.len;
	}
	return (b);
}

/* jsonb is sent as a version byte and its text. */
static struct bytes
json(struct bytes b)
{
	return (bytes_present(b) ? (struct bytes){b.data + 1, b.len - 1} : b);
}

static struct bytes
body(const struct row * row)
{
	if (bytes_present(row->columns[PAYLOAD]))
		return (row->columns[PAYLOAD]);
	if (bytes_present(row->columns[PAYLOAD_TEXT]))
		return (row->columns[PAYLOAD_TEXT]);
	return (json(row->columns[PAYLOAD_JSON]));
}

/* Unfit is whatever AMQP has no timestamp for, as "infinity". */
static void
set_timestamp(struct message * m, int64_t us)
{
	bool fit = us >= -WIRE_EPOCH_US && us <= INT64_MAX - WIRE_EPOCH_US;

	m->timestamp_s = fit ? (us + WIRE_EPOCH_US) / 1000000 : MESSAGE_UNFIT;
	m->timestamp_us = fit ? (uint32_t)((us + WIRE_EPOCH_US) % 1000000) : 0;
}

/* -1 says that a property is absent; a negative one is there, and unfit. */
static int64_t
present(int64_t value)
{
	return (value < 0 ? MESSAGE_UNFIT : value);
}

static void
make_message(const struct row * row, struct message * m, char * arena)
{
	const struct bytes * c = row->columns;

	m->id = wire_read_int64(c[ID].data);
	/* As the rows of outbox.message are; others are completed by who read them. */
	m->held = false;
	m->origin = MESSAGE_FRESH;
	m->attempts = 0;
	memcpy(m->message_id, c[MESSAGE_ID].data, sizeof(m->message_id));
	set_timestamp(m, wire_read_int64(c[CREATED_AT].data));
	m->persistent = c[PERSISTENT].data[0] != 0;
	m->exchange = place(c[EXCHANGE], &arena);
	m->routing_key = place(c[ROUTING_KEY], &arena);
	m->body = place(body(row), &arena);
	m->ordering_key = place(c[ORDERING_KEY], &arena);
	m->key = bytes_present(m->ordering_key) ? message_key(m->ordering_key) : 0;
	m->headers = place(json(c[HEADERS]), &arena);
	m->content_type = place(c[CONTENT_TYPE], &arena);
	m->type = place(row->rares[TYPE], &arena);
	m->app_id = place(row->rares[APP_ID], &arena);
	m->content_encoding = place(row->rares[CONTENT_ENCODING], &arena);
	m->correlation_id = place(row->rares[CORRELATION_ID], &arena);
	m->reply_to = place(row->rares[REPLY_TO], &arena);
	m->expiration_ms = bytes_present(row->rares[EXPIRATION]) ?
	    present(wire_read_int64(row->rares[EXPIRATION].data)) :
	    -1;
	m->priority = bytes_present(row->rares[PRIORITY]) ?
	    (int16_t)present(wire_read_int16(row->rares[PRIORITY].data)) :
	    -1;
}

/* A new block for rows like the first of ${rows}. */
static struct block *
block_new(size_t size, int rows)
{
	struct block * block;

	if (size > BLOCK_ROW_MAX)
		rows = 1;
	else if (rows > BLOCK_ROWS)
		rows = BLOCK_ROWS;
	if ((block = malloc(sizeof(*block) + size * (size_t)rows)) == NULL)
		return (NULL);
	block->batch = (struct batch){.destroy = block_destroy};
	block->free = (char *)block->first;
	block->left = size * (size_t)rows;
	return (block);
}

/* A message in ${*block}, or in a new one that takes its place.  NULL: out of memory. */
static struct message *
put_into_block(const struct row * row, struct block ** block, int rows)
{
	size_t size = sizeof(struct message) + row->length;
	struct message * m;

	size += -size % _Alignof(struct message);
	if (*block == NULL || (*block)->left < size)
		*block = block_new(size, rows);
	if (*block == NULL)
		return (NULL);
	m = (struct message *)(void *)(*block)->free;
	(*block)->free += size;
	(*block)->left -= size;
	(*block)->batch.references++;
	m->batch = &(*block)->batch;
	make_message(row, m, (char *)(m + 1));
	return (m);
}

static int
no_memory(int rows, struct error * e)
{
	return (error_set(e, EXIT_BUG, "cannot take %d rows: out of memory", rows));
}

static int
bad_form(struct error * e)
{
	error_set(e, EXIT_CONFIGURATION,
	    "the table of messages has a column whose values are not what the migrations made it for");
	return (error_remedy(e, "give the altered column its type back"));
}

static int
read_rows(const PGresult * result, int first, int base, struct rows * rows, struct error * e)
{
	struct row row;
	struct message * m;
	struct block * block = NULL;
	int count = PQntuples(result) - first;

	if (rows->result != NULL &&
	    (rows->inside = calloc((size_t)count, sizeof(*rows->inside))) == NULL)
		return (no_memory(count, e));
	for (int i = 0; i < count; i++) {
		if (read_row(result, first + i, base, &row))
			return (bad_form(e));
		if (rows->result == NULL) {
			if ((m = put_into_block(&row, &block, count - i)) == NULL)
				return (no_memory(count, e));
		} else {
			m = &rows->inside[i];
			m->batch = &rows->batch;
			make_message(&row, m, NULL);
		}
		rows->messages[rows->batch.count++] = m;
	}
	return (0);
}

struct batch *
rows_to_batch(PGresult ** result, int column, int64_t * bytes, struct error * e)
{
	const PGresult * from = *result;
	int tuples = PQntuples(from);
	int first = 0;
	struct rows * rows;

	error_clear(e);
	*bytes = 0;
	if (PQnfields(from) != column + COLUMNS) {
		error_set(e, EXIT_BUG, "the fetch answered with %d columns, not %d",
		    PQnfields(from), column + COLUMNS);
		return (NULL);
	}
	while (first < tuples && PQgetisnull(from, first, column + ID))
		first++;
	if (first == tuples)
		return (NULL);
	for (int row = first; row < tuples; row++) {
		if (PQgetlength(from, row, column + SIZE) != sizeof(int32_t)) {
			bad_form(e);
			return (NULL);
		}
		*bytes += wire_int32(from, row, column + SIZE);
	}
	rows = calloc(1, sizeof(*rows) + (size_t)(tuples - first) * sizeof(rows->messages[0]));
	if (rows == NULL) {
		no_memory(tuples - first, e);
		return (NULL);
	}
	rows->batch = (struct batch){.references = 1,
	    .messages = rows->messages,
	    .destroy = rows_destroy};
	if (tuples - first == 1 && *bytes > LARGE) {
		rows->result = *result;
		*result = NULL;
	}
	if (read_rows(from, first, column, rows, e)) {
		batch_unref(&rows->batch);
		return (NULL);
	}
	return (&rows->batch);
}
