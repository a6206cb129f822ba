"""Least privilege, tried out: each role does what it is for and nothing else, and a writer who means harm harms nobody else."""

import contextlib
import json

import psycopg2
import psycopg2.errors
import pytest

from conftest import wait_until

VIEW = "outbox.message_status"    # takes no changes from anybody
Refused = psycopg2.errors.InsufficientPrivilege
REACH = """
    SELECT c.oid::regclass::text, c.relkind::text, array_agg(a.attname::text ORDER BY a.attnum) FROM pg_class AS c
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = 'outbox'::regnamespace AND c.relkind IN ('r', 'p', 'v') GROUP BY c.oid"""


def refused(database, role, *statements):
    for sql in statements:
        with pytest.raises(Refused):
            database.execute(sql, role=role)
            pytest.fail(f"{role} may {sql}")


def locked(table, mode):
    return f"DO $$ BEGIN LOCK TABLE {table} IN {mode} MODE; END $$"


def tables(database):
    """What the schema has, with its columns, whichever migration brought it."""
    return {name: columns for name, _, columns in database.query(REACH)}


def test_business_tables_are_closed_to_the_relay(database):
    database.execute("CREATE TABLE orders (id int); INSERT INTO orders VALUES (1); CREATE SEQUENCE numbers;"
                     " CREATE FUNCTION secret() RETURNS int LANGUAGE sql AS 'SELECT 1'; REVOKE ALL ON FUNCTION secret() FROM PUBLIC")
    for role in ("relay", "writer", "monitor"):
        refused(database, role, "SELECT * FROM orders", "INSERT INTO orders VALUES (2)", "DELETE FROM orders", "TRUNCATE orders",
                "UPDATE orders SET id = 2", locked("orders", "ACCESS SHARE"), "COPY orders TO STDOUT", "DROP TABLE orders",
                "ALTER TABLE orders ADD COLUMN x int", "CREATE TRIGGER t BEFORE INSERT ON orders EXECUTE FUNCTION secret()",
                "SELECT nextval('numbers')", "SELECT secret()", "CREATE TABLE outbox.mine ()", "CREATE SCHEMA mine",
                f"SET ROLE {database.roles['owner']}", "CREATE ROLE mine", "CREATE DATABASE mine", "SELECT pg_read_file('/etc/passwd')",
                "COPY (SELECT 1) TO PROGRAM 'true'", "ALTER SYSTEM SET work_mem = '1MB'")
    assert database.query("SELECT * FROM orders") == [(1,)]


DDL = ["ALTER TABLE outbox.message ADD COLUMN mine int", "ALTER TABLE outbox.message DISABLE TRIGGER wake", "DROP TABLE outbox.message",
       "ALTER TABLE outbox.message DETACH PARTITION outbox.message_0", "CREATE INDEX mine ON outbox.message (id)",
       "CREATE TABLE mine PARTITION OF outbox.message FOR VALUES IN (7)", "ALTER TABLE outbox.message OWNER TO CURRENT_USER",
       "CREATE TRIGGER mine AFTER INSERT ON outbox.message EXECUTE FUNCTION pg_catalog.suppress_redundant_updates_trigger()",
       "CREATE RULE mine AS ON INSERT TO outbox.message DO INSTEAD NOTHING", "COMMENT ON TABLE outbox.message IS 'mine'",
       "ALTER TABLE outbox.message ENABLE ROW LEVEL SECURITY", "DROP FUNCTION outbox.uuid_v7()", "DROP VIEW outbox.message_status",
       "CREATE OR REPLACE FUNCTION outbox.uuid_v7() RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid'", "DROP SCHEMA outbox CASCADE",
       "ALTER FUNCTION outbox.wake() RESET search_path", "ALTER SEQUENCE outbox.message_id_seq RESTART", "DROP TRIGGER wake ON outbox.message",
       "REINDEX TABLE outbox.sent", "ALTER SCHEMA outbox RENAME TO mine", "CREATE FUNCTION outbox.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'"]


