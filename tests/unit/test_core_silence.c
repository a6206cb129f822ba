#include "core_script.h"

/*
 * Several queues that do not confirm: on links where the confirms of others still come,
 * and where they do not.
 */

static uint64_t tickets[10];
static int64_t moved_ids[10];
static size_t moved_count;

static int
begin(void ** state)
{
	moved_count = 0;
	return (start(state));
}

/* Rows without keys, one for each letter: its routing key. */
static struct batch *
by(int64_t first, const char * queues)
{
	static char names[26][2];
	static const char dashes[] = "---------";
	struct batch * batch = rows(first, dashes + sizeof(dashes) - 1 - strlen(queues));

	for (size_t n = 0; n < batch->count; n++) {
		char * name = names[queues[n] - 'a'];

		name[0] = queues[n];
		batch->messages[n]->routing_key = bytes_from(name);
	}
	return (batch);
}

static void
written(int64_t first, const char * queues)
{
	if (first == 1)
		expect(CORE_FETCH);
	answer(by(first, queues), 1, true);
}

/* The same with a key each, one digit for each letter: its stripe. */
static void
written_on(const char * queues, const char * stripes)
{
	struct batch * batch = by(1, queues);

	for (size_t n = 0; n < batch->count; n++)
		batch->messages[n]->key = (uint64_t)(stripes[n] - '0') << 32 | (n + 1);
	expect(CORE_FETCH);
	answer(batch, 1, true);
}

/* What the core does besides publishing; returns what it does then. */
static enum core_action_type
step(void)
{
	for (;;) {
		if (next() == CORE_RECORD) {
			for (size_t n = 0; n < action.record.move_count; n++)
				moved_ids[moved_count++] = action.record.moves[n].id;
			core_on_recorded(core, now);
		} else if (action.type != CORE_FETCH)
			return (action.type);
	}
}

/* These are published, each a digit. */
static void
sent_on(enum core_link link, const char * ids)
{
	for (; *ids != '\0'; ids++) {
		assert_int_equal(step(), CORE_PUBLISH);
		assert_int_equal(action.publish.message->id, *ids - '0');
		assert_int_equal(action.publish.link, link);
		tickets[*ids - '0'] = action.publish.ticket;
	}
}

static void
sent(const char * ids)
{
	sent_on(CORE_MAIN, ids);
}

static void
answered(const char * ids)
{
	for (; *ids != '\0'; ids++)
		confirmed(tickets[*ids - '0']);
	core_on_heard(core, now + 1, CORE_MAIN);
}

/* The core rests until it drops the link, that much later. */
static void
reset_after(clock_ns time, enum core_link link)
{
	clock_ns began = now;

	while (step() == CORE_NOTHING)
		now = core_deadline(core);
	assert_int_equal(action.type, CORE_RESET);
	assert_int_equal(action.reset.link, link);
	assert_int_equal(now - began, time);
	core_on_link_up(core, now, link);
}

/* These were put aside by now, and no others. */
static void
put_aside(const char * ids)
{
	now += CLOCK_MS(50);
	assert_int_equal(step(), CORE_NOTHING);
	assert_int_equal(moved_count, strlen(ids));
	for (size_t n = 0; n < moved_count; n++)
		assert_int_equal(moved_ids[n], ids[n] - '0');
}

/* The first silent queue is found: rows from 2 on go again. */
static void
first_is_silent(const char * queues)
{
	char ids[] = "123456789";

	ids[strlen(queues)] = '\0';
	written(1, queues);
	sent(ids);
	core_on_heard(core, now + 1, CORE_MAIN);
	reset_after(CLOCK_S(15), CORE_MAIN);
}

static void
all_that_others_passed_are_found_at_once(void ** state)
{
	(void)state;
	written(1, "abcg");
	sent("1234");
	answered("4");
	core_on_heard(core, now + 1, CORE_MAIN);
	now += CLOCK_S(15);
	assert_int_equal(step(), CORE_RESET);
	assert_non_null(strstr(action.reset.reason.data, "routing key \"a\", and 2 messages more"));
	core_on_link_up(core, now, CORE_MAIN);
	put_aside("123");
}

