"""Fixtures of the integration tests: real servers, a fresh database, fresh queues, real relays.

stack      the private Postgres and RabbitMQ of this run; $OUTBOX_STACK names one that runs already (fast when
           developing: tests/support/stack start; export OUTBOX_STACK=build/stack/default)
database   a fresh database with the migrations, owned by a role that is neither superuser nor CREATEROLE
broker     a pika connection; queues and exchanges made through it have unique names and vanish afterwards
cluster    three RabbitMQ nodes (15 s, once a run; $OUTBOX_CLUSTER names a running one), cluster_broker for them
vhost      a virtual host of its own (slow: seconds), for tests of permissions
relay      starts relays ($RELAY, else build/outbox-relay) and ends them, and runs one-shot commands

Nothing sleeps in place of a condition: wait_until() polls for one.
"""

import ctypes
import fcntl
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time
import uuid

import pika
import psycopg2
import psycopg2.extensions
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
STACK_COMMAND = ROOT / "tests/support/stack"
RELAY_BINARY = (ROOT / os.environ.get("RELAY", "build/outbox-relay")).resolve()
TEST_LIMIT_S = 180
ROLES = ("owner", "writer", "relay", "monitor")
SANITIZER = re.compile(r"ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|runtime error:")

libc = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


def pytest_configure(config):
    config.addinivalue_line("markers", f"time_limit(seconds): instead of the usual {TEST_LIMIT_S} s")
    config.addinivalue_line("markers", "alone: no other test runs meanwhile, since this one is about a time")


def wait_until(condition, timeout=10, what=None):
    """Return the first true value of condition(); fail after timeout seconds."""
    deadline = time.monotonic() + timeout
    pause = 0.002
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout} s in vain for {what or condition}", pytrace=True)
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