@pytest.mark.parametrize("role", ["writer", "relay", "monitor"])
def test_none_of_them_may_change_the_schema(database, role):
    # In schema public each may make what it likes before Postgres 15: not our subject.
    database.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC", role="postgres")
    refused(database, role, *DDL)
    refused(database, role, "CREATE TABLE public.mine (id bigint, slot smallint, FOREIGN KEY (id, slot) REFERENCES outbox.message)")
    database.execute("CREATE TEMP TABLE mine (id bigint PRIMARY KEY)", role=role)
    with pytest.raises((Refused, psycopg2.errors.WrongObjectType, psycopg2.errors.InvalidTableDefinition)):
        database.execute("ALTER TABLE mine INHERIT outbox.sent", role=role)


def test_the_writer_can_do_nothing_but_write(database):
    database.query("SELECT outbox.publish('e', 'r', 'of somebody else'), outbox.publish('e', 'r', 'x', deliver_at => '2100-01-01')")
    found = tables(database)
    assert {"outbox.message", "outbox.message_0", "outbox.message_1", "outbox.message_2", "outbox.sent", "outbox.delayed", "outbox.dead",
            "outbox.operation", "outbox.migration", "outbox.message_status"} <= found.keys()
    for table, columns in found.items():
        parent = table == "outbox.message"
        for column in columns:
            if not (parent and column in ("id", "message_id")):
                refused(database, "writer", f"SELECT {column} FROM {table}", f"SELECT count({column}) FROM {table}",
                        f"COPY (SELECT {column} FROM {table}) TO STDOUT")
        refused(database, "writer", f"SELECT * FROM {table}", f"SELECT {table.split('.')[1]} FROM {table}", f"TABLE {table}")
        if not parent:
            refused(database, "writer", f"SELECT FROM {table}")
        if table == VIEW:
            continue
        refused(database, "writer", f"UPDATE {table} SET {columns[-1]} = NULL", f"DELETE FROM {table}", f"TRUNCATE {table}",
                f"SELECT * FROM {table} FOR UPDATE", f"COPY {table} TO STDOUT",
                *(f"DELETE FROM {table} WHERE {column} IS NULL" for column in columns))
        if not parent:
            refused(database, "writer", f"INSERT INTO {table} DEFAULT VALUES")
    for table in ("message", "sent", "delayed", "dead"):
        refused(database, "writer", *(locked(f"outbox.{table}", mode) for mode in
                                      ("SHARE", "SHARE ROW EXCLUSIVE", "EXCLUSIVE", "ACCESS EXCLUSIVE")))
    for (sequence,) in database.query("SELECT oid::regclass FROM pg_class WHERE relnamespace = 'outbox'::regnamespace AND relkind = 'S'"):
        refused(database, "writer", f"SELECT nextval('{sequence}')", f"SELECT setval('{sequence}', 1)", f"SELECT currval('{sequence}')",
                f"SELECT last_value FROM {sequence}")
    for column in ("xid", "id", "slot"):
        refused(database, "writer", f"INSERT INTO outbox.message (routing_key, payload_text, {column}) OVERRIDING SYSTEM VALUE"
                " VALUES ('r', 'x', '1')", f"INSERT INTO outbox.message (routing_key, payload_text) VALUES ('r', 'x') RETURNING {column}"
                if column != "id" else "SELECT xid FROM outbox.message")
    refused(database, "writer", "INSERT INTO outbox.message (routing_key, payload_text) VALUES ('r', 'x') RETURNING payload_text",
            "MERGE INTO outbox.message AS m USING (SELECT 1) AS s ON true WHEN MATCHED THEN DELETE",
            "INSERT INTO outbox.message (routing_key, payload_text) VALUES ('r', 'x') ON CONFLICT (id, slot) DO UPDATE SET routing_key = 'y'",
            "WITH gone AS (DELETE FROM outbox.message RETURNING payload_text) SELECT * FROM gone",
            "SELECT outbox.set_retention('0')", "SELECT outbox.grant_relay(current_user::text)", "SELECT outbox.retry_dead('{1}')")
    # The way to scheduling is a function with the owner's rights: it writes, and reads nothing.
    database.query("SELECT outbox.publish('e', 'r', 'mine', deliver_at => '2100-01-01')", role="writer")
    assert database.query("SELECT state, count(*) FROM outbox.message_status GROUP BY 1 ORDER BY 1") == [("delayed", 2), ("pending", 1)]


