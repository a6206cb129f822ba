"""Two relays on one outbox: one leads; the other takes over from a dead one, a stopped one, and one that goes.

What is stopped and goes on again has missed its own end: it publishes nothing more, steps down and says so.
"""

import random
import time

import pytest

from checker import check
from conftest import wait_until
from sockets import connections, unread_by_server
from workload import Collector, committed_in

CONFIG = {"publish": {"window": 1000, "batch": 200}}
ADD = ("INSERT INTO outbox.message (exchange, routing_key, payload_json, ordering_key)"
       " SELECT %s, 'order', jsonb_build_object('sequence', %s::bigint + n), 'key-' || n %% 50"
       " FROM generate_series(1, %s) n")


class Place:
    def __init__(self, database, broker, relay, stack, config=CONFIG):
        self.database = database
        self.stack = stack
        self.exchange = broker.exchange()
        self.queue = broker.queue(exchange=self.exchange)
        self.collector = None
        self.written = 0
        self.leader = relay(config=config)
        self.leader.wait_log("broker_connected")
        self.standby = relay(config=config)
        self.standby.wait_log("standby")

    def collect(self):
        self.collector = Collector(self.stack.env["AMQP_URL"], self.queue)

    def add(self, count):
        self.database.execute(ADD, [self.exchange, self.written, count], role="writer")
        self.written += count

    def drained(self, timeout=60):
        wait_until(lambda: self.database.value("SELECT pending FROM outbox.backlog()") == 0, timeout, "an empty outbox")

    def amqp(self, relay):
        return connections(relay.pid, int(self.stack.env["AMQP_PORT"]))

    def judge(self, duplicates):
        """Everything has arrived, in order, with at most so many duplicates."""
        committed = committed_in(self.database)
        assert len(committed) == self.written
        wait_until(lambda: len(set(self.collector.ids())) >= self.written, 30, "all messages")
        verdict = check(committed, self.collector.end())
        assert verdict.well() and verdict.duplicates <= duplicates, str(verdict)
        assert self.database.query("SELECT DISTINCT state FROM outbox.message_status") == [("sent",)]


@pytest.fixture
def place(database, broker, relay, stack):
    return Place(database, broker, relay, stack)


def took_over(place, since, within):
    place.standby.wait_log("leading", within + 5)
    took = time.monotonic() - since
    assert took < within, f"takeover took {took:.1f} s"
    print(f"takeover after {took:.2f} s")


def test_only_one_leads(place):
    assert not place.standby.log("leading") and not place.amqp(place.standby)
    place.collect()
    place.add(1000)
    place.drained()
    assert not place.standby.log("leading")
    place.judge(duplicates=0)


def test_takeover_within_3_s_of_kill(place):
    place.collect()
    place.add(20000)
    wait_until(lambda: place.collector.count() > 500, 20, "the drain has begun")
    place.leader.kill()
    took_over(place, time.monotonic(), within=3)
    place.drained()
    place.judge(duplicates=1000)


def test_takeover_within_15_s_of_stop_and_the_stopped_one_publishes_nothing_more(place):
    place.collect()
    place.add(50000)
    wait_until(lambda: place.collector.count() > 500, 20, "the drain has begun")
    place.leader.pause()
    since = time.monotonic()
    assert place.database.value("SELECT pending FROM outbox.backlog()") > 0, "stopped in the middle of the drain"
    took_over(place, since, within=15)
    place.drained()
    wait_until(lambda: len(set(place.collector.ids())) == place.written, 30, "all messages")
    before = place.collector.count()
    place.leader.resume()
    # It has said that it stands by only after whatever it would still have sent.
    place.leader.wait_log("stepped_down")
    place.leader.wait_log("standby")
    wait_until(lambda: not place.amqp(place.leader), 5, "its connection to the broker is gone")
    place.add(100)
    place.drained()
    wait_until(lambda: len(set(place.collector.ids())) == place.written, 30, "the new messages")
    assert place.collector.count() == before + 100
    place.judge(duplicates=1000)
    assert len(place.leader.log("leading")) == 1


def fill_socket(place):
    """Messages for a stopped broker, more than its socket takes: the leader waits with the rest."""
    place.stack.pause("rabbitmq")
    place.database.execute("INSERT INTO outbox.message (exchange, routing_key, payload_text)"
                           " SELECT %s, 'big', repeat('x', 65536) FROM generate_series(1, 500)", [place.exchange])
    place.written += 500
    unread = [0]

    def full():
        unread.append(unread_by_server(place.leader.pid, int(place.stack.env["AMQP_PORT"])))
        return unread[-1] > 100_000 and unread[-1] == unread[-4:][0]

    wait_until(full, 20, "the broker's socket is full")


