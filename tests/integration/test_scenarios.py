"""Systems of several services, built on outbox and inbox, keep their invariants although they are killed."""

import os
import re
import subprocess
import sys

import pytest

from conftest import RELAY_BINARY, ROOT

FOLDER = ROOT / "tests/scenarios"
SCENARIOS = sorted(file.stem for file in FOLDER.glob("*.py") if "def play(" in file.read_text())


def play(stack, program):
    environment = {**os.environ, **stack.env, "RELAY": str(RELAY_BINARY), "PYTHONDONTWRITEBYTECODE": "1",
                   "PYTHONPATH": str(FOLDER)}
    done = subprocess.run([sys.executable, program], env=environment, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=150)
    # Some of them kill the servers, which have new pids then.
    stack.refresh()
    return done


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_invariant_holds(stack, scenario):
    done = play(stack, FOLDER / f"{scenario}.py")
    assert done.returncode == 0, (done.stdout, done.stderr)
    lines = done.stdout.splitlines()
    assert lines and all(line.startswith("ok ") for line in lines), done.stdout


def test_a_handler_without_a_claim_is_found(stack, tmp_path):
    """The checks would notice: the same program, with a claim that always succeeds."""
    text = (FOLDER / "payment_succeeded.py").read_text()
    text = text.replace("    stage.start_all()\n", "    stage.query(\"CREATE OR REPLACE FUNCTION inbox.claim(consumer text,"
                        " message_id text) RETURNS boolean LANGUAGE sql AS 'SELECT true'; SELECT\")\n"
                        "    stage.start_all()\n")
    assert "SELECT true" in text
    program = tmp_path / "payment_succeeded.py"
    program.write_text(text)
    done = play(stack, program)
    assert done.returncode == 1 and "FAILED" in done.stdout, (done.stdout, done.stderr)


def test_each_has_its_section():
    text = (ROOT / "docs/scenarios.md").read_text()
    assert set(re.findall(r"^## (\w+)$", text, re.MULTILINE)) == set(SCENARIOS) and len(SCENARIOS) > 1
    for scenario in SCENARIOS:
        assert f"tests/scenarios/{scenario}.py" in text
