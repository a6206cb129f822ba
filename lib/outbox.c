#include "outbox.h"

#include <assert.h>
#include <endian.h>
#include <stdio.h>
#include <string.h>

#include "outbox_check.h"
#include "outbox_text.h"
#include "outbox_version.h"

/*
 * Publishing is one INSERT in the caller's transaction; a scheduled message
 * goes through write_message(), the one way in which a writer reaches the
 * table of the delayed.
 *
 * What must stay true: nothing is sent before everything is checked that can
 * be; no statement begins or ends a transaction; a batch leaves the connection
 * as it found it, out of pipeline mode and with no result unread, whatever
 * happens in between; after an error nothing that was sent can be committed.
 *
 * Text travels as it is if the connection speaks UTF-8, and as bytes that the
 * server converts if it speaks anything else.
 */
enum parameter {
	EXCHANGE,
	ROUTING_KEY,
	PAYLOAD,
	PAYLOAD_TEXT,
	PAYLOAD_JSON,
	ORDERING_KEY,
	HEADERS,
	TYPE,
	CONTENT_TYPE,
	CONTENT_ENCODING,
	CORRELATION_ID,
	REPLY_TO,
	EXPIRATION,
	PRIORITY,
	APP_ID,
	PERSISTENT,
	MESSAGE_ID,
	DELIVER_AT,
	PARAMETERS
};

/* Built-in types, whose numbers never change. */
enum oid {
	OID_BOOL = 16,
	OID_BYTEA = 17,
	OID_INT4 = 23,
	OID_TEXT = 25,
	OID_TIMESTAMPTZ = 1184,
	OID_INTERVAL = 1186,
	OID_UUID = 2950
};

#define SQL_MAX 2048
#define SCHEMA_MAX 63                 /* bytes; quoted at most twice as many and two */
#define EPOCH_2000_US 946684800000000 /* Postgres counts from 2000 */

/* A batch is read back after so much, so that neither side's buffers fill. */
#define CHUNK_MESSAGES 256
#define CHUNK_BYTES (1 << 20)

struct statement {
	char insert[SQL_MAX];
	char schedule[SQL_MAX];
	Oid types[PARAMETERS];
};

struct parameters {
	const char * values[PARAMETERS];
	int lengths[PARAMETERS];
	int formats[PARAMETERS];
	struct {
		int64_t us;
		int32_t days, months;
	} expiration;
	int64_t deliver_at;
	char priority[8];
};

/* ---- the statement ---- */

/* @ is the schema, #4 is parameter 4 as text. */
static const char insert_template[] =
    "INSERT INTO @.message (exchange, routing_key, payload, payload_text, payload_json, "
    "ordering_key, headers, type, content_type, content_encoding, correlation_id, reply_to, "
    "expiration, priority, app_id, persistent, message_id) "
    "VALUES (#1, #2, $3, #4, #5::jsonb, #6, #7::jsonb, #8, #9, #10, #11, #12, "
    "$13, $14, #15, $16, coalesce($17, @.uuid_v7())) RETURNING message_id";

static const char schedule_template[] =
    "SELECT @.write_message(#1, #2, $3, #4, #5::jsonb, #6, #7::jsonb, #8, #9, #10, #11, #12, "
    "$13, $14, #15, $16, $17, $18)";

static const Oid types[PARAMETERS] = {
    [EXCHANGE] = OID_TEXT,
    [ROUTING_KEY] = OID_TEXT,
    [PAYLOAD] = OID_BYTEA,
    [PAYLOAD_TEXT] = OID_TEXT,
    [PAYLOAD_JSON] = OID_TEXT,
    [ORDERING_KEY] = OID_TEXT,
    [HEADERS] = OID_TEXT,
    [TYPE] = OID_TEXT,
    [CONTENT_TYPE] = OID_TEXT,
    [CONTENT_ENCODING] = OID_TEXT,
    [CORRELATION_ID] = OID_TEXT,
    [REPLY_TO] = OID_TEXT,
    [EXPIRATION] = OID_INTERVAL,
    [PRIORITY] = OID_INT4,
    [APP_ID] = OID_TEXT,
    [PERSISTENT] = OID_BOOL,
    [MESSAGE_ID] = OID_UUID,
    [DELIVER_AT] = OID_TIMESTAMPTZ,
};

static size_t
append(char * sql, size_t n, const char * text, size_t len)
{
	assert(n + len < SQL_MAX);
	memcpy(sql + n, text, len);
	return (n + len);
}

