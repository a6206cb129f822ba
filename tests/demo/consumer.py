"""A consumer that counts what arrives, by message id."""

import collections
import json
import threading

import pika

THE_END = "the end"


class Consumer(threading.Thread):
    """Reads the queue up to a message with the id THE_END.

    seen             how often each message id arrived
    first_numbers    for each customer the order numbers, in the order in which they arrived first
    """

    def __init__(self, url, queue, lose_one=False):
        super().__init__(daemon=True)
        self.url = url
        self.queue = queue
        self.lose_one = lose_one
        self.seen = collections.Counter()
        self.first_numbers = collections.defaultdict(list)
        self.failure = None

    def run(self):
        try:
            connection = pika.BlockingConnection(pika.URLParameters(self.url))
            channel = connection.channel()
            channel.basic_qos(prefetch_count=500)
            channel.basic_consume(self.queue, self.on_message)
            channel.start_consuming()
            connection.close()
        except pika.exceptions.AMQPError as failure:
            self.failure = failure

    def on_message(self, channel, method, properties, body):
        # A consumer of yours does its work here, in a transaction that also remembers the message id: "at least
        # once" means that the same id may come again after a fault.
        channel.basic_ack(method.delivery_tag)
        if properties.message_id == THE_END:
            channel.stop_consuming()
        elif self.lose_one:
            self.lose_one = False
        else:
            self.count(properties.message_id, json.loads(body))

    def count(self, message_id, event):
        self.seen[message_id] += 1
        if self.seen[message_id] == 1:
            self.first_numbers[event["customer"]].append(event["number"])

    def delivered(self):
        return sum(self.seen.values())
