#include "fuzz.h"

#include <endian.h>
#include <string.h>

#include "amqp/codec.h"
#include "amqp/link.h"
#include "amqp/transport.h"

/*
 * What a broker, or whatever answers in its place, sends to a link.  The
 * transport is ours (below), so no socket is opened and every byte is chosen.
 *
 * The input is a play: letters, some followed by bytes that say more.
 *   L                 log in, as far as the link is not yet
 *   s t o c f         one frame of that: start, tune, open-ok, channel, confirms
 *   C N               what follows is about channel 1 + N mod CHANNELS
 *   p N               publish N messages
 *   a T M / n T M     ack / nack of tag T, multiple when M is odd
 *   r I C             basic.return of the message with id I, for reason C
 *   k C R.. / K C R.. close of the channel / connection: code, reason (length, bytes)
 *   b R.. / u         connection.blocked / unblocked
 *   h                 heartbeat
 *   m K I.. P..       a method frame on channel K: its id and payload (length, bytes)
 *   x R..             raw bytes (length, bytes)
 *   X                 all the rest, raw
 *   w N               N tenths of a second pass
 *   z N               from now on bytes come N at a time (0: at once)
 *   W N               the socket takes N * 64 bytes more (255: no bound)
 *   e / E             end of the stream / connecting fails from now on, or no more
 *   q / A / R / G     link_close / link_abort / link_resume / link_reset
 *
 * Every ticket that the link took gets one answer, events come from link_turn
 * alone, and what the link writes is AMQP.
 */
#define TICKETS_MAX 4096
#define WINDOW 64
#define CHANNELS 3
#define TURNS_MAX 64 /* to make a last state known */

static struct world {
	struct link * link;
	clock_ns now;
	bool in_turn;
	bool up;
	bool closing;                            /* nothing is published any more */
	struct message * unsettled[TICKETS_MAX]; /* gone as soon as the contract allows */
	uint64_t tickets;
	uint64_t waiting; /* how many of them are unsettled */
	struct batch batch;

	unsigned int channel; /* that the play is about */

	/* The socket. */
	bool open;
	bool refuses;
	bool ended;
	char * incoming;
	size_t incoming_size;
	size_t slice;
	size_t room; /* of the socket, for what the link writes */

	/* What the link writes. */
	size_t written; /* of the protocol header */
	amqp_connection_state_t decoder;
} w;

/* ---- the transport, as transport.h has it ---- */

struct transport {
	int nothing;
};

static struct transport the_transport;

struct transport *
transport_open(const struct transport_options * options, clock_ns now, struct error * e)
{
	(void)now;
	CHECK(!w.open && options->host[0] != '\0');
	if (w.refuses) {
		error_set(e, EXIT_UNREACHABLE, "refused");
		return (NULL);
	}
	w.open = true;
	w.ended = false;
	w.written = 0;
	w.incoming_size = 0;
	w.decoder = amqp_new_connection();
	return (&the_transport);
}

void
transport_close(struct transport * t, bool discard)
{
	(void)discard;
	if (t == NULL)
		return;
	CHECK(w.open);
	w.open = false;
	amqp_destroy_connection(w.decoder);
}

enum transport_state
transport_progress(struct transport * t, clock_ns now, struct error * e)
{
	(void)t;
	(void)now;
	if (!w.refuses)
		return (TRANSPORT_READY);
	error_set(e, EXIT_UNREACHABLE, "refused");
	return (TRANSPORT_FAILED);
}

int
transport_fd(const struct transport * t)
{
	(void)t;
	return (7);
}

short
transport_poll_events(const struct transport * t)
{
	(void)t;
	return (4);
}

clock_ns
transport_deadline(const struct transport * t)
{
	(void)t;
	return (w.now + CLOCK_S(1));
}

int64_t
transport_certificate_expiry(const struct transport * t)
{
	(void)t;
	return (0);
}