static void
nobody_is_accused_for_standing_behind_a_silent_one(void ** state)
{
	(void)state;
	written(1, "gahb");
	sent("1234");
	answered("1");
	reset_after(CLOCK_S(15), CORE_MAIN);
	sent("34");
	answered("34");
	put_aside("2");
}

/* Its channel is frozen, and others are not. */
static void
nobody_is_accused_for_what_other_channels_answer(void ** state)
{
	(void)state;
	written_on("ahbgg", "11101");
	sent("12345");
	answered("4");
	reset_after(CLOCK_S(15), CORE_MAIN);
	sent("235");
	answered("235");
	put_aside("1");
}

static void
a_channel_that_stands_still_has_less_time_whatever_others_answer(void ** state)
{
	(void)state;
	written_on("abggg", "11000");
	sent("12345");
	answered("3");
	reset_after(CLOCK_S(15), CORE_MAIN);
	sent("245");
	now += CLOCK_S(2);
	answered("4");
	now += CLOCK_S(1);
	answered("5");
	reset_after(CLOCK_S(15) / 4 - CLOCK_S(3), CORE_MAIN);
	put_aside("12");
}

/* Suspects have one channel, whatever the key. */
static void
on_suspects_all_share_a_channel(void ** state)
{
	(void)state;
	written_on("abg", "120");
	sent("123");
	core_on_channel_closed(core, now, CORE_MAIN, BYTES_NONE, bytes_from("why"));
	core_on_link_up(core, now, CORE_MAIN);
	sent_on(CORE_SUSPECTS, "123");
	confirmed(tickets[3]);
	core_on_heard(core, now + 1, CORE_SUSPECTS);
	reset_after(CLOCK_S(15), CORE_SUSPECTS);
	put_aside("12");
}

static void
who_was_passed_a_moment_ago_goes_on_waiting(void ** state)
{
	(void)state;
	written(1, "a");
	sent("1");
	now += CLOCK_S(9);
	written(2, "bg");
	sent("23");
	answered("3");
	reset_after(CLOCK_S(6), CORE_MAIN);
	sent("2");
	written(4, "g");
	sent("4");
	/* The link answers: it is not in haste.  2 waited for 6 seconds before. */
	for (int n = 0; n < 8; n++) {
		now += CLOCK_S(1);
		answered("4");
		written(4, "g");
		sent("4");
	}
	reset_after(CLOCK_S(1), CORE_MAIN);
}

static void
a_link_that_stands_still_has_less_time_for_each_silent_queue(void ** state)
{
	(void)state;
	first_is_silent("abcdeg");
	sent("23456");
	reset_after(CLOCK_S(15) / 4, CORE_MAIN);
	sent("3456");
	reset_after(CLOCK_S(15) / 16, CORE_MAIN);
	sent("456");
	reset_after(CLOCK_S(15) / 16, CORE_MAIN);
	sent("56");
	reset_after(CLOCK_S(15) / 16, CORE_MAIN);
	sent("6");
	answered("6");
	put_aside("12345");
	assert_int_equal(counts().nacked, 0);
}

static void
a_link_that_answers_has_all_the_time(void ** state)
{
	clock_ns began;

	(void)state;
	first_is_silent("abggggggg");
	began = now;
	sent("23456789");
	for (const char * id = "3456789"; *id != '\0'; id++) {
		now += CLOCK_S(2);
		answered((char[]){*id, '\0'});
	}
	assert_int_equal(step(), CORE_NOTHING);
	reset_after(began + CLOCK_S(15) - now, CORE_MAIN);
}

static void
a_link_of_which_nothing_is_heard_is_not_hurried(void ** state)
{
	(void)state;
	first_is_silent("abgg");
	sent("234");
	reset_after(CLOCK_S(15) / 4, CORE_MAIN);
	sent("34");
	answered("34");
	now += CLOCK_S(2);
	/* The last word came long before this one. */
	written(5, "g");
	sent("5");
	now += CLOCK_S(2);
	assert_int_equal(step(), CORE_NOTHING);
	/* The broker is there, and does not answer. */
	core_on_heard(core, now, CORE_MAIN);
	assert_int_equal(step(), CORE_RESET);
}

