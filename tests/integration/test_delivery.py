"""L, P and O under concurrent writers: exactly what committed arrives, in the order of each key.

OUTBOX_TEST_ROWS scales the load (100,000 messages).
"""

import os
import statistics
import time

import pytest

from checker import check
from conftest import wait_until
from workload import Collector, Load, committed_in

ROWS = int(os.environ.get("OUTBOX_TEST_ROWS", 100_000))
WRITERS = 16
KEYS = 500
INSERT = ("INSERT INTO outbox.message (exchange, routing_key, payload_json, ordering_key)"
          " VALUES (%s, 'order', jsonb_build_object('sequence', %s::bigint), %s) RETURNING message_id::text")


def written(cursor, *parameters):
    cursor.execute(INSERT, parameters)
    return cursor.fetchone()[0]


@pytest.mark.time_limit(400)
def test_what_committed_arrives_and_nothing_else_in_the_order_of_each_key(database, broker, relay, stack, tmp_path):
    exchange = broker.exchange()
    queue = broker.queue(exchange=exchange)
    running = relay()
    running.wait_log("broker_connected")
    collector = Collector(stack.env["AMQP_URL"], queue)
    # One writer's transaction lasts as long as all the others', and it writes at both ends.
    stays_open = database.connect("writer")
    cursor = stays_open.cursor()
    expected = {written(cursor, exchange, n, "stays open"): ("stays open", n) for n in range(10)}
    load = Load(database, exchange, WRITERS, KEYS, seed=1, directory=tmp_path, rows=ROWS)
    try:
        others, rolled_back = load.finish(stop=False)
    finally:
        load.kill()
    wait_until(lambda: collector.count() >= len(others), 60, "the others' messages")
    assert not expected.keys() & set(collector.ids()), "messages of an open transaction arrived"
    expected.update({written(cursor, exchange, n, "stays open"): ("stays open", n) for n in range(10, 20)})
    stays_open.commit()
    expected.update(others)
    assert len(others) >= ROWS and len(rolled_back) > ROWS / 50
    assert committed_in(database) == expected
    wait_until(lambda: collector.count() >= len(expected), 60, "all messages")
    assert running.stop() == 0
    arrived = collector.end()
    verdict = check(expected, arrived)
    assert verdict.well() and verdict.duplicates == 0, str(verdict)
    assert not rolled_back & set(arrived)
    assert database.query("SELECT state, count(*) FROM outbox.message_status GROUP BY state") == [("sent", len(expected))]


def latencies(database, exchange, collector, count=200, open_cursor=None):
    """Seconds from the end of a commit to the arrival, one message after the other about 100 a second."""
    writer = database.connect("writer")
    committed = {}
    for number in range(count):
        if open_cursor is not None and number % 20 == 0:
            # The open transaction goes on writing, so it keeps the relay from sleeping all the time.
            written(open_cursor, exchange, number, "open")
        with writer.cursor() as cursor:
            message_id = written(cursor, exchange, number, "modest")
        writer.commit()
        committed[message_id] = time.monotonic()
        time.sleep(0.01)       # the load, not a condition
    wait_until(lambda: committed.keys() <= set(collector.ids()), 20, "the modest load")
    arrived = dict(reversed(collector.arrived))
    return [arrived[message_id] - at for message_id, at in committed.items()]


def test_an_open_transaction_delays_others_by_20_ms_at_most(database, broker, relay, stack):
    exchange = broker.exchange()
    collector = Collector(stack.env["AMQP_URL"], broker.queue(exchange=exchange))
    running = relay()
    running.wait_log("broker_connected")
    without = statistics.median(latencies(database, exchange, collector))
    stays_open = database.connect("writer")
    with_open = latencies(database, exchange, collector, open_cursor=stays_open.cursor())
    # The machine is not ours alone: the median stands for the promise, and no message waits for the open one.
    assert statistics.median(with_open) <= without + 0.020
    assert max(with_open) < 2
    assert collector.count() == 400
    stays_open.commit()
    wait_until(lambda: collector.count() == 410, 10, "the open transaction's own messages")
    print(f"median {without * 1000:.2f} ms alone, {statistics.median(with_open) * 1000:.2f} ms beside an open transaction")


def test_rows_of_late_commits_are_not_skipped(database, broker, relay, stack):
    """Transactions that commit in the opposite order of their ids, while the relay's position moves on."""
    exchange = broker.exchange()
    collector = Collector(stack.env["AMQP_URL"], broker.queue(exchange=exchange))
    relay().wait_log("broker_connected")
    writers = [database.connect("writer") for _ in range(20)]
    expected = {}
    for number, writer in enumerate(writers):
        with writer.cursor() as cursor:
            expected[written(cursor, exchange, number, None)] = (None, number)
    for number, writer in enumerate(reversed(writers), 1):
        writer.commit()
        wait_until(lambda: collector.count() == number, 10, f"message {number}")
        sent = "SELECT count(*) FROM outbox.message_status WHERE state = 'sent'"
        wait_until(lambda: database.value(sent) == number, 10, f"mark of message {number}")
    verdict = check(expected, collector.end())
    assert verdict.well() and verdict.duplicates == 0, str(verdict)
