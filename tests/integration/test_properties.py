"""Through the whole relay, read by another client: what was written is what arrives, or it says so and waits."""

import decimal
import json
import re
import uuid

import pytest

from conftest import wait_until

TRICKY = "back\\slash \"quotes\" 'single' \\u00e9 \\n \\x41 é € 😀 \ttab\nline %s {} $1"
PROPERTIES = ("content_type", "content_encoding", "delivery_mode", "priority", "correlation_id", "reply_to", "expiration",
              "message_id", "timestamp", "type", "user_id", "app_id", "cluster_id")


def insert(database, role="writer", **columns):
    """One row; returns (id, message_id)."""
    names = ", ".join(columns)
    places = ", ".join(["%s"] * len(columns))
    values = [json.dumps(v) if isinstance(v, dict) else v for v in columns.values()]
    return database.query(f"INSERT INTO {database.schema}.message ({names}) VALUES ({places})"
                          " RETURNING id, message_id::text", values, role=role)[0]


def drain(relay, **config):
    done = relay.command("run", "--until-empty", config=config)
    assert done.returncode == 0, done.stderr
    return done


def present(message):
    return {name: value for name in PROPERTIES if (value := getattr(message.properties, name)) is not None}


def pending(database):
    return [i for i, in database.query(f"SELECT id FROM {database.schema}.message_status WHERE state = 'pending' ORDER BY id")]


# ---- properties

def test_every_property_arrives(database, broker, relay, faithful_pika):
    queue = broker.queue(arguments={"x-max-priority": 10}, kind="classic")
    given = uuid.uuid4()
    id, message_id = insert(
        database, routing_key=queue, payload_text="x", message_id=str(given), ordering_key="customer é/1",
        headers={"a": 1}, type="order.created", app_id="shop", content_type="text/plain; charset=utf-8",
        content_encoding="identity", correlation_id="c-é", reply_to="answers", expiration="1 day 2 hours 0.0125 seconds",
        priority=7, persistent=False, created_at="2026-01-02 03:04:05.999+00")
    drain(relay)
    message, = broker.take(queue, 1)
    assert message_id == str(given)
    assert present(message) == {
        "message_id": message_id, "timestamp": 1767323045, "delivery_mode": 1, "priority": 7,
        "expiration": str((26 * 3600) * 1000 + 12), "type": "order.created", "app_id": "shop", "correlation_id": "c-é",
        "content_type": "text/plain; charset=utf-8", "content_encoding": "identity", "reply_to": "answers"}
    assert message.headers == {"a": 1, "x-ordering-key": "customer é/1", "x-outbox-id": id}


def test_what_is_null_is_absent(database, broker, relay, faithful_pika):
    queue = broker.queue()
    before = database.value("SELECT floor(date_part('epoch', clock_timestamp()))::int")
    id, message_id = insert(database, routing_key=queue, payload_text="x")
    bare, bare_id = insert(database, routing_key=queue, payload_text="", content_type=None)
    drain(relay)
    first, second = broker.take(queue, 2)
    timestamp = first.properties.timestamp
    assert before <= timestamp <= before + 60
    assert present(first) == {"message_id": message_id, "timestamp": timestamp, "delivery_mode": 2,
                              "content_type": "application/json"}
    assert first.headers == {"x-outbox-id": id}
    assert present(second) == {"message_id": bare_id, "timestamp": second.properties.timestamp, "delivery_mode": 2}
    assert second.headers == {"x-outbox-id": bare}
    assert second.body == b""


@pytest.mark.parametrize("column,value,arrives", [
    ("expiration", "0", "0"), ("expiration", "0.001 seconds", "1"), ("expiration", "49 days 17:02:47.295", "4294967295"),
    ("priority", 0, 0), ("priority", 255, 255),
    ("type", "", ""), ("type", "t" * 255, "t" * 255), ("correlation_id", "é" * 127, "é" * 127),
    ("created_at", "1970-01-01 00:00:00+00", 0), ("created_at", "9999-12-31 23:59:59.9+00", 253402300799)])
