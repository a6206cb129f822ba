"""status --held and --watch: which keys are held and by what; again and again, with colours for a terminal alone."""

import json
import os
import pty
import signal
import subprocess

import pytest

from conftest import RELAY_BINARY, wait_until


@pytest.fixture
def status(database, relay):
    """status(..., code=0): its stdout and stderr."""
    def status(*arguments, code=0):
        done = relay.command("status", *arguments, config=None, env={"OUTBOX_RELAY_POSTGRES_DSN": database.dsn("relay")})
        assert done.returncode == code, (done.stdout, done.stderr)
        return done.stdout + done.stderr
    return status


def wait_for(database, key, waits_for, count, error=None, first=1):
    database.execute(
        "INSERT INTO outbox.delayed (id, routing_key, payload_text, ordering_key, waits_for, next_attempt_at, last_error)"
        " SELECT %s + n, 'r', 'x', %s, CASE WHEN n = 1 THEN %s ELSE 'key' END, CASE WHEN n = 1 AND %s = 'retry' THEN now() + interval '1 h'"
        " ELSE 'infinity' END, %s FROM generate_series(1, %s) n", [first, key, waits_for, waits_for, error, count])


def test_held_keys_are_told_with_what_holds_them_and_how_many_wait(database, status):
    assert status("--held") == "outbox-relay: no key is held\n"
    wait_for(database, "order-1", "retry", 4, "312 NO_ROUTE", 100)
    wait_for(database, "order-2", "exchange", 3, "no exchange", 200)
    wait_for(database, "order-3", "key", 2, None, 300)
    database.execute("INSERT INTO outbox.dead (id, message_id, exchange, routing_key, ordering_key, payload_text, persistent, created_at, reason,"
                     " holds_key) VALUES (300, gen_random_uuid(), '', 'r', 'order-3', 'x', true, now(), 'gave up', true)")
    database.execute("INSERT INTO outbox.delayed (id, routing_key, payload_text, ordering_key, next_attempt_at)"
                     " VALUES (1, 'r', 'x', 'order-4', now() + interval '1 day')")
    found = [json.loads(line) for line in status("--held", "--json").splitlines()]
    assert [(row["key"], row["held_by"], row["waiting"], row["reason"]) for row in found] == [
        ("order-1", 101, 3, "312 NO_ROUTE"), ("order-2", 201, 2, "no exchange"), ("order-3", 300, 2, "gave up")]
    assert [row["waits_for"].split(" 2")[0] for row in found] == ["its next attempt", "its exchange", "a person: dead retry or dead discard"]
    lines = status("--held").splitlines()
    assert lines[0].split() == ["key", "held_by", "waits_for", "reason", "waiting"] and len(lines) == 4
    wait_for(database, "order-5", "queue", 1, "silent", 500)
    database.execute("INSERT INTO outbox.delayed (id, routing_key, payload_text, ordering_key, waits_for, next_attempt_at)"
                     " SELECT 10000 + n, 'r', 'x', 'many ' || n, 'retry', now() + interval '1 h' FROM generate_series(1, 50) n")
    text = status("--held")
    assert len(text.splitlines()) == 22 and "there are more" in text


def on_a_terminal(database, *arguments, **environment):
    """A process of status and the terminal that it writes to."""
    ours, theirs = pty.openpty()
    env = {**{k: v for k, v in os.environ.items() if k != "NO_COLOR"}, "OUTBOX_RELAY_POSTGRES_DSN": database.dsn("relay"), **environment}
    process = subprocess.Popen([RELAY_BINARY, "status", *arguments], stdin=subprocess.DEVNULL, stdout=theirs, env=env)
    os.close(theirs)
    return process, ours


def read_all(terminal):
    text = b""
    try:
        while data := os.read(terminal, 65536):
            text += data
    except OSError:
        pass        # that is how a terminal ends
    os.close(terminal)
    return text.decode()


def test_colours_are_for_a_terminal_that_wants_them(database, status):
    wait_for(database, None, "retry", 1)
    database.execute("INSERT INTO outbox.pause (everything, exchange, paused_by) VALUES (true, '', 'a person')")
    process, terminal = on_a_terminal(database)
    text = read_all(terminal)
    assert process.wait() == 0
    assert "\033[31mleader_pid" in text and "\033[33mdelayed" in text and "\033[31mpaused " in text
    assert "\033[31mdead" not in text and "\033[33mpaused_exchanges" not in text and "\033[33mwake_up" not in text
    process, terminal = on_a_terminal(database, NO_COLOR="1")
    assert "\033" not in read_all(terminal) and process.wait() == 0
    assert "\033" not in status()


def test_watch_goes_on_until_it_is_told_to_stop(database, relay, status):
    process = relay("status", "--watch", "--interval", "100ms", "--json")
    wait_until(lambda: len(process.stdout().splitlines()) >= 3, what="the third look")
    wait_for(database, None, "retry", 7)
    wait_until(lambda: json.loads(process.stdout().splitlines()[-1])["delayed"] == 7, what="it to see what has come")
    process.process.send_signal(signal.SIGINT)
    assert process.wait() == 0 and process.stderr() == ""
    process, terminal = on_a_terminal(database, "--watch")
    first = os.read(terminal, 100).decode()
    assert first.startswith("\033[H\033[J\033[1m20")
    process.send_signal(signal.SIGINT)
    read_all(terminal)
    assert process.wait() == 0


def test_mistakes_are_told(status):
    assert "--watch" in status("--interval", "5s", code=64)
    assert "100ms" in status("--watch", "--interval", "1us", code=64)
