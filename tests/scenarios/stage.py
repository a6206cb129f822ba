"""What a scenario plays on: a database, queues, the relay, and a process for each service, to be killed at will.

A scenario is a program.  Its name alone plays it; with the name of a service it is that service:

    tests/scenarios/run checkout

The services of a scenario share one database and one relay; each could have its own.  Database, roles, exchanges and
queues are made anew each time.  PGHOST, PGPORT and AMQP_URL say where the servers are, RELAY which binary to play with.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import pika
import psycopg2
from psycopg2.extensions import make_dsn

ROOT = pathlib.Path(__file__).resolve().parents[2]
RELAY = (ROOT / os.environ.get("RELAY", "build/outbox-relay")).resolve()
TIMEOUT_S = 60
DEAD_LETTERS = "dead-letters"


def stack(verb, server):
    subprocess.run([ROOT / "tests/support/stack", verb, server, "--dir", os.environ["OUTBOX_STACK"]], check=True,
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def until(condition, what):
    """Wait for it; a scenario that comes to a halt fails."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {TIMEOUT_S} s in vain for {what}")
        time.sleep(0.02)


class Process:
    """One that ends with us, whatever happens to us."""

    def __init__(self, *command, env):
        self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], env=env, stdin=subprocess.DEVNULL)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        code = self.process.wait(TIMEOUT_S)
        # One that had not yet begun to listen for the signal ends by it.
        if code not in (0, -signal.SIGTERM):
            raise SystemExit(f"{self.process.args[3:]} ended with {code}")


