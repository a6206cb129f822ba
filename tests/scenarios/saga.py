#!/usr/bin/python3
"""A saga: inventory reserves, payment charges, and what was reserved is given back where the payment is refused.

    order.created --> inventory --inventory.reserved--> payment --payment.succeeded--> order: paid
                          |                                |
                          +--inventory.sold_out--> order: cancelled
                                                           +--payment.refused--> order: cancelled
                                                                            \\--> inventory: the piece is back

No transaction spans two services.  Relay, services, the broker and Postgres are killed with SIGKILL in turn, and once all of
the sessions in Postgres are ended, while orders are placed; without a broker, too.
"""

import random
import sys

from service import Service, publish
from stage import main, until

ORDERS = 150
ITEMS = {"kettle": 30, "cup": 500}
BALANCE = 200
CUSTOMERS = 10
TABLES = f"""
    CREATE TABLE orders (id integer PRIMARY KEY, customer integer NOT NULL, item text NOT NULL, price integer NOT NULL,
        state text NOT NULL DEFAULT 'placed');
    CREATE TABLE stock (item text PRIMARY KEY, pieces integer NOT NULL CHECK (pieces >= 0));
    CREATE TABLE reservation (order_id integer NOT NULL, item text NOT NULL);
    CREATE TABLE account (customer integer PRIMARY KEY, balance integer NOT NULL CHECK (balance >= 0));
    CREATE TABLE charge (order_id integer NOT NULL, customer integer NOT NULL, amount integer NOT NULL);
    INSERT INTO stock VALUES {", ".join(f"('{item}', {pieces})" for item, pieces in ITEMS.items())};
    INSERT INTO account SELECT n, {BALANCE} FROM generate_series(1, {CUSTOMERS}) AS n;
"""
EXCHANGES = {"ms.saga": "topic"}
QUEUES = {"order": [("ms.saga", "payment.*"), ("ms.saga", "inventory.sold_out")],
          "inventory": [("ms.saga", "order.created"), ("ms.saga", "payment.refused")],
          "payment": [("ms.saga", "inventory.reserved")]}


def tell(cursor, event, order):
    """The key keeps the events of one order in their order."""
    publish(cursor, "ms.saga", event, order, type=event, ordering_key=str(order["order"]))


def inventory(cursor, message):
    order = message.payload()
    if message.type == "order.created":
        cursor.execute("UPDATE stock SET pieces = pieces - 1 WHERE item = %s AND pieces > 0", [order["item"]])
        if cursor.rowcount == 0:
            tell(cursor, "inventory.sold_out", order)
            return
        cursor.execute("INSERT INTO reservation VALUES (%s, %s)", [order["order"], order["item"]])
        tell(cursor, "inventory.reserved", order)
    else:
        # The compensation of what it has committed before.
        cursor.execute("DELETE FROM reservation WHERE order_id = %s", [order["order"]])
        cursor.execute("UPDATE stock SET pieces = pieces + 1 WHERE item = %s", [order["item"]])


def payment(cursor, message):
    order = message.payload()
    cursor.execute("UPDATE account SET balance = balance - %(price)s WHERE customer = %(customer)s"
                   " AND balance >= %(price)s", order)
    if cursor.rowcount == 0:
        tell(cursor, "payment.refused", order)
        return
    cursor.execute("INSERT INTO charge VALUES (%(order)s, %(customer)s, %(price)s)", order)
    tell(cursor, "payment.succeeded", order)


def order(cursor, message):
    state = "paid" if message.type == "payment.succeeded" else "cancelled"
    cursor.execute("UPDATE orders SET state = %s WHERE id = %s", [state, message.payload()["order"]])


SERVICES = [Service("order", order), Service("inventory", inventory), Service("payment", payment)]


def place(connection, number):
    what = {"order": number, "customer": random.randint(1, CUSTOMERS), "item": random.choice(list(ITEMS)),
            "price": random.randint(5, 40)}
    with connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO orders VALUES (%(order)s, %(customer)s, %(item)s, %(price)s)", what)
        tell(cursor, "order.created", what)


def play(stage):
    stage.start_all()
    connection = stage.service()
    victims = ["relay", "sessions", "postgres", "rabbitmq", *stage.services]
    away = False
    random.shuffle(victims)
    share = ORDERS // (len(victims) + 1)
    for number in range(ORDERS):
        place(connection, number)
        if away and number % share == share // 2:
            stage.start_server("rabbitmq")
            away = False
        if victims and number % share == share - 1:
            # Only when the system works: one that is still starting has nothing to lose.
            finished = stage.value("SELECT count(*) FROM orders WHERE state <> 'placed'")
            until(lambda: stage.value("SELECT count(*) FROM orders WHERE state <> 'placed'") > finished or stage.quiet(),
                  "finished orders")
            victim = victims.pop()
            if victim == "sessions":
                stage.end_sessions()
            elif victim == "postgres":
                stage.kill_server("postgres")
                stage.start_server("postgres")
                connection = stage.service()
            elif victim == "rabbitmq":
                stage.kill_server("rabbitmq")
                away = True
            else:
                stage.kill(victim)
                stage.start(victim)
    stage.settle()
    stage.send_again()
    stage.settle()
    states = dict(stage.query("SELECT state, count(*) FROM orders GROUP BY state"))
    stage.check("orders that are paid or cancelled", states.get("paid", 0) + states.get("cancelled", 0), ORDERS)
    stage.check("there are both", min(states.get("paid", 0), states.get("cancelled", 0)) > 0, True)
    stage.check("stock and paid pieces", dict(stage.query(
        "SELECT item, pieces + (SELECT count(*) FROM orders WHERE orders.item = stock.item AND state = 'paid')"
        " FROM stock")), ITEMS)
    stage.check("orders whose reservation, charge and state contradict each other", stage.value(
        "SELECT count(*) FROM orders WHERE (SELECT count(*) FROM reservation WHERE order_id = id) <> (state = 'paid')::int"
        " OR (SELECT count(*) FROM charge WHERE order_id = id) <> (state = 'paid')::int"), 0)
    stage.check("customers whose money does not add up", stage.value(
        "SELECT count(*) FROM account WHERE balance + (SELECT coalesce(sum(price), 0) FROM orders"
        f" WHERE orders.customer = account.customer AND state = 'paid') <> {BALANCE}"), 0)


if __name__ == "__main__":
    sys.exit(main(play, SERVICES, TABLES, EXCHANGES, QUEUES))
