"""doctor on broken set-ups: it says what is wrong and the exact remedy; the remedy, typed as printed, works.

Each case is a function that breaks something.  Where a remedy needs no more than a shell it is typed: run by bash, with
psql, rabbitmqctl, systemctl and outbox-relay on the PATH.  Where a person has to decide or to replace something,
the case says what that person does.
"""

import contextlib
import json
import os
import pathlib
import re
import shlex
import socket
import subprocess
import time
import uuid

import psycopg2
import pytest

from clusters import Cluster, Pooler
from conftest import RELAY_BINARY, ROOT, Database, die_with_parent, merge, wait_until

FOUND, USAGE = 1, 64
BUILD = pathlib.Path(os.environ.get("BUILD", ROOT / "build"))
LINE = re.compile(r"(ok|warn|FAIL) +([a-z-]+): (.*)")


class Finding:
    def __init__(self, level, check, text):
        self.level, self.check, self.text, self.remedy = level, check, text, None

    def __repr__(self):
        return f"{self.level} {self.check}: {self.text}\n   remedy: {self.remedy}"


def parse(stdout):
    """What the lines for people say."""
    findings = []
    for line in stdout.splitlines()[:-1]:
        if line.startswith("      remedy: "):
            findings[-1].remedy = line.removeprefix("      remedy: ")
        else:
            findings.append(Finding(*LINE.fullmatch(line).groups()))
    return findings