long
transport_read(struct transport * t, char * data, size_t size, struct error * e)
{
	size_t n = w.incoming_size < size ? w.incoming_size : size;

	(void)t;
	CHECK(w.open);
	if (w.slice > 0 && n > w.slice)
		n = w.slice;
	if (n == 0 && w.ended)
		return (error_set(e, EXIT_UNREACHABLE, "the broker closed the connection"));
	memcpy(data, w.incoming, n);
	w.incoming += n;
	w.incoming_size -= n;
	return ((long)n);
}

/* What the link wrote is decoded, since a broker would hang up otherwise. */
static void
written(char * data, size_t size)
{
	amqp_frame_t frame;
	int used;

	while (size > 0 && w.written < 8) {
		CHECK(*data == "AMQP\0\0\11\1"[w.written]);
		w.written++;
		data++;
		size--;
	}
	while (size > 0) {
		used = amqp_handle_input(w.decoder, (amqp_bytes_t){.len = size, .bytes = data},
		    &frame);
		CHECK(used > 0);
		data += used;
		size -= (size_t)used;
		if (frame.frame_type == 0)
			continue;
		CHECK(frame.channel <= CHANNELS);
		if (frame.frame_type == AMQP_FRAME_METHOD &&
		    frame.payload.method.id == AMQP_CONNECTION_TUNE_OK_METHOD) {
			const amqp_connection_tune_ok_t * ok = frame.payload.method.decoded;

			CHECK(ok->frame_max >= 4096 && ok->frame_max <= 131072);
			CHECK(amqp_tune_connection(w.decoder, 0, (int)ok->frame_max, 0) == 0);
		}
		amqp_maybe_release_buffers(w.decoder);
	}
}

long
transport_write(struct transport * t, const struct iovec * parts, size_t count, struct error * e)
{
	size_t i, n, total = 0;

	(void)t;
	CHECK(w.open && count > 0);
	if (w.ended)
		return (error_set(e, EXIT_UNREACHABLE, "broken pipe"));
	for (i = 0; i < count && w.room > 0; i++) {
		n = parts[i].iov_len < w.room ? parts[i].iov_len : w.room;
		written(parts[i].iov_base, n);
		total += n;
		if (w.room != SIZE_MAX)
			w.room -= n;
	}
	return ((long)total);
}

/* ---- the owner of the link ---- */

static void
all_are_off_our_hands(void)
{
	for (uint64_t i = 0; i < w.tickets && w.waiting > 0; i++) {
		w.waiting -= w.unsettled[i] != NULL;
		free(w.unsettled[i]);
		w.unsettled[i] = NULL;
	}
}

static void
on_up(void * context, const char * peer)
{
	CHECK(context == &w && w.in_turn && peer[0] != '\0');
	w.up = true;
}

static void
on_down(void * context, const struct error * e, clock_ns retry_in)
{
	CHECK(context == &w && w.in_turn && e->text[0] != '\0' && retry_in >= 0);
	CHECK(e->code != EXIT_BUG);
	w.up = false;
	all_are_off_our_hands();
}

static void
on_settled(void * context, uint64_t ticket, enum link_outcome outcome, const struct error * e)
{
	CHECK(context == &w && w.in_turn && ticket < w.tickets && w.unsettled[ticket] != NULL);
	CHECK((outcome == LINK_CONFIRMED) == (e == NULL));
	free(w.unsettled[ticket]);
	w.unsettled[ticket] = NULL;
	w.waiting--;
}

static void
on_channel_closed(void * context, const struct error * e, struct bytes exchange)
{
	CHECK(context == &w && w.in_turn && e->text[0] != '\0');
	/* Every byte of it may be read. */
	CHECK(!bytes_present(exchange) || memchr(exchange.data, '\0', exchange.len) == NULL ||
	    exchange.len > 0);
	w.up = false;
	all_are_off_our_hands();
}

static void
on_blocked(void * context, bool blocked, const char * reason)
{
	(void)blocked;
	CHECK(context == &w && w.in_turn && strlen(reason) < 1024);
}

