"""Who may do what in schema outbox: writers, relays, monitors, and everybody else."""

import contextlib

import psycopg2
import psycopg2.errors
import pytest

import sqldb
from schemas import call, cursor, db, db_drop_owned, insert, server, template    # noqa: F401


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
    "message_valid": None, "backlog": "()", "set_retention": "('1 day')", "set_payload_limit": "(1)", "grant_writer": "('x')",
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
        allowed = {"publish", "write_message", "schedule_message", "uuid_v7", "current_slot", "payload_limit", "headers_valid",
                   "message_valid"}
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
