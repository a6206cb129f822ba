/*
 * What must stay true:
 *
 * The statements run in the order in which they stand in the list below.  A
 * delivered row is deleted last, since the release before it learns the keys
 * from the rows that are moved.
 *
 * Rows of messages are copied, never changed: the mark, in the same
 * transaction, covers them.  Should one be there already, it stays as it is.
 *
 * Whether a message that lines up behind others of its key has anybody to wait
 * for is decided here, not by the core: the row is put down as waiting, and the
 * release makes the first of each key due.
 *
 * Nothing here is prepared: the order of a join with the table that an UPDATE
 * or DELETE changes cannot be forced, and a plan that was made while the table
 * was empty and then kept would read all of it later.
 *
 * A mark that the server refuses would be tried again for ever, so a reason,
 * which comes from a broker, is made fit first.
 */
#include "postgres/moves.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "postgres/array.h"
#include "postgres/sql.h"

#define REASON_MAX 1000

/* clang-format off */

#define COPIED(row) \
	row ".id, " row ".message_id, " row ".exchange, " row ".routing_key, " row ".payload, " \
	row ".payload_text, " row ".payload_json, " row ".ordering_key, " row ".headers, " \
	row ".type, " row ".app_id, " row ".content_type, " row ".content_encoding, " \
	row ".correlation_id, " row ".reply_to, " row ".expiration, " row ".priority, " \
	row ".persistent, " row ".created_at"

/* $1 ids, $2 what it waits for or 'dead', $3 attempts, $4 microseconds or hold, $5 reasons. */
#define MOVES_SQL(fourth, type) \
	"unnest($1::bigint[], $2::text[], $3::int[], $4::" type "[], $5::text[]) " \
	"AS v (id, fate, attempts, " fourth ", reason)"

#define EVENT_SQL \
	"jsonb_build_object('at', now(), 'event', v.fate, 'attempts', v.attempts, " \
	"'reason', v.reason)"

/* The newest 20 of it. */
#define HISTORY_SQL(row) \
	"CASE WHEN v.reason IS NULL THEN " row ".history " \
	"WHEN jsonb_array_length(" row ".history) >= 20 THEN " row ".history - 0 || " EVENT_SQL " " \
	"ELSE " row ".history || " EVENT_SQL " END"

#define HISTORY_NEW_SQL \
	"CASE WHEN v.reason IS NULL THEN '[]' ELSE jsonb_build_array(" EVENT_SQL ") END"

/* Without a key there is nothing to line up behind. */
#define WAITS_SQL(row) \
	"CASE WHEN v.fate = 'key' AND " row ".ordering_key IS NULL THEN 'retry' ELSE v.fate END"
#define NEXT_SQL(row) \
	"CASE WHEN v.fate = 'retry' OR (v.fate = 'key' AND " row ".ordering_key IS NULL) " \
	"THEN now() + v.delay_us * interval '1 microsecond' ELSE 'infinity' END"

#define FRESH_SQL \
	"LATERAL (SELECT * FROM outbox.message m WHERE m.id = v.id OFFSET 0) f"

static const char insert_sql[] =
    "INSERT INTO outbox.delayed (" MOVES_COLUMNS_SQL ", waits_for, next_attempt_at, attempts, "
    "last_error, history) "
    "SELECT " COPIED("f") ", " WAITS_SQL("f") ", " NEXT_SQL("f") ", v.attempts, v.reason, "
    HISTORY_NEW_SQL
    " FROM " MOVES_SQL("delay_us", "bigint") ", " FRESH_SQL " ON CONFLICT (id) DO NOTHING";

static const char update_sql[] =
    "UPDATE outbox.delayed AS d SET waits_for = " WAITS_SQL("d") ", next_attempt_at = "
    NEXT_SQL("d") ", attempts = v.attempts, last_error = coalesce(v.reason, d.last_error), "
    "history = " HISTORY_SQL("d")
    " FROM " MOVES_SQL("delay_us", "bigint")
    " WHERE d.id = v.id AND NOT (d.waits_for = 'key' AND v.fate = 'key')";

#define DISCARDED_SQL "CASE WHEN v.fate = 'discarded' THEN now() END"

#define DEAD_SQL \
	"INSERT INTO outbox.dead (" MOVES_COLUMNS_SQL ", deliver_at, attempts, last_error, reason, " \
	"holds_key, discarded_at, history) "

static const char bury_fresh_sql[] =
    DEAD_SQL "SELECT " COPIED("f") ", NULL, v.attempts, v.reason, coalesce(v.reason, 'unknown'), "
    "v.hold AND f.ordering_key IS NOT NULL, " DISCARDED_SQL ", " HISTORY_NEW_SQL
    " FROM " MOVES_SQL("hold", "boolean") ", " FRESH_SQL " ON CONFLICT (id) DO NOTHING";

