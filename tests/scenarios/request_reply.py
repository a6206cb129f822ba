#!/usr/bin/python3
"""Request and reply: a shop asks for prices; reply_to names its queue, and the correlation id tells which answer is whose.

Question and answer both go through an outbox: the shop's question is committed with its cart, and the answer with what
the price list remembers of it.  The price list is killed in the middle.
"""

import sys

from service import Service, publish
from stage import main, until

QUESTIONS = 60
TABLES = """
    CREATE TABLE cart (id integer PRIMARY KEY, pieces integer NOT NULL, price integer);
    CREATE TABLE quotation (pieces integer NOT NULL, price integer NOT NULL);
    CREATE TABLE answer (cart integer NOT NULL, price integer NOT NULL);
"""
PRICE = 7
QUEUES = {"pricing": [], "shop.prices": []}


def quote(cursor, message):
    pieces = message.payload()["pieces"]
    cursor.execute("INSERT INTO quotation VALUES (%s, %s)", [pieces, PRICE * pieces])
    # The default exchange takes it to the queue of that name.
    publish(cursor, "", message.reply_to, {"price": PRICE * pieces}, correlation_id=message.correlation_id)


def note(cursor, message):
    price = message.payload()["price"]
    cart = int(message.correlation_id.removeprefix("cart "))
    cursor.execute("UPDATE cart SET price = %s WHERE id = %s", [price, cart])
    cursor.execute("INSERT INTO answer VALUES (%s, %s)", [cart, price])


SERVICES = [Service("pricing", quote), Service("shop", note, queue="shop.prices")]


def ask(connection, number):
    with connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO cart VALUES (%s, %s)", [number, number % 5 + 1])
        publish(cursor, "", "pricing", {"pieces": number % 5 + 1}, reply_to="shop.prices",
                correlation_id=f"cart {number}")


def play(stage):
    stage.start_all()
    connection = stage.service()
    for number in range(QUESTIONS // 2):
        ask(connection, number)
    until(lambda: stage.value("SELECT count(*) FROM answer") > 0, "the first answer")
    stage.kill("pricing")
    for number in range(QUESTIONS // 2, QUESTIONS):
        ask(connection, number)
    stage.start("pricing")
    stage.settle()
    stage.send_again()
    stage.settle()
    stage.check("carts with the right price", stage.value(
        f"SELECT count(*) FROM cart WHERE price = {PRICE} * pieces"), QUESTIONS)
    stage.check("answers, and carts that have one", stage.query("SELECT count(*), count(DISTINCT cart) FROM answer"),
                [(QUESTIONS, QUESTIONS)])
    stage.check("quotations", stage.value("SELECT count(*) FROM quotation"), QUESTIONS)


if __name__ == "__main__":
    sys.exit(main(play, SERVICES, TABLES, {}, QUEUES))
