"""What a database, its role or its neighbours may be like, far from the outbox: none of it may cost a message or keep
others waiting.
"""

import pytest

from conftest import Database, wait_until

PERMISSION = 77


@pytest.fixture
def encoded(request, stack):
    """A database of another encoding, with the migrations."""
    database = Database(stack)
    database.create(f"ENCODING '{request.param}' LOCALE 'C' TEMPLATE template0")
    database.migrate()
    database.grant()
    yield database
    database.drop()


def write(database, *rows):
    """Rows of (routing_key, payload_text, ordering_key, headers), given as bytes in the database's own encoding."""
    with database.connect("writer", autocommit=True) as writer, writer.cursor() as cursor:
        cursor.execute("SELECT getdatabaseencoding()")
        encoding = cursor.fetchone()[0]
        cursor.execute("SET client_encoding = %s", [encoding])
        for row in rows:
            values = b", ".join(b"NULL" if v is None else b"'" + v + b"'" for v in row)
            cursor.execute(b"INSERT INTO outbox.message (routing_key, payload_text, ordering_key, headers)"
                           b" VALUES (" + values + b")")


@pytest.mark.parametrize("encoded", ["SQL_ASCII"], indirect=True)
def test_text_that_is_no_utf8_stops_nobody(encoded, broker, relay):
    """A database without an encoding holds any bytes, and the server refuses to show them as UTF-8."""
    queue = broker.queue()
    name = queue.encode()
    write(encoded,
          (name, b"before", None, None),
          (name, b"f\xfcr", None, None),
          (name, b"key", b"schl\xfcssel", None),
          (b"f\xfcr", b"to nowhere", None, None),
          (name, b"headers", None, b'{"a": "f\xfcr"}'),
          (name, "für".encode(), None, None))
    config = {"postgres": {"dsn": encoded.dsn("relay")}, "retry": {"max_attempts": 2, "initial": "100ms"}}
    relay(config=config)
    taken = [m.body for m in broker.take(queue, 4)]
    assert b"key" in taken
    assert [body for body in taken if body != b"key"] == [b"before", b"f\xfcr", "für".encode()]
    wait_until(lambda: encoded.query("SELECT pending, dead FROM outbox.backlog()") == [(0, 2)])

    # What such a key waits for, and those behind it.
    write(encoded, (b"nowhere", b"lost", b"schl\xfcssel", None), (name, b"behind", b"schl\xfcssel", None))
    assert broker.take(queue, 1)[0].body == b"behind"
    wait_until(lambda: encoded.query("SELECT pending, delayed, dead FROM outbox.backlog()") == [(0, 0, 3)])
    listed = relay.command("dead", "list", config=config)
    assert listed.returncode == 0 and listed.stdout.count("not valid UTF-8") == 1, listed
    first, *_ = encoded.query("SELECT id FROM outbox.dead ORDER BY id")
    shown = relay.command("message", "show", first[0], "--payload", config=config)
    assert shown.returncode == 0 and "to nowhere" in shown.stdout, shown
    retried = relay.command("dead", "retry", first[0], config=config)
    assert retried.returncode == 0, retried
    wait_until(lambda: encoded.query("SELECT history->-1->>'event' FROM outbox.dead WHERE id = %s", first) == [("dead",)]
               and encoded.value("SELECT count(*) FROM outbox.dead") == 3)


@pytest.mark.parametrize("encoded", ["LATIN1"], indirect=True)
def test_text_of_another_encoding_arrives_as_utf8(encoded, broker, relay):
    queue = broker.queue("grün")
    key = queue.encode("latin-1")
    write(encoded,
          (key, b"f\xfcr", b"schl\xfcssel", b'{"a": "f\xfcr"}'),
          (b"f\xfcr", b"to nowhere", b"schl\xfcssel", None),
          (key, b"next", b"schl\xfcssel", None),
          (b"\xfc" * 200, b"too long in UTF-8", None, None),
          (key, b"last", None, None))
    relay(config={"postgres": {"dsn": encoded.dsn("relay")}, "retry": {"max_attempts": 2, "initial": "100ms"}})
    first, *rest = sorted(broker.take(queue, 3), key=lambda m: m.headers["x-outbox-id"])
    assert first.body.decode() == "für" and first.headers["x-ordering-key"] == "schlüssel" and first.headers["a"] == "für"
    assert [m.body for m in rest] == [b"next", b"last"]
    wait_until(lambda: encoded.query("SELECT pending, delayed, dead FROM outbox.backlog()") == [(0, 0, 2)])


@pytest.mark.parametrize("encoded", ["WIN1252"], indirect=True)
def test_a_character_that_utf8_lacks_is_told_with_what_helps(encoded, broker, relay):
    """The server stores five bytes of this encoding that it then cannot send."""
    queue = broker.queue()
    write(encoded, (queue.encode(), b"a\x81b", None, None), (queue.encode(), b"next", None, None))
    running = relay(config={"postgres": {"dsn": encoded.dsn("relay")}})
    lost = running.wait_log("database_lost", sqlstate="22P05")
    assert "UPDATE the text of that row" in lost["remedy"]
    encoded.execute("UPDATE outbox.message SET payload_text = 'ab' WHERE id = 1")
    assert [m.body for m in broker.take(queue, 2)] == [b"ab", b"next"]


