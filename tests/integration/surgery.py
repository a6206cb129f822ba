"""doctor on broken set-ups: it says what is wrong and the exact remedy; the remedy, typed as printed, works.

Each case is a function that breaks something.  Where a remedy needs no more than a shell it is typed: run by bash, with
psql, rabbitmqctl, systemctl and outbox-relay on the PATH.  Where a person has to decide or to replace something,
the case says what that person does.
"""

import contextlib
import os
import re
import shlex
import subprocess
import uuid

import pytest

from conftest import RELAY_BINARY, ROOT, Database, die_with_parent, merge, wait_until

FOUND, USAGE = 1, 64
LINE = re.compile(r"(ok|warn|FAIL) +([a-z-]+): (.*)")


class Finding:
    def __init__(self, level, check, text):
        self.level, self.check, self.text, self.remedy = level, check, text, None

    def __repr__(self):
        return f"{self.level} {self.check}: {self.text}\n   remedy: {self.remedy}"


def parse(stdout):
    """What the lines for people say."""
    findings = []
    for line in stdout.splitlines()[:-1]:
        if line.startswith("      remedy: "):
            findings[-1].remedy = line.removeprefix("      remedy: ")
        else:
            findings.append(Finding(*LINE.fullmatch(line).groups()))
    return findings


class Place:
    """A set-up, and who sits before it."""

    def __init__(self, stack, shared, users, broker, relay, tmp_path, closing):
        self.stack = stack
        self.users = users
        self.database = shared
        self.broker = broker
        self.relay = relay
        self.tmp_path = tmp_path
        self.closing = closing
        self.config = {"postgres": {"dsn": shared.dsn("relay")}, "rabbitmq": {"urls": [f"amqp://127.0.0.1:{stack.env['AMQP_PORT']}/%2f"]},
                       "http": {"listen": None}}
        self.options = []
        self.env = {}
        self.input = ""         # what is typed where a remedy asks
        self.person = None      # does what a remedy says that is no command
        self.mended = False
        self.seen = set()
        self.path = tmp_path / "bin"
        self.path.mkdir()
        self.shim("psql", f'exec {stack.env["POSTGRES_BIN"]}/psql -X "$@"')
        # Exactly what was typed: where RabbitMQ 4's script sees one argument more, it does not read the password.
        self.shim("rabbitmqctl", f'exec {stack.env["RABBITMQCTL"]} "$@"')
        self.shim("outbox-relay", f'exec {RELAY_BINARY} "$@"')
        self.shim("systemctl", f'server=${{2%ql}}; server=${{server%-server}}; [ "$server" = rabbitmq ] || server=postgres\n'
                               f'exec {ROOT}/tests/support/stack "$1" "$server" --dir {stack.directory}')

    def shim(self, name, script):
        file = self.path / name
        file.write_text(f"#!/bin/bash\n{script}\n")
        file.chmod(0o755)

    def fresh(self, migrate=True):
        """A database of its own, in place of the one that the cases share."""
        self.database = Database(self.stack)
        self.database.create()
        self.closing.callback(self.database.drop)
        if migrate:
            self.database.migrate()
            self.database.grant()
        self.set("postgres", dsn=self.database.dsn("relay"))
        return self.database

    def set(self, section, **values):
        self.config = merge(self.config, {section: values})

    def publish(self, exchange, key="k", **more):
        self.database.execute("INSERT INTO outbox.message (exchange, routing_key, payload_text, created_at)"
                              " VALUES (%s, %s, 'x', coalesce(%s, now()))", [exchange, key, more.get("at")])

    def secret(self, text):
        file = self.tmp_path / f"secret-{uuid.uuid4().hex[:6]}"
        file.write_text(text + "\n")
        file.chmod(0o600)
        return file

    def doctor(self, *more):
        done = self.relay.command("doctor", *self.options, *more, config=self.config, env=self.env, timeout=30)
        assert done.stderr == "", done.stderr
        if more:
            return done
        findings = parse(done.stdout)
        self.seen |= {finding.check for finding in findings}
        bad = any(finding.level == "FAIL" for finding in findings)
        assert done.returncode == (FOUND if bad else 0), done.stdout
        assert all((finding.remedy is None) == (finding.level == "ok") for finding in findings), findings
        return findings

    def ills(self, check, words):
        return [finding for finding in self.doctor() if finding.check == check and finding.level != "ok"
                and words in finding.text]

    def environment(self):
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("OUTBOX_RELAY_", "PG"))}
        return {**environment, "PATH": f"{self.path}:{os.environ['PATH']}"}

    def type(self, command):
        """In a shell.  What goes on for ever is ended after the test."""
        if re.match(r"outbox-relay run\b", command):
            process = subprocess.Popen(["bash", "-c", f"exec {command}"], env=self.environment(), cwd=self.tmp_path,
                                       preexec_fn=die_with_parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            self.closing.callback(lambda: (process.kill(), process.wait()))
            return
        done = subprocess.run(["bash", "-c", f"{command}\nstatus=$?; export -p | grep OUTBOX_RELAY_ >&2; exit $status"],
                              env=self.environment(), cwd=self.tmp_path, text=True, input=self.input, capture_output=True,
                              timeout=60)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        # What it exported stays in that shell.
        for name, value in re.findall(r"declare -x (OUTBOX_RELAY_\w+)=(.*)", done.stderr):
            self.env[name] = shlex.split(value)[0]


@pytest.fixture(scope="module")
def shared(session_stack):
    """A database that is well: for cases that leave it so."""
    database = Database(session_stack)
    database.create()
    database.migrate()
    database.grant()
    yield database
    database.drop()


@pytest.fixture(scope="module")
def users(session_stack):
    """Of RabbitMQ; they go in the end."""
    names = []
    yield names
    texts = ", ".join(f'<<"{name}">>' for name in names)
    session_stack.rabbitmqctl("eval", f'[rabbit_auth_backend_internal:delete_user(N, <<"test">>) || N <- [{texts}]].')


@pytest.fixture
def place(stack, shared, users, broker, relay, tmp_path):
    with contextlib.ExitStack() as closing:
        yield Place(stack, shared, users, broker, relay, tmp_path, closing)
        stack.heal()


def explained():
    """The checks that have a row in docs/operations.md."""
    section = (ROOT / "docs/operations.md").read_text().partition("## What doctor says")[2].partition("\n## ")[0]
    return set(re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE))