def test_the_monitor_sees_how_it_stands_and_no_content(database):
    database.query("SELECT outbox.publish('e', 'r', 'content', headers => '{\"h\": \"content\"}'),"
                   " outbox.publish('e', 'r', 'content', deliver_at => '2100-01-01')")
    readable = {"outbox.message_status", "outbox.sent", "outbox.operation", "outbox.migration"}
    for table, columns in tables(database).items():
        content = [c for c in columns if c.startswith("payload") or c == "headers"]
        allowed = database.value("SELECT has_table_privilege(%s, %s, 'SELECT')", [database.roles["monitor"], table])
        if allowed:
            assert content == [], table
            text = str(database.query(f"SELECT * FROM {table}", role="monitor"))
            assert "content" not in text
        else:
            assert table not in readable
            refused(database, "monitor", f"SELECT * FROM {table}", *(f"SELECT {column} FROM {table}" for column in columns))
        if table != VIEW:
            refused(database, "monitor", f"DELETE FROM {table}", f"UPDATE {table} SET {columns[-1]} = NULL", f"TRUNCATE {table}",
                    f"INSERT INTO {table} DEFAULT VALUES")
    refused(database, "monitor", "SELECT outbox.publish('', 'r', 'x')", "SELECT outbox.discard_dead('{1}')", "SELECT outbox.set_retention('0')")
    assert database.query("SELECT pending, delayed FROM outbox.backlog()", role="monitor") == [(1, 1)]


def test_the_relay_writes_no_message_and_rewrites_no_mark(database):
    database.query("SELECT outbox.publish('e', 'r', 'x')")
    refused(database, "relay", "INSERT INTO outbox.message (routing_key, payload_text) VALUES ('r', 'x')",
            "UPDATE outbox.message SET payload_text = 'y'", "DELETE FROM outbox.message", "TRUNCATE outbox.message",
            "UPDATE outbox.sent SET last_id = 1000", "TRUNCATE outbox.sent", "TRUNCATE outbox.delayed", "TRUNCATE outbox.dead",
            "DELETE FROM outbox.operation", "UPDATE outbox.operation SET actor = 'somebody else'", "TRUNCATE outbox.operation",
            "DELETE FROM outbox.migration", "SELECT nextval('outbox.message_id_seq')", "SELECT setval('outbox.message_id_seq', 1)",
            "SELECT outbox.publish('', 'r', 'x')", "SELECT outbox.set_retention('0')", "SELECT outbox.set_payload_limit(1)",
            "SELECT outbox.grant_writer(current_user::text)", "SELECT outbox.record_migration(9, 'x', true)")


@pytest.mark.time_limit(120)
def test_the_relay_sends_wakes_and_empties_slots_with_its_own_rights(database, broker, relay):
    queue = broker.queue()
    # What lies in the next slot was written a period ago, long enough for no retention.
    database.query("SELECT outbox.set_retention('0')")
    database.execute("CREATE OR REPLACE FUNCTION outbox.current_slot() RETURNS smallint LANGUAGE sql STABLE"
                     " AS 'SELECT 0::smallint'")
    # The newest claims to be of the year 9999: that must not keep the slot for ever.
    database.execute("INSERT INTO outbox.message (slot, routing_key, payload_text, created_at)"
                     " SELECT 1, %s, n::text, CASE n WHEN 100 THEN '9999-01-01' ELSE now() - interval '3 minutes' END"
                     " FROM generate_series(1, 100) n", [queue])
    running = relay(config={"wake": {"poll_interval": "1h"}})
    assert [m.body.decode() for m in broker.take(queue, 100)] == [str(n) for n in range(1, 101)]
    # Asleep, so that only a NOTIFY wakes it.
    wait_until(lambda: database.query(
        "SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 'outbox.message'::regclass::oid"
        " AND objid <> 4294967295 AND mode = 'ExclusiveLock'"), 10)
    database.query("SELECT outbox.publish('', %s, 'woken')", [queue], role="writer")
    assert broker.take(queue, 1)[0].body == b"woken"
    wait_until(lambda: database.value("SELECT count(*) FROM outbox.message_1") == 0, 100, "an emptied slot")
    assert database.value("SELECT count(*) FROM outbox.message") >= 1
    assert running.stop() == 0
    assert not [line for line in running.log() if "permission" in str(line)]


