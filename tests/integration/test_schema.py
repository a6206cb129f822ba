"""What schema outbox promises to those who write messages, read their status and administer them."""

import contextlib
import datetime
import json
import random
import time
import uuid

import psycopg2
import psycopg2.errors
import psycopg2.extras
import pytest

import sqldb


@pytest.fixture(scope="module", autouse=True)
def server(session_stack):
    sqldb.use(session_stack.env)


@pytest.fixture(scope="module")
def template(server):
    with sqldb.database() as db:
        db.up()
        yield db.name


@pytest.fixture
def db(template):
    with sqldb.database(template=template) as db:
        yield db


@pytest.fixture
def cursor(db):
    with contextlib.closing(db.connect()) as connection:
        yield connection.cursor()


def insert(cursor, **columns):
    columns = {"routing_key": "rk", **columns}
    if not {"payload", "payload_text", "payload_json"} & set(columns):
        columns["payload_text"] = "hello"
    cursor.execute(f"INSERT INTO outbox.message ({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(columns))})"
                   " RETURNING id", list(columns.values()))
    return cursor.fetchone()[0]


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
    assert e.value.diag.constraint_name == constraint


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

def call(cursor, payload, routing_key="rk", **named):
    named = {k: v for k, v in named.items() if v is not None}
    cursor.execute("SELECT outbox.publish('ex', %s, " + payload.replace("%", "%%") +
                   "".join(f", {name} => %s" for name in named) + ")", [routing_key, *named.values()])
    return cursor.fetchone()[0]


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


def db_drop_owned(db, name):
    with contextlib.closing(sqldb.superuser(db.name)) as admin:
        admin.cursor().execute(f"DROP OWNED BY {name}")


# ---- roles

@contextlib.contextmanager
def granted(db, kind):
    with sqldb.role() as name:
        db.rows(f"SELECT outbox.grant_{kind}(%s)", (name,))
        connection = db.connect(name)
        try:
            yield connection.cursor()
        finally:
            connection.close()
            db_drop_owned(db, name)


def refused(cursor, sql):
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        cursor.execute(sql)


FUNCTIONS = {
    "applied_migrations": "()", "schema_version": "()", "record_migration": "(9, 'x', true)", "retention": "()",
    "slot_period": "()", "current_slot": "()", "payload_limit": "()", "uuid_v7": "()", "headers_valid": "('{}')",
    "backlog": "()", "set_retention": "('1 day')", "set_payload_limit": "(1)", "grant_writer": "('x')",
    "grant_relay": "('x')", "grant_monitor": "('x')", "publish": "('e', 'r', 'p')", "write_message": None,
    "schedule_message": None, "wake": None, "wake_delayed": None, "release_keys": "('{k}', '{1}', '{1}')", "retry_dead": "('{1}')",
    "discard_dead": "('{1}')", "operator": "()", "pause": "()", "resume": "()",
    "discard_pending": "()", "end_discard": "(1)"}


def callable_functions(cursor):
    """Names of the functions that the cursor's role may call."""
    cursor.execute("SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'outbox'::regnamespace")
    assert {row[0] for row in cursor.fetchall()} == set(FUNCTIONS)
    cursor.execute("SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'outbox'::regnamespace"
                   " AND has_function_privilege(oid, 'EXECUTE')")
    return {row[0] for row in cursor.fetchall()}


def table_privileges(cursor):
    cursor.execute("SELECT c.relname, p.p FROM pg_class AS c CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE',"
                   " 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS p(p) WHERE c.relnamespace = 'outbox'::regnamespace"
                   " AND c.relkind IN ('r', 'p', 'v') AND has_table_privilege(c.oid, p.p)")
    found = {}
    for table, privilege in cursor.fetchall():
        found.setdefault(table, set()).add(privilege)
    return found


TABLES = ["message", "message_0", "message_1", "message_2", "sent", "delayed", "dead", "operation", "migration",
          "message_status"]


