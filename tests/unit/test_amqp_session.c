#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "amqp/session.h"

/* The broker's side is played by frames that codec_method writes. */
struct play {
	struct session session;
	struct outbound out;    /* what we say */
	struct outbound broker; /* what the broker says */
	struct codec codec;
	struct error e;
	int up;
	int closed;
	uint16_t closed_channel;
	int blamed;
	int confirmed[SESSION_CHANNELS_MAX + 1];
	char exchange[256];
	bool named;
};

static void
on_up(void * context)
{
	((struct play *)context)->up++;
}

static void
on_channel_closed(void * context, uint16_t channel, const struct error * e, struct bytes exchange)
{
	struct play * p = context;

	p->closed_channel = channel;
	p->closed++;
	p->e = *e;
	p->named = bytes_present(exchange);
	if (exchange.len > 0)
		memcpy(p->exchange, exchange.data, exchange.len);
	p->exchange[exchange.len] = '\0';
}

static void
on_blamed(void * context, const struct error * e)
{
	struct play * p = context;

	p->blamed++;
	assert_true(e->amqp_code > 0);
}

static int
on_confirmed(void * context, uint16_t channel, uint64_t tag, bool multiple, bool nacked,
    struct error * e)
{
	(void)tag, (void)multiple, (void)nacked, (void)e;
	((struct play *)context)->confirmed[channel]++;
	return (0);
}

static int
on_returned(void * context, uint16_t channel, int64_t id, uint16_t code, struct error * e)
{
	(void)channel, (void)context, (void)id, (void)code, (void)e;
	return (0);
}

static void
on_blocked(void * context, bool blocked, const char * reason)
{
	(void)context, (void)blocked, (void)reason;
}

static const struct session_events events = {.up = on_up,
    .channel_closed = on_channel_closed,
    .blamed = on_blamed,
    .confirmed = on_confirmed,
    .returned = on_returned,
    .blocked = on_blocked};

static amqp_bytes_t
text(const char * s)
{
	return (rabbitmq_bytes(bytes_from(s)));
}

static int
hear(struct play * p, uint16_t channel, amqp_method_number_t id, void * method)
{
	char frame[4096];
	struct iovec part;
	size_t size;

	assert_int_equal(codec_method(&p->broker, channel, id, method), 0);
	assert_int_equal(outbound_gather(&p->broker, &part, 1), 1);
	size = part.iov_len;
	memcpy(frame, part.iov_base, size);
	outbound_sent(&p->broker, size);
	return (session_input(&p->session, frame, size, &p->e));
}

static void
begin_with(struct play * p, uint16_t channels)
{
	struct session_options options = {.user = "relay",
	    .password = "secret",
	    .vhost = "/",
	    .connection_name = "test",
	    .heartbeat_s = 10,
	    .channel_count = channels};

	memset(p, 0, sizeof(*p));
	outbound_init(&p->out, 65536);
	outbound_init(&p->broker, 65536);
	assert_int_equal(session_begin(&p->session, &options, &events, p, &p->out, &p->codec,
			     &p->e),
	    0);
}

static void
begin(struct play * p)
{
	begin_with(p, 1);
}

static void
start_and_tune(struct play * p)
{
	amqp_connection_start_t start = {.version_minor = 9,
	    .mechanisms = text("EXTERNAL PLAIN"),
	    .locales = text("en_US")};

	assert_int_equal(hear(p, 0, AMQP_CONNECTION_START_METHOD, &start), 0);
}

static void
hear_open(struct play * p, uint16_t channel)
{
	amqp_channel_open_ok_t channel_ok = {.channel_id = text("")};
	amqp_confirm_select_ok_t select_ok = {0};

	assert_int_equal(hear(p, channel, AMQP_CHANNEL_OPEN_OK_METHOD, &channel_ok), 0);
	assert_int_equal(hear(p, channel, AMQP_CONFIRM_SELECT_OK_METHOD, &select_ok), 0);
}

/* The broker allows ${channel_max}; 0: any number. */
static void
login_with(struct play * p, uint16_t channels, uint16_t channel_max)
{
	amqp_connection_tune_t tune = {.channel_max = channel_max,
	    .frame_max = 131072,
	    .heartbeat = 60};
	amqp_connection_open_ok_t open_ok = {.known_hosts = text("")};

	begin_with(p, channels);
	start_and_tune(p);
	assert_int_equal(hear(p, 0, AMQP_CONNECTION_TUNE_METHOD, &tune), 0);
	assert_int_equal(hear(p, 0, AMQP_CONNECTION_OPEN_OK_METHOD, &open_ok), 0);
	for (uint16_t channel = 1; channel <= p->session.channel_count; channel++) {
		assert_int_equal(p->up, 0);
		hear_open(p, channel);
	}
	assert_int_equal(p->up, 1);
}

static void
login(struct play * p)
{
	login_with(p, 1, 2047);
}

