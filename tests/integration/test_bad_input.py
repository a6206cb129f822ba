"""What the relay is given is wrong: one clear line with place and remedy, the right exit code, nothing changed."""

import os
import pathlib
import subprocess

import psycopg2
import psycopg2.extensions
import pytest

from clusters import Cluster, closed_port
from conftest import ROOT, wait_until

UNREACHABLE, PERMISSION, CONFIGURATION = 69, 77, 78


def dump(database):
    text = subprocess.run([os.path.join(database.stack.env["POSTGRES_BIN"], "pg_dump"), "-d", database.dsn("postgres")],
                          check=True, text=True, capture_output=True).stdout
    # Its guard against injection is a new random word each time.
    return [line for line in text.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]


def refused(relay, code, *words, arguments=("run",), database=None, **more):
    """The command ends with code; its one line of level error has all the words.  The database stays as it is."""
    before = database and dump(database)
    done = relay.command(*arguments, timeout=30, **more)
    assert done.returncode == code, done.stderr
    running = relay.started[-1]
    errors = [line for line in running.log() if line.get("level") == "error"]
    assert len(errors) == 1, done.stderr
    assert done.stdout == ""
    text = f"{errors[0]['error']} | {errors[0].get('remedy', '')}"
    assert errors[0].get("remedy"), text
    for word in words:
        assert word in text, text
    assert "Traceback" not in done.stderr and "password=" not in done.stderr
    if database:
        assert dump(database) == before
    return done


@pytest.fixture
def waiting(database, broker):
    """A database with a message that waits; no mistake may let it go, or lose it."""
    queue = broker.queue()
    database.query("SELECT outbox.publish('', %s, 'x')", [queue], role="writer")
    yield database
    assert broker.count(queue) == 0


# ---- configuration

@pytest.mark.parametrize("text,words", [
    ("publish:\n  windw: 5\n", [":2:3", "windw", "window"]),
    ("publish: {window: many}\n", [":1:19", "publish.window", "many"]),
    ("publish: [1]\n", [":1:10", "publish"]),
    ("retry: {initial: 5 parsecs}\n", [":1:18", "retry.initial", "5 parsecs"]),
    ("wake: {poll_interval: 10}\n", [":1:23", "wake.poll_interval", "10"]),
    ("postgres: {dsn: \"host=\n", [":"]),
    ("postgres: {schema: \"a b\"}\n", [":1:20", "postgres.schema"]),
    ("rabbitmq: {urls: [\"http://h\"]}\n", [":1:19", "rabbitmq.urls", "amqp"]),
])
def test_a_mistake_in_the_file_is_named_by_line_and_column(waiting, relay, tmp_path, text, words):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    before = dump(waiting)
    done = relay.command("run", "--config", path, config=None, env={"OUTBOX_RELAY_POSTGRES_DSN": waiting.dsn()})
    assert done.returncode == CONFIGURATION, done.stderr
    lines = [line for line in done.stderr.splitlines() if str(path) in line]
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0], lines
    assert dump(waiting) == before


def test_a_file_that_is_not_there_or_unreadable(relay, tmp_path):
    for path in (tmp_path / "missing.yaml", tmp_path):
        done = relay.command("run", "--config", path, config=None)
        assert done.returncode == CONFIGURATION, done.stderr
        assert str(path) in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_password_file_that_is_not_there(waiting, relay, tmp_path):
    missing = tmp_path / "missing"
    for peer in ("postgres", "rabbitmq"):
        done = relay.command("run", "--until-empty", config={peer: {"password_file": str(missing)}}, timeout=30)
        assert done.returncode == CONFIGURATION, done.stderr
        assert str(missing) in done.stderr


# ---- who may

def test_a_wrong_password_of_postgres(database, stack, relay):
    dsn = psycopg2.extensions.make_dsn(host="127.0.0.1", port=stack.env["PGPORT"], dbname=database.name,
                                       user=stack.env["POSTGRES_PASSWORD_USER"], password="wrong-secret")
    done = refused(relay, PERMISSION, "password authentication failed", stack.env["POSTGRES_PASSWORD_USER"], "postgres.dsn",
                   database=database, config={"postgres": {"dsn": dsn}})
    assert "wrong-secret" not in done.stderr