class Place:
    """A set-up, and who sits before it."""

    def __init__(self, stack, shared, users, broker, relay, tmp_path, closing):
        self.stack = stack
        self.users = users
        self.database = shared
        self.broker = broker
        self.relay = relay
        self.tmp_path = tmp_path
        self.closing = closing
        self.config = {"postgres": {"dsn": shared.dsn("relay")}, "rabbitmq": {"urls": [f"amqp://127.0.0.1:{stack.env['AMQP_PORT']}/%2f"]},
                       "http": {"listen": None}}
        self.options = []
        self.env = {}
        self.input = ""         # what is typed where a remedy asks
        self.person = None      # does what a remedy says that is no command
        self.mended = False
        self.seen = set()
        self.path = tmp_path / "bin"
        self.path.mkdir()
        self.shim("psql", f'exec {stack.env["POSTGRES_BIN"]}/psql -X "$@"')
        # Exactly what was typed: where RabbitMQ 4's script sees one argument more, it does not read the password.
        self.shim("rabbitmqctl", f'exec {stack.env["RABBITMQCTL"]} "$@"')
        self.shim("outbox-relay", f'exec {RELAY_BINARY} "$@"')
        self.shim("systemctl", f'server=${{2%ql}}; server=${{server%-server}}; [ "$server" = rabbitmq ] || server=postgres\n'
                               f'exec {ROOT}/tests/support/stack "$1" "$server" --dir {stack.directory}')

    def shim(self, name, script):
        file = self.path / name
        file.write_text(f"#!/bin/bash\n{script}\n")
        file.chmod(0o755)

    def fresh(self, migrate=True):
        """A database of its own, in place of the one that the cases share."""
        self.database = Database(self.stack)
        self.database.create()
        self.closing.callback(self.database.drop)
        if migrate:
            self.database.migrate()
            self.database.grant()
        self.set("postgres", dsn=self.database.dsn("relay"))
        return self.database

    def set(self, section, **values):
        self.config = merge(self.config, {section: values})

    def publish(self, exchange, key="k", **more):
        self.database.execute("INSERT INTO outbox.message (exchange, routing_key, payload_text, created_at)"
                              " VALUES (%s, %s, 'x', coalesce(%s, now()))", [exchange, key, more.get("at")])

    def secret(self, text):
        file = self.tmp_path / f"secret-{uuid.uuid4().hex[:6]}"
        file.write_text(text + "\n")
        file.chmod(0o600)
        return file

    def doctor(self, *more):
        done = self.relay.command("doctor", *self.options, *more, config=self.config, env=self.env, timeout=30)
        assert done.stderr == "", done.stderr
        if more:
            return done
        findings = parse(done.stdout)
        self.seen |= {finding.check for finding in findings}
        bad = any(finding.level == "FAIL" for finding in findings)
        assert done.returncode == (FOUND if bad else 0), done.stdout
        assert all((finding.remedy is None) == (finding.level == "ok") for finding in findings), findings
        return findings

    def ills(self, check, words):
        return [finding for finding in self.doctor() if finding.check == check and finding.level != "ok"
                and words in finding.text]

    def environment(self):
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("OUTBOX_RELAY_", "PG"))}
        return {**environment, "PATH": f"{self.path}:{os.environ['PATH']}"}

    def type(self, command):
        """In a shell.  What goes on for ever is ended after the test."""
        if re.match(r"outbox-relay run\b", command):
            process = subprocess.Popen(["bash", "-c", f"exec {command}"], env=self.environment(), cwd=self.tmp_path,
                                       preexec_fn=die_with_parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            self.closing.callback(lambda: (process.kill(), process.wait()))
            return
        done = subprocess.run(["bash", "-c", f"{command}\nstatus=$?; export -p | grep OUTBOX_RELAY_ >&2; exit $status"],
                              env=self.environment(), cwd=self.tmp_path, text=True, input=self.input, capture_output=True,
                              timeout=60)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        # What it exported stays in that shell.
        for name, value in re.findall(r"declare -x (OUTBOX_RELAY_\w+)=(.*)", done.stderr):
            self.env[name] = shlex.split(value)[0]


@pytest.fixture(scope="module")
def shared(session_stack):
    """A database that is well: for cases that leave it so."""
    database = Database(session_stack)
    database.create()
    database.migrate()
    database.grant()
    yield database
    database.drop()


@pytest.fixture(scope="module")
def users(session_stack):
    """Of RabbitMQ; they go in the end."""
    names = []
    yield names
    texts = ", ".join(f'<<"{name}">>' for name in names)
    session_stack.rabbitmqctl("eval", f'[rabbit_auth_backend_internal:delete_user(N, <<"test">>) || N <- [{texts}]].')


@pytest.fixture
def place(stack, shared, users, broker, relay, tmp_path):
    with contextlib.ExitStack() as closing:
        yield Place(stack, shared, users, broker, relay, tmp_path, closing)
        stack.heal()


CASES = {}
SEEN = set()


def broken(check, words, level="FAIL"):
    """The set-up that this function breaks is told by a line of that check with these words."""
    def keep(function):
        CASES[function.__name__] = (function, check, words, level)
        return function
    return keep


# ---- configuration --------------------------------------------------------------------------------------


@broken("configuration", 'unknown key "windwo" in publish')
def a_mistyped_key(place):
    place.set("publish", windwo=5)

    def person(remedy):
        assert remedy == 'did you mean "window"?'
        del place.config["publish"]
    place.person = person


@broken("configuration", "everybody may read", "warn")
def a_password_file_that_everybody_may_read(place):
    file = place.secret("x")
    file.chmod(0o644)
    place.set("postgres", password_file=str(file))


@broken("configuration", "postgres.dsn holds a password, and everybody may read this file", "warn")
def a_configuration_with_a_password_that_everybody_may_read(place):
    file = place.tmp_path / "mine.yaml"
    file.write_text(json.dumps(merge(place.config, {"postgres": {"dsn": place.database.dsn("relay") + " password=x"}})))
    file.chmod(0o644)
    place.config = None
    place.options = ["--config", str(file)]


@broken("configuration", "No such file or directory")
def a_password_file_that_is_not_there(place):
    place.input = "secret\n"
    place.set("postgres", password_file=str(place.tmp_path / "it's missing"))


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


# ---- the outbox -----------------------------------------------------------------------------------------


@broken("leader", "no relay leads", "warn")
def no_relay(place):
    place.fresh()


def marked(place):
    """A database with a mark."""
    database = place.fresh()
    queue = place.closing.enter_context(declared_queue(place))
    place.publish("", queue)
    done = place.relay.command("run", "--until-empty", config=place.config)
    assert done.returncode == 0, done.stderr
    return database


@contextlib.contextmanager
def declared_queue(place, arguments=None):
    channel = place.broker.channel()
    name = f"{place.broker.prefix}_{uuid.uuid4().hex[:6]}"
    channel.queue_declare(name, durable=True, arguments={"x-queue-type": "classic", **(arguments or {})})
    yield name
    place.broker.channel().queue_delete(name)


@broken("position", "it was restored from a dump of another cluster")
def a_restored_database(place):
    database = marked(place)
    database.execute("UPDATE outbox.sent SET system_identifier = system_identifier + 1, table_oid = table_oid::int + 1")


@broken("position", "it is a copy of another database of this cluster")
def a_template_copy(place):
    original = marked(place)
    for connection in original.opened:
        connection.close()
    original.cached.clear()
    name = original.name + "_copy"
    server = psycopg2.connect(original.server_dsn())
    server.autocommit = True
    server.cursor().execute(f"CREATE DATABASE {name} TEMPLATE {original.name} OWNER {original.roles['owner']}")
    place.closing.callback(lambda: (server.cursor().execute(f"DROP DATABASE {name} WITH (FORCE)"), server.close()))
    place.set("postgres", dsn=original.dsn("relay", dbname=name))


@broken("paused", "everything is paused since", "warn")
def everything_is_paused(place):
    place.fresh().query("SELECT outbox.pause(reason => 'a migration')", role="relay")


@broken("paused", "exchange it's odd is paused since", "warn")
def an_exchange_is_paused(place):
    place.fresh().query("SELECT outbox.pause('it''s odd')", role="relay")


@broken("schema", "lacks migration 0004_operating: what came with it does not work", "warn")
def a_schema_of_the_version_before(place):
    place.fresh().psql("-1", "-f", ROOT / "migrations/outbox/0004_operating.down.sql")


@broken("backlog", "1 messages are pending, the oldest for", "warn")
def messages_that_nobody_sends(place):
    place.fresh()
    queue = place.closing.enter_context(declared_queue(place))
    place.publish("", queue, at="2026-01-01")


@broken("slots", "is", "warn")
def rows_that_stay(place):
    """Sent, and older than any retention, and no relay is there to empty the slot."""
    database = marked(place)
    database.execute("INSERT INTO outbox.message (routing_key, payload_text, created_at) OVERRIDING USER VALUE"
                     " SELECT routing_key, 'old', now() - interval '9 days' FROM outbox.message")
    database.execute("DELETE FROM outbox.message WHERE payload_text = 'x'")

    def person(remedy):
        assert remedy.startswith("outbox-relay run")
        # What a relay does there takes a minute: test_roles has it.
        database.execute("TRUNCATE outbox.message")
    place.person = person


@broken("dead", "1 messages were given up; most often: there is no queue", "warn")
def a_message_that_was_given_up(place):
    database = place.fresh()
    queue = f"{place.broker.prefix}_late"
    place.publish("", queue)
    place.set("retry", max_attempts=1, initial="10ms")
    done = place.relay.command("run", "--until-empty", config=place.config)
    assert done.returncode == 0, done.stderr
    assert database.value("SELECT count(*) FROM outbox.dead") == 1
    # Its reason is mended.
    place.broker.channel().queue_declare(queue, durable=True)
    place.broker.queues.append(queue)


@broken("refused", "a queue refused the message", "warn")
def a_queue_that_is_full(place):
    place.fresh()
    queue = place.closing.enter_context(declared_queue(place, {"x-max-length": 1, "x-overflow": "reject-publish"}))
    place.publish("", queue)
    place.publish("", queue)
    place.set("retry", initial="50ms", max="50ms", max_attempts=100000)
    running = place.relay(config=place.config)
    wait_until(lambda: place.database.value("SELECT count(*) FROM outbox.delayed WHERE last_error IS NOT NULL") == 1, 10)

    def person(remedy):
        place.type(remedy)
        assert place.broker.get(queue) is not None
    place.person = person
    place.closing.callback(running.kill)


# ---- RabbitMQ -------------------------------------------------------------------------------------------


@broken("rabbitmq", "Connection refused")
def rabbitmq_is_down(place):
    place.stack.kill("rabbitmq")


def user(place, permissions=("", ".*", "")):
    """Who may write; its password is "right".  By one call: each costs a second."""
    name = "u_" + uuid.uuid4().hex[:8]
    texts = "".join(f'<<"{permission}">>, ' for permission in permissions or ())
    module = "rabbit_auth_backend_internal"
    place.stack.rabbitmqctl("eval", f'{module}:add_user(<<"{name}">>, <<"right">>, <<"test">>)'
                            + (f', {module}:set_permissions(<<"{name}">>, <<"/">>, {texts}<<"test">>).' if permissions else "."))
    place.users.append(name)
    return name


def log_in(place, name, password="right", vhost="%2f", **more):
    place.set("rabbitmq", urls=[f"amqp://{name}{':' + password if password else ''}@127.0.0.1:"
                                f"{place.stack.env['AMQP_PORT']}/{vhost}"], **more)


@broken("rabbitmq", "403 ACCESS_REFUSED")
def the_wrong_password_file_for_rabbitmq(place):
    place.input = "right\n"
    log_in(place, user(place), None, password_file=str(place.secret("wrong")))


@broken("rabbitmq", "403 ACCESS_REFUSED")
def the_wrong_password_for_rabbitmq(place):
    place.input = "wrong\n"
    log_in(place, user(place), "wrong")


@broken("rabbitmq", "vhost t_absent not found")
def a_vhost_that_is_not_there(place):
    place.closing.callback(lambda: subprocess.run([place.stack.env["RABBITMQCTL"], "-q", "delete_vhost", "t_absent"],
                                                  capture_output=True, check=False))
    log_in(place, user(place), vhost="t_absent")


@broken("rabbitmq", "access to vhost '/' refused")
def a_vhost_that_is_closed_to_the_user(place):
    log_in(place, user(place, None))


@broken("exchanges", "access to exchange")
def an_exchange_that_may_not_be_written_to(place):
    place.fresh()
    place.publish(place.broker.exchange())
    log_in(place, user(place, ("", "^other$", "")))


@broken("exchanges", "does not exist; messages of late name it")
def an_exchange_that_is_not_there(place):
    place.fresh()
    name = f"{place.broker.prefix}_it's late"
    place.broker.exchanges.append(name)
    place.publish(name)


@broken("exchanges", "does not exist; messages of late name it")
def a_declared_exchange_that_is_not_there(place):
    place.fresh()
    name = f"{place.broker.prefix}_declared"
    place.broker.exchanges.append(name)
    place.publish(name)
    place.set("topology", exchanges=[{"name": name, "type": "fanout"}])


@broken("queues", "does not exist; messages of late name it at the default exchange")
def a_queue_that_is_not_there(place):
    place.fresh()
    name = f"{place.broker.prefix}_jobs"
    place.broker.queues.append(name)
    place.publish("", name)


@broken("routes", "1 messages wait because no queue is bound")
def an_exchange_without_a_queue(place):
    place.fresh()
    exchange, queue = place.broker.exchange(), place.broker.queue()
    place.publish(exchange, "order.paid")
    place.set("topology", bindings=[{"exchange": exchange, "queue": queue, "routing_key": "order.#"}])
    place.set("retry", initial="50ms", max="50ms", max_attempts=100000)
    running = place.relay(config=place.config)
    place.closing.callback(running.kill)
    wait_until(lambda: place.database.value("SELECT count(*) FROM outbox.delayed WHERE last_error IS NOT NULL") == 1, 10)


@broken("routes", "publish.mandatory is false", "warn")
def unroutable_messages_are_dropped(place):
    place.set("publish", mandatory=False)


@broken("alarm", "low on memory")
def rabbitmq_has_no_memory_left(place):
    place.stack.rabbitmqctl("set_vm_memory_high_watermark", "0.000001")
    place.closing.callback(lambda: place.stack.rabbitmqctl("set_vm_memory_high_watermark", "0.4"))


@broken("alarm", "low on disk")
def rabbitmq_has_no_disk_left(place):
    place.stack.rabbitmqctl("set_disk_free_limit", "100000GB")
    place.closing.callback(lambda: place.mended or place.stack.rabbitmqctl("set_disk_free_limit", "50MB"))


@contextlib.contextmanager
def certificate(place, until):
    """The broker's own until then; what replaces its file."""
    directory = pathlib.Path(place.stack.env["TLS_DIR"])
    kept = (directory / "server.pem").read_bytes()
    subprocess.run(["openssl", "ca", "-batch", "-notext", "-config", "openssl.cnf", "-cert", "ca.pem", "-keyfile", "ca.key",
                    "-extensions", "server", "-startdate", "20200101000000Z", "-enddate", until, "-in", "server.csr",
                    "-out", "soon.pem"], cwd=directory, check=True, capture_output=True)
    (directory / "server.pem").write_bytes((directory / "soon.pem").read_bytes())
    place.stack.rabbitmqctl("eval", "ssl:clear_pem_cache().")
    place.set("rabbitmq", urls=[place.stack.env["AMQPS_URL"]], tls={"ca_file": place.stack.env["TLS_CA_FILE"]})
    yield lambda: (directory / "server.pem").write_bytes(kept)
    if not place.mended:
        (directory / "server.pem").write_bytes(kept)
        place.stack.rabbitmqctl("eval", "ssl:clear_pem_cache().")


@broken("tls", "ends in 4 days", "warn")
def a_certificate_that_ends_soon(place):
    until = time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + 5 * 86400 - 60))
    renew = place.closing.enter_context(certificate(place, until))

    def person(remedy):
        renew()
        place.type(remedy)
    place.person = person


