#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/eventfd.h>

#include "inbox_error.h"
#include "inbox_handling.h"
#include "inbox_options.h"
#include "inbox_state.h"

/*
 * The loop: connect what is not connected, fetch what has arrived, handle what
 * is due, wait for more.
 *
 * What must stay true: the loop never waits for one of its servers while
 * another needs it, but for connecting and for the handler's own statements;
 * it never holds more than prefetch messages; it ends only when it is told to,
 * or when there is no memory.
 */
#define FETCH_LEAST 20

/* ---- connections ---- */

/* The database first: without it, messages are better left to others. */
static void
connect_both(struct inbox_consumer * c)
{
	struct inbox_error error;

	if (c->database.db == NULL && inbox_now_ms() >= c->database_retry.at_ms) {
		if (inbox_database_open(&c->database, &error) == INBOX_OK) {
			c->database_retry.opened_ms = inbox_now_ms();
			inbox_say(c, INBOX_INFO, "database_connected", "%s", error.text);
		} else
			inbox_database_lost(c, &error);
	}
	if (c->queue.state == NULL && c->database.db != NULL && !atomic_load(&c->stopping) &&
	    inbox_now_ms() >= c->queue_retry.at_ms) {
		if (inbox_queue_open(&c->queue, &error) == INBOX_OK) {
			c->queue_retry.opened_ms = inbox_now_ms();
			inbox_say(c, INBOX_INFO, "broker_connected", "%s", error.text);
		} else
			inbox_queue_lost(c, &error);
	}
}

/* ---- messages ---- */

static void
keep(struct inbox_consumer * c, amqp_envelope_t * envelope)
{
	struct inbox_delivery * d = NULL;
	struct inbox_error error;

	if (c->count == (size_t)c->options.prefetch) {
		inbox_error_set(&error, INBOX_NO_CONNECTION,
		    "the broker sends more messages than prefetch");
		amqp_destroy_envelope(envelope);
		inbox_queue_lost(c, &error);
	} else if ((d = inbox_delivery_make(envelope)) == NULL) {
		amqp_destroy_envelope(envelope);
		c->no_memory = true;
	} else
		c->deliveries[c->count++] = d;
}

/* Enough for a batch, or to go from one to the next; true if something has arrived. */
static bool
fetch(struct inbox_consumer * c)
{
	amqp_envelope_t envelope;
	struct inbox_error error;
	int n = 0, most = c->options.batch > FETCH_LEAST ? c->options.batch : FETCH_LEAST;

	/* A message that is missing here must not be acknowledged with those behind it. */
	for (; c->queue.state != NULL && !c->no_memory && n < most; n++) {
		enum inbox_next next = inbox_queue_next(&c->queue, &envelope, &error);

		if (next == INBOX_LOST)
			inbox_queue_lost(c, &error);
		if (next != INBOX_GOT)
			break;
		keep(c, &envelope);
	}
	return (n > 0);
}

static void
purge(struct inbox_consumer * c)
{
	int64_t now_ms = inbox_now_ms();
	struct inbox_error error;
	enum inbox_code code;
	bool more = false;

	if (c->options.retention_s < 0 || now_ms < c->purge_at_ms)
		return;
	code = inbox_database_purge(&c->database, &more, &error);
	if (code == INBOX_NO_CONNECTION) {
		inbox_database_lost(c, &error);
		return;
	}
	if (code != INBOX_OK)
		inbox_say(c, INBOX_WARNING, "purge_failed", "%s", error.text);
	c->purge_at_ms = more ? now_ms : now_ms + 1000 * c->options.purge_interval_s;
}

/* ---- waiting ---- */

static int64_t
least(int64_t a, int64_t b)
{
	return (a < b ? a : b);
}

/* When there is something to do though nothing arrives. */
static int64_t
next_time(const struct inbox_consumer * c, int64_t now_ms)
{
	/* Heartbeats are sent when the queue is asked. */
	int64_t at = now_ms + 500 * c->options.heartbeat_s;

	if (c->database.db == NULL)
		return (least(at, c->database_retry.at_ms));
	if (c->queue.state == NULL)
		at = least(at, c->queue_retry.at_ms);
	if (c->options.retention_s >= 0)
		at = least(at, c->purge_at_ms);
	for (size_t i = 0; i < c->count; i++)
		at = least(at, c->deliveries[i]->due_ms);
	return (at);
}