def test_no_password_for_postgres(database, stack, relay):
    dsn = psycopg2.extensions.make_dsn(host="127.0.0.1", port=stack.env["PGPORT"], dbname=database.name,
                                       user=stack.env["POSTGRES_PASSWORD_USER"])
    refused(relay, PERMISSION, "no password supplied", "postgres.password_file", database=database,
            config={"postgres": {"dsn": dsn}})


def test_a_role_and_a_database_that_do_not_exist(database, relay):
    refused(relay, PERMISSION, 'role "nobody_here" does not exist', "postgres.dsn", database=database,
            config={"postgres": {"dsn": database.dsn("nobody_here")}})
    refused(relay, CONFIGURATION, 'database "nothing_here" does not exist', "postgres.dsn",
            config={"postgres": {"dsn": database.dsn("relay", dbname="nothing_here")}})


def test_a_wrong_password_of_rabbitmq(waiting, stack, relay):
    url = stack.env["AMQP_URL"].replace("guest:guest@", "guest:wrong-secret@")
    done = refused(relay, PERMISSION, "guest", "rabbitmq.", database=waiting, config={"rabbitmq": {"urls": [url]}})
    assert "wrong-secret" not in done.stderr


def test_a_vhost_that_does_not_exist(waiting, stack, relay):
    url = stack.env["AMQP_URL"].rpartition("/")[0] + "/nothing_here"
    done = refused(relay, CONFIGURATION, "nothing_here", database=waiting, config={"rabbitmq": {"urls": [url]}})
    assert "guest:guest" not in done.stderr


def test_a_schema_without_privileges(database, relay):
    done = refused(relay, PERMISSION, f"role {database.roles['monitor']}", "outbox.message",
                   f"outbox.grant_relay('{database.roles['monitor']}')", database=database,
                   config={"postgres": {"dsn": database.dsn("monitor")}})
    database.execute(f"REVOKE USAGE ON SCHEMA outbox FROM {database.roles['relay']}")
    refused(relay, PERMISSION, f"role {database.roles['relay']}", "schema outbox",
            f"outbox.grant_relay('{database.roles['relay']}')", database=database)


@pytest.mark.parametrize("sql,words", [
    ("REVOKE SELECT ON outbox.message FROM {}", ["message"]), ("REVOKE INSERT ON outbox.sent FROM {}", ["sent"]),
    ("REVOKE EXECUTE ON FUNCTION outbox.schema_version() FROM {}", ["schema_version"])])
def test_a_privilege_that_is_missing(waiting, relay, sql, words):
    waiting.execute(sql.format(waiting.roles["relay"]))
    refused(relay, PERMISSION, *words, "outbox.grant_relay(", database=waiting)


# ---- which schema

def test_a_missing_schema(empty_database, relay):
    refused(relay, CONFIGURATION, empty_database.name, "schema outbox", "outbox-relay migrate up", database=empty_database)
    empty_database.execute("CREATE SCHEMA outbox")
    empty_database.execute(f"GRANT USAGE ON SCHEMA outbox TO {empty_database.roles['relay']}")
    refused(relay, CONFIGURATION, empty_database.name, "schema outbox", "outbox-relay migrate up", database=empty_database)


@pytest.mark.parametrize("version,words", [
    ("0.9", ["0.9", "too old", "outbox-relay migrate up"]), ("2.0", ["2.0", "too new", "upgrade outbox-relay"])])
def test_a_schema_of_another_major_version(waiting, relay, version, words):
    waiting.execute("CREATE OR REPLACE FUNCTION outbox.schema_version() RETURNS text LANGUAGE sql STABLE AS %s",
                    [f"SELECT '{version}'::text"])
    refused(relay, CONFIGURATION, waiting.name, *words, database=waiting)