# ---- who means harm

# Functions and operators that fit better than the built-in ones, where the built-in ones need a conversion, or that come
# first in a path of the attacker's making.
TRAPS = """
    CREATE SCHEMA {schema};
    CREATE TABLE {schema}.caught (who text DEFAULT current_user, what text);
    GRANT USAGE ON SCHEMA {schema} TO PUBLIC; GRANT ALL ON {schema}.caught TO PUBLIC;
    CREATE FUNCTION {schema}.catch(what text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO {schema}.caught (what) VALUES (what);
    EXCEPTION WHEN OTHERS THEN NULL; END $$;
    CREATE FUNCTION {schema}.concat_name(a name, b name) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
        PERFORM {schema}.catch('name || name'); RETURN a::text operator(pg_catalog.||) b::text; END $$;
    CREATE OPERATOR {schema}.|| (LEFTARG = name, RIGHTARG = name, FUNCTION = {schema}.concat_name);
    CREATE FUNCTION {schema}.concat_text_name(a text, b name) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
        PERFORM {schema}.catch('text || name'); RETURN a operator(pg_catalog.||) b::text; END $$;
    CREATE OPERATOR {schema}.|| (LEFTARG = text, RIGHTARG = name, FUNCTION = {schema}.concat_text_name);
    CREATE FUNCTION {schema}.times(a double precision, b integer) RETURNS double precision LANGUAGE plpgsql AS $$ BEGIN
        PERFORM {schema}.catch('float * int'); RETURN a operator(pg_catalog.*) b::float8; END $$;
    CREATE OPERATOR {schema}.* (LEFTARG = double precision, RIGHTARG = integer, FUNCTION = {schema}.times);
    CREATE FUNCTION {schema}.over(a double precision, b integer) RETURNS double precision LANGUAGE plpgsql AS $$ BEGIN
        PERFORM {schema}.catch('float / int'); RETURN a operator(pg_catalog./) b::float8; END $$;
    CREATE OPERATOR {schema}./ (LEFTARG = double precision, RIGHTARG = integer, FUNCTION = {schema}.over);
    CREATE FUNCTION {schema}.pg_try_advisory_lock(a oid, b integer) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
        PERFORM {schema}.catch('pg_try_advisory_lock'); RETURN true; END $$;
    CREATE FUNCTION {schema}.pg_notify(channel text, payload text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
        PERFORM {schema}.catch('pg_notify'); END $$;
    CREATE FUNCTION {schema}.date_part(a text, b timestamptz) RETURNS double precision LANGUAGE plpgsql AS $$ BEGIN
        PERFORM {schema}.catch('date_part'); RETURN pg_catalog.date_part(a, b); END $$;
    CREATE FUNCTION {schema}.jsonb_array_length(a jsonb) RETURNS integer LANGUAGE plpgsql AS $$ BEGIN
        PERFORM {schema}.catch('jsonb_array_length'); RETURN pg_catalog.jsonb_array_length(a); END $$;
    CREATE FUNCTION {schema}.now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN
        PERFORM {schema}.catch('now'); RETURN pg_catalog.now(); END $$"""


def caught(database):
    return {tuple(row) for row in database.query("SELECT who, what FROM mine.caught", role="postgres")}


