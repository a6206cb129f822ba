"""The history of a run: events as JSON lines, written by many threads, read back in the end."""

import json
import threading
import time


class History:
    def __init__(self, path):
        self.path = path
        self.file = open(path, "w", encoding="utf-8")
        self.lock = threading.Lock()

    def add(self, event, t=None, **fields):
        line = json.dumps({"t": time.time() if t is None else t, "event": event, **fields}) + "\n"
        with self.lock:
            self.file.write(line)

    def read(self, *others):
        """All events, also those of other files (the writers' own)."""
        with self.lock:
            self.file.flush()
        events = []
        for path in (self.path, *others):
            with open(path, encoding="utf-8") as file:
                events += [json.loads(line) for line in file]
        return events