static void
nobody_is_accused_within_a_moment(void ** state)
{
	struct core_options options = usual;

	(void)state;
	options.confirm_timeout = CLOCK_S(1);
	restart_with(options);
	written(1, "abc");
	sent("123");
	core_on_heard(core, now + 1, CORE_MAIN);
	reset_after(CLOCK_S(1), CORE_MAIN);
	sent("23");
	reset_after(CLOCK_MS(250), CORE_MAIN);
	sent("3");
	reset_after(CLOCK_MS(250), CORE_MAIN);
}

/* The lane of that routing key is probed, by the row with that id. */
static void
probed(int64_t id, const char * queue)
{
	while (next() != CORE_FETCH_DELAYED || action.fetch_delayed.what != SEARCH_LANE ||
	    action.fetch_delayed.lane.routing_key.data[0] != queue[0]) {
		if (action.type == CORE_FETCH_DELAYED)
			core_on_delayed(core, now, &(struct found){.next_in = CLOCK_NEVER});
		else if (action.type == CORE_RECORD)
			core_on_recorded(core, now);
		else {
			assert_int_equal(action.type, CORE_NOTHING);
			now = core_deadline(core);
		}
	}
	searches_are_seen = true;
	found(delayed(by(id, queue), MESSAGE_LANE, 0), false, CLOCK_NEVER);
	sent_on(CORE_SUSPECTS, (char[]){(char)('0' + id), '\0'});
	core_on_heard(core, now + 1, CORE_SUSPECTS);
}

static void
a_queue_that_is_well_again_gives_every_link_its_time(void ** state)
{
	(void)state;
	first_is_silent("aggb");
	sent("234");
	answered("234");
	searches_are_seen = true;
	probed(1, "a");
	answered("1");
	written(5, "bc");
	sent("56");
	core_on_heard(core, now + 1, CORE_MAIN);
	reset_after(CLOCK_S(15), CORE_MAIN);
}

static void
a_probe_has_more_time_each_time(void ** state)
{
	static const int sixteenths[] = {1, 2, 4, 8, 16, 16};

	(void)state;
	first_is_silent("abg");
	sent("23");
	reset_after(CLOCK_S(15) / 4, CORE_MAIN);
	sent("3");
	answered("3");
	for (size_t n = 0; n < sizeof(sixteenths) / sizeof(sixteenths[0]); n++) {
		searches_are_seen = true;
		probed(1, "a");
		reset_after(sixteenths[n] * CLOCK_S(15) / 16, CORE_SUSPECTS);
	}
}

static void
a_queue_that_stays_silent_adds_to_no_haste(void ** state)
{
	(void)state;
	first_is_silent("agg");
	sent("23");
	answered("23");
	searches_are_seen = true;
	probed(1, "a");
	reset_after(CLOCK_S(15) / 16, CORE_SUSPECTS);
	written(4, "b");
	sent("4");
	core_on_heard(core, now + 1, CORE_MAIN);
	reset_after(CLOCK_S(15) / 4, CORE_MAIN);
}

int
main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, begin, finish)
	const struct CMUnitTest tests[] = {
	    TEST(all_that_others_passed_are_found_at_once),
	    TEST(nobody_is_accused_for_standing_behind_a_silent_one),
	    TEST(nobody_is_accused_for_what_other_channels_answer),
	    TEST(a_channel_that_stands_still_has_less_time_whatever_others_answer),
	    TEST(on_suspects_all_share_a_channel),
	    TEST(who_was_passed_a_moment_ago_goes_on_waiting),
	    TEST(a_link_that_stands_still_has_less_time_for_each_silent_queue),
	    TEST(a_link_that_answers_has_all_the_time),
	    TEST(a_link_of_which_nothing_is_heard_is_not_hurried),
	    TEST(nobody_is_accused_within_a_moment),
	    TEST(a_queue_that_is_well_again_gives_every_link_its_time),
	    TEST(a_probe_has_more_time_each_time),
	    TEST(a_queue_that_stays_silent_adds_to_no_haste),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
