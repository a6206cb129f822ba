"""Messages that RabbitMQ does not take: they are put aside with a reason, and nobody else waits for them."""

import json
import os
import time

import pytest

from checker import check
from conftest import Broker, wait_until
from test_kill import mark
from workload import Collector, Load, collect, committed_in

GOOD = 10_000
CONFIRM_TIMEOUT_S = 3
# What the issue of a bad row may cost all others.
ASIDE_S = 2


def good_id(n):
    return f"00000000-0000-0000-0000-{n:012d}"


def write_good(database, exchange, count, first=1, keys=100):
    database.execute("INSERT INTO outbox.message (exchange, routing_key, payload_text, ordering_key, message_id)"
                     " SELECT %s, 'good', n::text, 'key-' || n %% %s, ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid"
                     " FROM generate_series(%s, %s) n", [exchange, keys, first, first + count - 1])


def write(database, exchange, routing_key, key=None, **columns):
    names = ", ".join(["exchange", "routing_key", "ordering_key", *(columns or {"payload_text": ""})])
    values = [exchange, routing_key, key, *(columns or {"payload_text": "x"}).values()]
    marks = ", ".join(["%s"] * len(values))
    return database.query(f"INSERT INTO outbox.message ({names}) VALUES ({marks}) RETURNING id, message_id::text", values)[0]


def pending(database):
    return database.value("SELECT pending FROM outbox.backlog()")


def waiting(database, id):
    rows = database.query("SELECT waits_for, attempts, last_error FROM outbox.delayed WHERE id = %s", [id])
    return rows[0] if rows else None


def dead(database, id):
    rows = database.query("SELECT reason, attempts FROM outbox.dead WHERE id = %s", [id])
    return rows[0] if rows else None


def suspend(stack, queue, verb="suspend"):
    """A queue that takes messages and confirms none: its process stands still."""
    stack.rabbitmqctl("eval", f"""{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"{queue}">>)),
        sys:{verb}(amqqueue:get_pid(Q)).""")


# ---- one bad row among many good ones -----------------------------------------------------------------


def missing_exchange(database, broker, stack):
    return write(database, broker.prefix + "_nowhere", "x", "bad")


def unroutable(database, broker, stack):
    return write(database, broker.exchange("unbound"), "x", "bad")


def headers_too_large(database, broker, stack):
    return write(database, broker.exchange("unbound"), "x", "bad", payload_text="x",
                 headers=json.dumps({f"h{n}": "x" * 1000 for n in range(140)}))


def headers_too_deep(database, broker, stack):
    database.execute("ALTER TABLE outbox.message DROP CONSTRAINT message_amqp_can_carry")
    deep = "{\"a\":" * 100 + "1" + "}" * 100
    return write(database, broker.exchange("unbound"), "x", "bad", payload_text="x", headers=deep)


def too_large_for_the_broker(database, broker, stack):
    return write(database, broker.exchange("unbound"), "x", "bad", payload=b"x" * 1_100_000)


def silent_queue(database, broker, stack):
    queue = broker.queue("silent", kind="classic")
    suspend(stack, queue)
    return write(database, "", queue, "bad")


BAD = [
    (missing_exchange, "exchange", "no exchange"),
    (unroutable, "retry", "no queue is bound"),
    (headers_too_large, None, "headers"),
    (headers_too_deep, None, "headers"),
    (silent_queue, "queue", "confirm"),
]


