#include "core_script.h"

/* What becomes of messages that fail, and of those that depend on them. */

/* The first mark is due at once; here it is made already. */
static void
begin_with(struct core_options options)
{
	core_free(core);
	start_with(options);
	fetched(rows(0, "-"), 1, true);
	if (next() == CORE_FETCH)
		next();
	core_on_settled(core, now, action.publish.ticket, CORE_CONFIRMED, BYTES_NONE);
	if (next() == CORE_FETCH)
		next();
	core_on_recorded(core, now);
	core_on_source_down(core, now);
	core_on_source_up(core, now);
}

static int
begin(void ** state)
{
	(void)state;
	begin_with(usual);
	return (0);
}

static void
channel_closed(enum core_link link, const char * exchange)
{
	core_on_channel_closed(core, now, link, bytes_from(exchange), bytes_from("closed"));
	core_on_link_up(core, now, link);
}

/* Rows from first on, all for the exchange. */
static struct batch *
to(const char * exchange, struct batch * batch)
{
	for (size_t n = 0; n < batch->count; n++)
		batch->messages[n]->exchange = bytes_from(exchange);
	return (batch);
}

/* The core looks for what is due, and is answered. */
static void
finds(struct batch * batch)
{
	core_on_source_down(core, now);
	core_on_source_up(core, now);
	fetching();
	searching(SEARCH_DUE_ALL);
	found(batch, false, CLOCK_NEVER);
}

/* ---- refused ---- */

static void
a_refused_message_is_put_aside_and_the_others_go_on(void ** state)
{
	(void)state;
	fetched(rows(1, "a-"), 1, true);
	fetching();
	settled(published(1), CORE_NACKED);
	marked(1);
	moves(0, 1, FATE_RETRY, 1);
	assert_false(action.record.moves[0].delayed);
	assert_in_range(action.record.moves[0].delay, CLOCK_MS(500), CLOCK_S(1));
	assert_memory_equal(action.record.moves[0].reason.data, "no", 2);
	assert_int_equal(action.record.position.last_id, 1);
	committed();
	confirmed(published(2));
	marked(0);
	committed();
	assert_int_equal(counts().delayed, 1);
	assert_int_equal(counts().unrecorded, 0);
	assert_int_equal(counts().held_rows, 0);
}

static void
an_unroutable_message_is_refused(void ** state)
{
	(void)state;
	fetched(rows(1, "-"), 1, true);
	fetching();
	settled(published(1), CORE_RETURNED);
	marked(1);
	moves(0, 1, FATE_RETRY, 1);
	assert_int_equal(counts().returned, 1);
}

static void
what_was_refused_too_often_is_dead(void ** state)
{
	(void)state;
	finds(delayed(rows(1, "-"), MESSAGE_RETRY, 2));
	settled(published_on(CORE_SUSPECTS, 1), CORE_NACKED);
	marked(1);
	moves(0, 1, FATE_DEAD, 3);
	assert_true(action.record.moves[0].delayed);
	assert_false(action.record.moves[0].hold);
	assert_int_equal(action.record.position.interval, 0);
	assert_int_equal(action.record.messages, 0);
	committed();
	assert_int_equal(counts().dead, 1);
	assert_int_equal(counts().unrecorded, 0);
}

static void
what_no_link_can_carry_is_dead_at_once(void ** state)
{
	(void)state;
	fetched(rows(1, "-"), 1, true);
	fetching();
	settled(published(1), CORE_UNFIT);
	marked(1);
	moves(0, 1, FATE_DEAD, 0);
	assert_int_equal(counts().unfit, 1);
	assert_int_equal(counts().unrecorded, 1);
	committed();
	assert_int_equal(counts().unrecorded, 0);
	assert_int_equal(counts().dead, 1);
}

static void
later_attempts_wait_for_longer(void ** state)
{
	(void)state;
	finds(delayed(rows(1, "-"), MESSAGE_RETRY, 1));
	settled(published_on(CORE_SUSPECTS, 1), CORE_NACKED);
	marked(1);
	moves(0, 1, FATE_RETRY, 2);
	assert_in_range(action.record.moves[0].delay, CLOCK_S(1), CLOCK_S(2));
	committed();
	/* It is looked for when it is due. */
	expect(CORE_NOTHING);
	assert_true(core_deadline(core) > now + CLOCK_MS(900));
	now = core_deadline(core);
	searching(SEARCH_DUE);
}

static void
a_delay_counts_from_the_mark(void ** state)
{
	struct core_options options = usual;

	(void)state;
	options.retry.initial = options.retry.max = CLOCK_MS(20);
	options.record_interval = CLOCK_S(1);
	begin_with(options);
	fetched(rows(1, "-"), 1, true);
	fetching();
	settled(published(1), CORE_NACKED);
	expect(CORE_NOTHING);
	now = core_deadline(core);
	expect(CORE_RECORD);
	assert_int_equal(action.record.moves[0].delay, 0);
}

/* ---- keys ---- */

static void
the_rest_of_the_key_lines_up_behind(void ** state)
{
	(void)state;
	fetched(rows(1, "aaba"), 1, true);
	fetching();
	settled(published(1), CORE_NACKED);
	confirmed(published(3));
	marked(3);
	moves(0, 1, FATE_RETRY, 1);
	moves(1, 2, FATE_BEHIND, 0);
	moves(2, 4, FATE_BEHIND, 0);
	assert_null(action.record.moves[1].reason.data);
	assert_int_equal(action.record.position.last_id, 4);
	committed();
	assert_int_equal(counts().unrecorded, 0);
	assert_int_equal(counts().held_rows, 0);
}

static void
what_comes_before_the_mark_is_committed_lines_up_too(void ** state)
{
	(void)state;
	fetched(rows(1, "a"), 1, true);
	fetching();
	settled(published(1), CORE_NACKED);
	marked(1);
	answer(rows(2, "ab"), 2, true);
	fetching();
	published(3);
	expect(CORE_NOTHING);
	committed();
	marked(1);
	moves(0, 2, FATE_BEHIND, 0);
	committed();
	/* From now on the source would say so; it does not, so nobody waits there. */
	answer(rows(4, "a"), 3, true);
	fetching();
	published(4);
}