def test_stopped_with_bytes_for_the_broker_it_sends_none_of_them(place):
    """The socket to the broker is full when it is stopped: what waits in its own buffer must never leave."""
    fill_socket(place)
    place.leader.pause()
    since = time.monotonic()
    place.stack.resume("rabbitmq")
    place.collect()
    took_over(place, since, within=15)
    place.drained()
    wait_until(lambda: len(set(place.collector.ids())) == place.written, 30, "all messages")
    before = place.collector.count()
    place.leader.resume()
    place.leader.wait_log("stepped_down")
    place.leader.wait_log("standby")
    assert not place.amqp(place.leader)
    place.add(1)
    place.drained()
    wait_until(lambda: len(set(place.collector.ids())) == place.written, 30, "the new message")
    assert place.collector.count() == before + 1
    place.judge(duplicates=1000)


def test_nothing_leaves_once_the_lease_is_over(place):
    """A server that answers nobody for 8 s: another relay may lead by then, so the broker's connection is cut."""
    fill_socket(place)
    place.stack.pause("postgres")
    since = time.monotonic()
    assert place.amqp(place.leader)
    wait_until(lambda: not place.amqp(place.leader), 9, "the end of the connection to the broker")
    # The last proof of its lead may have been 2 s old.
    assert time.monotonic() - since > 4
    place.stack.resume("rabbitmq")
    assert not place.amqp(place.leader) and not place.amqp(place.standby)
    place.stack.resume("postgres")
    place.collect()
    place.drained()
    place.judge(duplicates=1000)


def test_takeover_from_one_stopped_in_the_middle_of_a_fetch(database, broker, relay, stack):
    """Its server process hangs in the write to a Unix socket that nobody reads: no timeout ends that."""
    place = Place(database, broker, relay, stack, config={"publish": {"window": 1000, "batch": 100}})
    stack.pause("rabbitmq")
    place.add(300)
    database.execute("INSERT INTO outbox.message (exchange, routing_key, payload_text)"
                     " SELECT %s, 'big', repeat(md5(n::text), 32768) FROM generate_series(1, 100) n",
                     [place.exchange], role="writer")
    stack.resume("rabbitmq")
    choice = random.Random(3)

    def stuck():
        place.leader.pause()
        seen = [database.query("SELECT pid, wait_event, query_start FROM pg_stat_activity WHERE usename = %s"
                               " AND wait_event = 'ClientWrite'", [database.roles["relay"]], role="postgres")
                for _ in range(2)]
        if seen[0] and seen[0] == seen[1]:
            return True
        place.leader.resume()
        time.sleep(choice.uniform(0, 0.003))       # another moment
        if database.value("SELECT pending FROM outbox.backlog()") == 0:
            place.add(1)
            database.execute("INSERT INTO outbox.message (exchange, routing_key, payload_text)"
                             " SELECT %s, 'big', repeat(md5(n::text), 32768) FROM generate_series(1, 100) n",
                             [place.exchange], role="writer")
        return False

    wait_until(stuck, 30, "a server process in ClientWrite")
    took_over(place, time.monotonic(), within=15)
    assert place.standby.log("stuck_leader_ended")
    place.drained()
    place.leader.resume()
    place.leader.wait_log("stepped_down")
    place.leader.wait_log("standby")
    total = database.value("SELECT count(*) FROM outbox.message")
    place.collect()
    wait_until(lambda: len(set(place.collector.ids())) == total, 60, "all messages")
    verdict = check(committed_in(database), place.collector.end())
    assert verdict.well() and verdict.duplicates <= 1000, str(verdict)


def test_sigterm_hands_over_without_a_duplicate(place):
    place.collect()
    place.add(20000)
    wait_until(lambda: place.collector.count() > 500, 20, "the drain has begun")
    since = time.monotonic()
    place.leader.terminate()
    assert place.leader.wait(5) == 0
    assert database_pending(place) > 0, "it went in the middle of the drain"
    took_over(place, since, within=5)
    place.drained()
    place.judge(duplicates=0)


def database_pending(place):
    return place.database.value("SELECT pending FROM outbox.backlog()")


def stop_in_flight(place):
    """SIGTERM while the broker confirms nothing."""
    place.stack.pause("rabbitmq")
    place.add(100)
    wait_until(lambda: unread_by_server(place.leader.pid, int(place.stack.env["AMQP_PORT"])) > 1000, 20)
    place.leader.terminate()
    place.leader.wait_log("stopping")


def test_sigterm_ends_within_5_s_though_nothing_is_confirmed(place):
    stop_in_flight(place)
    since = time.monotonic()
    assert place.leader.wait(8) == 0
    assert time.monotonic() - since < 5
    place.stack.resume("rabbitmq")
    place.collect()
    place.drained()
    place.judge(duplicates=1000)


def test_a_second_sigterm_ends_at_once(place):
    stop_in_flight(place)
    assert place.leader.alive()
    since = time.monotonic()
    place.leader.terminate()
    place.leader.wait(5)
    assert time.monotonic() - since < 1.5
    assert place.leader.log("stopping_at_once")
    place.stack.resume("rabbitmq")
    place.collect()
    place.drained()
    place.judge(duplicates=1000)
