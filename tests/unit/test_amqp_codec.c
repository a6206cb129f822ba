#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "amqp/codec.h"

#define CHANNEL 3

/* What was encoded is decoded by rabbitmq-c, as a broker would. */
struct decoded {
	char exchange[256], routing_key[256];
	bool mandatory;
	amqp_basic_properties_t properties;
	uint64_t body_size;
	char * body;
	size_t body_len;
	int frames;
	size_t largest;
};

static struct codec codec;
static struct outbound out;
static struct error e;
static amqp_connection_state_t decoder;
static struct batch batch;

static void
destroy(struct batch * b)
{
	(void)b;
	fail_msg("the last reference went");
}

static struct message
a_message(void)
{
	struct message m = {.id = 77,
	    .batch = &batch,
	    .exchange = bytes_from("ex"),
	    .routing_key = bytes_from("rk"),
	    .body = bytes_from("hello"),
	    .expiration_ms = -1,
	    .priority = -1,
	    .persistent = true,
	    .timestamp_s = 1700000000};
	int i;

	for (i = 0; i < 16; i++)
		m.message_id[i] = (uint8_t)(0x10 * i + i);
	return (m);
}

static int
set_up(void ** state)
{
	(void)state;
	memset(&codec, 0, sizeof(codec));
	codec.frame_max = 131072;
	codec.mandatory = true;
	batch = (struct batch){.references = 1, .destroy = destroy};
	outbound_init(&out, 8 * 1024 * 1024);
	return (0);
}

static int
tear_down(void ** state)
{
	(void)state;
	if (decoder != NULL)
		amqp_destroy_connection(decoder);
	decoder = NULL;
	outbound_free(&out);
	codec_free(&codec);
	return (batch.references == 1 ? 0 : -1);
}

/* Everything unsent as one run of bytes, taken in pieces of ${step}. */
static char *
drain(size_t step, size_t * len)
{
	size_t size = outbound_unsent(&out), at = 0;
	char * bytes = malloc(size + 1);

	while (outbound_unsent(&out) > 0) {
		struct iovec parts[3];
		size_t n = outbound_gather(&out, parts, 3), taken = 0, i;

		assert_in_range(n, 1, 3);
		for (i = 0; i < n && taken < step; i++) {
			size_t piece = parts[i].iov_len < step - taken ?
			    parts[i].iov_len :
			    step - taken;

			memcpy(bytes + at, parts[i].iov_base, piece);
			at += piece;
			taken += piece;
		}
		outbound_sent(&out, taken);
	}
	assert_int_equal(at, size);
	*len = size;
	return (bytes);
}

static void
decode_one(struct decoded * d, char ** bytes, size_t * len)
{
	amqp_frame_t frame;

	memset(d, 0, sizeof(*d));
	do {
		int used = amqp_handle_input(decoder, (amqp_bytes_t){.len = *len, .bytes = *bytes},
		    &frame);

		assert_true(used > 0);
		*bytes += used;
		*len -= (size_t)used;
		assert_int_not_equal(frame.frame_type, 0);
		assert_int_equal(frame.channel, CHANNEL);
		d->frames++;
		if ((size_t)used > d->largest)
			d->largest = (size_t)used;
		if (frame.frame_type == AMQP_FRAME_METHOD) {
			amqp_basic_publish_t * publish = frame.payload.method.decoded;

			assert_int_equal(frame.payload.method.id, AMQP_BASIC_PUBLISH_METHOD);
			memcpy(d->exchange, publish->exchange.bytes, publish->exchange.len);
			memcpy(d->routing_key, publish->routing_key.bytes,
			    publish->routing_key.len);
			d->mandatory = publish->mandatory != 0;
			assert_false(publish->immediate);
		} else if (frame.frame_type == AMQP_FRAME_HEADER) {
			/* Its pointers live until the decoder goes. */
			d->properties =
			    *(amqp_basic_properties_t *)frame.payload.properties.decoded;
			d->body_size = frame.payload.properties.body_size;
			d->body = malloc(d->body_size + 1);
		} else {
			assert_int_equal(frame.frame_type, AMQP_FRAME_BODY);
			memcpy(d->body + d->body_len, frame.payload.body_fragment.bytes,
			    frame.payload.body_fragment.len);
			d->body_len += frame.payload.body_fragment.len;
		}
	} while (d->body == NULL || d->body_len < d->body_size);
}