static void
a_held_message_is_never_published(void ** state)
{
	struct batch * batch = rows(1, "ab");

	(void)state;
	batch->messages[0]->held = true;
	fetched(batch, 1, true);
	fetching();
	marked(1);
	moves(0, 1, FATE_BEHIND, 0);
	committed();
	published(2);
	expect(CORE_NOTHING);
}

static void
nobody_is_held_in_pipelined_mode(void ** state)
{
	struct core_options options = usual;

	(void)state;
	options.pipelined = true;
	begin_with(options);
	fetched(rows(1, "aa"), 1, true);
	fetching();
	settled(published(1), CORE_NACKED);
	marked(1);
	confirmed(published(2));
	committed();
	marked(0);
}

static void
the_key_of_a_dead_message_goes_on_once_that_is_committed(void ** state)
{
	(void)state;
	fetched(rows(1, "aa"), 1, false);
	fetching();
	settled(published(1), CORE_UNFIT);
	marked(1);
	answer(rows(3, "a"), 1, true);
	fetching();
	expect(CORE_NOTHING);
	committed();
	confirmed(published(2));
	confirmed(published(3));
	marked(0);
}

static void
a_dead_message_may_hold_its_key(void ** state)
{
	struct core_options options = usual;

	(void)state;
	options.retry.hold = true;
	begin_with(options);
	fetched(rows(1, "aa"), 1, true);
	fetching();
	settled(published(1), CORE_UNFIT);
	marked(2);
	moves(0, 1, FATE_DEAD, 0);
	assert_true(action.record.moves[0].hold);
	moves(1, 2, FATE_BEHIND, 0);
	assert_false(action.record.moves[1].hold);
	committed();
	expect(CORE_NOTHING);
}

static void
a_dead_message_blocks_nobody_in_the_window(void ** state)
{
	struct core_options options = usual;

	(void)state;
	options.window = options.batch = 1;
	begin_with(options);
	fetched(rows(1, "a"), 1, false);
	settled(published(1), CORE_UNFIT);
	fetched(rows(2, "a"), 1, true);
	fetching();
	marked(1);
	expect(CORE_NOTHING);
	committed();
	published(2);
}

/* ---- the pool ---- */

static void
those_behind_a_delayed_one_follow_it(void ** state)
{
	struct batch * batch = delayed(rows(1, "aab"), MESSAGE_RETRY, 1);

	(void)state;
	batch->messages[1]->origin = MESSAGE_BEHIND;
	batch->messages[1]->attempts = 0;
	finds(batch);
	confirmed(published_on(CORE_SUSPECTS, 1));
	published_on(CORE_SUSPECTS, 3);
	published_on(CORE_MAIN, 2);
	marked(1);
	moves(0, 1, FATE_DELIVERED, 0);
	assert_int_equal(counts().unrecorded, 3);
	committed();
	assert_int_equal(counts().unrecorded, 2);
	/* The mark may have made somebody due. */
	searching(SEARCH_DUE);
	assert_int_equal(action.fetch_delayed.except_count, 2);
}

static void
those_behind_one_that_failed_again_are_let_go(void ** state)
{
	struct batch * batch = delayed(rows(1, "aa"), MESSAGE_RETRY, 1);

	(void)state;
	batch->messages[1]->origin = MESSAGE_BEHIND;
	finds(batch);
	settled(published_on(CORE_SUSPECTS, 1), CORE_NACKED);
	assert_int_equal(counts().held_rows, 1);
	marked(1);
	moves(0, 1, FATE_RETRY, 2);
	committed();
	assert_int_equal(counts().held_rows, 0);
}

static void
a_scheduled_message_goes_by_main_in_its_key_s_turn(void ** state)
{
	(void)state;
	fetched(rows(1, "a"), 1, true);
	fetching();
	searching(SEARCH_DUE_ALL);
	found(delayed(rows(7, "ab"), MESSAGE_SCHEDULED, 0), false, CLOCK_NEVER);
	published(8);
	confirmed(published(1));
	published(7);
}

/* Of the time that such a look takes, ten times as much is between two. */
static void
an_empty_answer_to_a_fetch_that_waits_hastens_the_search(void ** state)
{
	(void)state;
	searches_are_seen = true;
	fetched(NULL, 1, true);
	fetching();
	assert_true(action.fetch.wait);
	searching(SEARCH_DUE_ALL);
	now += CLOCK_MS(20);
	found(NULL, false, CLOCK_NEVER);
	assert_int_equal(next(), CORE_NOTHING);
	core_on_fetched(core, now, NULL, 2, true);
	fetching();
	assert_int_equal(next(), CORE_NOTHING);
	now = core_deadline(core);
	assert_int_equal(now, CLOCK_S(100) + CLOCK_MS(200));
	searching(SEARCH_DUE_ALL);
}

static void
a_scheduled_message_obeys_the_hold_of_its_key(void ** state)
{
	struct batch * batch = delayed(rows(7, "ab"), MESSAGE_SCHEDULED, 0);

	(void)state;
	batch->messages[0]->held = true;
	finds(batch);
	published(8);
	marked(1);
	moves(0, 7, FATE_BEHIND, 0);
	assert_true(action.record.moves[0].delayed);
}

static void
fresh_rows_wait_for_a_scheduled_one_before_them(void ** state)
{
	uint64_t ticket;

	(void)state;
	fetching();
	searching(SEARCH_DUE_ALL);
	found(delayed(rows(7, "a"), MESSAGE_SCHEDULED, 0), false, CLOCK_NEVER);
	ticket = published(7);
	answer(rows(8, "a"), 1, true);
	fetching();
	expect(CORE_NOTHING);
	settled(ticket, CORE_NACKED);
	/* It holds its key now. */
	marked(2);
	moves(0, 7, FATE_RETRY, 1);
	moves(1, 8, FATE_BEHIND, 0);
}

static void
what_was_written_before_a_scheduled_one_is_not_behind_it(void ** state)
{
	uint64_t ticket;

	(void)state;
	fetching();
	searching(SEARCH_DUE_ALL);
	found(delayed(rows(7, "a"), MESSAGE_SCHEDULED, 0), false, CLOCK_NEVER);
	ticket = published(7);
	answer(rows(5, "aa"), 1, false);
	fetched(rows(8, "a"), 1, true);
	fetching();
	expect(CORE_NOTHING);
	settled(ticket, CORE_NACKED);
	confirmed(published(5));
	published(6);
	marked(1);
	moves(0, 7, FATE_RETRY, 1);
}

