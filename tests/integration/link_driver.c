#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "amqp/link.h"

/*
 * Drives the link for tests/integration/test_link*.py: reads messages from
 * stdin, a JSON object a line ("key": the hash of the ordering key, and its count
 * grows with the id), publishes them, says on stdout what it sees, an
 * event a line, and ends with 0 when every message is settled.
 *
 *   link_driver --url URL [--url URL] [--exit-on-down] [--twice] [--reset] [...]
 *
 * What is unsettled when the link goes down or the channel is closed is
 * published again, but for the exchange that the broker named, or, when it
 * named none, the oldest one in flight.  --twice: close the link when all is settled,
 * open it again, and publish all once more.  --reset: call link_reset once the
 * first message is settled.
 */
#define MESSAGES_MAX 200000

struct item {
	struct message message;
	bool settled;
	bool published;
};

struct driver {
	struct link * link;
	struct item * items;
	size_t count;
	size_t next; /* all before it are published or settled */
	size_t settled;
	bool up;
	bool blocked;
	bool exit_on_down;
	bool reset;
	bool ended;
	struct batch batch;
};

static void
batch_destroy(struct batch * batch)
{
	(void)batch;
}

static struct bytes
text_member(json_t * object, const char * key)
{
	json_t * value = json_object_get(object, key);

	if (value == NULL)
		return (BYTES_NONE);
	return ((struct bytes){json_string_value(value), json_string_length(value)});
}

static int64_t
number_member(json_t * object, const char * key, int64_t absent)
{
	json_t * value = json_object_get(object, key);

	return (value == NULL ? absent : json_integer_value(value));
}

/* What the messages point into. */
static json_t * lines;

/* "count": so many of the line, with ids that count up. */
static void
read_messages(struct driver * d)
{
	json_error_t reason;
	json_t * object;
	int i;

	lines = json_array();
	while ((object = json_loadf(stdin, JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL, &reason)) !=
	    NULL) {
		int64_t count = number_member(object, "count", 1), n;
		size_t body_size = (size_t)number_member(object, "body_size", 0);
		struct message m = {.id = number_member(object, "id", 1),
		    .key = (uint64_t)number_member(object, "key", 0),
		    .batch = &d->batch,
		    .exchange = text_member(object, "exchange"),
		    .routing_key = text_member(object, "routing_key"),
		    .body = text_member(object, "body"),
		    .ordering_key = text_member(object, "ordering_key"),
		    .headers = text_member(object, "headers"),
		    .type = text_member(object, "type"),
		    .app_id = text_member(object, "app_id"),
		    .content_type = text_member(object, "content_type"),
		    .content_encoding = text_member(object, "content_encoding"),
		    .correlation_id = text_member(object, "correlation_id"),
		    .reply_to = text_member(object, "reply_to"),
		    .timestamp_s = number_member(object, "timestamp_s", 0),
		    .expiration_ms = number_member(object, "expiration_ms", -1),
		    .priority = (int16_t)number_member(object, "priority", -1),
		    .persistent = number_member(object, "persistent", 1) != 0};

		json_array_append_new(lines, object);
		if (body_size > 0) {
			char * body = malloc(body_size);

			for (size_t at = 0; at < body_size; at++)
				body[at] = (char)('a' + at % 23);
			m.body = (struct bytes){body, body_size};
		}
		for (i = 0; i < 16; i++)
			m.message_id[i] = (uint8_t)(i * 17);
		for (n = 0; n < count && d->count < MESSAGES_MAX; n++) {
			d->items[d->count++].message = m;
			m.id++;
			m.key += m.key == 0 ? 0 : UINT64_C(1) << 32;
		}
	}
}

static void
say(json_t * line)
{
	json_dumpf(line, stdout, 0);
	puts("");
	fflush(stdout);
	json_decref(line);
}

static void
say_error(const char * event, const struct error * e, clock_ns retry_in)
{
	say(json_pack("{s:s, s:i, s:i, s:s, s:s, s:I}", "event", event, "code", (int)e->code,
	    "amqp_code", e->amqp_code, "text", e->text, "remedy", e->remedy, "retry_ms",
	    (json_int_t)(retry_in / CLOCK_MS(1))));
}

