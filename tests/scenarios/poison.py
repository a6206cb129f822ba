#!/usr/bin/python3
"""Poison: messages that cannot be handled end in the dead letter queue, and the others flow on.

The first messages of the queue are malformed.  Each is tried four times with growing pauses, counted by inbox.fail();
the service is killed in between and goes on counting.  One more has no message id, as only a stranger sends it: it is
rejected at once.
"""

import sys

import pika

from service import Service, publish
from stage import DEAD_LETTERS, main, until

GOOD = 30
BAD = 3
ATTEMPTS = 4
FIRST_PAUSE_S = 0.3    # then 0.6 s and 1.2 s; in earnest rather 1 s, 2 s, 4 s, ...
TABLES = """
    CREATE TABLE invoice (number integer NOT NULL, amount numeric NOT NULL, at timestamptz DEFAULT clock_timestamp());
"""
QUEUES = {"billing": [("ms.billing", "invoice.due")]}


def bill(cursor, message):
    invoice = message.payload()
    cursor.execute("INSERT INTO invoice VALUES (%s, %s)", [invoice["number"], invoice["amount"]])


SERVICES = [Service("billing", bill, attempts=ATTEMPTS, first_pause=FIRST_PAUSE_S)]


def play(stage):
    with stage.service() as connection, connection.cursor() as cursor:
        for number in range(BAD):
            publish(cursor, "ms.billing", "invoice.due", {"number": -1, "amount": "twelve"}, ordering_key=f"bad {number}")
        for number in range(GOOD):
            publish(cursor, "ms.billing", "invoice.due", {"number": number, "amount": "12.00"})
    stage.start("relay")
    until(lambda: stage.waiting("billing") == BAD + GOOD, "the messages")
    stage.channel.basic_publish("ms.billing", "invoice.due", b"{}", pika.BasicProperties())
    stage.start("billing")
    until(lambda: stage.value("SELECT count(*) FROM inbox.attempt WHERE attempts >= 2") > 0, "second attempts")
    stage.kill("billing")
    stage.start("billing")
    until(lambda: stage.waiting(DEAD_LETTERS) == BAD + 1, "the dead letters")
    stage.settle()
    bad = {row[0] for row in stage.query("SELECT message_id::text FROM outbox.message WHERE ordering_key LIKE 'bad %'")}
    letters = [stage.channel.basic_get(DEAD_LETTERS, auto_ack=True) for _ in range(stage.waiting(DEAD_LETTERS))]
    stage.check("dead letters and why", sorted({death["reason"] for _, properties, _ in letters
                                                for death in properties.headers["x-death"]}), ["rejected"])
    stage.check("malformed ones and the stranger's are dead letters",
                {properties.message_id for _, properties, _ in letters} == bad | {None}, True)
    stage.check("attempts at each malformed one", stage.query("SELECT DISTINCT attempts FROM inbox.attempt"), [(ATTEMPTS,)])
    stage.check("their last errors name the reason", stage.value(
        "SELECT bool_and(last_error LIKE '%invalid input syntax%') FROM inbox.attempt"), True)
    stage.check("invoices of the others", stage.query("SELECT count(*), count(DISTINCT number), sum(amount) FROM invoice"),
                [(GOOD, GOOD, 12 * GOOD)])
    stage.check("they were written before the malformed ones were given up", stage.value(
        "SELECT max(at) < (SELECT min(last_at) FROM inbox.attempt) FROM invoice"), True)


if __name__ == "__main__":
    sys.exit(main(play, SERVICES, TABLES, {"ms.billing": "direct"}, QUEUES))