@pytest.mark.parametrize("bad,waits_for,reason", BAD, ids=[bad.__name__ for bad, _, _ in BAD])
def test_one_bad_row_keeps_nobody_else_waiting(database, broker, stack, relay, bad, waits_for, reason):
    exchange = broker.exchange()
    queue = broker.queue(exchange=exchange)
    config = {"publish": {"confirm_timeout": f"{CONFIRM_TIMEOUT_S}s"}}

    collector = Collector(broker.url, queue)

    def time_for_good(first):
        """Each of them at least once."""
        began = time.monotonic()
        missing = {good_id(n) for n in range(first, first + GOOD)}
        known = 0

        def all_there():
            nonlocal known
            count = collector.count()
            missing.difference_update(message_id for message_id, _ in collector.arrived[known:count])
            known = count
            return not missing
        wait_until(all_there, 60, "all good messages")
        return time.monotonic() - began

    running = relay(config=config)
    running.wait_log("broker_connected")
    write_good(database, exchange, GOOD)
    alone = time_for_good(1)
    running.stop()

    write_good(database, exchange, GOOD // 2, first=GOOD + 1)
    id, message_id = bad(database, broker, stack)
    write_good(database, exchange, GOOD - GOOD // 2, first=GOOD + GOOD // 2 + 1)
    running = relay(config=config)
    running.wait_log("broker_connected")
    with_bad = time_for_good(GOOD + 1)
    collector.end()
    allowed = ASIDE_S + (CONFIRM_TIMEOUT_S if bad is silent_queue else 0)
    assert with_bad < alone + allowed, f"{with_bad:.2f} s, {alone:.2f} s without"

    if waits_for is None:
        text, _ = wait_until(lambda: dead(database, id), 10, "the bad row among the dead")
    else:
        was, attempts, text = wait_until(lambda: waiting(database, id), 10, "the bad row among the delayed")
        assert was == waits_for and (attempts > 0) == (waits_for == "retry")
    assert reason in text, text
    wait_until(lambda: pending(database) == 0, 10, "nothing pending")
    assert database.query("SELECT state FROM outbox.message_status WHERE id = %s", [id]) == \
        [("dead" if waits_for is None else "delayed",)]
    running.stop()
    if bad is silent_queue:
        suspend(stack, next(q for q in broker.queues if "silent" in q), "resume")


def test_many_silent_queues_keep_nobody_else_waiting(database, broker, stack, relay):
    """Each freezes the channel once it has taken so much, and hides the next one behind it."""
    exchange = broker.exchange()
    collector = Collector(broker.url, broker.queue(exchange=exchange))
    silent = [broker.queue(f"silent{n}", kind="classic") for n in range(8)]
    good = 0
    for queue in silent:
        suspend(stack, queue)
        database.execute("INSERT INTO outbox.message (exchange, routing_key, payload_text)"
                         " SELECT '', %s, n::text FROM generate_series(1, 600) n", [queue])
        write_good(database, exchange, 100, first=good + 1)
        good += 100
    began = time.monotonic()
    running = relay(config={"publish": {"confirm_timeout": f"{CONFIRM_TIMEOUT_S}s"}})
    wait_until(lambda: len({message_id for message_id, _ in list(collector.arrived)}) == good, 60, "all good messages")
    took = time.monotonic() - began
    collector.end()
    assert took < 2 * CONFIRM_TIMEOUT_S + ASIDE_S, f"{took:.2f} s"
    wait_until(lambda: pending(database) == 0, 20, "nothing pending")
    assert database.query("SELECT DISTINCT waits_for, attempts FROM outbox.delayed") == [("queue", 0)]
    for queue in silent:
        suspend(stack, queue, "resume")
    wait_until(lambda: database.value("SELECT count(*) FROM outbox.delayed") == 0, 60, "what waited for the queues")
    assert running.stop() == 0


# Of the one connection with four channels the first, that of messages without a key.
FIRST_CHANNEL = """Channels = [{proplists:get_value(number, I), proplists:get_value(connection, I), C} ||
        C <- rabbit_channel:list(), I <- [rabbit_channel:info(C, [number, connection])]],
    [Main] = [Connection || {4, Connection, _} <- Channels],
    [sys:suspend(C) || {1, Connection, C} <- Channels, Connection =:= Main]."""


def test_who_stands_behind_others_on_a_frozen_channel_is_not_accused(database, broker, stack, relay):
    """What other channels confirm meanwhile tells nothing of that one."""
    first, second = broker.queue("first"), broker.queue("second")
    running = relay(config={"publish": {"confirm_timeout": f"{CONFIRM_TIMEOUT_S}s"}})
    running.wait_log("broker_connected")
    stack.rabbitmqctl("eval", FIRST_CHANNEL)
    write(database, "", first)
    write(database, "", second)
    for n in range(20):
        write(database, "", second, f"key-{n}")
    running.wait_log("no_confirms", timeout=CONFIRM_TIMEOUT_S + 2)
    wait_until(lambda: pending(database) == 0, 10, "nothing pending")
    wait_until(lambda: broker.count(second) == 21, 10, "all for the second queue")
    wait_until(lambda: database.value("SELECT count(*) FROM outbox.delayed") == 0, 15, "the probe of the first one")
    assert running.stop() == 0
    assert running.log("stopped")[0]["delayed"] == "1"


def test_an_exchange_without_permission_keeps_nobody_else_waiting(database, broker, stack, relay, vhost):
    stack.rabbitmqctl("add_user", f"{vhost.name}_u", "secret")
    try:
        stack.rabbitmqctl("set_permissions", "-p", vhost.name, f"{vhost.name}_u", "", "allowed.*", "")
        inside = Broker(stack, vhost.url)
        channel = inside.channel()
        for name in ("allowed", "forbidden"):
            channel.exchange_declare(name, "topic", durable=True)
            channel.queue_declare(name, durable=True)
            channel.queue_bind(name, name, "#")
        write_good(database, "allowed", 500)
        id, _ = write(database, "forbidden", "x", "bad")
        write_good(database, "allowed", 500, first=501)
        url = vhost.url.replace("//", f"//{vhost.name}_u:secret@", 1) if "@" not in vhost.url else \
            "amqp://" + f"{vhost.name}_u:secret@" + vhost.url.partition("@")[2]
        running = relay(config={"rabbitmq": {"urls": [url]}})
        assert {good_id(n) for n in range(1, 1001)} == set(collect(vhost.url, "allowed", map(good_id, range(1, 1001))))
        was, attempts, text = wait_until(lambda: waiting(database, id), 10, "the forbidden one among the delayed")
        assert (was, attempts) == ("exchange", 0) and "forbidden" in text and "refused" in text
        stack.rabbitmqctl("set_permissions", "-p", vhost.name, f"{vhost.name}_u", "", ".*", "")
        wait_until(lambda: inside.count("forbidden") == 1, 15, "the message, once it is permitted")
        wait_until(lambda: waiting(database, id) is None, 5)
        running.stop()
        inside.connection.close()
    finally:
        stack.rabbitmqctl("delete_user", f"{vhost.name}_u")


# ---- it comes back ------------------------------------------------------------------------------------


def test_an_exchange_that_appears_gets_its_rows_in_order(database, broker, relay):
    name = f"{broker.prefix}_late"
    running = relay()
    written = [write(database, name, "x", key, payload_text=str(n))
               for n, key in enumerate([None] * 50 + ["one"] * 50 + [f"k{n % 7}" for n in range(100)])]
    wait_until(lambda: database.value("SELECT count(*) FROM outbox.delayed") == len(written), 10, "all put aside")
    # Two probes find it missing.
    time_before = time.monotonic()
    wait_until(lambda: time.monotonic() - time_before > 6, 10)
    assert database.value("SELECT max(attempts) FROM outbox.delayed") == 0
    broker.exchange("late")
    queue = broker.queue(exchange=name)
    began = time.monotonic()
    wait_until(lambda: broker.count(queue) == len(written), 10, "all rows of the exchange")
    assert time.monotonic() - began < 7
    numbers = [(message.headers.get("x-ordering-key"), int(message.body)) for message in broker.take(queue, len(written))]
    for key in {key for key, _ in numbers}:
        assert [n for k, n in numbers if k == key] == sorted(n for k, n in numbers if k == key), key
    wait_until(lambda: database.value("SELECT count(*) FROM outbox.delayed") == 0, 5)
    assert database.query("SELECT DISTINCT state FROM outbox.message_status") == [("sent",)]
    running.stop()


def test_a_key_waits_for_its_failed_message_over_a_restart(database, broker, relay):
    exchange = broker.exchange()
    queue = broker.queue(exchange=exchange, routing_key="good")
    config = {"retry": {"initial": "500ms", "max": "1s", "max_attempts": 1000}}
    running = relay(config=config)
    write(database, exchange, "good", "k", payload_text="1")
    bad, _ = write(database, exchange, "bad", "k", payload_text="2")
    for n in range(3, 100):
        write(database, exchange, "good", "k", payload_text=str(n))
    write(database, exchange, "good", "other", payload_text="0")
    wait_until(lambda: pending(database) == 0, 10)
    wait_until(lambda: waiting(database, bad)[1] >= 2, 10, "two attempts")
    assert {m.body for m in broker.take(queue, 2)} == {b"0", b"1"}
    running.kill()
    running = relay(config=config)
    for n in range(100, 150):
        write(database, exchange, "good", "k", payload_text=str(n))
    wait_until(lambda: pending(database) == 0, 10)
    assert broker.count(queue) == 0
    assert database.value("SELECT count(*) FROM outbox.delayed") == 149 - 1
    broker.channel().queue_bind(queue, exchange, "bad")
    assert [int(m.body) for m in broker.take(queue, 148, timeout=30)] == list(range(2, 150))
    wait_until(lambda: database.value("SELECT count(*) FROM outbox.delayed") == 0, 5)
    running.stop()


def test_one_event_for_two_exchanges_under_one_message_id(database, broker, relay):
    bound, unbound = broker.exchange("bound"), broker.exchange("unbound")
    queue = broker.queue(exchange=bound)
    event = "0198c0de-0000-7000-8000-00000000c0de"
    running = relay()
    good, _ = write(database, bound, "x", "k1", payload_text="e", message_id=event)
    bad, _ = write(database, unbound, "x", "k2", payload_text="e", message_id=event)
    wait_until(lambda: waiting(database, bad), 10, "the unroutable one put aside")
    assert waiting(database, good) is None
    broker.take(queue, 1)
    late = broker.queue("late", exchange=unbound)
    message, = broker.take(late, 1, timeout=15)
    assert message.message_id == event and message.headers["x-outbox-id"] == bad
    assert broker.count(queue) == 0
    running.stop()


# ---- the end of trying --------------------------------------------------------------------------------


@pytest.mark.parametrize("on_dead", ["continue", "hold"])
def test_after_max_attempts_a_message_is_dead(database, broker, relay, on_dead):
    exchange = broker.exchange()
    queue = broker.queue(exchange=exchange, routing_key="good")
    running = relay(config={"retry": {"initial": "10ms", "max": "20ms", "max_attempts": 3, "on_dead": on_dead}})
    bad, _ = write(database, exchange, "bad", "k", payload_text="1")
    write(database, exchange, "good", "k", payload_text="2")
    reason, attempts = wait_until(lambda: dead(database, bad), 15, "the message among the dead")
    assert attempts == 3 and "no queue is bound" in reason
    assert len(database.value("SELECT history FROM outbox.dead")) >= 3
    running.wait_log("message_dead", id=bad)
    if on_dead == "hold":
        wait_until(lambda: database.value("SELECT count(*) FROM outbox.delayed WHERE waits_for = 'key'") == 1, 5)
        running.kill()
        running = relay(config={"retry": {"on_dead": on_dead}})
        write(database, exchange, "good", "k", payload_text="3")
        wait_until(lambda: pending(database) == 0, 10)
        assert broker.count(queue) == 0
        database.query("SELECT outbox.discard_dead(ARRAY[%s]::bigint[])", [bad])
        assert [m.body for m in broker.take(queue, 2)] == [b"2", b"3"]
    else:
        assert [m.body for m in broker.take(queue, 1)] == [b"2"]
        broker.channel().queue_bind(queue, exchange, "bad")
        database.query("SELECT outbox.retry_dead(ARRAY[%s]::bigint[])", [bad])
        assert [m.body for m in broker.take(queue, 1)] == [b"1"]
    wait_until(lambda: database.value("SELECT count(*) FROM outbox.delayed") == 0, 5)
    running.stop()


def test_until_empty_says_what_is_left(database, broker, relay):
    exchange = broker.exchange()
    broker.queue(exchange=exchange, routing_key="good")
    write(database, exchange, "good", payload_text="1")
    write(database, exchange, "bad", payload_text="2")
    write(database, exchange, "x", payload_text="3",
          headers=json.dumps({f"h{n}": "x" * 1000 for n in range(140)}))
    done = relay.command("run", "--until-empty")
    assert done.returncode == 0
    assert "event=empty delayed=1 dead=1" in done.stderr


def test_until_empty_ends_where_the_source_polls(database, broker, relay):
    """A fetch that waits is answered at the poll interval, though there is nothing to fetch."""
    exchange = broker.exchange(kind="direct")
    for attempt in range(4):
        for n in range(2):
            write(database, f"missing_{attempt}", "x", key=f"a{attempt}", payload_text="1")
            write(database, exchange, "nobody", key=f"b{attempt}", payload_text="2")
        done = relay.command("run", "--until-empty", timeout=20,
                             config={"wake": {"mode": "poll", "poll_interval": "200ms"},
                                     "retry": {"initial": "10ms", "max": "10ms", "max_attempts": 2}})
        assert done.returncode == 0


# ---- scheduled ----------------------------------------------------------------------------------------


@pytest.mark.alone
def test_scheduled_messages_leave_in_their_second_and_not_before(database, broker, relay):
    count = 10_000
    exchange = broker.exchange()
    queue = broker.queue(exchange=exchange)
    running = relay()
    running.wait_log("broker_connected")
    # What passed through before, under an old snapshot, must not matter.  (That nobody counts the rows while there are none is not
    # what this is about: until the next count, plans for an empty table are made.)
    database.execute("ALTER TABLE outbox.delayed SET (autovacuum_enabled = off)")
    holder = database.connect()
    holder.cursor().execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
    database.execute("INSERT INTO outbox.delayed (id, exchange, routing_key, payload_text, deliver_at, next_attempt_at, waits_for)"
                     " SELECT nextval('outbox.message_id_seq'), '', 'x', 'x', now() - interval '1 hour', now() - interval '1 hour',"
                     " 'schedule' FROM generate_series(1, 300000)", role="postgres")
    database.execute("DELETE FROM outbox.delayed", role="postgres")
    clock = database.connect(autocommit=True)

    def lateness():
        """Of the last of them, in seconds of the database's clock."""
        due = database.value("""
            WITH w AS (SELECT date_trunc('second', clock_timestamp()) + interval '5 seconds' AS due)
            SELECT min(w.due) FROM w, generate_series(1, %s) n,
                LATERAL (SELECT outbox.publish(%s, 'x', n::text, deliver_at => w.due)) p""", [count, exchange])
        deadline = time.monotonic() + 30
        there = 0
        while there < count and time.monotonic() < deadline:
            there = broker.count(queue)
            with clock.cursor() as cursor:
                cursor.execute("SELECT extract(epoch FROM clock_timestamp() - %s)::float", [due])
                seconds = cursor.fetchone()[0]
            assert there == 0 or seconds >= 0, "before its time"
        assert there == count
        return seconds

    late = lateness()
    assert late < 1, f"the last one came {late:.2f} s after its time"
    running.stop()


def test_a_scheduled_message_keeps_its_properties_and_takes_its_place(database, broker, relay):
    queue = broker.queue()
    running = relay()
    running.wait_log("broker_connected")
    message_id = database.value("""
        SELECT outbox.publish('', %s, '{"a": 1}'::json, ordering_key => 'k', type => 'later', headers => '{"h": 1}',
            priority => 3, correlation_id => 'c', deliver_at => clock_timestamp() + interval '500 ms')::text""", [queue])
    write(database, "", queue, "k", payload_text="now")
    now, later = broker.take(queue, 2)
    assert now.body == b"now" and later.message_id == message_id and later.body == b'{"a": 1}'
    p = later.properties
    assert (p.type, p.priority, p.correlation_id, p.content_type) == ("later", 3, "c", "application/json")
    assert later.headers["h"] == 1 and later.headers["x-ordering-key"] == "k"
    wait_until(lambda: database.value("SELECT count(*) FROM outbox.delayed") == 0, 5)
    running.stop()


# ---- the broker is away -------------------------------------------------------------------------------

# "make check-chaos" takes the ten minutes.
AWAY_S = int(os.environ.get("BROKER_AWAY_S", "10"))


def resident_kib(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


@pytest.mark.time_limit(180 + 2 * AWAY_S)
def test_a_broker_that_is_away_for_long_under_load(database, broker, stack, relay, tmp_path):
    exchange = broker.exchange()
    queue = broker.queue(exchange=exchange)
    running = relay(config={"publish": {"window": 1000, "batch": 200}})
    running.wait_log("broker_connected")
    load = Load(database, exchange, 4, 200, 7, tmp_path, pause=0.02)
    try:
        wait_until(lambda: database.value("SELECT coalesce(sum(messages), 0) FROM outbox.sent") > 2000, 30)
        mark(broker, queue, 1)
        stack.kill("rabbitmq")
        running.wait_log("broker_lost", timeout=20)
        began = time.monotonic()
        wait_until(lambda: time.monotonic() - began > AWAY_S / 2, AWAY_S)
        half_way = resident_kib(running.pid)
        wait_until(lambda: time.monotonic() - began > AWAY_S, AWAY_S)
        assert resident_kib(running.pid) < half_way * 1.05 + 256
        stack.start("rabbitmq")
        load.finish()
        wait_until(lambda: pending(database) == 0, 60 + AWAY_S, "an empty outbox")
        committed = committed_in(database)
        arrived = collect(broker.url, queue, committed)
        verdict = check(committed, arrived)
        assert verdict.well(), str(verdict)
        assert verdict.duplicates <= 1000
        assert running.stop() == 0
    finally:
        load.kill()


def test_what_is_scheduled_is_noticed_without_a_poll(database, broker, relay):
    queue = broker.queue()
    running = relay(config={"wake": {"poll_interval": "1h"}})
    running.wait_log("broker_connected")
    for _ in range(3):
        database.value("SELECT outbox.publish('', %s, 'x', deliver_at => clock_timestamp() + interval '300 ms')::text", [queue])
        broker.take(queue, 1, timeout=5)
    running.stop()
