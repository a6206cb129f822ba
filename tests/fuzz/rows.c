#include "fuzz.h"

#include <string.h>

#include <libpq-fe.h>

#include "postgres/rows.h"
#include "postgres/wire.h"

/*
 * Rows of a fetch, in libpq's binary form, to messages; no server is needed to
 * make a result.  The input: "R" begins a row that is well-formed, "A" to "N"
 * put another value into a column of it and "a" to "g" into a field of its
 * record (a length, 255 for NULL, and the bytes), "+" makes its body long,
 * "O" leaves so many columns in front, "Z" makes the row one without an id.
 *
 * A result of the right form becomes what it says; any other one is an error,
 * never a message.
 */
#define COLUMNS 14
#define RARES 7
#define ROWS_MAX 16
#define FRONT_MAX 4
#define LONG_BODY 64

enum {
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
	RARE
};

/* Bytes of a column's value; 0: any number, -1: at least one (jsonb's version). */
static const int widths[COLUMNS] = {[ID] = 8,
    [SIZE] = 4,
    [MESSAGE_ID] = 16,
    [CREATED_AT] = 8,
    [PERSISTENT] = 1,
    [PAYLOAD_JSON] = -1,
    [HEADERS] = -1};
static const bool required[COLUMNS] = {[ID] = true,
    [SIZE] = true,
    [MESSAGE_ID] = true,
    [CREATED_AT] = true,
    [PERSISTENT] = true,
    [EXCHANGE] = true,
    [ROUTING_KEY] = true};
static const int rare_widths[RARES] = {0, 0, 0, 0, 0, 8, 2};

struct row {
	struct bytes columns[COLUMNS];
	struct bytes rares[RARES];
	bool record; /* the rares count, not columns[RARE] */
	char size[4];
	char body[256 * LONG_BODY];
	char text[4096]; /* of the record */
};

static struct row rows[ROWS_MAX];

static void
row_begin(struct row * row, bool has_id)
{
	memset(row->columns, 0, sizeof(row->columns));
	memset(row->rares, 0, sizeof(row->rares));
	row->record = false;
	memset(row->size, 0, sizeof(row->size));
	row->columns[ID] = has_id ? (struct bytes){"\0\0\0\0\0\0\0\7", 8} : BYTES_NONE;
	row->columns[SIZE] = (struct bytes){row->size, 4};
	row->columns[MESSAGE_ID] = (struct bytes){"0123456789abcdef", 16};
	row->columns[CREATED_AT] = (struct bytes){"\0\2\x9c\x3f\x1d\0\0\0", 8};
	row->columns[PERSISTENT] = (struct bytes){"\1", 1};
	row->columns[EXCHANGE] = (struct bytes){"ex", 2};
	row->columns[ROUTING_KEY] = (struct bytes){"rk", 2};
	row->columns[PAYLOAD_TEXT] = (struct bytes){"hello", 5};
}

static struct bytes
take_value(struct input * in)
{
	unsigned int len = input_byte(in);

	return (len == 255 ? BYTES_NONE : input_bytes(in, len));
}

static void
row_make_long(struct row * row, unsigned int n)
{
	uint32_t size = htobe32(n * LONG_BODY);

	memset(row->body, 'b', sizeof(row->body));
	memcpy(row->size, &size, sizeof(size));
	row->columns[PAYLOAD] = (struct bytes){row->body, n * LONG_BODY};
}

/* The record of the rares: how many, then a type, a length and the bytes of each. */
static void
row_end(struct row * row)
{
	char * p = row->text;
	uint32_t n = htobe32(RARES);

	if (!row->record)
		return;
	memcpy(p, &n, sizeof(n));
	p += sizeof(n);
	for (int i = 0; i < RARES; i++) {
		struct bytes b = row->rares[i];

		n = htobe32(25);
		memcpy(p, &n, sizeof(n));
		n = htobe32(bytes_present(b) ? (uint32_t)b.len : UINT32_MAX);
		memcpy(p + sizeof(n), &n, sizeof(n));
		p += 2 * sizeof(n);
		if (b.len > 0)
			memcpy(p, b.data, b.len);
		p += b.len;
	}
	row->columns[RARE] = (struct bytes){row->text, (size_t)(p - row->text)};
}

/* Whether the column of a server whose table is ours could hold it. */
static bool
row_is_sound(const struct row * row)
{
	for (int i = 0; i < COLUMNS; i++) {
		const struct bytes * b = &row->columns[i];

		if (!bytes_present(*b) && required[i])
			return (false);
		if (bytes_present(*b) &&
		    ((widths[i] > 0 && b->len != (size_t)widths[i]) ||
			(widths[i] < 0 && b->len == 0)))
			return (false);
	}
	for (int i = 0; i < RARES; i++)
		if (row->record && bytes_present(row->rares[i]) && rare_widths[i] > 0 &&
		    row->rares[i].len != (size_t)rare_widths[i])
			return (false);
	return (row->record || !bytes_present(row->columns[RARE]));
}

static struct bytes
json_text(struct bytes b)
{
	return (bytes_present(b) ? (struct bytes){b.data + 1, b.len - 1} : b);
}

static void
compare_bytes(struct bytes got, struct bytes wanted)
{
	CHECK(bytes_present(got) == bytes_present(wanted) && bytes_equal(got, wanted));
}

