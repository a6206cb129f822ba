"""What the settings of postgres and publish promise: flushed first, pipelined, few bytes in flight."""

import contextlib
import pathlib
import re

import psycopg2
import pytest

from conftest import wait_until


@pytest.fixture
def lazy_wal_writer(stack, database):
    """What commits without waiting is flushed up to ten seconds later, unless somebody else flushes."""
    def setting(sql):
        with contextlib.closing(psycopg2.connect(database.server_dsn())) as server:
            server.autocommit = True
            server.cursor().execute(sql)
            server.cursor().execute("SELECT pg_reload_conf()")
    setting("ALTER SYSTEM SET wal_writer_delay = '10s'")
    yield
    setting("ALTER SYSTEM RESET wal_writer_delay")


def unflushed(database, connection, queue):
    """Commit a row without waiting for the disk; its place in the WAL."""
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")
        cursor.execute("INSERT INTO outbox.message (routing_key, payload_text) VALUES (%s, 'x')", [queue])
        cursor.execute("SELECT pg_current_wal_insert_lsn()")
        return cursor.fetchone()[0]


def flushed(database, lsn):
    return database.value("SELECT pg_current_wal_flush_lsn() >= %s::pg_lsn", [lsn], role="postgres")


@pytest.mark.parametrize("wait", [True, False])
def test_wait_for_flush_publishes_only_what_is_on_disk(database, broker, relay, lazy_wal_writer, wait):
    queue = broker.queue(kind="classic")
    running = relay(config={"postgres": {"wait_for_flush": wait}})
    running.wait_log("broker_connected")
    writer = database.connect("owner", autocommit=True)
    early = held = 0
    for _ in range(4):
        lsn = unflushed(database, writer, queue)
        for _ in range(60):
            # In this order: what is on disk a moment later was perhaps not when the message came.
            arrived = broker.count(queue)
            if flushed(database, lsn):
                break
            if arrived:
                early += 1
                break
            held += 1
        # A commit that waits for the disk takes all before it along.
        database.execute("CREATE TABLE IF NOT EXISTS flush_now (n int); INSERT INTO flush_now VALUES (1)")
        assert flushed(database, lsn)
        broker.take(queue, 1)
    if wait:
        assert early == 0 and held > 60
    else:
        assert early > 0
    assert running.stop() == 0


@pytest.mark.parametrize("ordering", ["strict", "pipelined"])
def test_one_key_arrives_in_order(database, broker, relay, ordering):
    queue = broker.queue()
    database.execute("INSERT INTO outbox.message (routing_key, payload_text, ordering_key)"
                     " SELECT %s, n::text, 'one' FROM generate_series(1, 2000) n", [queue])
    done = relay.command("run", "--until-empty", config={"publish": {"ordering": ordering, "batch": 100, "window": 500}})
    assert done.returncode == 0, done.stderr
    assert [int(m.body) for m in broker.take(queue, 2000)] == list(range(1, 2001))


def test_bytes_in_flight_are_bounded_while_the_broker_stands_still(database, broker, relay, stack):
    queue = broker.queue(kind="classic")
    size, rows = 256 << 10, 200
    database.execute("INSERT INTO outbox.message (routing_key, payload) SELECT %s, decode(repeat('ab', %s), 'hex')"
                     " FROM generate_series(1, %s)", [queue, size, rows])
    stack.pause("rabbitmq")
    running = relay(config={"publish": {"max_bytes_in_flight": "1MiB"}})
    running.wait_log("leading")
    wait_until(lambda: database.value(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = %s AND state = 'idle'", [database.roles["relay"]],
        role="postgres") >= 1, 10)
    stack.resume("rabbitmq")
    assert {len(m.body) for m in broker.take(queue, rows, timeout=60)} == {size}
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", pathlib.Path(f"/proc/{running.pid}/status").read_text())[1])
    # 50 MiB went through; a page of 1 MiB and one row more at a time.
    assert peak < 30 << 10
    assert running.stop() == 0
