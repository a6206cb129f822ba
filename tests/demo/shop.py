#!/usr/bin/python3
"""The demo: a shop of three services, whose relay and inventory are killed half-way, and a consumer that counts.

Order: four threads write orders into Postgres.  Each order and its event commit together, or neither does; about one in
ten is rolled back.  A relay publishes the events to RabbitMQ.  Inventory takes a piece from the stock and writes its own
event in the same transaction, and billing charges the customer.  Half-way inventory and the relay are killed with
SIGKILL, while orders go on; then they are started again.  At the end the message ids that the consumer has seen are
compared with the orders in the database, and stock and money must add up.

  orders.py       how an order and its event are written
  fulfilment.py   inventory and billing: how each event takes effect once
  consumer.py     counts what arrives
  shop.py         sets all up, kills, and counts

PGHOST, PGPORT and AMQP_URL say where the servers are; "tests/support/stack run" sets them.  Database, roles and
queues are made anew each time.
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

import fulfilment
from consumer import THE_END, Consumer
from orders import ITEMS, Service

ROOT = pathlib.Path(__file__).resolve().parents[2]
RELAY = (ROOT / os.environ.get("RELAY", "build/outbox-relay")).resolve()
SERVICES = 4
CUSTOMERS = 200
STOCK = 100000
BALANCE = 1000000
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
    """Outbox and inbox by their migrations, the shop's own tables, and the rights of each role."""
    for line in ("outbox", "inbox"):
        relay.do("migrate", "up", "--line", line, user="shop_owner")
    with psycopg2.connect(dsn("shop_owner")) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT outbox.grant_writer('shop_service'), outbox.grant_relay('shop_relay'),"
                       " inbox.grant_consumer('shop_service')")
        cursor.execute(SHOP_TABLES + fulfilment.TABLES)
        cursor.execute("INSERT INTO customer (id) SELECT generate_series(1, %s)", [CUSTOMERS])
        cursor.execute("INSERT INTO stock SELECT unnest(%s), %s", [list(ITEMS), STOCK])
        cursor.execute("INSERT INTO account SELECT id, %s FROM customer", [BALANCE])


def make_queues(url):
    """A durable exchange, a quorum queue for each service, and one that takes every order to be counted."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.exchange_declare("shop", exchange_type="topic", durable=True)
    for queue, key in {QUEUE: "order.*", **fulfilment.QUEUES}.items():
        channel.queue_delete(queue)
        channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
        channel.queue_bind(queue, "shop", key)
    connection.close()


class Process:
    """It ends with this one, whatever happens to that, and does not hear the terminal's Ctrl-C."""

    def __init__(self, command, log, env):
        self.command = command
        self.log = log
        self.env = env
        self.process = None

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *self.command], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, env=self.env, start_new_session=True)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        return self.process.wait(10)

    def running(self):
        return self.process is not None and self.process.poll() is None

    def must_run(self):
        if not self.running():
            raise SystemExit(f"demo: {' '.join(map(str, self.command))} ended:\n" + self.log.read_text()[-2000:])

    def must_stop(self):
        if self.stop() != 0:
            raise SystemExit(f"demo: {' '.join(map(str, self.command))} did not end well:\n"
                             + self.log.read_text()[-2000:])


class Fulfilment(Process):
    """Inventory or billing."""

    def __init__(self, name, directory):
        # The folder is named only so that the demo's processes are known by it.
        super().__init__([sys.executable, fulfilment.__file__, name, directory], directory / f"{name}.log",
                         {**os.environ, "PGDATABASE": "shop", "PGUSER": "shop_service"})


