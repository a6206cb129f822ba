"""pause and resume: of everything and of an exchange, beside a relay that runs, and over restarts."""

import getpass
import json
import time

import pytest

from conftest import wait_until
from test_http import http  # noqa: F401 (a fixture)


@pytest.fixture
def say(database, relay):
    """say("pause", ..., code=0): what it says on stdout and stderr."""
    def say(*arguments, code=0):
        done = relay.command(*arguments, config=None, env={"OUTBOX_RELAY_POSTGRES_DSN": database.dsn("relay")})
        assert done.returncode == code, (done.stdout, done.stderr)
        return done.stdout + done.stderr
    return say


def write(database, exchange, routing_key, count=1, key=None):
    database.execute("INSERT INTO outbox.message (exchange, routing_key, payload_text, ordering_key)"
                     " SELECT %s, %s, n::text, %s FROM generate_series(1, %s) n", [exchange, routing_key, key, count])


def backlog(database):
    return database.query("SELECT pending, delayed, dead FROM outbox.backlog()")[0]


def told(say):
    """What status tells a person of pauses."""
    lines = dict(line.split(None, 1) for line in say("status").splitlines() if " " in line.strip())
    return lines["paused"], lines["paused_exchanges"]


def test_a_pause_is_kept_and_told_and_recorded(database, say):
    assert say("resume", "--all") == "nothing is paused\noutbox-relay: it was not paused\n"
    assert 'paused: exchange "events" since ' in say("pause", "--exchange", "events", "--reason", "consumers are being mended")
    assert "it is paused already" in say("pause", "--exchange", "events")
    assert 'paused: everything since ' in say("pause")
    found = json.loads(say("status", "--json"))
    assert (found["paused"], found["paused_exchanges"]) == (True, ["events"])
    assert told(say) == ("yes", "{events}")
    role = database.roles["relay"]
    assert database.query("SELECT everything, exchange, reason, starts_with(paused_by, %s) FROM outbox.pause ORDER BY 1", [role]) == [
        (False, "events", "consumers are being mended", True), (True, "", None, True)]
    lines = say("resume").splitlines()
    assert len(lines) == 1 and 'exchange "events"' in lines[0] and lines[0].endswith(": consumers are being mended")
    assert say("resume", "--exchange", "events") == "nothing is paused\n"
    assert told(say) == ("no", "none")
    say("pause", "--exchange", "")
    say("pause")
    assert say("resume", "--all") == "nothing is paused\n"
    operations = database.query("SELECT operation, actor, details FROM outbox.operation ORDER BY id")
    assert [row[0] for row in operations] == ["pause", "pause", "resume", "resume", "pause", "pause", "resume", "resume"]
    assert all(row[1] == role and row[2]["user"] == getpass.getuser() and row[2]["host"] for row in operations)
    assert operations[0][2]["exchange"] == "events" and operations[1][2]["everything"] is True
    assert operations[3][2]["reason"] == "consumers are being mended" and operations[3][2]["paused_at"]


def test_a_schema_from_before_is_told_what_it_lacks(database, relay, say):
    database.psql("-1", "-f", "migrations/outbox/0004_operating.down.sql")
    text = say("pause", code=78)
    assert "0004_operating" in text and "migrate up" in text
    found = json.loads(say("status", "--json"))
    assert (found["paused"], found["paused_exchanges"], found["schema_version"]) == (False, [], "1.0")
    # A relay of that time learns of the pause as soon as there is one.
    running = relay()
    running.wait_log("leading")
    database.psql("-1", "-f", "migrations/outbox/0004_operating.up.sql")
    say("pause")
    running.wait_log("paused", timeout=3)


def test_while_everything_is_paused_nothing_goes_and_nothing_is_lost(database, broker, relay, say, http):
    queue = broker.queue()
    running = relay(config={"http": http.settings})
    running.wait_log("leading")
    write(database, "", queue, 100)
    broker.take(queue, 100)
    began = time.monotonic()
    say("pause", "--reason", "a look around")
    assert "a look around" in running.wait_log("paused", timeout=5)["reason"]
    assert time.monotonic() - began < 2
    assert wait_until(lambda: http.json("/stats")["paused"]["all"], 2, what="the page to know")
    write(database, "", queue, 300, key="k")
    write(database, "", queue, 4700)
    time.sleep(1.5)  # what it would take several times over
    assert broker.count(queue) == 0 and backlog(database)[0] == 5000
    # The lead is kept, by this process and by its successor, which stays silent as well.
    assert json.loads(say("status", "--json"))["leader_pid"] is not None
    running.stop()
    successor = relay()
    successor.wait_log("paused")
    time.sleep(1)
    assert broker.count(queue) == 0 and not successor.log("stepped_down")
    say("resume")
    taken = broker.take(queue, 5000)
    assert [int(m.body) for m in taken if m.headers.get("x-ordering-key") == "k"] == list(range(1, 301))
    assert len({m.message_id for m in taken}) == 5000
    successor.wait_log("resumed")
    wait_until(lambda: backlog(database) == (0, 0, 0), what="the marks")
    assert database.value("SELECT count(*) FROM outbox.dead") == 0


