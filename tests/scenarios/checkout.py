#!/usr/bin/python3
"""A checkout: order.created, then inventory.reserved, then a notice by mail and in the app.

    order --topic "order.*.created"--> inventory --direct--> notification --fanout--> mail, app

Inventory claims the order, reserves stock and writes inventory.reserved in one transaction.  The order's correlation id
goes through the whole chain.  Relay, inventory, notification and the broker are killed with SIGKILL in the middle, and
orders go on; then, while all are at work, Postgres is.
"""

import sys
import uuid

from service import Service, publish
from stage import main, until

ORDERS = 120
ITEMS = ("kettle", "cup", "lamp")
STOCK = 1000
REGIONS = ("eu", "us")
TABLES = f"""
    CREATE TABLE orders (id integer PRIMARY KEY, item text NOT NULL, correlation text NOT NULL);
    CREATE TABLE stock (item text PRIMARY KEY, pieces integer NOT NULL);
    CREATE TABLE reservation (order_id integer NOT NULL, item text NOT NULL, correlation text NOT NULL);
    CREATE TABLE notification (order_id integer NOT NULL, correlation text NOT NULL);
    CREATE TABLE notice (channel text NOT NULL, order_id integer NOT NULL, correlation text NOT NULL);
    INSERT INTO stock SELECT unnest(ARRAY{list(ITEMS)}), {STOCK};
"""
EXCHANGES = {"ms.order": "topic", "ms.inventory": "direct", "ms.notice": "fanout"}
QUEUES = {"inventory": [("ms.order", "order.*.created")], "notification": [("ms.inventory", "inventory.reserved")],
          "mail": [("ms.notice", "")], "app": [("ms.notice", "")]}


def reserve(cursor, message):
    order = message.payload()
    cursor.execute("UPDATE stock SET pieces = pieces - 1 WHERE item = %s", [order["item"]])
    cursor.execute("INSERT INTO reservation VALUES (%s, %s, %s)",
                   [order["order"], order["item"], message.correlation_id])
    publish(cursor, "ms.inventory", "inventory.reserved", {"order": order["order"]}, type="inventory.reserved",
            correlation_id=message.correlation_id)


def notify(cursor, message):
    order = message.payload()["order"]
    cursor.execute("INSERT INTO notification VALUES (%s, %s)", [order, message.correlation_id])
    publish(cursor, "ms.notice", "", {"order": order}, type="notice", correlation_id=message.correlation_id)


def shows(channel):
    def handler(cursor, message):
        cursor.execute("INSERT INTO notice VALUES (%s, %s, %s)",
                       [channel, message.payload()["order"], message.correlation_id])
    return handler


SERVICES = [Service("inventory", reserve), Service("notification", notify), Service("mail", shows("mail")),
            Service("app", shows("app"))]


def order(connection, number):
    item, region, correlation = ITEMS[number % len(ITEMS)], REGIONS[number % len(REGIONS)], str(uuid.uuid4())
    with connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO orders VALUES (%s, %s, %s)", [number, item, correlation])
        publish(cursor, "ms.order", f"order.{region}.created", {"order": number, "item": item}, type="order.created",
                correlation_id=correlation)


def play(stage):
    def notified():
        return stage.value("SELECT count(*) FROM notification")

    stage.start_all()
    connection = stage.service()
    for number in range(ORDERS // 3):
        order(connection, number)
    until(lambda: notified() > 5, "the first notifications")
    stage.kill("relay", "inventory", "notification")
    stage.kill_server("rabbitmq")
    for number in range(ORDERS // 3, 2 * ORDERS // 3):
        order(connection, number)
    stage.start_server("rabbitmq")
    stage.start("relay", "inventory", "notification")
    until(lambda: notified() > ORDERS // 3, "notifications of the orders that were placed meanwhile")
    stage.kill_server("postgres")
    stage.start_server("postgres")
    connection = stage.service()
    for number in range(2 * ORDERS // 3, ORDERS):
        order(connection, number)
    stage.settle()
    stage.send_again()
    stage.settle()
    for table in ("reservation", "notification"):
        stage.check(f"orders with one {table} under their correlation id", stage.value(
            f"SELECT count(*) FROM orders JOIN (SELECT order_id, correlation FROM {table}"
            " GROUP BY order_id, correlation HAVING count(*) = 1) AS once"
            " ON once.order_id = orders.id AND once.correlation = orders.correlation"), ORDERS)
        stage.check(f"rows of {table}", stage.value(f"SELECT count(*) FROM {table}"), ORDERS)
    stage.check("notices by mail and in the app", stage.query(
        "SELECT channel, count(*), count(DISTINCT (order_id, notice.correlation)) FROM notice JOIN orders"
        " ON orders.id = order_id AND orders.correlation = notice.correlation GROUP BY channel ORDER BY channel"),
        [("app", ORDERS, ORDERS), ("mail", ORDERS, ORDERS)])
    stage.check("pieces in stock and reserved", stage.value(
        "SELECT (SELECT sum(pieces) FROM stock) + (SELECT count(*) FROM reservation)"), len(ITEMS) * STOCK)


if __name__ == "__main__":
    sys.exit(main(play, SERVICES, TABLES, EXCHANGES, QUEUES))