class Stage:
    """tables: the services' own, as SQL; exchanges: kind by name; queues and streams: by name a list of (exchange, key)."""

    def __init__(self, script, services, tables, exchanges, queues, streams, settings):
        self.script = script
        self.services = services
        self.name = "scenario_" + pathlib.Path(script).stem
        self.tables = tables
        self.exchanges = exchanges
        self.queues = queues
        self.streams = streams
        self.settings = settings
        self.running = {}
        self.failed = False
        base = {k: v for k, v in os.environ.items() if not k.startswith("OUTBOX_RELAY_")}
        self.env = {**base, "PGDATABASE": self.name, "PGUSER": f"{self.name}_service"}
        self.directory = tempfile.TemporaryDirectory(prefix="outbox-scenario-")
        self.config = pathlib.Path(self.directory.name, "outbox-relay.yaml")

    # ---- making and clearing

    def __enter__(self):
        self.connect_broker()
        self.clear()
        server = self.server()
        for role in ("owner", "service", "relay"):
            server.execute(f"CREATE ROLE {self.name}_{role} LOGIN")
        server.execute(f"CREATE DATABASE {self.name} OWNER {self.name}_owner")
        self.config.touch(mode=0o600)    # the url holds a password
        self.config.write_text("postgres: {dsn: %s}\nrabbitmq: {urls: [%s]}\nlog: {level: error}\nhttp: {listen: null}\n%s"
                               % (json.dumps(self.dsn("relay")), json.dumps(os.environ["AMQP_URL"]), self.settings))
        for line in ("outbox", "inbox"):
            self.relay("migrate", "up", "--line", line)
        self.connect_database()
        service = f"{self.name}_service"
        self.query("SELECT outbox.grant_writer(%s), inbox.grant_consumer(%s), outbox.grant_relay(%s)",
                   [service, service, f"{self.name}_relay"])
        with self.database.cursor() as cursor:
            cursor.execute(self.tables)
            cursor.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {service}")
            cursor.execute(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {service}")
        self.make_queues()
        return self

    def connect_broker(self):
        self.channel = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"])).channel()

    def connect_database(self):
        self.database = psycopg2.connect(self.dsn("owner"))
        self.database.autocommit = True

    def make_queues(self):
        """Quorum queues and one for what they reject, and streams."""
        for exchange, kind in self.exchanges.items():
            self.channel.exchange_declare(exchange, exchange_type=kind, durable=True)
        self.channel.queue_declare(DEAD_LETTERS, durable=True)
        for queue, bindings in self.queues.items():
            self.channel.queue_declare(queue, durable=True, arguments={
                "x-queue-type": "quorum", "x-dead-letter-exchange": "", "x-dead-letter-routing-key": DEAD_LETTERS})
        for stream in self.streams:
            self.channel.queue_declare(stream, durable=True, arguments={"x-queue-type": "stream"})
        for queue, bindings in {**self.queues, **self.streams}.items():
            for exchange, key in bindings:
                self.channel.queue_bind(queue, exchange, key)

    def clear(self):
        for queue in (*self.queues, *self.streams, DEAD_LETTERS):
            self.channel.queue_delete(queue)
        for exchange in self.exchanges:
            self.channel.exchange_delete(exchange)
        server = self.server()
        server.execute(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")
        for role in ("owner", "service", "relay"):
            server.execute(f"DROP ROLE IF EXISTS {self.name}_{role}")

    def __exit__(self, *_):
        for process in self.running.values():
            process.kill()
        self.database.close()
        self.clear()
        self.channel.connection.close()
        self.directory.cleanup()

    def dsn(self, role):
        return make_dsn(dbname=self.name, user=f"{self.name}_{role}")

    def server(self):
        connection = psycopg2.connect(make_dsn(dbname="postgres", user="postgres"))
        connection.autocommit = True
        return connection.cursor()

    # ---- what is going on

    def relay(self, *arguments):
        """A command of outbox-relay, with the rights of the database's owner."""
        subprocess.run([RELAY, *arguments, "--config", self.config], check=True, stdout=subprocess.DEVNULL,
                       env={**self.env, "OUTBOX_RELAY_POSTGRES_DSN": self.dsn("owner")}, timeout=TIMEOUT_S)

    def start(self, *names):
        """Services, or "relay"."""
        for name in names:
            command = [str(RELAY), "run", "--config", str(self.config)] if name == "relay" else \
                [sys.executable, self.script, name]
            self.running[name] = Process(*command, env=self.env)

    def start_all(self):
        self.start("relay", *self.services)

    def kill(self, *names):
        """kill -9."""
        for name in names:
            self.running.pop(name).kill()

    def kill_server(self, server):
        """kill -9 of "postgres" or "rabbitmq", all of its processes at once; it is away until start_server()."""
        stack("kill", server)

    def start_server(self, server):
        """With the data that it had.  Connections that service() has made are gone."""
        stack("start", server)
        if server == "postgres":
            self.connect_database()
        else:
            self.connect_broker()

    def end_sessions(self):
        """Those of relay and services, as an administrator or a restart of the server does; not those of service()."""
        self.server().execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename IN (%s, %s)"
                              " AND application_name <> %s",
                              [f"{self.name}_service", f"{self.name}_relay", self.name])

    def service(self):
        """A connection with the rights of a service, for "with": a transaction."""
        return psycopg2.connect(self.dsn("service"), application_name=self.name)

    def query(self, sql, parameters=None):
        with self.database.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall()

    def value(self, sql, parameters=None):
        return self.query(sql, parameters)[0][0]

    def waiting(self, queue):
        return self.channel.queue_declare(queue, passive=True).method.message_count

    def quiet(self):
        """Nothing is pending, and no queue has a message that no service holds; a stream keeps all of its own."""
        return self.value("SELECT pending + delayed FROM outbox.backlog()") == 0 \
            and all(self.waiting(queue) == 0 for queue in self.queues)

    def settle(self):
        """Until all messages are handled, those that follow from them too; relay and services run before and after."""
        while True:
            until(self.quiet, "quiet")
            for name in self.services:
                self.running[name].stop()
            # What they held and had not handled is in the queue again; what they wrote meanwhile is pending.
            done = self.quiet()
            self.start(*self.services)
            if done:
                return

    def send_again(self):
        """Every message once more, under its id, as a relay does that died before its mark."""
        for exchange, key, body, *properties in self.query(
                "SELECT exchange, routing_key, coalesce(payload, convert_to(coalesce(payload_text, payload_json::text),"
                " 'UTF8')), message_id::text, type, correlation_id, reply_to FROM outbox.message ORDER BY id"):
            names = ("message_id", "type", "correlation_id", "reply_to")
            self.channel.basic_publish(exchange, key, bytes(body), pika.BasicProperties(**dict(zip(names, properties))))

    # ---- what came of it

    def check(self, what, found, expected):
        well = found == expected
        print(f"{'ok    ' if well else 'FAILED'}  {what}: {found}" + ("" if well else f", not {expected}"), flush=True)
        self.failed = self.failed or not well


def main(play, services, tables, exchanges, queues, streams=None, settings=""):
    """Play the scenario, or be one of its services; settings are more lines of the relay's configuration."""
    script = sys.modules["__main__"].__file__
    services = {service.name: service for service in services}
    if len(sys.argv) > 1:
        services[sys.argv[1]].run()
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Stage(script, services, tables, exchanges, queues, streams or {}, settings) as stage:
        play(stage)
    return 1 if stage.failed else 0
