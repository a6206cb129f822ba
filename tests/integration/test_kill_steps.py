"""kill -9 in each step between fetch and mark, and of each move of a refused message, with a key held at that moment.

The relay is preloaded with preload/kill_at.c and dies at the point named; another one goes on.
"""

import json
import os
import pathlib
import signal
import subprocess

import pytest

from checker import check
from conftest import ROOT, wait_until

BUILD = pathlib.Path(os.environ.get("BUILD", ROOT / "build"))
WINDOW = 100
LARGE = json.dumps({f"h{n}": "x" * 1000 for n in range(140)})
RETRY = {"initial": "50ms", "multiplier": 1, "max": "50ms", "max_attempts": 4}

# (where, the statement that it is about)
STEPS = [
    # nothing published; published, no confirm read; confirmed, not marked
    *[(step, None) for step in ("publish.before", "publish.before:3", "publish.after", "publish.after:3", "confirm.read",
                                "confirm.read:3")],
    *[(f"mark.{phase}", None) for phase in ("before", "sent", "committed", "before:3", "sent:3", "committed:3")],
    *[(f"move.{phase}", sql) for phase in ("before", "sent", "committed") for sql in (
        "INSERT INTO outbox.delayed",                   # put aside, and others of its key behind it
        "UPDATE outbox.delayed",                        # its next attempt has failed too
        "INSERT INTO outbox.dead",                      # AMQP cannot carry it
        "WITH gone AS (DELETE FROM outbox.delayed",     # the last attempt has failed
        "SELECT outbox.release_keys",                   # the next of its key may go
        "DELETE FROM outbox.delayed",                   # it is confirmed
    )],
]


@pytest.fixture(scope="session")
def kill_at():
    target = BUILD / "tests/integration/preload/kill_at.so"
    subprocess.run(["make", "-s", f"BUILD={BUILD}", str(target)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return target


@pytest.mark.parametrize("step,sql", STEPS)
def test_killed_in_a_step_with_a_key_held(database, broker, relay, kill_at, step, sql):
    exchange = broker.exchange()
    queue = broker.queue(exchange=exchange, routing_key="good")
    config = {"publish": {"window": WINDOW, "batch": 20}, "retry": RETRY}
    committed = {}

    def write(key, routing_key, sequence, headers=None):
        message_id, = database.query("INSERT INTO outbox.message (exchange, routing_key, ordering_key, payload_text, headers)"
                                     " VALUES (%s, %s, %s, %s, %s) RETURNING message_id::text",
                                     [exchange, routing_key, key, str(sequence), headers])[0]
        committed[message_id] = (key, sequence)
        return message_id

    # Held from the beginning, and once bound it goes on; nobody will ever bind "never".
    for sequence in range(1, 41):
        write("held", "later" if sequence == 3 else "good", sequence)
        write(f"free-{sequence % 5}", "good", sequence)
        if sequence == 20:
            never = {write("dead", "never", 1), write("unfit", "never", 1, LARGE)}
            write("unfit", "good", 2)
        if sequence > 20 and sequence % 5 == 0:
            write("dead", "good", sequence)
    victim = relay(config=config, env={"LD_PRELOAD": kill_at, "KILL_AT": step, "KILL_SQL": sql})

    def bound_late():
        """Once the held message was put aside, or the relay is dead."""
        if not victim.alive():
            return True
        return database.value("SELECT count(*) FROM outbox.delayed WHERE routing_key = 'later' AND attempts > 0")
    wait_until(bound_late, 20, "the first message put aside")
    broker.channel().queue_bind(queue, exchange, "later")
    assert victim.wait(30) == -signal.SIGKILL, "the step was never reached"

    running = relay(config=config)
    wait_until(lambda: database.value("SELECT count(*) FROM outbox.dead") == 2, 30, "the dead ones")
    wait_until(lambda: database.value("SELECT pending + delayed FROM outbox.backlog()") == 0, 30, "everything else sent")
    assert running.stop() == 0
    arrived = []
    while (message := broker.get(queue)) is not None:
        arrived.append(message.message_id)
    for message_id in never:
        del committed[message_id]
    verdict = check(committed, arrived)
    assert verdict.well(), str(verdict)
    assert verdict.duplicates <= WINDOW
    assert database.query("SELECT DISTINCT state FROM outbox.message_status WHERE routing_key <> 'never'") == [("sent",)]