class Relay(Process):
    """outbox-relay with a configuration of its own."""

    def __init__(self, directory, url):
        self.config = directory / "outbox-relay.yaml"
        self.config.touch(mode=0o600)      # the url holds a password
        self.config.write_text("postgres: {dsn: %s}\nrabbitmq: {urls: [%s]}\n"
                               % (json.dumps(dsn("shop_relay")), json.dumps(url)))
        super().__init__([RELAY, "run", "--config", self.config], directory / "relay.log",
                         {k: v for k, v in os.environ.items() if not k.startswith("OUTBOX_RELAY_")})

    def do(self, *arguments, user="shop_relay"):
        subprocess.run([RELAY, *arguments, "--config", self.config], check=True, stdout=subprocess.DEVNULL,
                       env={**self.env, "OUTBOX_RELAY_POSTGRES_DSN": dsn(user)})


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

    def __init__(self, relay, fulfilments, url, seconds, lose_one):
        self.relay = relay
        self.fulfilments = fulfilments
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
        self.line.show(f"{time.monotonic() - self.began:5.1f} s  {what:<20}  committed {committed:6,}  delivered "
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
        for part in (*self.fulfilments.values(), self.consumer, *self.services):
            part.start()
        self.watch(0.4, "all run")
        self.fulfilments["inventory"].kill()
        self.watch(0.5, "inventory was killed")
        self.relay.kill()
        self.watch(0.65, "relay was killed")
        self.fulfilments["inventory"].start()
        self.relay.start()
        self.watch(1, "relay runs again")
        self.stop.set()
        for service in self.services:
            service.join()
        self.wait_until_fulfilled()
        for process in (*self.fulfilments.values(), self.relay):
            process.must_stop()
        self.wait_for_consumer()
        self.line.end()

    def wait_until_fulfilled(self):
        """All orders are charged, and all messages sent; as long as that goes on."""
        connection = psycopg2.connect(dsn("shop_owner"))
        connection.autocommit = True
        progress, since = None, time.monotonic()
        with connection.cursor() as cursor:
            while True:
                for process in (*self.fulfilments.values(), self.relay):
                    process.must_run()
                self.show("services finish")
                cursor.execute("SELECT pending, (SELECT count(*) FROM charge), (SELECT count(*) FROM orders)"
                               " FROM outbox.backlog()")
                pending, charged, orders = state = cursor.fetchone()
                if pending == 0 and charged >= orders:
                    break
                if state != progress:
                    progress, since = state, time.monotonic()
                elif time.monotonic() - since > DRAIN_TIMEOUT_S:
                    break    # the summary says what is missing
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
        for process in (self.relay, *self.fulfilments.values()):
            if process.running():
                process.kill()


def summary(shop):
    """Compare what arrived with what the database holds; true when all promises were kept."""
    with psycopg2.connect(dsn("shop_owner")) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT message_id::text FROM orders")
        committed = {row[0] for row in cursor}
        cursor.execute("SELECT count(*) FROM outbox.message_status WHERE state = 'sent' AND routing_key = 'order.placed'")
        published = cursor.fetchone()[0]
        cursor.execute(f"""
            SELECT (SELECT count(*) FROM reservation), (SELECT count(*) FROM charge),
                (SELECT sum(abs({STOCK} - pieces - (SELECT count(*) FROM orders WHERE orders.item = stock.item)))
                    FROM stock),
                (SELECT sum(abs({BALANCE} - balance - (SELECT coalesce(sum(price), 0) FROM orders
                    WHERE orders.customer = account.customer))) FROM account)""")
        reserved, charged, stock, money = map(int, cursor.fetchone())
    seen = shop.consumer.seen
    lost = committed - seen.keys()
    phantoms = seen.keys() - committed
    duplicates = shop.consumer.delivered() - len(seen)
    disorder = sum(numbers != sorted(numbers) for numbers in shop.consumer.first_numbers.values())
    for name, value, remark in (
            ("committed", len(committed), "orders in the database"),
            ("rolled back", sum(s.rolled_back for s in shop.services), "orders that never were"),
            ("published", published, "of their messages marked sent"),
            ("delivered", len(seen), "message ids that the consumer saw"),
            ("duplicates", duplicates, "further deliveries of them: the relay was killed before it had marked them"),
            ("lost", len(lost), "committed, but never delivered"),
            ("phantoms", len(phantoms), "delivered, but never committed"),
            ("out of order", disorder, f"customers of {CUSTOMERS} whose orders came in another order than written"),
            ("reserved", reserved, "pieces that inventory, killed half-way, took from the stock"),
            ("charged", charged, "orders that billing charged"),
            ("stock amiss", stock, "pieces by which stock and orders differ"),
            ("money amiss", money, "by which customers' accounts and orders differ")):
        print(f"{name:<13} {value:8,}  {remark}")
    effects = reserved == charged == len(committed) and not stock and not money
    well = not lost and not phantoms and not disorder and effects
    print("Nothing was lost, no phantom appeared, and every order took effect once." if well else
          "FAILED: a promise was broken.")
    return well


def charge_twice():
    """What a service without an inbox does."""
    with psycopg2.connect(dsn("shop_owner")) as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO charge SELECT customer, number FROM orders ORDER BY customer, number LIMIT 1"
                       " RETURNING customer, number")
        cursor.execute("UPDATE account SET balance = balance - price FROM orders"
                       " WHERE orders.customer = account.customer AND (orders.customer, number) = (%s, %s)",
                       cursor.fetchone())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15, help="how long orders are written (default %(default)s)")
    # Planted faults, so that a test sees that the demo would notice.
    parser.add_argument("--plant", choices=["loss", "phantom", "twice"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    url = os.environ["AMQP_URL"]
    shop = None
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="outbox-demo-") as directory:
        relay = Relay(pathlib.Path(directory), url)
        try:
            make_database()
            make_tables(relay)
            make_queues(url)
            fulfilments = {name: Fulfilment(name, pathlib.Path(directory)) for name in fulfilment.QUEUES}
            shop = Shop(relay, fulfilments, url, given.seconds, given.plant == "loss")
            shop.run()
            if given.plant == "phantom":
                shop.consumer.seen["of an order that never was"] += 1
            elif given.plant == "twice":
                charge_twice()
            return 0 if summary(shop) else 1
        except KeyboardInterrupt:
            print("\ndemo: interrupted", file=sys.stderr)
            return 130
        finally:
            if shop is not None:
                shop.end()


if __name__ == "__main__":
    sys.exit(main())