def free_port():
    """Of the loopback interface, free a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture
def room(request):
    """The workers share the machine, but a test that is marked "alone" has it for itself."""
    alone = request.node.get_closest_marker("alone")
    door, inside = (os.open(ROOT / name, os.O_RDONLY) for name in ("tests", "tests/integration"))
    # Who waits for the room to be empty holds the door, so that nobody else comes in.
    fcntl.flock(door, fcntl.LOCK_EX)
    fcntl.flock(inside, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
    fcntl.flock(door, fcntl.LOCK_UN)
    yield
    fcntl.flock(inside, fcntl.LOCK_UN)
    os.close(door)
    os.close(inside)


@pytest.fixture(autouse=True)
def time_limit(request, room):
    """A test that hangs fails by itself, and its fixtures are still torn down."""
    marker = request.node.get_closest_marker("time_limit")
    seconds = marker.args[0] if marker else TEST_LIMIT_S

    def expired(*_):
        pytest.fail(f"not done within {seconds} s", pytrace=True)

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(seconds)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


# ---- servers ------------------------------------------------------------------------------------------


class Stack:
    """A running stack; env holds what "stack env" prints."""

    def __init__(self, directory):
        self.directory = str(directory)
        self.env = {}
        self.refresh()

    def command(self, *arguments):
        return subprocess.run([STACK_COMMAND, *arguments, "--dir", self.directory], check=True, text=True,
                              stdout=subprocess.PIPE, stdin=subprocess.DEVNULL).stdout

    def refresh(self):
        """Pids change when a server is started again."""
        self.command("env")
        self.env = json.loads(pathlib.Path(self.directory, "state.json").read_text())["env"]

    def act(self, verb, server):
        self.command(verb, server)
        self.refresh()

    def kill(self, server):
        """kill -9 of the server and all of its processes at once."""
        self.act("kill", server)

    def start(self, server):
        """Again, with the same data and ports; returns once it answers."""
        self.act("start", server)

    def stop(self, server):
        self.act("stop", server)

    def pause(self, server):
        self.act("pause", server)

    def resume(self, server):
        self.act("resume", server)

    def partition(self, node):
        """Cut a node of a cluster off from the others: it ends its connections and serves no clients."""
        self.act("partition", node)

    def rejoin(self, node):
        """Mend that; returns once the node serves clients again."""
        self.act("rejoin", node)

    @property
    def urls(self):
        """Of all RabbitMQ nodes."""
        return self.env["AMQP_URLS"].split(",")

    def conditions(self):
        """running, paused, partitioned or down, by server."""
        return json.loads(pathlib.Path(self.directory, "state.json").read_text())["servers"]

    def heal(self):
        """Bring back whatever a test left down, paused or cut off."""
        conditions = self.conditions()
        for server, condition in conditions.items():
            if condition == "paused":
                self.resume(server)
            elif condition == "partitioned":
                self.rejoin(server)
        # All nodes at once: one alone might wait for another.
        for server in {server.rstrip("123") for server, condition in conditions.items() if condition == "down"}:
            self.start(server)

    def rabbitmqctl(self, *arguments):
        return subprocess.run([self.env["RABBITMQCTL"], "-q", *arguments], check=True, text=True,
                              stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=60).stdout


def running_stack(variable, name, *arguments):
    """The one that the environment names, or one of our own."""
    given = os.environ.get(variable)
    if given:
        yield Stack(os.path.abspath(given))
        return
    directory = ROOT / f"build/stack/{name}-{os.getpid()}"
    subprocess.run([STACK_COMMAND, "start", "--dir", directory, "--owner", str(os.getpid()), *arguments], check=True)
    yield Stack(directory)
    subprocess.run([STACK_COMMAND, "stop", "--dir", directory], check=True)


@pytest.fixture(scope="session")
def session_stack():
    yield from running_stack("OUTBOX_STACK", "pytest")


@pytest.fixture
def stack(session_stack):
    yield session_stack
    session_stack.heal()


@pytest.fixture(scope="session")
def session_cluster():
    yield from running_stack("OUTBOX_CLUSTER", "cluster", "--only", "rabbitmq", "--cluster")


@pytest.fixture
def cluster(session_cluster):
    """A Stack without Postgres; its servers are rabbitmq1 to rabbitmq3, and rabbitmq for all three."""
    yield session_cluster
    session_cluster.heal()


# ---- database -----------------------------------------------------------------------------------------


class Database:
    """One database and its roles.  role is owner, writer, relay, monitor or postgres (the superuser)."""

    def __init__(self, stack, schema="outbox"):
        self.stack = stack
        self.schema = schema
        self.name = "t_" + uuid.uuid4().hex[:12]
        self.roles = {role: f"{self.name}_{role}" for role in ROLES}
        self.opened = []
        self.cached = {}

    def dsn(self, role="relay", tcp=False, **more):
        """A conninfo string; over the Unix socket unless tcp."""
        parts = {"host": "127.0.0.1" if tcp else self.stack.env["PGHOST"], "port": self.stack.env["PGPORT"],
                 "dbname": self.name, "user": self.roles.get(role, role), **more}
        return psycopg2.extensions.make_dsn(**parts)

    def environment(self, role="relay"):
        """The same as variables of libpq's."""
        return {"PGHOST": self.stack.env["PGHOST"], "PGPORT": self.stack.env["PGPORT"], "PGDATABASE": self.name,
                "PGUSER": self.roles.get(role, role)}

    def connect(self, role="owner", autocommit=False):
        """A new psycopg2 connection, closed after the test."""
        connection = psycopg2.connect(self.dsn(role))
        connection.autocommit = autocommit
        self.opened.append(connection)
        return connection

    def cursor(self, role):
        connection = self.cached.get(role)
        if connection is None or connection.closed:
            connection = self.cached[role] = self.connect(role, autocommit=True)
        return connection.cursor()

    def execute(self, sql, parameters=None, role="owner"):
        """A transaction of its own."""
        with self.cursor(role) as cursor:
            cursor.execute(sql, parameters)

    def query(self, sql, parameters=None, role="owner"):
        """The rows, as tuples."""
        with self.cursor(role) as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall()

    def value(self, sql, parameters=None, role="owner"):
        return self.query(sql, parameters, role)[0][0]

    def psql(self, *arguments, role="owner", check=True):
        return subprocess.run([os.path.join(self.stack.env["POSTGRES_BIN"], "psql"), "-qX", "-v", "ON_ERROR_STOP=1",
                               "-d", self.dsn(role), *map(str, arguments)], check=check, text=True,
                              stdin=subprocess.DEVNULL, capture_output=True)

    def create(self, options=""):
        """With options of CREATE DATABASE."""
        server = psycopg2.connect(self.server_dsn())
        server.autocommit = True
        with server.cursor() as cursor:
            for role in self.roles.values():
                cursor.execute(f"CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB")
            cursor.execute(f"CREATE DATABASE {self.name} OWNER {self.roles['owner']} {options}")
        server.close()

    def migrate(self, line="outbox"):
        """As an application team would: psql, one transaction a file, in order."""
        for file in sorted((ROOT / "migrations" / line).glob("*.up.sql")):
            done = self.psql("-1", "-f", file, check=False)
            assert done.returncode == 0, done.stderr

    def grant(self):
        for role in ("writer", "relay", "monitor"):
            self.query(f"SELECT {self.schema}.grant_{role}(%s)", [self.roles[role]])

    def server_dsn(self):
        return psycopg2.extensions.make_dsn(host=self.stack.env["PGHOST"], port=self.stack.env["PGPORT"],
                                            dbname="postgres", user="postgres")

    def drop(self):
        for connection in self.opened:
            connection.close()
        self.stack.heal()
        server = psycopg2.connect(self.server_dsn())
        server.autocommit = True
        with server.cursor() as cursor:
            cursor.execute("SELECT gid FROM pg_prepared_xacts WHERE database = %s", [self.name])
            prepared = cursor.fetchall()
        if prepared:
            own = psycopg2.connect(self.dsn("postgres"))
            own.autocommit = True
            with own.cursor() as cursor:
                for (gid,) in prepared:
                    cursor.execute("ROLLBACK PREPARED %s", [gid])
            own.close()
        with server.cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")
            for role in self.roles.values():
                cursor.execute(f"DROP ROLE IF EXISTS {role}")
        server.close()