/* rabbitmq-c takes large frames only after a first one, as in a handshake. */
static void
decoder_new(void)
{
	char unblocked[] = "\1\0\0\0\0\0\4\0\12\0\75\316";
	amqp_frame_t frame;

	decoder = amqp_new_connection();
	assert_int_equal(amqp_handle_input(decoder, (amqp_bytes_t){.len = 12, .bytes = unblocked},
			     &frame),
	    12);
	assert_int_equal(frame.payload.method.id, AMQP_CONNECTION_UNBLOCKED_METHOD);
	assert_int_equal(amqp_tune_connection(decoder, 0, (int)codec.frame_max, 0), 0);
}

static void
assert_bytes(amqp_bytes_t b, const char * text)
{
	assert_int_equal(b.len, strlen(text));
	assert_memory_equal(b.bytes, text, b.len);
}

static void
test_every_property_arrives(void ** state)
{
	struct message m = a_message();
	struct decoded d;
	char *bytes, *p;
	size_t len;
	int64_t id;

	(void)state;
	m.ordering_key = bytes_from("customer-1");
	m.headers = bytes_from("{\"n\": {\"deep\": [1, null]}}");
	m.type = bytes_from("order.created");
	m.app_id = bytes_from("shop");
	m.content_type = bytes_from("application/json");
	m.content_encoding = bytes_from("utf-8");
	m.correlation_id = bytes_from("corr\xc3\xa9lation");
	m.reply_to = bytes_from("");
	m.expiration_ms = 60000;
	m.priority = 255;
	m.persistent = false;
	assert_int_equal(codec_publish(&codec, &out, CHANNEL, &m, &e), LINK_TAKEN);
	p = bytes = drain(SIZE_MAX, &len);
	decoder_new();
	decode_one(&d, &p, &len);
	assert_int_equal(len, 0);
	assert_string_equal(d.exchange, "ex");
	assert_string_equal(d.routing_key, "rk");
	assert_true(d.mandatory);
	assert_int_equal(d.body_len, 5);
	assert_memory_equal(d.body, "hello", 5);
	assert_int_equal(d.properties.delivery_mode, 1);
	assert_int_equal(d.properties.priority, 255);
	assert_true(d.properties.timestamp == 1700000000);
	assert_bytes(d.properties.message_id, "00112233-4455-6677-8899-aabbccddeeff");
	assert_bytes(d.properties.expiration, "60000");
	assert_bytes(d.properties.type, "order.created");
	assert_bytes(d.properties.app_id, "shop");
	assert_bytes(d.properties.content_type, "application/json");
	assert_bytes(d.properties.content_encoding, "utf-8");
	assert_bytes(d.properties.correlation_id, "corr\xc3\xa9lation");
	assert_true(d.properties._flags & AMQP_BASIC_REPLY_TO_FLAG);
	assert_bytes(d.properties.reply_to, "");
	assert_int_equal(d.properties.headers.num_entries, 3);
	assert_int_equal(codec_returned_id(&d.properties, &id), 0);
	assert_int_equal(id, 77);
	assert_bytes(d.properties.headers.entries[1].key, "x-ordering-key");
	assert_bytes(d.properties.headers.entries[1].value.value.bytes, "customer-1");
	free(d.body);
	free(bytes);
}

static void
test_absent_properties_are_not_sent(void ** state)
{
	struct message m = a_message();
	struct decoded d;
	char *bytes, *p;
	size_t len;

	(void)state;
	codec.mandatory = false;
	m.body = (struct bytes){"", 0};
	assert_int_equal(codec_publish(&codec, &out, CHANNEL, &m, &e), LINK_TAKEN);
	p = bytes = drain(SIZE_MAX, &len);
	decoder_new();
	decode_one(&d, &p, &len);
	assert_int_equal(len, 0);
	assert_int_equal(d.frames, 2);
	assert_int_equal(d.body_size, 0);
	assert_false(d.mandatory);
	assert_int_equal(d.properties._flags,
	    AMQP_BASIC_HEADERS_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG |
		AMQP_BASIC_TIMESTAMP_FLAG);
	assert_int_equal(d.properties.delivery_mode, 2);
	assert_int_equal(d.properties.headers.num_entries, 1);
	free(d.body);
	free(bytes);
}