@broken("rabbitmq", "certificate has expired")
def a_certificate_that_has_ended(place):
    renew = place.closing.enter_context(certificate(place, "20200201000000Z"))

    def person(remedy):
        assert remedy.startswith("renew the broker's certificate")
        renew()
        place.stack.rabbitmqctl("eval", "ssl:clear_pem_cache().")
    place.person = person


@broken("topology", "is missing (")
def a_declared_queue_that_is_not_there(place):
    name = f"{place.broker.prefix}_declared"
    place.broker.queues.append(name)
    place.set("topology", queues=[{"name": name}])


@broken("topology", "differs (")
def a_declared_queue_that_differs(place):
    queue = place.broker.queue()
    place.set("topology", queues=[{"name": queue, "type": "classic"}])

    def person(remedy):
        assert "declare at" in remedy and "outbox-relay.yaml:" in remedy
        place.set("topology", queues=[{"name": queue, "type": "quorum"}])
    place.person = person


@broken("overflow", "drops its oldest messages when it is full", "warn")
def a_queue_that_drops_its_oldest(place):
    name = f"{place.broker.prefix}_small"
    place.set("topology", queues=[{"name": name, "arguments": {"x-max-length": 10}}])

    def person(remedy):
        assert "x-overflow: reject-publish" in remedy
        place.set("topology", queues=[{"name": name, "arguments": {"x-max-length": 10, "x-overflow": "reject-publish"}}])
    place.person = person


