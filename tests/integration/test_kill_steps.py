"""kill -9 in each step between fetch and mark, and of each move of a refused message, with a key held at that moment.

The relay is preloaded with preload/kill_at.c and dies at the point named; another one goes on.
"""

import os
import pathlib
import signal
import subprocess

import pytest

from checker import check
from conftest import ROOT, wait_until

BUILD = pathlib.Path(os.environ.get("BUILD", ROOT / "build"))
WINDOW = 100
RETRY = {"initial": "50ms", "multiplier": 1, "max": "50ms", "max_attempts": 4}

STEPS = [
    # nothing published; published, no confirm read; confirmed, not marked
    "publish.before", "publish.before:3", "publish.after", "publish.after:3", "confirm.read", "confirm.read:3",
    # the mark
    "mark.before", "mark.sent", "mark.committed", "mark.before:3", "mark.sent:3", "mark.committed:3",
    # to delayed; later ones of the key behind it; its next attempt; out of delayed; to dead
    *[f"{move}.{phase}" for move in ("MOVES_TO_BE_NAMED",) for phase in ("before", "sent", "committed")],
]


@pytest.fixture(scope="session")
def kill_at():
    target = BUILD / "tests/integration/preload/kill_at.so"
    subprocess.run(["make", "-s", f"BUILD={BUILD}", str(target)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return target


@pytest.mark.parametrize("step", STEPS)
def test_killed_in_a_step_with_a_key_held(database, broker, relay, kill_at, step):
    exchange = broker.exchange()
    queue = broker.queue(exchange=exchange, routing_key="good")
    config = {"publish": {"window": WINDOW, "batch": 20}, "retry": RETRY}
    committed = {}

    def write(key, routing_key, sequence):
        message_id, = database.query("INSERT INTO outbox.message (exchange, routing_key, ordering_key, payload_text)"
                                     " VALUES (%s, %s, %s, %s) RETURNING message_id::text",
                                     [exchange, routing_key, key, str(sequence)])[0]
        committed[message_id] = (key, sequence)
        return message_id

    # Held from the beginning, and once bound it goes on; nobody will ever bind "never".
    for sequence in range(1, 41):
        write("held", "later" if sequence == 3 else "good", sequence)
        write(f"free-{sequence % 5}", "good", sequence)
        if sequence == 20:
            never = write("dead", "never", 1)
        if sequence > 20 and sequence % 5 == 0:
            write("dead", "good", sequence)
    victim = relay(config=config, env={"LD_PRELOAD": kill_at, "KILL_AT": step})

    def bound_late():
        """Once the held message was put aside, or the relay is dead."""
        if not victim.alive():
            return True
        return database.value("SELECT count(*) FROM outbox.delayed WHERE routing_key = 'later' AND attempts > 0")
    wait_until(bound_late, 20, "the first message put aside")
    broker.channel().queue_bind(queue, exchange, "later")
    assert victim.wait(30) == -signal.SIGKILL, "the step was never reached"

    running = relay(config=config)
    wait_until(lambda: database.value("SELECT count(*) FROM outbox.dead") == 1, 30, "the dead one")
    wait_until(lambda: database.value("SELECT pending + delayed FROM outbox.backlog()") == 0, 30, "everything else sent")
    assert running.stop() == 0
    arrived = []
    while (message := broker.get(queue)) is not None:
        arrived.append(message.message_id)
    del committed[never]
    verdict = check(committed, arrived)
    assert verdict.well(), str(verdict)
    assert verdict.duplicates <= WINDOW
    assert database.query("SELECT DISTINCT state FROM outbox.message_status WHERE routing_key <> 'never'") == [("sent",)]
