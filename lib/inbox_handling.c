#include "inbox_handling.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "inbox_error.h"

/*
 * From a delivery to its acknowledgement.
 *
 * What must stay true (promise E): a message is acknowledged only after the
 * transaction in which it was claimed is committed, or once its claim is found;
 * it is rejected only after its failure was recorded, or if it can never be
 * claimed.  Whenever it is not known whether a commit happened, the message is
 * simply handled again: its claim tells.
 *
 * Whatever loses the queue frees all deliveries: nothing may be touched after
 * that.
 */

#define CHAIN_MS 50 /* for messages that follow each other without a look at anything else */

/* ---- the end of a delivery ---- */

static void
drop(struct inbox_consumer * c, const struct inbox_delivery * const * gone, size_t n)
{
	size_t kept = 0, next = 0;

	/* Both are in the order of delivery tags. */
	for (size_t i = 0; i < c->count; i++) {
		if (next < n && c->deliveries[i] == gone[next]) {
			next++;
			inbox_delivery_free(c->deliveries[i]);
		} else
			c->deliveries[kept++] = c->deliveries[i];
	}
	assert(next == n);
	c->count = kept;
}

/* One acknowledgement for all if nothing else lies before the last of them. */
static void
acknowledge(struct inbox_consumer * c, struct inbox_delivery * const * done, size_t n)
{
	uint64_t last = done[n - 1]->envelope.delivery_tag;
	struct inbox_error error;
	size_t before = 0;

	while (before < c->count && c->deliveries[before]->envelope.delivery_tag <= last)
		before++;
	for (size_t i = before == n ? n - 1 : 0; i < n; i++) {
		if (inbox_queue_ack(&c->queue, done[i]->envelope.delivery_tag, before == n,
			&error) != INBOX_OK) {
			inbox_queue_lost(c, &error);
			return;
		}
	}
	c->queue_retry.wait_ms = 0;
	drop(c, (const struct inbox_delivery * const *)done, n);
}

static void
give_up(struct inbox_consumer * c, const struct inbox_delivery * d)
{
	struct inbox_error error;

	if (inbox_queue_reject(&c->queue, d->envelope.delivery_tag, &error) != INBOX_OK)
		inbox_queue_lost(c, &error);
	else
		drop(c, &d, 1);
}

/* ---- failures ---- */

/* Not a failure of the message: another transaction was in the way. */
static bool
is_collision(const struct inbox_error * error)
{
	return (error->code == INBOX_REFUSED &&
	    (!strcmp(error->sqlstate, "40001") || !strcmp(error->sqlstate, "40P01") ||
		!strcmp(error->sqlstate, "55P03")));
}

/* Data that Postgres will never take: classes 22 and 23. */
static bool
is_bad_data(const struct inbox_error * error)
{
	return (error->code == INBOX_REFUSED &&
	    (!strncmp(error->sqlstate, "22", 2) || !strncmp(error->sqlstate, "23", 2)));
}

static void
postpone(struct inbox_delivery * d)
{
	d->alone = true;
	d->due_ms = inbox_now_ms() + INBOX_RETRY_MIN_MS;
}

/* False: the connection is lost. */
static bool
count_failure(struct inbox_consumer * c, struct inbox_delivery * d, const char * reason,
    int * failures)
{
	struct inbox_error error;
	enum inbox_code code = inbox_database_count_failure(&c->database, d->message.message_id,
	    reason, failures, &error);

	if (code == INBOX_NO_CONNECTION) {
		inbox_database_lost(c, &error);
		return (false);
	}
	/* If it cannot be recorded, this process at least remembers. */
	if (code != INBOX_OK)
		*failures = d->message.failures + 1;
	return (true);
}

/*
 * More failures than are allowed, and this is the first of a message that was
 * not delivered before: it was given up once and somebody has sent it again.
 * All its attempts are before it then.
 */