static const struct link_events events = {.up = on_up,
    .down = on_down,
    .settled = on_settled,
    .channel_closed = on_channel_closed,
    .blocked = on_blocked};

static void
destroy(struct batch * batch)
{
	(void)batch;
	FAIL("the last reference went");
}

static void
turn(short revents)
{
	w.in_turn = true;
	link_turn(w.link, w.now, revents);
	w.in_turn = false;
	CHECK(link_closed(w.link) || !w.open || link_fd(w.link) == 7);
}

static void
publish(unsigned int count)
{
	static const char body[20000] = "body";
	struct message * m;
	struct error e;

	for (; count > 0 && w.up && !w.closing && w.tickets < TICKETS_MAX; count--) {
		CHECK((m = malloc(sizeof(*m))) != NULL);
		*m = (struct message){.id = (int64_t)w.tickets + 1,
		    .key = w.tickets % 4 << 32, /* 0: none */
		    .batch = &w.batch,
		    .exchange = {"ex", 2},
		    .routing_key = {"rk", 2},
		    .headers = bytes_from("{\"a\": \"b\", \"n\": [1, {\"k\": null}]}"),
		    .body = {body, count % 4 == 3 ? sizeof(body) : count},
		    .expiration_ms = -1,
		    .priority = -1};
		if (link_publish(w.link, m, w.tickets, &e) != LINK_TAKEN) {
			free(m);
			break;
		}
		w.unsettled[w.tickets++] = m;
		w.waiting++;
	}
	link_flush(w.link, w.now);
}

/* ---- the broker ---- */

/* Hand bytes to the link, as many at a time as the play wants. */
static void
arrive(char * data, size_t size)
{
	size_t turns = 0;

	w.incoming = data;
	w.incoming_size = size;
	while (w.open && w.incoming_size > 0 && turns++ < 4 * TURNS_MAX)
		turn(1);
	w.incoming_size = 0;
}

static void
frame(unsigned int type, unsigned int channel, const char * payload, size_t size)
{
	static char bytes[70000];
	uint32_t be = htobe32((uint32_t)size);

	CHECK(size + 8 <= sizeof(bytes));
	bytes[0] = (char)type;
	bytes[1] = 0;
	bytes[2] = (char)channel;
	memcpy(bytes + 3, &be, 4);
	memcpy(bytes + 7, payload, size);
	bytes[7 + size] = (char)0xce;
	arrive(bytes, size + 8);
}

static void
method(unsigned int channel, amqp_method_number_t id, void * decoded)
{
	static char payload[4096];
	uint32_t be = htobe32(id);
	int size = amqp_encode_method(id, decoded,
	    (amqp_bytes_t){.len = sizeof(payload) - 4, .bytes = payload + 4});

	CHECK(size >= 0);
	memcpy(payload, &be, 4);
	frame(AMQP_FRAME_METHOD, channel, payload, (size_t)size + 4);
}

static void
start(void)
{
	amqp_connection_start_t m = {.version_major = 0,
	    .version_minor = 9,
	    .mechanisms = {.len = 14, .bytes = "PLAIN AMQPLAIN"},
	    .locales = {.len = 5, .bytes = "en_US"}};

	method(0, AMQP_CONNECTION_START_METHOD, &m);
}

static void
tune(uint32_t frame_max, uint16_t heartbeat)
{
	amqp_connection_tune_t m = {.channel_max = 2047,
	    .frame_max = frame_max,
	    .heartbeat = heartbeat};

	method(0, AMQP_CONNECTION_TUNE_METHOD, &m);
}

static void
simple(unsigned int channel, amqp_method_number_t id)
{
	static char nothing[64];

	memset(nothing, 0, sizeof(nothing));
	method(channel, id, nothing);
}