def test_limits_of_properties_arrive(database, broker, relay, faithful_pika, column, value, arrives):
    queue = broker.queue(kind="classic")
    channel = broker.channel()
    got = []
    # A consumer that waits takes even what expires at once.
    channel.basic_consume(queue, lambda _channel, _method, properties, _body: got.append(properties), auto_ack=True)
    insert(database, routing_key=queue, payload_text="x", **{column: value})
    drain(relay)
    wait_until(lambda: channel.connection.process_data_events(0) or got, 10)
    assert getattr(got[0], {"created_at": "timestamp"}.get(column, column)) == arrives
    channel.close()


# ---- headers

HEADERS = {
    "text": TRICKY, "empty": "", "key é": "value €", "zero": 0, "one": 1, "minus": -1, "int32": 2**31, "int64": 2**63 - 1,
    "least": -2**63, "fraction": 0.1, "negative": -2.5e-300, "large": 123456.75, "yes": True, "no": False, "nothing": None,
    "list": [1, "two", 3.5, None, True, [], {}, [[["deep"]]], {"four": [4]}],
    "table": {"empty": {}, "nested": {"list": [{"a": {"b": ["c", 2**40]}}], "null": None}},
    "k" * 255: "longest key", "long": "v" * 70000}


def test_every_type_of_header_arrives(database, broker, relay, faithful_pika):
    queue = broker.queue()
    id, _ = insert(database, routing_key=queue, payload_text="x", headers=HEADERS)
    deep = current = {}
    for level in range(31):
        current["d"] = {}
        current = current["d"]
    insert(database, routing_key=queue, payload_text="x", headers=deep)
    drain(relay)
    first, second = broker.take(queue, 2)
    own = first.headers.pop("x-outbox-id")
    assert own == id
    assert first.headers == HEADERS
    for name, value in HEADERS.items():
        assert type(first.headers[name]) is type(value), name
    second.headers.pop("x-outbox-id")
    assert second.headers == deep


def test_fractions_become_the_nearest_double(database, broker, relay, faithful_pika):
    queue = broker.queue()
    literals = ["0.30000000000000004", "123456789.123456789123456789", "0.1e-5", "3.0", "9007199254740993.5"]
    database.execute(f"INSERT INTO outbox.message (routing_key, payload_text, headers) VALUES (%s, 'x', %s)",
                     [queue, "{%s}" % ", ".join(f'"h{n}": {x}' for n, x in enumerate(literals))], role="writer")
    drain(relay)
    message, = broker.take(queue, 1)
    for n, literal in enumerate(literals):
        value = message.headers[f"h{n}"]
        assert value == float(decimal.Decimal(literal)), literal


def test_headers_that_look_like_plain_ones(database, broker, relay, faithful_pika):
    """Objects of plain strings are read by a path of their own: around its edges."""
    queue = broker.queue()
    cases = [{}, {"a": "b"}, {"a": "b\\"}, {"a": "\""}, {"\\": "x"}, {"a": "é"}, {"é": "a"}, {"a": "\x7f"}, {"a": "{,}:"},
             {"a": " ", " ": ""}, {f"h{n}": str(n) for n in range(16)}, {f"h{n}": str(n) for n in range(17)},
             {f"h{n}": str(n) for n in range(300)}, {"a": "b", "c": 1}, {"a": "b", "c": {}}]
    for headers in cases:
        insert(database, routing_key=queue, payload_text="x", headers=headers, ordering_key="k")
    drain(relay)
    for headers, message in zip(cases, broker.take(queue, len(cases))):
        assert message.headers.pop("x-ordering-key") == "k"
        del message.headers["x-outbox-id"]
        assert message.headers == headers


# ---- payloads

