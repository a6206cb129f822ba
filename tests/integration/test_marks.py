"""marks_sent: a message is sent once it is confirmed and that is recorded; before, whatever happens, it is pending."""

import pytest

from conftest import wait_until
from sockets import unread_by_server


def status(database, message_id):
    return database.query("SELECT state, sent_at FROM outbox.message_status WHERE message_id = %s", [message_id])[0]


def publish(database, exchange):
    return database.value("SELECT outbox.publish(%s, 'order', 'x')::text", [exchange], role="writer")


@pytest.fixture
def place(broker):
    exchange = broker.exchange()
    return exchange, broker.queue(exchange=exchange)


def hold_marks(database):
    """A session in whose transaction no mark can be recorded."""
    holder = database.connect()
    holder.cursor().execute("LOCK TABLE outbox.sent IN SHARE ROW EXCLUSIVE MODE")
    return holder


def test_marks_sent_when_confirmed_and_recorded(database, broker, relay, place):
    exchange, queue = place
    message_id = publish(database, exchange)
    assert status(database, message_id) == ("pending", None)
    before = database.value("SELECT clock_timestamp()")
    relay().wait_log("broker_connected")
    state, sent_at = wait_until(lambda: [s for s in [status(database, message_id)] if s[0] == "sent"], 10)[0]
    assert before < sent_at <= database.value("SELECT clock_timestamp()")
    assert [m.message_id for m in broker.take(queue, 1)] == [message_id]


def test_a_message_that_no_broker_confirmed_stays_pending(database, broker, relay, stack, place):
    exchange, queue = place
    running = relay()
    running.wait_log("broker_connected")
    stack.pause("rabbitmq")
    message_id = publish(database, exchange)
    # It lies in the stopped broker's socket.
    wait_until(lambda: unread_by_server(running.pid, int(stack.env["AMQP_PORT"])) > 100, 10)
    assert status(database, message_id) == ("pending", None)
    running.kill()
    assert status(database, message_id) == ("pending", None)
    stack.resume("rabbitmq")
    relay()
    wait_until(lambda: status(database, message_id)[0] == "sent", 20)
    assert message_id in {m.message_id for m in broker.take(queue, 1)}


def test_killed_between_confirm_and_mark_it_is_still_pending_and_sent_once_more(database, broker, relay, place):
    exchange, queue = place
    running = relay()
    running.wait_log("broker_connected")
    first = publish(database, exchange)
    wait_until(lambda: status(database, first)[0] == "sent", 10)
    holder = hold_marks(database)
    second = publish(database, exchange)
    assert [m.message_id for m in broker.take(queue, 2)] == [first, second]
    # The mark waits for the lock: so the broker's confirm has been read.
    waiting = wait_until(lambda: database.query(
        "SELECT l.pid FROM pg_locks l WHERE l.relation = 'outbox.sent'::regclass AND NOT l.granted"), 10)[0][0]
    assert status(database, second) == ("pending", None)
    running.kill()
    # Its server process waits on: without this end the mark, which is true, would still be recorded.
    database.execute("SELECT pg_terminate_backend(%s)", [waiting], role="postgres")
    wait_until(lambda: not database.query("SELECT FROM pg_stat_activity WHERE pid = %s", [waiting]), 10)
    holder.rollback()
    assert status(database, second) == ("pending", None)
    assert status(database, first)[0] == "sent"
    again = relay()
    state, sent_at = wait_until(lambda: [s for s in [status(database, second)] if s[0] == "sent"], 10)[0]
    assert sent_at is not None
    assert again.stop() == 0
    assert [m.message_id for m in broker.take(queue, 1)] == [second]
    assert broker.get(queue) is None


def test_a_mark_that_waits_is_recorded_when_it_can_be(database, broker, relay, place):
    exchange, queue = place
    running = relay()
    running.wait_log("broker_connected")
    holder = hold_marks(database)
    # In one transaction: marks and reads share a connection, so what is read meanwhile waits as well.
    ids = [row[0] for row in database.query("SELECT outbox.publish(%s, 'order', 'x')::text FROM generate_series(1, 3)",
                                            [exchange], role="writer")]
    assert [m.message_id for m in broker.take(queue, 3)] == ids
    assert {status(database, i)[0] for i in ids} == {"pending"}
    holder.rollback()
    wait_until(lambda: {status(database, i)[0] for i in ids} == {"sent"}, 10)
    assert running.stop() == 0
    assert broker.get(queue) is None
