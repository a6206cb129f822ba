#!/usr/bin/python3
"""The services behind the shop's orders: inventory takes a piece from the stock, and billing then charges the customer.

    order.placed --> inventory --inventory.reserved--> billing

Each is a process of its own (fulfilment.py NAME) and may be killed at any time: claim, effect and the next message are
one transaction.  Neither table has a constraint that would hide a second effect.
"""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "scenarios"))
from service import Service, publish    # noqa: E402

TABLES = """
    CREATE TABLE stock (item text PRIMARY KEY, pieces integer NOT NULL);
    CREATE TABLE reservation (customer integer NOT NULL, number integer NOT NULL);
    CREATE TABLE account (customer integer PRIMARY KEY, balance integer NOT NULL);
    CREATE TABLE charge (customer integer NOT NULL, number integer NOT NULL);
    GRANT SELECT, UPDATE ON stock, account TO shop_service;
    GRANT INSERT ON reservation, charge TO shop_service;
"""
QUEUES = {"inventory": "order.placed", "billing": "inventory.reserved"}


def reserve(cursor, message):
    event = message.payload()
    cursor.execute("UPDATE stock SET pieces = pieces - 1 WHERE item = %(item)s", event)
    cursor.execute("INSERT INTO reservation VALUES (%(customer)s, %(number)s)", event)
    publish(cursor, "shop", "inventory.reserved", event, ordering_key=f"customer-{event['customer']}")


def charge(cursor, message):
    event = message.payload()
    cursor.execute("UPDATE account SET balance = balance - %(price)s WHERE customer = %(customer)s", event)
    cursor.execute("INSERT INTO charge VALUES (%(customer)s, %(number)s)", event)


if __name__ == "__main__":
    {"inventory": Service("inventory", reserve), "billing": Service("billing", charge)}[sys.argv[1]].run()