def test_each_payload_column_survives_byte_for_byte(database, broker, relay):
    queue = broker.queue()
    raw = bytes(range(256)) + TRICKY.encode()
    value = {"text": TRICKY, "n": [1.50, 12345678901234567890123, -0.0, None], "k\\\"é": {}}
    insert(database, routing_key=queue, payload=raw)
    insert(database, routing_key=queue, payload_text=TRICKY)
    insert(database, routing_key=queue, payload_json=json.dumps(value))
    printed = database.value("SELECT payload_json::text FROM outbox.message WHERE payload_json IS NOT NULL")
    drain(relay)
    first, second, third = broker.take(queue, 3)
    assert first.body == raw
    assert second.body == TRICKY.encode()
    assert third.body == printed.encode()
    assert json.loads(third.body) == value


@pytest.mark.parametrize("cast", ["json", "jsonb", "text", "bytea"])
def test_publish_survives_byte_for_byte(database, broker, relay, cast):
    queue = broker.queue()
    literal = '{"b": "back\\\\slash \\"quoted\\" \\u00e9 é",   "a": 1.0, "a": 2}'
    given = literal.encode() if cast == "bytea" else literal
    database.query(f"SELECT outbox.publish('', %s, %s::{cast})", [queue, given], role="writer")
    expected = database.value("SELECT %s::jsonb::text", [literal]) if cast == "jsonb" else literal
    drain(relay)
    message, = broker.take(queue, 1)
    assert message.body == expected.encode()
    assert message.properties.message_id == database.value("SELECT message_id::text FROM outbox.message")


def test_publish_of_every_parameter_arrives(database, broker, relay, faithful_pika):
    exchange = broker.exchange()
    queue = broker.queue(exchange=exchange, routing_key="orders.#")
    given = str(uuid.uuid4())
    database.query(
        "SELECT outbox.publish(%s, 'orders.new', '{}'::json, ordering_key => 'o', headers => '{\"h\": [true]}', type => 't',"
        " content_type => 'c/t', content_encoding => 'e', correlation_id => 'c', reply_to => 'r', expiration => '1h',"
        " priority => 3, app_id => 'a', persistent => false, message_id => %s)", [exchange, given], role="writer")
    drain(relay)
    message, = broker.take(queue, 1)
    assert present(message) == {
        "message_id": given, "timestamp": message.properties.timestamp, "delivery_mode": 1, "priority": 3,
        "expiration": "3600000", "type": "t", "app_id": "a", "content_type": "c/t", "content_encoding": "e",
        "correlation_id": "c", "reply_to": "r"}
    del message.headers["x-outbox-id"]
    assert message.headers == {"h": [True], "x-ordering-key": "o"}
    assert (message.exchange, message.routing_key) == (exchange, "orders.new")