static void
fresh_rows_do_not_wait_for_suspects(void ** state)
{
	(void)state;
	fetching();
	searching(SEARCH_DUE_ALL);
	found(delayed(rows(7, "a"), MESSAGE_RETRY, 1), false, CLOCK_NEVER);
	core_on_link_down(core, now, CORE_SUSPECTS);
	answer(rows(5, "ab"), 1, true);
	fetching();
	published(6);
	marked(1);
	moves(0, 5, FATE_BEHIND, 0);
	assert_false(action.record.moves[0].delayed);
}

static void
a_delayed_one_is_taken_though_later_ones_are_on_their_way_there(void ** state)
{
	uint64_t first;

	(void)state;
	fetched(rows(1, "x"), 1, false);
	fetching();
	searching(SEARCH_DUE_ALL);
	first = published(1);
	answer(rows(5, "aa"), 1, true);
	fetching();
	settled(published(5), CORE_NACKED);
	found(delayed(rows(2, "a"), MESSAGE_RETRY, 0), false, CLOCK_NEVER);
	confirmed(published(2));
	confirmed(first);
	marked(3);
	moves(0, 2, FATE_DELIVERED, 0);
	moves(1, 5, FATE_RETRY, 1);
	moves(2, 6, FATE_BEHIND, 0);
}

static void
a_key_is_held_until_the_last_of_its_moves_is_committed(void ** state)
{
	struct batch * batch = delayed(rows(2, "aa"), MESSAGE_SCHEDULED, 0);
	uint64_t ticket;

	(void)state;
	fetching();
	searching(SEARCH_DUE_ALL);
	found(batch, false, CLOCK_NEVER);
	ticket = published(2);
	answer(rows(4, "xaa"), 1, false);
	fetching();
	published(4);
	settled(ticket, CORE_NACKED);
	/* The delayed ones are moved; the fresh ones wait for 4. */
	marked(2);
	moves(0, 2, FATE_RETRY, 1);
	moves(1, 3, FATE_BEHIND, 0);
	committed();
	answer(rows(7, "ab"), 1, true);
	fetching();
	published(8);
	expect(CORE_NOTHING);
}

static void
a_delayed_one_is_left_out_while_an_earlier_one_is_on_its_way_there(void ** state)
{
	uint64_t first;

	(void)state;
	fetched(rows(1, "xa"), 1, true);
	fetching();
	searching(SEARCH_DUE_ALL);
	first = published(1);
	settled(published(2), CORE_NACKED);
	/* 2 waits for its mark, behind 1; somebody put 5 of its key back meanwhile. */
	found(delayed(rows(5, "a"), MESSAGE_RETRY, 0), false, CLOCK_NEVER);
	expect(CORE_NOTHING);
	confirmed(first);
	marked(1);
	moves(0, 2, FATE_RETRY, 1);
	committed();
	searching(SEARCH_DUE_ALL);
	found(delayed(rows(5, "a"), MESSAGE_RETRY, 0), false, CLOCK_NEVER);
	published(5);
}

static void
no_search_while_the_pool_is_full(void ** state)
{
	(void)state;
	fetching();
	searching(SEARCH_DUE_ALL);
	assert_int_equal(action.fetch_delayed.rows, 5);
	assert_int_equal(action.fetch_delayed.bytes, 250);
	found(delayed(rows(1, "abcde"), MESSAGE_SCHEDULED, 0), true, 0);
	searches_are_seen = true;
	confirmed(published(1));
	confirmed(published(2));
	settled(published(3), CORE_NOT_TAKEN);
	core_on_link_full(core, CORE_MAIN, true);
	marked(2);
	expect(CORE_NOTHING);
	committed();
	searching(SEARCH_DUE);
	assert_int_equal(action.fetch_delayed.rows, 2);
	assert_int_equal(action.fetch_delayed.except_count, 3);
	for (size_t n = 0; n < 3; n++)
		assert_in_range(action.fetch_delayed.except[n], 3, 5);
}

static void
bytes_bound_the_pool(void ** state)
{
	struct core_options options = usual;

	(void)state;
	options.max_bytes = 80;
	begin_with(options);
	fetching();
	searching(SEARCH_DUE_ALL);
	assert_int_equal(action.fetch_delayed.bytes, 20);
	found(delayed(rows(1, "ab"), MESSAGE_SCHEDULED, 0), true, 0);
	searches_are_seen = true;
	published(1);
	confirmed(published(2));
	searching(SEARCH_DUE);
	assert_int_equal(action.fetch_delayed.bytes, 10);
}

static void
what_is_due_is_looked_for_at_every_poll_and_when_it_is_known(void ** state)
{
	struct core_options options = usual;

	(void)state;
	options.poll_interval = CLOCK_S(1);
	begin_with(options);
	fetching();
	searching(SEARCH_DUE_ALL);
	found(NULL, false, CLOCK_MS(300));
	expect(CORE_NOTHING);
	assert_int_equal(core_deadline(core) - now, CLOCK_MS(300));
	now += CLOCK_MS(300);
	searching(SEARCH_DUE);
	found(NULL, false, CLOCK_NEVER);
	expect(CORE_NOTHING);
	assert_int_equal(core_deadline(core) - now, CLOCK_MS(700));
	now += CLOCK_MS(700);
	searching(SEARCH_DUE_ALL);
}

static void
delayed_messages_count_in_the_window_until_their_mark(void ** state)
{
	struct core_options options = usual;

	(void)state;
	options.window = options.batch = 1;
	begin_with(options);
	fetched(rows(5, "b"), 1, true);
	searching(SEARCH_DUE_ALL);
	found(delayed(rows(1, "a"), MESSAGE_RETRY, 1), false, CLOCK_NEVER);
	confirmed(published_on(CORE_SUSPECTS, 1));
	marked(1);
	assert_int_equal(counts().unrecorded, 1);
	expect(CORE_NOTHING);
	committed();
	published(5);
}

/* Everything until then is refused. */
static void
refuse_until(int64_t last_id)
{
	int64_t id = 1;

	while (next() != CORE_NOTHING) {
		if (action.type == CORE_PUBLISH)
			settled(action.publish.ticket, CORE_NACKED);
		else if (id <= last_id) {
			assert_int_equal(action.type, CORE_FETCH);
			answer(rows(id, "--------------------"), 1, false);
			id += 20;
		}
	}
}

