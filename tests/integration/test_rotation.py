"""Slots: one that is due is emptied once everything in it is sent, never before, and no other is touched."""

import pytest

from conftest import wait_until
from workload import Collector

# The relay asks for the slot when it looks, every 15 s: this answer can be set, and its questions counted.
CURRENT_SLOT = """
CREATE SEQUENCE looks;
CREATE TABLE slot AS SELECT 0::smallint AS current;
GRANT ALL ON SEQUENCE looks TO PUBLIC;
GRANT SELECT ON slot TO PUBLIC;
CREATE OR REPLACE FUNCTION outbox.current_slot() RETURNS smallint LANGUAGE sql VOLATILE
AS $$ SELECT nextval('public.looks'); SELECT current FROM public.slot $$;
"""


@pytest.mark.time_limit(120)
def test_a_slot_is_emptied_when_all_in_it_is_sent_and_not_before(database, broker, relay, stack):
    exchange = broker.exchange()
    queue = broker.queue(exchange=exchange)
    database.execute("SELECT outbox.set_retention('0')")
    database.execute(CURRENT_SLOT)

    def add(slot, count):
        database.execute("UPDATE slot SET current = %s", [slot])
        database.execute("INSERT INTO outbox.message (exchange, routing_key, payload_text)"
                         " SELECT %s, 'order', 'x' FROM generate_series(1, %s)", [exchange, count])

    def in_slot(slot):
        return database.value(f"SELECT count(*) FROM outbox.message_{slot}")

    def looked():
        return database.value("SELECT last_value FROM looks")

    running = relay()
    add(2, 3)
    wait_until(lambda: database.value("SELECT count(*) FROM outbox.sent") > 0, 20, "a mark")
    stack.pause("rabbitmq")
    add(0, 10)
    add(1, 5)
    # The next slot after 2 is 0: it is due, and nothing of it is sent.
    database.execute("UPDATE slot SET current = 2")
    before = looked()
    # A look asks once, the attempt to empty asks again.
    wait_until(lambda: looked() >= before + 2, 25, "an attempt to empty the slot")
    assert (in_slot(0), in_slot(1), in_slot(2)) == (10, 5, 3)
    stack.resume("rabbitmq")
    collector = Collector(stack.env["AMQP_URL"], queue)
    wait_until(lambda: collector.count() == 18, 20, "all messages")
    # A writer in the middle of its transaction keeps its slot; nothing queues behind the attempt's lock.
    late = database.connect()
    late.cursor().execute("UPDATE slot SET current = 0")
    late.cursor().execute("INSERT INTO outbox.message (exchange, routing_key, payload_text)"
                          " VALUES (%s, 'order', 'late')", [exchange])
    before = looked()
    wait_until(lambda: looked() > before, 25, "another look")
    assert in_slot(0) == 10
    late.cursor().execute("UPDATE slot SET current = 2")
    late.commit()
    wait_until(lambda: collector.count() == 19, 20, "the late message")
    wait_until(lambda: in_slot(0) == 0, 40, "the emptied slot")
    assert (in_slot(1), in_slot(2)) == (5, 3)
    # Old marks go with the messages; the newest stays, it is the position.
    assert database.value("SELECT count(*) FROM outbox.sent") >= 1
    assert running.stop() == 0
    assert len(set(collector.end())) == 19


@pytest.mark.time_limit(120)
def test_old_marks_are_trimmed_without_a_look_at_all_the_others(database, relay):
    kept = 100_000
    database.execute(
        "INSERT INTO outbox.sent (seq, sent_at, prev, last_id, floor_id, max_id, messages, system_identifier, database_oid, table_oid)"
        " SELECT n, now() - CASE WHEN n <= 5 THEN interval '3 days' ELSE interval '1 hour' END, pg_current_snapshot(), 0, 0, 0, 0,"
        " (SELECT system_identifier FROM pg_control_system()),"
        " (SELECT oid FROM pg_database WHERE datname = current_database()), 'outbox.message'::regclass"
        " FROM generate_series(1, %s) AS n", [kept + 5], role="postgres")
    running = relay()
    wait_until(lambda: database.value("SELECT min(seq) FROM outbox.sent") == 6, 30, "the trimmed marks")
    # What its session counted, the deletion too, it reports when that ends at the latest.
    assert running.stop() == 0
    counts = "SELECT n_tup_del, idx_tup_fetch FROM pg_stat_user_tables WHERE relid = 'outbox.sent'::regclass"
    deleted, fetched = wait_until(lambda: rows[0] if (rows := database.query(counts))[0][0] >= 5 else None)
    assert deleted == 5
    assert fetched < kept / 2
