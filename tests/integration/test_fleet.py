"""Many relays on one Postgres server and one broker, and a rolling restart of two."""

import re
import sys
import threading
import time

import pytest

import sqldb
from checker import check
from conftest import ROOT, wait_until
from workload import Collector, committed_in

sys.path.insert(0, str(ROOT / "tests/chaos"))

from proxy import Proxy    # noqa: E402

FLEET = 50


class Fleet:
    """A relay for each of FLEET schemas; all connections of all relays pass two doors, where they are counted."""

    def __init__(self, database, stack, broker, relay, proxy):
        self.database = database
        self.stack = stack
        self.proxy = proxy
        self.exchange = broker.exchange()
        self.queue = broker.queue(exchange=self.exchange)
        self.schemas = [f"fleet_{number}" for number in range(FLEET)]
        for schema in self.schemas:
            for file in sqldb.files("up"):
                database.execute(re.sub(r"\boutbox\b", schema, file.read_text()))
        doors = {"postgres": stack.env["PGPORT"], "rabbitmq": stack.env["AMQP_PORT"]}
        ports = {door: proxy.listen(door, port) for door, port in doors.items()}
        self.relays = [relay(config={
            "postgres": {"dsn": database.dsn("owner", tcp=True, port=ports["postgres"]), "schema": schema},
            "rabbitmq": {"urls": [f"amqp://guest:guest@127.0.0.1:{ports['rabbitmq']}/%2f"]}}) for schema in self.schemas]

    def sessions(self):
        """Of the relays, by schema."""
        return dict(self.database.query("SELECT application_name, count(*) FROM pg_stat_activity"
                                        " WHERE application_name LIKE 'outbox-relay fleet%%' GROUP BY 1", role="postgres"))

    def publish(self, text):
        """One message for each relay."""
        for schema in self.schemas:
            self.database.query(f"SELECT {schema}.publish(%s, 'k', %s)", [self.exchange, f"{schema} {text}"])

    def told(self, event):
        """How often each relay has said it."""
        return [len(relay.log(event)) for relay in self.relays]

    def all_told(self, event, before=None):
        """More often than before, or at all."""
        return all(now > then for now, then in zip(self.told(event), before or [0] * FLEET))


class Door:
    """How many came in, sampled every few milliseconds from now on."""

    def __init__(self, proxy, name):
        self.samples = [(time.monotonic(), proxy.accepted(name))]
        self.most = 0
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.run, args=(proxy, name), daemon=True)
        self.thread.start()

    def run(self, proxy, name):
        while not self.ending.wait(0.01):
            self.samples.append((time.monotonic(), proxy.accepted(name)))
            self.most = max(self.most, proxy.connections(name))

    def end(self):
        self.ending.set()
        self.thread.join()

    def between(self, start, end):
        """Connections accepted then."""
        return self.count_at(end) - self.count_at(start)

    def count_at(self, moment):
        """By then, as the last sample before it says."""
        return max(count for at, count in self.samples if at <= max(moment, self.samples[0][0]))

    def peak(self, start, end, window):
        """The most in any window of that length."""
        inside = [(at, count) for at, count in self.samples if start <= at <= end]
        first = most = 0
        for at, count in inside:
            while at - inside[first][0] > window:
                first += 1
            most = max(most, count - inside[first][1])
        return most


@pytest.fixture
def fleet(empty_database, stack, broker, relay):
    proxy = Proxy()
    yield Fleet(empty_database, stack, broker, relay, proxy)
    proxy.end()


def restart(fleet, server, event, away):
    """Away for so many seconds; returns the door and when it had gone, was there again, and all were well again."""
    door = Door(fleet.proxy, server)
    told = fleet.told(event)
    fleet.stack.kill(server)
    # Not from before: a kill of RabbitMQ may wait for its list of queues.
    went = time.monotonic()
    wait_until(lambda: time.monotonic() > went + away, away + 1)
    fleet.stack.start(server)
    back = time.monotonic()
    wait_until(lambda: fleet.all_told(event, told), 60, f"{event} of all")
    well = time.monotonic()
    door.end()
    print(f"{server}: away {back - went:.1f} s, all well {well - back:.1f} s later; {door.between(went, back)} attempts meanwhile,"
          f" {door.between(back, well)} afterwards, at most {door.peak(went, well, 0.1)} in 100 ms and {door.most} at a time")
    return door, went, back, well


@pytest.mark.time_limit(180)
def test_fifty_relays_come_back_after_a_restart_of_each_server_without_a_stampede(fleet, broker):
    wait_until(lambda: fleet.all_told("leading") and fleet.all_told("broker_connected"), 60, "all to lead")
    fleet.publish("first")
    broker.take(fleet.queue, FLEET)
    wait_until(lambda: len(fleet.sessions()) == FLEET and set(fleet.sessions().values()) == {2}, 10, "two sessions each")
    assert fleet.proxy.connections("rabbitmq") == FLEET

    for server, event, budget in (("postgres", "leading", 2 * FLEET), ("rabbitmq", "broker_connected", FLEET)):
        broker.connection.close()
        broker.connection = None
        fleet.database.cached.clear()
        door, went, back, well = restart(fleet, server, event, away=2)
        # Each tries ever more seldom, and not all at once.
        assert door.between(went, back) <= FLEET * (6 + (back - went) / 5)
        assert door.peak(went + 1, well, 0.1) <= FLEET * 0.8    # in step they would be 50; on a quiet machine they are about 10
        assert door.most <= budget
        assert well - back < 12
        fleet.publish(server)
        assert len({m.body for m in broker.take(fleet.queue, FLEET)}) == FLEET
    assert broker.get(fleet.queue) is None
    assert all(count <= 2 for count in fleet.sessions().values())


@pytest.mark.time_limit(90)
def test_a_rolling_restart_has_a_gap_of_a_second_and_a_half_at_most_and_no_duplicate(database, broker, relay, stack):
    exchange = broker.exchange()
    queue = broker.queue(exchange=exchange)
    leader, standby = relay(), None
    leader.wait_log("broker_connected")
    collector = Collector(stack.env["AMQP_URL"], queue)
    ending = threading.Event()

    def write():
        connection = database.connect("writer", autocommit=True)
        with connection.cursor() as cursor:
            number = 0
            while not ending.wait(0.005):
                cursor.execute("INSERT INTO outbox.message (exchange, routing_key, payload_json, ordering_key)"
                               " VALUES (%s, 'order', jsonb_build_object('sequence', %s), %s)",
                               [exchange, number, f"key-{number % 20}"])
                number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        wait_until(lambda: collector.count() > 50)
        # The standby first, then the leader, as docs/upgrading.md says; three times, since tries are spread by chance.
        for _ in range(3):
            standby = relay()
            standby.wait_log("standby")
            before = collector.count()
            wait_until(lambda: collector.count() > before + 50)
            assert leader.stop() == 0
            standby.wait_log("broker_connected")
            before = collector.count()
            wait_until(lambda: collector.count() > before + 50)
            leader = standby
    finally:
        ending.set()
        writer.join()
    wait_until(lambda: database.value("SELECT pending FROM outbox.backlog()") == 0, 20, "an empty outbox")
    assert leader.stop() == 0
    verdict = check(committed_in(database), collector.end())
    assert verdict.well() and verdict.duplicates == 0, str(verdict)
    times = [at for _, at in collector.arrived]
    gaps = sorted((later - earlier for earlier, later in zip(times, times[1:])), reverse=True)
    print("longest gaps:", ", ".join(f"{gap:.2f} s" for gap in gaps[:3]))
    assert gaps[0] <= 1.5