@pytest.fixture
def traps(database):
    """A schema of the writer's, full of traps, in the search_path of every other role too."""
    database.execute(f"GRANT CREATE ON DATABASE {database.name} TO {database.roles['writer']}", role="postgres")
    database.execute(TRAPS.format(schema="mine"), role="writer")
    for role in ("owner", "relay", "monitor"):
        database.execute(f"ALTER ROLE {database.roles[role]} IN DATABASE {database.name} SET search_path = mine, pg_catalog, public",
                         role="postgres")
    return database


def test_nothing_in_anybodys_search_path_runs_with_the_relays_or_the_owners_rights(traps, broker, relay):
    queue = broker.queue()
    with contextlib.closing(traps.connect("writer", autocommit=True)) as writer, writer.cursor() as cursor:
        # The traps work: with them in the writer's own path the writer falls into them.
        cursor.execute("SET search_path = mine, pg_catalog")
        cursor.execute("SELECT outbox.publish('', %s, 'now'), outbox.publish('', %s, 'later', deliver_at => pg_catalog.now())", [queue, queue])
    assert {who for who, _ in caught(traps)} == {traps.roles["writer"]}
    running = relay()
    assert sorted(m.body for m in broker.take(queue, 2)) == [b"later", b"now"]
    traps.query("SELECT outbox.publish('', 'nobody-is-there', 'x')")
    running.wait_log("message_delayed")
    assert running.stop() == 0
    # By hand, with the owner's own path.
    with contextlib.closing(traps.connect("owner", autocommit=True)) as owner, owner.cursor() as cursor:
        for call in ("set_retention('1 day')", "set_payload_limit(1000000)", "retry_dead('{1}')", "discard_dead('{1}')", "pause('x')",
                     "resume('x')", "grant_writer(current_user::text)", "backlog()"):
            cursor.execute(f"SELECT outbox.{call}")
    for role, arguments in (("monitor", ["status"]), ("relay", ["status", "--json"]), ("relay", ["message", "show", "1"]),
                            ("relay", ["dead", "list"]), ("owner", ["migrate", "status"]), ("owner", ["migrate", "down"]),
                            ("owner", ["migrate", "up"]), ("owner", ["replay", "--all", "--yes"])):
        done = relay.command(*arguments, config={"postgres": {"dsn": traps.dsn(role)}})
        assert done.returncode == 0, (arguments, done.stderr)
    assert {who for who, _ in caught(traps)} == {traps.roles["writer"]}


def test_functions_that_no_writer_needs_pin_their_search_path(database):
    # Those are inlined, or constant, or run with the rights of who writes.
    of_writers = {"uuid_v7", "current_slot", "payload_limit", "headers_valid", "message_valid", "publish", "write_message", "wake",
                  "wake_delayed", "retention", "slot_period", "schema_version", "applied_migrations"}
    loose = {name for (name,) in database.query(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'outbox'::regnamespace"
        " AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (proconfig), false)")}
    assert loose == of_writers