/* ${schema} is quoted, and short enough for SQL_MAX: see prepare(). */
static void
write_sql(char sql[SQL_MAX], const char * template, const char * schema, bool convert)
{
	size_t n = 0;

	for (const char * p = template; *p != '\0'; p++) {
		if (*p == '@')
			n = append(sql, n, schema, strlen(schema));
		else if (*p == '#') {
			size_t digits = strspn(p + 1, "0123456789");

			if (convert)
				n = append(sql, n, "convert_from(", 13);
			n = append(sql, n, "$", 1);
			n = append(sql, n, p + 1, digits);
			if (convert)
				n = append(sql, n, ", 'UTF8')", 9);
			p += digits;
		} else
			n = append(sql, n, p, 1);
	}
	sql[n] = '\0';
}

/* SQL_ASCII stands for: no conversion. */
static bool
speaks_utf8(PGconn * db)
{
	const char * encoding = PQparameterStatus(db, "client_encoding");

	return (encoding != NULL && (!strcmp(encoding, "UTF8") || !strcmp(encoding, "SQL_ASCII")));
}

static enum outbox_code
prepare(struct statement * s, PGconn * db, const struct outbox_options * options,
    struct outbox_error * error)
{
	const char * schema = options != NULL && options->schema != NULL ?
	    options->schema :
	    "outbox";
	size_t len = strnlen(schema, SCHEMA_MAX + 1);
	bool convert = !speaks_utf8(db);
	char * quoted;

	if (len == 0 || len > SCHEMA_MAX || outbox_utf8_invalid(schema, len) < len)
		return (outbox_error_set(error, OUTBOX_INVALID, "schema",
		    "schema must be a name of 1 to %d bytes", SCHEMA_MAX));
	if ((quoted = PQescapeIdentifier(db, schema, len)) == NULL)
		return (outbox_error_set(error, OUTBOX_INVALID, "schema", "schema: %s",
		    PQerrorMessage(db)));
	write_sql(s->insert, insert_template, quoted, convert);
	write_sql(s->schedule, schedule_template, quoted, convert);
	PQfreemem(quoted);
	for (int i = 0; i < PARAMETERS; i++)
		s->types[i] = convert && types[i] == OID_TEXT ? (Oid)OID_BYTEA : types[i];
	return (OUTBOX_OK);
}

/* ---- its parameters ---- */

static size_t
set_bytes(struct parameters * p, enum parameter i, const void * data, size_t len)
{
	p->values[i] = data;
	p->lengths[i] = (int)len;
	p->formats[i] = 1;
	return (data == NULL ? 0 : len);
}

static size_t
set_text(struct parameters * p, enum parameter i, const char * text)
{
	return (set_bytes(p, i, text, text == NULL ? 0 : strlen(text)));
}

/* Returns about how many bytes are sent. */
static size_t
set_parameters(struct parameters * p, const struct outbox_message * m)
{
	const char * content_type = m->content_type == NULL ? "application/json" : m->content_type;
	int64_t expiration_us = m->expiration_ms == OUTBOX_EXPIRES_AT_ONCE ?
	    0 :
	    m->expiration_ms * 1000;
	size_t size = 256;

	memset(p, 0, sizeof(*p));
	size += set_text(p, EXCHANGE, m->exchange == NULL ? "" : m->exchange);
	size += set_text(p, ROUTING_KEY, m->routing_key);
	size += set_bytes(p, PAYLOAD, m->payload, m->payload_len);
	size += set_text(p, PAYLOAD_TEXT, m->payload_text);
	size += set_text(p, PAYLOAD_JSON, m->payload_json);
	size += set_text(p, ORDERING_KEY, m->ordering_key);
	size += set_text(p, HEADERS, m->headers);
	size += set_text(p, TYPE, m->type);
	size += set_text(p, CONTENT_TYPE, *content_type == '\0' ? NULL : content_type);
	size += set_text(p, CONTENT_ENCODING, m->content_encoding);
	size += set_text(p, CORRELATION_ID, m->correlation_id);
	size += set_text(p, REPLY_TO, m->reply_to);
	size += set_text(p, APP_ID, m->app_id);
	p->expiration.us = (int64_t)htobe64((uint64_t)expiration_us);
	if (m->expiration_ms != 0)
		set_bytes(p, EXPIRATION, &p->expiration, sizeof(p->expiration));
	p->deliver_at = (int64_t)htobe64((uint64_t)(m->deliver_at_us - EPOCH_2000_US));
	if (m->deliver_at_us != 0)
		set_bytes(p, DELIVER_AT, &p->deliver_at, sizeof(p->deliver_at));
	/* These three in text form. */
	snprintf(p->priority, sizeof(p->priority), "%d", m->priority);
	p->values[PRIORITY] = m->priority == 0 ? NULL : p->priority;
	p->values[PERSISTENT] = m->transient ? "f" : "t";
	p->values[MESSAGE_ID] = m->message_id;
	return (size);
}

static const char *
sql_for(const struct statement * s, const struct outbox_message * m)
{
	return (m->deliver_at_us != 0 ? s->schedule : s->insert);
}

