"""Load for the delivery tests: writers that lock a business row first, and a collector of what arrives.

Run as a program it is one writer: it ends by itself after --rows committed messages, or at SIGTERM, and prints
what it knows as JSON: {"committed": [[id, key, sequence], ...], "rolled_back": [id, ...]}.  A message's sequence
is its key's counter, read and advanced under the lock of the key's row, so it grows in the order written.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid

import pika
import psycopg2
import psycopg2.extras

MESSAGE = "INSERT INTO outbox.message (message_id, exchange, routing_key, payload_json, ordering_key) VALUES %s"


def connection_lost(failure):
    """Of a psycopg2.Error: the server went, or the connection to it.  The library has several names for it."""
    return failure.pgcode is None or isinstance(failure, psycopg2.OperationalError)


# ---- one writer ---------------------------------------------------------------------------------------


class Writer:
    def __init__(self, given):
        self.given = given
        self.random = random.Random(given.seed)
        self.committed = []
        self.rolled_back = []
        self.connection = None
        self.stopping = False

    def pause(self, longest_s):
        """The work of an application while its transaction is open."""
        time.sleep(self.random.uniform(0, longest_s))

    def insert(self, cursor, written, key, first, count):
        """count messages of one key, with sequences from first on; returns the next sequence."""
        rows = [(str(uuid.UUID(int=self.random.getrandbits(128), version=4)), key, first + n) for n in range(count)]
        psycopg2.extras.execute_values(cursor, MESSAGE, [
            (message_id, self.given.exchange, "order", json.dumps({"key": key, "sequence": sequence}), key)
            for message_id, key, sequence in rows])
        written.extend(rows)
        return first + count

    def transaction(self, cursor):
        """One transaction up to its commit; returns what it wrote, or None when it is to be rolled back."""
        written = []
        kind = self.random.choices(["plain", "rollback", "savepoint", "late", "no key"], [60, 12, 12, 6, 10])[0]
        if kind == "no key":
            self.insert(cursor, written, None, 0, self.random.randint(1, 5))
            if self.random.random() < 0.2:
                self.pause(0.1)
            return written
        if kind == "late":
            # Its xid is old when it writes.
            cursor.execute("SELECT pg_current_xact_id()")
            self.pause(0.1)
        for number in sorted(self.random.sample(range(self.given.keys), self.random.choice([1, 1, 1, 2]))):
            key = f"key-{number}"
            cursor.execute("SELECT sequence FROM account WHERE key = %s FOR UPDATE", [key])
            sequence = cursor.fetchone()[0]
            sequence = self.insert(cursor, written, key, sequence, self.random.randint(1, 10))
            if kind == "savepoint":
                undone = []
                cursor.execute("SAVEPOINT s")
                self.insert(cursor, undone, key, sequence, self.random.randint(1, 5))
                cursor.execute("ROLLBACK TO s")
                self.rolled_back.extend(row[0] for row in undone)
                sequence = self.insert(cursor, written, key, sequence, self.random.randint(1, 5))
            cursor.execute("UPDATE account SET sequence = %s WHERE key = %s", [sequence, key])
        if kind == "late":
            self.pause(0.1)
        if kind == "rollback":
            self.rolled_back.extend(row[0] for row in written)
            return None
        return written

    def once(self):
        if self.connection is None:
            self.connection = psycopg2.connect(self.given.dsn)
        with self.connection.cursor() as cursor:
            written = self.transaction(cursor)
        if written is None:
            self.connection.rollback()
            return
        # If the server dies in the commit nobody knows but the database.
        self.connection.commit()
        self.committed.extend(written)

    def run(self):
        while not self.stopping and (not self.given.rows or len(self.committed) < self.given.rows):
            try:
                self.once()
            except psycopg2.Error as failure:
                if not connection_lost(failure):
                    raise
                self.connection = None
                self.pause(0.1)
            if self.given.pause:
                self.pause(self.given.pause)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--exchange", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--keys", type=int, required=True)
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--pause", type=float, default=0, help="longest pause between transactions, in seconds")
    writer = Writer(parser.parse_args())

    def stop(*_):
        writer.stopping = True

    signal.signal(signal.SIGTERM, stop)
    writer.run()
    json.dump({"committed": writer.committed, "rolled_back": writer.rolled_back}, sys.stdout)


# ---- many writers -------------------------------------------------------------------------------------


class Load:
    """Writers as processes.  seed makes their choices repeatable (not the interleaving)."""

    def __init__(self, database, exchange, writers, keys, seed, directory, rows=0, pause=0):
        from conftest import die_with_parent
        self.database = database
        database.execute("CREATE TABLE IF NOT EXISTS account (key text PRIMARY KEY, sequence bigint NOT NULL)"
                         " WITH (fillfactor = 50)")
        database.execute("INSERT INTO account SELECT 'key-' || n, 1 FROM generate_series(0, %s) n"
                         " ON CONFLICT DO NOTHING", [keys - 1])
        database.execute(f"GRANT SELECT, UPDATE ON account TO {database.roles['writer']}")
        self.files = [directory / f"writer-{n}" for n in range(writers)]
        self.processes = []
        for number, file in enumerate(self.files):
            arguments = ["--dsn", database.dsn("writer"), "--exchange", exchange, "--seed", seed * 1000 + number,
                         "--keys", keys, "--rows", -(-rows // max(writers, 1)), "--pause", pause]
            with open(file, "wb") as out:
                self.processes.append(subprocess.Popen([sys.executable, os.path.abspath(__file__), *map(str, arguments)],
                                                       stdout=out, stdin=subprocess.DEVNULL,
                                                       preexec_fn=die_with_parent))

    def running(self):
        return any(process.poll() is None for process in self.processes)

    def finish(self, stop=True):
        """Wait for the writers; returns what they say: (committed, rolled back)."""
        if stop:
            for process in self.processes:
                process.terminate()
        committed, rolled_back = {}, set()
        for process, file in zip(self.processes, self.files):
            assert process.wait() == 0, "a writer failed"
            said = json.loads(file.read_text())
            committed.update({message_id: (key, sequence) for message_id, key, sequence in said["committed"]})
            rolled_back.update(said["rolled_back"])
        return committed, rolled_back

    def kill(self):
        for process in self.processes:
            process.kill()
            process.wait()


def committed_in(database):
    """What is in the outbox, sent or not: the truth when a commit's answer was lost."""
    rows = database.query("SELECT message_id::text, ordering_key, (payload_json->>'sequence')::bigint"
                          " FROM outbox.message")
    return {message_id: (key, sequence) for message_id, key, sequence in rows}


