"""Where a run takes place: servers, fault proxy, two relays, topology, writers and consumers."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import pika
import psycopg2

import consumer
from conftest import ROOT, STACK_COMMAND, Database, Stack, die_with_parent
from history import History
from pair import Pair, PairDatabase
from proxy import Proxy
from relays import Relays, seconds

HERE = ROOT / "tests/chaos"
RELAYS = 2
WINDOW = 100
KEYS = 200
# What each is for stands in faults.py.  The queue "audit" has all whose binding is not at stake: the order across queues.
DESTINATIONS = {
    "good": {"kind": "good", "queues": ["good", "audit"]},
    "flaky": {"kind": "bad", "queues": ["flaky", "audit"]},
    "routed": {"kind": "bad", "queues": ["routed", "audit"]},
    "full": {"kind": "bad", "queues": ["full", "audit"], "refuses": True},
    "lossy": {"kind": "lossy", "queues": ["lossy"]},
    "alone": {"kind": "bad", "queues": ["alone"]},
    "poison": {"kind": "poison", "queues": []},
}
# "alone" has one member only, on the last node: when that is gone the others live on, and nothing confirms.
ARGUMENTS = {"full": {"x-max-length": 50, "x-overflow": "reject-publish"}, "alone": {"x-quorum-initial-group-size": 1}}
# The relays' own user: it may write, and nothing else.  For rabbitmqctl eval, which is one start of it instead of three.
PERMIT = """rabbit_auth_backend_internal:set_permissions(<<"relay">>, <<"/">>, <<"">>, <<"%s">>, <<"">>, <<"chaos">>)."""
ADD_USER = """rabbit_auth_backend_internal:add_user(<<"relay">>, <<"relay">>, <<"chaos">>),""" + PERMIT
EVERYTHING, NOT_FLAKY = ".*", "^(?!chaos.flaky$)"
PREFETCH, FULL_PREFETCH = 1000, 50
CONFIG = {
    "rabbitmq": {"heartbeat": "5s"},
    "publish": {"window": WINDOW, "batch": 50, "confirm_timeout": "8s"},
    "retry": {"initial": "200ms", "multiplier": 2, "max": "2s", "max_attempts": 10},
    "http": {"listen": None},
    "log": {"level": "info"},
}
QUIET_S = 0.3
POLL_S = 0.05
# What is scheduled for later than now is not under way.
UNDER_WAY = """
SELECT (SELECT pending FROM outbox.backlog())
     + (SELECT count(*) FROM outbox.delayed WHERE %s)
