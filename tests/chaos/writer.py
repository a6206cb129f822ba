"""One writer of a run, as a program: transactions like those of tests/integration/workload.py, to many destinations.

It writes until its stdin ends; a line "pause" stops it between two transactions, which it says ("paused"), and "go"
lets it go on.  What it did goes to its history: committed, rolled_back, or unknown when the commit's answer was
lost.  Each transaction also inserts its number into the table chaos_transaction: that is the truth in the end.
"""

import argparse
import json
import pathlib
import select
import sys
import time
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

import psycopg2                                            # noqa: E402
import psycopg2.extras                                     # noqa: E402

import workload                                            # noqa: E402
from history import History                                # noqa: E402

GOOD = "good"
SCHEDULED = ("SELECT outbox.publish(%s, 'order', %s::jsonb, message_id => %s,"
             " deliver_at => to_timestamp(%s))")
# Of the keys, so many meet only the good destination.
STEADY = 0.5
ROWS_MAX = 3
SCHEDULED_LATER_S = (0.5, 8)
CONNECT_TIMEOUT_S = 5


class Writer(workload.Writer):
    def __init__(self, given):
        super().__init__(given)
        self.history = History(given.history)
        self.transactions = 0

    def destination(self, key):
        """Those whose destination never fails are told apart by their key; without a key nothing is at stake."""
        if key is not None and int(key.partition("-")[2]) < self.given.keys * STEADY:
            return GOOD
        return self.random.choice(self.given.destinations)

    def insert(self, cursor, written, key, first, count):
        # Few of a key at once: a window is then full of different ones.
        count = min(count, ROWS_MAX)
        rows = [[str(uuid.UUID(int=self.random.getrandbits(128), version=4)), key, first + n, self.destination(key), None]
                for n in range(count)]
        psycopg2.extras.execute_values(cursor, workload.MESSAGE, [
            (message_id, f"chaos.{destination}", "order", json.dumps({"key": key, "sequence": sequence}), key)
            for message_id, key, sequence, destination, _ in rows])
        written.extend(rows)
        return first + count

    def schedule(self, cursor, written):
        for _ in range(self.random.randint(1, 5)):
            due = time.time() + self.random.uniform(*SCHEDULED_LATER_S)
            row = [str(uuid.UUID(int=self.random.getrandbits(128), version=4)), None, 0, GOOD, due]
            cursor.execute(SCHEDULED, [f"chaos.{GOOD}", "{}", row[0], due])
            written.append(row)

    def once(self):
        self.transactions += 1
        number = f"{self.given.seed}-{self.transactions}"
        undone = len(self.rolled_back)
        if self.connection is None:
            self.connection = psycopg2.connect(self.given.dsn, connect_timeout=CONNECT_TIMEOUT_S)
        with self.connection.cursor() as cursor:
            cursor.execute("INSERT INTO chaos_transaction VALUES (%s)", [number])
            if self.given.scheduled and self.random.random() < self.given.scheduled:
                written = []
                self.schedule(cursor, written)
            else:
                written = self.transaction(cursor)
        if undone < len(self.rolled_back):
            self.history.add("rolled_back", transaction=number, messages=[[m] for m in self.rolled_back[undone:]])
        if written is None:
            self.connection.rollback()
            return
        try:
            self.connection.commit()
        except psycopg2.Error:
            self.history.add("unknown", transaction=number, messages=written)
            raise
        self.history.add("committed", transaction=number, messages=written)

    def told(self):
        """Does what stdin says; false at its end."""
        while select.select([sys.stdin], [], [], 0)[0]:
            line = sys.stdin.readline()
            if not line:
                return False
            if line == "pause\n":
                if self.connection is not None:
                    self.connection.close()
                    self.connection = None
                print("paused", flush=True)
                # Until it says go, or ends.
                if not sys.stdin.readline():
                    return False
        return True

    def run(self):
        while self.told():
            try:
                self.once()
            except psycopg2.Error as failure:
                if not workload.connection_lost(failure):
                    raise
                self.connection = None
                self.pause(0.2)
            self.pause(self.given.pause)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--history", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--keys", type=int, required=True)
    parser.add_argument("--destinations", required=True, type=lambda text: text.split(","))
    parser.add_argument("--scheduled", type=float, required=True, help="share of transactions with scheduled messages")
    parser.add_argument("--pause", type=float, required=True, help="longest pause between transactions, in seconds")
    writer = Writer(parser.parse_args())
    writer.run()
    writer.history.file.close()


if __name__ == "__main__":
    main()
