"""The relays of a run, and what their logs tell: who leads, and what died.

A death is whatever may make a relay publish again what it has published: the next lead or the next connection to
the broker after the first.  A connection that follows a lead of the same relay is the same death, and the first
connection for suspects of each process is none.
"""

import datetime
import signal
import threading
import time

from conftest import Relay, parse_line

TAIL_S = 0.03


def seconds(text):
    """2026-11-21T06:49:04.123Z, 2026-11-21 06:49:04.123456+00:00"""
    return datetime.datetime.fromisoformat(text).timestamp()


class Process:
    """One life of a relay."""

    def __init__(self, relay, directory):
        self.relay = relay
        self.directory = directory
        self.file = open(relay.stderr_path, encoding="utf-8", errors="replace")
        self.rest = ""
        self.leads = False
        self.may_connect = False        # a connection now is no further death
        self.suspected = False          # it has had its second connection, of suspects
        self.awaited = False            # its end is ours
        self.paused = False

    def lines(self):
        self.rest += self.file.read()
        *whole, self.rest = self.rest.split("\n")
        return [parse_line(line) for line in whole]


class Relays(threading.Thread):
    """Keeps count relays running, and follows their logs.  write(number) makes the configuration's path."""

    def __init__(self, history, directory, count, configure):
        super().__init__(daemon=True, name="relays")
        self.history = history
        self.directory = directory
        self.configure = configure
        self.lock = threading.RLock()
        self.lives = 0
        self.led = self.connected = False
        self.ending = False
        self.failure = None
        self.current = [self.launch(number) for number in range(count)]
        self.start()

    def launch(self, number):
        self.lives += 1
        directory = self.directory / f"relay-{number}-{self.lives}"
        directory.mkdir()
        path = self.configure(number, directory)
        return Process(Relay(["run", "--config", str(path)], None, directory), directory)

    def see(self, number, process, line):
        event = line.get("event")
        t = seconds(line["time"]) if "time" in line else time.time()
        self.history.add("relay", t, relay=number, said=event, line=line)
        if event == "leading":
            if self.led:
                self.history.add("death", t, what="lead", relay=number)
            process.leads = self.led = process.may_connect = True
        elif event == "broker_connected" and line.get("connection") == "suspects":
            if process.suspected:
                self.history.add("death", t, what="suspects", relay=number)
            process.suspected = True
        elif event == "broker_connected":
            if self.connected and not process.may_connect:
                self.history.add("death", t, what="connection", relay=number)
            self.connected, process.may_connect = True, False
        elif event in ("standby", "stepped_down", "database_lost"):
            process.leads = False

    def run(self):
        try:
            while True:
                with self.lock:
                    for number, process in enumerate(self.current):
                        over = process.relay.process.poll()
                        for line in process.lines():
                            self.see(number, process, line)
                        if over is not None and not self.ending:
                            if not process.awaited:
                                self.history.add("ended", relay=number, code=over, directory=str(process.directory))
                            self.current[number] = self.launch(number)
                    if self.ending and all(process.relay.process.poll() is not None for process in self.current):
                        return
                time.sleep(TAIL_S)
        except Exception as failure:    # a fault of the test's own
            self.failure = failure

    def wait_led(self, timeout_s):
        deadline = time.monotonic() + timeout_s
        while not (self.led and self.connected):
            if time.monotonic() > deadline:
                raise TimeoutError("no relay leads")
            time.sleep(TAIL_S)

    def leader(self):
        """The number of the one that leads; 0 when none does."""
        with self.lock:
            return next((n for n, process in enumerate(self.current) if process.leads), 0)

    def signal(self, number, what):
        """To one, whose end is then no surprise; returns its process."""
        with self.lock:
            process = self.current[number]
            process.awaited = process.awaited or what in (signal.SIGKILL, signal.SIGTERM)
            process.relay.process.send_signal(what)
            return process

    def end(self):
        """SIGTERM to all; returns the exit codes.  The thread goes last: what it started dies with it."""
        with self.lock:
            self.ending = True
            for process in self.current:
                process.relay.terminate()
        codes = [process.relay.process.wait(20) for process in self.current]
        self.join()
        return codes
