"""What a service does with its queue: every message takes effect once, and one that cannot be handled stops no other.

    Service("inventory", reserve).run()

The handler, reserve(cursor, message), works in the transaction that has claimed the message in the inbox: its effect,
its own messages in the outbox and the claim are committed together, or none of them.  Only then the message is
acknowledged; a service killed in between is given it again, and skips it.  One that loses a connection makes both anew.

A handler that raises is rolled back, and inbox.fail() counts it.  The message is kept and tried again after first_pause
seconds, then twice that, and so on, while others are handled.  After the last of its attempts it is rejected: the
queue's dead letter exchange gets it.  The count is in the database, so a service that is killed goes on counting.

PGHOST, PGDATABASE and so on, and AMQP_URL, say where the servers are.
"""

import json
import os
import signal
import sys
import time

import pika
import psycopg2

PREFETCH = 20
RECONNECT_PAUSE_S = 0.2


class Message:
    """One delivery.  payload() is what its JSON says."""

    def __init__(self, method, properties, body):
        self.tag = method.delivery_tag
        self.routing_key = method.routing_key
        self.id = properties.message_id
        self.type = properties.type
        self.correlation_id = properties.correlation_id
        self.reply_to = properties.reply_to
        self.headers = properties.headers or {}
        self.content_type = properties.content_type
        self.body = body

    def payload(self):
        return json.loads(self.body)

    def attributes(self):
        """Of the CloudEvent that it is (publish.cloudevents: binary), under either prefix that the binding allows."""
        found = {key[len("cloudEvents_"):]: value for key, value in self.headers.items()
                 if key.startswith(("cloudEvents_", "cloudEvents:"))}
        return {**found, "datacontenttype": self.content_type} if found else {}


def publish(cursor, exchange, routing_key, payload, **properties):
    """Into the outbox, in the cursor's transaction."""
    named = "".join(f", {name} => %s" for name in properties)
    cursor.execute(f"SELECT outbox.publish(%s, %s, %s::json{named})",
                   [exchange, routing_key, json.dumps(payload), *properties.values()])


class Service:
    """name is the consumer's in the inbox, and the queue's unless one is given; arguments are basic.consume's."""

    def __init__(self, name, handler, queue=None, attempts=5, first_pause=1.0, arguments=None):
        self.name = name
        self.handler = handler
        self.queue = queue or name
        self.attempts = attempts
        self.first_pause = first_pause
        self.arguments = arguments
        self.stopping = False
        self.database = self.connection = self.channel = None

    def run(self):
        """Until SIGTERM: what is being handled then is finished, the rest stays in the queue."""
        signal.signal(signal.SIGTERM, self.stop)
        said = None
        while not self.stopping:
            try:
                self.serve()
            except (pika.exceptions.AMQPError, psycopg2.OperationalError, psycopg2.InterfaceError) as failure:
                if repr(failure) != said:    # once, not at each attempt
                    said = repr(failure)
                    print(f"{self.name}: {said}; connecting again", file=sys.stderr)
                time.sleep(RECONNECT_PAUSE_S)

    def stop(self, *_):
        self.stopping = True
        if self.channel is not None:
            self.connection.add_callback_threadsafe(self.channel.stop_consuming)

    def serve(self):
        self.database = psycopg2.connect("")
        try:
            self.connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
            try:
                self.channel = self.connection.channel()
                self.channel.basic_qos(prefetch_count=PREFETCH)
                self.channel.basic_consume(self.queue, lambda _, *delivery: self.attempt(Message(*delivery)),
                                           arguments=self.arguments)
                if not self.stopping:
                    self.channel.start_consuming()
            finally:
                self.channel = None
                if self.connection.is_open:
                    self.connection.close()
        finally:
            self.database.close()

    def attempt(self, message):
        if message.id is None:
            # It could not be claimed, so it might take effect twice.
            self.channel.basic_reject(message.tag, requeue=False)
            return
        try:
            with self.database, self.database.cursor() as cursor:    # COMMIT, or ROLLBACK after an exception
                cursor.execute("SELECT inbox.claim(%s, %s)", [self.name, message.id])
                if cursor.fetchone()[0]:
                    self.handler(cursor, message)
        except Exception as failure:
            # No fault of the message: the server is away, or chose this one in a deadlock.
            if self.database.closed or isinstance(failure, psycopg2.OperationalError):
                raise
            self.failed(message, failure)
        else:
            self.channel.basic_ack(message.tag)

    def failed(self, message, failure):
        with self.database, self.database.cursor() as cursor:
            cursor.execute("SELECT inbox.fail(%s, %s, %s)", [self.name, message.id, repr(failure)])
            attempts = cursor.fetchone()[0]
        if attempts >= self.attempts:
            self.channel.basic_reject(message.tag, requeue=False)
        else:
            self.connection.call_later(self.first_pause * 2 ** (attempts - 1), lambda: self.attempt(message))
