"""What schema outbox promises to those who write messages and to those who set it up."""

import contextlib
import datetime
import json
import time
import uuid

import psycopg2
import psycopg2.errors
import psycopg2.extras
import pytest

import sqldb
from schemas import call, cursor, db, db_drop_owned, insert, server, template    # noqa: F401


# ---- defaults

def test_a_row_gets_its_transaction_id_order_slot_and_defaults(cursor):
    cursor.execute("BEGIN")
    first, second = insert(cursor), insert(cursor)
    cursor.execute("SELECT id, xid = pg_current_xact_id(), slot = outbox.current_slot(), exchange, content_type, persistent,"
                   " abs(date_part('epoch', clock_timestamp() - created_at)) < 60 FROM outbox.message ORDER BY id")
    assert cursor.fetchall() == [(first, True, True, "", "application/json", True, True),
                                 (second, True, True, "", "application/json", True, True)]
    assert second == first + 1
    cursor.execute("SELECT count(*) FROM outbox.message AS m JOIN pg_class AS c ON c.oid = m.tableoid"
                   " WHERE c.relname = 'message_' || m.slot")
    assert cursor.fetchone() == (2,)
    cursor.execute("COMMIT")


def test_uuid_v7_has_version_variant_and_the_order_of_time(cursor):
    before = time.time()
    cursor.execute("SELECT outbox.uuid_v7() FROM generate_series(1, 20000)")
    made = [row[0] for row in cursor.fetchall()]
    after = time.time()
    assert len(set(made)) == len(made)
    for u in made:
        assert u.version == 7 and u.variant == uuid.RFC_4122
    stamps = [(u.int >> 80, u.int >> 64 & 0xfff) for u in made]
    assert stamps == sorted(stamps)
    assert before * 1000 - 1 <= stamps[0][0] and stamps[-1][0] <= after * 1000 + 1
    # 12 bits of the fraction of a millisecond, of which a microsecond clock reaches a thousand.
    assert max(s[1] for s in stamps) > 3500 and min(s[1] for s in stamps) < 600


def test_no_vacuum_reads_the_slots_and_created_at_has_a_brin_index(cursor):
    cursor.execute("SELECT c.relname, c.reloptions, t.reloptions FROM pg_class AS c JOIN pg_class AS t ON t.oid = c.reltoastrelid"
                   " WHERE c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'outbox.message'::regclass) ORDER BY 1")
    assert cursor.fetchall() == [(f"message_{n}", ["autovacuum_enabled=off"], ["autovacuum_enabled=off"]) for n in range(3)]
    cursor.execute("SELECT am.amname, pg_get_indexdef(i.indexrelid) FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid"
                   " JOIN pg_am AS am ON am.oid = c.relam WHERE i.indrelid = 'outbox.message'::regclass ORDER BY 1, 2")
    found = sorted((am, text.split("USING")[1]) for am, text in cursor.fetchall())
    assert found == [("brin", " brin (created_at) WITH (pages_per_range='32', autosummarize='on')"),
                     ("btree", " btree (id, slot)"), ("btree", " btree (xid, id)")]


# ---- CHECKs