static void
compare(const struct message * m, const struct row * row)
{
	const struct bytes * c = row->columns;
	struct bytes body = bytes_present(c[PAYLOAD]) ? c[PAYLOAD] :
	    bytes_present(c[PAYLOAD_TEXT])            ? c[PAYLOAD_TEXT] :
							json_text(c[PAYLOAD_JSON]);
	int64_t n;

	CHECK(m->id == wire_read_int64(c[ID].data));
	CHECK(memcmp(m->message_id, c[MESSAGE_ID].data, 16) == 0);
	CHECK(m->persistent == (c[PERSISTENT].data[0] != 0));
	CHECK(m->timestamp_s >= 0 || m->timestamp_s == MESSAGE_UNFIT);
	compare_bytes(m->exchange, c[EXCHANGE]);
	compare_bytes(m->routing_key, c[ROUTING_KEY]);
	compare_bytes(m->body, body);
	compare_bytes(m->ordering_key, c[ORDERING_KEY]);
	compare_bytes(m->headers, json_text(c[HEADERS]));
	compare_bytes(m->content_type, c[CONTENT_TYPE]);
	compare_bytes(m->type, row->rares[0]);
	compare_bytes(m->app_id, row->rares[1]);
	compare_bytes(m->content_encoding, row->rares[2]);
	compare_bytes(m->correlation_id, row->rares[3]);
	compare_bytes(m->reply_to, row->rares[4]);
	CHECK((m->key != 0) == (bytes_present(c[ORDERING_KEY]) != 0));
	n = bytes_present(row->rares[5]) ? wire_read_int64(row->rares[5].data) : -1;
	CHECK(m->expiration_ms == (n >= 0 || !bytes_present(row->rares[5]) ? n : MESSAGE_UNFIT));
	n = bytes_present(row->rares[6]) ? wire_read_int16(row->rares[6].data) : -1;
	CHECK(m->priority == (n >= 0 || !bytes_present(row->rares[6]) ? n : MESSAGE_UNFIT));
}

static PGresult *
make_result(size_t count, int front, int columns)
{
	PGresult * result = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
	PGresAttDesc names[FRONT_MAX + COLUMNS];

	memset(names, 0, sizeof(names));
	for (int i = 0; i < front + columns; i++) {
		names[i].name = (char[]){"c"};
		names[i].format = 1;
	}
	CHECK(PQsetResultAttrs(result, front + columns, names));
	for (size_t n = 0; n < count; n++)
		for (int i = 0; i < columns; i++) {
			const struct bytes * b = &rows[n].columns[i];

			CHECK(PQsetvalue(result, (int)n, front + i, (char *)(uintptr_t)b->data,
			    bytes_present(*b) ? (int)b->len : -1));
		}
	return (result);
}

static void
through(size_t count, int front, int columns)
{
	PGresult * result = make_result(count, front, columns);
	size_t first = 0, i;
	bool sound = columns == COLUMNS;
	struct batch * batch;
	struct message * kept;
	struct error e;
	int64_t bytes;

	while (first < count && !bytes_present(rows[first].columns[ID]))
		first++;
	for (i = first; i < count; i++)
		sound = sound && row_is_sound(&rows[i]);
	batch = rows_to_batch(&result, front, &bytes, &e);
	if (batch == NULL) {
		/* A record that nobody but the fuzzer wrote may be a good one. */
		CHECK(e.text[0] != '\0' ? !sound : first == count);
	} else {
		CHECK(batch->count == count - first && batch->references == 1);
		for (i = first; i < count; i++) {
			if (!bytes_present(rows[i].columns[RARE]) || rows[i].record)
				CHECK(row_is_sound(&rows[i]));
			if (sound)
				compare(batch->messages[i - first], &rows[i]);
		}
		/* One is kept longer than the batch that it came in. */
		kept = batch->messages[0];
		batch_ref(kept->batch);
		PQclear(result);
		result = NULL;
		batch_unref(batch);
		if (sound)
			compare(kept, &rows[first]);
		batch_unref(kept->batch);
	}
	PQclear(result);
}

int
LLVMFuzzerTestOneInput(const uint8_t * data, size_t size)
{
	struct input in = {(const char *)data, size};
	int front = 0, columns = COLUMNS;
	size_t count = 0;

	message_key_seed(1, 2);
	while (in.left > 0) {
		unsigned int letter = input_byte(&in);
		struct row * row = &rows[count > 0 ? count - 1 : 0];

		if ((letter == 'R' || letter == 'Z') && count < ROWS_MAX)
			row_begin(&rows[count++], letter == 'R');
		else if (letter == 'O')
			front = (int)(input_byte(&in) % (FRONT_MAX + 1));
		else if (letter == 'C')
			columns = (int)(input_byte(&in) % (COLUMNS + 1));
		else if (count == 0)
			continue;
		else if (letter == '+')
			row_make_long(row, input_byte(&in));
		else if (letter >= 'A' && letter < 'A' + COLUMNS) {
			row->columns[letter - 'A'] = take_value(&in);
			row->record = row->record && letter != 'A' + RARE;
		} else if (letter >= 'a' && letter < 'a' + RARES) {
			row->rares[letter - 'a'] = take_value(&in);
			row->record = true;
		}
	}
	for (size_t i = 0; i < count; i++) {
		if (!rows[i].record)
			memset(rows[i].rares, 0, sizeof(rows[i].rares));
		row_end(&rows[i]);
	}
	through(count, front, columns);
	return (0);
}
