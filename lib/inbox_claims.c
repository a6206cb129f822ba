#include "inbox_claims.h"

#include <endian.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inbox_error.h"
#include "outbox_version.h"

/*
 * Claims in the caller's transaction.  As in liboutbox: what can be checked
 * without the server is checked before anything is sent, so that the
 * transaction lives on; and nothing begins or ends it.
 */
enum inbox_code
inbox_quote_schema(char quoted[INBOX_QUOTED_MAX + 1], const char * schema,
    struct inbox_error * error)
{
	char * p = quoted;

	if (schema == NULL)
		schema = "inbox";
	if (*schema == '\0' || strnlen(schema, INBOX_SCHEMA_MAX + 1) > INBOX_SCHEMA_MAX)
		return (inbox_error_set(error, INBOX_INVALID,
		    "schema must be a name of 1 to %d bytes", INBOX_SCHEMA_MAX));
	*p++ = '"';
	for (; *schema != '\0'; schema++) {
		if (*schema == '"')
			*p++ = '"';
		*p++ = *schema;
	}
	*p++ = '"';
	*p = '\0';
	return (INBOX_OK);
}

static char *
put32(char * p, uint32_t n)
{
	n = htobe32(n);
	memcpy(p, &n, sizeof(n));
	return (p + sizeof(n));
}

bool
inbox_array_make(struct inbox_array * array, const char * const * texts, size_t count)
{
	size_t size = 5 * sizeof(uint32_t);
	char * p;

	for (size_t i = 0; i < count; i++)
		size += sizeof(uint32_t) + strlen(texts[i]);
	if (size > INT_MAX || (array->data = p = malloc(size)) == NULL)
		return (false);
	array->len = (int)size;
	p = put32(p, 1); /* dimensions */
	p = put32(p, 0); /* no NULL in it */
	p = put32(p, INBOX_OID_TEXT);
	p = put32(p, (uint32_t)count);
	p = put32(p, 1); /* the first index */
	for (size_t i = 0; i < count; i++) {
		size_t len = strlen(texts[i]);

		p = put32(p, (uint32_t)len);
		memcpy(p, texts[i], len);
		p += len;
	}
	return (true);
}

/* Pointers into the list of ids: by what they say, then by where they stand. */
static int
compare(const void * a, const void * b)
{
	const char * const * x = *(const char * const * const *)a;
	const char * const * y = *(const char * const * const *)b;
	int order = strcmp(*x, *y);

	return (order != 0 ? order : (x > y) - (x < y));
}

bool
inbox_claims_match(const PGresult * result, const char * const * ids, size_t count, bool * are_new)
{
	const char * const ** sorted = malloc((count + 1) * sizeof(*sorted));
	int rows = PQntuples(result);

	if (sorted == NULL)
		return (false);
	for (size_t i = 0; i < count; i++) {
		sorted[i] = &ids[i];
		are_new[i] = false;
	}
	qsort(sorted, count, sizeof(*sorted), compare);
	for (int row = 0; row < rows; row++) {
		const char * id = PQgetvalue(result, row, 0);
		size_t low = 0, high = count;

		while (low < high) {
			size_t middle = low + (high - low) / 2;

			if (strcmp(*sorted[middle], id) < 0)
				low = middle + 1;
			else
				high = middle;
		}
		if (low < count && strcmp(*sorted[low], id) == 0)
			are_new[sorted[low] - ids] = true;
	}
	free((void *)sorted);
	return (true);
}

static enum inbox_code
check_connection(PGconn * db, struct inbox_error * error)
{
	if (db == NULL)
		return (inbox_error_set(error, INBOX_NO_CONNECTION, "the connection is NULL"));
	if (PQstatus(db) != CONNECTION_OK)
		return (inbox_error_set(error, INBOX_NO_CONNECTION,
		    "the connection to Postgres is closed"));
	if (PQpipelineStatus(db) != PQ_PIPELINE_OFF)
		return (inbox_error_set(error, INBOX_BUSY, "the connection is in pipeline mode"));
	switch (PQtransactionStatus(db)) {
	case PQTRANS_INTRANS:
		return (INBOX_OK);
	case PQTRANS_IDLE:
		return (inbox_error_set(error, INBOX_NO_TRANSACTION,
		    "no transaction is open: BEGIN first, so that claim and work are committed "
		    "together"));
	case PQTRANS_INERROR:
		return (inbox_error_set(error, INBOX_FAILED,
		    "a statement before has failed: roll the transaction back"));
	case PQTRANS_ACTIVE:
		return (inbox_error_set(error, INBOX_BUSY,
		    "another statement is active on the connection: read its results first"));
	case PQTRANS_UNKNOWN:
	default:
		return (inbox_error_set(error, INBOX_NO_CONNECTION,
		    "the connection to Postgres is bad"));
	}
}

/*
 * Behind the character at ${p}, or NULL if it is none of UTF-8 (RFC 3629).  The
 * zero at the end of a text is no continuation, so nothing behind it is read.
 */
static const char *
next_character(const char * p)
{
	unsigned char first = (unsigned char)p[0], second;
	int more = first < 0x80 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;

	if (more == 0)
		return (p + 1);
	if (first < 0xc2 || first > 0xf4)
		return (NULL);
	for (int i = 1; i <= more; i++) {
		if (((unsigned char)p[i] & 0xc0) != 0x80)
			return (NULL);
	}
	/* Overlong forms, surrogates, and above U+10FFFF. */
	second = (unsigned char)p[1];
	if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
	    (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f))
		return (NULL);
	return (p + more + 1);
}