static bool
begin_anew(struct inbox_consumer * c, struct inbox_delivery * d, int * failures)
{
	struct inbox_error error;

	if (*failures <= c->options.max_attempts || d->message.failures > 0 ||
	    d->message.redelivered)
		return (true);
	if (inbox_database_forget_failures(&c->database, d->message.message_id, &error) ==
	    INBOX_NO_CONNECTION) {
		inbox_database_lost(c, &error);
		return (false);
	}
	return (count_failure(c, d, d->reason, failures));
}

/* Rolled back already. */
static void
record_failure(struct inbox_consumer * c, struct inbox_delivery * d)
{
	int failures = d->message.failures + 1;

	if (!d->counted &&
	    (!count_failure(c, d, d->reason, &failures) || !begin_anew(c, d, &failures)))
		return;
	d->failing = d->counted = false;
	d->alone = true;
	d->message.failures = failures;
	if (d->give_up || failures >= c->options.max_attempts) {
		inbox_say(c, INBOX_ERROR, "message_given_up", "message_id=%s attempts=%d: %s",
		    d->message.message_id, failures, d->reason);
		give_up(c, d);
		return;
	}
	d->due_ms = inbox_now_ms() +
	    inbox_backoff_ms(c->options.retry_initial_ms, c->options.retry_max_ms, failures);
	inbox_say(c, INBOX_WARNING, "message_failed", "message_id=%s attempts=%d: %s",
	    d->message.message_id, failures, d->reason);
}

/* The transaction may still be open. */
static void
fail(struct inbox_consumer * c, struct inbox_delivery * d, const char * reason)
{
	struct inbox_error error;

	snprintf(d->reason, sizeof(d->reason), "%s", reason);
	d->failing = true;
	if (inbox_database_rollback(&c->database, &error) != INBOX_OK)
		inbox_database_lost(c, &error);
	else
		record_failure(c, d);
}

/* The claims of a transaction, or the transaction itself, could not be had. */
static void
begin_failed(struct inbox_consumer * c, struct inbox_delivery ** picked, size_t n,
    const struct inbox_error * error)
{
	if (error->code == INBOX_NO_MEMORY) {
		c->no_memory = true;
	} else if (n > 1 && (is_collision(error) || is_bad_data(error))) {
		for (size_t i = 0; i < n; i++)
			picked[i]->alone = true;
	} else if (is_collision(error)) {
		postpone(picked[0]);
	} else if (is_bad_data(error)) {
		inbox_say(c, INBOX_ERROR, "message_given_up", "it cannot be claimed: %s",
		    error->text);
		give_up(c, picked[0]);
	} else
		inbox_database_lost(c, error);
}

/* What a handler has answered, and what it has left behind: INBOX_OK if it can be committed. */
static enum inbox_code
judge(struct inbox_consumer * c, enum inbox_answer answer, struct inbox_error * error)
{
	enum inbox_code code = inbox_database_check(&c->database, error);

	if (code == INBOX_OK && answer != INBOX_DONE)
		code = inbox_error_set(error, INBOX_FAILED, "the handler answered: %s",
		    answer == INBOX_GIVE_UP ? "give up" : "try again");
	return (code);
}

/* ---- one ---- */

/*
 * It was delivered before, and whoever had it went without an answer: perhaps
 * because of it.  False: do not go on with it now.
 */
static bool
count_redelivery(struct inbox_consumer * c, struct inbox_delivery * d)
{
	static const char reason[] = "whoever handled it ended, or lost a connection";
	int failures = 0;

	if (!d->message.redelivered || d->counted || d->message.failures > 0)
		return (true);
	if (!count_failure(c, d, reason, &failures))
		return (false);
	if (failures > c->options.max_attempts) {
		inbox_say(c, INBOX_ERROR, "message_given_up", "message_id=%s attempts=%d: %s",
		    d->message.message_id, failures - 1, reason);
		give_up(c, d);
		return (false);
	}
	d->counted = true;
	d->message.failures = failures - 1;
	return (true);
}