/* Around each bound of copying and of frames, sent in awkward pieces. */
static void
test_bodies_are_split_at_frame_max(void ** state)
{
	static const uint32_t frame_maxes[] = {4096, 8192, 131072};
	static const size_t steps[] = {1, 7, 4096, SIZE_MAX};
	struct message m = a_message();
	struct decoded d;
	char *bytes, *p, *body;
	size_t len, f, s, i, b;

	(void)state;
	body = malloc(1000000);
	for (i = 0; i < 1000000; i++)
		body[i] = (char)(i * 31 + i / 251);
	for (f = 0; f < 3; f++) {
		size_t payload = frame_maxes[f] - 8;
		size_t sizes[] = {1, CODEC_COPY_MAX, CODEC_COPY_MAX + 1, payload - 1, payload,
		    payload + 1, 2 * payload, 2 * payload + 1, 600000};

		codec.frame_max = frame_maxes[f];
		for (s = 0; s < 4; s++) {
			for (b = 0; b < 9; b++) {
				m.body = (struct bytes){body + b, sizes[b]};
				assert_int_equal(codec_publish(&codec, &out, CHANNEL, &m, &e),
				    LINK_TAKEN);
			}
			/* Large bodies are kept by their batch, not copied. */
			assert_in_range(batch.references, 2, 1000);
			assert_true(buffer_size(&out.bytes) < 100000);
			p = bytes = drain(steps[s], &len);
			assert_int_equal(batch.references, 1);
			decoder_new();
			for (b = 0; b < 9; b++) {
				decode_one(&d, &p, &len);
				assert_int_equal(d.body_len, sizes[b]);
				assert_memory_equal(d.body, body + b, sizes[b]);
				assert_int_equal(d.frames, 2 + (sizes[b] + payload - 1) / payload);
				assert_true(d.largest <= frame_maxes[f]);
				free(d.body);
			}
			assert_int_equal(len, 0);
			free(bytes);
			amqp_destroy_connection(decoder);
			decoder = NULL;
		}
	}
	free(body);
}

static void
assert_unfit(const struct message * m, const char * field)
{
	e.text[0] = '\0';
	assert_int_equal(codec_publish(&codec, &out, CHANNEL, m, &e), LINK_UNFIT);
	if (strncmp(e.text, field, strlen(field)) != 0)
		fail_msg("%s: %s", field, e.text);
	assert_int_equal(outbound_unsent(&out), 0);
}

static void
test_names_the_field_that_does_not_fit(void ** state)
{
	struct message m;
	char text[140000];
	static const struct {
		size_t offset;
		const char * name;
	} fields[] = {
	    {offsetof(struct message, exchange), "exchange"},
	    {offsetof(struct message, routing_key), "routing_key"},
	    {offsetof(struct message, type), "type"},
	    {offsetof(struct message, app_id), "app_id"},
	    {offsetof(struct message, content_type), "content_type"},
	    {offsetof(struct message, content_encoding), "content_encoding"},
	    {offsetof(struct message, correlation_id), "correlation_id"},
	    {offsetof(struct message, reply_to), "reply_to"},
	};
	static const char * const invalid[] = {"\xff", "a\xc3", "\xc0\x80", "\xed\xa0\x80",
	    "\xf4\x90\x80\x80", "12345678\xe2\x82", "\x80", "\xe0\x80\x80", "\xf0\x80\x80\x80"};
	static const char * const valid[] = {"", "12345678", "\xc3\xa9", "\xe2\x82\xac",
	    "\xf0\x9f\x98\x80", "1234567\xf4\x8f\xbf\xbf", "\xed\x9f\xbf\xee\x80\x80"};
	size_t i;

	(void)state;
	memset(text, 'x', sizeof(text));
	for (i = 0; i < 8; i++) {
		struct bytes * field;

		m = a_message();
		field = (struct bytes *)((char *)&m + fields[i].offset);
		*field = (struct bytes){text, 256};
		assert_unfit(&m, fields[i].name);
		*field = bytes_from("\xc3(");
		assert_unfit(&m, fields[i].name);
		*field = (struct bytes){text, 255};
		assert_int_equal(codec_publish(&codec, &out, CHANNEL, &m, &e), LINK_TAKEN);
		outbound_clear(&out);
	}
	m = a_message();
	for (i = 0; i < sizeof(invalid) / sizeof(invalid[0]); i++) {
		m.type = bytes_from(invalid[i]);
		assert_unfit(&m, "type: not valid UTF-8");
	}
	for (i = 0; i < sizeof(valid) / sizeof(valid[0]); i++) {
		m.type = bytes_from(valid[i]);
		assert_int_equal(codec_publish(&codec, &out, CHANNEL, &m, &e), LINK_TAKEN);
		outbound_clear(&out);
	}

	m = a_message();
	m.headers = bytes_from("[]");
	assert_unfit(&m, "headers");
	m.headers = BYTES_NONE;
	m.ordering_key = (struct bytes){text, 131072};
	assert_unfit(&m, "ordering_key");
	m.ordering_key = BYTES_NONE;
	memcpy(text, "{\"k\": \"", 7);
	memcpy(text + sizeof(text) - 2, "\"}", 2);
	m.headers = (struct bytes){text, sizeof(text)};
	assert_unfit(&m, "headers");
}

