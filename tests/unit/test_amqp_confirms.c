#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "amqp/confirms.h"

/*
 * The model: an array by tag that says what each message waits for.  Tickets
 * are tag + 1000, ids are tag * 7.
 */
#define TAGS 20000

struct model {
	struct confirms confirms;
	uint64_t next;
	enum { NEVER, WAITS, RETURNED, SETTLED } tags[TAGS];
	int settled[TAGS];
	bool nacked[TAGS];
	bool returned[TAGS];
	bool add_when_settled;
	unsigned int unsettled;
};

static struct message messages[TAGS];

static void
add(struct model * m)
{
	messages[m->next].id = (int64_t)m->next * 7;
	confirms_add(&m->confirms, m->next + 1000, &messages[m->next]);
	m->tags[m->next++] = WAITS;
	m->unsettled++;
}

static void
settled(void * context, const struct confirms_entry * entry, bool nacked)
{
	struct model * m = context;
	uint64_t tag = entry->ticket - 1000;

	assert_in_range(tag, 1, TAGS - 1);
	m->settled[tag]++;
	m->unsettled--;
	m->nacked[tag] = nacked;
	assert_ptr_equal(entry->message, &messages[tag]);
	m->returned[tag] = entry->return_code == 312;
	if (m->add_when_settled && m->next < TAGS && confirms_room(&m->confirms))
		add(m);
}

static void
test_settles_each_tag_once_whatever_the_order(void ** state)
{
	static struct model m;
	uint32_t random = 12345;
	uint64_t tag, from, expected;
	int i, round;

	(void)state;
	for (round = 0; round < 20; round++) {
		memset(&m, 0, sizeof(m));
		m.next = 1;
		m.add_when_settled = round % 2 == 1;
		assert_int_equal(confirms_init(&m.confirms, 50), 0);
		for (i = 0; i < 20000; i++) {
			bool multiple, nacked;

			random = random * 1664525 + 1013904223;
			switch ((random >> 28) % 4) {
			case 0:
			case 1:
				if (m.next < TAGS && confirms_room(&m.confirms))
					add(&m);
				break;
			case 2:
				/* A return of something that waits, else refused. */
				tag = m.next < 40 ? random % 50 : m.next - 40 + (random >> 8) % 45;
				if (tag >= TAGS)
					break;
				expected = tag > 0 && tag < m.next && m.tags[tag] == WAITS &&
				    m.settled[tag] == 0;
				assert_int_equal(confirms_return(&m.confirms, (int64_t)tag * 7,
						     312),
				    expected ? 0 : -1);
				if (expected)
					m.tags[tag] = RETURNED;
				break;
			default:
				multiple = (random >> 9) % 4 == 0;
				nacked = (random >> 11) % 3 == 0;
				tag = m.next < 100 ? (random >> 12) % 100 :
						     m.next - 100 + (random >> 12) % 105;
				from = m.next;
				if (confirms_settle(&m.confirms, tag, multiple, nacked, settled,
					&m)) {
					assert_true(tag >= from || tag == 0);
					break;
				}
				assert_true(tag < from);
				for (uint64_t t = 1; t < from; t++) {
					bool meant = multiple ? t <= tag || tag == 0 : t == tag;

					if (!meant) {
						assert_true(m.settled[t] == 0 ||
						    m.tags[t] == SETTLED);
						continue;
					}
					assert_int_equal(m.settled[t], 1);
					if (m.tags[t] != SETTLED) {
						assert_int_equal(m.nacked[t], nacked);
						assert_int_equal(m.returned[t],
						    m.tags[t] == RETURNED);
					}
					m.tags[t] = SETTLED;
				}
			}
			assert_int_equal(m.confirms.unsettled, m.unsettled);
		}
		assert_in_range(m.next, 200, TAGS);
		if (m.confirms.next > 1) {
			m.add_when_settled = false;
			assert_int_equal(confirms_settle(&m.confirms, 0, true, false, settled, &m),
			    0);
		}
		for (tag = 1; tag < m.next; tag++)
			assert_int_equal(m.settled[tag], 1);
		confirms_free(&m.confirms);
	}
}

static void
test_is_full_at_its_size_and_begins_anew(void ** state)
{
	static struct model m;
	int added = 0;

	(void)state;
	memset(&m, 0, sizeof(m));
	m.next = 1;
	assert_int_equal(confirms_init(&m.confirms, 100), 0);
	while (confirms_room(&m.confirms)) {
		add(&m);
		added++;
	}
	assert_int_equal(added, 256);
	/* All but the oldest settled: still no room. */
	for (uint64_t tag = 2; tag <= 256; tag++)
		assert_int_equal(confirms_settle(&m.confirms, tag, false, false, settled, &m), 0);
	assert_false(confirms_room(&m.confirms));
	assert_int_equal(confirms_settle(&m.confirms, 1, false, false, settled, &m), 0);
	assert_true(confirms_room(&m.confirms));
	assert_int_equal(m.confirms.unsettled, 0);
	add(&m);
	confirms_reset(&m.confirms);
	assert_int_equal(confirms_settle(&m.confirms, 1, false, false, settled, &m), -1);
	assert_int_equal(confirms_return(&m.confirms, 7, 312), -1);
	confirms_free(&m.confirms);
}

static void
test_refuses_tags_that_were_never_given(void ** state)
{
	static struct model m;

	(void)state;
	memset(&m, 0, sizeof(m));
	m.next = 1;
	assert_int_equal(confirms_init(&m.confirms, 10), 0);
	assert_int_equal(confirms_settle(&m.confirms, 1, false, false, settled, &m), -1);
	add(&m);
	assert_int_equal(confirms_settle(&m.confirms, 2, true, false, settled, &m), -1);
	assert_int_equal(confirms_settle(&m.confirms, 0, false, false, settled, &m), -1);
	assert_int_equal(confirms_settle(&m.confirms, UINT64_MAX, true, false, settled, &m), -1);
	assert_int_equal(m.settled[1], 0);
	confirms_free(&m.confirms);
}

static void
ignored(void * context, const struct confirms_entry * entry, bool nacked)
{
	(void)context, (void)entry, (void)nacked;
}

static void
test_knows_the_exchanges_of_what_is_unsettled(void ** state)
{
	static const struct message a = {.exchange = {"a", 1}}, none = {.exchange = {NULL, 0}};
	static struct model m;

	(void)state;
	memset(&m, 0, sizeof(m));
	assert_int_equal(confirms_init(&m.confirms, 50), 0);
	assert_false(confirms_has_exchange(&m.confirms, bytes_from("a")));
	confirms_add(&m.confirms, 0, &a);
	confirms_add(&m.confirms, 0, &none);
	assert_true(confirms_has_exchange(&m.confirms, bytes_from("a")));
	assert_true(confirms_has_exchange(&m.confirms, bytes_from("")));
	assert_false(confirms_has_exchange(&m.confirms, bytes_from("b")));
	assert_int_equal(confirms_settle(&m.confirms, 2, false, false, ignored, NULL), 0);
	assert_true(confirms_has_exchange(&m.confirms, bytes_from("a")));
	assert_false(confirms_has_exchange(&m.confirms, bytes_from("")));
	confirms_free(&m.confirms);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_settles_each_tag_once_whatever_the_order),
	    cmocka_unit_test(test_is_full_at_its_size_and_begins_anew),
	    cmocka_unit_test(test_refuses_tags_that_were_never_given),
	    cmocka_unit_test(test_knows_the_exchanges_of_what_is_unsettled),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