static void
commit_failed(struct inbox_consumer * c, struct inbox_delivery * d,
    const struct inbox_error * error)
{
	struct inbox_error more;

	if (error->code == INBOX_NO_CONNECTION)
		inbox_database_lost(c, error);
	else if (is_collision(error)) {
		if (inbox_database_rollback(&c->database, &more) != INBOX_OK)
			inbox_database_lost(c, &more);
		postpone(d);
	} else
		fail(c, d, error->text);
}

static void
commit_one(struct inbox_consumer * c, struct inbox_delivery * d)
{
	struct inbox_error error;
	enum inbox_code code = INBOX_OK;

	if (d->counted || d->message.failures > 0)
		code = inbox_database_forget_failures(&c->database, d->message.message_id, &error);
	if (code == INBOX_OK)
		code = inbox_database_commit(&c->database, &error);
	if (code != INBOX_OK) {
		commit_failed(c, d, &error);
		return;
	}
	c->database_retry.wait_ms = 0;
	acknowledge(c, &d, 1);
}

/*
 * What comes next, if it needs nothing but a transaction; NULL: the loop has
 * to look, or is needed.
 */
static struct inbox_delivery *
follower(struct inbox_consumer * c, const struct inbox_delivery * d, int64_t until_ms)
{
	int64_t now_ms = inbox_now_ms();

	if (c->options.batch > 1 || d->counted || d->message.failures > 0 || now_ms >= until_ms ||
	    atomic_load(&c->stopping))
		return (NULL);
	for (size_t i = 0; i < c->count; i++) {
		struct inbox_delivery * next = c->deliveries[i];

		if (next == d || next->due_ms > now_ms)
			continue;
		return (next->alone || next->failing || next->message.message_id == NULL ?
			NULL :
			next);
	}
	return (NULL);
}

/*
 * Commit ${d}, acknowledge it.  Its COMMIT takes BEGIN and the claim of the
 * next one along, which saves a round trip; returns that one if it is claimed,
 * and whether it is new.
 */
static struct inbox_delivery *
finish(struct inbox_consumer * c, struct inbox_delivery * d, int64_t until_ms, bool * is_new)
{
	struct inbox_delivery * next = follower(c, d, until_ms);
	struct inbox_error error, begun;
	enum inbox_code code;

	if (next == NULL) {
		commit_one(c, d);
		return (NULL);
	}
	code = inbox_database_commit_and_begin(&c->database, next->message.message_id, is_new,
	    &error, &begun);
	if (code != INBOX_OK) {
		commit_failed(c, d, &error);
		return (NULL);
	}
	c->database_retry.wait_ms = 0;
	acknowledge(c, &d, 1);
	/* Without a queue there is no next one any more. */
	if (c->queue.state == NULL) {
		if (begun.code == INBOX_NO_CONNECTION ||
		    inbox_database_rollback(&c->database, &begun) != INBOX_OK)
			inbox_database_lost(c, &begun);
		return (NULL);
	}
	if (begun.code != INBOX_OK) {
		begin_failed(c, &next, 1, &begun);
		return (NULL);
	}
	return (next);
}

/* ${d} is claimed in the open transaction.  Returns the next one that is. */
static struct inbox_delivery *
handle_claimed(struct inbox_consumer * c, struct inbox_delivery * d, int64_t until_ms,
    bool * is_new)
{
	enum inbox_answer answer;
	struct inbox_error error;
	enum inbox_code code;

	if (!*is_new)
		return (finish(c, d, until_ms, is_new));
	answer = c->options.handler(&d->message, c->database.db, c->options.context);
	code = judge(c, answer, &error);
	if (code == INBOX_OK)
		return (finish(c, d, until_ms, is_new));
	d->give_up = answer == INBOX_GIVE_UP;
	if (code == INBOX_NO_CONNECTION) {
		/* Recorded once there is a connection. */
		snprintf(d->reason, sizeof(d->reason), "%s", error.text);
		d->failing = true;
		inbox_database_lost(c, &error);
	} else
		fail(c, d, error.text);
	return (NULL);
}

