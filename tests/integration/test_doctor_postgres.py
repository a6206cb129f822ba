"""doctor where the server, the schema or its rights are in a bad way, or others are (surgery.py)."""

import os
import pathlib
import re
import uuid

import pytest

from clusters import Cluster, Pooler
from conftest import ROOT
from surgery import Cases, place, shared, users    # noqa: F401

BUILD = pathlib.Path(os.environ.get("BUILD", ROOT / "build"))
CASES = Cases()
broken = CASES.broken


# ---- Postgres: getting in -------------------------------------------------------------------------------


@broken("postgres", "password authentication failed")
def the_wrong_password_for_postgres(place):
    database = place.fresh()
    database.query("SELECT outbox.grant_relay(%s)", [place.stack.env["POSTGRES_PASSWORD_USER"]])
    place.input = place.stack.env["POSTGRES_PASSWORD"] + "\n"
    place.closing.callback(lambda: database.execute(f"DROP OWNED BY {place.stack.env['POSTGRES_PASSWORD_USER']}",
                                                    role="postgres"))
    place.set("postgres", dsn=database.dsn(place.stack.env["POSTGRES_PASSWORD_USER"]),
              password_file=str(place.secret("wrong")))


@broken("postgres", "does not exist")
def a_database_that_is_not_there(place):
    name = "t_" + uuid.uuid4().hex[:12]
    place.set("postgres", dsn=place.database.dsn("relay", dbname=name))
    place.closing.callback(lambda: place.database.psql("-c", f"DROP DATABASE {name}", role="postgres"))


@broken("postgres", "does not exist")
def a_role_that_is_not_there(place):
    name = "T " + uuid.uuid4().hex[:12]
    place.set("postgres", dsn=place.database.dsn("relay", user=name))
    place.closing.callback(lambda: place.database.psql("-c", f'DROP ROLE "{name}"', role="postgres"))


@broken("postgres", "is not permitted to log in")
def a_role_that_may_not_log_in(place):
    place.fresh().execute(f"ALTER ROLE {place.database.roles['relay']} NOLOGIN", role="postgres")


@broken("postgres", "permission denied for database")
def a_role_that_may_not_connect(place):
    database = place.fresh()
    database.execute(f"REVOKE CONNECT ON DATABASE {database.name} FROM PUBLIC", role="postgres")