def test_a_writer_inserts_and_reads_back_ids_and_nothing_else(db):
    with granted(db, "writer") as c:
        c.execute("INSERT INTO outbox.message (exchange, routing_key, payload_text, headers) VALUES ('e', 'r', 'x', '{\"a\": 1}')"
                  " RETURNING id, message_id")
        one = c.fetchone()
        c.execute("SELECT outbox.publish('e', 'r', '{}'::json), outbox.publish('e', 'r', '{}'::jsonb),"
                  " outbox.publish('e', 'r', 'x'), outbox.publish('e', 'r', 'x'::bytea),"
                  " outbox.publish('e', 'r', 'x', deliver_at => now() + '1h')")
        ids = c.fetchone()
        c.execute("SELECT id, message_id FROM outbox.message ORDER BY id")
        assert [m for _, m in c.fetchall()] == [one[1], *ids[:4]]

        for forged in ("xid", "id", "slot"):
            for overriding in ("OVERRIDING SYSTEM VALUE", "OVERRIDING USER VALUE"):
                refused(c, f"INSERT INTO outbox.message (routing_key, payload_text, {forged}) {overriding} VALUES ('r', 'x', '1')")
        for column in ("xid", "slot", "payload", "payload_text", "payload_json", "headers", "routing_key", "created_at", "*"):
            refused(c, f"SELECT {column} FROM outbox.message")
        refused(c, "INSERT INTO outbox.message (routing_key, payload_text) VALUES ('r', 'x') RETURNING xid")
        refused(c, "UPDATE outbox.message SET routing_key = 'x'")
        refused(c, "UPDATE outbox.message SET xid = '1'")
        refused(c, "DELETE FROM outbox.message")
        refused(c, "TRUNCATE outbox.message")
        refused(c, "DO $$ BEGIN LOCK TABLE outbox.message IN SHARE MODE; END $$")
        refused(c, "COPY outbox.message TO STDOUT")
        refused(c, "CREATE TABLE outbox.mine ()")
        refused(c, "SELECT nextval('outbox.message_id_seq')")
        refused(c, "SELECT setval('outbox.message_id_seq', 1)")
        refused(c, "INSERT INTO outbox.message_0 (routing_key, payload_text) VALUES ('r', 'x')")
        for table in TABLES[1:]:
            refused(c, f"SELECT 1 FROM outbox.{table}")
        for table in TABLES[1:-1]:
            refused(c, f"DELETE FROM outbox.{table}")
        for table in ("sent", "delayed", "dead", "operation", "migration"):
            refused(c, f"INSERT INTO outbox.{table} DEFAULT VALUES")
        assert table_privileges(c) == {}
        allowed = {"publish", "write_message", "schedule_message", "uuid_v7", "current_slot", "payload_limit", "headers_valid"}
        assert callable_functions(c) == allowed
        for name, arguments in FUNCTIONS.items():
            if arguments is not None and name not in allowed:
                refused(c, f"SELECT outbox.{name}{arguments}")


def test_a_writer_cannot_borrow_the_owners_rights_through_search_path(db):
    with granted(db, "writer") as c:
        c.execute("CREATE TEMP TABLE delayed (LIKE pg_class)")
        c.execute("CREATE FUNCTION pg_temp.octet_length(text) RETURNS int LANGUAGE plpgsql AS $$"
                  " BEGIN RAISE EXCEPTION 'called as %', current_user; END $$")
        c.execute("SET search_path = pg_temp, pg_catalog")
        c.execute("SELECT outbox.publish('e', 'r', 'x', deliver_at => now())")
        assert c.rowcount == 1
    assert db.value("SELECT count(*) FROM outbox.delayed") == 1


def test_the_relay_has_what_it_needs_and_nothing_more(db):
    with granted(db, "relay") as c:
        leaf = {"SELECT", "TRUNCATE"}
        assert table_privileges(c) == {
            "message": {"SELECT"}, "message_0": leaf, "message_1": leaf, "message_2": leaf,
            "sent": {"SELECT", "INSERT", "DELETE"}, "delayed": {"SELECT", "INSERT", "UPDATE", "DELETE"},
            "dead": {"SELECT", "INSERT", "UPDATE", "DELETE"}, "operation": {"SELECT", "INSERT"},
            "migration": {"SELECT"}, "message_status": {"SELECT"}, "pause": {"SELECT", "INSERT", "DELETE"},
            "discard": {"SELECT", "INSERT", "UPDATE"}}
        assert callable_functions(c) == {
            "applied_migrations", "schema_version", "retention", "slot_period", "current_slot", "payload_limit",
            "uuid_v7", "headers_valid", "backlog", "release_keys", "operator", "retry_dead", "discard_dead",
            "pause", "resume", "discard_pending", "end_discard"}
        c.execute("SELECT * FROM outbox.backlog()")
        c.execute("SELECT * FROM outbox.message_status")
        c.execute("INSERT INTO outbox.operation (operation) VALUES ('pause')")
        c.execute("INSERT INTO outbox.delayed (id, routing_key, payload_text, headers, next_attempt_at)"
                  " VALUES (5, 'r', 'x', '{}', now())")
        c.execute("BEGIN; LOCK TABLE ONLY outbox.message_1 IN ACCESS EXCLUSIVE MODE NOWAIT; TRUNCATE outbox.message_1; COMMIT")
        refused(c, "INSERT INTO outbox.message (routing_key, payload_text) VALUES ('r', 'x')")
        refused(c, "TRUNCATE outbox.message")
        refused(c, "UPDATE outbox.sent SET last_id = 1")