static const char bury_delayed_sql[] =
    "WITH gone AS (DELETE FROM outbox.delayed AS d USING " MOVES_SQL("hold", "boolean")
    " WHERE d.id = v.id RETURNING d.*, v.fate AS outbox_relay_fate, v.attempts AS "
    "outbox_relay_attempts, v.hold AS outbox_relay_hold, v.reason AS outbox_relay_reason) "
    DEAD_SQL "SELECT " COPIED("g") ", g.deliver_at, v.attempts, coalesce(v.reason, g.last_error), "
    "coalesce(v.reason, g.last_error, 'unknown'), v.hold AND g.ordering_key IS NOT NULL, "
    DISCARDED_SQL ", " HISTORY_SQL("g")
    " FROM gone AS g, LATERAL (SELECT g.outbox_relay_fate AS fate, g.outbox_relay_attempts AS "
    "attempts, g.outbox_relay_hold AS hold, g.outbox_relay_reason AS reason) AS v "
    "ON CONFLICT (id) DO NOTHING";

/* $1 all ids, $2 those that are delivered. */
static const char release_sql[] =
    "SELECT outbox.release_keys(array_agg(a.ordering_key), array_agg(a.gone), $2::bigint[]) FROM ("
    "SELECT k.ordering_key, min(v.id) FILTER (WHERE k.gone OR v.id IN (SELECT unnest($2::bigint[]))) "
    "AS gone FROM unnest($1::bigint[]) AS v (id), LATERAL ("
    "SELECT d.ordering_key, false FROM outbox.delayed d WHERE d.id = v.id UNION ALL "
    "SELECT x.ordering_key, true FROM outbox.dead x WHERE x.id = v.id OFFSET 0) k (ordering_key, gone) "
    "WHERE k.ordering_key IS NOT NULL GROUP BY k.ordering_key) a";

static const char deliver_sql[] =
    "DELETE FROM outbox.delayed AS d USING unnest($1::bigint[]) AS v (id) WHERE d.id = v.id";

/* clang-format on */

/* In the order of sending. */
enum statement { INSERT, UPDATE, BURY_FRESH, BURY_DELAYED, RELEASE, DELIVER, STATEMENTS };

static const char * const statements[STATEMENTS] = {[INSERT] = insert_sql,
    [UPDATE] = update_sql,
    [BURY_FRESH] = bury_fresh_sql,
    [BURY_DELAYED] = bury_delayed_sql,
    [RELEASE] = release_sql,
    [DELIVER] = deliver_sql};

/* The parameters of one of the first four; of the others, ids alone. */
struct group {
	size_t count;
	struct array ids, fates, attempts, fourth, reasons;
};

struct moves {
	char * sql[STATEMENTS];
	struct group groups[STATEMENTS];
	bool ascii; /* the server's encoding may lack what a reason holds */
};

struct moves *
moves_new(const char * schema)
{
	struct moves * moves;

	if ((moves = calloc(1, sizeof(*moves))) == NULL)
		return (NULL);
	for (size_t i = 0; i < STATEMENTS; i++) {
		if ((moves->sql[i] = sql_in_schema(statements[i], schema)) == NULL) {
			moves_free(moves);
			return (NULL);
		}
	}
	return (moves);
}

static void
moves_clear(struct moves * moves)
{
	for (size_t i = 0; i < STATEMENTS; i++) {
		struct group * group = &moves->groups[i];

		array_free(&group->ids);
		array_free(&group->fates);
		array_free(&group->attempts);
		array_free(&group->fourth);
		array_free(&group->reasons);
		group->count = 0;
	}
}

void
moves_free(struct moves * moves)
{
	if (moves == NULL)
		return;
	moves_clear(moves);
	for (size_t i = 0; i < STATEMENTS; i++)
		free(moves->sql[i]);
	free(moves);
}

void
moves_start(struct moves * moves, const struct connection * connection)
{
	moves->ascii = strcmp(connection_parameter(connection, "server_encoding"), "UTF8") != 0;
}