/* By the rules of the columns of inbox.message, and what the server would take. */
static enum inbox_code
check_name(PGconn * db, const char * what, const char * text, struct inbox_error * error)
{
	const char * encoding = PQparameterStatus(db, "client_encoding");
	bool ascii = true;

	if (text == NULL || *text == '\0')
		return (inbox_error_set(error, INBOX_INVALID, "%s is %s", what,
		    text == NULL ? "NULL" : "empty"));
	if (strnlen(text, 256) > 255)
		return (inbox_error_set(error, INBOX_INVALID, "%s is longer than 255 bytes", what));
	for (const char *p = text, *next; *p != '\0'; p = next) {
		if ((next = next_character(p)) == NULL)
			return (inbox_error_set(error, INBOX_INVALID,
			    "%s is not valid UTF-8 at byte %td", what, p - text));
		ascii = ascii && next == p + 1;
	}
	if (!ascii && (encoding == NULL || strcmp(encoding, "UTF8") != 0))
		return (inbox_error_set(error, INBOX_INVALID,
		    "%s has other characters than ASCII, and client_encoding is %s: set it to UTF8",
		    what, encoding == NULL ? "unknown" : encoding));
	return (INBOX_OK);
}

static enum inbox_code
start(PGconn * db, const char * consumer, const struct inbox_options * options,
    char schema[INBOX_QUOTED_MAX + 1], struct inbox_error * error)
{
	enum inbox_code code;

	inbox_error_set(error, INBOX_OK, "%s", "");
	if ((code = check_connection(db, error)) != INBOX_OK)
		return (code);
	if ((code = check_name(db, "the consumer's name", consumer, error)) != INBOX_OK)
		return (code);
	return (inbox_quote_schema(schema, options == NULL ? NULL : options->schema, error));
}

/*
 * A claim whose answer was lost may be there, and its message not be handled:
 * it must not be committed.
 */
static enum inbox_code
lost_answer(PGconn * db, struct inbox_error * error)
{
	if (PQtransactionStatus(db) == PQTRANS_INTRANS)
		PQclear(PQexec(db,
		    "DO $$BEGIN RAISE 'libinbox has lost the answer to a claim' "
		    "USING ERRCODE = '53200'; END$$"));
	inbox_error_set(error, INBOX_REFUSED, "no memory for the answer to a claim; roll back");
	if (error != NULL)
		snprintf(error->sqlstate, sizeof(error->sqlstate), "53200");
	return (INBOX_REFUSED);
}

enum inbox_code
inbox_claim(PGconn * db, const char * consumer, const char * message_id,
    const struct inbox_options * options, bool * is_new, struct inbox_error * error)
{
	const Oid types[] = {INBOX_OID_TEXT, INBOX_OID_TEXT};
	const char * const values[] = {consumer, message_id};
	char schema[INBOX_QUOTED_MAX + 1], sql[INBOX_QUOTED_MAX + 64];
	enum inbox_code code;
	PGresult * result;

	*is_new = false;
	if ((code = start(db, consumer, options, schema, error)) != INBOX_OK)
		return (code);
	if ((code = check_name(db, "the message id", message_id, error)) != INBOX_OK)
		return (code);
	snprintf(sql, sizeof(sql), "SELECT %s.claim($1, $2)", schema);
	result = PQexecParams(db, sql, 2, types, values, NULL, NULL, 0);
	if (PQresultStatus(result) == PGRES_TUPLES_OK)
		*is_new = *PQgetvalue(result, 0, 0) == 't';
	else
		code = inbox_error_result(error, db, result);
	PQclear(result);
	return (code == INBOX_NO_MEMORY ? lost_answer(db, error) : code);
}

enum inbox_code
inbox_claim_batch(PGconn * db, const char * consumer, const char * const * message_ids,
    size_t count, const struct inbox_options * options, bool * are_new, struct inbox_error * error)
{
	const Oid types[] = {INBOX_OID_TEXT, INBOX_OID_TEXT_ARRAY};
	const int formats[] = {0, 1};
	char schema[INBOX_QUOTED_MAX + 1], sql[INBOX_QUOTED_MAX + 64];
	struct inbox_array array;
	enum inbox_code code;
	PGresult * result;
	char what[40];

	if ((code = start(db, consumer, options, schema, error)) != INBOX_OK)
		return (code);
	if (count > INBOX_BATCH_MAX)
		return (inbox_error_set(error, INBOX_INVALID, "more than %d ids in one batch",
		    INBOX_BATCH_MAX));
	for (size_t i = 0; i < count; i++) {
		are_new[i] = false;
		snprintf(what, sizeof(what), "message id %zu", i);
		if ((code = check_name(db, what, message_ids[i], error)) != INBOX_OK)
			return (code);
	}
	if (count == 0)
		return (INBOX_OK);
	if (!inbox_array_make(&array, message_ids, count))
		return (inbox_error_set(error, INBOX_NO_MEMORY, "no memory for a batch"));
	snprintf(sql, sizeof(sql), "SELECT %s.claim($1, $2)", schema);
	result = PQexecParams(db, sql, 2, types, (const char * const[]){consumer, array.data},
	    (const int[]){0, array.len}, formats, 0);
	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		code = inbox_error_result(error, db, result);
	else if (!inbox_claims_match(result, message_ids, count, are_new))
		code = INBOX_NO_MEMORY;
	PQclear(result);
	free(array.data);
	return (code == INBOX_NO_MEMORY ? lost_answer(db, error) : code);
}

const char *
inbox_version(void)
{
	return (OUTBOX_VERSION);
}
