#!/usr/bin/python3
"""Two versions of an event side by side: order.created, and order.created.v2 with the amount in cents and a currency.

Of two shops one is still old and writes the first version alone.  The new one writes both in one transaction, so that
the old report, which knows nothing of version 2, misses nothing.  The new report is a tolerant reader: it takes both,
reads the fields that it needs and ignores others, and counts each order once: besides the message it claims the order.
"""

import sys
from decimal import Decimal

from service import Service, publish
from stage import main

ORDERS = 60
TABLES = """
    CREATE TABLE orders (id integer PRIMARY KEY, cents integer NOT NULL, new boolean NOT NULL);
    CREATE TABLE old_report (order_id integer NOT NULL, amount numeric NOT NULL);
    CREATE TABLE new_report (order_id integer NOT NULL, cents integer NOT NULL, currency text);
"""
EXCHANGES = {"ms.order": "topic"}
QUEUES = {"old_report": [("ms.order", "order.created")],
          "new_report": [("ms.order", "order.created"), ("ms.order", "order.created.v2")]}


def old_report(cursor, message):
    event = message.payload()
    cursor.execute("INSERT INTO old_report VALUES (%s, %s)", [event["order"], event["amount"]])


def new_report(cursor, message):
    event = message.payload()
    # The order's own id is one that both versions share.
    cursor.execute("SELECT inbox.claim('new_report orders', %s)", [str(event["order"])])
    if not cursor.fetchone()[0]:
        return
    cents = event["cents"] if message.type == "order.created.v2" else int(Decimal(event["amount"]) * 100)
    cursor.execute("INSERT INTO new_report VALUES (%s, %s, %s)", [event["order"], cents, event.get("currency")])


SERVICES = [Service("old_report", old_report), Service("new_report", new_report)]


def order(connection, number, new):
    cents = 1000 + 7 * number
    with connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO orders VALUES (%s, %s, %s)", [number, cents, new])
        # Under one key, so that version 2 comes first.
        more = {"ordering_key": str(number)}
        if new:
            publish(cursor, "ms.order", "order.created.v2", {"order": number, "cents": cents, "currency": "EUR",
                                                             "gift": {"wrapped": True}}, type="order.created.v2", **more)
        publish(cursor, "ms.order", "order.created", {"order": number, "amount": str(Decimal(cents) / 100)},
                type="order.created", **more)


def play(stage):
    stage.start_all()
    connection = stage.service()
    for number in range(ORDERS):
        order(connection, number, new=number % 3 == 0)
    stage.settle()
    stage.send_again()
    stage.settle()
    total = stage.value("SELECT sum(cents) FROM orders")
    stage.check("orders and cents in the old report", stage.query(
        "SELECT count(*), (sum(amount) * 100)::bigint FROM old_report"), [(ORDERS, total)])
    stage.check("orders and cents in the new report", stage.query(
        "SELECT count(*), sum(cents) FROM new_report"), [(ORDERS, total)])
    stage.check("orders whose version 2 was read", stage.value(
        "SELECT count(*) FROM new_report JOIN orders ON id = order_id AND new AND currency = 'EUR'"), ORDERS // 3)
    stage.check("messages given up", stage.value("SELECT count(*) FROM inbox.attempt"), 0)


if __name__ == "__main__":
    sys.exit(main(play, SERVICES, TABLES, EXCHANGES, QUEUES))
