"""kill -9 of the relay, of Postgres and of RabbitMQ under load: L, P, O hold, and D: at most a window of duplicates each.

What arrives is looked at in the end: it lies in one quorum queue in the order of its publication.  After each kill
a marker goes into that queue, so that the duplicates of each kill can be told apart.
"""

import random
import time

import pika
import pytest

from checker import MARKER, arrivals_by_section, check, duplicates_by_section
from conftest import wait_until
from workload import Load, collect, committed_in

WINDOW = 1000
CONFIG = {"publish": {"window": WINDOW, "batch": 200}}
KEYS = 200


def mark(broker, queue, number):
    """A marker behind everything that is in the queue."""
    def published():
        try:
            channel = broker.channel()
            channel.confirm_delivery()
            channel.basic_publish("", queue, b"", pika.BasicProperties(message_id=f"{MARKER}{number}", delivery_mode=2),
                                  mandatory=True)
            return True
        # A queue has no leader for a moment after its broker came back.
        except pika.exceptions.AMQPError:
            return False
    wait_until(published, 30, "the queue takes a marker")


class Place:
    def __init__(self, database, broker, tmp_path, seed, writers=4, pause=0.02):
        self.database = database
        self.broker = broker
        self.exchange = broker.exchange()
        self.queue = broker.queue(exchange=self.exchange)
        self.random = random.Random(seed)
        self.load = Load(database, self.exchange, writers, KEYS, seed, tmp_path, pause=pause)
        self.kills = 0

    def after_kill(self):
        self.kills += 1
        mark(self.broker, self.queue, self.kills)

    def sent(self):
        return self.database.value("SELECT coalesce(sum(messages), 0) FROM outbox.sent")

    def judge(self, running):
        """Ends the load, lets the relay drain, compares.  Nobody helps (V)."""
        said, rolled_back = self.load.finish()
        committed = committed_in(self.database)
        # An answer to a commit may have been lost, a commit that was answered never.
        assert said.keys() <= committed.keys() and not rolled_back & committed.keys()
        wait_until(lambda: self.database.value("SELECT pending + delayed FROM outbox.backlog()") == 0, 60, "an empty outbox")
        assert running.stop() == 0
        arrived = collect(self.broker.url, self.queue, committed)
        verdict = check(committed, arrived)
        duplicates = duplicates_by_section(arrived)
        print(f"{len(committed)} committed, {self.kills} kills, duplicates of each {duplicates[1:]}")
        assert verdict.well(), str(verdict)
        assert duplicates[0] == 0 and max(duplicates) <= WINDOW
        # Under load indeed: the kills did not all hit a relay that had nothing to do.
        busy = sum(count > 0 for count in arrivals_by_section(arrived))
        assert busy > self.kills / 2 and len(committed) > 20 * self.kills
        states = self.database.query("SELECT DISTINCT state FROM outbox.message_status")
        assert states == [("sent",)]
        return arrived


@pytest.mark.time_limit(300)
def test_relay_killed_at_50_random_moments(database, broker, relay, tmp_path):
    place = Place(database, broker, tmp_path, seed=50)
    try:
        running = relay(config=CONFIG)
        running.wait_log("broker_connected")
        for _ in range(50):
            time.sleep(place.random.uniform(0, 0.8))       # the random moment
            running.kill()
            place.after_kill()
            running = relay(config=CONFIG)
        place.judge(running)
    finally:
        place.load.kill()


@pytest.mark.time_limit(300)
def test_relay_killed_with_a_full_window_of_unrecorded_messages(database, broker, relay, tmp_path):
    """The worst moment: everything confirmed, nothing recorded."""
    place = Place(database, broker, tmp_path, seed=51, writers=0)
    # A read waits behind the mark, so one read fetches all.
    full = {"publish": {"window": WINDOW, "batch": WINDOW}}
    waits = "SELECT l.pid FROM pg_locks l WHERE l.relation = 'outbox.sent'::regclass AND NOT l.granted"
    lives = "SELECT FROM pg_stat_activity WHERE pid = %s"
    for _ in range(3):
        running = relay(config=full)
        running.wait_log("broker_connected")
        wait_until(lambda: database.value("SELECT pending FROM outbox.backlog()") == 0, 20)
        holder = database.connect()
        holder.cursor().execute("LOCK TABLE outbox.sent IN SHARE ROW EXCLUSIVE MODE")
        before = broker.count(place.queue)
        database.execute("INSERT INTO outbox.message (exchange, routing_key, payload_json)"
                         " SELECT %s, 'order', '{}' FROM generate_series(1, 2000)", [place.exchange], role="writer")
        wait_until(lambda: broker.count(place.queue) >= before + WINDOW / 2, 8, "half a window in the queue")
        [(waiting,)] = wait_until(lambda: database.query(waits), 8, "a mark that waits")
        running.kill()
        # Its server process waits on: without this end the mark, which is true, would still be recorded.
        database.execute("SELECT pg_terminate_backend(%s)", [waiting], role="postgres")
        wait_until(lambda: not database.query(lives, [waiting]), 10)
        place.after_kill()
        holder.rollback()
    arrived = place.judge(relay(config=full))
    assert min(duplicates_by_section(arrived)[1:]) >= WINDOW / 2, "the kills hit a full window"


@pytest.mark.time_limit(300)
def test_postgres_killed_10_times(database, broker, relay, stack, tmp_path):
    place = Place(database, broker, tmp_path, seed=10)
    running = relay(config=CONFIG)
    try:
        running.wait_log("broker_connected")
        for number in range(1, 11):
            before = place.sent()
            wait_until(lambda: place.sent() > before, 20, "progress")
            time.sleep(place.random.uniform(0, 0.3))       # the random moment
            stack.kill("postgres")
            database.cached.clear()
            running.wait_log("stepped_down", 20, count=number)
            place.after_kill()
            stack.start("postgres")
            running.wait_log("leading", 30, count=number + 1)
        place.judge(running)
    finally:
        place.load.kill()


@pytest.mark.time_limit(300)
def test_rabbitmq_killed_5_times(database, broker, relay, stack, tmp_path):
    place = Place(database, broker, tmp_path, seed=5, pause=0.05)
    running = relay(config=CONFIG)
    try:
        for number in range(1, 6):
            running.wait_log("broker_connected", 30, count=number)
            before = place.sent()
            wait_until(lambda: place.sent() > before, 30, "progress")
            time.sleep(place.random.uniform(0, 0.3))       # the random moment
            stack.kill("rabbitmq")
            stack.start("rabbitmq")
            # One of some hundred kills takes a binding along that is a second old (3.10): what comes meanwhile is put aside.
            broker.bind_again()
            place.after_kill()
        place.judge(running)
    finally:
        place.load.kill()