static void
a_mark_covers_no_more_than_its_moves(void ** state)
{
	struct core_options options = usual;

	(void)state;
	options.window = 8000;
	options.batch = 20;
	begin_with(options);
	refuse_until(1200);
	marked(MOVES_MAX);
	assert_int_equal(action.record.messages, MOVES_MAX);
	assert_int_equal(action.record.position.last_id, MOVES_MAX);
	moves(MOVES_MAX - 1, MOVES_MAX, FATE_RETRY, 1);
	committed();
	assert_int_equal(counts().unrecorded, 200);
	marked(200);
	assert_int_equal(action.record.position.last_id, 1200);
	committed();
	assert_int_equal(counts().unrecorded, 0);
	assert_int_equal(counts().delayed, 1200);
}

static void
ids_above_a_partial_mark_do_not_count(void ** state)
{
	struct core_options options = usual;

	(void)state;
	options.window = 8000;
	options.batch = 20;
	options.record_interval = CLOCK_S(1);
	begin_with(options);
	refuse_until(1200);
	now += CLOCK_S(1);
	expect(CORE_RECORD);
	assert_int_equal(action.record.max_id, MOVES_MAX);
	core_on_source_down(core, now);
}

/* ---- exchanges ---- */

static void
a_missing_exchange_parks_its_rows_and_no_others(void ** state)
{
	(void)state;
	fetched(to("Y", rows(1, "ab")), 1, false);
	fetched(rows(3, "cda"), 1, true);
	fetching();
	for (int64_t id = 1; id <= 4; id++)
		published(id);
	channel_closed(CORE_MAIN, "Y");
	marked(2);
	moves(0, 1, FATE_WAIT_EXCHANGE, 0);
	moves(1, 2, FATE_WAIT_EXCHANGE, 0);
	assert_memory_equal(action.record.moves[0].reason.data, "closed", 6);
	committed();
	published(3);
	assert_true(action.publish.again);
	published(4);
	/* Of the key of a parked one. */
	expect(CORE_NOTHING);
	assert_true(core_wants(core, CORE_SUSPECTS));
}

static void
rows_for_an_exchange_that_is_missing_are_not_published(void ** state)
{
	(void)state;
	fetched(to("Y", rows(1, "--")), 1, false);
	fetching();
	published(1);
	channel_closed(CORE_MAIN, "Y");
	answer(rows(5, "-"), 1, true);
	fetching();
	published(5);
	marked(2);
	moves(0, 1, FATE_WAIT_EXCHANGE, 0);
	moves(1, 2, FATE_WAIT_EXCHANGE, 0);
	assert_memory_equal(action.record.moves[1].reason.data, "closed", 6);
	committed();
	assert_int_equal(counts().unrecorded, 1);
}

/* A lane for the exchange Y is open, and one row waits there. */
static void
missing(void)
{
	fetched(to("Y", rows(1, "a")), 1, true);
	fetching();
	published(1);
	channel_closed(CORE_MAIN, "Y");
	marked(1);
	committed();
	expect(CORE_NOTHING);
}

/* It is time for a probe; returns its ticket. */
static uint64_t
probed(struct batch * batch)
{
	int64_t id = batch->messages[0]->id;

	assert_in_range(core_deadline(core) - now, CLOCK_S(4), CLOCK_S(5));
	now = core_deadline(core);
	searching(SEARCH_LANE);
	assert_memory_equal(action.fetch_delayed.lane.exchange.data, "Y", 1);
	assert_int_equal(action.fetch_delayed.rows, 1);
	found(delayed(batch, MESSAGE_LANE, 0), true, CLOCK_NEVER);
	return (published_on(CORE_SUSPECTS, id));
}

static void
a_probe_finds_the_exchange_still_missing(void ** state)
{
	(void)state;
	missing();
	probed(to("Y", rows(1, "a")));
	channel_closed(CORE_SUSPECTS, "Y");
	/* It stays where it is. */
	assert_int_equal(counts().held_rows, 0);
	assert_int_equal(counts().unrecorded, 0);
	expect(CORE_NOTHING);
	probed(to("Y", rows(1, "a")));
}

static void
a_probe_finds_the_exchange_well_and_the_lane_is_drained(void ** state)
{
	(void)state;
	missing();
	confirmed(probed(to("Y", rows(1, "a"))));
	searching(SEARCH_LANE);
	assert_true(action.fetch_delayed.after == INT64_MIN);
	assert_int_equal(action.fetch_delayed.rows, 4);
	found(delayed(to("Y", rows(2, "bc")), MESSAGE_LANE, 0), true, CLOCK_NEVER);
	searching(SEARCH_LANE);
	assert_int_equal(action.fetch_delayed.after, 3);
	found(NULL, false, CLOCK_NEVER);
	expect(CORE_RECORD);
	moves(0, 1, FATE_DELIVERED, 0);
	committed();
	/* Fresh ones go again. */
	answer(to("Y", rows(9, "-")), 2, true);
	fetching();
	confirmed(published(9));
	confirmed(published(2));
	confirmed(published(3));
	assert_false(core_wants(core, CORE_SUSPECTS));
	marked(2);
	committed();
	/* Now nobody refers to it: a last look, and it is forgotten. */
	searching(SEARCH_LANE);
	found(NULL, false, CLOCK_NEVER);
	expect(CORE_NOTHING);
	assert_true(core_deadline(core) == CLOCK_NEVER);
	answer(to("Y", rows(10, "-")), 2, true);
	fetching();
	published(10);
}

static void
a_probe_that_is_refused_shows_that_the_exchange_is_there(void ** state)
{
	(void)state;
	missing();
	settled(probed(to("Y", rows(1, "a"))), CORE_RETURNED);
	searching(SEARCH_LANE);
	found(NULL, false, CLOCK_NEVER);
	marked(1);
	moves(0, 1, FATE_RETRY, 1);
}

