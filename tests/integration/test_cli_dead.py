"""dead list, show, retry and discard: against a real database, and with a relay that runs."""

import getpass
import json
import os
import signal

import pytest

from conftest import wait_until

BURY = """
    INSERT INTO outbox.dead (id, message_id, exchange, routing_key, payload_text, persistent, created_at, attempts, reason, died_at, history)
    SELECT nextval('outbox.message_id_seq'), outbox.uuid_v7(), %(exchange)s, %(routing_key)s, 'body ' || n, true, now(), 10, %(reason)s,
        now() - %(age)s::interval + n * interval '1 us', '[{"at": "2026-01-01", "event": "dead", "reason": "at last"}]'
    FROM generate_series(1, %(count)s) AS n RETURNING id"""


def bury(database, count=1, exchange="", routing_key="nowhere", reason="gave up", age="1 hour"):
    return [row[0] for row in database.query(BURY, {"count": count, "exchange": exchange, "routing_key": routing_key,
                                                    "reason": reason, "age": age})]


@pytest.fixture
def dead(database, relay):
    """dead("list", ..., code=0): what it says on stdout and stderr."""
    def dead(*arguments, code=0, **more):
        done = relay.command("dead", *arguments, config=None, env={"OUTBOX_RELAY_POSTGRES_DSN": database.dsn("relay")}, **more)
        assert done.returncode == code, (done.stdout, done.stderr)
        return done.stdout + done.stderr
    return dead


def left(database):
    return {row[0] for row in database.query("SELECT id FROM outbox.dead WHERE discarded_at IS NULL")}


def test_list_tells_the_newest_first_and_that_there_are_more(database, dead):
    old = bury(database, 3, reason="NO_ROUTE\x1b[31m", age="2 hours")
    new = bury(database, 2, exchange="ms.payment", routing_key="k" * 60)
    lines = dead("list").splitlines()
    assert lines[0].split() == ["id", "message_id", "died_at", "exchange", "routing_key", "attempts", "reason"]
    assert [int(line.split()[0]) for line in lines[1:]] == [*new[::-1], *old[::-1]]
    assert "\x1b" not in "".join(lines) and "k" * 40 in lines[1] and "k" * 41 not in lines[1]
    lines = dead("list", "--limit", "2").splitlines()
    assert [line.split()[0] for line in lines[1:3]] == [str(i) for i in new[::-1]]
    assert lines[3:] == ["outbox-relay: the newest 2; there are more: --limit N"]
    found = [json.loads(line) for line in dead("list", "--json").splitlines()]
    assert [row["id"] for row in found] == [*new[::-1], *old[::-1]] and found[0]["routing_key"] == "k" * 60


@pytest.mark.parametrize("options", [["--exchange", "ms.payment"], ["--routing-key", "paid"], ["--reason", "no_route"],
                                     ["--older-than", "1d"]])
def test_each_filter_chooses(database, dead, options):
    bury(database, 2)
    meant = bury(database, 2, exchange="ms.payment", routing_key="paid", reason="312 NO_ROUTE", age="2 days")
    assert {json.loads(line)["id"] for line in dead("list", "--json", *options).splitlines()} == set(meant)
    rest = left(database) - set(meant)
    assert dead("discard", "--dry-run", *options) == "would be discarded: 2 dead letters\n"
    assert left(database) == rest | set(meant) and database.query("SELECT * FROM outbox.operation") == []
    assert dead("discard", *options) == "discarded: 2 dead letters\n"
    assert left(database) == rest
    assert "no dead letter matches" in dead("discard", *options, code=1)
    assert database.value("SELECT count(*) FROM outbox.delayed") == 0


def test_show_tells_all_but_the_body(database, dead):
    first, second = bury(database, 2, reason="AMQP cannot carry it")
    message_id = database.value("SELECT message_id FROM outbox.dead WHERE id = %s", [first])
    for name in (first, message_id):
        shown = dead("show", name)
        for word in (str(message_id), "AMQP cannot carry it", "2026-01-01  dead  at last"):
            assert word in shown
        assert "body" not in shown and str(second) not in shown.split()
    assert "no such dead letter" in dead("show", 12345, code=1)


def test_who_did_it_is_recorded(database, dead):
    one, two = bury(database, 2)
    dead("discard", one)
    dead("retry", "--routing-key", "nowhere")
    found = database.query("SELECT operation, actor, messages, details FROM outbox.operation ORDER BY id")
    assert [row[:3] for row in found] == [("discard", database.roles["relay"], 1), ("retry", database.roles["relay"], 1)]
    assert all(row[3]["user"] == getpass.getuser() and row[3]["host"] for row in found)
    assert found[0][3]["first_ids"] == [one] and found[1][3]["first_ids"] == [two] and found[1][3]["routing_key"] == "nowhere"