def test_a_paused_exchange_waits_and_no_other(database, broker, relay, say):
    slow, fast = broker.exchange("slow"), broker.exchange("fast")
    slow_queue, fast_queue = broker.queue("slow", slow), broker.queue("fast", fast)
    running = relay()
    running.wait_log("leading")
    say("pause", "--exchange", slow)
    running.wait_log("paused", timeout=3)
    for n in range(10):
        write(database, slow, "x", 20, key="shared")
        write(database, fast, "x", 300)
        write(database, slow, "x", 280)
    write(database, fast, "behind", 1, key="shared")
    began = time.monotonic()
    assert len(broker.take(fast_queue, 3000)) == 3000
    assert time.monotonic() - began < 5
    wait_until(lambda: backlog(database)[:2] == (0, 3001), what="the others to be put aside")
    assert broker.count(slow_queue) == broker.count(fast_queue) == 0
    assert database.query("SELECT DISTINCT attempts FROM outbox.delayed") == [(0,)]
    reason = database.value("SELECT DISTINCT last_error FROM outbox.delayed WHERE waits_for = 'exchange'")
    assert reason.startswith(f'exchange "{slow}" is paused by ')
    assert not running.log("message_delayed")
    # It waits over a restart, too.
    running.stop()
    again = relay()
    again.wait_log("paused")
    again.wait_log("broker_connected")
    write(database, fast, "x", 1)
    broker.take(fast_queue, 1)
    assert broker.count(slow_queue) == 0
    say("resume", "--exchange", slow)
    arrived = [m for m in broker.take(slow_queue, 3000) if m.headers.get("x-ordering-key") == "shared"]
    ids = [m.headers["x-outbox-id"] for m in arrived]
    assert len(ids) == 200 and ids == sorted(ids)
    assert broker.take(fast_queue, 1)[0].routing_key == "behind"
    wait_until(lambda: backlog(database) == (0, 0, 0), what="all to be settled")


def test_until_empty_does_not_wait_for_a_paused_exchange(database, broker, relay, say):
    exchange = broker.exchange("slow")
    queue = broker.queue("slow", exchange)
    say("pause", "--exchange", exchange)
    write(database, exchange, "x", 10)
    done = relay.command("run", "--until-empty")
    assert done.returncode == 0 and 'event=empty delayed=10' in done.stderr
    say("resume", "--exchange", exchange)
    assert relay.command("run", "--until-empty").returncode == 0
    assert len(broker.take(queue, 10)) == 10


def test_a_dry_run_tells_what_would_wait_or_go_on(database, say):
    write(database, "events", "x", 12)
    write(database, "other", "x", 3)
    database.execute("INSERT INTO outbox.delayed (id, message_id, exchange, routing_key, payload_text, persistent, created_at, waits_for,"
                     " next_attempt_at) VALUES (0, gen_random_uuid(), 'events', 'x', '', true, now(), 'exchange', 'infinity')")
    assert say("pause", "--exchange", "events", "--dry-run") == 'would be paused: exchange "events", 12 pending and 1 delayed messages\n'
    assert say("pause", "--dry-run") == "would be paused: everything, 15 pending and 1 delayed messages\n"
    assert say("resume", "--all", "--dry-run") == "outbox-relay: it was not paused\n"
    assert database.query("SELECT * FROM outbox.pause") == database.query("SELECT * FROM outbox.operation") == []
    say("pause", "--exchange", "events")
    say("pause", "--exchange", "")
    before = database.query("SELECT * FROM outbox.pause"), database.query("SELECT * FROM outbox.operation")
    assert say("pause", "--exchange", "events", "--dry-run") == "outbox-relay: it is paused already\n"
    assert say("resume", "--dry-run") == "outbox-relay: it was not paused\n"
    assert say("resume", "--exchange", "events", "--dry-run") == (
        'would be resumed: exchange "events", 12 pending and 1 delayed messages\n')
    assert sorted(say("resume", "--all", "--dry-run").splitlines()) == [
        'would be resumed: exchange "", 0 pending and 0 delayed messages',
        'would be resumed: exchange "events", 12 pending and 1 delayed messages']
    assert (database.query("SELECT * FROM outbox.pause"), database.query("SELECT * FROM outbox.operation")) == before


@pytest.mark.parametrize("arguments, words", [
    (["pause", "--exchange", "x" * 256], "255"), (["resume", "--exchange", "x", "--all"], "not both"), (["pause", "now"], "now")])
def test_mistakes_change_nothing(database, say, arguments, words):
    assert words in say(*arguments, code=64)
    assert database.query("SELECT * FROM outbox.operation") == []


def test_no_more_exchanges_are_paused_than_a_relay_has_room_for(database, say):
    database.query("SELECT outbox.pause('e' || n) FROM generate_series(1, 64) n")
    text = say("pause", "--exchange", "one more", code=1)
    assert "64 exchanges are paused already" in text
    assert "64 exchanges are paused already" in say("pause", "--exchange", "one more", "--dry-run", code=1)
    assert "it is paused already" in say("pause", "--exchange", "e1")
    assert "everything" in say("pause")
