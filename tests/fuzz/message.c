#include "fuzz.h"

#include <string.h>

#include "amqp/codec.h"

/*
 * Messages to frames.  The input is fields, each a letter and its text, with
 * a record separator (0x1e) between them; "=" ends a message, and what is not
 * said is as in the one before.  Up to MESSAGES_MAX messages go into one
 * outbound, from there in pieces into rabbitmq-c's decoder, and must come out
 * field by field as they went in.  What was refused must have deserved it.
 * "C1" in front of the first one makes all of them CloudEvents.
 */
#define CHANNEL 3
#define SOURCE "/fuzz"
#define SEPARATOR '\x1e'
#define MESSAGES_MAX 8
#define STRETCHED_MAX 300000
#define FRAME_MAX_LEAST 4096
#define FRAME_MAX_MOST 131072

struct run {
	struct codec codec;
	struct outbound out;
	struct batch batch;
	struct message message; /* as the fields have made it so far */
	struct message sent[MESSAGES_MAX];
	size_t count;
	char * stretched[64]; /* memory of fields */
	size_t stretched_count;
	size_t step; /* bytes of a piece */
};

static const struct {
	char letter;
	size_t offset;
	bool short_string;
} fields[] = {
    {'e', offsetof(struct message, exchange), true},
    {'r', offsetof(struct message, routing_key), true},
    {'t', offsetof(struct message, type), true},
    {'a', offsetof(struct message, app_id), true},
    {'c', offsetof(struct message, content_type), true},
    {'n', offsetof(struct message, content_encoding), true},
    {'i', offsetof(struct message, correlation_id), true},
    {'y', offsetof(struct message, reply_to), true},
    {'b', offsetof(struct message, body), false},
    {'k', offsetof(struct message, ordering_key), false},
    {'h', offsetof(struct message, headers), false},
};
#define FIELDS (sizeof(fields) / sizeof(fields[0]))

static void
never(struct batch * batch)
{
	(void)batch;
	FAIL("the last reference went");
}

static struct bytes *
field_of(struct message * m, size_t i)
{
	return ((struct bytes *)(void *)((char *)m + fields[i].offset));
}

/* "*N" + letter: that field's text again and again, N bytes in all. */
static void
stretch(struct run * run, struct bytes * field, int64_t size)
{
	char * p;
	size_t i;

	if (field->len == 0 || size < 0 || size > STRETCHED_MAX ||
	    run->stretched_count == sizeof(run->stretched) / sizeof(run->stretched[0]))
		return;
	p = run->stretched[run->stretched_count++] = malloc((size_t)size + 1);
	for (i = 0; i < (size_t)size; i++)
		p[i] = field->data[i % field->len];
	*field = (struct bytes){p, (size_t)size};
}

/* ---- what must become of it ---- */

static size_t
own_entries(const struct message * m, amqp_table_entry_t * own)
{
	own[0] = (amqp_table_entry_t){.key = {.len = 11, .bytes = "x-outbox-id"},
	    .value = {.kind = AMQP_FIELD_KIND_I64, .value.i64 = m->id}};
	own[1] = (amqp_table_entry_t){.key = {.len = 14, .bytes = "x-ordering-key"},
	    .value = {.kind = AMQP_FIELD_KIND_UTF8,
		.value.bytes = rabbitmq_bytes(m->ordering_key)}};
	return (bytes_present(m->ordering_key) ? 2 : 1);
}