def nested(levels):
    value = 1
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize("columns, constraint", [
    ({"exchange": "e" * 256}, "exchange_at_most_255_bytes"),
    ({"routing_key": "é" * 128}, "routing_key_at_most_255_bytes"),
    ({"type": "t" * 256}, "type_at_most_255_bytes"),
    ({"app_id": "t" * 256}, "app_id_at_most_255_bytes"),
    ({"content_type": "t" * 256}, "content_type_at_most_255_bytes"),
    ({"content_encoding": "t" * 256}, "content_encoding_at_most_255_bytes"),
    ({"correlation_id": "t" * 256}, "correlation_id_at_most_255_bytes"),
    ({"reply_to": "t" * 256}, "reply_to_at_most_255_bytes"),
    ({"ordering_key": "k" * 1025}, "ordering_key_at_most_1024_bytes"),
    ({"payload_text": None}, "payload_exactly_one_of_bytea_text_json"),
    ({"payload_text": "a", "payload": b"a"}, "payload_exactly_one_of_bytea_text_json"),
    ({"payload_text": "a" * (16 * 1024 * 1024 + 1)}, "payload_at_most_payload_limit"),
    ({"payload": b"a" * (16 * 1024 * 1024 + 1)}, "payload_at_most_payload_limit"),
    ({"payload_json": '"' + "a" * (16 * 1024 * 1024 - 1) + '"'}, "payload_at_most_payload_limit"),
    ({"expiration": "-1 ms"}, "expiration_without_months_below_2_to_32_ms"),
    ({"expiration": "1 month"}, "expiration_without_months_below_2_to_32_ms"),
    ({"expiration": "1 year"}, "expiration_without_months_below_2_to_32_ms"),
    ({"expiration": "4294967296 ms"}, "expiration_without_months_below_2_to_32_ms"),
    ({"priority": -1}, "priority_0_to_255"),
    ({"priority": 256}, "priority_0_to_255"),
    ({"created_at": "1969-12-31 00:00:00+00"}, "created_at_1970_to_9999"),
    ({"created_at": "infinity"}, "created_at_1970_to_9999"),
])
def test_what_amqp_cannot_carry_is_refused_by_a_constraint_that_says_why(cursor, columns, constraint):
    with pytest.raises(psycopg2.errors.CheckViolation) as e:
        insert(cursor, **columns)
    said = e.value.diag
    assert (said.schema_name, said.table_name, said.constraint_name) == ("outbox", "message", constraint)
    # Neither the caller's log nor the server's gets the row.
    assert constraint in said.message_primary and said.message_detail is None


@pytest.mark.parametrize("columns", [
    {"exchange": "e" * 255, "routing_key": "é" * 127, "type": "t" * 255, "reply_to": "r" * 255},
    {"routing_key": ""},
    {"ordering_key": "k" * 1024},
    {"payload_text": ""},
    {"payload": b""},
    {"payload_text": "a" * (16 * 1024 * 1024)},
    {"expiration": "0"}, {"expiration": "4294967295 ms"}, {"expiration": "49 days"},
    {"priority": 0}, {"priority": 255},
    {"headers": "{}"},
    {"headers": json.dumps({"k" * 255: "v" * 100000})},
    {"headers": json.dumps({"min": -2**63, "max": 2**63 - 1, "f": 1.5, "t": [1, "x", None, True, {"a": []}]})},
    {"headers": json.dumps(nested(32))},
    {"headers": json.dumps({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})},
    {"headers": json.dumps({"nested": {"x-ordering-key": 1}})},
])
def test_what_amqp_can_carry_is_taken(cursor, columns):
    assert insert(cursor, **columns) > 0


@pytest.mark.parametrize("headers, words", [
    ([1], "must be a JSON object, not array"),
    ("text", "must be a JSON object, not string"),
    ({"x-ordering-key": "a"}, "the relay sets them"),
    ({"x-outbox-id": 1}, '"x-outbox-id": the relay sets them'),
    ({"n": 2**63}, "outside the range of int64"),
    ({"n": {"a": [-2**63 - 1]}}, "outside the range of int64"),
    ({"n": [[[1e300]]]}, "outside the range of int64"),
    (nested(33), "more than 32 levels"),
    ({"a": json.loads("[" * 32 + "]" * 32)}, "more than 32 levels"),
    ({"k" * 256: 1}, "key longer than 255 bytes"),
    ({"é" * 128: 1}, "key longer than 255 bytes"),
    ({"a": [{"b": {"k" * 300: 1}}]}, "key longer than 255 bytes"),
])
def test_headers_are_refused_with_a_sentence(cursor, headers, words):
    with pytest.raises(psycopg2.errors.CheckViolation) as e:
        insert(cursor, headers=json.dumps(headers))
    assert words in e.value.diag.message_primary


