"""pending discard: an order that a running relay carries out, once each, in order, and that outlives whoever gave it."""

import getpass
import json
import os
import signal
import threading

import pytest

from conftest import wait_until

# The real size by PENDING=1000000.
COUNT = int(os.environ.get("PENDING", "20000"))


@pytest.fixture
def pending(database, relay):
    """pending("discard", ..., code=0): what it says on stdout and stderr."""
    def pending(*arguments, code=0, timeout=60 + COUNT // 1000):
        done = relay.command("pending", *arguments, config=None, timeout=timeout,
                             env={"OUTBOX_RELAY_POSTGRES_DSN": database.dsn("relay")})
        assert done.returncode == code, (done.stdout, done.stderr)
        return done.stdout + done.stderr
    return pending


def write(database, exchange, routing_key, count=1, key=None, type=None, age="0 s"):
    return [row[0] for row in database.query(
        "INSERT INTO outbox.message (exchange, routing_key, payload_text, ordering_key, type, created_at)"
        " SELECT %s, %s, n::text, %s, %s, clock_timestamp() - %s::interval FROM generate_series(1, %s) n RETURNING id",
        [exchange, routing_key, key, type, age, count])]


def discarded(database):
    return {row[0] for row in database.query("SELECT id FROM outbox.dead WHERE discarded_at IS NOT NULL")}


def settled(database):
    return database.query("SELECT pending, delayed, dead FROM outbox.backlog()") == [(0, 0, 0)]


def test_what_is_meant_is_discarded_and_all_else_is_sent(database, broker, relay, pending):
    queue = broker.queue()
    # Nobody leads: the order stands and is carried out later.
    meant = write(database, "", queue, 50, type="old", age="3 h") + write(database, "", queue, 50, key="k", type="old", age="3 h")
    other = write(database, "", queue, 10, type="old") + write(database, "", queue, 10, key="k", type="new", age="3 h")
    assert pending("discard", "--type", "old", "--older-than", "2h", "--dry-run").startswith(
        "would be discarded: 100 pending messages, and 0 delayed ones")
    assert database.query("SELECT * FROM outbox.operation") == []
    text = pending("discard", "--type", "old", "--older-than", "2h", "--no-wait")
    assert text.startswith("order 1 stands: 100 pending and 0 delayed messages")
    assert relay.command("run", "--until-empty").returncode == 0
    taken = broker.take(queue, 20)
    assert sorted(m.headers["x-outbox-id"] for m in taken) == sorted(other) and broker.count(queue) == 0
    assert discarded(database) == set(meant)
    reasons = database.query("SELECT DISTINCT split_part(reason, ' by ', 1), history -> 0 ->> 'event' FROM outbox.dead")
    assert reasons == [("discarded: order 1", "discarded")]
    assert database.value("SELECT state || ' ' || reason FROM outbox.message_status WHERE id = %s", [meant[0]]).startswith("dead discarded: order 1")
    # Written after the order: not meant.
    write(database, "", queue, 1, type="old", age="3 h")
    relay().wait_log("discarding", orders=1)
    broker.take(queue, 1)
    before = database.query("SELECT * FROM outbox.discard"), database.query("SELECT * FROM outbox.operation")
    assert pending("discard", "--cancel", "--dry-run") == "would be taken back: order 1, which has discarded 100 messages\n"
    assert (database.query("SELECT * FROM outbox.discard"), database.query("SELECT * FROM outbox.operation")) == before
    assert pending("discard", "--cancel") == "taken back: order 1, which has discarded 100 messages\n"
    operations = database.query("SELECT operation, messages, details FROM outbox.operation ORDER BY id")
    assert [row[:2] for row in operations] == [("discard", 0), ("discard", 100)]
    assert all(row[2]["from"] == "pending" and row[2]["user"] == getpass.getuser() and row[2]["type"] == "old" for row in operations)


@pytest.mark.time_limit(120 + COUNT // 500)
def test_beside_a_running_relay_each_is_either_sent_or_discarded(database, broker, relay, pending):
    """The relay is in the middle of them; so is whoever writes."""
    bad, good = broker.exchange("bad"), broker.exchange("good")
    bad_queue, good_queue = broker.queue("bad", bad, kind="classic"), broker.queue("good", good, kind="classic")
    running = relay(config={"publish": {"window": 100, "batch": 50}})
    running.wait_log("broker_connected")
    with database.connect().cursor() as cursor:
        cursor.execute("INSERT INTO outbox.message (exchange, routing_key, payload_text, ordering_key) SELECT CASE WHEN n %% 4 = 0 THEN %s"
                       " ELSE %s END, 'k', n::text, CASE WHEN n %% 2 = 0 THEN 'key ' || n %% 1000 END FROM generate_series(1, %s) n",
                       [good, bad, COUNT])
        cursor.connection.commit()
    stop, written = threading.Event(), [0]

    def load():
        connection = database.connect(autocommit=True)
        while not stop.is_set():
            connection.cursor().execute("INSERT INTO outbox.message (exchange, routing_key, payload_text) VALUES (%s, 'k', 'new')", [good])
            written[0] += 1
    thread = threading.Thread(target=load)
    thread.start()
    text = pending("discard", "--exchange", bad)
    stop.set()
    thread.join()
    assert "discarded: " in text
    wait_until(lambda: settled(database), 60 + COUNT // 500, "all to be settled")
    gone = discarded(database)
    assert int(text.split("discarded: ")[1].split()[0]) == len(gone) > 0
    sent = broker.count(bad_queue)
    assert sent + len(gone) == COUNT - COUNT // 4
    assert broker.count(good_queue) == COUNT // 4 + written[0]
    if COUNT <= 20000:
        ids = {m.headers["x-outbox-id"] for m in broker.take(bad_queue, sent)}
        assert not ids & gone and len(ids) == sent
    assert not running.log("stepped_down") and running.log("discarding")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_the_order_stands_and_repeated_it_is_seen_through(database, broker, relay, pending, number):
    queue = broker.queue()
    write(database, "", queue, 1000)
    process = relay("pending", "discard", "--exchange", "")
    wait_until(lambda: number == signal.SIGKILL and database.value("SELECT count(*) FROM outbox.discard")
               or "no relay leads" in process.stderr(), what="it to wait")
    process.process.send_signal(number)
    assert process.wait() == -number
    assert database.value("SELECT count(*) FROM outbox.discard WHERE done_at IS NULL") == 1
    # A dead letter comes back by its number.
    running = relay()
    wait_until(lambda: len(discarded(database)) == 1000, what="the order to be carried out")
    assert pending("discard", "--exchange", "") == "discarded: 0 messages\n"
    one = min(discarded(database))
    pending("discard", "--cancel")
    running.wait_log("discarding", orders=0)
    assert relay.command("dead", "retry", one).returncode == 0
    assert broker.take(queue, 1)[0].headers["x-outbox-id"] == one
    assert broker.count(queue) == 0 and running.alive()


def test_what_waits_for_a_paused_exchange_is_discarded_instead_of_sent(database, broker, relay, pending):
    exchange = broker.exchange()
    queue = broker.queue(exchange=exchange)
    running = relay()
    running.wait_log("leading")
    database.query("SELECT outbox.pause(%s)", [exchange])
    running.wait_log("paused")
    write(database, exchange, "k", 300)
    write(database, exchange, "k", 20, key="k")
    wait_until(lambda: database.value("SELECT count(*) FROM outbox.delayed") == 320, what="them to be put aside")
    assert "order 1 stands: 0 pending and 320 delayed messages" in pending("discard", "--exchange", exchange)
    database.query("SELECT outbox.resume(%s)", [exchange])
    write(database, exchange, "k", 1)
    assert broker.take(queue, 1)[0].body == b"1"
    wait_until(lambda: settled(database) and len(discarded(database)) == 320, 20, "the others to be discarded")
    assert broker.count(queue) == 0


def test_a_dry_run_refuses_an_order_too_many(database, pending):
    database.query("SELECT outbox.discard_pending() FROM generate_series(1, 16)")
    for more in ([], ["--dry-run"]):
        assert "16 orders to discard stand already" in pending("discard", "--all", *more, code=1)
    assert database.value("SELECT count(*) FROM outbox.discard") == 16


@pytest.mark.parametrize("arguments, words", [
    (["discard"], "--all"), (["show"], "pending discard"), (["discard", "--all", "--exchange", "x"], "--all"),
    (["discard", "--older-than", "soon"], "duration"), (["discard", "--cancel", "--all"], "no other option")])
def test_mistakes_change_nothing(database, pending, arguments, words):
    write(database, "", "nowhere")
    assert words in pending(*arguments, code=64)
    assert database.query("SELECT * FROM outbox.discard") == database.query("SELECT * FROM outbox.operation") == []
