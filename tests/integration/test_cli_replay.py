"""replay: copies of what was sent, to every queue or to one alone, with a relay that runs."""

import getpass
import os
import pty
import re
import signal
import subprocess
import time

import pytest

from conftest import RELAY_BINARY, wait_until

WRITE = """
    INSERT INTO outbox.message (exchange, routing_key, ordering_key, payload_text, headers, created_at, correlation_id, priority)
    SELECT %(exchange)s, %(routing_key)s, %(key)s, 'body ' || n, %(headers)s, now() - %(age)s::interval, 'c', 7
    FROM generate_series(1, %(count)s) AS n ORDER BY n RETURNING message_id::text"""


def write(database, count=1, exchange="", routing_key="nowhere", key=None, headers=None, age="1 hour"):
    return [row[0] for row in database.query(WRITE, {"count": count, "exchange": exchange, "routing_key": routing_key, "key": key,
                                                     "headers": headers, "age": age})]


def environment(database, role="owner"):
    return {"OUTBOX_RELAY_POSTGRES_DSN": database.dsn(role)}


@pytest.fixture
def replay(database, relay):
    """replay("--all", ..., code=0): stdout and stderr."""
    def replay(*arguments, code=0, role="owner", **more):
        done = relay.command("replay", *arguments, config=None, env=environment(database, role), **more)
        assert done.returncode == code, (done.stdout, done.stderr)
        return done.stdout + done.stderr
    return replay


@pytest.fixture
def daemon(database, relay):
    """A relay that leads, connected."""
    daemon = relay()
    daemon.wait_log("leading")
    daemon.wait_log("broker_connected")
    return daemon


def settle(database):
    wait_until(lambda: database.query("SELECT pending, delayed, dead FROM outbox.backlog()") == [(0, 0, 0)], 30, "an empty backlog")


def test_all_arrive_again_once_each_in_order_with_the_header(database, broker, daemon, replay):
    exchange = broker.exchange()
    queue = broker.queue(exchange=exchange)
    ids = write(database, 1200, exchange, "order.created", key="k", headers='{"tenant": 12}')
    first = broker.take(queue, 1200)
    settle(database)
    written = database.value("SELECT max(id) FROM outbox.message")
    said = replay("--exchange", exchange, "--yes")
    assert re.search(rf"^  {exchange} +1200$", said, re.M) and "replayed: 1200 messages\n" in said
    again = broker.take(queue, 1200)
    assert [m.message_id for m in again] == ids == [m.message_id for m in first]
    assert [m.body for m in again] == [m.body for m in first]
    for m in again:
        assert m.headers["x-replayed"] is True and m.headers["tenant"] == 12 and m.headers["x-ordering-key"] == "k"
        assert m.headers["x-outbox-id"] > written and m.headers["x-replayed-created-at"].endswith("Z")
        assert (m.exchange, m.routing_key, m.properties.correlation_id, m.properties.priority) == (exchange, "order.created", "c", 7)
    assert "x-replayed" not in first[0].headers
    settle(database)
    assert broker.count(queue) == 0
    # Copies are no originals.
    assert "1200" in replay("--all", "--dry-run")
    operations = database.query("SELECT operation, details, messages FROM outbox.operation")
    assert sum(row[2] for row in operations) == 1200
    assert all(row[0] == "replay" and row[1]["user"] == getpass.getuser() and row[1]["exchange"] == exchange for row in operations)


def test_to_queue_reaches_that_queue_alone(database, broker, daemon, replay):
    exchange = broker.exchange(kind="fanout")
    meant, other, named = (broker.queue(name, exchange if name != "named" else None) for name in ("meant", "other", "named"))
    headers = '{"CC": ["%s"], "BCC": ["%s"], "a": 1}' % (named, named)
    ids = write(database, 20, exchange, "paid", headers=headers)
    for queue in (meant, other):
        broker.take(queue, 20)
    settle(database)
    while broker.get(named):
        pass
    assert "20 messages to queue" in replay("--since", "2h", "--to-queue", meant)
    again = broker.take(meant, 20)
    settle(database)
    assert [m.message_id for m in again] == ids
    assert all((m.exchange, m.routing_key, m.headers["x-replayed-exchange"], m.headers["x-replayed-routing-key"], m.headers["a"])
               == ("", meant, exchange, "paid", 1) for m in again)
    assert [broker.count(queue) for queue in (meant, other, named)] == [0, 0, 0]


def test_only_what_was_sent_is_replayed(database, broker, daemon, replay):
    queue = broker.queue()
    sent = write(database, 3, routing_key=queue)
    write(database, 2, routing_key=broker.prefix + "_missing")
    broker.take(queue, 3)
    wait_until(lambda: database.value("SELECT count(*) FROM outbox.delayed") == 2, what="the refused ones to be delayed")
    daemon.stop()
    database.execute("INSERT INTO outbox.dead (id, message_id, exchange, routing_key, payload_text, persistent, created_at, reason)"
                     " SELECT id, message_id, '', 'r', 'x', true, now(), 'no' FROM outbox.message WHERE message_id = %s", [sent[2]])
    write(database, 4, routing_key=queue)
    assert "2 messages" in replay("--all", "--dry-run")
    replay("--all", "--yes")
    copies = "SELECT message_id::text FROM outbox.message WHERE headers ? 'x-replayed' ORDER BY id"
    assert [row[0] for row in database.query(copies)] == sent[:2]