static void
again(struct driver * d)
{
	d->up = false;
	d->next = 0;
	for (size_t i = 0; i < d->count; i++)
		d->items[i].published = false;
}

static void
on_up(void * context, const char * peer)
{
	struct driver * d = context;

	d->up = true;
	printf("{\"event\": \"up\", \"peer\": \"%s\"}\n", peer);
	fflush(stdout);
}

static void
on_down(void * context, const struct error * e, clock_ns retry_in)
{
	struct driver * d = context;

	say_error("down", e, retry_in);
	again(d);
	d->ended = d->ended || d->exit_on_down;
}

static void
on_settled(void * context, uint64_t ticket, enum link_outcome outcome, const struct error * e)
{
	static const char * const names[] = {"confirmed", "nacked", "returned"};
	struct driver * d = context;
	struct item * item = &d->items[ticket];

	if (!item->published || item->settled) {
		fprintf(stderr, "ticket %llu answered out of turn\n", (unsigned long long)ticket);
		exit(70);
	}
	item->settled = true;
	d->settled++;
	if (d->count <= 1000 || outcome != LINK_CONFIRMED)
		say(json_pack("{s:s, s:I, s:i, s:s, s:s}", "event", names[outcome], "id",
		    (json_int_t)item->message.id, "amqp_code", e == NULL ? 0 : e->amqp_code, "text",
		    e == NULL ? "" : e->text, "remedy", e == NULL ? "" : e->remedy));
	fflush(stdout);
}

static void
on_channel_closed(void * context, const struct error * e, struct bytes exchange)
{
	struct driver * d = context;
	size_t i;

	say_error("channel_closed", e, 0);
	say(json_pack("{s:s, s:o}", "event", "named", "exchange",
	    bytes_present(exchange) ? json_stringn(exchange.data, exchange.len) : json_null()));
	for (i = 0; i < d->count; i++) {
		struct item * item = &d->items[i];

		if (item->settled || !item->published ||
		    (bytes_present(exchange) && !bytes_equal(item->message.exchange, exchange)))
			continue;
		item->settled = true;
		d->settled++;
		if (!bytes_present(exchange))
			break;
	}
	again(d);
}

static void
on_blocked(void * context, bool blocked, const char * reason)
{
	struct driver * d = context;

	d->blocked = blocked;
	printf("{\"event\": \"%s\", \"text\": \"%s\"}\n", blocked ? "blocked" : "unblocked",
	    reason);
	fflush(stdout);
}

static void
publish(struct driver * d)
{
	struct error e;

	while (d->up && !d->blocked && d->next < d->count) {
		struct item * item = &d->items[d->next];

		if (!item->settled) {
			enum link_publish_result result = link_publish(d->link, &item->message,
			    d->next, &e);

			if (result == LINK_FULL)
				break;
			item->published = true;
			if (result == LINK_UNFIT) {
				say_error("unfit", &e, 0);
				item->settled = true;
				d->settled++;
			}
		}
		d->next++;
	}
	if (d->up)
		link_flush(d->link, clock_now());
	if (d->up && d->reset && d->settled > 0) {
		d->reset = false;
		again(d);
		link_reset(d->link, clock_now(), "for a test");
	}
}

static void
turn(struct driver * d)
{
	struct pollfd fd = {.fd = link_fd(d->link), .events = link_poll_events(d->link)};
	clock_ns wait = link_deadline(d->link) - clock_now();
	int timeout_ms = wait > CLOCK_S(1) ? 1000 : wait <= 0 ? 0 : (int)(wait / CLOCK_MS(1)) + 1;

	fd.revents = 0;
	(void)poll(&fd, 1, timeout_ms);
	link_turn(d->link, clock_now(), fd.revents);
}

static void
until_settled(struct driver * d)
{
	while (d->settled < d->count && !d->ended) {
		publish(d);
		turn(d);
	}
}