static bool
deserves_refusal(const struct run * run, const struct message * m, const struct reference * r)
{
	amqp_table_entry_t own[HEADERS_OWN];
	size_t own_count = own_entries(m, own), i;
	/* Frame, class, weight, body size, flags; message_id, delivery_mode, timestamp. */
	size_t size = 8 + 12 + 2 + 37 + 1 + 8;
	char text[32];

	for (i = 0; i < FIELDS; i++) {
		const struct bytes * b = field_of((struct message *)(uintptr_t)m, i);

		if (!fields[i].short_string || !bytes_present(*b))
			continue;
		if (b->len > 255 || !reference_utf8(*b))
			return (true);
		if (fields[i].letter != 'e' && fields[i].letter != 'r')
			size += 1 + b->len;
	}
	if (m->timestamp_s < 0 || m->timestamp_s > INT64_C(253402300799) || m->priority < -1 ||
	    m->priority > 255 || m->expiration_ms < -1 || m->expiration_ms > UINT32_MAX ||
	    r->why != NULL)
		return (true);
	if (m->priority >= 0)
		size += 1;
	if (m->expiration_ms >= 0)
		size += 1 +
		    (size_t)snprintf(text, sizeof(text), "%lld", (long long)m->expiration_ms);
	return (size + reference_size(r, own, own_count) > run->codec.frame_max);
}

static void
compare_text(const amqp_basic_properties_t * p, amqp_flags_t flag, amqp_bytes_t decoded,
    struct bytes sent)
{
	CHECK(((p->_flags & flag) != 0) == (bytes_present(sent) != 0));
	if (bytes_present(sent)) {
		CHECK(decoded.len == sent.len);
		CHECK(sent.len == 0 || memcmp(decoded.bytes, sent.data, sent.len) == 0);
	}
}

static void
compare_properties(const struct message * m, const amqp_basic_properties_t * p, const char * source)
{
	amqp_table_entry_t own[HEADERS_OWN];
	size_t own_count = own_entries(m, own), i;
	struct reference r = reference_read(m->headers);
	char text[40], *end = text;
	int64_t id;

	reference_event(&r, m, source);
	for (i = 0; i < 16; i++)
		end += sprintf(end, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
		    m->message_id[i]);
	compare_text(p, AMQP_BASIC_MESSAGE_ID_FLAG, p->message_id, bytes_from(text));
	CHECK(p->delivery_mode == (m->persistent ? 2 : 1));
	CHECK(p->timestamp == (uint64_t)m->timestamp_s);
	CHECK(((p->_flags & AMQP_BASIC_PRIORITY_FLAG) != 0) == (m->priority >= 0));
	CHECK(m->priority < 0 || p->priority == m->priority);
	snprintf(text, sizeof(text), "%lld", (long long)m->expiration_ms);
	compare_text(p, AMQP_BASIC_EXPIRATION_FLAG, p->expiration,
	    m->expiration_ms < 0 ? BYTES_NONE : bytes_from(text));
	compare_text(p, AMQP_BASIC_CONTENT_TYPE_FLAG, p->content_type, m->content_type);
	compare_text(p, AMQP_BASIC_CONTENT_ENCODING_FLAG, p->content_encoding, m->content_encoding);
	compare_text(p, AMQP_BASIC_CORRELATION_ID_FLAG, p->correlation_id, m->correlation_id);
	compare_text(p, AMQP_BASIC_REPLY_TO_FLAG, p->reply_to, m->reply_to);
	compare_text(p, AMQP_BASIC_TYPE_FLAG, p->type, m->type);
	compare_text(p, AMQP_BASIC_APP_ID_FLAG, p->app_id, m->app_id);
	CHECK((p->_flags & (AMQP_BASIC_USER_ID_FLAG | AMQP_BASIC_CLUSTER_ID_FLAG)) == 0);
	CHECK((p->_flags & AMQP_BASIC_HEADERS_FLAG) != 0);
	reference_compare(&r, own, own_count, &p->headers);
	CHECK(codec_returned_id(p, &id) == 0 && id == m->id);
	reference_free(&r);
}

/* ---- the other end ---- */

struct broker {
	amqp_connection_state_t decoder;
	const struct run * run;
	size_t at;        /* of the message that comes */
	int frame;        /* of it: 0 method, 1 header, 2 body */
	uint64_t body_at; /* bytes of the body that have come */
};

