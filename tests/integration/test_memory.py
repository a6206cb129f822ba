"""Memory: never more than docs/configuration.md says, tried in a cgroup of that size (else by watching the peak).

The relay is kept from sending (the broker is paused) until it holds all that it may, and then drains.
"""

import contextlib
import pathlib
import re
import uuid

import pytest

from conftest import ROOT, Relay, wait_until
from workload import collect

MIB = 1 << 20
FORMULA = re.compile(r"memory ≤ (\d+) MiB \+ ([\d.]+) KiB × window \+ ([\d.]+) × min\(max_bytes_in_flight, window × mean message\)"
                     r" \+ (\d+) × largest message")


def formula(window, max_bytes, message):
    """In bytes, as the documentation has it, for messages of one size."""
    base, of_window, of_bytes, of_largest = map(float, FORMULA.search((ROOT / "docs/configuration.md").read_text()).groups())
    return int(base * MIB + of_window * 1024 * window + of_bytes * min(max_bytes, window * message) + of_largest * message)


class Group:
    """A cgroup with a limit; of version 1 or 2."""

    def __init__(self, limit):
        name = f"outbox-relay-{uuid.uuid4().hex[:8]}"
        unified = pathlib.Path("/sys/fs/cgroup/cgroup.controllers").exists()
        self.path = pathlib.Path("/sys/fs/cgroup", *([] if unified else ["memory"]), name)
        self.path.mkdir()
        try:
            names = ("memory.max", "memory.swap.max") if unified else ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
            (self.path / names[0]).write_text(str(limit))
            if (self.path / names[1]).exists():
                (self.path / names[1]).write_text("0" if unified else str(limit))
            self.peak_file = self.path / ("memory.peak" if unified else "memory.max_usage_in_bytes")
            self.procs = self.path / "cgroup.procs"
        except OSError:
            self.path.rmdir()
            raise

    def peak(self):
        return int(self.peak_file.read_text()) if self.peak_file.exists() else None

    def remove(self):
        wait_until(lambda: self.procs.read_text() == "", 10)
        self.path.rmdir()


@contextlib.contextmanager
def limited(bytes_):
    """The cgroup, or None where this host lets nobody make one: then the peak alone is looked at."""
    try:
        group = Group(bytes_)
    except OSError:
        group = None
    yield group
    if group is not None:
        group.remove()


def memory(relay, key):
    return int(re.search(rf"^{key}:\s+(\d+) kB", pathlib.Path(f"/proc/{relay.pid}/status").read_text(), re.MULTILINE)[1]) * 1024


def settled(relay):
    """Its memory has not grown for a while: it holds what it may."""
    readings = []

    def same():
        readings.append(memory(relay, "VmRSS"))
        return len(readings) > 15 and len(set(readings[-15:])) == 1
    return same


WRITE = """
    INSERT INTO outbox.message (exchange, routing_key, payload, ordering_key, headers)
    SELECT '', %(queue)s, %(body)s, CASE WHEN %(keys)s > 0 THEN 'key-' || n %% %(keys)s END, %(headers)s
    FROM generate_series(1, %(count)s) AS n"""
SETUPS = {
    # The default window, full, each message with a key and headers.
    "small": {"count": 12000, "body": 300, "keys": 5000, "headers": 60, "window": 10000, "max_bytes": 64 * MIB},
    # Bodies of 10 MiB, together more than may be held; and each of them more than may be.
    "large": {"count": 12, "body": 10 * MIB, "keys": 0, "headers": 0, "window": 10000, "max_bytes": 64 * MIB},
    "above": {"count": 4, "body": 10 * MIB, "keys": 2, "headers": 0, "window": 100, "max_bytes": 1 * MIB},
    # Bodies that share a fetch, and what JSON makes of headers while they are read.
    "middle": {"count": 300, "body": 100000, "keys": 10, "headers": 0, "window": 1000, "max_bytes": 8 * MIB},
    "headers": {"count": 100, "body": 10, "keys": 10, "headers": 12000, "window": 100, "max_bytes": MIB // 2},
}


@pytest.mark.parametrize("name", SETUPS)
def test_memory_stays_below_the_documented_formula(database, broker, relay, stack, name):
    given = SETUPS[name]
    queue = broker.queue(kind="classic")
    # Twelve bytes a header: many small ones cost the most.
    headers = "{" + ", ".join(f'"{n:05}": 1' for n in range(given["headers"] // 12)) + "}" if given["headers"] else None
    database.execute("ALTER TABLE outbox.message ALTER COLUMN payload SET STORAGE EXTERNAL")
    for partition in range(3):
        database.execute(f"ALTER TABLE outbox.message_{partition} ALTER COLUMN payload SET STORAGE EXTERNAL")
    database.execute(WRITE, {"queue": queue, "body": b"x" * given["body"], "keys": given["keys"], "headers": headers,
                             "count": given["count"]})
    limit = formula(given["window"], given["max_bytes"], given["body"] + given["headers"])
    config = {"publish": {"window": given["window"], "max_bytes_in_flight": given["max_bytes"], "batch": min(1000, given["window"])},
              "log": {"level": "info"}}
    with limited(limit) as group:
        arguments, env, directory = relay.prepare(("run",), config, None)
        stack.pause("rabbitmq")
        running = Relay(arguments, env, directory)
        if group is not None:
            group.procs.write_text(str(running.pid))
        relay.started.append(running)
        running.wait_log("leading")
        wait_until(settled(running), 30, "a relay that holds all it may")
        stack.resume("rabbitmq")
        running.wait_log("broker_connected", 30)
        ids = {row[0] for row in database.query("SELECT message_id::text FROM outbox.message")}
        arrived = collect(stack.env["AMQP_URL"], queue, ids, timeout=60)
        assert set(arrived) == ids
        peak = memory(running, "VmHWM")
        charged = group and group.peak()
        print(f"{name}: limit {limit / MIB:.1f} MiB, peak {peak / MIB:.1f} MiB resident, charged to the cgroup:"
              f" {charged / MIB:.1f} MiB" if charged else f"{name}: limit {limit / MIB:.1f} MiB, peak {peak / MIB:.1f} MiB; no cgroup here")
        assert peak <= limit
        assert running.alive() and running.stop() == 0