def test_a_newer_minor_version_is_fine(database, broker, relay):
    queue = broker.queue()
    database.execute("CREATE OR REPLACE FUNCTION outbox.schema_version() RETURNS text LANGUAGE sql STABLE AS"
                     " $$SELECT '1.999'::text$$")
    database.query("SELECT outbox.publish('', %s, 'x')", [queue], role="writer")
    assert relay.command("run", "--until-empty").returncode == 0
    broker.take(queue, 1)


# ---- which server

@pytest.fixture
def cluster(stack):
    cluster = Cluster(stack.env["POSTGRES_BIN"])
    cluster.start()
    yield cluster
    cluster.remove()


def migrate_cluster(cluster):
    for file in sorted((ROOT / "migrations/outbox").glob("*.up.sql")):
        cluster.execute(file.read_text())


@pytest.mark.parametrize("attributes", ["", " target_session_attrs=any"])
def test_a_standby_server(cluster, relay, attributes):
    migrate_cluster(cluster)
    cluster.become_standby()
    refused(relay, CONFIGURATION, "primary", "postgres.dsn",
            config={"postgres": {"dsn": cluster.dsn() + attributes}, "rabbitmq": {"urls": ["amqp://127.0.0.1:1"]}})


@pytest.fixture
def german(stack):
    """A server whose messages are in German, as where the whole machine is."""
    cluster = Cluster(stack.env["POSTGRES_BIN"], lc_messages="de_DE.UTF-8")
    locale = ["localedef", "-i", "de_DE", "-f", "UTF-8", cluster.directory / "de_DE.UTF-8"]
    cluster.env = {"LOCPATH": str(cluster.directory)}
    if subprocess.run(locale, capture_output=True).returncode == 0:
        cluster.start()
        yield cluster
    cluster.remove()
    if cluster.process is None:
        pytest.skip("the package locales is not installed")


def test_a_server_that_speaks_another_language_is_understood(german, relay):
    """Its words are told as they are; what they mean, the number of their state says."""
    def dsn(**more):
        return {"postgres": {"dsn": psycopg2.extensions.make_dsn(german.dsn(), **more)}}
    refused(relay, PERMISSION, "Rolle »nobody« existiert nicht", "may log in", config=dsn(user="nobody"))
    refused(relay, CONFIGURATION, "Datenbank »nothing« existiert nicht", "create the database", config=dsn(dbname="nothing"))


def test_a_role_that_only_reads(waiting, relay):
    """libpq says of it what it says of a standby."""
    waiting.execute(f"ALTER ROLE {waiting.roles['relay']} SET default_transaction_read_only = on", role="postgres")
    refused(relay, CONFIGURATION, "session is read-only", "default_transaction_read_only", database=waiting)


def test_the_primary_is_found_behind_a_standby(cluster, database, broker, relay):
    cluster.execute(f"CREATE ROLE {database.roles['relay']} LOGIN")
    cluster.execute(f"CREATE DATABASE {database.name}")
    cluster.become_standby()
    queue = broker.queue()
    database.query("SELECT outbox.publish('', %s, 'x')", [queue], role="writer")
    dsn = (f"host={cluster.directory},{database.stack.env['PGHOST']} port={cluster.port},{database.stack.env['PGPORT']}"
           f" dbname={database.name} user={database.roles['relay']}")
    done = relay.command("run", "--until-empty", config={"postgres": {"dsn": dsn}})
    assert done.returncode == 0, done.stderr
    broker.take(queue, 1)


@pytest.fixture
def sent(database, broker, relay):
    """A database with marks, and a message that waits since."""
    queue = broker.queue()
    database.query("SELECT outbox.publish('', %s, 'sent')", [queue], role="writer")
    assert relay.command("run", "--until-empty").returncode == 0
    broker.take(queue, 1)
    database.query("SELECT outbox.publish('', %s, 'waits')", [queue], role="writer")
    yield database
    assert broker.count(queue) == 0


def count(connection_dsn, table):
    connection = psycopg2.connect(connection_dsn)
    with connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM outbox.{table}")
        value = cursor.fetchone()[0]
    connection.close()
    return value