def test_a_monitor_reads_status_without_payloads(db, cursor):
    insert(cursor)
    call(cursor, "'x'", deliver_at="2100-01-01")
    with granted(db, "monitor") as c:
        c.execute("SELECT state FROM outbox.message_status ORDER BY id")
        assert c.fetchall() == [("pending",), ("delayed",)]
        c.execute("SELECT pending, delayed FROM outbox.backlog()")
        assert c.fetchone() == (1, 1)
        for table in ("message", "message_0", "delayed", "dead"):
            refused(c, f"SELECT * FROM outbox.{table}")
        assert table_privileges(c) == {t: {"SELECT"} for t in ("message_status", "sent", "operation", "migration", "pause", "discard")}
        assert "publish" not in callable_functions(c)
        c.execute("SELECT column_name FROM information_schema.columns WHERE table_schema = 'outbox'"
                  " AND table_name = 'message_status' AND (column_name LIKE 'payload%' OR column_name = 'headers')")
        assert c.fetchall() == []


def test_public_has_nothing(db):
    with sqldb.role() as nobody, contextlib.closing(db.connect(nobody)) as connection:
        c = connection.cursor()
        refused(c, "SELECT outbox.retention()")
        refused(c, "SELECT 1 FROM outbox.message")
        # Neither with the schema opened to it.
        db.rows(f"GRANT USAGE ON SCHEMA outbox TO {nobody}")
        assert callable_functions(c) == set()
        assert table_privileges(c) == {}
        db_drop_owned(db, nobody)


def test_grants_for_an_unknown_role_name_it(cursor):
    for kind in ("writer", "relay", "monitor"):
        with pytest.raises(psycopg2.errors.UndefinedObject, match='"no such role"'):
            cursor.execute(f"SELECT outbox.grant_{kind}('no such role')")


# ---- status

class Marks:
    """Writes marks as the relay does."""

    def __init__(self, cursor):
        self.cursor = cursor
        self.seq = 0

    def add(self, prev, target=None, last_id=0, sent_at=None):
        self.seq += 1
        self.cursor.execute(
            "INSERT INTO outbox.sent (seq, sent_at, prev, target, last_id, floor_id, max_id, messages, system_identifier,"
            " database_oid, table_oid) VALUES (%s, %s, %s, %s, %s, (SELECT coalesce(max(id), 0) FROM outbox.message"
            " WHERE pg_visible_in_snapshot(xid, %s::pg_snapshot)), 0, 1, 1, 1, 1)",
            (self.seq, sent_at or f"2026-01-01 00:00:{self.seq:02d}+00", prev, target, last_id, prev))


def snapshot(cursor):
    cursor.execute("SELECT pg_current_snapshot()::text")
    return cursor.fetchone()[0]


def status(cursor):
    cursor.execute("SELECT id, state, date_part('second', sent_at)::int FROM outbox.message_status ORDER BY id")
    return {row[0]: row[1:] for row in cursor.fetchall()}


def backlog(cursor):
    cursor.execute("SELECT pending, delayed, dead, estimated FROM outbox.backlog()")
    return cursor.fetchone()


PENDING = ("pending", None)


def test_a_row_is_sent_from_the_first_mark_on_that_covers_it(cursor):
    marks = Marks(cursor)
    a, b = insert(cursor), insert(cursor)
    assert status(cursor) == {a: PENDING, b: PENDING}
    assert backlog(cursor) == (2, 0, 0, False)
    empty, both = "1:1:", snapshot(cursor)
    c = insert(cursor)
    marks.add(empty, both, a)
    assert status(cursor) == {a: ("sent", 1), b: PENDING, c: PENDING}
    assert backlog(cursor) == (2, 0, 0, False)
    marks.add(empty, both, b)
    assert status(cursor) == {a: ("sent", 1), b: ("sent", 2), c: PENDING}
    assert backlog(cursor) == (1, 0, 0, False)
    marks.add(both)
    assert status(cursor) == {a: ("sent", 1), b: ("sent", 2), c: PENDING}
    three = snapshot(cursor)
    d = insert(cursor)
    marks.add(both, three, c)
    assert status(cursor) == {a: ("sent", 1), b: ("sent", 2), c: ("sent", 4), d: PENDING}
    assert backlog(cursor) == (1, 0, 0, False)
    # Marks are trimmed from the front: then the first one left.
    cursor.execute("DELETE FROM outbox.sent WHERE seq < 3")
    assert status(cursor) == {a: ("sent", 3), b: ("sent", 3), c: ("sent", 4), d: PENDING}