@broken("http", "is taken by another program", "warn")
def another_program_at_the_port(place):
    taken = place.closing.enter_context(socket.socket())
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    place.set("http", listen=f"127.0.0.1:{taken.getsockname()[1]}")


@broken("http", "cannot be served: Cannot assign requested address", "warn")
def an_address_of_another_host(place):
    place.set("http", listen="192.0.2.1:9464")


# ---- the tests ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_the_remedy_works(place, name):
    function, check, words, level = CASES[name]
    function(place)
    ill = wait_until(lambda: place.ills(check, words), 10, f"{check}: ...{words}...")[0]
    assert ill.level == level, ill
    (place.person or place.type)(ill.remedy)
    wait_until(lambda: not place.ills(check, words), 20, f"an end of {ill}")
    place.mended = True
    SEEN.update(place.seen)


def test_all_is_well(place, broker):
    """A relay that leads and has sent something: nothing to warn of, also for a user that may only write."""
    database = place.fresh()
    exchange = broker.exchange()
    broker.queue(exchange=exchange)
    log_in(place, user(place), None, password_file=str(place.secret("right")))
    place.publish(exchange)
    running = place.relay(config=place.config)
    place.closing.callback(running.kill)
    running.wait_log("leading")
    wait_until(lambda: database.value("SELECT count(*) FROM outbox.sent") > 0, 10)
    findings = place.doctor()
    assert {finding.level for finding in findings} == {"ok"}, findings
    before = broker.count(broker.queues[0])
    done = place.doctor("--json")
    answer = json.loads(done.stdout)
    assert answer["well"] is True and done.returncode == 0
    assert [c["check"] for c in answer["checks"]] == [finding.check for finding in findings]
    assert all(c["result"] == "ok" and c["remedy"] is None for c in answer["checks"])
    # It sends nothing to anybody.
    assert broker.count(broker.queues[0]) == before == 1