static void
end(struct play * p)
{
	session_end(&p->session);
	outbound_free(&p->out);
	outbound_free(&p->broker);
	codec_free(&p->codec);
}

static int
close_connection(struct play * p, uint16_t code, const char * reason)
{
	amqp_connection_close_t close = {.reply_code = code, .reply_text = text(reason)};

	return (hear(p, 0, AMQP_CONNECTION_CLOSE_METHOD, &close));
}

static void
test_a_close_over_what_was_published_is_blamed_on_it(void ** state)
{
	struct play p;

	(void)state;
	login(&p);
	assert_int_equal(close_connection(&p, 541, "INTERNAL_ERROR"), -1);
	assert_int_equal(p.blamed, 1);
	assert_int_equal(p.e.amqp_code, 541);
	end(&p);
}

static void
test_an_operator_who_closes_the_connection_blames_nothing(void ** state)
{
	struct play p;

	(void)state;
	login(&p);
	assert_int_equal(close_connection(&p, 320, "CONNECTION_FORCED - bye"), -1);
	assert_int_equal(p.blamed, 0);
	assert_int_equal(p.e.amqp_code, 320);
	end(&p);
}

static void
test_nothing_is_blamed_before_or_after_publishing(void ** state)
{
	amqp_channel_close_t gone = {.reply_code = 406, .reply_text = text("PRECONDITION_FAILED")};
	struct play p;

	(void)state;
	begin(&p);
	start_and_tune(&p);
	assert_int_equal(close_connection(&p, 541, "INTERNAL_ERROR"), -1);
	assert_int_equal(p.blamed, 0);
	end(&p);

	login(&p);
	assert_int_equal(hear(&p, 1, AMQP_CHANNEL_CLOSE_METHOD, &gone), 0);
	assert_int_equal(p.closed, 1);
	assert_int_equal(close_connection(&p, 504, "CHANNEL_ERROR"), -1);
	assert_int_equal(p.blamed, 0);
	end(&p);

	login(&p);
	assert_int_equal(session_close(&p.session, "goodbye"), 0);
	assert_int_equal(close_connection(&p, 541, "INTERNAL_ERROR"), -1);
	assert_int_equal(p.blamed, 0);
	end(&p);
}

static void
test_a_closed_channel_names_its_exchange_and_opens_again(void ** state)
{
	amqp_channel_close_t missing = {.reply_code = 404,
	    .reply_text = text("NOT_FOUND - no exchange 'orders' in vhost '/'")};
	amqp_channel_open_ok_t channel_ok = {.channel_id = text("")};
	amqp_confirm_select_ok_t select_ok = {0};
	struct play p;

	(void)state;
	login(&p);
	assert_int_equal(hear(&p, 1, AMQP_CHANNEL_CLOSE_METHOD, &missing), 0);
	assert_int_equal(p.closed, 1);
	assert_true(p.named);
	assert_string_equal(p.exchange, "orders");
	assert_int_equal(p.session.phase, SESSION_NO_CHANNEL);
	assert_int_equal(session_reopen(&p.session), 0);
	assert_int_equal(hear(&p, 1, AMQP_CHANNEL_OPEN_OK_METHOD, &channel_ok), 0);
	assert_int_equal(hear(&p, 1, AMQP_CONFIRM_SELECT_OK_METHOD, &select_ok), 0);
	assert_int_equal(p.up, 2);
	end(&p);
}

static void
test_a_channel_is_renewed(void ** state)
{
	amqp_channel_close_t crossing = {.reply_code = 406,
	    .reply_text = text("PRECONDITION_FAILED")};
	amqp_channel_close_ok_t close_ok = {0};
	amqp_channel_open_ok_t channel_ok = {.channel_id = text("")};
	amqp_confirm_select_ok_t select_ok = {0};
	amqp_basic_ack_t ack = {.delivery_tag = 1};
	struct play p;

	(void)state;
	login(&p);
	assert_int_equal(session_renew(&p.session), 0);
	/* The broker's own close on the wire is answered and means nothing else. */
	assert_int_equal(hear(&p, 1, AMQP_CHANNEL_CLOSE_METHOD, &crossing), 0);
	assert_int_equal(p.closed, 0);
	assert_int_equal(hear(&p, 1, AMQP_CHANNEL_CLOSE_OK_METHOD, &close_ok), 0);
	assert_int_equal(hear(&p, 1, AMQP_CHANNEL_OPEN_OK_METHOD, &channel_ok), 0);
	assert_int_equal(hear(&p, 1, AMQP_CONFIRM_SELECT_OK_METHOD, &select_ok), 0);
	assert_int_equal(p.up, 2);
	assert_int_equal(hear(&p, 1, AMQP_BASIC_ACK_METHOD, &ack), 0);
	assert_int_equal(p.confirmed[1], 1);
	end(&p);
}

