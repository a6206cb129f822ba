"""The order service: the order and its event, in one transaction."""

import json
import random
import threading

import psycopg2

PAUSE_S = 0.02
ITEMS = ("pencil", "notebook", "desk lamp", "cup", "kettle")


class Declined(Exception):
    """The card was declined: the order must not be, and nobody may hear of it."""


def place_order(cursor, customer, declined):
    # The customer's row is locked first, so orders of one customer come one after the other, and their events too.
    cursor.execute("UPDATE customer SET orders = orders + 1 WHERE id = %s RETURNING orders", [customer])
    number = cursor.fetchone()[0]
    item, price = random.choice(ITEMS), random.randint(1, 200)

    # The event goes into the outbox; RabbitMQ is not involved.  The key keeps a customer's events in order.
    event = json.dumps({"customer": customer, "number": number, "item": item, "price": price})
    cursor.execute("SELECT outbox.publish('shop', 'order.placed', %s::json, ordering_key => %s, type => 'order.placed')",
                   [event, f"customer-{customer}"])
    message_id = cursor.fetchone()[0]

    cursor.execute("INSERT INTO orders (message_id, customer, number, item, price) VALUES (%s, %s, %s, %s, %s)",
                   [message_id, customer, number, item, price])
    if declined:
        raise Declined


class Service(threading.Thread):
    """Places orders until it is told to stop; about one in ten is rolled back at the last moment."""

    def __init__(self, dsn, customers, stop):
        super().__init__(daemon=True)
        self.dsn = dsn
        self.customers = customers
        self.stop = stop
        self.committed = 0
        self.rolled_back = 0
        self.failure = None

    def run(self):
        try:
            connection = psycopg2.connect(self.dsn)
            while not self.stop.is_set():
                try:
                    with connection, connection.cursor() as cursor:   # COMMIT, or ROLLBACK after an exception
                        place_order(cursor, random.randint(1, self.customers), declined=random.random() < 0.1)
                    self.committed += 1
                except Declined:
                    self.rolled_back += 1
                self.stop.wait(PAUSE_S)
            connection.close()
        except psycopg2.Error as failure:
            self.failure = failure