def test_json_says_what_is_wrong(place):
    place.set("postgres", dsn=place.database.dsn("relay", dbname='no"such'))
    done = place.doctor("--json")
    answer = json.loads(done.stdout)
    failed = [c for c in answer["checks"] if c["result"] == "fail"]
    assert done.returncode == FOUND and answer["well"] is False and len(failed) == 1
    assert failed[0]["check"] == "postgres" and 'CREATE DATABASE "no""such"' in failed[0]["remedy"]


def test_each_right_that_is_missing_is_named(place):
    """All that grant_relay gives, one by one."""
    database = place.fresh()
    role = database.roles["relay"]
    rights = database.query("""
        SELECT 'TABLE', c.relname::text, a.privilege_type, c.oid::regclass::text
        FROM pg_class AS c, aclexplode(c.relacl) AS a
        WHERE c.relnamespace = 'outbox'::regnamespace AND a.grantee = %s::regrole
        UNION ALL
        SELECT 'FUNCTION', p.proname, a.privilege_type, p.oid::regprocedure::text
        FROM pg_proc AS p, aclexplode(p.proacl) AS a
        WHERE p.pronamespace = 'outbox'::regnamespace AND a.grantee = %s::regrole""", [role, role])
    assert len(rights) > 30
    for kind, name, privilege, full in rights:
        database.execute(f"REVOKE {privilege} ON {kind} {full} FROM {role}")
        told = [f.text for f in place.doctor() if f.check == "privileges" and f.level == "FAIL"]
        assert told == [f"{role} lacks {privilege} on outbox.{name}"]
        database.execute(f"GRANT {privilege} ON {kind} {full} TO {role}")
    assert not place.ills("privileges", "")