/* ---- errors ---- */

#define OUT_OF_MEMORY "53200" /* SQLSTATE */

static enum outbox_code
check_connection(PGconn * db, struct outbox_error * error)
{
	if (db == NULL)
		return (outbox_error_set(error, OUTBOX_NO_CONNECTION, NULL,
		    "the connection is NULL"));
	if (PQstatus(db) != CONNECTION_OK)
		return (outbox_error_set(error, OUTBOX_NO_CONNECTION, NULL,
		    "the connection to Postgres is closed"));
	if (PQpipelineStatus(db) != PQ_PIPELINE_OFF)
		return (outbox_error_set(error, OUTBOX_BUSY, NULL,
		    "the connection is in pipeline mode: leave it, or use outbox_publish_batch()"));
	switch (PQtransactionStatus(db)) {
	case PQTRANS_INTRANS:
		return (OUTBOX_OK);
	case PQTRANS_IDLE:
		return (outbox_error_set(error, OUTBOX_NO_TRANSACTION, NULL,
		    "no transaction is open: BEGIN first, so that the message is sent only if "
		    "your own changes are committed"));
	case PQTRANS_INERROR:
		return (outbox_error_set(error, OUTBOX_FAILED, NULL,
		    "a statement before has failed: roll the transaction back"));
	case PQTRANS_ACTIVE:
		return (outbox_error_set(error, OUTBOX_BUSY, NULL,
		    "another statement is active on the connection: read its results first"));
	case PQTRANS_UNKNOWN:
	default:
		return (outbox_error_set(error, OUTBOX_NO_CONNECTION, NULL,
		    "the connection to Postgres is bad"));
	}
}

/* The DETAIL is left out: it would repeat the row. */
static enum outbox_code
refused(PGconn * db, const PGresult * result, struct outbox_error * error)
{
	const char * severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
	const char * state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char * text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	const char * field = PQresultErrorField(result, PG_DIAG_COLUMN_NAME);

	if (field == NULL)
		field = PQresultErrorField(result, PG_DIAG_CONSTRAINT_NAME);
	/* FATAL, PANIC: the server has ended the session, though libpq may not know yet. */
	if (PQstatus(db) != CONNECTION_OK || (severity != NULL && strcmp(severity, "ERROR") != 0))
		return (outbox_error_set(error, OUTBOX_NO_CONNECTION, NULL,
		    "the connection to Postgres is lost: %s",
		    text != NULL ? text : PQerrorMessage(db)));
	if (state == NULL)
		outbox_error_set(error, OUTBOX_REFUSED, NULL,
		    "no memory for a statement or its answer; roll back: %s", PQerrorMessage(db));
	else
		outbox_error_set(error, OUTBOX_REFUSED, field, "Postgres refuses the message: %s",
		    text == NULL ? state : text);
	snprintf(error->sqlstate, sizeof(error->sqlstate), "%s",
	    state == NULL ? OUT_OF_MEMORY : state);
	return (error->code);
}

/*
 * Whose answer was lost may be there or not: like any statement that was
 * refused it must take its transaction along.
 */
static enum outbox_code
spoil_if_refused(PGconn * db, const struct outbox_error * error)
{
	if (error->code == OUTBOX_REFUSED && PQtransactionStatus(db) == PQTRANS_INTRANS)
		PQclear(PQexec(db,
		    "DO $$BEGIN RAISE 'liboutbox could not write a message of this transaction' "
		    "USING ERRCODE = '" OUT_OF_MEMORY "'; END$$"));
	return (error->code);
}

/* ${id} may be NULL. */
static void
take_answer(const PGresult * result, char id[OUTBOX_ID_SIZE], struct outbox_error * error)
{
	if (PQntuples(result) != 1)
		outbox_error_set(error, OUTBOX_REFUSED, NULL,
		    "no row was written: does a trigger of the outbox keep it out?");
	else if (id != NULL)
		snprintf(id, OUTBOX_ID_SIZE, "%s", PQgetvalue(result, 0, 0));
}

/* ---- one ---- */

enum outbox_code
outbox_publish(PGconn * db, const struct outbox_message * message,
    const struct outbox_options * options, char id[OUTBOX_ID_SIZE], struct outbox_error * error)
{
	struct outbox_error own;
	struct parameters p;
	struct statement s;
	PGresult * result;

	if (error == NULL)
		error = &own;
	memset(error, 0, sizeof(*error));
	if (check_connection(db, error))
		return (error->code);
	if (message == NULL)
		return (outbox_error_set(error, OUTBOX_INVALID, NULL, "the message is NULL"));
	if (outbox_check_message(message, error) || prepare(&s, db, options, error))
		return (error->code);
	set_parameters(&p, message);
	result = PQexecParams(db, sql_for(&s, message), PARAMETERS, s.types, p.values, p.lengths,
	    p.formats, 0);
	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		refused(db, result, error);
	else
		take_answer(result, id, error);
	PQclear(result);
	return (spoil_if_refused(db, error));
}