def test_row_security_hides_nothing_from_the_relay(database, broker, relay):
    """Rows that a policy hides would be passed over, and emptied away unsent."""
    queue = broker.queue()
    database.execute("CREATE POLICY tenants ON outbox.message FOR SELECT USING (ordering_key = 'mine')")
    running = relay()
    running.wait_log("broker_connected")

    database.execute("ALTER TABLE outbox.message ENABLE ROW LEVEL SECURITY")
    database.execute("SELECT outbox.publish('', %s, 'x'::text)", [queue])
    # It was well before: somebody changes something, and may change it back.
    lost = running.wait_log("database_lost", count=2)
    assert "row-level security" in lost["error"] and "BYPASSRLS" in lost["remedy"]
    beside = relay.command("run", "--until-empty")
    assert beside.returncode == PERMISSION and "row-level security hides rows of outbox.message" in beside.stderr

    database.execute("ALTER TABLE outbox.message DISABLE ROW LEVEL SECURITY")
    broker.take(queue, 1)


def test_what_a_transaction_has_written_that_stays_open_is_not_waited_for(database, broker, relay):
    """wait_for_flush: its WAL lies behind the message's, and nobody flushes it before it ends."""
    queue = broker.queue()
    database.execute("CREATE TABLE business (n int); INSERT INTO business VALUES (0)")
    running = relay(config={"postgres": {"wait_for_flush": True}})
    running.wait_log("broker_connected")
    running.pause()
    database.execute("SELECT outbox.publish('', %s, 'x'::text)", [queue])
    database.connect().cursor().execute("INSERT INTO business VALUES (1)")
    running.resume()
    broker.take(queue, 1, timeout=5)


SETTINGS = {"default_transaction_isolation": "serializable", "default_transaction_deferrable": "on",
            "standard_conforming_strings": "off", "escape_string_warning": "off", "array_nulls": "off",
            "quote_all_identifiers": "on", "transform_null_equals": "on", "DateStyle": "German, DMY",
            "IntervalStyle": "sql_standard", "TimeZone": "Asia/Kathmandu", "bytea_output": "escape",
            "extra_float_digits": "-15", "client_encoding": "LATIN1", "search_path": '""', "plan_cache_mode":
            "force_custom_plan", "lock_timeout": "1s", "statement_timeout": "2s",
            "idle_in_transaction_session_timeout": "200ms", "enable_indexscan": "off", "enable_sort": "off",
            "client_min_messages": "debug1"}


def test_what_is_set_for_a_role_changes_nothing(empty_database, broker, relay):
    database = empty_database
    for role in database.roles.values():
        for name, value in SETTINGS.items():
            database.execute(f"ALTER ROLE {role} SET {name} = %s", [value], role="postgres")
    migrated = relay.command("migrate", "up", config={"postgres": {"dsn": database.dsn("owner")}})
    assert migrated.returncode == 0, migrated
    database.grant()
    queue = broker.queue()
    relay(config={"retry": {"initial": "1h", "max": "1h"}})
    writer = database.connect("writer", autocommit=True)
    writer.set_client_encoding("UTF8")
    publish = ("SELECT outbox.publish('', %s, %s::text, ordering_key => %s, headers => '{\"f\": 1.5}',"
               " expiration => interval '1 day 2:03:04')")
    for row in ((queue, "a\\b", "k"), (queue, "é", "k"), ("nowhere", "x", "z"), (queue, "behind", "z"), (queue, "last", None)):
        writer.cursor().execute(publish, row)
    taken = sorted(broker.take(queue, 3), key=lambda m: m.headers["x-outbox-id"])
    assert [m.body.decode() for m in taken] == ["a\\b", "é", "last"]
    assert [m.properties.expiration for m in taken] == [str(((24 + 2) * 3600 + 3 * 60 + 4) * 1000)] * 3
    waiting = "SELECT waits_for, last_error, history->0->>'event' FROM outbox.delayed ORDER BY id"
    (first, reason, event), behind = wait_until(lambda: rows if len(rows := database.query(waiting)) == 2 else None)
    assert (first, event) == ("retry", "retry") and "no queue" in reason
    assert behind == ("key", None, None)
    assert relay.command("status").returncode == 0


def test_an_age_is_the_same_in_every_style_of_dates(database, broker, relay):
    """IST, which this style prints, is India's time there and Israel's where it is read."""
    queue = broker.queue()
    database.execute("SELECT outbox.publish('', %s, 'x'::text)", [queue])
    relay()
    broker.take(queue, 1)
    wait_until(lambda: database.value("SELECT pending FROM outbox.backlog()") == 0)
    for name, value in {"DateStyle": "SQL, DMY", "TimeZone": "Asia/Kolkata"}.items():
        database.execute(f"ALTER ROLE {database.roles['owner']} SET {name} = %s", [value], role="postgres")
    replayed = relay.command("replay", "--since", "1h", "--to-queue", queue,
                             config={"postgres": {"dsn": database.dsn("owner")}})
    assert replayed.returncode == 0, replayed
    broker.take(queue, 1)