static int
hear_ack(struct play * p, uint16_t channel)
{
	amqp_basic_ack_t ack = {.delivery_tag = 1};

	return (hear(p, channel, AMQP_BASIC_ACK_METHOD, &ack));
}

static void
test_channels_are_as_many_as_both_want(void ** state)
{
	struct play p;

	(void)state;
	login_with(&p, 4, 0);
	assert_int_equal(p.session.channel_count, 4);
	assert_int_equal(hear_ack(&p, 4), 0);
	assert_int_equal(p.confirmed[4], 1);
	assert_int_equal(hear_ack(&p, 5), -1);
	end(&p);

	login_with(&p, 4, 2);
	assert_int_equal(p.session.channel_count, 2);
	assert_int_equal(hear_ack(&p, 3), -1);
	end(&p);
}

static void
test_one_channel_closed_leaves_the_others(void ** state)
{
	amqp_channel_close_t gone = {.reply_code = 406, .reply_text = text("PRECONDITION_FAILED")};
	struct play p;

	(void)state;
	login_with(&p, 3, 2047);
	assert_int_equal(hear(&p, 2, AMQP_CHANNEL_CLOSE_METHOD, &gone), 0);
	assert_int_equal(p.closed, 1);
	assert_int_equal(p.closed_channel, 2);
	assert_false(session_channel_up(&p.session, 2));
	/* The others still answer; this one has nothing more to say. */
	assert_int_equal(hear_ack(&p, 1), 0);
	assert_int_equal(hear_ack(&p, 3), 0);
	assert_int_equal(p.confirmed[1] + p.confirmed[3], 2);
	assert_int_equal(session_reopen(&p.session), 0);
	hear_open(&p, 2);
	assert_int_equal(p.up, 2);
	assert_int_equal(p.session.phase, SESSION_UP);
	end(&p);

	login_with(&p, 3, 2047);
	assert_int_equal(hear(&p, 2, AMQP_CHANNEL_CLOSE_METHOD, &gone), 0);
	assert_int_equal(hear_ack(&p, 2), -1);
	end(&p);
}

/* The others did not settle in time: nobody listens to them any more. */
static void
test_what_comes_on_a_channel_that_is_left_is_passed_over(void ** state)
{
	amqp_channel_close_t gone = {.reply_code = 406, .reply_text = text("PRECONDITION_FAILED")};
	amqp_channel_close_ok_t close_ok = {0};
	amqp_basic_return_t returned = {.reply_code = 312, .reply_text = text("NO_ROUTE")};
	struct play p;

	(void)state;
	login_with(&p, 2, 2047);
	assert_int_equal(hear(&p, 1, AMQP_CHANNEL_CLOSE_METHOD, &gone), 0);
	assert_int_equal(session_renew(&p.session), 0);
	assert_int_equal(hear_ack(&p, 2), 0);
	assert_int_equal(p.confirmed[2], 0);
	assert_int_equal(hear(&p, 2, AMQP_BASIC_RETURN_METHOD, &returned), 0);
	/* Channel 2 is replaced before channel 1 is opened again, or after it. */
	assert_int_equal(hear(&p, 2, AMQP_CHANNEL_CLOSE_OK_METHOD, &close_ok), 0);
	assert_int_equal(session_reopen(&p.session), 0);
	hear_open(&p, 1);
	assert_int_equal(p.up, 1);
	hear_open(&p, 2);
	assert_int_equal(p.up, 2);
	assert_int_equal(hear_ack(&p, 2), 0);
	assert_int_equal(p.confirmed[2], 1);
	end(&p);
}

static void
test_a_goodbye_is_cut_at_what_amqp_can_carry(void ** state)
{
	char reason[1000];
	struct play p;

	(void)state;
	login(&p);
	memset(reason, 'x', sizeof(reason) - 1);
	reason[sizeof(reason) - 1] = '\0';
	assert_int_equal(session_close(&p.session, reason), 0);
	assert_int_equal(p.session.phase, SESSION_CLOSING);
	end(&p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_a_close_over_what_was_published_is_blamed_on_it),
	    cmocka_unit_test(test_an_operator_who_closes_the_connection_blames_nothing),
	    cmocka_unit_test(test_nothing_is_blamed_before_or_after_publishing),
	    cmocka_unit_test(test_a_closed_channel_names_its_exchange_and_opens_again),
	    cmocka_unit_test(test_a_channel_is_renewed),
	    cmocka_unit_test(test_channels_are_as_many_as_both_want),
	    cmocka_unit_test(test_one_channel_closed_leaves_the_others),
	    cmocka_unit_test(test_what_comes_on_a_channel_that_is_left_is_passed_over),
	    cmocka_unit_test(test_a_goodbye_is_cut_at_what_amqp_can_carry),
	};

	return (cmocka_run_group_tests_name("amqp/session", tests, NULL, NULL));
}
