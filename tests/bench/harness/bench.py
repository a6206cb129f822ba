"""The bench: programs that are run and measured, databases, queues, on a private stack.

What must stay true: both sides of a ratio run one right after the other and in alternating order, from the
same state (fresh queue, fresh table, a checkpoint before the rows are written, the broker's log rolled over, both
servers idle again), since the machine's speed drifts more over minutes than what is to be shown.
"""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import time

import psycopg2

ROOT = pathlib.Path(__file__).resolve().parents[3]
QUEUE = "bench"
PAYLOAD_SIZE = 512
KEYS = 10000
TRACEPARENT = '{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}'

PLAIN_TABLE = """
CREATE SCHEMA plain;
CREATE TABLE plain.message (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_id uuid NOT NULL DEFAULT gen_random_uuid(),
    routing_key text NOT NULL,
    ordering_key text,
    headers jsonb,
    payload bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp());
"""


class BenchError(Exception):
    """A run failed; said in one line."""


def cpu_seconds(pid):
    """CPU that a process has used so far, to the nanosecond where the kernel tells."""
    total = 0
    for task in pathlib.Path("/proc", str(pid), "task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


class Process:
    """A program under tests/bench/measure.c."""

    def __init__(self, command, directory, name):
        self.command = command
        self.usage = directory / f"{name}.usage.json"
        self.log = directory / f"{name}.log"
        self.usage.unlink(missing_ok=True)
        with open(self.log, "wb") as log:
            self.measure = subprocess.Popen([directory / "measure", self.usage, *command], stdin=subprocess.DEVNULL,
                                            stdout=subprocess.PIPE, stderr=log)

    def pid(self):
        """Of the program itself."""
        own = self.measure.pid
        while True:
            children = pathlib.Path(f"/proc/{own}/task/{own}/children").read_text().split()
            if children:
                return int(children[0])
            self.check_running()

    def check_running(self):
        if self.measure.poll() is not None:
            raise BenchError(f"{self.describe()} ended: {self.last_words()}")

    def describe(self):
        return pathlib.Path(self.command[0]).name

    def last_words(self):
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def wait(self, timeout_s, expected=0):
        """What it used, and what it printed if that is JSON."""
        try:
            output, _ = self.measure.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            words = self.last_words()
            self.end()
            raise BenchError(f"{self.describe()} was not done within {timeout_s} s: {words}") from None
        if self.measure.returncode != expected:
            raise BenchError(f"{self.describe()} ended with {self.measure.returncode}: {self.last_words()}")
        used = json.loads(self.usage.read_text())
        if output.startswith(b"{"):
            # The CPU of a program that counts its own loop alone is not lost.
            printed = json.loads(output)
            used["process_cpu_seconds"] = used["cpu_seconds"]
            used.update(printed)
        return used

    def terminate(self, timeout_s=30):
        self.measure.terminate()
        return self.wait(timeout_s)

    def kill(self):
        """As kill -9 would."""
        os.kill(self.pid(), signal.SIGKILL)
        return self.wait(10, expected=128 + signal.SIGKILL)

    def end(self):
        if self.measure.poll() is None:
            self.measure.kill()
        self.measure.communicate()


class Database:
    """One with the outbox in it, and the table of the plain relay."""

    def __init__(self, bench, name):
        self.bench = bench
        self.name = name
        bench.postgres.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        bench.postgres.execute(f"CREATE DATABASE {name}")
        self.migrate("outbox")
        self.session = self.connect()
        self.execute(PLAIN_TABLE)

    def migrate(self, line):
        for migration in sorted((ROOT / "migrations" / line).glob("*.up.sql")):
            done = subprocess.run(["psql", "-qX1", "-v", "ON_ERROR_STOP=1", "-d", self.name, "-f", migration],
                                  stdin=subprocess.DEVNULL, capture_output=True, text=True)
            if done.returncode != 0:
                raise BenchError(f"{migration.name}: {done.stderr.strip()}")

    def connect(self):
        connection = psycopg2.connect(dbname=self.name)
        connection.autocommit = True
        return connection

    def dsn(self):
        return f"dbname={self.name}"

    def execute(self, sql, *values):
        with self.session.cursor() as cursor:
            cursor.execute(sql, values or None)

    def row(self, sql, *values):
        with self.session.cursor() as cursor:
            cursor.execute(sql, values or None)
            return cursor.fetchone()

    def value(self, sql, *values):
        return self.row(sql, *values)[0]

    def drop(self):
        self.session.close()
        self.bench.postgres.execute(f"DROP DATABASE {self.name} WITH (FORCE)")

    # ---- rows

    def empty(self):
        self.execute("TRUNCATE outbox.message, outbox.sent RESTART IDENTITY")

    def write(self, count, traceparent=False):
        """Rows for the relay, in one transaction."""
        self.execute("INSERT INTO outbox.message (routing_key, ordering_key, headers, payload) "
                     "SELECT %s, 'key-' || (random() * 4294967296)::bigint %% %s, %s::jsonb, "
                     "convert_to(repeat('x', %s), 'UTF8') FROM generate_series(1, %s)",
                     QUEUE, KEYS, TRACEPARENT if traceparent else None, PAYLOAD_SIZE, count)

    def refill(self, count, traceparent=False):
        """Nothing but these rows, and no checkpoint will come between."""
        self.empty()
        self.bench.checkpoint()
        self.write(count, traceparent)

    def refill_plain(self, count, traceparent=False):
        self.execute("TRUNCATE plain.message RESTART IDENTITY")
        self.bench.checkpoint()
        self.write_plain(count, traceparent)

    def write_plain(self, count, traceparent=False):
        self.execute("INSERT INTO plain.message (routing_key, ordering_key, headers, payload) "
                     "SELECT %s, 'key-' || (random() * 4294967296)::bigint %% %s, %s::jsonb, "
                     "convert_to(repeat('x', %s), 'UTF8') FROM generate_series(1, %s)",
                     QUEUE, KEYS, TRACEPARENT if traceparent else None, PAYLOAD_SIZE, count)

    @contextlib.contextmanager
    def held_snapshot(self):
        """A transaction that has read and goes on existing, as a forgotten psql does."""
        holder = self.connect()
        try:
            with holder.cursor() as cursor:
                cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
                cursor.execute("SELECT (SELECT count(*) FROM outbox.sent) + (SELECT count(*) FROM plain.message)")
            yield
        finally:
            holder.close()

    # ---- marks

    def sent(self):
        return int(self.value("SELECT coalesce(sum(messages), 0) FROM outbox.sent"))

    def marks(self):
        """[(time since 1970, messages sent so far), ...]"""
        with self.session.cursor() as cursor:
            cursor.execute("SELECT extract(epoch FROM sent_at)::float8, sum(messages) OVER (ORDER BY seq)::bigint "
                           "FROM outbox.sent ORDER BY seq")
            return cursor.fetchall()

    def wait_sent(self, count, relay, timeout_s=60):
        deadline = time.monotonic() + timeout_s
        while self.sent() < count:
            relay.check_running()
            if time.monotonic() > deadline:
                raise BenchError(f"the relay marked {self.sent()} of {count} messages within {timeout_s} s")
            time.sleep(0.02)

    def wait_alone(self):
        """Until no relay's session is left, so that the next one leads at once."""
        deadline = time.monotonic() + 30
        while self.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = "
                         "(SELECT oid FROM pg_database WHERE datname = current_database())"):
            if time.monotonic() > deadline:
                raise BenchError("a session of a relay that has ended stays")
            time.sleep(0.02)