def test_delayed_refuses_what_a_message_refuses(cursor):
    for columns in ({"priority": 256}, {"routing_key": "r" * 256}, {"headers": {"n": 2**64}},
                    {"expiration": "1 month"}, {"deliver_at": "infinity"}):
        columns = {"routing_key": "rk", "deliver_at": "2100-01-01", **columns}
        columns["headers"] = psycopg2.extras.Json(columns.get("headers"))
        with pytest.raises(psycopg2.errors.CheckViolation):
            call(cursor, "'x'::text", **{k: v for k, v in columns.items() if k != "routing_key"},
                 routing_key=columns["routing_key"])


def test_the_payload_limit_can_be_set_and_holds_for_scheduled_messages(cursor):
    cursor.execute("SELECT outbox.set_payload_limit(10)")
    insert(cursor, payload_text="a" * 10)
    for deliver_at in (None, "2100-01-01"):
        with pytest.raises(psycopg2.errors.CheckViolation) as e:
            call(cursor, "'12345678901'::text", deliver_at=deliver_at)
        assert e.value.diag.constraint_name == "payload_at_most_payload_limit"
    # The relay must be able to put aside what was written before the limit fell.
    cursor.execute("INSERT INTO outbox.delayed (id, message_id, exchange, routing_key, payload_text, next_attempt_at)"
                   " VALUES (1000, outbox.uuid_v7(), '', 'rk', repeat('a', 11), now())")
    cursor.execute("SELECT outbox.set_payload_limit(104857600)")
    insert(cursor, payload="a" * 20_000_000)
    for wrong in ("-1", "NULL", "536870913"):
        with pytest.raises(psycopg2.errors.InvalidParameterValue):
            cursor.execute(f"SELECT outbox.set_payload_limit({wrong})")


# ---- publish

NASTY = r'{"a": "back\\slash \"quote\" \u00e9 é \n", "b" :  1.10, "b": 2}'


@pytest.mark.parametrize("payload, column, expected", [
    ("$x$" + NASTY + "$x$", "payload_text", NASTY),
    ("$x$" + NASTY + "$x$::text", "payload_text", NASTY),
    ("$x$" + NASTY + "$x$::json", "payload_text", NASTY),
    ("$x$" + NASTY + "$x$::varchar", "payload_text", NASTY),
    ("convert_to($x$" + NASTY + "$x$, 'UTF8')", "payload", NASTY.encode()),
    (r"'\x00ff5c22'::bytea", "payload", b"\x00\xff\\\""),
    ("$x$" + NASTY + "$x$::jsonb", "payload_json", {"a": 'back\\slash "quote" é é \n', "b": 2}),
])
def test_publish_takes_each_kind_of_payload_unchanged(cursor, payload, column, expected):
    message_id = call(cursor, payload)
    cursor.execute(f"SELECT {column}, num_nonnulls(payload, payload_text, payload_json), exchange, routing_key, content_type"
                   " FROM outbox.message WHERE message_id = %s", (message_id,))
    value, *others = cursor.fetchone()
    assert (bytes(value) if column == "payload" else value) == expected
    assert others == [1, "ex", "rk", "application/json"]


def test_publish_fills_every_column_by_name(cursor):
    mine = uuid.uuid4()
    columns = {"ordering_key": "k", "headers": psycopg2.extras.Json({"a": [1]}), "type": "t", "content_type": "text/plain",
               "content_encoding": "gzip", "correlation_id": "c", "reply_to": "r", "expiration": "90 seconds",
               "priority": 7, "app_id": "app", "persistent": False, "message_id": mine}
    names = list(columns)
    expected = ["k", {"a": [1]}, "t", "text/plain", "gzip", "c", "r", datetime.timedelta(seconds=90), 7, "app", False, mine]
    assert call(cursor, "'x'", **columns) == mine
    cursor.execute(f"SELECT {', '.join(names)} FROM outbox.message")
    assert list(cursor.fetchone()) == expected
    other = uuid.uuid4()
    assert call(cursor, "'x'", **{**columns, "message_id": other}, deliver_at="2100-01-01 00:00+00") == other
    cursor.execute(f"SELECT {', '.join(names[:-1])}, attempts, deliver_at = next_attempt_at, date_part('year', deliver_at), history"
                   " FROM outbox.delayed")
    assert list(cursor.fetchone()) == expected[:-1] + [0, True, 2100, []]