# ---- what arrives -------------------------------------------------------------------------------------


class Collector:
    """Takes everything off a queue in a thread of its own; arrived is [(message id, monotonic time)]."""

    PREFETCH = 2000

    def __init__(self, url, queue):
        self.arrived = []
        self.failure = None
        self.parameters = pika.URLParameters(url)
        self.parameters.heartbeat = 0
        self.queue = queue
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            connection = pika.BlockingConnection(self.parameters)
            channel = connection.channel()
            channel.basic_qos(prefetch_count=self.PREFETCH)
            last = acknowledged = 0
            for method, properties, _ in channel.consume(self.queue, inactivity_timeout=0.02):
                if method is not None:
                    self.arrived.append((properties.message_id, time.monotonic()))
                    last = method.delivery_tag
                if last > acknowledged and (method is None or last - acknowledged >= self.PREFETCH // 4):
                    channel.basic_ack(last, multiple=True)
                    acknowledged = last
                if method is None and self.ending.is_set():
                    break
            channel.cancel()
            connection.close()
        except Exception as failure:
            self.failure = failure

    def count(self):
        if self.failure is not None:
            raise self.failure
        return len(self.arrived)

    def ids(self):
        return [message_id for message_id, _ in self.arrived]

    def end(self):
        """Stops once nothing comes for a moment; returns the ids in the order of arrival."""
        self.ending.set()
        self.thread.join(20)
        assert not self.thread.is_alive() and self.failure is None, self.failure
        return self.ids()


def collect(url, queue, expected, timeout=60):
    """Everything in a queue: until all expected ids are there (or the time is over) and nothing more comes."""
    from conftest import wait_until
    collector = Collector(url, queue)
    expected = set(expected)
    deadline = time.monotonic() + timeout
    known = 0

    def there():
        nonlocal known
        count = collector.count()
        for message_id, _ in collector.arrived[known:count]:
            expected.discard(message_id)
        known = count
        return not expected or time.monotonic() > deadline

    wait_until(there, timeout + 5)
    return collector.end()


if __name__ == "__main__":
    main()