@pytest.mark.parametrize("transactions", [0, 20000])
def test_a_database_restored_into_another_cluster(sent, cluster, relay, transactions):
    """Whether its transaction ids are behind those of the dump, or ahead of them."""
    binaries = pathlib.Path(sent.stack.env["POSTGRES_BIN"])
    cluster.execute("CREATE DATABASE restored")
    text = subprocess.run([binaries / "pg_dump", "-O", "-x", "-d", sent.dsn("postgres")], check=True, capture_output=True).stdout
    subprocess.run([binaries / "psql", "-qX", "-v", "ON_ERROR_STOP=1", "-d", cluster.dsn("restored")], input=text, check=True,
                   capture_output=True)
    if transactions:
        cluster.execute("DO $$ BEGIN FOR i IN 1..%d LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$" % transactions)
    marks = count(cluster.dsn("restored"), "sent")
    assert marks > 0
    refused(relay, CONFIGURATION, "database restored", "schema outbox", "restored from a dump", "outbox-relay migrate rebase",
            config={"postgres": {"dsn": cluster.dsn("restored")}})
    assert count(cluster.dsn("restored"), "sent") == marks
    assert count(cluster.dsn("restored"), "message") == 2


def test_a_template_copy_in_the_same_cluster(sent, relay):
    copy = sent.name + "_copy"
    for connection in sent.cached.values():
        connection.close()
    server = psycopg2.connect(sent.server_dsn())
    server.autocommit = True
    with server.cursor() as cursor:
        wait_until(lambda: not cursor.execute("SELECT FROM pg_stat_activity WHERE datname = %s", [sent.name])
                   and cursor.rowcount == 0, 10)
        cursor.execute(f"CREATE DATABASE {copy} TEMPLATE {sent.name}")
        dsn = sent.dsn("relay", dbname=copy)
        marks = count(dsn, "sent")
        try:
            refused(relay, CONFIGURATION, f"database {copy}", "copy of another database", "outbox-relay migrate rebase",
                    config={"postgres": {"dsn": dsn}})
            assert count(dsn, "sent") == marks
        finally:
            cursor.execute(f"DROP DATABASE {copy} WITH (FORCE)")
    server.close()


@pytest.mark.parametrize("column", ["prev", "target"])
def test_transaction_ids_ahead_of_the_server(sent, relay, column):
    sent.execute(f"UPDATE outbox.sent SET {column} = '9999999999:9999999999:'")
    refused(relay, CONFIGURATION, sent.name, "transaction ids are ahead", "outbox-relay migrate rebase", database=sent)


# ---- servers that are away

def test_a_database_that_is_away_ends_a_one_shot_run(relay):
    keeper, port = closed_port()
    refused(relay, UNREACHABLE, str(port), arguments=("run", "--until-empty"),
            config={"postgres": {"dsn": f"host=127.0.0.1 port={port} dbname=x user=x"}})
    keeper.close()


def test_a_broker_that_is_away_ends_a_one_shot_run(waiting, relay):
    keeper, port = closed_port()
    refused(relay, UNREACHABLE, str(port), arguments=("run", "--until-empty"), database=waiting,
            config={"rabbitmq": {"urls": [f"amqp://127.0.0.1:{port}"]}})
    keeper.close()


def test_the_daemon_waits_for_servers_that_come_later(database, broker, stack, relay):
    queue = broker.queue()
    database.query("SELECT outbox.publish('', %s, 'x')", [queue], role="writer")
    stack.stop("postgres")
    stack.stop("rabbitmq")
    running = relay()
    running.wait_log("database_lost", level="warn")
    stack.start("postgres")
    running.wait_log("broker_lost", 30, level="warn")
    assert running.alive()
    stack.start("rabbitmq")
    broker.take(queue, 1, timeout=30)
    wait_until(lambda: database.value("SELECT state FROM outbox.message_status", role="monitor") == "sent", 10)
    assert running.stop() == 0