static void
log_in(void)
{
	int i;

	for (i = 0; i < TURNS_MAX && !w.open && !link_closed(w.link); i++) {
		w.now += CLOCK_S(10);
		turn(0);
	}
	start();
	tune(131072, 10);
	simple(0, AMQP_CONNECTION_OPEN_OK_METHOD);
	for (unsigned int channel = 1; channel <= CHANNELS; channel++)
		simple(channel, AMQP_CHANNEL_OPEN_OK_METHOD);
	for (unsigned int channel = 1; channel <= CHANNELS; channel++)
		simple(channel, AMQP_CONFIRM_SELECT_OK_METHOD);
}

static void
answer(bool nacked, uint64_t tag, bool multiple)
{
	amqp_basic_ack_t ack = {.delivery_tag = tag, .multiple = multiple};
	amqp_basic_nack_t nack = {.delivery_tag = tag, .multiple = multiple};

	if (nacked)
		method(w.channel, AMQP_BASIC_NACK_METHOD, &nack);
	else
		method(w.channel, AMQP_BASIC_ACK_METHOD, &ack);
}

static void
give_back(int64_t id, uint16_t code)
{
	amqp_basic_return_t m = {.reply_code = code,
	    .reply_text = {.len = 8, .bytes = "NO_ROUTE"},
	    .exchange = {.len = 2, .bytes = "ex"}};
	amqp_table_entry_t entry = {.key = {.len = 11, .bytes = "x-outbox-id"},
	    .value = {.kind = AMQP_FIELD_KIND_I64, .value.i64 = id}};
	amqp_basic_properties_t p = {._flags = AMQP_BASIC_HEADERS_FLAG,
	    .headers = {.num_entries = 1, .entries = &entry}};
	char payload[256] = "\0\74\0\0\0\0\0\0\0\0\0\4";
	int size;

	method(w.channel, AMQP_BASIC_RETURN_METHOD, &m);
	size = amqp_encode_properties(AMQP_BASIC_CLASS, &p,
	    (amqp_bytes_t){.len = sizeof(payload) - 12, .bytes = payload + 12});
	CHECK(size > 0);
	if (w.open)
		frame(AMQP_FRAME_HEADER, w.channel, payload, (size_t)size + 12);
	if (w.open)
		frame(AMQP_FRAME_BODY, w.channel, "body", 4);
}

static void
close_with(struct input * in, bool channel)
{
	static const uint16_t codes[] = {404, 403, 406, 320, 530, 501, 541, 311};
	uint16_t code = codes[input_byte(in) % 8];
	amqp_bytes_t reason = rabbitmq_bytes(input_bytes(in, input_byte(in)));
	amqp_channel_close_t m = {.reply_code = code, .reply_text = reason};
	amqp_connection_close_t c = {.reply_code = code, .reply_text = reason};

	if (channel)
		method(w.channel, AMQP_CHANNEL_CLOSE_METHOD, &m);
	else
		method(0, AMQP_CONNECTION_CLOSE_METHOD, &c);
}

static void
arrive_copy(struct bytes b)
{
	char * copy = malloc(b.len > 0 ? b.len : 1);

	memcpy(copy, b.data, b.len);
	arrive(copy, b.len);
	free(copy);
}

static void
any_method(struct input * in)
{
	unsigned int channel = input_byte(in);
	char payload[4 + 256] = {0};
	struct bytes b;

	payload[1] = (char)input_byte(in);
	payload[3] = (char)input_byte(in);
	b = input_bytes(in, input_byte(in));
	memcpy(payload + 4, b.data, b.len);
	frame(AMQP_FRAME_METHOD, channel, payload, 4 + b.len);
}

static void
blocked(struct input * in)
{
	amqp_connection_blocked_t m = {.reason = rabbitmq_bytes(input_bytes(in, input_byte(in)))};

	method(0, AMQP_CONNECTION_BLOCKED_METHOD, &m);
}

/* ---- the play ---- */

static void
socket_takes(unsigned int n)
{
	w.room = n == 255 ? SIZE_MAX : n * 64;
	turn(4);
}