static void
a_probe_that_cannot_be_carried_says_nothing(void ** state)
{
	(void)state;
	missing();
	settled(probed(to("Y", rows(1, "a"))), CORE_UNFIT);
	marked(1);
	moves(0, 1, FATE_DEAD, 0);
	committed();
	searching(SEARCH_DUE);
	found(NULL, false, CLOCK_NEVER);
	expect(CORE_NOTHING);
	assert_true(core_deadline(core) <= now + CLOCK_S(5));
}

static void
a_probe_whose_key_is_on_its_way_there_is_left_out(void ** state)
{
	uint64_t first;

	(void)state;
	missing();
	answer(rows(10, "xb"), 2, false);
	fetching();
	first = published(10);
	settled(published(11), CORE_NACKED);
	now += CLOCK_S(5);
	searching(SEARCH_LANE);
	found(delayed(to("Y", rows(12, "b")), MESSAGE_LANE, 0), false, CLOCK_NEVER);
	expect(CORE_NOTHING);
	confirmed(first);
	marked(1);
	committed();
	searching(SEARCH_DUE_ALL);
	found(NULL, false, CLOCK_NEVER);
	expect(CORE_NOTHING);
	assert_in_range(core_deadline(core) - now, CLOCK_S(4), CLOCK_S(5));
}

static void
a_probe_survives_a_lost_link(void ** state)
{
	(void)state;
	missing();
	probed(to("Y", rows(1, "a")));
	core_on_link_down(core, now, CORE_SUSPECTS);
	core_on_link_up(core, now, CORE_SUSPECTS);
	confirmed(published_on(CORE_SUSPECTS, 1));
	searching(SEARCH_LANE);
}

static void
an_empty_lane_is_forgotten(void ** state)
{
	(void)state;
	missing();
	now += CLOCK_S(5);
	searching(SEARCH_LANE);
	found(NULL, false, CLOCK_NEVER);
	answer(to("Y", rows(2, "-")), 2, true);
	fetching();
	published(2);
}

static void
a_lane_is_kept_while_rows_are_on_their_way_there(void ** state)
{
	(void)state;
	fetched(to("Y", rows(1, "a")), 1, true);
	fetching();
	published(1);
	channel_closed(CORE_MAIN, "Y");
	marked(1);
	now += CLOCK_S(5);
	searching(SEARCH_LANE);
	found(NULL, false, CLOCK_NEVER);
	expect(CORE_NOTHING);
	assert_int_equal(core_deadline(core) - now, CLOCK_S(5));
	committed();
	probed(to("Y", rows(1, "a")));
}

static void
a_lane_that_goes_bad_while_it_is_drained_is_open_again(void ** state)
{
	(void)state;
	missing();
	confirmed(probed(to("Y", rows(1, "a"))));
	searching(SEARCH_LANE);
	found(delayed(to("Y", rows(2, "bc")), MESSAGE_LANE, 0), true, CLOCK_NEVER);
	searching(SEARCH_LANE);
	expect(CORE_RECORD);
	published(2);
	channel_closed(CORE_MAIN, "Y");
	found(delayed(to("Y", rows(4, "d")), MESSAGE_LANE, 0), true, CLOCK_NEVER);
	expect(CORE_NOTHING);
	/* Nothing but the probe needs a move: the others are there already. */
	assert_int_equal(counts().held_rows, 1);
	assert_int_equal(counts().unrecorded, 1);
	committed();
	expect(CORE_NOTHING);
	probed(to("Y", rows(2, "b")));
}

static void
lanes_known_to_the_database_are_probed_at_once(void ** state)
{
	struct lane lanes[] = {{.exchange = bytes_from("Y"), .reason = bytes_from("why")},
	    {.exchange = bytes_from("X"), .routing_key = bytes_from("r")}};
	struct found nothing = {.next_in = CLOCK_NEVER, .lanes = lanes, .lane_count = 2};

	(void)state;
	fetching();
	searching(SEARCH_DUE_ALL);
	core_on_delayed(core, now, &nothing);
	answer(to("Y", rows(9, "-")), 1, true);
	fetching();
	searching(SEARCH_LANE);
	assert_int_equal(action.fetch_delayed.lane.exchange.len, 1);
	assert_false(bytes_present(action.fetch_delayed.lane.routing_key));
	found(delayed(to("Y", rows(1, "-")), MESSAGE_LANE, 0), true, CLOCK_NEVER);
	searching(SEARCH_LANE);
	assert_memory_equal(action.fetch_delayed.lane.exchange.data, "X", 1);
	assert_memory_equal(action.fetch_delayed.lane.routing_key.data, "r", 1);
	found(delayed(rows(2, "-"), MESSAGE_LANE, 0), true, CLOCK_NEVER);
	published_on(CORE_SUSPECTS, 1);
	published_on(CORE_SUSPECTS, 2);
	marked(1);
	moves(0, 9, FATE_WAIT_EXCHANGE, 0);
	assert_memory_equal(action.record.moves[0].reason.data, "why", 3);
}

static void
where_there_are_too_many_lanes_a_message_is_tried_again_later(void ** state)
{
	static struct lane lanes[LANES_MAX];
	static char names[LANES_MAX][4];
	struct found nothing = {.next_in = CLOCK_NEVER, .lanes = lanes, .lane_count = LANES_MAX};

	(void)state;
	for (size_t n = 0; n < LANES_MAX; n++) {
		names[n][0] = 'L';
		names[n][1] = (char)('a' + n / 16);
		names[n][2] = (char)('a' + n % 16);
		lanes[n] = (struct lane){.exchange = bytes_from(names[n])};
	}
	fetching();
	searching(SEARCH_DUE_ALL);
	core_on_delayed(core, now, &nothing);
	answer(to("Y", rows(1, "-")), 1, true);
	fetching();
	searching(SEARCH_LANE);
	published(1);
	channel_closed(CORE_MAIN, "Y");
	marked(1);
	moves(0, 1, FATE_RETRY, 0);
	assert_int_equal(action.record.moves[0].delay, CLOCK_S(5) - CLOCK_MS(50));
}

/* ---- isolation ---- */

static void
a_close_that_names_nobody_makes_suspects_of_all(void ** state)
{
	(void)state;
	fetched(rows(1, "abc"), 1, true);
	fetching();
	published(1);
	published(2);
	channel_closed(CORE_MAIN, NULL);
	confirmed(published_on(CORE_SUSPECTS, 1));
	assert_true(action.publish.again);
	published_on(CORE_SUSPECTS, 2);
	published_on(CORE_MAIN, 3);
	assert_int_equal(counts().nacked, 0);
}