/* Flags 2, message_id 37, timestamp 8, delivery_mode 1, table: 4 + 21 + 20. */
static void
test_a_header_frame_may_fill_frame_max(void ** state)
{
	struct message m = a_message();
	struct decoded d;
	char text[5000], *bytes, *p;
	size_t len, fits = 4096 - 20 - (2 + 37 + 8 + 1 + 4 + 21 + 20);

	(void)state;
	codec.frame_max = 4096;
	memset(text, 'x', sizeof(text));
	m.ordering_key = (struct bytes){text, fits + 1};
	assert_unfit(&m, "ordering_key");
	m.ordering_key.len = fits;
	assert_int_equal(codec_publish(&codec, &out, CHANNEL, &m, &e), LINK_TAKEN);
	p = bytes = drain(SIZE_MAX, &len);
	decoder_new();
	decode_one(&d, &p, &len);
	assert_int_equal(d.largest, 4096);
	free(d.body);
	free(bytes);
}

static void
test_is_full_rather_than_half_done(void ** state)
{
	struct message m = a_message();
	char body[9000] = "";
	size_t before;

	(void)state;
	outbound_free(&out);
	outbound_init(&out, 300000);
	m.body = (struct bytes){body, 8000};
	do {
		before = outbound_unsent(&out);
	} while (codec_publish(&codec, &out, CHANNEL, &m, &e) == LINK_TAKEN);
	assert_in_range(before, 100000, 300000);
	assert_int_equal(outbound_unsent(&out), before);
	outbound_clear(&out);
	assert_int_equal(codec_publish(&codec, &out, CHANNEL, &m, &e), LINK_TAKEN);
	/* Dropped references are given back, too. */
	m.body.len = 9000;
	assert_int_equal(codec_publish(&codec, &out, CHANNEL, &m, &e), LINK_TAKEN);
	assert_int_equal(batch.references, 2);
	outbound_clear(&out);
	assert_int_equal(batch.references, 1);
}

static void
test_refuses_numbers_that_amqp_has_no_place_for(void ** state)
{
	static const int64_t bad_times[] = {MESSAGE_UNFIT, -1, 253402300800};
	static const int64_t bad_expirations[] = {MESSAGE_UNFIT, 4294967296};
	static const int16_t bad_priorities[] = {MESSAGE_UNFIT, 256};
	struct message m;
	size_t i;

	(void)state;
	for (i = 0; i < 3; i++) {
		m = a_message();
		m.timestamp_s = bad_times[i];
		assert_unfit(&m, "created_at");
	}
	for (i = 0; i < 2; i++) {
		m = a_message();
		m.expiration_ms = bad_expirations[i];
		assert_unfit(&m, "expiration");
		m = a_message();
		m.priority = bad_priorities[i];
		assert_unfit(&m, "priority");
	}
}

/* Of the headers as they were decoded: the text of ${key}, "" if there is none. */
static const char *
text_of(const struct decoded * d, const char * key)
{
	static char text[256];

	text[0] = '\0';
	for (int i = 0; i < d->properties.headers.num_entries; i++) {
		const amqp_table_entry_t * entry = &d->properties.headers.entries[i];

		if (entry->key.len == strlen(key) &&
		    memcmp(entry->key.bytes, key, entry->key.len) == 0)
			snprintf(text, sizeof(text), "%.*s", (int)entry->value.value.bytes.len,
			    (const char *)entry->value.value.bytes.bytes);
	}
	return (text);
}