def test_a_writer_who_writes_whatever_it_can_keeps_nobody_else_waiting(database, broker, relay):
    """Whatever the columns take, and what slips past a CHECK when the writer shadows what the CHECK calls."""
    queue = broker.queue()
    database.execute(f"GRANT CREATE ON DATABASE {database.name} TO {database.roles['writer']}", role="postgres")
    running = relay(config={"retry": {"max_attempts": 1}})
    running.wait_log("broker_connected")
    with contextlib.closing(database.connect("writer", autocommit=True)) as writer, writer.cursor() as cursor:
        def insert(**columns):
            columns = {"exchange": "", "routing_key": queue, "payload_text": "bad", **columns}
            cursor.execute(f"INSERT INTO outbox.message ({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(columns))})",
                           list(columns.values()))

        def nested(levels):
            return '{"a": ' * levels + "1" + "}" * levels

        # Headers that fill a frame and more, keys of odd bytes, and ids that belong to others.
        insert(headers=json.dumps({f"h{n}": "x" * 1000 for n in range(2000)}))
        insert(headers=json.dumps({"k" * 255: 1, "": 2, "\x01\n": 3, "é" * 100: [None, True, 1e-300, -2**63, 2**63 - 1]}))
        insert(headers=nested(31))
        insert(headers=json.dumps({str(n): n for n in range(20000)}))
        insert(ordering_key="\n" * 1024, routing_key="\x7f" * 255, exchange="no such exchange \u2028")
        insert(ordering_key="", type="\x01", app_id="\u202e" * 80, reply_to="amq.rabbitmq.reply-to", correlation_id="\\" * 255)
        insert(expiration="49 days", priority=255, created_at="1970-01-01")
        insert(expiration="0 s", created_at="9999-12-31 23:59:59+00")
        insert(content_type="", content_encoding="no such encoding")
        insert(payload_text="", message_id="00000000-0000-0000-0000-000000000000")
        insert(message_id="00000000-0000-0000-0000-000000000000")
        # The CHECK of headers calls what it finds in the writer's own path.
        cursor.execute("CREATE SCHEMA mine; CREATE FUNCTION mine.never(jsonb, text[]) RETURNS boolean LANGUAGE sql AS 'SELECT false';"
                       "CREATE OPERATOR mine.?| (LEFTARG = jsonb, RIGHTARG = text[], FUNCTION = mine.never);"
                       "CREATE FUNCTION mine.octet_length(text) RETURNS integer LANGUAGE sql AS 'SELECT 1';"
                       "CREATE FUNCTION mine.jsonb_path_exists(jsonb, jsonpath) RETURNS boolean LANGUAGE sql AS 'SELECT false';"
                       "SET search_path = mine, pg_catalog")
        insert(headers='{"x-outbox-id": 1, "x-ordering-key": "of somebody else"}')
        insert(headers='{"x-outbox-id": "1"}', routing_key="nobody is there")
        insert(headers=json.dumps({"k" * 300: 1}))
        insert(headers=nested(200))
        insert(headers='{"n": 123456789012345678901234567890}')
        # Wakes the relay for nothing, again and again.
        cursor.execute("SELECT pg_notify('outbox_wake', repeat('x', 7000)) FROM generate_series(1, 200)")
    database.query("SELECT outbox.publish('', %s, 'good', ordering_key => 'k') FROM generate_series(1, 100)", [queue])
    channel = broker.channel()
    good = 0
    for method, properties, body in channel.consume(queue, inactivity_timeout=20):
        assert method is not None, f"{good} of 100 good messages"
        channel.basic_ack(method.delivery_tag)
        good += body == b"good"
        if body == b"bad" and properties.headers:
            # Not the 1 that a writer says, but what is so.
            assert properties.headers["x-outbox-id"] > 1
        if good == 100:
            break
    channel.cancel()
    wait_until(lambda: database.query("SELECT pending FROM outbox.backlog()") == [(0,)], 20, "marks for all")
    wait_until(lambda: not database.query("SELECT FROM outbox.delayed WHERE waits_for = 'retry'"), 20, "verdicts")
    assert running.stop() == 0
    assert running.log("database_lost") == running.log("stepped_down") == []
    # Those that AMQP cannot carry, and the one that nobody takes, lie in dead with their reasons.
    reasons = database.query("SELECT reason FROM outbox.dead")
    assert len(reasons) >= 4 and all(reason for (reason,) in reasons)


def test_a_deliver_at_of_a_writer_can_neither_be_never_nor_hold_others(database, broker, relay):
    queue = broker.queue()
    for bad in ("infinity", "-infinity", "10000-01-01", "1969-01-01"):
        with pytest.raises(psycopg2.errors.CheckViolation):
            database.query("SELECT outbox.publish('', 'r', 'x', deliver_at => %s)", [bad], role="writer")
    database.query("SELECT outbox.publish('', %s, 'far', ordering_key => 'k', deliver_at => '9999-12-31')", [queue], role="writer")
    database.query("SELECT outbox.publish('', %s, 'near', ordering_key => 'k')", [queue], role="writer")
    running = relay()
    assert broker.take(queue, 1)[0].body == b"near"
    assert running.stop() == 0