static void
a_close_that_names_an_exchange_of_nobody_does_too(void ** state)
{
	(void)state;
	fetched(rows(1, "a"), 1, true);
	fetching();
	published(1);
	channel_closed(CORE_MAIN, "Z");
	published_on(CORE_SUSPECTS, 1);
}

static void
the_culprit_is_found_by_halving(void ** state)
{
	int closes = 0;
	bool out[9] = {false};

	(void)state;
	fetched(rows(1, "abcdefgh"), 1, true);
	for (int64_t id = 1; id <= 3; id++)
		published(id);
	fetching();
	for (int64_t id = 4; id <= 8; id++)
		published(id);
	channel_closed(CORE_MAIN, NULL);
	/* 6 is it.  The others are confirmed when all that may be is out. */
	for (;;) {
		uint64_t tickets[9] = {0};

		while (next() == CORE_PUBLISH) {
			assert_int_equal(action.publish.link, CORE_SUSPECTS);
			tickets[action.publish.message->id] = action.publish.ticket;
		}
		if (action.type == CORE_RECORD) {
			if (action.record.move_count > 0)
				break;
			committed();
			continue;
		}
		if (tickets[6] != 0) {
			closes++;
			channel_closed(CORE_SUSPECTS, NULL);
			continue;
		}
		for (int id = 1; id <= 8; id++) {
			if (tickets[id] != 0) {
				assert_false(out[id]);
				out[id] = true;
				confirmed(tickets[id]);
			}
		}
		now += CLOCK_MS(50);
	}
	moves(0, 6, FATE_RETRY, 1);
	assert_memory_equal(action.record.moves[0].reason.data, "closed", 6);
	assert_in_range(closes, 3, 8);
}

static void
those_on_suspects_take_turns(void ** state)
{
	(void)state;
	finds(delayed(rows(1, "---"), MESSAGE_RETRY, 1));
	published_on(CORE_SUSPECTS, 1);
	published_on(CORE_SUSPECTS, 2);
	published_on(CORE_SUSPECTS, 3);
	channel_closed(CORE_SUSPECTS, NULL);
	published_on(CORE_SUSPECTS, 1);
	core_on_link_down(core, now, CORE_SUSPECTS);
	core_on_link_up(core, now, CORE_SUSPECTS);
	published_on(CORE_SUSPECTS, 2);
	core_on_link_down(core, now, CORE_SUSPECTS);
	core_on_link_up(core, now, CORE_SUSPECTS);
	published_on(CORE_SUSPECTS, 3);
}

static void
few_are_out_on_suspects_until_they_are_calm(void ** state)
{
	struct core_options options = usual;
	uint64_t tickets[15];
	int out;

	(void)state;
	options.window = 400;
	options.batch = 64;
	options.record_interval = CLOCK_NEVER;
	options.max_bytes = 100000;
	begin_with(options);
	expect(CORE_FETCH);
	answer(rows(1, "------------------------------------------------------------"), 1, true);
	for (int n = 1; n <= 28; n++)
		published(n);
	fetching();
	for (int n = 29; n <= 60; n++)
		published(n);
	channel_closed(CORE_MAIN, NULL);
	for (out = 0; next() == CORE_PUBLISH; out++)
		;
	assert_int_equal(out, 60);
	channel_closed(CORE_SUSPECTS, NULL);
	for (out = 0; next() == CORE_PUBLISH; out++)
		;
	assert_int_equal(out, 30);
	channel_closed(CORE_SUSPECTS, NULL);
	for (int n = 0; n < 15; n++)
		tickets[n] = published_on(CORE_SUSPECTS, n + 1);
	expect(CORE_NOTHING);
	confirmed(tickets[0]);
	expect(CORE_PUBLISH);
	expect(CORE_NOTHING);
	/* Fifteen answers: twice as many may go. */
	for (int n = 1; n < 15; n++)
		confirmed(tickets[n]);
	for (out = 0; next() == CORE_PUBLISH; out++)
		;
	assert_int_equal(out, 29);
}

/* ---- silence ---- */

static void
what_is_not_confirmed_in_time_waits_in_the_lane_of_its_queue(void ** state)
{
	(void)state;
	fetched(rows(1, "ab"), 1, true);
	fetching();
	published(1);
	now += CLOCK_S(1);
	published(2);
	core_on_heard(core, now, CORE_MAIN);
	expect(CORE_NOTHING);
	assert_int_equal(core_deadline(core) - now, CLOCK_S(14));
	now += CLOCK_S(14);
	expect(CORE_RESET);
	assert_int_equal(action.reset.link, CORE_MAIN);
	assert_non_null(strstr(action.reset.reason.data, "routing key \"r\""));
	assert_int_equal(counts().in_flight, 0);
	marked(1);
	moves(0, 1, FATE_WAIT_QUEUE, 0);
	assert_non_null(strstr(action.record.moves[0].reason.data, "15 s"));
	committed();
	expect(CORE_NOTHING);
	core_on_link_up(core, now, CORE_MAIN);
	/* The same queue: it waits there, too. */
	marked(1);
	moves(0, 2, FATE_WAIT_QUEUE, 0);
}

static void
a_link_that_was_silent_blames_nobody(void ** state)
{
	(void)state;
	core_on_heard(core, now, CORE_MAIN);
	fetched(rows(1, "ab"), 1, true);
	fetching();
	published(1);
	now += CLOCK_S(15);
	expect(CORE_RESET);
	assert_non_null(strstr(action.reset.reason.data, "nothing"));
	core_on_link_up(core, now, CORE_MAIN);
	published(1);
	assert_true(action.publish.again);
}

static void
time_does_not_count_while_blocked(void ** state)
{
	(void)state;
	fetched(rows(1, "ab"), 1, true);
	fetching();
	published(1);
	published(2);
	core_on_heard(core, now + 1, CORE_MAIN);
	now += CLOCK_S(10);
	core_on_blocked(core, now, CORE_MAIN, true);
	now += CLOCK_S(100);
	expect(CORE_NOTHING);
	assert_true(core_deadline(core) == CLOCK_NEVER);
	core_on_blocked(core, now, CORE_MAIN, false);
	expect(CORE_NOTHING);
	assert_int_equal(core_deadline(core) - now, CLOCK_S(15));
}