class Cases(dict):
    """Set-ups that are broken, by the names of the functions that break them."""

    def broken(self, check, words, level="FAIL"):
        """The set-up that this function breaks is told by a line of that check with these words."""
        def keep(function):
            self[function.__name__] = (function, check, words, level)
            return function
        return keep

    def cure(self, place, name):
        """Break it, read what is wrong, do what the remedy says, and see that it is well."""
        function, check, words, level = self[name]
        function(place)
        ill = wait_until(lambda: place.ills(check, words), 10, f"{check}: ...{words}...")[0]
        assert ill.level == level, ill
        (place.person or place.type)(ill.remedy)
        wait_until(lambda: not place.ills(check, words), 20, f"an end of {ill}")
        place.mended = True
        assert place.seen <= explained()


def user(place, permissions=("", ".*", "")):
    """Who may write; its password is "right".  By one call: each costs a second."""
    name = "u_" + uuid.uuid4().hex[:8]
    texts = "".join(f'<<"{permission}">>, ' for permission in permissions or ())
    module = "rabbit_auth_backend_internal"
    place.stack.rabbitmqctl("eval", f'{module}:add_user(<<"{name}">>, <<"right">>, <<"test">>)'
                            + (f', {module}:set_permissions(<<"{name}">>, <<"/">>, {texts}<<"test">>).' if permissions else "."))
    place.users.append(name)
    return name


def log_in(place, name, password="right", vhost="%2f", **more):
    place.set("rabbitmq", urls=[f"amqp://{name}{':' + password if password else ''}@127.0.0.1:"
                                f"{place.stack.env['AMQP_PORT']}/{vhost}"], **more)