static void
take_frame(struct broker * b, const amqp_frame_t * frame)
{
	const struct message * m = &b->run->sent[b->at];
	const amqp_basic_publish_t * publish = frame->payload.method.decoded;
	amqp_bytes_t part = frame->payload.body_fragment;

	CHECK(b->at < b->run->count && frame->channel == CHANNEL);
	switch (b->frame) {
	case 0:
		CHECK(frame->frame_type == AMQP_FRAME_METHOD);
		CHECK(frame->payload.method.id == AMQP_BASIC_PUBLISH_METHOD);
		CHECK((publish->mandatory != 0) == b->run->codec.mandatory && !publish->immediate);
		CHECK(bytes_equal(m->exchange,
		    (struct bytes){publish->exchange.bytes, publish->exchange.len}));
		CHECK(bytes_equal(m->routing_key,
		    (struct bytes){publish->routing_key.bytes, publish->routing_key.len}));
		b->frame = 1;
		return;
	case 1:
		CHECK(frame->frame_type == AMQP_FRAME_HEADER);
		CHECK(frame->payload.properties.class_id == AMQP_BASIC_CLASS);
		CHECK(frame->payload.properties.body_size == m->body.len);
		compare_properties(m, frame->payload.properties.decoded, b->run->codec.cloudevents);
		b->frame = 2;
		b->body_at = 0;
		break;
	default:
		CHECK(frame->frame_type == AMQP_FRAME_BODY && part.len > 0);
		CHECK(part.len <= m->body.len - b->body_at);
		CHECK(memcmp(part.bytes, m->body.data + b->body_at, part.len) == 0);
		b->body_at += part.len;
	}
	if (b->body_at == m->body.len) {
		b->frame = 0;
		b->at++;
	}
}

static void
feed(struct broker * b, char * data, size_t size)
{
	amqp_frame_t frame;
	int used;

	while (size > 0) {
		used = amqp_handle_input(b->decoder, (amqp_bytes_t){.len = size, .bytes = data},
		    &frame);
		CHECK(used > 0);
		data += used;
		size -= (size_t)used;
		if (frame.frame_type != 0) {
			take_frame(b, &frame);
			amqp_maybe_release_buffers(b->decoder);
		}
	}
}

/* All that the outbound holds, in pieces, through a decoder with our frame_max. */
static void
deliver(struct run * run)
{
	/* rabbitmq-c takes large frames only after a first one. */
	char unblocked[] = "\1\0\0\0\0\0\4\0\12\0\75\316";
	struct broker b = {.decoder = amqp_new_connection(), .run = run};
	struct iovec parts[4];
	amqp_frame_t frame;
	size_t n, i, taken, piece;

	CHECK(amqp_handle_input(b.decoder, (amqp_bytes_t){.len = 12, .bytes = unblocked}, &frame) ==
	    12);
	CHECK(amqp_tune_connection(b.decoder, 0, (int)run->codec.frame_max, 0) == 0);
	while (outbound_unsent(&run->out) > 0) {
		n = outbound_gather(&run->out, parts, 4);
		CHECK(n > 0);
		for (i = 0, taken = 0; i < n && taken < run->step; i++, taken += piece) {
			piece = run->step - taken;
			if (parts[i].iov_len < piece)
				piece = parts[i].iov_len;
			feed(&b, parts[i].iov_base, piece);
		}
		outbound_sent(&run->out, taken);
	}
	CHECK(b.at == run->count && b.frame == 0);
	CHECK(run->batch.references == 1);
	amqp_destroy_connection(b.decoder);
}

/* ---- the input ---- */

static void
publish(struct run * run)
{
	struct message * m = &run->message;
	struct reference r;
	struct error e;
	size_t unsent = outbound_unsent(&run->out);

	if (run->count == MESSAGES_MAX)
		return;
	r = reference_read(m->headers);
	reference_event(&r, m, run->codec.cloudevents);
	error_clear(&e);
	switch (codec_publish(&run->codec, &run->out, CHANNEL, m, &e)) {
	case LINK_TAKEN:
		CHECK(!deserves_refusal(run, m, &r));
		CHECK(outbound_unsent(&run->out) > unsent + m->body.len);
		run->sent[run->count++] = *m;
		break;
	case LINK_UNFIT:
		CHECK(deserves_refusal(run, m, &r));
		CHECK(e.code == EXIT_FOUND && e.text[0] != '\0');
		CHECK(outbound_unsent(&run->out) == unsent);
		break;
	case LINK_FULL:
		CHECK(run->out.bytes.max < 1024 * 1024);
		CHECK(outbound_unsent(&run->out) == unsent);
		break;
	}
	reference_free(&r);
}