"""
CHANNEL_CLOSED = re.compile(r"^(\S+ \S+) .*(?:\n.*)?operation basic.publish caused a channel exception", re.MULTILINE)


class Trouble(Exception):
    """The run cannot go on."""


class Writer:
    """The program writer.py, and what it was told last."""

    def __init__(self, place, number, seed, pause, destinations, scheduled):
        self.path = place.directory / f"writer-{number}.jsonl"
        self.process = subprocess.Popen(
            [sys.executable, HERE / "writer.py", "--dsn", place.database.dsn("writer"), "--history", self.path,
             "--seed", str(seed * 100 + number), "--keys", str(KEYS), "--destinations", ",".join(destinations),
             "--scheduled", str(scheduled), "--pause", str(pause)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent)

    def say(self, word):
        try:
            self.process.stdin.write(word + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Trouble("a writer failed") from None

    def wait_paused(self):
        if self.process.stdout.readline() != "paused\n":
            raise Trouble("a writer failed")

    def end(self):
        self.process.stdin.close()
        if self.process.wait(30) != 0:
            raise Trouble("a writer failed")


class Place:
    """servers: "single", the stack's Postgres and RabbitMQ; "cluster", two Postgres and three RabbitMQ nodes.

    scheduled: the share of transactions that write for later.
    """

    def __init__(self, directory, servers, seed, writers, pause, scheduled):
        self.directory = directory
        self.cluster = servers == "cluster"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        self.history = History(directory / "history.jsonl")
        where = ROOT / f"build/stack/chaos-{os.getpid()}-{servers}"
        subprocess.run([STACK_COMMAND, "start", "--dir", where, "--owner", str(os.getpid()),
                        *(["--cluster"] if self.cluster else [])], check=True)
        self.stack = Stack(where)
        self.urls = self.stack.env["AMQP_URLS"].split(",") if self.cluster else [self.stack.env["AMQP_URL"]]
        self.proxy = Proxy(seed)
        self.pair = Pair(self.stack.env["POSTGRES_BIN"], self.proxy) if self.cluster else None
        self.database = PairDatabase(self.stack, self.pair) if self.cluster else Database(self.stack)
        self.database.create()
        self.database.migrate()
        self.database.grant()
        self.furnish_database()
        # Of the consumers' own, and none that loses what it had not replicated.
        self.handlers = Database(self.stack)
        self.handlers.create()
        self.handlers.migrate("inbox")
        self.handlers.execute(consumer.TABLES)
        self.furnish_broker()
        self.links = {}
        for number in range(RELAYS):
            self.listen("pg", number, [s.port for s in self.pair.servers] if self.cluster else [self.stack.env["PGPORT"]])
            self.listen("mq", number, [url.rpartition(":")[2].partition("/")[0] for url in self.urls])
        self.consumers = {
            queue: consumer.Consumer(self.history, self.urls, queue, self.handlers.dsn("owner"), effects=queue != "audit",
                                     prefetch=FULL_PREFETCH if queue == "full" else PREFETCH)
            for queue in self.queues()}
        self.relays = Relays(self.history, directory, RELAYS, self.configure)
        destinations = [name for name, d in DESTINATIONS.items() if d["kind"] != "poison"]
        self.writers = [Writer(self, n, seed, pause, destinations, scheduled) for n in range(writers)]
        for name, destination in DESTINATIONS.items():
            self.history.add("destination", name=name, **destination)

    def listen(self, what, number, server_ports):
        """links: (pg or mq, number of the relay) -> names of the proxy's ports."""
        self.links[what, number] = [f"{what}{number}.{n}" for n in range(len(server_ports))]
        for name, port in zip(self.links[what, number], server_ports):
            self.proxy.listen(name, port)

    def configure(self, number, directory):
        """Writes the configuration of a relay; returns its path."""
        path = directory / "outbox-relay.yaml"
        config = json.loads(json.dumps(CONFIG))
        pg, mq = ([self.proxy.ports[name] for name in self.links[what, number]] for what in ("pg", "mq"))
        config["postgres"] = {"dsn": self.database.dsn("relay", tcp_ports=pg) if self.cluster
                              else self.database.dsn("relay", tcp=True, port=pg[0])}
        config["rabbitmq"]["urls"] = [f"amqp://relay:relay@127.0.0.1:{port}/%2f" for port in mq]
        path.write_text(json.dumps(config, indent=1) + "\n")
        return path

    @staticmethod
    def queues():
        return sorted({queue for destination in DESTINATIONS.values() for queue in destination["queues"]})

    # ---- the database ----

    def furnish_database(self):
        writer = self.database.roles["writer"]
        self.database.execute("CREATE TABLE chaos_transaction (number text PRIMARY KEY)")
        self.database.execute("CREATE TABLE account (key text PRIMARY KEY, sequence bigint NOT NULL) WITH (fillfactor = 50)")
        self.database.execute("INSERT INTO account SELECT 'key-' || n, 1 FROM generate_series(0, %s) n", [KEYS - 1])
        self.database.execute(f"GRANT SELECT, UPDATE ON account TO {writer}")
        self.database.execute(f"GRANT INSERT ON chaos_transaction TO {writer}")

    def connect(self, role="owner"):
        """A connection of a fault's own."""
        return psycopg2.connect(self.database.dsn(role), connect_timeout=5)

    def query(self, sql, parameters=None, database=None):
        with contextlib.closing(psycopg2.connect((database or self.database).dsn("owner"), connect_timeout=5)) as connection:
            with connection.cursor() as cursor:
                cursor.execute(sql, parameters)
                return cursor.fetchall()

    def under_way(self, scheduled):
        due = "true" if scheduled else "deliver_at IS NULL OR deliver_at < clock_timestamp() OR attempts > 0"
        return self.query(UNDER_WAY % due)[0][0]

    # ---- the broker ----

    @contextlib.contextmanager
    def channel(self, last=False, urls=None):
        """Of a connection of its own, to any node: the last one that is there, or the first."""
        parameters = [pika.URLParameters(url) for url in urls or (reversed(self.urls) if last else self.urls)]
        for one in parameters:
            one.socket_timeout = one.blocked_connection_timeout = 5
        connection = pika.BlockingConnection(parameters)
        try:
            yield connection.channel()
        finally:
            with contextlib.suppress(pika.exceptions.AMQPError):
                connection.close()

    def declare_exchange(self, channel, destination):
        """Its queues hang on a second exchange, so that one binding decides about all of them at once."""
        channel.exchange_declare(f"chaos.{destination}", exchange_type="topic", durable=True)
        self.bind(channel, destination)

    def bind(self, channel, destination):
        channel.exchange_bind(f"chaos.{destination}.all", f"chaos.{destination}", "#")

    def unbind(self, channel, destination):
        channel.exchange_unbind(f"chaos.{destination}.all", f"chaos.{destination}", "#")

    def declare_queue(self, channel, queue):
        channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum", **ARGUMENTS.get(queue, {})})
        for name, destination in DESTINATIONS.items():
            if queue in destination["queues"]:
                channel.queue_bind(queue, f"chaos.{name}.all")

    def declare_exchanges(self, channel):
        for name, destination in DESTINATIONS.items():
            if destination["queues"]:
                channel.exchange_declare(f"chaos.{name}.all", exchange_type="fanout", durable=True)
                self.declare_exchange(channel, name)

    def declare_again(self):
        """As applications do when they start.  What one node of RabbitMQ 3.10 was told while another was cut off or frozen,
        that one may never learn: so each of them is told."""
        for url in self.urls:
            with self.channel(urls=[url]) as channel:
                self.declare_exchanges(channel)

    def furnish_broker(self):
        with self.channel() as channel:
            self.declare_exchanges(channel)
            for queue in self.queues():
                if queue != "alone":
                    self.declare_queue(channel, queue)
        with self.channel(last=True) as channel:
            self.declare_queue(channel, "alone")
        self.rabbitmqctl("eval", ADD_USER % EVERYTHING)

    def permit(self, exchanges):
        """What the relays may write to, as a regular expression."""
        self.rabbitmqctl("eval", PERMIT % exchanges)

    def rabbitmqctl(self, *arguments):
        """Quiet when it fails: a node that is going is tried again by whoever called."""
        subprocess.run([self.stack.env["RABBITMQCTL"], "-q", *arguments], check=True, stdin=subprocess.DEVNULL,
                       capture_output=True, timeout=60)

    def messages_in_queues(self):
        with self.channel() as channel:
            return {queue: channel.queue_declare(queue, passive=True).method.message_count for queue in self.queues()}

    def channels_closed(self):
        """Each basic.publish that closed a channel, by the broker's own log: a death of that channel."""
        logs = pathlib.Path(self.stack.env["STACK_LOGS"]).glob("rabbit*@localhost.log")
        return [seconds(t) for log in logs for t in CHANNEL_CLOSED.findall(log.read_text(errors="replace"))]

    # ---- a round ----

    def pause_writers(self):
        for writer in self.writers:
            writer.say("pause")
        for writer in self.writers:
            writer.wait_paused()

    def resume_writers(self):
        for writer in self.writers:
            writer.say("go")

    def drained(self, timeout_s, scheduled=False):
        """Waits until nothing is under way, in the database or a queue; false when the time is over."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            with contextlib.suppress(psycopg2.Error, pika.exceptions.AMQPError, OSError):
                if (self.under_way(scheduled) == 0 and not any(self.messages_in_queues().values())
                        and all(c.quiet_s() > QUIET_S for c in self.consumers.values())):
                    return True
            if self.relays.failure is not None:
                raise self.relays.failure
            time.sleep(POLL_S)
        return False

    def stuck(self):
        """What is under way though it should not be, for people."""
        queues = f"rabbit: {self.messages_in_queues()}"
        quiet = f"quiet for: { {queue: round(c.quiet_s(), 1) for queue, c in self.consumers.items()} }"
        delayed = self.query("SELECT waits_for, exchange, count(*), min(id), min(next_attempt_at)::text, max(attempts), max(last_error)"
                             " FROM outbox.delayed GROUP BY 1, 2 ORDER BY 1, 2")
        return "\n".join([queues, quiet, f"backlog: {self.query('SELECT * FROM outbox.backlog()')}",
                          *(f"delayed: {row}" for row in delayed)])

    # ---- the end ----

    def conclude(self):
        """What is true in the end, for the checker."""
        add = self.history.add
        add("kept", transactions=[number for (number,) in self.query("SELECT number FROM chaos_transaction")])
        add("dead", messages=dict(self.query("SELECT message_id::text, reason FROM outbox.dead")))
        add("sent", messages=[m for (m,) in self.query(
            "SELECT message_id::text FROM outbox.message_status WHERE state = 'sent' AND exchange = 'chaos.lossy'")])
        for queue in self.queues():
            if queue != "audit":
                counts = dict(self.query("SELECT message_id, count(*) FROM effect WHERE consumer = %s GROUP BY 1", [queue],
                                         self.handlers))
                add("effects", queue=queue, counts=counts)

    def end(self):
        """Everything ends; returns the exit codes of the relays."""
        for writer in self.writers:
            writer.end()
        codes = self.relays.end()
        for one in self.consumers.values():
            one.end()
        self.proxy.end()
        return codes

    def remove(self):
        if self.pair is not None:
            self.pair.remove()
        subprocess.run([STACK_COMMAND, "stop", "--dir", self.stack.directory], check=True)
        shutil.copytree(self.stack.env["STACK_LOGS"], self.directory / "servers", dirs_exist_ok=True)
        shutil.rmtree(self.stack.directory)