@broken("postgres", "are read-only by default")
def sessions_that_are_read_only(place):
    database = place.fresh()
    database.execute(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on", role="postgres")


@broken("connections", "the limit of")
def a_role_with_too_few_connections(place):
    database = place.fresh()
    database.execute(f"ALTER ROLE {database.roles['relay']} CONNECTION LIMIT 1", role="postgres")


@broken("postgres", "is a standby")
def a_standby_alone(place):
    cluster = Cluster(place.stack.env["POSTGRES_BIN"])
    place.closing.callback(cluster.remove)
    cluster.start()
    cluster.furnish()
    cluster.become_standby()
    place.set("postgres", dsn=cluster.dsn(user="relay"))
    # Its primary is gone: what the remedy says of that is typed.
    place.person = lambda remedy: place.type(remedy.partition("if the primary is gone: ")[2])


@broken("pooler", "a pooler in transaction mode")
def a_pooler_that_lends_sessions(place):
    pooler = Pooler(place.database.dsn("relay"), "transaction")
    place.closing.callback(pooler.remove)
    place.set("postgres", dsn=pooler.dsn())

    def person(remedy):
        assert "name the server itself in postgres.dsn" in remedy
        place.set("postgres", dsn=place.database.dsn("relay"))
    place.person = person


@broken("postgres", "Connection refused")
def postgres_is_down(place):
    place.set("postgres", dsn=place.database.dsn("relay", tcp=True))
    place.stack.stop("postgres")
    place.database.cached.clear()


# ---- the schema and its rights --------------------------------------------------------------------------


@broken("schema", "has no outbox in schema outbox")
def no_outbox(place):
    place.fresh(migrate=False)


@broken("schema", "lacks migration 0002_functions")
def half_a_schema(place):
    database = place.fresh(migrate=False)
    database.psql("-1", "-f", ROOT / "migrations/outbox/0001_tables.up.sql")
    role = database.roles["relay"]
    database.execute(f"GRANT USAGE ON SCHEMA outbox TO {role}; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA outbox TO {role}")


@broken("schema", "too old for this program")
def a_schema_of_long_ago(place):
    """There is none yet: the remedy is looked at, not typed."""
    database = place.fresh()
    database.execute("CREATE OR REPLACE FUNCTION outbox.schema_version() RETURNS text LANGUAGE sql AS $$SELECT '0.9'$$")

    def person(remedy):
        assert re.fullmatch(r"OUTBOX_RELAY_POSTGRES_DSN='.*' outbox-relay migrate up --config \S+", remedy)
        database.execute("CREATE OR REPLACE FUNCTION outbox.schema_version() RETURNS text LANGUAGE sql AS $$SELECT '1.0'$$")
    place.person = person


@broken("schema", "too new for this program")
def a_schema_of_the_future(place):
    database = place.fresh()
    database.execute("CREATE OR REPLACE FUNCTION outbox.schema_version() RETURNS text LANGUAGE sql AS $$SELECT '2.0'$$")

    def person(remedy):
        assert remedy == "upgrade outbox-relay"
        database.execute("CREATE OR REPLACE FUNCTION outbox.schema_version() RETURNS text LANGUAGE sql AS $$SELECT '1.0'$$")
    place.person = person


@broken("privileges", "lacks USAGE on schema outbox")
def no_rights_at_all(place):
    database = place.fresh(migrate=False)
    database.migrate()


@broken("privileges", "lacks TRUNCATE on outbox.message_1")
def no_right_to_empty_slots(place):
    database = place.fresh()
    database.execute(f"REVOKE TRUNCATE ON outbox.message_1 FROM {database.roles['relay']}")


@broken("privileges", "lacks INSERT on outbox.sent")
def no_right_to_mark(place):
    database = place.fresh()
    database.execute(f"REVOKE INSERT ON outbox.sent FROM {database.roles['relay']}")


@broken("privileges", "row-level security hides rows of outbox.message from")
def rows_that_a_policy_hides(place):
    place.fresh().execute("ALTER TABLE outbox.message ENABLE ROW LEVEL SECURITY")


@broken("wake-up", "0003_wake is missing", "warn")
def no_wake_up_trigger(place):
    place.fresh().psql("-1", "-f", ROOT / "migrations/outbox/0003_wake.down.sql")


@broken("wake-up", "trigger is disabled", "warn")
def a_disabled_wake_up_trigger(place):
    place.fresh().execute("ALTER TABLE outbox.delayed DISABLE TRIGGER wake")


# ---- what others do with the server ---------------------------------------------------------------------


@broken("transactions", "has been in a transaction for more than", "warn")
def a_long_transaction_of_a_writer(place):
    """Postgres hides its age from the relay's role: a mark tells."""
    database = place.fresh()
    writer = database.connect("writer")
    writer.cursor().execute("SELECT outbox.publish('', 'q', 'x')")
    # A mark behind its xid: another one has come to an end since.
    database.execute("CREATE TABLE later (n int)")
    database.execute("INSERT INTO outbox.sent (seq, prev, last_id, floor_id, max_id, messages, system_identifier,"
                     " database_oid, table_oid) SELECT 1, pg_current_snapshot(), 0, 0, 0, 0,"
                     " (SELECT system_identifier FROM pg_control_system()), (SELECT oid FROM pg_database"
                     " WHERE datname = current_database()), 'outbox.message'::regclass")
    # A snapshot's xmax is the first xid that has not begun.
    assert database.value("SELECT pg_snapshot_xmax(prev)::text::bigint FROM outbox.sent") > \
        int(database.value("SELECT backend_xid::text FROM pg_stat_activity WHERE pid = %s", [writer.get_backend_pid()]))
    place.options = ["--older-than", "0"]


@broken("transactions", "has been in a transaction for more than", "warn")
def a_forgotten_reader(place):
    """It has written nothing: pg_read_all_stats shows it."""
    database = place.fresh()
    database.execute(f"GRANT pg_read_all_stats TO {database.roles['relay']}", role="postgres")
    database.connect("writer").cursor().execute("SELECT 1")
    place.options = ["--older-than", "0"]


@broken("prepared", 'transaction "it\'s forgotten" of', "warn")
def a_forgotten_prepared_transaction(place):
    database = place.fresh()
    connection = database.connect("owner")
    connection.cursor().execute("CREATE TABLE somebody_elses (n int)")
    connection.cursor().execute("PREPARE TRANSACTION 'it''s forgotten'")
    connection.rollback()
    place.options = ["--older-than", "0"]


@broken("replication-slots", "physical slot forgotten_", "warn")
def a_replication_slot_that_nobody_reads(place):
    name = "forgotten_" + uuid.uuid4().hex[:8]
    place.database.query("SELECT pg_create_physical_replication_slot(%s, true)", [name], role="postgres")
    place.closing.callback(lambda: place.database.query(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", [name], role="postgres"))
    for _ in range(6):
        place.database.query("SELECT pg_logical_emit_message(false, 'test', 'x'), pg_switch_wal()", role="postgres")


@broken("durability", "synchronous_commit is off for this database", "warn")
def a_database_that_does_not_wait_for_the_disk(place):
    place.fresh().execute(f"ALTER DATABASE {place.database.name} SET synchronous_commit = off")


@broken("durability", "synchronous_commit is off for role", "warn")
def a_writer_that_does_not_wait_for_the_disk(place):
    database = place.fresh()
    database.execute(f"ALTER ROLE {database.roles['writer']} SET synchronous_commit = 'off'", role="postgres")


@broken("durability", "fsync is off", "warn")
def a_server_without_fsync(place):
    cluster = Cluster(place.stack.env["POSTGRES_BIN"])
    place.closing.callback(cluster.remove)
    # Of the file, not of the command line, so that somebody can change it.
    del cluster.settings["fsync"]
    with open(cluster.data / "postgresql.conf", "a", encoding="ascii") as file:
        file.write("fsync = off\n")
    cluster.start()
    cluster.furnish()
    place.set("postgres", dsn=cluster.dsn(user="relay"))


@broken("connections", "the server has only 4 connections left", "warn")
def a_server_that_is_nearly_full(place):
    cluster = Cluster(place.stack.env["POSTGRES_BIN"])
    place.closing.callback(cluster.remove)
    del cluster.settings["max_connections"]
    with open(cluster.data / "postgresql.conf", "a", encoding="ascii") as file:
        file.write("max_connections = 7\n")
    cluster.start()
    cluster.furnish()
    place.set("postgres", dsn=cluster.dsn(user="relay"))
    place.shim("systemctl", '[ "$*" = "restart postgresql" ]')

    def person(remedy):
        place.type(remedy)
        cluster.stop()
        cluster.start()
    place.person = person


@broken("clock", "s behind this host", "warn")
def clocks_that_differ(place):
    place.env = {"LD_PRELOAD": str(BUILD / "tests/integration/preload/clock.so"), "CLOCK_SHIFT": "3600",
                 "ASAN_OPTIONS": "verify_asan_link_order=0"}
    place.shim("timedatectl", "[ $1 = set-ntp ]")

    def person(remedy):
        place.type(remedy)
        place.env = {}
    place.person = person


@pytest.mark.parametrize("name", CASES)
def test_the_remedy_works(place, name):
    CASES.cure(place, name)
