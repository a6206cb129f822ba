#!/usr/bin/python3
"""A read model that is thrown away and rebuilt from nothing, once by replay and once from a stream.

"sales" reads a queue: its table is emptied, its claims are forgotten, and "outbox-relay replay --to-queue" sends all
orders to its queue alone, while new ones come in.  "archive" reads a stream from its first message on, each time that it
starts, and skips what it has claimed: it needs no replay, only its claims forgotten.  Relay, readers and the broker are killed
in the middle, readers and Postgres while they rebuild.
"""

import sys

from service import Service, publish
from stage import main, until

CUSTOMERS = 7
ORDERS = 100
LATE = 20
TABLES = """
    CREATE TABLE orders (number integer PRIMARY KEY, customer integer NOT NULL, cents integer NOT NULL);
    CREATE TABLE sales (customer integer PRIMARY KEY, orders integer NOT NULL, cents bigint NOT NULL);
    CREATE TABLE archive (LIKE sales INCLUDING ALL);
    CREATE TABLE mail (number integer NOT NULL);
"""
QUEUES = {"sales": [("ms.order", "")], "mail": [("ms.order", "")]}
STREAMS = {"archive": [("ms.order", "")]}


def counts(table):
    def handler(cursor, message):
        cursor.execute(f"INSERT INTO {table} AS t VALUES (%(customer)s, 1, %(cents)s) ON CONFLICT (customer) DO UPDATE"
                       " SET orders = t.orders + 1, cents = t.cents + excluded.cents", message.payload())
    return handler


def mail(cursor, message):
    cursor.execute("INSERT INTO mail VALUES (%(number)s)", message.payload())


SERVICES = [Service("sales", counts("sales")), Service("mail", mail),
            Service("archive", counts("archive"), arguments={"x-stream-offset": "first"})]


def order(connection, number):
    what = {"number": number, "customer": number % CUSTOMERS, "cents": 100 + number}
    with connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO orders VALUES (%(number)s, %(customer)s, %(cents)s)", what)
        publish(cursor, "ms.order", "", what, type="order.created")


def play(stage):
    def counted(table):
        return stage.value(f"SELECT coalesce(sum(orders), 0) FROM {table}")

    def model(table):
        return stage.query(f"SELECT customer, orders, cents FROM {table} ORDER BY customer")

    def truth():
        return stage.query("SELECT customer, count(*), sum(cents) FROM orders GROUP BY customer ORDER BY customer")

    def drop(table):
        stage.query(f"TRUNCATE {table}; SELECT inbox.forget('{table}', '-infinity')")

    stage.start_all()
    connection = stage.service()
    for number in range(ORDERS):
        order(connection, number)
        if number == ORDERS // 2:
            until(lambda: counted("sales") > 0 and counted("archive") > 0, "the first sales")
            stage.kill("relay", "sales", "archive")
    stage.start("relay", "sales", "archive")
    stage.settle()
    until(lambda: counted("archive") >= ORDERS, "the archive")
    stage.check("as first built, sales and archive", [model("sales") == truth(), model("archive") == truth()], [True, True])

    stage.kill("sales", "mail")
    drop("sales")
    for number in range(ORDERS, ORDERS + LATE):
        order(connection, number)
    stage.relay("replay", "--all", "--to-queue", "sales", "--yes")
    until(lambda: stage.value("SELECT pending FROM outbox.backlog()") == 0, "the end of the replay")
    stage.check("messages for mail during the replay: the new ones alone", stage.waiting("mail"), LATE)
    stage.start("sales", "mail")
    until(lambda: counted("sales") > 10, "some of the new sales")
    stage.kill_server("postgres")
    stage.start_server("postgres")
    stage.kill("sales")
    stage.start("sales")
    stage.settle()
    stage.check("sales, rebuilt by replay", model("sales") == truth(), True)

    stage.kill("archive")
    drop("archive")
    stage.start("archive")
    until(lambda: counted("archive") > 10, "some of the new archive")
    stage.kill("archive")
    stage.start("archive")
    until(lambda: counted("archive") >= ORDERS + LATE, "the archive")
    stage.send_again()
    stage.settle()
    stage.check("archive, rebuilt from the stream", model("archive") == truth(), True)
    stage.check("sales after each message came again", model("sales") == truth(), True)
    stage.check("orders that were mailed, each once", stage.query("SELECT count(*), count(DISTINCT number) FROM mail"),
                [(ORDERS + LATE, ORDERS + LATE)])


if __name__ == "__main__":
    sys.exit(main(play, SERVICES, TABLES, {"ms.order": "fanout"}, QUEUES, STREAMS))