static void
close_link(struct driver * d)
{
	link_close(d->link, clock_now());
	while (!link_closed(d->link))
		turn(d);
	printf("{\"event\": \"closed\", \"fd\": %d}\n", link_fd(d->link));
}

/*
 * Of this program's own memory.  getrusage would do, but for what it inherits:
 * a child starts with the peak of the process that started it.
 */
static long
peak_kib(void)
{
	char line[128];
	long kib = -1;
	FILE * status = fopen("/proc/self/status", "re");

	while (status != NULL && fgets(line, sizeof(line), status) != NULL)
		if (sscanf(line, "VmHWM: %ld kB", &kib) == 1)
			break;
	if (status != NULL)
		fclose(status);
	return (kib);
}

int
main(int argc, char ** argv)
{
	static const struct option options[] = {{"url", required_argument, NULL, 'u'},
	    {"password-file", required_argument, NULL, 'p'},
	    {"ca-file", required_argument, NULL, 'a'}, {"cert-file", required_argument, NULL, 'c'},
	    {"key-file", required_argument, NULL, 'k'},
	    {"server-name", required_argument, NULL, 's'}, {"external", no_argument, NULL, 'x'},
	    {"heartbeat", required_argument, NULL, 'h'}, {"window", required_argument, NULL, 'w'},
	    {"channels", required_argument, NULL, 'n'}, {"exit-on-down", no_argument, NULL, 'd'},
	    {"twice", no_argument, NULL, 't'}, {"reset", no_argument, NULL, 'r'},
	    {NULL, 0, NULL, 0}};
	static const struct link_events events = {.up = on_up,
	    .down = on_down,
	    .settled = on_settled,
	    .channel_closed = on_channel_closed,
	    .blocked = on_blocked};
	static struct driver d = {.batch = {.references = 1, .destroy = batch_destroy}};
	const char * urls[8];
	struct link_options o = {.urls = urls,
	    .heartbeat_s = 10,
	    .connect_timeout = CLOCK_S(10),
	    .mandatory = true,
	    .connection_name = "link_driver",
	    .window = 10000,
	    .channels = 1,
	    .send_buffer_max = 1024 * 1024,
	    .seed = 1};
	struct error e;
	bool twice = false;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'u':
			if (o.url_count < 8)
				urls[o.url_count++] = optarg;
			break;
		case 'p':
			o.password_file = optarg;
			break;
		case 'a':
			o.tls.ca_file = optarg;
			break;
		case 'c':
			o.tls.cert_file = optarg;
			break;
		case 'k':
			o.tls.key_file = optarg;
			break;
		case 's':
			o.tls.server_name = optarg;
			break;
		case 'x':
			o.external_auth = true;
			break;
		case 'h':
			o.heartbeat_s = (uint32_t)atoi(optarg);
			break;
		case 'n':
			o.channels = (uint16_t)atoi(optarg);
			break;
		case 'w':
			o.window = (uint32_t)atoi(optarg);
			break;
		case 'd':
			d.exit_on_down = true;
			break;
		case 't':
			twice = true;
			break;
		case 'r':
			d.reset = true;
			break;
		default:
			return (64);
		}
	}
	if (o.url_count == 0 || (d.items = calloc(MESSAGES_MAX, sizeof(d.items[0]))) == NULL)
		return (64);
	read_messages(&d);
	if ((d.link = link_new(&o, &events, &d, &e)) == NULL) {
		say_error("refused", &e, 0);
		return ((int)e.code);
	}
	until_settled(&d);
	if (twice && !d.ended) {
		close_link(&d);
		again(&d);
		for (size_t i = 0; i < d.count; i++)
			d.items[i].settled = false;
		d.settled = 0;
		link_resume(d.link, clock_now());
		until_settled(&d);
	}
	if (!d.ended)
		close_link(&d);
	link_free(d.link);
	printf("{\"event\": \"end\", \"settled\": %zu, \"peak_kib\": %ld, \"references\": %u}\n",
	    d.settled, peak_kib(), d.batch.references);
	return (d.settled == d.count ? 0 : 1);
}