def test_a_transaction_that_commits_late_is_pending_until_its_own_interval(db, cursor):
    marks = Marks(cursor)
    with contextlib.closing(db.connect(autocommit=False)) as late:
        straggler = insert(late.cursor())
        early = insert(cursor)
        first = snapshot(cursor)
        late.commit()
    after = insert(cursor)
    # The interval up to ${first} does not hold the straggler although its id is lower.
    marks.add("1:1:", first, early)
    assert status(cursor) == {straggler: PENDING, early: ("sent", 1), after: PENDING}
    assert backlog(cursor) == (2, 0, 0, False)
    marks.add(first)
    assert status(cursor) == {straggler: PENDING, early: ("sent", 1), after: PENDING}
    assert backlog(cursor) == (2, 0, 0, False)
    second = snapshot(cursor)
    marks.add(first, second, straggler)
    assert status(cursor) == {straggler: ("sent", 3), early: ("sent", 1), after: PENDING}
    assert backlog(cursor) == (1, 0, 0, False)
    marks.add(second)
    assert status(cursor) == {straggler: ("sent", 3), early: ("sent", 1), after: ("sent", 4)}
    assert backlog(cursor) == (0, 0, 0, False)


def test_backlog_counts_what_the_status_view_calls_pending_in_random_histories(db, cursor):
    for seed in range(5):
        rng = random.Random(seed)
        cursor.execute("TRUNCATE outbox.message, outbox.sent RESTART IDENTITY")
        marks = Marks(cursor)
        writers = [db.connect(autocommit=False) for _ in range(4)]
        prev, target, reached = snapshot(cursor), None, 0
        try:
            for _ in range(60):
                step = rng.random()
                if step < 0.5:
                    insert(rng.choice(writers).cursor())
                elif step < 0.75:
                    writer = rng.choice(writers)
                    writer.commit() if rng.random() < 0.8 else writer.rollback()
                else:
                    if target is None:
                        target, reached = snapshot(cursor), 0
                    cursor.execute("SELECT id FROM outbox.message WHERE pg_visible_in_snapshot(xid, %s::pg_snapshot)"
                                   " AND NOT pg_visible_in_snapshot(xid, %s::pg_snapshot) AND id > %s ORDER BY id LIMIT 3",
                                   (target, prev, reached))
                    rows = cursor.fetchall()
                    if len(rows) < 3:
                        prev, target = target, None
                        marks.add(prev, sent_at="2026-01-01")
                    else:
                        reached = rows[-1][0]
                        marks.add(prev, target, reached, sent_at="2026-01-01")
                cursor.execute("SELECT count(*) FILTER (WHERE state = 'pending'), count(*) FILTER (WHERE state = 'sent'),"
                               " count(*) FILTER (WHERE (state = 'sent') <> (sent_at IS NOT NULL)) FROM outbox.message_status")
                pending, sent, wrong = cursor.fetchone()
                assert backlog(cursor) == (pending, 0, 0, False), f"seed {seed}"
                assert wrong == 0
        finally:
            for writer in writers:
                writer.close()
        assert sent > 0 and marks.seq > 3