@pytest.mark.parametrize("column", ["payload", "payload_text", "payload_json"])
def test_bodies_around_the_sizes_of_frames_and_batches_arrive(database, broker, relay, column):
    queue = broker.queue()
    sizes = [0, 1, 4095, 4096, 8192, 131063, 131064, 131065, 262144, 1000003]
    bodies = []
    for size in sizes:
        body = ("0123456789abcdef" * (size // 16 + 1))[:size]
        body = json.dumps(body) if column == "payload_json" else body
        bodies.append(body.encode())
        insert(database, routing_key=queue, **{column: body.encode() if column == "payload" else body})
    drain(relay)
    assert [m.body for m in broker.take(queue, len(sizes))] == bodies


def test_a_body_of_20_mib_passes_once_the_limit_is_raised(database, broker, relay):
    queue = broker.queue(kind="classic")
    body = b"\\\"\x00\xff" * (5 << 20)
    with pytest.raises(Exception, match="payload_at_most_payload_limit"):
        insert(database, routing_key=queue, payload=body)
    database.query("SELECT outbox.set_payload_limit(%s)", [len(body)])
    insert(database, routing_key=queue, payload=body)
    insert(database, routing_key=queue, payload_text="after")
    drain(relay)
    first, second = broker.take(queue, 2)
    assert first.body == body
    assert second.body == b"after"


# ---- exchanges

@pytest.mark.parametrize("kind,key,bound", [("direct", "exact", "exact"), ("topic", "a.b.c", "a.*.c"), ("fanout", "", "ignored")])
def test_every_kind_of_exchange_is_reached(database, broker, relay, kind, key, bound):
    exchange = broker.exchange(kind=kind)
    queue = broker.queue(exchange=exchange, routing_key=bound)
    insert(database, exchange=exchange, routing_key=key, payload_text=kind)
    drain(relay)
    message, = broker.take(queue, 1)
    assert (message.exchange, message.routing_key, message.body) == (exchange, key, kind.encode())


def test_the_longest_routing_key_arrives(database, broker, relay):
    exchange = broker.exchange(kind="fanout")
    queue = broker.queue(exchange=exchange)
    key = "é" * 127 + "x"
    insert(database, exchange=exchange, routing_key=key, payload_text="x")
    drain(relay)
    assert broker.take(queue, 1)[0].routing_key == key


# ---- the table and the schema are the application's, too

def test_columns_of_the_application_survive_and_are_ignored(database, broker, relay):
    queue = broker.queue()
    database.execute("ALTER TABLE outbox.message ADD COLUMN size text DEFAULT 'mine', ADD COLUMN before int DEFAULT 5,"
                     " ADD COLUMN target text DEFAULT 'x', ADD COLUMN large boolean DEFAULT true")
    database.execute("ALTER TABLE outbox.message ADD COLUMN gone int")
    database.execute("ALTER TABLE outbox.message DROP COLUMN gone")
    database.grant()
    # Through both ways of reading: an interval larger than the probe, and small ones.
    database.execute("INSERT INTO outbox.message (routing_key, payload_text) SELECT %s, n::text FROM generate_series(1, 50) n",
                     [queue])
    database.execute("INSERT INTO outbox.message (routing_key, payload_text, size) VALUES (%s, 'last', 'yours')", [queue])
    drain(relay, publish={"batch": 5})
    assert [m.body.decode() for m in broker.take(queue, 51)] == [*map(str, range(1, 51)), "last"]
    assert database.query("SELECT size, before, count(*) FROM outbox.message GROUP BY 1, 2 ORDER BY 3") == [
        ("yours", 5, 1), ("mine", 5, 50)]


@pytest.mark.parametrize("schema", ["events_2", "_", "message", "sent", "a" * 40])
def test_another_schema_works_end_to_end(empty_database, broker, relay, schema, tmp_path):
    database = empty_database
    database.schema = schema
    queue = broker.queue()
    done = relay.command("migrate", "up", "--schema", schema, config={"postgres": {"dsn": database.dsn("owner")}})
    assert done.returncode == 0, done.stderr
    database.grant()
    assert database.value("SELECT to_regnamespace('outbox') IS NULL")
    running = relay(config={"postgres": {"schema": schema}, "wake": {"poll_interval": "1h"}})
    running.wait_log("broker_connected")
    # Asleep: only a NOTIFY on the schema's own channel can wake it.
    wait_until(lambda: database.query(
        "SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = %s::regclass::oid AND objid <> 4294967295"
        " AND mode = 'ExclusiveLock'", [f"{schema}.message"]), 10)
    id, message_id = insert(database, routing_key=queue, payload_text="x")
    message, = broker.take(queue, 1)
    assert (message.message_id, message.headers) == (message_id, {"x-outbox-id": id})
    wait_until(lambda: database.value(f"SELECT state FROM {schema}.message_status") == "sent", 10)
    assert running.stop() == 0


# ---- what cannot be represented

def forced(database, **columns):
    """As the owner, past every CHECK."""
    for name, in database.query("SELECT conname FROM pg_constraint WHERE conrelid = 'outbox.message'::regclass AND contype = 'c'"):
        database.execute(f"ALTER TABLE outbox.message DROP CONSTRAINT {name}")
    return insert(database, role="owner", **columns)


def nested(levels):
    return json.loads('{"d": ' * levels + "1" + "}" * levels)


UNFIT = {
    "a key of 300 bytes": ({"headers": {"k" * 300: 1}}, "300 bytes"),
    "a deep key of 300 bytes": ({"headers": {"a": [{"é" * 150: 1}]}}, "300 bytes"),
    "nested 40 deep": ({"headers": nested(40)}, "nested"),
    "an integer above int64": ({"headers": {"n": 2**63}}, "64 bits|range|overflow|big"),
    "an integer below int64": ({"headers": {"n": -2**63 - 1}}, "64 bits|range|overflow|big"),
    "a number beyond double": ({"headers": '{"n": 1e400}'}, "range|overflow|big|real"),
    "an array of headers": ({"headers": "[1]"}, "object"),
    "headers larger than a frame": ({"headers": {"a": "x" * 200000}}, "frame|fit"),
    "a type of 256 bytes": ({"type": "t" * 256}, "type"),
    "an exchange of 256 bytes": ({"exchange": "e" * 256}, "exchange"),
    "a routing key of 300 bytes": ({"routing_key": "r" * 300}, "routing key|routing_key"),
    "a priority of 256": ({"priority": 256}, "priority"),
    "a priority below 0": ({"priority": -5}, "priority"),
    "a negative expiration": ({"expiration": "-1 hour"}, "expiration"),
    "an expiration above 2^32 ms": ({"expiration": "50 days"}, "expiration"),
    "created before 1970": ({"created_at": "1969-12-31 23:59:59+00"}, "created_at|timestamp"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_what_cannot_be_represented_is_dead_says_why_and_holds_up_nobody(database, broker, relay, case):
    columns, words = UNFIT[case]
    queue = broker.queue()
    before, _ = insert(database, routing_key=queue, payload_text="before")
    bad, _ = forced(database, **{"routing_key": queue, "payload_text": "bad", **columns})
    after, _ = insert(database, routing_key=queue, payload_text="after")
    running = relay()
    assert [m.body for m in broker.take(queue, 2)] == [b"before", b"after"]
    line = running.wait_log("message_unfit", id=bad)
    assert line["level"] == "error" and re.search(words, line["reason"]), line
    later, _ = insert(database, routing_key=queue, payload_text="later")
    assert broker.take(queue, 1)[0].body == b"later"
    wait_until(lambda: pending(database) == [], 10)
    (id, reason, attempts), = database.query("SELECT id, reason, attempts FROM outbox.dead")
    assert (id, attempts) == (bad, 0) and re.search(words, reason)
    assert running.stop() == 0


@pytest.mark.parametrize("on_dead", ["continue", "hold"])
def test_rows_of_the_key_of_an_unfit_row(database, broker, relay, on_dead):
    queue = broker.queue()
    bad, _ = forced(database, routing_key=queue, payload_text="bad", headers={"k" * 300: 1}, ordering_key="same")
    behind, _ = insert(database, routing_key=queue, payload_text="behind", ordering_key="same")
    insert(database, routing_key=queue, payload_text="other", ordering_key="other")
    running = relay(config={"retry": {"on_dead": on_dead}})
    running.wait_log("message_unfit")
    wait_until(lambda: pending(database) == [], 10)
    waiting = database.query("SELECT id, waits_for FROM outbox.delayed")
    if on_dead == "hold":
        assert broker.take(queue, 1)[0].body == b"other" and waiting == [(behind, "key")]
        database.execute("SELECT outbox.discard_dead(ARRAY[%s]::bigint[])", [bad])
        assert broker.take(queue, 1)[0].body == b"behind"
    else:
        assert {m.body for m in broker.take(queue, 2)} == {b"other", b"behind"} and waiting == []
    assert running.stop() == 0