static void
the_oldest_in_flight_is_the_one_published_first(void ** state)
{
	uint64_t first;

	(void)state;
	fetched(rows(1, "abc"), 1, true);
	fetching();
	first = published(1);
	now += CLOCK_S(1);
	settled(published(2), CORE_CONFIRMED);
	now += CLOCK_S(1);
	published(3);
	confirmed(first);
	expect(CORE_RECORD);
	expect(CORE_NOTHING);
	assert_int_equal(core_deadline(core) - now, CLOCK_S(15));
}

static void
a_probe_without_a_confirm_leaves_the_lane_open(void ** state)
{
	(void)state;
	missing();
	probed(to("Y", rows(1, "a")));
	core_on_heard(core, now + 1, CORE_SUSPECTS);
	now += CLOCK_S(15);
	expect(CORE_RESET);
	assert_int_equal(action.reset.link, CORE_SUSPECTS);
	/* It waits for its queue now. */
	marked(1);
	moves(0, 1, FATE_WAIT_QUEUE, 0);
	assert_true(action.record.moves[0].delayed);
}

static void
a_channel_closed_by_others_sets_no_clock_back(void ** state)
{
	(void)state;
	fetched(rows(1, "-"), 1, false);
	fetched(to("Y", rows(2, "-")), 1, true);
	fetching();
	published(1);
	published(2);
	now += CLOCK_S(10);
	channel_closed(CORE_MAIN, "Y");
	published(1);
	expect(CORE_NOTHING);
	assert_int_equal(core_deadline(core) - now, CLOCK_S(5));
	/* A lost connection does. */
	core_on_link_down(core, now, CORE_MAIN);
	core_on_link_up(core, now, CORE_MAIN);
	published(1);
	assert_int_equal(core_deadline(core) - now, CLOCK_S(5));
	now += CLOCK_S(5);
	searching(SEARCH_LANE);
	expect(CORE_NOTHING);
	assert_int_equal(core_deadline(core) - now, CLOCK_S(10));
}

static void
silence_shows_that_nobody_closes_the_channel(void ** state)
{
	struct batch * batch = delayed(rows(1, "---"), MESSAGE_RETRY, 1);

	(void)state;
	batch->messages[0]->routing_key = bytes_from("silent");
	finds(batch);
	for (int64_t id = 1; id <= 3; id++)
		published_on(CORE_SUSPECTS, id);
	channel_closed(CORE_SUSPECTS, NULL);
	published_on(CORE_SUSPECTS, 1);
	core_on_heard(core, now + 1, CORE_SUSPECTS);
	expect(CORE_NOTHING);
	now = core_deadline(core);
	expect(CORE_RESET);
	core_on_link_up(core, now, CORE_SUSPECTS);
	/* One more may go at a time. */
	marked(1);
	published_on(CORE_SUSPECTS, 2);
	published_on(CORE_SUSPECTS, 3);
}

static void
a_retry_without_a_confirm_waits_in_a_lane(void ** state)
{
	(void)state;
	finds(delayed(rows(1, "-"), MESSAGE_RETRY, 2));
	published_on(CORE_SUSPECTS, 1);
	core_on_heard(core, now + 1, CORE_SUSPECTS);
	now += CLOCK_S(15);
	expect(CORE_RESET);
	marked(1);
	moves(0, 1, FATE_WAIT_QUEUE, 2);
}

/* ---- links ---- */

static void
each_link_has_its_own_troubles(void ** state)
{
	(void)state;
	finds(delayed(rows(1, "-"), MESSAGE_RETRY, 1));
	answer(rows(5, "--"), 1, true);
	fetching();
	core_on_blocked(core, now, CORE_SUSPECTS, true);
	published(5);
	core_on_link_down(core, now, CORE_MAIN);
	core_on_blocked(core, now, CORE_SUSPECTS, false);
	published_on(CORE_SUSPECTS, 1);
	core_on_link_full(core, CORE_SUSPECTS, true);
	expect(CORE_NOTHING);
	core_on_link_up(core, now, CORE_MAIN);
	published(5);
	published(6);
}

static void
suspects_are_wanted_only_while_there_are_any(void ** state)
{
	(void)state;
	assert_true(core_wants(core, CORE_MAIN));
	assert_false(core_wants(core, CORE_SUSPECTS));
	finds(delayed(rows(1, "-"), MESSAGE_RETRY, 1));
	assert_true(core_wants(core, CORE_SUSPECTS));
	confirmed(published_on(CORE_SUSPECTS, 1));
	assert_false(core_wants(core, CORE_SUSPECTS));
}

static void
a_repetition_not_taken_is_one_no_more(void ** state)
{
	(void)state;
	fetched(rows(1, "-"), 1, true);
	fetching();
	published(1);
	core_on_link_down(core, now, CORE_MAIN);
	core_on_link_up(core, now, CORE_MAIN);
	settled(published(1), CORE_NOT_TAKEN);
	core_on_settled(core, now, UINT64_MAX, CORE_CONFIRMED, BYTES_NONE);
	assert_int_equal(counts().republished, 0);
	assert_int_equal(counts().unrecorded, 1);
	published(1);
	assert_true(action.publish.again);
}

static void
what_was_published_before_needs_no_room_in_the_window(void ** state)
{
	struct core_options options = usual;

	(void)state;
	options.window = options.batch = 1;
	begin_with(options);
	fetched(rows(5, "b"), 1, true);
	searches_are_seen = true;
	expect(CORE_FETCH_DELAYED);
	published(5);
	fetching();
	found(delayed(rows(1, "a"), MESSAGE_SCHEDULED, 0), false, CLOCK_NEVER);
	core_on_link_down(core, now, CORE_MAIN);
	core_on_link_up(core, now, CORE_MAIN);
	confirmed(published(5));
	recorded(1, 5, true, 1);
	published(1);
}

/* ---- a lost source, the end ---- */

static void
a_lost_source_forgets_delayed_ones_and_lanes_too(void ** state)
{
	(void)state;
	missing();
	probed(to("Y", rows(1, "a")));
	core_on_source_down(core, now);
	assert_int_equal(batches, 0);
	assert_int_equal(counts().held_rows + counts().in_flight + counts().unrecorded, 0);
	assert_false(core_wants(core, CORE_SUSPECTS));
	core_on_source_up(core, now);
	fetched(to("Y", rows(2, "a")), 2, true);
	fetching();
	published(2);
}

