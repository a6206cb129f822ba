#include "bench.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>

/*
 * What must stay true: the baselines get no handicap.  The messages are those
 * of the relay, the window is the relay's, nothing is allocated, formatted or
 * logged for a message that a careful program would not do as well.
 */

double
bench_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return ((double)t.tv_sec + (double)t.tv_nsec / 1e9);
}

double
bench_cpu(void)
{
	struct rusage r;

	getrusage(RUSAGE_SELF, &r);
	return ((double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
	    (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6);
}

void
bench_sleep_until(double when)
{
	struct timespec t;

	t.tv_sec = (time_t)when;
	t.tv_nsec = (long)((when - (double)t.tv_sec) * 1e9);
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) != 0)
		;
}

void
bench_fail(const char * format, ...)
{
	va_list ap;

	va_start(ap, format);
	fprintf(stderr, "bench: ");
	vfprintf(stderr, format, ap);
	fprintf(stderr, "\n");
	va_end(ap);
	exit(1);
}

uint64_t
bench_number(const char * text, uint64_t max)
{
	char * end;
	unsigned long long n;

	n = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end != '\0' || n > max)
		bench_fail("\"%s\" is no number from 0 to %llu", text, (unsigned long long)max);
	return (n);
}

uint64_t
bench_random(uint64_t * state)
{
	uint64_t x = *state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	*state = x;
	return (x);
}

void
bench_message_fill(struct bench_message * message, int64_t id, uint64_t random, bool traceparent)
{
	amqp_basic_properties_t * p = &message->properties;
	int count = 0;

	memset(p, 0, sizeof(*p));
	snprintf(message->message_id, sizeof(message->message_id),
	    "019a0000-0000-7000-8000-%012llx", (unsigned long long)id & 0xffffffffffffULL);
	snprintf(message->ordering_key, sizeof(message->ordering_key), "key-%u",
	    (unsigned int)(random % BENCH_KEYS));

	message->headers[count].key = amqp_cstring_bytes("x-outbox-id");
	message->headers[count].value.kind = AMQP_FIELD_KIND_I64;
	message->headers[count++].value.value.i64 = id;
	message->headers[count].key = amqp_cstring_bytes("x-ordering-key");
	message->headers[count].value.kind = AMQP_FIELD_KIND_UTF8;
	message->headers[count++].value.value.bytes = amqp_cstring_bytes(message->ordering_key);
	if (traceparent) {
		message->headers[count].key = amqp_cstring_bytes("traceparent");
		message->headers[count].value.kind = AMQP_FIELD_KIND_UTF8;
		message->headers[count++].value.value.bytes = amqp_cstring_bytes(BENCH_TRACEPARENT);
	}

	p->_flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_HEADERS_FLAG |
	    AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG | AMQP_BASIC_TIMESTAMP_FLAG;
	p->content_type = amqp_cstring_bytes("application/json");
	p->headers.num_entries = count;
	p->headers.entries = message->headers;
	p->delivery_mode = AMQP_DELIVERY_PERSISTENT;
	p->message_id = amqp_cstring_bytes(message->message_id);
	p->timestamp = 1700000000;
}

const char *
bench_body(void)
{
	static char body[BENCH_PAYLOAD_SIZE];

	if (body[0] == '\0')
		memset(body, 'x', sizeof(body));
	return (body);
}

static void
check_reply(amqp_rpc_reply_t reply, const char * what)
{
	const amqp_channel_close_t * channel;
	const amqp_connection_close_t * connection;

	if (reply.reply_type == AMQP_RESPONSE_NORMAL)
		return;
	if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION)
		bench_fail("%s: %s", what, amqp_error_string2(reply.library_error));
	if (reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD) {
		channel = reply.reply.decoded;
		bench_fail("%s: %u %.*s", what, channel->reply_code, (int)channel->reply_text.len,
		    (const char *)channel->reply_text.bytes);
	}
	if (reply.reply.id == AMQP_CONNECTION_CLOSE_METHOD) {
		connection = reply.reply.decoded;
		bench_fail("%s: %u %.*s", what, connection->reply_code,
		    (int)connection->reply_text.len, (const char *)connection->reply_text.bytes);
	}
	bench_fail("%s: the broker ended it", what);
}

void
bench_check(amqp_connection_state_t connection, const char * what)
{
	check_reply(amqp_get_rpc_reply(connection), what);
}