static void
act(struct input * in)
{
	unsigned int n;

	switch (input_byte(in)) {
	case 'L':
		log_in();
		break;
	case 's':
		start();
		break;
	case 't':
		n = input_byte(in);
		tune(n * 1024, (uint16_t)input_byte(in));
		break;
	case 'o':
		simple(0, AMQP_CONNECTION_OPEN_OK_METHOD);
		break;
	case 'c':
		simple(w.channel, AMQP_CHANNEL_OPEN_OK_METHOD);
		break;
	case 'f':
		simple(w.channel, AMQP_CONFIRM_SELECT_OK_METHOD);
		break;
	case 'C':
		w.channel = 1 + input_byte(in) % CHANNELS;
		break;
	case 'p':
		publish(input_byte(in));
		break;
	case 'a':
		n = input_byte(in);
		answer(false, n, input_byte(in) % 2);
		break;
	case 'n':
		n = input_byte(in);
		answer(true, n, input_byte(in) % 2);
		break;
	case 'r':
		n = input_byte(in);
		give_back(n, (uint16_t)(300 + input_byte(in)));
		break;
	case 'k':
		close_with(in, true);
		break;
	case 'K':
		close_with(in, false);
		break;
	case 'b':
		blocked(in);
		break;
	case 'u':
		simple(0, AMQP_CONNECTION_UNBLOCKED_METHOD);
		break;
	case 'h':
		frame(AMQP_FRAME_HEARTBEAT, 0, "", 0);
		break;
	case 'm':
		any_method(in);
		break;
	case 'x':
		arrive_copy(input_bytes(in, input_byte(in)));
		break;
	case 'X':
		arrive_copy(input_bytes(in, in->left));
		break;
	case 'w':
		w.now += CLOCK_MS(100) * input_byte(in);
		turn(0);
		break;
	case 'z':
		w.slice = input_byte(in);
		break;
	case 'W':
		socket_takes(input_byte(in));
		break;
	case 'e':
		w.ended = w.open;
		turn(1);
		break;
	case 'E':
		w.refuses = !w.refuses;
		break;
	case 'q':
		link_close(w.link, w.now);
		w.closing = true;
		break;
	case 'A':
		link_abort(w.link, w.now);
		w.up = false;
		all_are_off_our_hands();
		break;
	case 'R':
		link_resume(w.link, w.now);
		if (w.closing) {
			w.closing = w.up = false;
			all_are_off_our_hands();
		}
		break;
	case 'G':
		link_reset(w.link, w.now, "a reason");
		if (!w.closing) {
			w.up = false;
			all_are_off_our_hands();
		}
		break;
	default:
		break;
	}
	if (link_closed(w.link))
		w.up = false;
}

/* The broker hangs up: whatever was unsettled must be said to be so. */
static void
end(void)
{
	int i;

	for (i = 0; i < TURNS_MAX && w.open; i++) {
		w.ended = true;
		turn(1);
	}
	CHECK(!w.open);
	CHECK(w.waiting == 0 || link_closed(w.link));
}

int
LLVMFuzzerTestOneInput(const uint8_t * data, size_t size)
{
	static const char * const urls[] = {"amqp://user:SECRET@one/%2f", "amqp://two:1/v"};
	struct input in = {(const char *)data, size};
	struct link_options options = {.urls = urls,
	    .url_count = 2,
	    .external_auth = false,
	    .heartbeat_s = 10,
	    .connect_timeout = CLOCK_S(10),
	    .mandatory = true,
	    .window = WINDOW,
	    .channels = CHANNELS,
	    .send_buffer_max = 100000,
	    .seed = 1};
	struct error e;

	memset(&w, 0, sizeof(w));
	w.batch = (struct batch){.references = 1, .destroy = destroy};
	w.room = SIZE_MAX;
	w.channel = 1;
	w.now = CLOCK_S(100);
	w.link = link_new(&options, &events, &w, &e);
	CHECK(w.link != NULL);
	turn(0);
	turn(0);
	while (in.left > 0)
		act(&in);
	end();
	link_free(w.link);
	all_are_off_our_hands();
	CHECK(!w.open && w.batch.references == 1);
	return (0);
}