def test_delayed_and_dead_rows_have_their_state_once_whether_kept_as_message_or_not(cursor):
    marks = Marks(cursor)
    kept_delayed, kept_dead, plain = insert(cursor), insert(cursor), insert(cursor)
    marks.add(snapshot(cursor))
    cursor.execute("INSERT INTO outbox.delayed (id, message_id, exchange, routing_key, payload_text, attempts, last_error, next_attempt_at)"
                   " SELECT id, message_id, exchange, routing_key, payload_text, 3, 'nacked', now() FROM outbox.message WHERE id = %s",
                   (kept_delayed,))
    cursor.execute("INSERT INTO outbox.dead (id, message_id, exchange, routing_key, payload_text, persistent, created_at, attempts,"
                   " last_error, reason) SELECT id, message_id, exchange, routing_key, payload_text, true, created_at, 10, 'unroutable',"
                   " 'attempts' FROM outbox.message WHERE id = %s", (kept_dead,))
    cursor.execute("INSERT INTO outbox.dead (id, message_id, exchange, routing_key, persistent, created_at, reason)"
                   " VALUES (1000, outbox.uuid_v7(), '', 'rk', true, now(), 'unfit')")
    call(cursor, "'x'", deliver_at="2100-01-01")
    cursor.execute("SELECT id, state, sent_at IS NULL, attempts, last_error, reason, slot IS NULL FROM outbox.message_status ORDER BY id")
    assert cursor.fetchall() == [
        (kept_delayed, "delayed", True, 3, "nacked", None, False), (kept_dead, "dead", True, 10, "unroutable", "attempts", False),
        (plain, "sent", False, 0, None, None, False), (plain + 1, "delayed", True, 0, None, None, True),
        (1000, "dead", True, 0, None, "unfit", True)]
    assert backlog(cursor) == (0, 2, 2, False)


def test_backlog_is_exact_to_ten_thousand_and_estimates_above_without_reading_it(cursor):
    cursor.execute("INSERT INTO outbox.message (routing_key, payload_text) SELECT 'r', 'x' FROM generate_series(1, 10000)")
    assert backlog(cursor) == (10000, 0, 0, False)
    cursor.execute("INSERT INTO outbox.message (routing_key, payload_text) SELECT 'r', 'x' FROM generate_series(1, 190000)")
    before = leaf_reads(cursor)
    pending, _, _, estimated = backlog(cursor)
    assert estimated and 199000 <= pending <= 201000
    assert 10000 < leaf_reads(cursor) - before <= 25000
    marks = Marks(cursor)
    marks.add("1:1:", snapshot(cursor), 199990)
    assert backlog(cursor) == (10, 0, 0, False)
    cursor.execute("SELECT oldest_pending_age BETWEEN '0' AND '5 min' FROM outbox.backlog()")
    assert cursor.fetchone() == (True,)
    marks.add(snapshot(cursor))
    cursor.execute("SELECT pending, oldest_pending_age FROM outbox.backlog()")
    assert cursor.fetchone() == (0, None)


def leaf_reads(cursor):
    """Rows read from the slots so far."""
    cursor.execute("SELECT pg_stat_force_next_flush()")
    cursor.execute("SELECT sum(seq_tup_read) + sum(idx_tup_fetch) FROM pg_stat_user_tables"
                   " WHERE schemaname = 'outbox' AND relname LIKE 'message_%'")
    return int(cursor.fetchone()[0])


def test_rows_after_a_restart_of_the_identity_are_pending(cursor):
    marks = Marks(cursor)
    for _ in range(5):
        insert(cursor)
    marks.add(snapshot(cursor))
    cursor.execute("TRUNCATE outbox.message RESTART IDENTITY")
    assert insert(cursor) == 1
    assert backlog(cursor) == (1, 0, 0, False)
    assert status(cursor) == {1: PENDING}


def test_status_of_one_id_is_found_by_index_and_of_a_hundred_thousand_in_time(cursor):
    marks = Marks(cursor)
    cursor.execute("INSERT INTO outbox.message (routing_key, payload_text) SELECT 'r', 'x' FROM generate_series(1, 100000)")
    target = snapshot(cursor)
    for last_id in range(2500, 100001, 2500):
        marks.add("1:1:", target, last_id, sent_at="2026-01-01")
    cursor.execute("EXPLAIN (FORMAT JSON) SELECT * FROM outbox.message_status WHERE id = 77777")
    assert not set(seq_scanned(cursor.fetchone()[0])) & {"message_0", "message_1", "message_2"}
    began = time.monotonic()
    cursor.execute("SELECT state FROM outbox.message_status WHERE id = 99999")
    assert cursor.fetchone() == ("sent",)
    assert time.monotonic() - began < 1
    began = time.monotonic()
    cursor.execute("SELECT count(sent_at), count(DISTINCT state) FROM outbox.message_status")
    assert cursor.fetchone() == (100000, 1)
    assert time.monotonic() - began < 20


def seq_scanned(plan):
    if isinstance(plan, list):
        return [t for p in plan for t in seq_scanned(p)]
    if isinstance(plan, dict):
        own = [plan["Relation Name"]] if plan.get("Node Type") == "Seq Scan" else []
        return own + [t for v in plan.values() if isinstance(v, (list, dict)) for t in seq_scanned(v)]
    return []


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
