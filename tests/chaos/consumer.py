"""The consumers of a run: a thread for each queue, with the inbox in the handler's transaction.

A message is written into the history when it arrives; it is acknowledged when its effect has committed.
"""

import threading
import time

import pika
import psycopg2

from workload import connection_lost

TABLES = "CREATE TABLE effect (consumer text, message_id text)"
HANDLE = "INSERT INTO effect SELECT %s, new FROM inbox.claim(%s, %s) AS new"
IDLE_S = 0.02
RETRY_S = 0.1
# RabbitMQ 3.10 may lose a consumer of a queue that is deleted and declared anew while the queue elects its leader: who hears
# nothing for so long comes again.
SILENCE_S = 8
CONNECT_TIMEOUT_S = 5
HEARTBEAT_S = 6


class Consumer(threading.Thread):
    def __init__(self, history, urls, queue, dsn, effects, prefetch):
        super().__init__(daemon=True, name=f"consumer of {queue}")
        self.history = history
        self.queue = queue
        self.dsn = dsn
        self.effects = effects          # whether this one handles, or only listens
        self.prefetch = prefetch
        self.batch = max(1, prefetch // 4)
        self.parameters = [pika.URLParameters(url) for url in urls]
        for parameters in self.parameters:
            # A frozen node of a cluster must not keep a consumer from the others.
            parameters.heartbeat = HEARTBEAT_S if len(urls) > 1 else 0
            parameters.socket_timeout = CONNECT_TIMEOUT_S
        self.database = None
        self.paused = threading.Event()
        self.ending = threading.Event()
        self.count = 0
        self.last = time.monotonic()    # something came, or nobody listened
        self.failure = None
        self.start()

    def handle(self, ids):
        """Exactly one effect for each, whatever fails meanwhile."""
        while not self.ending.is_set():
            try:
                if self.database is None:
                    self.database = psycopg2.connect(self.dsn, connect_timeout=CONNECT_TIMEOUT_S)
                with self.database, self.database.cursor() as cursor:
                    cursor.execute(HANDLE, [self.queue, self.queue, ids])
                return
            except psycopg2.Error as failure:
                if not connection_lost(failure):
                    raise
                self.database = None
                time.sleep(RETRY_S)

    def settle(self, channel, batch):
        if batch:
            self.last = time.monotonic()
            if self.effects:
                self.handle([message_id for message_id, _ in batch])
            channel.basic_ack(batch[-1][1], multiple=True)
        return []

    def consume(self):
        connection = pika.BlockingConnection(self.parameters)
        channel = connection.channel()
        channel.basic_qos(prefetch_count=self.prefetch)
        batch = []
        heard = time.monotonic()
        for method, properties, _ in channel.consume(self.queue, inactivity_timeout=IDLE_S):
            if method is not None:
                heard = time.monotonic()
                self.history.add("delivered", queue=self.queue, id=properties.message_id,
                                 redelivered=method.redelivered)
                self.count += 1
                batch.append((properties.message_id, method.delivery_tag))
            if method is None or len(batch) == self.batch:
                batch = self.settle(channel, batch)
            while self.paused.is_set() and not self.ending.is_set():
                self.last = heard = time.monotonic()
                time.sleep(IDLE_S)
            if self.ending.is_set() or time.monotonic() - heard > SILENCE_S:
                break
        # It ends by itself when the queue is deleted.
        connection.close()

    def run(self):
        while not self.ending.is_set():
            try:
                self.consume()
            except (pika.exceptions.AMQPError, OSError):
                pass
            except Exception as failure:    # a fault of the test's own
                self.failure = failure
                return
            self.last = time.monotonic()
            time.sleep(RETRY_S)

    def quiet_s(self):
        """For how long nothing has come."""
        if self.failure is not None:
            raise self.failure
        return time.monotonic() - self.last

    def end(self):
        self.ending.set()
        self.join(10)