class Bench:
    def __init__(self, quick, pairs, directory):
        self.quick = quick
        self.pairs = pairs
        self.directory = directory        # of the programs; their logs go there, too
        self.relay_program = ROOT / os.environ.get("BUILD", "build") / "outbox-relay"
        self.url = os.environ["AMQP_URL"]
        self.postgres = Bench.Postgres()
        self.figures = []
        self.charts = {}                  # file name -> SVG
        for program in (self.relay_program, directory / "measure"):
            if not program.exists():
                raise BenchError(f"{program} is missing: make all bench-programs")

    class Postgres:
        """A superuser's session, outside of every database that is measured."""

        def __init__(self):
            self.session = psycopg2.connect("")
            self.session.autocommit = True

        def execute(self, sql):
            with self.session.cursor() as cursor:
                cursor.execute(sql)

        def value(self, sql):
            with self.session.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchone()[0]

    def database(self, name):
        return Database(self, name)

    def figure(self, figure):
        self.figures.append(figure)
        self.say(f"  {figure.what}: {figure.median():.{figure.places}f} {figure.unit}".rstrip())

    def say(self, text):
        print(text, flush=True)

    # ---- servers

    def wal_position(self):
        return int(self.postgres.value("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))

    def checkpoint(self):
        self.postgres.execute("CHECKPOINT")

    def settle(self):
        """Until both servers have done what the last run left behind: less than a tenth of a core."""
        pids = [int(os.environ["RABBITMQ_PID"]), int(os.environ["POSTGRES_PID"])]
        deadline = time.monotonic() + (2 if self.quick else 5)
        while time.monotonic() < deadline:
            before = sum(map(cpu_seconds, pids))
            time.sleep(0.2)
            if sum(map(cpu_seconds, pids)) - before < 0.02:
                return

    def queue(self, *command):
        done = subprocess.run([self.directory / "queue", "--url", self.url, "--queue", QUEUE, *command],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise BenchError(f"queue {command[-1]}: {done.stderr.strip()}")
        return json.loads(done.stdout) if done.stdout else None

    def roll_over(self):
        """The log that all quorum queues share: full, it costs the run that happens to fill it a fifth of its rate."""
        done = subprocess.run([os.environ["RABBITMQCTL"], "eval", "ra_log_wal:force_roll_over(ra_log_wal)."],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise BenchError(f"the broker's log does not roll over: {done.stdout.strip()} {done.stderr.strip()}")

    def fresh_queue(self, *options):
        self.queue(*options, "recreate")
        self.roll_over()
        self.settle()

    # ---- programs

    def run(self, program, *arguments, timeout_s=300):
        process = Process([self.directory / program, *map(str, arguments)], self.directory, program)
        try:
            return process.wait(timeout_s)
        finally:
            process.end()

    @contextlib.contextmanager
    def beside(self, program, *arguments):
        """A program that runs while the block does; wait() for it in there."""
        process = Process([self.directory / program, *map(str, arguments)], self.directory, program)
        try:
            yield process
        finally:
            process.end()

    def relay_command(self, database, settings, *arguments):
        """settings: {"publish": {"window": 1}} over what every run has."""
        # JSON is YAML.
        config = {"postgres": {"dsn": database.dsn()}, "rabbitmq": {"urls": [self.url]}, "http": {"listen": None},
                  "log": {"level": "warn"}, **settings}
        file = self.directory / "relay.yaml"
        file.touch(0o600)    # it holds the broker's password
        file.write_text(json.dumps(config))
        return [self.relay_program, "run", *arguments, "--config", file]

    def drain(self, database, timeout_s=300):
        """relay run --until-empty."""
        database.wait_alone()
        process = Process(self.relay_command(database, {}, "--until-empty"), self.directory, "relay")
        try:
            return process.wait(timeout_s)
        finally:
            process.end()

    @contextlib.contextmanager
    def relay(self, database, **settings):
        """A relay that runs; ended at once when the block is left."""
        database.wait_alone()
        process = Process(self.relay_command(database, settings), self.directory, "relay")
        try:
            yield process
        finally:
            process.end()

    @contextlib.contextmanager
    def awake_relay(self, database, **settings):
        """One that is known to work: it has sent a message."""
        database.empty()
        with self.relay(database, **settings) as relay:
            database.write(1)
            database.wait_sent(1, relay)
            yield relay