def test_many_missing_rights_are_one_trouble(place):
    database = place.fresh()
    role = database.roles["relay"]
    database.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA outbox FROM {role}")
    told = [f for f in place.doctor() if f.check == "privileges" and f.level == "FAIL"]
    assert len(told) == 1 and "grant_relay" in told[0].remedy
    assert told[0].text.startswith(f"{role} lacks ") and told[0].text.count(" on outbox.") == 5
    assert re.search(r" and rights on \d+ more$", told[0].text)


def test_a_url_that_fails_beside_one_that_works_is_a_warning(place):
    place.set("rabbitmq", urls=["amqp://127.0.0.1:1/%2f", place.stack.env["AMQP_URL"]])
    levels = {f.text.split(" ")[0].rstrip(":"): f.level for f in place.doctor() if f.check == "rabbitmq"}
    assert sorted(levels.values()) == ["ok", "warn"]


def test_a_pooler_in_session_mode_is_fine(place):
    pooler = Pooler(place.database.dsn("relay"), "session")
    place.closing.callback(pooler.remove)
    place.set("postgres", dsn=pooler.dsn())
    pooler_line, = [f for f in place.doctor() if f.check == "pooler"]
    assert pooler_line.level == "ok" and "session for good" in pooler_line.text


def test_silent_servers_are_told_in_bounded_time(place):
    """Both take connections and say nothing."""
    with contextlib.ExitStack() as sockets:
        ports = []
        for _ in range(2):
            silent = sockets.enter_context(socket.socket())
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            ports.append(silent.getsockname()[1])
        place.set("postgres", dsn=f"host=127.0.0.1 port={ports[0]} dbname=x user=x connect_timeout=2")
        place.set("rabbitmq", urls=[f"amqp://127.0.0.1:{ports[1]}/%2f?connection_timeout=2000"])
        began = time.monotonic()
        levels = {f.check: f.level for f in place.doctor()}
        assert levels["postgres"] == levels["rabbitmq"] == "FAIL"
        assert time.monotonic() - began < 15


def test_a_relay_that_serves_is_recognised(place, relay):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        place.set("http", listen=f"127.0.0.1:{probe.getsockname()[1]}")
    running = relay(config=place.config)
    running.wait_log("http_listening")
    line, = [f for f in place.doctor() if f.check == "http"]
    assert line.level == "ok" and "a relay answers" in line.text
    running.kill()
    line, = [f for f in place.doctor() if f.check == "http"]
    assert line.level == "ok" and "is free" in line.text


def test_wrong_words(place):
    done = place.relay.command("doctor", "--older-than", "soon", config=place.config)
    assert done.returncode == USAGE and "--older-than takes an age" in done.stderr


def checks_of_the_sources():
    names = set()
    for source in [*(ROOT / "relay/cli").glob("doctor*.c"), *(ROOT / "relay/admin").glob("checkup*.c")]:
        names |= set(re.findall(r'(?:findings|checkup_ask\(c),\s*"([a-z-]+)"', source.read_text()))
    return names


def test_every_line_is_explained():
    """docs/operations.md has a row for each check, and no other."""
    section = (ROOT / "docs/operations.md").read_text().partition("## What doctor says")[2].partition("\n## ")[0]
    explained = set(re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE))
    assert len(explained) > 20 and explained == checks_of_the_sources()
    assert SEEN <= explained


def test_there_are_cases_enough():
    assert len(CASES) >= 20
    assert {case[1] for case in CASES.values()} >= checks_of_the_sources()
