"""Runs link_driver.c, which drives a link: messages go in, its events come out."""

import json
import os
import pathlib
import subprocess
import threading

import pytest

from conftest import ROOT, die_with_parent, wait_until

BUILD = pathlib.Path(os.environ.get("BUILD", ROOT / "build"))


@pytest.fixture(scope="session")
def driver_binary():
    target = BUILD / "tests/integration/link_driver"
    subprocess.run(["make", "-s", f"BUILD={BUILD}", str(target)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return target


class Driver:
    """One running driver; its events as they come."""

    def __init__(self, binary, messages, arguments):
        self.process = subprocess.Popen([binary, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, preexec_fn=die_with_parent)
        self.seen = []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        for message in messages:
            headers = message.get("headers")
            if isinstance(headers, dict):
                message = {**message, "headers": json.dumps(headers)}
            self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.close()

    def read(self):
        for line in self.process.stdout:
            self.seen.append(json.loads(line))

    def events(self, name):
        return [event for event in list(self.seen) if event["event"] == name]

    def wait(self, name, count=1, timeout=20):
        return wait_until(lambda: len(self.events(name)) >= count and self.events(name), timeout, name)

    def end(self, timeout=60):
        """All messages are settled; the end event."""
        code = self.process.wait(timeout)
        self.reader.join()
        assert code == 0, self.seen
        return self.events("end")[0]

    def names(self):
        return [event["event"] for event in self.seen]


@pytest.fixture
def drive(driver_binary):
    drivers = []

    def start(messages, *arguments):
        drivers.append(Driver(driver_binary, messages, arguments))
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.process.kill()
        driver.process.wait()


def why_down(drive, *arguments):
    driver = drive([{"exchange": "", "routing_key": "x", "body": "x"}], *arguments, "--exit-on-down")
    driver.process.wait(30)
    driver.reader.join()
    event, = [event for event in driver.seen if event["event"] in ("down", "refused")]
    return event
