#!/usr/bin/python3
"""The demo: a shop whose relay is killed half-way, and a consumer that counts.

Four services write orders into Postgres.  Each order and its event commit together, or neither does; about one in ten
is rolled back.  A relay publishes the events to RabbitMQ.  Half-way it is killed with SIGKILL, and the services go on
without it; then it is started again.  At the end the message ids that the consumer has seen are compared with the
orders in the database.

  service.py    how an order and its event are written
  consumer.py   how they are read
  shop.py       sets all up, kills, and counts

PGHOST, PGPORT and AMQP_URL say where the servers are; "tests/support/stack run" sets them.  Database, roles and queue
named "shop" are made anew each time.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import pika
import psycopg2
from psycopg2.extensions import make_dsn

from consumer import THE_END, Consumer
from service import Service

ROOT = pathlib.Path(__file__).resolve().parents[2]
RELAY = (ROOT / os.environ.get("RELAY", "build/outbox-relay")).resolve()
SERVICES = 4
CUSTOMERS = 200
DRAIN_TIMEOUT_S = 30
QUEUE = "shop-orders"
SHOP_TABLES = """
    CREATE TABLE customer (id integer PRIMARY KEY, orders integer NOT NULL DEFAULT 0);
    CREATE TABLE orders (message_id uuid PRIMARY KEY, customer integer NOT NULL REFERENCES customer,
        number integer NOT NULL, item text NOT NULL, price integer NOT NULL);
    GRANT SELECT, UPDATE ON customer TO shop_service;
    GRANT INSERT ON orders TO shop_service;
"""


def dsn(user, database="shop"):
    return make_dsn(host=os.environ["PGHOST"], port=os.environ["PGPORT"], dbname=database, user=user)


# ---- set-up -------------------------------------------------------------------------------------------


def make_database():
    """A database of its own and three roles, none of them a superuser."""
    server = psycopg2.connect(dsn("postgres", "postgres"))
    server.autocommit = True
    with server.cursor() as cursor:
        cursor.execute("DROP DATABASE IF EXISTS shop WITH (FORCE)")
        for role in ("shop_owner", "shop_service", "shop_relay"):
            cursor.execute(f"DROP ROLE IF EXISTS {role}")
            cursor.execute(f"CREATE ROLE {role} LOGIN")
        cursor.execute("CREATE DATABASE shop OWNER shop_owner")
    server.close()


def make_tables(relay):
    """The outbox by its migrations, the shop's own tables, and the rights of each role."""
    relay.command("migrate", "up", user="shop_owner")
    with psycopg2.connect(dsn("shop_owner")) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT outbox.grant_writer('shop_service'), outbox.grant_relay('shop_relay')")
        cursor.execute(SHOP_TABLES)
        cursor.execute("INSERT INTO customer (id) SELECT generate_series(1, %s)", [CUSTOMERS])