static void
wait_for_more(struct inbox_consumer * c)
{
	/* poll() leaves negative descriptors out. */
	struct pollfd fds[2] = {{.fd = c->stop_fd, .events = POLLIN},
	    {.fd = inbox_queue_fd(&c->queue), .events = POLLIN}};
	int64_t now_ms = inbox_now_ms();
	int64_t wait_ms = next_time(c, now_ms) - now_ms;

	if (wait_ms > 0)
		poll(fds, 2, (int)wait_ms);
}

/* ---- what the application calls ---- */

enum inbox_code
inbox_consumer_run(struct inbox_consumer * c, struct inbox_error * error)
{
	while (!atomic_load(&c->stopping) && !c->no_memory) {
		bool busy;

		connect_both(c);
		busy = fetch(c);
		if (c->no_memory)
			break;
		if (c->database.db != NULL && c->queue.state != NULL)
			busy = inbox_handle_next(c) || busy;
		if (c->database.db != NULL)
			purge(c);
		if (!busy)
			wait_for_more(c);
	}
	inbox_queue_close(&c->queue, true);
	inbox_drop_deliveries(c);
	inbox_database_close(&c->database);
	if (c->no_memory)
		return (inbox_error_set(error, INBOX_NO_MEMORY, "no memory"));
	return (inbox_error_set(error, INBOX_OK, "%s", ""));
}

void
inbox_consumer_stop(struct inbox_consumer * c)
{
	const uint64_t one = 1;
	int saved = errno;
	ssize_t written;

	atomic_store(&c->stopping, true);
	/* It cannot fail but when it is readable already. */
	written = write(c->stop_fd, &one, sizeof(one));
	(void)written;
	errno = saved;
}

static bool
allocate(struct inbox_consumer * c)
{
	size_t batch = (size_t)c->options.batch;

	c->deliveries = calloc((size_t)c->options.prefetch, sizeof(struct inbox_delivery *));
	c->picked = calloc(batch, sizeof(struct inbox_delivery *));
	c->ids = calloc(batch, sizeof(const char *));
	c->are_new = calloc(batch, sizeof(bool));
	c->messages = calloc(batch, sizeof(const struct inbox_message *));
	c->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return (c->deliveries != NULL && c->picked != NULL && c->ids != NULL &&
	    c->are_new != NULL && c->messages != NULL && c->stop_fd >= 0);
}

struct inbox_consumer *
inbox_consumer_new(const struct inbox_consumer_options * options, struct inbox_error * error)
{
	struct inbox_consumer_options filled = *options;
	struct inbox_consumer * c;

	inbox_error_set(error, INBOX_OK, "%s", "");
	if (inbox_options_check(&filled, error) != INBOX_OK)
		return (NULL);
	if ((c = calloc(1, sizeof(*c))) == NULL) {
		inbox_error_set(error, INBOX_NO_MEMORY, "no memory");
		return (NULL);
	}
	c->options = filled;
	c->stop_fd = -1;
	atomic_init(&c->stopping, false);
	if (!allocate(c)) {
		inbox_error_set(error, INBOX_NO_MEMORY, "no memory, or no descriptor is left");
		inbox_consumer_free(c);
		return (NULL);
	}
	c->queue.options = c->database.options = &c->options;
	inbox_quote_schema(c->database.schema, c->options.schema, error);
	c->seed = (unsigned int)(inbox_now_ms() ^ getpid());
	/* Consumers that start together do not purge together. */
	c->purge_at_ms = inbox_now_ms() + rand_r(&c->seed) % (1000 * c->options.purge_interval_s);
	return (c);
}

void
inbox_consumer_free(struct inbox_consumer * c)
{
	if (c == NULL)
		return;
	inbox_queue_close(&c->queue, false);
	inbox_drop_deliveries(c);
	inbox_database_close(&c->database);
	if (c->stop_fd >= 0)
		close(c->stop_fd);
	free(c->messages);
	free(c->are_new);
	free(c->ids);
	free(c->picked);
	free(c->deliveries);
	free(c);
}