def test_scheduled_messages_take_their_id_from_the_same_sequence(cursor):
    first = insert(cursor)
    scheduled = call(cursor, "'{}'::json", deliver_at="2100-01-01")
    last = insert(cursor)
    cursor.execute("SELECT id FROM outbox.delayed WHERE message_id = %s", (scheduled,))
    assert cursor.fetchall() == [(first + 1,)] and last == first + 2


def test_publish_that_is_rolled_back_leaves_nothing(cursor):
    cursor.execute("BEGIN")
    call(cursor, "'x'")
    call(cursor, "'x'", deliver_at="2100-01-01")
    cursor.execute("ROLLBACK")
    cursor.execute("SELECT count(*) FROM outbox.message_status")
    assert cursor.fetchone() == (0,)


def test_columns_that_the_application_adds_survive(db, cursor):
    cursor.execute("ALTER TABLE outbox.message ADD COLUMN tenant text DEFAULT 'none', ADD COLUMN note text")
    insert(cursor, tenant="blue")
    call(cursor, "'x'")
    cursor.execute("SELECT tenant, note FROM outbox.message ORDER BY id")
    assert cursor.fetchall() == [("blue", None), ("none", None)]
    with sqldb.role() as writer:
        cursor.execute("SELECT outbox.grant_writer(%s)", (writer,))
        db.rows("INSERT INTO outbox.message (routing_key, payload_text, tenant) VALUES ('rk', 'x', 'red')", user=writer)
        db_drop_owned(db, writer)


# ---- retention

def test_retention_sets_the_period_of_the_slots(cursor):
    def settings():
        cursor.execute("SELECT outbox.retention(), outbox.slot_period()")
        return [t.total_seconds() for t in cursor.fetchone()]
    assert settings() == [86400, 86400]
    cursor.execute("SELECT outbox.set_retention('2 hours')")
    assert settings() == [7200, 7200]
    cursor.execute("SELECT outbox.current_slot() = mod(floor(date_part('epoch', now()) / 7200)::bigint, 3)")
    assert cursor.fetchone() == (True,)
    cursor.execute("SELECT outbox.set_retention('0')")
    assert settings() == [0, 60]
    for wrong in ("'-1 second'", "NULL", "'20 years'"):
        with pytest.raises(psycopg2.errors.InvalidParameterValue):
            cursor.execute(f"SELECT outbox.set_retention({wrong})")
    assert settings() == [0, 60]


def test_every_slot_comes_up_as_time_passes(cursor):
    cursor.execute("SELECT pg_get_functiondef('outbox.current_slot()'::regprocedure)")
    body = cursor.fetchone()[0].split("$function$")[1]
    base = 1_800_000_000 // 259200 * 259200
    found = []
    for hours in range(0, 96, 12):
        cursor.execute(body.replace("now()", f"to_timestamp({base + hours * 3600})"))
        found.append(cursor.fetchone()[0])
    assert found == [0, 0, 1, 1, 2, 2, 0, 0]


# ---- wake-up

def test_a_sleeping_relay_is_woken_and_one_that_is_awake_costs_nothing(db, cursor):
    def holds(connection, *seconds):
        c = connection.cursor()
        for s in seconds:
            c.execute("SELECT pg_advisory_lock('outbox.message'::regclass::oid::int4,"
                      " ((floor(date_part('epoch', clock_timestamp()))::bigint + %s) & 1073741823)::int4)", (s,))

    def notified():
        cursor.execute("SELECT 1")
        cursor.connection.poll()
        seen = [n.channel for n in cursor.connection.notifies]
        cursor.connection.notifies.clear()
        return seen

    cursor.execute("LISTEN outbox_wake")
    with contextlib.closing(db.connect()) as writer:
        insert(writer.cursor())
        assert notified() == []
        with contextlib.closing(db.connect()) as relay:
            holds(relay, *range(30))
            insert(writer.cursor())
            assert notified() == ["outbox_wake"]
            call(writer.cursor(), "'x'", deliver_at="2100-01-01")
            assert notified() == ["outbox_wake"]
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
        while cursor.fetchone()[0] > 0:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
        insert(writer.cursor())
        assert notified() == []