def make_queue(url):
    """A durable exchange, and a quorum queue that takes every order."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.queue_delete(QUEUE)
    channel.exchange_declare("shop", exchange_type="topic", durable=True)
    channel.queue_declare(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
    channel.queue_bind(QUEUE, "shop", "order.*")
    connection.close()


class Relay:
    """outbox-relay with a configuration of its own."""

    def __init__(self, directory, url):
        self.config = directory / "outbox-relay.yaml"
        self.config.touch(mode=0o600)      # the url holds a password
        self.config.write_text("postgres: {dsn: %s}\nrabbitmq: {urls: [%s]}\n"
                               % (json.dumps(dsn("shop_relay")), json.dumps(url)))
        self.log = directory / "relay.log"
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("OUTBOX_RELAY_")}
        self.process = None

    def command(self, *arguments, user="shop_relay"):
        subprocess.run([RELAY, *arguments, "--config", self.config], check=True, stdout=subprocess.DEVNULL,
                       env={**self.env, "OUTBOX_RELAY_POSTGRES_DSN": dsn(user)})

    def start(self):
        with open(self.log, "ab") as log:
            # It ends with this process, whatever happens to it, and does not hear the terminal's Ctrl-C.
            self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", RELAY, "run", "--config", self.config],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env,
                                            start_new_session=True)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        return self.process.wait(10)

    def running(self):
        return self.process is not None and self.process.poll() is None


# ---- what is seen -------------------------------------------------------------------------------------


class Line:
    """One line that is rewritten on a terminal, or else a line each second."""

    def __init__(self):
        self.terminal = sys.stdout.isatty()
        self.due = 0

    def show(self, text, now=False):
        if not now and time.monotonic() < self.due:
            return
        self.due = time.monotonic() + (0.1 if self.terminal else 1)
        if self.terminal:
            text = "\r\033[K" + text[:shutil.get_terminal_size().columns - 1]
        print(text, end="" if self.terminal else "\n", flush=True)

    def end(self):
        if self.terminal:
            print(flush=True)


class Shop:
    """All parts and their counters."""

    def __init__(self, relay, url, seconds, lose_one):
        self.relay = relay
        self.url = url
        self.seconds = seconds
        self.stop = threading.Event()
        self.services = [Service(dsn("shop_service"), CUSTOMERS, self.stop) for _ in range(SERVICES)]
        self.consumer = Consumer(url, QUEUE, lose_one)
        self.line = Line()
        self.began = time.monotonic()

    def show(self, what, now=False):
        committed = sum(s.committed for s in self.services)
        rolled_back = sum(s.rolled_back for s in self.services)
        delivered = len(self.consumer.seen)
        self.line.show(f"{time.monotonic() - self.began:5.1f} s  {what:<16}  committed {committed:6,}  delivered "
                       f"{delivered:6,}  waiting {max(0, committed - delivered):6,}  rolled back {rolled_back:5,}", now)

    def check(self):
        """A part that failed is an error of the demo's surroundings, not a finding."""
        for part in (*self.services, self.consumer):
            if part.failure is not None:
                raise SystemExit(f"demo: {type(part).__name__.lower()}: {part.failure}")

    def watch(self, share, what):
        """Until this share of the time is over."""
        end = self.began + share * self.seconds
        while time.monotonic() < end:
            self.check()
            self.show(what)
            time.sleep(0.02)
        self.show(what, now=True)

    def run(self):
        """Everything up to the last order's arrival."""
        self.relay.start()
        self.consumer.start()
        for service in self.services:
            service.start()
        self.watch(0.5, "relay runs")
        self.relay.kill()
        self.watch(0.65, "relay was killed")
        self.relay.start()
        self.watch(1, "relay runs again")
        self.stop.set()
        for service in self.services:
            service.join()
        self.wait_until_sent()
        if self.relay.stop() != 0:
            raise SystemExit("demo: the relay did not end well:\n" + self.relay.log.read_text()[-2000:])
        self.wait_for_consumer()
        self.line.end()

    def wait_until_sent(self):
        deadline = time.monotonic() + DRAIN_TIMEOUT_S
        connection = psycopg2.connect(dsn("shop_owner"))
        connection.autocommit = True
        with connection.cursor() as cursor:
            pending = 1
            while pending > 0 and time.monotonic() < deadline:
                if not self.relay.running():
                    raise SystemExit("demo: the relay ended:\n" + self.relay.log.read_text()[-2000:])
                self.show("relay sends rest")
                cursor.execute("SELECT pending FROM outbox.backlog()")
                pending = cursor.fetchone()[0]
                time.sleep(0.02)
        connection.close()

    def wait_for_consumer(self):
        """The relay has ended, so what follows it in the queue is the last message."""
        connection = pika.BlockingConnection(pika.URLParameters(self.url))
        connection.channel().basic_publish("", QUEUE, b"", pika.BasicProperties(message_id=THE_END))
        connection.close()
        deadline = time.monotonic() + DRAIN_TIMEOUT_S
        while self.consumer.is_alive() and time.monotonic() < deadline:
            self.show("last ones arrive")
            self.consumer.join(0.05)
        self.check()
        self.show("done", now=True)

    def end(self):
        """Nothing stays behind, whatever came between."""
        self.stop.set()
        if self.relay.running():
            self.relay.kill()


def summary(shop):
    """Compare what arrived with what the database holds; true when all promises were kept."""
    with psycopg2.connect(dsn("shop_owner")) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT message_id::text FROM orders")
        committed = {row[0] for row in cursor}
        cursor.execute("SELECT count(*) FROM outbox.message_status WHERE state = 'sent'")
        published = cursor.fetchone()[0]
    seen = shop.consumer.seen
    lost = committed - seen.keys()
    phantoms = seen.keys() - committed
    duplicates = shop.consumer.delivered() - len(seen)
    disorder = sum(numbers != sorted(numbers) for numbers in shop.consumer.first_numbers.values())
    for name, value, remark in (
            ("committed", len(committed), "orders in the database"),
            ("rolled back", sum(s.rolled_back for s in shop.services), "orders that never were"),
            ("published", published, "messages marked sent"),
            ("delivered", len(seen), "message ids that the consumer saw"),
            ("duplicates", duplicates, "further deliveries of them: the relay was killed before it had marked them"),
            ("lost", len(lost), "committed, but never delivered"),
            ("phantoms", len(phantoms), "delivered, but never committed"),
            ("out of order", disorder, f"customers of {CUSTOMERS} whose orders came in another order than written")):
        print(f"{name:<13} {value:8,}  {remark}")
    well = not lost and not phantoms and not disorder
    print("Nothing was lost and no phantom appeared." if well else "FAILED: a promise was broken.")
    return well


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15, help="how long orders are written (default %(default)s)")
    # Planted faults, so that a test sees that the demo would notice.
    parser.add_argument("--plant", choices=["loss", "phantom"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    url = os.environ["AMQP_URL"]
    shop = None
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="outbox-demo-") as directory:
        relay = Relay(pathlib.Path(directory), url)
        try:
            make_database()
            make_tables(relay)
            make_queue(url)
            shop = Shop(relay, url, given.seconds, given.plant == "loss")
            shop.run()
            if given.plant == "phantom":
                shop.consumer.seen["of an order that never was"] += 1
            return 0 if summary(shop) else 1
        except KeyboardInterrupt:
            print("\ndemo: interrupted", file=sys.stderr)
            return 130
        finally:
            if shop is not None:
                shop.end()


if __name__ == "__main__":
    sys.exit(main())