def test_what_was_discarded_comes_back_by_its_id_or_by_the_flag(database, dead):
    one, two, three = bury(database, 3)
    dead("discard", "--all")
    assert "no dead letter matches" in dead("retry", "--all", code=1)
    assert "no dead letter" in dead("list")
    assert [json.loads(line)["id"] for line in dead("list", "--discarded", "--json").splitlines()] == [three, two, one]
    assert dead("retry", two) == "retried: 1 dead letters\n"
    assert dead("retry", "--discarded") == "retried: 2 dead letters\n"
    assert database.value("SELECT array_agg(id ORDER BY id) FROM outbox.delayed") == [one, two, three]


@pytest.mark.parametrize("arguments, words", [
    (["bury"], "list, show, retry or discard"), (["retry"], "--all"), (["discard"], "--all"), (["show"], "ID"), (["show", "x"], "UUID"),
    (["retry", "1", "--exchange", "x"], "not both"), (["list", "1"], "dead show"), (["list", "--dry-run"], "--dry-run"),
    (["list", "--limit", "0"], "--limit"), (["retry", "--older-than", "soon"], "--older-than"), (["discard", "--discarded"], "already"),
    (["retry", "--exchnage", "x"], "--exchange"),
])
def test_mistakes_change_nothing(database, dead, arguments, words):
    bury(database, 1)
    assert words in dead(*arguments, code=64)
    assert len(left(database)) == 1 and database.query("SELECT * FROM outbox.operation") == []


def test_a_running_relay_sends_what_is_retried_once_each(database, broker, relay, dead):
    queue = broker.queue()
    relay().wait_log("leading")
    ids = bury(database, 1500, routing_key=queue)
    assert dead("retry", "--routing-key", queue) == "retried: 1500 dead letters\n"
    taken = broker.take(queue, 1500)
    assert sorted(m.headers["x-outbox-id"] for m in taken) == ids
    wait_until(lambda: database.query("SELECT delayed, dead FROM outbox.backlog()") == [(0, 0)], what="all to be settled")
    assert broker.count(queue) == 0


def test_what_dies_again_is_not_retried_for_ever(database, broker, relay, dead):
    ids = bury(database, 5)
    daemon = relay(config={"retry": {"max_attempts": 1}})
    assert dead("retry", "--all") == "retried: 5 dead letters\n"
    wait_until(lambda: left(database) == set(ids), what="them to die again")
    assert "retried: 5" in dead("retry", "--all")
    assert daemon.alive()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_and_repeated_nothing_is_doubled(database, relay, dead, number):
    ids = bury(database, 60000)
    process = relay("dead", "retry", "--all")
    wait_until(lambda: database.value("SELECT count(*) FROM outbox.operation"), what="the first step")
    process.process.send_signal(number)
    assert process.wait() == -number
    done = int(process.stdout().split()[1])
    assert 0 < done < 60000 and "repeating" in process.stderr()
    assert database.value("SELECT count(*) FROM outbox.delayed") == done
    assert dead("retry", "--all", timeout=120).splitlines()[0] == f"retried: {60000 - done} dead letters"
    assert database.value("SELECT array_agg(id ORDER BY id) FROM outbox.delayed") == ids
    assert left(database) == set()


@pytest.mark.time_limit(300)
def test_long_work_tells_how_far_it_is_and_ends_with_nothing_lost(database, relay):
    """DEAD_LETTERS=1000000 for the real size."""
    count = int(os.environ.get("DEAD_LETTERS", "200000"))
    database.execute("INSERT INTO outbox.dead (id, message_id, exchange, routing_key, payload_text, persistent, created_at, reason, died_at)"
                     " SELECT n, gen_random_uuid(), 'ex' || n %% 7, 'rk', repeat('x', 300), true, now(), 'NO_ROUTE', now() - interval '1 h' + n"
                     " * interval '1 ms' FROM generate_series(1, %s) AS n", [count])
    process = relay("dead", "retry", "--all")
    wait_until(lambda: f" of {count}" in process.stderr(), 60, what="progress")
    process.terminate()
    process.wait()
    assert database.value("SELECT (SELECT count(*) FROM outbox.delayed) + (SELECT count(*) FROM outbox.dead)") == count