static void
a_stop_records_what_was_put_aside(void ** state)
{
	uint64_t ticket;

	(void)state;
	finds(delayed(rows(1, "--"), MESSAGE_RETRY, 1));
	ticket = published_on(CORE_SUSPECTS, 1);
	core_stop(core);
	expect(CORE_NOTHING);
	settled(ticket, CORE_NACKED);
	expect(CORE_RECORD);
	moves(0, 1, FATE_RETRY, 2);
	expect(CORE_NOTHING);
	committed();
	expect(CORE_FINISHED);
}

static void
a_drain_takes_what_is_due_and_nothing_else(void ** state)
{
	(void)state;
	core_drain(core);
	fetched(NULL, 1, true);
	expect(CORE_FETCH);
	assert_false(action.fetch.wait);
	searching(SEARCH_DUE_ALL);
	found(delayed(rows(1, "a"), MESSAGE_SCHEDULED, 0), false, CLOCK_S(100));
	answer(NULL, 1, true);
	expect(CORE_FETCH);
	assert_true(action.fetch.wait);
	settled(published(1), CORE_NACKED);
	expect(CORE_RECORD);
	committed();
	/* Nothing is left: a search and a fetch find nothing more. */
	searching(SEARCH_DUE_ALL);
	answer(NULL, 1, true);
	expect(CORE_FETCH);
	assert_false(action.fetch.wait);
	found(NULL, false, CLOCK_S(1));
	expect(CORE_NOTHING);
	answer(NULL, 1, true);
	expect(CORE_FINISHED);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, finish)
	const struct CMUnitTest tests[] = {
	    TEST(a_refused_message_is_put_aside_and_the_others_go_on),
	    TEST(an_unroutable_message_is_refused),
	    TEST(what_was_refused_too_often_is_dead),
	    TEST(what_no_link_can_carry_is_dead_at_once),
	    TEST(later_attempts_wait_for_longer),
	    TEST(a_delay_counts_from_the_mark),
	    TEST(the_rest_of_the_key_lines_up_behind),
	    TEST(what_comes_before_the_mark_is_committed_lines_up_too),
	    TEST(a_held_message_is_never_published),
	    TEST(nobody_is_held_in_pipelined_mode),
	    TEST(the_key_of_a_dead_message_goes_on_once_that_is_committed),
	    TEST(a_dead_message_may_hold_its_key),
	    TEST(a_dead_message_blocks_nobody_in_the_window),
	    TEST(those_behind_a_delayed_one_follow_it),
	    TEST(those_behind_one_that_failed_again_are_let_go),
	    TEST(a_scheduled_message_goes_by_main_in_its_key_s_turn),
	    TEST(an_empty_answer_to_a_fetch_that_waits_hastens_the_search),
	    TEST(a_scheduled_message_obeys_the_hold_of_its_key),
	    TEST(fresh_rows_wait_for_a_scheduled_one_before_them),
	    TEST(what_was_written_before_a_scheduled_one_is_not_behind_it),
	    TEST(fresh_rows_do_not_wait_for_suspects),
	    TEST(a_delayed_one_is_taken_though_later_ones_are_on_their_way_there),
	    TEST(a_key_is_held_until_the_last_of_its_moves_is_committed),
	    TEST(a_delayed_one_is_left_out_while_an_earlier_one_is_on_its_way_there),
	    TEST(no_search_while_the_pool_is_full),
	    TEST(bytes_bound_the_pool),
	    TEST(what_is_due_is_looked_for_at_every_poll_and_when_it_is_known),
	    TEST(delayed_messages_count_in_the_window_until_their_mark),
	    TEST(a_mark_covers_no_more_than_its_moves),
	    TEST(ids_above_a_partial_mark_do_not_count),
	    TEST(a_missing_exchange_parks_its_rows_and_no_others),
	    TEST(rows_for_an_exchange_that_is_missing_are_not_published),
	    TEST(a_probe_finds_the_exchange_still_missing),
	    TEST(a_probe_finds_the_exchange_well_and_the_lane_is_drained),
	    TEST(a_probe_that_is_refused_shows_that_the_exchange_is_there),
	    TEST(a_probe_that_cannot_be_carried_says_nothing),
	    TEST(a_probe_whose_key_is_on_its_way_there_is_left_out),
	    TEST(a_probe_survives_a_lost_link),
	    TEST(an_empty_lane_is_forgotten),
	    TEST(a_lane_is_kept_while_rows_are_on_their_way_there),
	    TEST(a_lane_that_goes_bad_while_it_is_drained_is_open_again),
	    TEST(lanes_known_to_the_database_are_probed_at_once),
	    TEST(where_there_are_too_many_lanes_a_message_is_tried_again_later),
	    TEST(a_close_that_names_nobody_makes_suspects_of_all),
	    TEST(a_close_that_names_an_exchange_of_nobody_does_too),
	    TEST(the_culprit_is_found_by_halving),
	    TEST(those_on_suspects_take_turns),
	    TEST(few_are_out_on_suspects_until_they_are_calm),
	    TEST(what_is_not_confirmed_in_time_waits_in_the_lane_of_its_queue),
	    TEST(a_link_that_was_silent_blames_nobody),
	    TEST(time_does_not_count_while_blocked),
	    TEST(the_oldest_in_flight_is_the_one_published_first),
	    TEST(a_probe_without_a_confirm_leaves_the_lane_open),
	    TEST(a_channel_closed_by_others_sets_no_clock_back),
	    TEST(silence_shows_that_nobody_closes_the_channel),
	    TEST(a_retry_without_a_confirm_waits_in_a_lane),
	    TEST(each_link_has_its_own_troubles),
	    TEST(suspects_are_wanted_only_while_there_are_any),
	    TEST(a_repetition_not_taken_is_one_no_more),
	    TEST(what_was_published_before_needs_no_room_in_the_window),
	    TEST(a_lost_source_forgets_delayed_ones_and_lanes_too),
	    TEST(a_stop_records_what_was_put_aside),
	    TEST(a_drain_takes_what_is_due_and_nothing_else),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