/* Length of the UTF-8 character at ${s}, of at most ${left} bytes; 0: none that Postgres takes. */
static size_t
character(const unsigned char * s, size_t left)
{
	static const struct {
		unsigned char mask, lead;
		uint32_t least;
	} forms[] = {{0x80, 0x00, 1}, {0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800},
	    {0xf8, 0xf0, 0x10000}};

	for (size_t n = 1; n <= 4 && n <= left; n++) {
		uint32_t code;

		if ((s[0] & forms[n - 1].mask) != forms[n - 1].lead)
			continue;
		code = s[0] & (unsigned char)~forms[n - 1].mask;
		for (size_t i = 1; i < n; i++) {
			if ((s[i] & 0xc0) != 0x80)
				return (0);
			code = code << 6 | (s[i] & 0x3f);
		}
		if (code < forms[n - 1].least || code > 0x10ffff ||
		    (code >= 0xd800 && code <= 0xdfff))
			return (0);
		return (n);
	}
	return (0);
}

/* Fit for the server, cut to REASON_MAX. */
static void
add_reason(struct array * reasons, struct bytes reason, bool ascii)
{
	char text[REASON_MAX];
	size_t length = 0, used;

	if (!bytes_present(reason)) {
		array_add_text(reasons, reason);
		return;
	}
	for (size_t at = 0; at < reason.len; at += used) {
		size_t n = character((const unsigned char *)reason.data + at, reason.len - at);

		used = n == 0 ? 1 : n;
		if (length + used > sizeof(text))
			break;
		if (n == 0 || (n > 1 && ascii))
			text[length++] = '?';
		else {
			memcpy(text + length, reason.data + at, n);
			length += n;
		}
	}
	array_add_text(reasons, (struct bytes){text, length});
}

static enum statement
statement_of(const struct move * move)
{
	if (move->fate == FATE_DELIVERED)
		return (DELIVER);
	if (move->fate == FATE_DEAD || move->fate == FATE_DISCARDED)
		return (move->delayed ? BURY_DELAYED : BURY_FRESH);
	return (move->delayed ? UPDATE : INSERT);
}

static struct bytes
fate_name(uint8_t fate)
{
	static const char * const names[] = {[FATE_RETRY] = "retry",
	    [FATE_WAIT_EXCHANGE] = "exchange",
	    [FATE_WAIT_QUEUE] = "queue",
	    [FATE_BEHIND] = "key",
	    [FATE_DEAD] = "dead",
	    [FATE_DISCARDED] = "discarded"};

	return (bytes_from(names[fate]));
}

static void
moves_add(struct moves * moves, const struct move * move)
{
	enum statement statement = statement_of(move);
	struct group * group = &moves->groups[statement];

	array_add_number(&moves->groups[RELEASE].ids, move->id);
	array_add_number(&group->ids, move->id);
	group->count++;
	if (statement == DELIVER)
		return;
	array_add_text(&group->fates, fate_name(move->fate));
	array_add_number(&group->attempts,
	    move->attempts > INT32_MAX ? INT32_MAX : (int64_t)move->attempts);
	if (statement == BURY_FRESH || statement == BURY_DELAYED)
		array_add_bool(&group->fourth, move->hold);
	else
		array_add_number(&group->fourth, move->fate == FATE_RETRY ? move->delay / 1000 : 0);
	add_reason(&group->reasons, move->reason, moves->ascii);
}

int
moves_load(struct moves * moves, const struct move * list, size_t count)
{
	moves_clear(moves);
	moves->groups[RELEASE].count = count;
	for (size_t i = 0; i < count; i++)
		moves_add(moves, &list[i]);
	for (size_t i = 0; i < STATEMENTS; i++) {
		struct group * group = &moves->groups[i];

		if (array_text(&group->ids) == NULL || array_text(&group->fates) == NULL ||
		    array_text(&group->attempts) == NULL || array_text(&group->fourth) == NULL ||
		    array_text(&group->reasons) == NULL)
			return (-1);
	}
	return (0);
}

void
moves_send(struct moves * moves, struct connection * connection, clock_ns now)
{
	for (size_t i = 0; i < STATEMENTS; i++) {
		const struct group * group = &moves->groups[i];
		const char * parameters[] = {buffer_content(&group->ids.text),
		    buffer_content(&group->fates.text), buffer_content(&group->attempts.text),
		    buffer_content(&group->fourth.text), buffer_content(&group->reasons.text)};
		int taken = i == DELIVER ? 1 : i == RELEASE ? 2 : 5;

		if (group->count == 0)
			continue;
		if (i == RELEASE)
			parameters[1] = buffer_content(&moves->groups[DELIVER].ids.text);
		connection_send(connection, now, moves->sql[i], taken, parameters, NULL, NULL);
	}
	moves_clear(moves);
}

bool
moves_hold(const struct move * list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (list[i].fate != FATE_DELIVERED && list[i].fate != FATE_DISCARDED &&
		    (list[i].fate != FATE_DEAD || list[i].hold))
			return (true);
	return (false);
}