static void
choose_events(struct run * run, bool on)
{
	uint32_t frame_max = run->codec.frame_max;
	bool mandatory = run->codec.mandatory;

	codec_free(&run->codec);
	codec_init(&run->codec, mandatory, on ? SOURCE : NULL);
	run->codec.frame_max = frame_max;
}

static void
set_number(struct run * run, char letter, int64_t n, char argument)
{
	struct message * m = &run->message;
	size_t i;

	switch (letter) {
	case 'I':
		m->id = n;
		break;
	case 'T':
		m->timestamp_s = n;
		break;
	case 'X':
		m->expiration_ms = n;
		break;
	case 'P':
		m->priority = (int16_t)n;
		break;
	case 'D':
		m->persistent = n != 0;
		break;
	case 'M':
		if (run->count == 0)
			run->codec.mandatory = n != 0;
		break;
	case 'C':
		if (run->count == 0)
			choose_events(run, n != 0);
		break;
	case 'F':
		/* Agreed upon before anything is sent. */
		if (run->count == 0 && n >= FRAME_MAX_LEAST && n <= FRAME_MAX_MOST)
			run->codec.frame_max = (uint32_t)n;
		break;
	case 'O':
		if (run->count == 0 && n > 0 && n < STRETCHED_MAX)
			run->out.bytes.max = (size_t)n;
		break;
	case 'S':
		if (n > 0)
			run->step = (size_t)n;
		break;
	case '*':
		for (i = 0; i < FIELDS; i++)
			if (fields[i].letter == argument)
				stretch(run, field_of(m, i), n);
		break;
	case '-':
		for (i = 0; i < FIELDS; i++)
			if (fields[i].letter == argument && argument != 'e' && argument != 'r' &&
			    argument != 'b')
				*field_of(m, i) = BYTES_NONE;
		break;
	default:
		break;
	}
}

static void
take_field(struct run * run, struct bytes text)
{
	char number[32] = "", *end;
	char letter = text.data[0];
	int64_t n;
	size_t i;

	text = (struct bytes){text.data + 1, text.len - 1};
	for (i = 0; i < FIELDS; i++) {
		if (fields[i].letter == letter) {
			*field_of(&run->message, i) = text;
			return;
		}
	}
	if (letter == 'U' && text.len >= 16)
		memcpy(run->message.message_id, text.data, 16);
	if (letter == '=')
		publish(run);
	memcpy(number, text.data, text.len < sizeof(number) - 1 ? text.len : sizeof(number) - 1);
	n = strtoll(number, &end, 10);
	set_number(run, letter, n, *end);
}

int
LLVMFuzzerTestOneInput(const uint8_t * data, size_t size)
{
	struct input in = {(const char *)data, size};
	struct run run = {.codec = {.frame_max = FRAME_MAX_MOST, .mandatory = true},
	    .batch = {.references = 1, .destroy = never},
	    .step = SIZE_MAX,
	    .message = {.exchange = {"", 0},
		.routing_key = {"", 0},
		.body = {"", 0},
		.expiration_ms = -1,
		.priority = -1}};

	outbound_init(&run.out, 8 * 1024 * 1024);
	run.message.batch = &run.batch;
	while (in.left > 0) {
		const char * end = memchr(in.data, SEPARATOR, in.left);
		struct bytes text = input_bytes(&in,
		    end == NULL ? in.left : (size_t)(end - in.data));

		input_byte(&in);
		if (text.len > 0)
			take_field(&run, text);
	}
	publish(&run);
	deliver(&run);
	outbound_free(&run.out);
	codec_free(&run.codec);
	while (run.stretched_count > 0)
		free(run.stretched[--run.stretched_count]);
	return (0);
}
