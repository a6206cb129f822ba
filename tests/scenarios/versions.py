#!/usr/bin/python3
"""Two versions of an event side by side: order.created, and order.created.v2 with the amount in cents and a currency.

Of two shops one is still old and writes the first version alone.  The new one writes both in one transaction, so that
the old report, which knows nothing of version 2, misses nothing.  The new report is a tolerant reader: it takes both,
reads the fields that it needs and ignores others, and counts each order once: besides the message it claims the order.

The relay sends all of them as CloudEvents (publish.cloudevents: binary).  The audit trail knows none of the events and
reads their attributes alone: it dispatches by cloudEvents_type and notes who said what when.  The new shop names
itself as source and the order as subject; the old one knows nothing of CloudEvents, and its events are some all the same.
"""

import json
import sys
from decimal import Decimal

from service import Service, publish
from stage import main

ORDERS = 60
TABLES = """
    CREATE TABLE orders (id integer PRIMARY KEY, cents integer NOT NULL, new boolean NOT NULL);
    CREATE TABLE old_report (order_id integer NOT NULL, amount numeric NOT NULL);
    CREATE TABLE new_report (order_id integer NOT NULL, cents integer NOT NULL, currency text);
    CREATE TABLE audit (id uuid NOT NULL, source text NOT NULL, type text NOT NULL, subject text, partitionkey text NOT NULL,
        time timestamptz NOT NULL, specversion text NOT NULL, datacontenttype text NOT NULL);
"""
SETTINGS = "publish: {cloudevents: binary, cloudevents_source: /shop}\n"
EXCHANGES = {"ms.order": "topic"}
QUEUES = {"old_report": [("ms.order", "order.created")],
          "new_report": [("ms.order", "order.created"), ("ms.order", "order.created.v2")],
          "audit": [("ms.order", "#")]}


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


def audit(cursor, message):
    cursor.execute("INSERT INTO audit VALUES (%(id)s, %(source)s, %(type)s, %(subject)s, %(partitionkey)s, %(time)s,"
                   " %(specversion)s, %(datacontenttype)s)", {"subject": None, **message.attributes()})


SERVICES = [Service("old_report", old_report), Service("new_report", new_report), Service("audit", audit)]


def order(connection, number, new):
    cents = 1000 + 7 * number
    with connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO orders VALUES (%s, %s, %s)", [number, cents, new])
        # Under one key, so that version 2 comes first.
        more = {"ordering_key": str(number)}
        if new:
            more["headers"] = json.dumps({"cloudEvents_source": "/shop/new", "cloudEvents_subject": f"order/{number}"})
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
    stage.check("events in the audit trail, by source, type and subject", stage.query(
        "SELECT source, type, subject IS NOT NULL, count(*), count(DISTINCT id) FROM audit GROUP BY 1, 2, 3 ORDER BY 1, 2"),
        [("/shop", "order.created", False, *[ORDERS - ORDERS // 3] * 2), ("/shop/new", "order.created", True, *[ORDERS // 3] * 2),
         ("/shop/new", "order.created.v2", True, *[ORDERS // 3] * 2)])
    stage.check("events whose attributes are not what the outbox says", stage.value(
        "SELECT count(*) FROM audit AS a FULL JOIN outbox.message AS m ON m.message_id = a.id AND m.type = a.type"
        " AND m.ordering_key = a.partitionkey AND date_trunc('second', m.created_at) = a.time"
        " AND a.specversion = '1.0' AND m.content_type = a.datacontenttype WHERE a.id IS NULL OR m.message_id IS NULL"), 0)
    stage.check("messages given up", stage.value("SELECT count(*) FROM inbox.attempt"), 0)


if __name__ == "__main__":
    sys.exit(main(play, SERVICES, TABLES, EXCHANGES, QUEUES, settings=SETTINGS))