@pytest.fixture
def empty_database(stack):
    """The database and its roles, without the migrations."""
    database = Database(stack)
    database.create()
    yield database
    database.drop()


@pytest.fixture
def database(empty_database):
    empty_database.migrate()
    empty_database.grant()
    return empty_database


# ---- broker -------------------------------------------------------------------------------------------


class Message:
    """One message as it arrived."""

    def __init__(self, method, properties, body):
        self.exchange = method.exchange
        self.routing_key = method.routing_key
        self.redelivered = method.redelivered
        self.properties = properties
        self.headers = properties.headers or {}
        self.message_id = properties.message_id
        self.body = body


class Broker:
    """A second client (pika, not rabbitmq-c), connected when first used and again after a loss."""

    def __init__(self, stack, url=None):
        self.stack = stack
        self.urls = [url] if url else stack.urls
        self.url = self.urls[0]
        self.prefix = "t_" + uuid.uuid4().hex[:8]
        self.queues = []
        self.exchanges = []
        self.bindings = []
        self.connection = None
        self.current = None

    def channel(self):
        """A usable channel; what a lost one had not acknowledged comes again."""
        if self.connection is not None:
            try:
                # pika learns of a lost connection only when it reads.
                self.connection.process_data_events(0)
            except pika.exceptions.AMQPError:
                self.connection = None
        if self.connection is None or not self.connection.is_open:
            # Tried in turn.
            parameters = [pika.URLParameters(url) for url in self.urls]
            for one in parameters:
                one.heartbeat = 0
            self.connection = pika.BlockingConnection(parameters)
            self.current = None
        if self.current is None or not self.current.is_open:
            self.current = self.connection.channel()
        return self.current

    def exchange(self, name="events", kind="topic", **more):
        name = f"{self.prefix}_{name}"
        self.channel().exchange_declare(name, exchange_type=kind, durable=True, **more)
        self.exchanges.append(name)
        return name

    def queue(self, name="queue", exchange=None, routing_key="#", kind="quorum", arguments=None):
        """A durable queue, bound when an exchange is given; returns its real name."""
        name = f"{self.prefix}_{name}"
        self.channel().queue_declare(name, durable=True, arguments={"x-queue-type": kind, **(arguments or {})})
        self.queues.append(name)
        if exchange is not None:
            self.channel().queue_bind(name, exchange, routing_key)
            self.bindings.append((name, exchange, routing_key))
        return name

    def bind_again(self):
        """As consumers do whenever they connect."""
        for name, exchange, routing_key in self.bindings:
            self.channel().queue_bind(name, exchange, routing_key)

    def count(self, queue):
        return self.channel().queue_declare(queue, passive=True).method.message_count

    def get(self, queue):
        """The next message, taken off the queue; None when there is none."""
        method, properties, body = self.channel().basic_get(queue, auto_ack=True)
        return Message(method, properties, body) if method else None

    def take(self, queue, count, timeout=20):
        """Exactly the next count messages, in the order of arrival; fails when they do not come in time."""
        taken = []
        channel = self.channel()
        deadline = time.monotonic() + timeout
        for method, properties, body in channel.consume(queue, inactivity_timeout=0.05):
            if method is not None:
                taken.append(Message(method, properties, body))
                channel.basic_ack(method.delivery_tag)
            if len(taken) == count or time.monotonic() > deadline:
                break
        # Gives back what was delivered beyond the count.
        channel.cancel()
        assert len(taken) == count, f"{len(taken)} of {count} messages arrived in {queue}"
        return taken

    def close(self):
        channel = self.channel()
        for queue in self.queues:
            channel.queue_delete(queue)
        for exchange in self.exchanges:
            channel.exchange_delete(exchange)
        self.connection.close()


