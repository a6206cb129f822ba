"""A standby is promoted: the relay, whose dsn names both hosts, goes on from what the new primary knows.

Whatever the new primary has arrives (L), in order (O); what it lacks is gone for everybody, though the relay may have
delivered it.  Messages are delivered twice only where the new primary has them and lacks their mark (D).
"""

import contextlib
import uuid
from collections import Counter

import psycopg2
import pytest

from checker import check
from clusters import Cluster
from conftest import wait_until
from workload import Collector, Load, committed_in

KEYS = 20
WINDOW = 200


class Pair:
    """A primary and its standby.  Everybody asks both hosts for the one that takes writes."""

    def __init__(self, binaries, stack):
        self.primary = Cluster(binaries)
        stack.callback(self.primary.remove)
        self.primary.start()
        self.primary.furnish()
        self.primary.execute("CREATE ROLE writer LOGIN")
        self.primary.execute("SELECT outbox.grant_writer('writer')")
        self.standby = Cluster(binaries, primary=self.primary)
        stack.callback(self.standby.remove)
        self.standby.start()
        self.roles = {"writer": "writer"}

    def dsn(self, role="postgres"):
        both = (self.primary, self.standby)
        return (f"host={','.join(str(c.directory) for c in both)} port={','.join(str(c.port) for c in both)} "
                f"dbname=postgres user={role} target_session_attrs=read-write")

    def query(self, sql, parameters=None):
        with contextlib.closing(psycopg2.connect(self.dsn())) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql, parameters)
                return cursor.fetchall() if cursor.description else None

    execute = query

    def value(self, sql, parameters=None):
        return self.query(sql, parameters)[0][0]

    def write(self, exchange, count, first):
        """One transaction each; sequences go on from ${first}.  What was written: {message id: (key, sequence)}."""
        written = {}
        with contextlib.closing(psycopg2.connect(self.dsn("writer"))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                for n in range(first, first + count):
                    message_id, key = str(uuid.uuid4()), f"key-{n % KEYS}"
                    cursor.execute("INSERT INTO outbox.message (message_id, exchange, routing_key, payload_json, ordering_key)"
                                   " VALUES (%s, %s, 'x', jsonb_build_object('sequence', %s), %s)", [message_id, exchange, n, key])
                    written[message_id] = (key, n)
        return written

    def pending(self):
        return self.value("SELECT pending FROM outbox.backlog()")

    def drained(self):
        wait_until(lambda: self.pending() == 0, 30, "an empty outbox")

    def streamed(self):
        """The standby has all that the primary has."""
        position = self.primary.execute("SELECT pg_current_wal_lsn()::text")[0][0]
        wait_until(lambda: self.standby.execute(f"SELECT pg_last_wal_replay_lsn() >= '{position}'")[0][0], 20, "the standby")

    def part(self):
        """From now on the standby gets nothing."""
        self.standby.execute("ALTER SYSTEM SET primary_conninfo = ''")
        self.standby.execute("SELECT pg_reload_conf()")
        wait_until(lambda: not self.standby.execute("SELECT FROM pg_stat_wal_receiver"), 20, "the end of streaming")

    def fail_over(self):
        self.primary.kill()
        assert self.standby.execute("SELECT pg_promote()") == [(True,)]


@pytest.fixture
def pair(session_stack):
    with contextlib.ExitStack() as stack:
        yield Pair(session_stack.env["POSTGRES_BIN"], stack)


@pytest.fixture
def place(pair, broker, stack):
    pair.exchange = broker.exchange()
    pair.collector = Collector(stack.env["AMQP_URL"], broker.queue(exchange=pair.exchange))
    yield pair
    pair.collector.end()


def config(place, **publish):
    return {"postgres": {"dsn": place.dsn("relay")}, "publish": {"window": WINDOW, "batch": WINDOW, **publish}}


@pytest.mark.parametrize("batch", [WINDOW, 10])
def test_a_standby_that_lost_the_last_of_the_log(place, relay, batch):
    """Ids and transaction ids of what is lost are given out again, also in an interval too large to be sorted."""
    running = relay(config=config(place, batch=batch))
    kept = place.write(place.exchange, 150, 0)
    place.drained()
    # The standby gets these, but neither their marks nor what comes after.
    running.pause()
    unmarked = place.write(place.exchange, 50, 150)
    place.streamed()
    place.part()
    running.resume()
    lost = place.write(place.exchange, 100, 200)
    place.drained()
    ids = "SELECT id FROM outbox.message WHERE message_id = ANY (%s::uuid[])"
    lost_ids = {row[0] for row in place.query(ids, [list(lost)])}
    lost_xids = {row[0] for row in place.query(ids.replace("id FROM", "xid::text FROM"), [list(lost)])}
    marks = place.value("SELECT max(seq) FROM outbox.sent")
    wait_until(lambda: place.collector.count() == 300, 20)
    place.fail_over()
    running.wait_log("leading", 30, count=2)
    assert int(running.log("leading")[1]["mark"]) < marks

    new = place.write(place.exchange, 150, 300)
    assert lost_ids & {row[0] for row in place.query(ids, [list(new)])}
    assert lost_xids & {row[0] for row in place.query(ids.replace("id FROM", "xid::text FROM"), [list(new)])}
    place.drained()
    assert running.stop() == 0
    here = kept | unmarked | new
    assert committed_in(place) == here
    arrived = place.collector.end()
    # What was lost had been delivered once, before; of the rest nothing is missing, and only the unmarked came again.
    verdict = check(here | lost, arrived)
    assert verdict.well(), verdict
    assert {message_id for message_id, times in Counter(arrived).items() if times > 1} == unmarked.keys()
    assert verdict.duplicates == len(unmarked)


def test_a_new_primary_whose_sequence_is_behind_its_rows(place, relay):
    """As after a sequence was restored or set back by hand: large intervals, too, find rows below all that was sent."""
    running = relay(config=config(place, batch=10))
    sent = place.write(place.exchange, 150, 0)
    place.drained()
    place.streamed()
    place.fail_over()
    place.execute("SELECT setval('outbox.message_id_seq', 1, false)")
    place.execute("CREATE OR REPLACE FUNCTION outbox.current_slot() RETURNS smallint LANGUAGE sql STABLE AS "
                  f"$$ SELECT {(place.value('SELECT outbox.current_slot()') + 1) % 3}::smallint $$")
    running.wait_log("leading", 30, count=2)
    running.pause()
    new = place.write(place.exchange, 100, 150)
    running.resume()
    newer = place.write(place.exchange, 20, 250)
    wait_until(lambda: place.collector.count() >= 270, 30, "all messages")
    place.drained()
    assert running.stop() == 0
    verdict = check(sent | new | newer, place.collector.end())
    assert verdict.well() and verdict.duplicates == 0, verdict


@pytest.mark.parametrize("way", ["killed", "stopped"])
def test_a_failover_under_load_loses_nothing_that_was_promised(place, relay, tmp_path, way):
    """With a synchronous standby every commit that was answered is there; the relay's marks do not wait for it."""
    place.primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
    place.primary.execute("SELECT pg_reload_conf()")
    running = relay(config=config(place))
    load = Load(place, place.exchange, 3, KEYS, 1, tmp_path, pause=0.02)
    try:
        wait_until(lambda: place.collector.count() > 500, 60, "some load")
        if way == "stopped":
            place.primary.stop()
            assert place.standby.execute("SELECT pg_promote()") == [(True,)]
        else:
            place.fail_over()
        running.wait_log("leading", 30, count=2)
        # The new primary waits for a standby no more than the old one did by default.
        place.execute("ALTER SYSTEM RESET synchronous_standby_names")
        place.execute("SELECT pg_reload_conf()")
        before = place.collector.count()
        wait_until(lambda: place.collector.count() > before + 500, 60, "load on the new primary")
        said, rolled_back = load.finish()
    finally:
        load.kill()
    place.drained()
    assert running.stop() == 0
    committed = committed_in(place)
    assert said.keys() <= committed.keys() and not rolled_back & committed.keys()
    arrived = place.collector.end()
    verdict = check(committed, arrived)
    assert verdict.well(), verdict
    # What a mark covers that the new primary has was delivered once.
    covered = place.query("SELECT m.message_id::text FROM outbox.message m JOIN outbox.sent s ON s.seq = %s WHERE "
                          "pg_visible_in_snapshot(m.xid, s.prev) OR m.id <= s.last_id AND pg_visible_in_snapshot(m.xid, s.target)",
                          [running.log("leading")[1]["mark"]])
    assert len(covered) > WINDOW
    times = Counter(arrived)
    assert all(times[message_id] == 1 for message_id, in covered)
    if way == "stopped":
        assert verdict.duplicates <= WINDOW