static void
handle_one(struct inbox_consumer * c, struct inbox_delivery * d)
{
	const char * id = d->message.message_id;
	struct inbox_error error;
	int64_t until_ms;
	bool is_new;

	if (!count_redelivery(c, d))
		return;
	if (inbox_database_begin(&c->database, &id, 1, &is_new, &error) != INBOX_OK) {
		begin_failed(c, &d, 1, &error);
		return;
	}
	/* The rest of the loop has its turn, too. */
	until_ms = inbox_now_ms() + CHAIN_MS;
	while (d != NULL)
		d = handle_claimed(c, d, until_ms, &is_new);
}

/* ---- many ---- */

/* Handle those that are new, in order, up to the first that fails. */
static enum inbox_code
handle_new(struct inbox_consumer * c, size_t n, struct inbox_error * error)
{
	const struct inbox_consumer_options * o = &c->options;
	PGconn * db = c->database.db;
	enum inbox_code code = INBOX_OK;
	size_t count = 0;

	for (size_t i = 0; i < n; i++) {
		if (c->are_new[i])
			c->messages[count++] = &c->picked[i]->message;
	}
	if (o->batch_handler != NULL && count > 0)
		return (judge(c, o->batch_handler(c->messages, count, db, o->context), error));
	for (size_t i = 0; i < count && code == INBOX_OK; i++)
		code = judge(c, o->handler(c->messages[i], db, o->context), error);
	return (code);
}

/* If anything goes wrong, nothing has happened: each gets a transaction of its own. */
static void
handle_batch(struct inbox_consumer * c, size_t n)
{
	struct inbox_error error;
	enum inbox_code code;

	for (size_t i = 0; i < n; i++)
		c->ids[i] = c->picked[i]->message.message_id;
	if (inbox_database_begin(&c->database, c->ids, n, c->are_new, &error) != INBOX_OK) {
		begin_failed(c, c->picked, n, &error);
		return;
	}
	code = handle_new(c, n, &error);
	if (code == INBOX_OK)
		code = inbox_database_commit(&c->database, &error);
	if (code == INBOX_OK) {
		c->database_retry.wait_ms = 0;
		acknowledge(c, c->picked, n);
		return;
	}
	inbox_say(c, INBOX_WARNING, "batch_failed", "messages=%zu: %s", n, error.text);
	for (size_t i = 0; i < n; i++)
		c->picked[i]->alone = true;
	code = inbox_database_check(&c->database, &error);
	if (code != INBOX_NO_CONNECTION)
		code = inbox_database_rollback(&c->database, &error);
	if (code != INBOX_OK)
		inbox_database_lost(c, &error);
}

/* ---- which ---- */

static size_t
pick(struct inbox_consumer * c, size_t first, int64_t now_ms)
{
	size_t n = 0;

	for (size_t i = first; i < c->count && n < (size_t)c->options.batch; i++) {
		struct inbox_delivery * d = c->deliveries[i];

		if (d->due_ms <= now_ms && !d->alone && !d->failing &&
		    d->message.message_id != NULL)
			c->picked[n++] = d;
	}
	return (n);
}

bool
inbox_handle_next(struct inbox_consumer * c)
{
	int64_t now_ms = inbox_now_ms();
	struct inbox_delivery * d = NULL;
	size_t i;

	for (i = 0; i < c->count && d == NULL; i++) {
		if (c->deliveries[i]->due_ms <= now_ms)
			d = c->deliveries[i];
	}
	if (d == NULL)
		return (false);
	if (d->message.message_id == NULL) {
		inbox_say(c, INBOX_ERROR, "message_without_id",
		    "given up: it could not be told from its repetition; exchange=%s "
		    "routing_key=%s",
		    d->message.exchange, d->message.routing_key);
		give_up(c, d);
	} else if (d->failing)
		record_failure(c, d);
	else if (d->alone || c->options.batch == 1)
		handle_one(c, d);
	else {
		size_t n = pick(c, i - 1, now_ms);

		if (n == 1)
			handle_one(c, d);
		else
			handle_batch(c, n);
	}
	return (true);
}
