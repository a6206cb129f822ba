"""A sleeping relay wakes for a row: by NOTIFY, by polling without the trigger, by polling alone, after a TRUNCATE."""

import os
import statistics
import time

import pytest

from conftest import wait_until
from workload import Collector

ADD = ("INSERT INTO outbox.message (exchange, routing_key, payload_text) VALUES (%s, 'order', 'x')"
       " RETURNING message_id::text")
EVERYTHING = "message, sent, delayed, dead, operation, migration"
ASLEEP = ("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND mode = 'ExclusiveLock'"
          " AND classid = 'outbox.message'::regclass AND objid <> 4294967295"
          " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())")


class Place:
    def __init__(self, database, broker, stack):
        self.database = database
        self.exchange = broker.exchange()
        self.collector = Collector(stack.env["AMQP_URL"], broker.queue(exchange=self.exchange))

    def asleep(self):
        wait_until(lambda: self.database.value(ASLEEP) > 0, 10, "a sleeping relay")

    def add(self, timeout=10):
        """One row; how long from its commit to its arrival, in seconds."""
        with self.database.cursor("owner") as cursor:
            cursor.execute(ADD, [self.exchange])
            message_id = cursor.fetchone()[0]
        committed = time.monotonic()
        wait_until(lambda: message_id in self.collector.ids(), timeout, "the row's arrival")
        return dict(self.collector.arrived)[message_id] - committed

    def sent(self):
        wait_until(lambda: self.database.value("SELECT pending FROM outbox.backlog()") == 0, 10, "all marked")


@pytest.fixture
def place(database, broker, stack):
    return Place(database, broker, stack)


def test_a_row_wakes_a_sleeping_relay_at_once(place, relay):
    relay(config={"wake": {"poll_interval": "30s"}}).wait_log("broker_connected")
    took = []
    for _ in range(10):
        place.asleep()
        took.append(place.add())
    # Without NOTIFY it would be half of the 0.9 s after which a sleeper looks by itself.
    assert statistics.median(took) < 0.1, took


@pytest.mark.parametrize("away", ["DROP TRIGGER wake ON outbox.message", "ALTER TABLE outbox.message ENABLE REPLICA TRIGGER wake"])
def test_without_the_trigger_it_polls_and_says_so(place, relay, database, away):
    database.execute(away)
    running = relay(config={"wake": {"poll_interval": "300ms"}})
    running.wait_log("broker_connected")
    assert "poll" in running.wait_log("wake_trigger_missing")["remedy"]
    assert max(place.add() for _ in range(5)) < 2
    assert place.database.value(ASLEEP) == 0


def test_poll_mode_needs_no_trigger_and_one_connection(place, relay, database):
    running = relay(config={"wake": {"mode": "poll", "poll_interval": "300ms"}})
    running.wait_log("broker_connected")
    assert max(place.add() for _ in range(5)) < 2
    assert not running.log("wake_trigger_missing") and place.database.value(ASLEEP) == 0
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s"
    assert database.value(sessions, [database.roles["relay"]], role="postgres") == 1


def test_a_leader_that_listens_holds_two_connections(place, relay, database):
    relay().wait_log("broker_connected")
    place.asleep()
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s"
    assert database.value(sessions, [database.roles["relay"]], role="postgres") == 2


@pytest.fixture
def start_as():
    """start_as(POLICY) for processes started from here on, until the test ends."""
    before = os.sched_getscheduler(0)
    yield lambda policy: os.sched_setscheduler(0, policy, os.sched_param(0))
    os.sched_setscheduler(0, before, os.sched_param(0))


@pytest.mark.parametrize("given, policy", [(os.SCHED_OTHER, os.SCHED_BATCH), (os.SCHED_IDLE, os.SCHED_IDLE)])
def test_it_takes_no_core_when_it_wakes_unless_it_was_given_another_policy(place, relay, start_as, given, policy):
    start_as(given)
    running = relay()
    running.wait_log("broker_connected")
    assert os.sched_getscheduler(running.pid) == policy
    place.add()


def test_everything_truncated_under_a_sleeping_relay_and_new_rows_still_go_out(place, relay, database):
    running = relay()
    running.wait_log("broker_connected")
    for _ in range(5):
        place.add()
    place.sent()
    for _ in range(3):
        place.asleep()
        tables = ", ".join("outbox." + name for name in EVERYTHING.split(", "))
        database.execute(f"TRUNCATE {tables} RESTART IDENTITY")
        for _ in range(3):
            place.add()
        place.sent()
    assert database.value("SELECT max(id) FROM outbox.message") == 3
    # And for the next one that starts, with or without marks.
    assert running.stop() == 0
    again = relay()
    again.wait_log("broker_connected")
    place.add()
    place.sent()
    place.asleep()
    database.execute("TRUNCATE outbox.message, outbox.sent RESTART IDENTITY")
    again.kill()
    relay().wait_log("broker_connected")
    place.add()
    place.sent()
    assert place.collector.count() == len(set(place.collector.ids())) == 5 + 9 + 2


def test_truncated_while_rows_wait_those_are_gone_and_later_ones_go_out(place, relay, database, stack):
    """Ids begin anew in the middle of a large interval."""
    database.execute("INSERT INTO outbox.message (exchange, routing_key, payload_text)"
                     " SELECT %s, 'order', 'x' FROM generate_series(1, 20000)", [place.exchange])
    running = relay(config={"publish": {"window": 1000, "batch": 100}})
    wait_until(lambda: place.collector.count() > 500, 20)
    database.execute("TRUNCATE outbox.message RESTART IDENTITY")
    for _ in range(5):
        place.add()
    place.sent()
    assert running.stop() == 0
    assert len(set(place.collector.ids())) == place.collector.count() < 20000
