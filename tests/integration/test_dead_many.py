"""Very many dead letters: listed at once; retried in steps, beside a relay that sends them, by a command that is interrupted and killed.

DEAD_LETTERS=1000000 for the real size (minutes); what it took is printed (-s).
"""

import json
import os
import signal
import time

import pytest

from conftest import wait_until
from test_plans import nodes, read
from test_plans_delayed import Statements

# A list looks among so many of the newest before it reads the table.
NEAR = 20_000
COUNT = int(os.environ.get("DEAD_LETTERS", "20000"))
TIMEOUT = 60 + COUNT // 1000


def bury(database, exchange, routing_key, count):
    database.execute(
        "INSERT INTO outbox.dead (id, message_id, exchange, routing_key, payload_text, persistent, created_at, attempts, reason, died_at,"
        " ordering_key) SELECT n, gen_random_uuid(), %s, %s, repeat('x', 200), true, now(), 10, '312 NO_ROUTE', now() - interval '1 h'"
        " + n * interval '1 ms', CASE WHEN n %% 2 = 0 THEN 'key ' || n %% 5000 END FROM generate_series(1, %s) AS n",
        [exchange, routing_key, count])


def left(database):
    return database.value("SELECT count(*) FROM outbox.dead WHERE discarded_at IS NULL")


def reading(plans):
    """(rows read by an index, rows of tables read whole) by the statements on dead letters since the last call."""
    by_index = by_table = 0
    for text, plan in plans.all():
        for node in nodes(plan):
            if node.get("Relation Name") == "dead":
                assert node["Node Type"] in ("Index Scan", "Seq Scan"), json.dumps(plan, indent=1)
                if node["Node Type"] == "Seq Scan":
                    by_table += read(node)
                else:
                    by_index += read(node)
    return by_index, by_table


@pytest.mark.time_limit(TIMEOUT * 2)
@pytest.mark.parametrize("statistics", ["none", "empty", "full"])
def test_a_list_reads_the_newest_or_all_of_them_once(database, relay, statistics):
    """Never more: a rare one is not looked for along an index."""
    count = max(COUNT, 50_000)
    database.execute("ALTER TABLE outbox.dead SET (autovacuum_enabled = off)")
    if statistics == "empty":
        database.execute("ANALYZE outbox.dead")
    bury(database, "common", "k", count)
    rare = database.query("INSERT INTO outbox.dead (id, message_id, exchange, routing_key, payload_text, persistent, created_at, attempts,"
                          " reason, died_at) VALUES (0, gen_random_uuid(), 'rare', 'seldom', 'x', true, now(), 10, '541 odd',"
                          " now() - interval '3 days') RETURNING id, message_id")[0]
    if statistics == "full":
        database.execute("ANALYZE outbox.dead")
    plans = Statements(database)

    def dead(*arguments, lines):
        began = time.monotonic()
        done = relay.command("dead", *arguments)
        print(f"{statistics}: {time.monotonic() - began:.3f} s of {count}: dead {' '.join(map(str, arguments))}")
        assert (done.returncode, len(done.stdout.splitlines())) == (0, lines), done
        return reading(plans)
    for options in ([], ["--exchange", "common"], ["--routing-key", "k"], ["--reason", "no_ROUTE"], ["--older-than", "1s"]):
        assert dead("list", "--json", *options, lines=20) == (21, 0), options
    assert dead("list", "--older-than", "2d", lines=2) == (1, 0)
    for options, lines in ((["--exchange", "rare"], 2), (["--routing-key", "seldom"], 2), (["--reason", "ODD"], 2), (["--exchange", "none"], 0),
                           (["--exchange", "none", "--reason", "odd", "--older-than", "1s"], 0)):
        assert dead("list", *options, lines=lines) == (NEAR, count + 1), options
    assert dead("list", "--discarded", lines=0) == (0, count + 1)
    assert dead("show", rare[0], lines=24)[1] == 0
    assert dead("show", rare[1], lines=24) == (0, count + 1)
    assert dead("retry", "--all", "--dry-run", lines=1) == (0, count + 1)
    assert dead("discard", "--dry-run", 1, 2, 3, lines=1) == (3, 0)


@pytest.mark.time_limit(TIMEOUT * 2)
def test_interrupted_killed_and_repeated_each_is_sent_once(database, broker, relay):
    exchange = broker.exchange()
    queue = broker.queue(exchange=exchange, kind="classic")
    bury(database, exchange, "k", COUNT)
    # One that is not meant stays.
    database.execute("INSERT INTO outbox.dead (id, message_id, exchange, routing_key, payload_text, persistent, created_at, attempts, reason)"
                     " VALUES (0, gen_random_uuid(), 'another', 'k', 'x', true, now(), 10, 'r')")
    database.execute("SELECT setval('outbox.message_id_seq', %s)", [COUNT + 1])
    running = relay()
    running.wait_log("leading")
    began = time.monotonic()
    for number, share in ((signal.SIGINT, 0.9), (signal.SIGKILL, 0.5)):
        retry = relay("dead", "retry", "--exchange", exchange)
        wait_until(lambda: left(database) - 1 < COUNT * share or not retry.alive(), TIMEOUT, "some to be retried")
        retry.process.send_signal(number)
        assert retry.process.wait() == -number, retry.stderr()
        assert 0 < left(database) - 1 < COUNT
    done = relay.command("dead", "retry", "--exchange", exchange, timeout=TIMEOUT)
    assert done.returncode == 0 and "retried: " in done.stdout, done.stderr
    retried = time.monotonic() - began
    assert left(database) == 1
    wait_until(lambda: database.query("SELECT delayed, dead FROM outbox.backlog()") == [(0, 1)], TIMEOUT, "all to be sent")
    sent = time.monotonic() - began
    wait_until(lambda: broker.count(queue) >= COUNT, TIMEOUT, "them to be counted")
    assert broker.count(queue) == COUNT
    print(f"{COUNT} dead letters: retried after {retried:.1f} s, all sent after {sent:.1f} s")
    if COUNT <= 20000:
        taken = broker.take(queue, COUNT, TIMEOUT)
        assert len({m.headers["x-outbox-id"] for m in taken}) == COUNT
    assert database.value("SELECT sum(messages) FROM outbox.operation") == COUNT
    assert not running.log("database_lost") and not running.log("message_dead")


def test_only_the_first_of_each_key_falls_due(database, relay):
    """In steps of 1,000, over which each key has several."""
    bury(database, "x", "k", 6000)
    database.execute("UPDATE outbox.dead SET ordering_key = 'key ' || id % 500 WHERE id % 2 = 0")
    done = relay.command("dead", "retry", "--exchange", "x")
    assert done.returncode == 0, done.stderr
    assert database.query("SELECT waits_for, next_attempt_at = 'infinity', ordering_key IS NOT NULL, count(*) FROM outbox.delayed"
                          " GROUP BY 1, 2, 3 ORDER BY 1, 2, 3") == [
        ("key", True, True, 2750), ("retry", False, False, 3000), ("retry", False, True, 250)]
    assert database.value("SELECT count(*) FROM outbox.delayed AS d WHERE waits_for = 'retry' AND ordering_key IS NOT NULL"
                          " AND EXISTS (SELECT FROM outbox.delayed AS l WHERE l.ordering_key = d.ordering_key AND l.id < d.id)") == 0
