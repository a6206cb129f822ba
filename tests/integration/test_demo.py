"""make demo: what it says, and that it would notice a broken promise."""

import os
import pathlib
import re
import signal
import subprocess

import pytest

from conftest import RELAY_BINARY, ROOT, wait_until

SHOP = ROOT / "tests/demo/shop.py"


def figures(output):
    """The summary: its names and numbers."""
    found = re.findall(r"^([a-z][a-z ]+?) +([\d,]+)  \S", output, re.MULTILINE)
    return {name: int(number.replace(",", "")) for name, number in found}


def environment(**more):
    return {**os.environ, "RELAY": str(RELAY_BINARY), "PYTHONDONTWRITEBYTECODE": "1", **more}


def shop(stack, *arguments):
    return subprocess.run(["/usr/bin/python3", SHOP, "--seconds", "2", *arguments], env=environment(**stack.env),
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=90)


def in_session(leader):
    """Processes of the session that this one leads, or that name it as their stack, by /proc."""
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            command = (stat.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if fields[0] != "Z" and (int(fields[3]) == leader or f"build/stack/run-{leader}".encode() in command
                                 or b"outbox-demo-" in command):
            found.append(int(stat.parent.name))
    return found


def test_the_demo_loses_nothing_and_says_so(stack):
    done = shop(stack)
    assert done.returncode == 0, (done.stdout, done.stderr)
    said = figures(done.stdout)
    assert said["committed"] > 50 and said["rolled back"] > 0
    assert said["published"] == said["delivered"] == said["committed"]
    assert said["lost"] == said["phantoms"] == said["out of order"] == 0
    assert said["duplicates"] <= 10000
    assert said["reserved"] == said["charged"] == said["committed"]
    assert said["stock amiss"] == said["money amiss"] == 0
    for stage in ("inventory was killed", "relay was killed", "relay runs again"):
        assert stage in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("fault, name", [("loss", "lost"), ("phantom", "phantoms")])
def test_a_planted_fault_makes_it_fail(stack, fault, name):
    done = shop(stack, "--plant", fault)
    assert done.returncode == 1, (done.stdout, done.stderr)
    said = figures(done.stdout)
    assert {n: said[n] for n in ("lost", "phantoms")} == {"lost": 0, "phantoms": 0, name: 1}
    assert "FAILED" in done.stdout


def test_an_effect_that_was_taken_twice_makes_it_fail(stack):
    done = shop(stack, "--plant", "twice")
    assert done.returncode == 1 and "FAILED" in done.stdout, (done.stdout, done.stderr)
    said = figures(done.stdout)
    assert said["charged"] == said["committed"] + 1 and said["money amiss"] > 0
    assert said["lost"] == said["phantoms"] == said["stock amiss"] == 0


def test_interrupted_it_leaves_nothing_running(tmp_path):
    """With its own servers, as "make demo" starts it; Ctrl-C goes to the whole group, as from a terminal."""
    output = tmp_path / "output"
    with open(output, "wb") as out:
        process = subprocess.Popen([ROOT / "tests/demo/run"], stdin=subprocess.DEVNULL, stdout=out,
                                   stderr=subprocess.STDOUT, start_new_session=True,
                                   env={k: v for k, v in environment().items() if k != "OUTBOX_STACK"})
    try:
        wait_until(lambda: "relay was killed" in output.read_text() or process.poll() is not None, 90, "the demo")
        assert len(in_session(process.pid)) >= 5     # servers and shop; the relay is dead
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(30) == 130, output.read_text()
        wait_until(lambda: not in_session(process.pid), 10, "the end of all its processes")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)
