#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "amqp/link.h"
#include "amqp/session.h"
#include "bench.h"

/*
 * The link alone: relay/amqp driven as the relay drives it, with messages
 * that lie in memory.  No database, no core.  What is left to gain there.
 *
 * link_alone --url URL --queue NAME [--count N] [--window N] [--channels N] [--traceparent]
 * Prints one line of JSON: the time from the first publish to the last confirm.
 */

/* As many as may be unsettled; a slot's number is its message's ticket. */
struct slot {
	struct message message;
	char ordering_key[16];
};

struct driver {
	struct link * link;
	struct slot * slots;
	uint32_t * spare; /* numbers of slots that are free */
	uint32_t spares;
	struct batch batch; /* of all messages; never freed */
	const char * queue;
	bool traceparent;
	uint64_t random;
	uint64_t count;
	uint64_t published;
	uint64_t confirmed;
	bool up;
	bool blocked;
	double started;
	double cpu_started;
};

static void
on_up(void * context, const char * peer)
{
	struct driver * driver = context;

	(void)peer;
	driver->up = true;
	driver->started = bench_now();
	driver->cpu_started = bench_cpu();
}

static void
on_down(void * context, const struct error * e, clock_ns retry_in)
{
	(void)context;
	(void)retry_in;
	bench_fail("the link went down: %s", e->text);
}

static void
on_settled(void * context, uint64_t ticket, enum link_outcome outcome, const struct error * e)
{
	struct driver * driver = context;

	if (outcome != LINK_CONFIRMED)
		bench_fail("not confirmed: %s", e == NULL ? "" : e->text);
	driver->spare[driver->spares++] = (uint32_t)ticket;
	driver->confirmed++;
}

static void
on_channel_closed(void * context, const struct error * e, struct bytes exchange)
{
	(void)context;
	(void)exchange;
	bench_fail("the channel was closed: %s", e->text);
}

static void
on_blocked(void * context, bool blocked, const char * reason)
{
	struct driver * driver = context;

	(void)reason;
	driver->blocked = blocked;
}

static void
fill(struct driver * driver, struct slot * slot, int64_t id)
{
	static const char headers[] = "{\"traceparent\": \"" BENCH_TRACEPARENT "\"}";
	struct message * m = &slot->message;
	unsigned int key;

	memset(m, 0, sizeof(*m));
	key = (unsigned int)(bench_random(&driver->random) % BENCH_KEYS);
	snprintf(slot->ordering_key, sizeof(slot->ordering_key), "key-%u", key);
	/* As mixed as the hash that a source has. */
	m->key = (key + 1) * UINT64_C(0x9e3779b97f4a7c15);
	m->id = id;
	m->batch = &driver->batch;
	m->exchange = bytes_from("");
	m->routing_key = bytes_from(driver->queue);
	m->body = (struct bytes){bench_body(), BENCH_PAYLOAD_SIZE};
	m->ordering_key = bytes_from(slot->ordering_key);
	if (driver->traceparent)
		m->headers = bytes_from(headers);
	m->content_type = bytes_from("application/json");
	m->timestamp_s = 1700000000;
	m->expiration_ms = -1;
	m->priority = -1;
	m->persistent = true;
	memcpy(m->message_id, &id, sizeof(id));
}

static void
publish(struct driver * driver, clock_ns now)
{
	struct error e;
	uint32_t ticket;

	if (!driver->up || driver->blocked)
		return;
	while (driver->published < driver->count && driver->spares > 0) {
		ticket = driver->spare[driver->spares - 1];
		fill(driver, &driver->slots[ticket], (int64_t)driver->published + 1);
		switch (link_publish(driver->link, &driver->slots[ticket].message, ticket, &e)) {
		case LINK_TAKEN:
			break;
		case LINK_FULL:
			goto full;
		case LINK_UNFIT:
			bench_fail("the link refuses the message: %s", e.text);
		}
		driver->spares--;
		driver->published++;
	}
full:
	link_flush(driver->link, now);
}

static void
wait_and_turn(struct driver * driver)
{
	struct pollfd fd = {.fd = link_fd(driver->link), .events = link_poll_events(driver->link)};
	clock_ns wait = link_deadline(driver->link) - clock_now();
	int timeout = 1000;

	if (wait < CLOCK_S(1))
		timeout = wait <= 0 ? 0 : (int)(wait / CLOCK_MS(1)) + 1;
	if (poll(&fd, 1, timeout) == -1)
		bench_fail("poll failed");
	link_turn(driver->link, clock_now(), fd.revents);
}

static void
drive(struct driver * driver)
{
	while (driver->confirmed < driver->count) {
		wait_and_turn(driver);
		publish(driver, clock_now());
	}
	printf("{\"messages\": %" PRIu64 ", \"seconds\": %.6f, \"cpu_seconds\": %.6f}\n",
	    driver->confirmed, bench_now() - driver->started, bench_cpu() - driver->cpu_started);

	link_close(driver->link, clock_now());
	while (!link_closed(driver->link))
		wait_and_turn(driver);
}

int
main(int argc, char ** argv)
{
	static const struct option options[] = {{"url", required_argument, NULL, 'u'},
	    {"queue", required_argument, NULL, 'q'}, {"count", required_argument, NULL, 'n'},
	    {"window", required_argument, NULL, 'w'}, {"channels", required_argument, NULL, 'c'},
	    {"traceparent", no_argument, NULL, 't'}, {NULL, 0, NULL, 0}};
	static const struct link_events events = {.up = on_up,
	    .down = on_down,
	    .settled = on_settled,
	    .channel_closed = on_channel_closed,
	    .blocked = on_blocked};
	struct driver driver = {.count = 300000, .random = 88172645463325252U};
	struct link_options link_options = {.url_count = 1,
	    .connect_timeout = CLOCK_S(10),
	    .mandatory = true,
	    .connection_name = "bench link_alone",
	    .window = BENCH_WINDOW,
	    .channels = 4, /* as the relay */
	    .send_buffer_max = 4 << 20,
	    .seed = 1};
	const char * url = NULL;
	struct error e;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'u':
			url = optarg;
			break;
		case 'q':
			driver.queue = optarg;
			break;
		case 'n':
			driver.count = bench_number(optarg, 1000000000);
			break;
		case 'w':
			link_options.window = (uint32_t)bench_number(optarg, 1000000);
			break;
		case 'c':
			link_options.channels = (uint16_t)bench_number(optarg, MESSAGE_STRIPES);
			break;
		case 't':
			driver.traceparent = true;
			break;
		default:
			return (64);
		}
	}
	if (url == NULL || driver.queue == NULL || link_options.window == 0 ||
	    link_options.channels == 0)
		bench_fail("--url and --queue are needed, and a window");

	link_options.urls = &url;
	driver.spares = link_options.window;
	driver.slots = calloc(driver.spares, sizeof(*driver.slots));
	driver.spare = calloc(driver.spares, sizeof(*driver.spare));
	if (driver.slots == NULL || driver.spare == NULL)
		bench_fail("out of memory");
	for (uint32_t i = 0; i < driver.spares; i++)
		driver.spare[i] = i;
	if ((driver.link = link_new(&link_options, &events, &driver, &e)) == NULL)
		bench_fail("%s", e.text);

	drive(&driver);

	link_free(driver.link);
	free(driver.spare);
	free(driver.slots);
	return (0);
}
