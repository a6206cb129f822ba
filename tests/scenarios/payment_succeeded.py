#!/usr/bin/python3
"""One event, three services: a payment succeeds, and order, messenger and customer each react to it once.

The event goes to the topic exchange "ms.payment"; each service has a queue of its own, and its own claims in the inbox,
although all three see the same message ids.
"""

import sys

from service import Service, publish
from stage import main

PAYMENTS = 50
TABLES = """
    CREATE TABLE payment (id integer PRIMARY KEY, amount integer NOT NULL);
    CREATE TABLE reaction (service text NOT NULL, payment integer NOT NULL);
"""
QUEUES = {name: [("ms.payment", "payment.succeeded")] for name in ("order", "messenger", "customer")}


def reacts(name):
    def handler(cursor, message):
        cursor.execute("INSERT INTO reaction VALUES (%s, %s)", [name, message.payload()["payment"]])
    return handler


SERVICES = [Service(name, reacts(name)) for name in QUEUES]


def pay(connection, number):
    with connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO payment VALUES (%s, %s)", [number, 100 + number])
        publish(cursor, "ms.payment", "payment.succeeded", {"payment": number}, type="payment.succeeded")


def play(stage):
    stage.start_all()
    connection = stage.service()
    for number in range(PAYMENTS):
        pay(connection, number)
    stage.settle()
    stage.send_again()
    stage.settle()
    stage.check("services that reacted once to every payment", stage.query(
        "SELECT service, count(*), count(DISTINCT payment) FROM reaction GROUP BY service ORDER BY service"),
        [(name, PAYMENTS, PAYMENTS) for name in sorted(QUEUES)])


if __name__ == "__main__":
    sys.exit(main(play, SERVICES, TABLES, {"ms.payment": "topic"}, QUEUES))