@pytest.fixture
def broker(stack):
    broker = Broker(stack)
    yield broker
    stack.heal()
    broker.close()


@pytest.fixture
def cluster_broker(cluster):
    broker = Broker(cluster)
    yield broker
    cluster.heal()
    broker.close()


@pytest.fixture
def faithful_pika(monkeypatch):
    """pika 1.2 reads signed 64 bits ('l') as unsigned, and cuts the fraction off a double: both in its long()."""
    class Faithful(int):
        def __new__(cls, value):
            return value - 2**64 if isinstance(value, int) and value >= 2**63 else value

    monkeypatch.setattr(pika.data, "long", Faithful)


@pytest.fixture
def vhost(stack):
    """The url of a virtual host of its own, and its name: vhost.url, vhost.name."""
    name = "t_" + uuid.uuid4().hex[:8]
    stack.rabbitmqctl("add_vhost", name)
    stack.rabbitmqctl("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
    result = type("Vhost", (), {"name": name, "url": stack.env["AMQP_URL"].rpartition("/")[0] + "/" + name})
    yield result
    stack.heal()
    stack.rabbitmqctl("delete_vhost", name)


# ---- relay --------------------------------------------------------------------------------------------

FIELD = re.compile(r'([^\s=]+)=("(?:[^"\\]|\\.)*"|\S*)')


def parse_line(line):
    """One log line as a dictionary, logfmt or JSON; other lines as {"text": line}."""
    if line.startswith("{"):
        return json.loads(line)
    fields = {key: json.loads(value) if value.startswith('"') else value for key, value in FIELD.findall(line)}
    return fields if "event" in fields else {"text": line}


def die_with_parent():
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Relay:
    """One running process; its stderr and stdout are files beside its configuration."""

    def __init__(self, arguments, env, directory):
        self.stderr_path = directory / "stderr"
        self.stdout_path = directory / "stdout"
        with open(self.stderr_path, "wb") as err, open(self.stdout_path, "wb") as out:
            self.process = subprocess.Popen([RELAY_BINARY, *arguments], env=env, stdin=subprocess.DEVNULL, stdout=out,
                                            stderr=err, preexec_fn=die_with_parent)
        self.pid = self.process.pid

    def stderr(self):
        return self.stderr_path.read_text(errors="replace")

    def stdout(self):
        return self.stdout_path.read_text(errors="replace")

    def log(self, event=None, **fields):
        """All whole lines so far as dictionaries, or those of an event with these fields (compared as text)."""
        text = self.stderr()
        lines = [parse_line(line) for line in text[:text.rfind("\n") + 1].split("\n")[:-1]]
        return [line for line in lines if (event is None or line.get("event") == event)
                and all(str(line.get(key)) == str(value) for key, value in fields.items())]

    def wait_log(self, event, timeout=10, count=1, **fields):
        """Wait until count such lines are there; returns the count-th."""
        def found():
            lines = self.log(event, **fields)
            if len(lines) >= count:
                return lines[count - 1]
            if not self.alive():
                lines = self.log(event, **fields)
                assert len(lines) >= count, f"the relay ended with {self.process.returncode} before {event}"
            return None
        return wait_until(found, timeout, f"{event} {fields or ''} in the log")

    def alive(self):
        return self.process.poll() is None

    def wait(self, timeout=20):
        """Its exit code (negative: the signal) once it has ended by itself."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the relay did not end within {timeout} s")

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def stop(self, timeout=10):
        """SIGTERM; returns the exit code."""
        self.terminate()
        return self.wait(timeout)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)


def merge(base, over):
    """Mappings are merged, everything else is replaced."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merge(result[key], value) if both else value
    return result


class RelayFactory:
    """relay(config={"publish": {"window": 100}}) starts "run" with the test's database and broker.

    config is merged over the usual settings; config=None runs without a file.  env adds to (or, with a value of
    None, takes from) the environment.  relay.command("check", ...) runs a command to its end.
    """

    def __init__(self, settings, directory):
        self.settings = settings
        self.directory = directory
        self.started = []

    def prepare(self, arguments, config, env):
        directory = self.directory / f"relay-{len(self.started)}"
        directory.mkdir()
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("OUTBOX_RELAY_", "PG"))}
        environment.update(env or {})
        environment = {k: str(v) for k, v in environment.items() if v is not None}
        arguments = [str(a) for a in arguments]
        if config is not None:
            path = directory / "outbox-relay.yaml"
            # JSON is YAML.
            path.write_text(json.dumps(merge(self.settings(), config), indent=1) + "\n")
            path.chmod(0o600)    # the broker's password is in it
            arguments += ["--config", str(path)]
        return arguments, environment, directory

    def __call__(self, *arguments, config={}, env=None):
        relay = Relay(*self.prepare(arguments or ("run",), config, env))
        self.started.append(relay)
        return relay

    def command(self, *arguments, config={}, env=None, timeout=60):
        """Like subprocess.run: returncode, stdout, stderr."""
        relay = self(*arguments, config=config, env=env)
        code = relay.wait(timeout)
        return subprocess.CompletedProcess(arguments, code, relay.stdout(), relay.stderr())

    def end(self):
        problems = []
        for number, relay in enumerate(self.started):
            if relay.alive():
                relay.kill()
            text = relay.stderr()
            # pytest shows this only when the test failed.
            print(f"---- stderr of relay {number} (exit {relay.process.returncode}) ----\n{text[-8000:]}")
            if SANITIZER.search(text):
                problems.append(text)
        assert not problems, "a sanitizer complained:\n" + "\n".join(problems)


@pytest.fixture
def relay(request, stack, tmp_path):
    """See RelayFactory.  The test's database is used when it has one."""
    def settings():
        database = next((request.getfixturevalue(name) for name in ("database", "empty_database")
                         if name in request.fixturenames), None)
        return {
            "postgres": {"dsn": database.dsn("relay")} if database else {},
            "rabbitmq": {"urls": [stack.env["AMQP_URL"]]},
            "http": {"listen": None},
        }

    factory = RelayFactory(settings, tmp_path)
    yield factory
    factory.end()