amqp_connection_state_t
bench_connect(const char * url)
{
	struct amqp_connection_info info;
	amqp_connection_state_t connection;
	amqp_socket_t * socket;
	char * copy;

	/* The parser cuts its input into the strings that info points to. */
	if ((copy = strdup(url)) == NULL || (connection = amqp_new_connection()) == NULL)
		bench_fail("out of memory");
	if (amqp_parse_url(copy, &info) != AMQP_STATUS_OK)
		bench_fail("%s is no url of a broker", url);
	if ((socket = amqp_tcp_socket_new(connection)) == NULL)
		bench_fail("out of memory");
	if (amqp_socket_open(socket, info.host, info.port) != AMQP_STATUS_OK)
		bench_fail("cannot connect to %s:%d", info.host, info.port);
	check_reply(amqp_login(connection, info.vhost[0] == '\0' ? "/" : info.vhost, 0, 131072, 0,
			AMQP_SASL_METHOD_PLAIN, info.user, info.password),
	    "login");
	amqp_channel_open(connection, BENCH_CHANNEL);
	bench_check(connection, "channel.open");
	free(copy);
	return (connection);
}

void
bench_disconnect(amqp_connection_state_t connection)
{
	amqp_connection_close(connection, AMQP_REPLY_SUCCESS);
	amqp_destroy_connection(connection);
}

void
bench_publisher_open(struct bench_publisher * publisher, amqp_connection_state_t connection,
    uint64_t window)
{
	uint64_t size = 1;

	memset(publisher, 0, sizeof(*publisher));
	publisher->connection = connection;
	publisher->window = window;

	/*
	 * The span from the oldest unconfirmed tag to the newest exceeds the
	 * window only while confirms come out of order; 64 windows of that
	 * would be a broker gone mad, and confirm() notices.
	 */
	while (size < window * 64)
		size <<= 1;
	publisher->mask = size - 1;
	if ((publisher->seen = calloc(size, 1)) == NULL)
		bench_fail("out of memory");
	amqp_confirm_select(connection, BENCH_CHANNEL);
	bench_check(connection, "confirm.select");
}

static void
confirm(struct bench_publisher * publisher, uint64_t tag, bool multiple)
{
	uint64_t i;

	if (tag > publisher->published ||
	    publisher->published - publisher->oldest > publisher->mask)
		bench_fail("a confirm that fits no message");
	for (i = multiple ? publisher->oldest + 1 : tag; i <= tag; i++) {
		if (i <= publisher->oldest || publisher->seen[i & publisher->mask])
			continue;
		publisher->seen[i & publisher->mask] = 1;
		publisher->confirmed++;
	}
	while (publisher->oldest < publisher->published &&
	    publisher->seen[(publisher->oldest + 1) & publisher->mask])
		publisher->seen[++publisher->oldest & publisher->mask] = 0;
}

/* Take one frame; ${wait}: or wait for it.  False if there was none. */
static bool
take_frame(struct bench_publisher * publisher, bool wait)
{
	struct timeval none = {0, 0};
	amqp_frame_t frame;
	int status;

	amqp_maybe_release_buffers(publisher->connection);
	status = amqp_simple_wait_frame_noblock(publisher->connection, &frame, wait ? NULL : &none);
	if (status == AMQP_STATUS_TIMEOUT && !wait)
		return (false);
	if (status != AMQP_STATUS_OK)
		bench_fail("waiting for confirms: %s", amqp_error_string2(status));
	if (frame.frame_type != AMQP_FRAME_METHOD)
		bench_fail("an unexpected frame: is the queue there?");
	if (frame.payload.method.id == AMQP_BASIC_ACK_METHOD) {
		const amqp_basic_ack_t * ack = frame.payload.method.decoded;

		confirm(publisher, ack->delivery_tag, ack->multiple);
		return (true);
	}
	bench_fail("%s instead of a confirm", amqp_method_name(frame.payload.method.id));
}

void
bench_publisher_settle(struct bench_publisher * publisher, uint64_t outstanding)
{
	while (publisher->published - publisher->confirmed > outstanding)
		take_frame(publisher, true);
}

void
bench_publisher_poll(struct bench_publisher * publisher)
{
	while (take_frame(publisher, false))
		;
}

void
bench_publisher_send(struct bench_publisher * publisher, const char * routing_key,
    const amqp_basic_properties_t * properties, amqp_bytes_t body)
{
	int status;

	bench_publisher_settle(publisher, publisher->window - 1);
	status = amqp_basic_publish(publisher->connection, BENCH_CHANNEL, amqp_empty_bytes,
	    amqp_cstring_bytes(routing_key), 1, 0, properties, body);
	if (status != AMQP_STATUS_OK)
		bench_fail("basic.publish: %s", amqp_error_string2(status));
	publisher->published++;
}

void
bench_publisher_close(struct bench_publisher * publisher)
{
	free(publisher->seen);
	publisher->seen = NULL;
}