/* ---- many ---- */

struct batch {
	PGconn * db;
	const struct statement * statement;
	const struct outbox_message * messages;
	size_t count;
	char (*ids)[OUTBOX_ID_SIZE];
	struct outbox_error * error;
	const char * prepared; /* as the unnamed statement */
};

/*
 * Send messages from first on; returns where the next chunk begins.  A message
 * that libpq could not send may have gone out all the same: that is the end.
 */
static size_t
send_chunk(struct batch * b, size_t first)
{
	size_t next = first, size = 0;

	while (next < b->count && next - first < CHUNK_MESSAGES && size < CHUNK_BYTES) {
		const struct outbox_message * m = &b->messages[next];
		const char * sql = sql_for(b->statement, m);
		struct parameters p;

		if (sql != b->prepared &&
		    !PQsendPrepare(b->db, "", sql, PARAMETERS, b->statement->types)) {
			refused(b->db, NULL, b->error);
			break;
		}
		b->prepared = sql;
		size += set_parameters(&p, m);
		if (!PQsendQueryPrepared(b->db, "", PARAMETERS, p.values, p.lengths, p.formats,
			0)) {
			refused(b->db, NULL, b->error);
			break;
		}
		next++;
	}
	return (next);
}

/* Read what came of the messages from first on, up to the Sync. */
static enum outbox_code
read_chunk(struct batch * b, size_t first)
{
	size_t at = first;
	int nothing = 0;

	for (;;) {
		PGresult * result = PQgetResult(b->db);
		ExecStatusType status = PQresultStatus(result);

		/* One NULL ends a statement; more say that nothing will come. */
		nothing = result == NULL ? nothing + 1 : 0;
		if (nothing > 1) {
			if (b->error->code == OUTBOX_OK)
				refused(b->db, NULL, b->error);
			break;
		}
		if (status == PGRES_TUPLES_OK) {
			if (b->error->code == OUTBOX_OK) {
				take_answer(result, b->ids == NULL ? NULL : b->ids[at], b->error);
				b->error->index = at;
			}
			at++;
		} else if (status == PGRES_FATAL_ERROR && result != NULL &&
		    b->error->code == OUTBOX_OK) {
			refused(b->db, result, b->error);
			b->error->index = at;
		}
		PQclear(result);
		if (status == PGRES_PIPELINE_SYNC)
			break;
	}
	return (b->error->code);
}

static enum outbox_code
publish_batch(struct batch * b)
{
	size_t next;

	for (size_t first = 0; first < b->count; first = next) {
		next = send_chunk(b, first);
		b->error->index = b->error->code == OUTBOX_OK ? first : next;
		if (!PQpipelineSync(b->db))
			return (outbox_error_set(b->error, OUTBOX_NO_CONNECTION, NULL,
			    "cannot send to Postgres: %s", PQerrorMessage(b->db)));
		if (read_chunk(b, first))
			return (b->error->code);
	}
	b->error->index = 0;
	return (OUTBOX_OK);
}

enum outbox_code
outbox_publish_batch(PGconn * db, const struct outbox_message * messages, size_t count,
    const struct outbox_options * options, char (*ids)[OUTBOX_ID_SIZE], struct outbox_error * error)
{
	struct outbox_error own;
	struct statement s;
	struct batch b = {.db = db,
	    .statement = &s,
	    .messages = messages,
	    .count = count,
	    .ids = ids};

	if (error == NULL)
		error = &own;
	memset(error, 0, sizeof(*error));
	b.error = error;
	if (check_connection(db, error))
		return (error->code);
	for (size_t i = 0; i < count; i++) {
		error->index = i;
		if (outbox_check_message(&messages[i], error))
			return (error->code);
	}
	error->index = 0;
	if (prepare(&s, db, options, error) || count == 0)
		return (error->code);
	if (!PQenterPipelineMode(db))
		return (outbox_error_set(error, OUTBOX_BUSY, NULL,
		    "the connection cannot enter pipeline mode: %s", PQerrorMessage(db)));
	publish_batch(&b);
	/* After a lost connection it cannot, and need not. */
	if (!PQexitPipelineMode(db) && error->code != OUTBOX_NO_CONNECTION)
		outbox_error_set(error, OUTBOX_NO_CONNECTION, NULL,
		    "out of step with Postgres, close the connection: %s", PQerrorMessage(db));
	return (spoil_if_refused(db, error));
}

const char *
outbox_version(void)
{
	return (OUTBOX_VERSION);
}