/* However the headers are read: none, in place, and by jansson with tables in them. */
static void
test_cloudevents_go_with_any_headers(void ** state)
{
	static const struct {
		const char * headers;
		int others;
		const char * source;
	} cases[] = {
	    {NULL, 2, "/shop"},
	    {"{\"a\": \"1\", \"b\": \"2\"}", 4, "/shop"},
	    {"{\"cloudEvents_source\": \"/own\"}", 2, "/own"},
	    {"{\"cloudEvents_source\": \"\\u002fown\", \"t\": {\"d\": [{\"e\": \"f\"}]}}", 3,
		"/own"},
	    {"{\"t\": {\"d\": {\"cloudEvents_source\": \"no\"}}, \"u\": {}}", 4, "/shop"},
	};
	struct message m = a_message();
	struct decoded d;
	char *bytes, *p;
	size_t len;

	(void)state;
	codec_init(&codec, true, "/shop");
	codec.frame_max = 131072;
	m.type = bytes_from("order.created");
	m.ordering_key = bytes_from("k");
	decoder_new();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		m.headers = cases[i].headers == NULL ? BYTES_NONE : bytes_from(cases[i].headers);
		assert_int_equal(codec_publish(&codec, &out, CHANNEL, &m, &e), LINK_TAKEN);
		p = bytes = drain(SIZE_MAX, &len);
		decode_one(&d, &p, &len);
		assert_int_equal(d.properties.headers.num_entries,
		    cases[i].others + CLOUDEVENTS_ENTRIES);
		assert_string_equal(text_of(&d, "cloudEvents_source"), cases[i].source);
		assert_string_equal(text_of(&d, "cloudEvents_id"),
		    "00112233-4455-6677-8899-aabbccddeeff");
		assert_string_equal(text_of(&d, "cloudEvents_type"), "order.created");
		assert_string_equal(text_of(&d, "cloudEvents_time"), "2023-11-14T22:13:20Z");
		assert_string_equal(text_of(&d, "cloudEvents_partitionkey"), "k");
		free(d.body);
		free(bytes);
	}
}

static void
test_control_frames_need_room(void ** state)
{
	amqp_channel_close_ok_t ok = {0};
	amqp_connection_open_t open = {.virtual_host = {.len = 256, .bytes = "too long"}};

	(void)state;
	assert_int_equal(codec_heartbeat(&out), 0);
	assert_int_equal(buffer_size(&out.bytes), 8);
	assert_memory_equal(buffer_content(&out.bytes), "\10\0\0\0\0\0\0\316", 8);
	/* What rabbitmq-c cannot encode leaves nothing behind. */
	assert_int_equal(codec_method(&out, 0, AMQP_CONNECTION_OPEN_METHOD, &open), -1);
	assert_int_equal(outbound_unsent(&out), 8);
	outbound_free(&out);
	outbound_init(&out, 4);
	assert_int_equal(codec_heartbeat(&out), -1);
	assert_int_equal(codec_protocol_header(&out), -1);
	assert_int_equal(codec_method(&out, 1, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok), -1);
	assert_int_equal(outbound_unsent(&out), 0);
}

static void
test_a_return_is_known_by_our_header_alone(void ** state)
{
	amqp_table_entry_t entries[] = {
	    {.key = {.len = 11, .bytes = "x-outbox-ix"},
		.value = {.kind = AMQP_FIELD_KIND_I64, .value.i64 = 5}},
	    {.key = {.len = 11, .bytes = "x-outbox-id"},
		.value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = {.len = 1, .bytes = "6"}}},
	    {.key = {.len = 11, .bytes = "x-outbox-id"},
		.value = {.kind = AMQP_FIELD_KIND_I64, .value.i64 = 7}},
	};
	amqp_basic_properties_t p = {.headers = {.num_entries = 3, .entries = entries}};
	int64_t id;

	(void)state;
	assert_int_equal(codec_returned_id(&p, &id), -1);
	p._flags = AMQP_BASIC_HEADERS_FLAG;
	assert_int_equal(codec_returned_id(&p, &id), 0);
	assert_int_equal(id, 7);
	p.headers.num_entries = 2;
	assert_int_equal(codec_returned_id(&p, &id), -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_every_property_arrives, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_absent_properties_are_not_sent, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_bodies_are_split_at_frame_max, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_names_the_field_that_does_not_fit, set_up,
		tear_down),
	    cmocka_unit_test_setup_teardown(test_a_header_frame_may_fill_frame_max, set_up,
		tear_down),
	    cmocka_unit_test_setup_teardown(test_is_full_rather_than_half_done, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_refuses_numbers_that_amqp_has_no_place_for, set_up,
		tear_down),
	    cmocka_unit_test_setup_teardown(test_cloudevents_go_with_any_headers, set_up,
		tear_down),
	    cmocka_unit_test_setup_teardown(test_control_frames_need_room, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_a_return_is_known_by_our_header_alone, set_up,
		tear_down),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
