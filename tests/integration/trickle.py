"""A little load that goes on while something fails, and the verdict on what arrived."""

import threading
import time


class Trickle:
    """Commits a message for each key in turn, every few milliseconds, until it is stopped."""

    def __init__(self, database, queue, keys=("a", "b", "c"), pause_s=0.005):
        self.connection = database.connect("writer", autocommit=True)
        self.queue, self.keys, self.pause_s = queue, keys, pause_s
        self.count = self.taken = 0
        self.first = {}
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self):
        with self.connection.cursor() as cursor:
            while not self.stopping.wait(self.pause_s):
                cursor.execute("SELECT outbox.publish('', %s, %s, ordering_key => %s)",
                               [self.queue, str(self.count), self.keys[self.count % len(self.keys)]])
                self.count += 1

    def stop(self):
        """How many it wrote."""
        self.stopping.set()
        self.thread.join()
        return self.count

    def collect(self, broker, count, timeout=30):
        """Until so many different ones have arrived."""
        deadline = time.monotonic() + timeout
        while len(self.first) < count:
            assert time.monotonic() < deadline, f"{len(self.first)} of {count} messages arrived"
            # One at a time: what a consumer gives back would change its place.
            if message := broker.get(self.queue):
                self.taken += 1
                self.first.setdefault(int(message.body), message)

    def judge(self, broker, timeout=30, repeated=0):
        """All arrive, those of a key first in order; at most so many of them again."""
        written = self.stop()
        self.collect(broker, written, timeout)
        for key in range(len(self.keys)):
            of_key = [n for n in self.first if n % len(self.keys) == key]
            assert of_key == sorted(of_key)
        while broker.get(self.queue):
            self.taken += 1
        assert self.taken - written <= repeated
