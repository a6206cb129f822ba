"""The source driven by hand (source_driver.c), and what must hold of the messages that wait.
"""

import json
import os
import queue
import subprocess
import threading

import pytest

from conftest import ROOT

BINARY = (ROOT / os.environ.get("RELAY", "build/outbox-relay")).resolve().parent / "tests/integration/source_driver"

# Of each key's holding rows, that with the least id does not wait for its key, unless a dead one holds it.
STUCK = """
    SELECT d.ordering_key, d.id FROM outbox.delayed AS d
    WHERE d.waits_for = 'key'
        AND NOT EXISTS (SELECT FROM outbox.delayed AS e WHERE e.ordering_key = d.ordering_key AND e.waits_for <> 'schedule' AND e.id < d.id)
        AND NOT EXISTS (SELECT FROM outbox.dead AS x WHERE x.ordering_key = d.ordering_key AND x.holds_key)"""

# A message is in one place, and each way of waiting has its kind of time.
ASTRAY = """
    SELECT d.id FROM outbox.delayed AS d WHERE EXISTS (SELECT FROM outbox.dead AS x WHERE x.id = d.id)
        OR (d.next_attempt_at = 'infinity') <> (d.waits_for IN ('exchange', 'queue', 'key'))
        OR (d.waits_for = 'key' AND d.ordering_key IS NULL)
        OR jsonb_array_length(d.history) > 20"""


class Source:
    def __init__(self, dsn, *arguments):
        assert BINARY.exists(), "make drivers"
        self.process = subprocess.Popen([BINARY, *map(str, arguments), dsn], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.events = queue.Queue()
        self.seen = []
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        for line in self.process.stdout:
            self.events.put(json.loads(line))

    def next(self, timeout=10):
        event = self.events.get(timeout=timeout)
        self.seen.append(event)
        return event

    def expect(self, name, timeout=10):
        event = self.next(timeout)
        assert event["event"] == name, event
        return event

    def send(self, **command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def fetch(self, **more):
        self.send(fetch=True, **more)
        return self.expect("fetched")

    def search(self, what="all", **more):
        self.send(search=what, **more)
        return self.expect("found")

    def record(self, moves=(), fetched=None, **more):
        """Covers all of a fetch, or repeats the position."""
        if fetched is not None:
            more = {"record": fetched["interval"], "exhausted": fetched["exhausted"], "last_id": fetched["rows"][-1]["id"],
                    "messages": len(fetched["rows"]), "max_id": max(r["id"] for r in fetched["rows"]), **more}
        self.send(**{"record": 0, **more, "moves": list(moves)})
        return self.expect("recorded")

    def end(self):
        if self.process.poll() is None:
            self.process.stdin.close()
            assert self.process.wait(10) == 0
        self.thread.join(5)


@pytest.fixture
def source(database):
    started = []

    def start(*arguments, role="relay"):
        one = Source(database.dsn(role), *arguments)
        started.append(one)
        return one

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()


def move(row, fate, **more):
    """Of a row that came by a fetch or a search."""
    return {"id": row["id"], "delayed": row["origin"] != "fresh", "fate": fate, "attempts": row["attempts"], **more}


def check(database):
    assert database.query(STUCK) == []
    assert database.query(ASTRAY) == []


def waiting(database):
    """What waits for what."""
    return dict(database.query("SELECT id, waits_for FROM outbox.delayed"))


def ids(answer):
    return [r["id"] for r in answer["rows"]]