@pytest.mark.parametrize("options", [["--exchange", "ms.payment"], ["--routing-key", "paid"], ["--ordering-key", "customer"],
                                     ["--until", "36h"], ["--since", "5d", "--until", "1d"]])
def test_each_filter_chooses(database, broker, relay, replay, options):
    write(database, 2)
    meant = write(database, 3, "ms.payment", "paid", key="customer", age="2 days")
    # As after they were sent.
    database.execute("INSERT INTO outbox.sent (seq, prev, last_id, floor_id, max_id, messages, system_identifier, database_oid, table_oid)"
                     " SELECT 1, pg_current_snapshot(), 0, 5, 5, 5, 1, 1, 1")
    assert "3" in replay("--dry-run", *options) and database.value("SELECT count(*) FROM outbox.message") == 5
    assert "no relay leads" in replay("--yes", *options)
    assert [row[0] for row in database.query("SELECT message_id::text FROM outbox.message WHERE id > 5 ORDER BY id")] == meant
    assert "no message" in replay("--since", "2100-01-01", code=1)


@pytest.mark.parametrize("arguments, code, words", [
    ([], 64, "--all"), (["--since", "yesteryear"], 64, '"yesteryear" is no time'), (["--all", "--after", "x"], 64, "--after"),
    (["--all", "--to-queue", ""], 64, "--to-queue"), (["--all"], 1, "retention"), (["all"], 64, "all"),
    (["--all", "--rate", "0"], 64, "--rate"), (["--all", "--rate", "fast"], 64, '"fast"')])
def test_mistakes_change_nothing(database, replay, arguments, code, words):
    write(database)
    assert words in replay(*arguments, code=code)
    assert database.value("SELECT count(*) FROM outbox.message") == 1


def test_the_relays_own_role_is_told_whom_to_connect_as(database, replay):
    assert database.roles["owner"] in replay("--all", code=77, role="relay")
    assert "no message" in replay("--all", "--dry-run", code=1, role="relay")
    database.query("SELECT outbox.grant_writer(%s)", [database.roles["relay"]])
    assert "no message" in replay("--all", code=1, role="relay")


@pytest.mark.parametrize("answer, code", [(b"y\n", 0), (b"\n", 1), (b"no\n", 1)])
def test_without_a_queue_it_names_the_exchanges_and_asks(database, broker, daemon, replay, answer, code):
    queue = broker.queue()
    write(database, 1, routing_key=queue)
    broker.take(queue, 1)
    settle(database)
    assert "--yes" in replay("--all", code=64)
    ours, theirs = pty.openpty()
    process = subprocess.Popen([RELAY_BINARY, "replay", "--all"], stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env={**os.environ, **environment(database)})
    os.write(ours, answer)
    out, err = process.communicate(timeout=30)
    os.close(ours)
    os.close(theirs)
    assert process.returncode == code and b"the default exchange" in err and b"Go on?" in err
    if code == 0:
        assert out == b"replayed: 1 messages\n" and broker.take(queue, 1)[0].headers["x-replayed"] is True
    assert database.value("SELECT count(*) FROM outbox.message") == (2 if code == 0 else 1)


def test_interrupted_it_names_where_to_go_on(database, broker, daemon, relay, replay, stack):
    queue = broker.queue()
    ids = write(database, 3000, routing_key=queue)
    broker.take(queue, 3000)
    settle(database)
    daemon.pause()
    process = relay("replay", "--all", "--yes", config=None, env=environment(database))
    copies = "SELECT count(*) FROM outbox.message WHERE headers ? 'x-replayed'"
    # While the relay is not done with one step no other is written.
    wait_until(lambda: database.value(copies) > 0, what="the first step")
    wait_until(lambda: "replayed 50 of 3000" in process.stderr(), what="progress")
    assert database.value(copies) == 50
    process.process.send_signal(signal.SIGINT)
    assert process.wait() == -signal.SIGINT and process.stdout() == "replayed: 50 messages\n"
    after = re.search(r"--after (\d+)", process.stderr()).group(1)
    daemon.resume()
    assert "replayed: 2950" in replay("--all", "--yes", "--after", after, timeout=120)
    assert [m.message_id for m in broker.take(queue, 3000)] == ids


def test_beside_an_application_that_writes_steps_are_small_and_paced(database, broker, daemon, replay):
    queue = broker.queue()
    steps = "SELECT array_agg(messages ORDER BY id) FROM outbox.operation WHERE operation = 'replay'"
    write(database, 1000, routing_key=queue)
    broker.take(queue, 1000)
    settle(database)
    replay("--all", "--yes", "--rate", 10)
    # Nobody else wrote, so that rate did not hold.
    assert database.value(steps) == [50, 200, 200, 200, 200, 150]
    broker.take(queue, 1000)
    settle(database)
    database.execute("""
        DELETE FROM outbox.operation;
        CREATE FUNCTION write_one() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO outbox.message (routing_key, payload_text, headers) VALUES (TG_ARGV[0], 'new', '{"x-replayed": false}');
            RETURN NULL;
        END $$;
        CREATE TRIGGER write_one AFTER INSERT ON outbox.operation FOR EACH ROW EXECUTE FUNCTION write_one('%s')""" % queue)
    began = time.monotonic()
    replay("--all", "--yes", "--rate", 400)
    assert database.value(steps) == [50, 200] + [50] * 15
    # From the one that met others to the beginning of the last.
    assert time.monotonic() - began >= (200 + 14 * 50) / 400
    broker.take(queue, 1017)
