"""In place of systemd: reads unit files, runs their command lines, and listens to what a service says."""

import json
import os
import pathlib
import re
import shlex
import socket
import subprocess
import tempfile
import threading
import time
import uuid

import pytest

from conftest import Relay, ROOT, wait_until

# Of the range that systemd takes dynamic users from; no account.
DYNAMIC_UID = 61234


class Manager:
    """What a process started with manager.env says, and when: (time, "READY", "1")."""

    def __init__(self, directory):
        self.path = str(directory / "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        os.chmod(self.path, 0o777)
        self.env = {"NOTIFY_SOCKET": self.path}
        self.said = []
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def listen(self):
        while text := self.socket.recv(4096).decode():
            self.said += [(time.time(), *line.partition("=")[::2]) for line in text.splitlines()]

    def values(self, key):
        return [value for _, name, value in list(self.said) if name == key]

    def wait(self, words, timeout=20, key="STATUS", after=0):
        """The first one with these words: when, and the whole of it."""
        return wait_until(lambda: next(((at, value) for at, name, value in list(self.said)
                                        if name == key and words in value and at > after), None), timeout, words)

    def last(self):
        return self.values("STATUS")[-1]

    def end(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            own.sendto(b"", self.path)
        self.thread.join()
        self.socket.close()


@pytest.fixture
def manager():
    # A short path: tmp_path may be too long for a socket.
    with tempfile.TemporaryDirectory(prefix="obx", dir="/tmp") as directory:
        manager = Manager(pathlib.Path(directory))
        yield manager
        manager.end()


class Unit:
    """A unit file; instance for a template.  drop_ins are read after it."""

    def __init__(self, path, instance=None, drop_ins=()):
        self.path = pathlib.Path(path)
        self.instance = instance
        self.name = self.path.name.replace("@.", f"@{instance}.")
        self.entries = []
        for file in (self.path, *drop_ins):
            section = None
            for line in re.sub(r"\\\n", " ", file.read_text()).splitlines():
                if re.match(r"\s*([#;]|$)", line):
                    continue
                if line.startswith("["):
                    section = line.strip("[]")
                    continue
                key, _, value = line.partition("=")
                self.entries.append((section, key.strip(), value.strip()))

    def expand(self, text):
        known = {"%": "%", "i": self.instance, "n": self.name, "p": self.path.name.partition("@")[0]}
        return re.sub(r"%(.)", lambda found: known[found[1]], text)

    def values(self, key, section="Service"):
        """All that count: an empty one takes back those before it."""
        found = []
        for in_section, name, value in self.entries:
            if (in_section, name) == (section, key):
                found = found + [self.expand(value)] if value else []
        return found

    def value(self, key, section="Service"):
        values = self.values(key, section)
        return values[-1] if values else None

    def commands(self, key="ExecStart"):
        return [shlex.split(value.lstrip("-@:+!")) for value in self.values(key)]


def system_calls(names, seen=None):
    """The names of system calls behind @sets, as this machine's systemd knows them."""
    found = set()
    for name in names:
        if name.startswith("@"):
            told = subprocess.run(["systemd-analyze", "syscall-filter", name], check=True, text=True,
                                  stdout=subprocess.PIPE).stdout
            found |= system_calls(re.findall(r"^    ([@\w-]+)", told, re.MULTILINE))
        else:
            found.add(name)
    return found


def allowed_calls(unit):
    allowed = set()
    for value in unit.values("SystemCallFilter"):
        if value.startswith("~"):
            allowed -= system_calls(value[1:].split())
        else:
            # What systemd itself adds to a list of what is allowed.
            allowed |= system_calls([*value.split(), "@default"])
    return allowed


class Service(Relay):
    """A unit's process, with its name for the manager."""

    def __init__(self, unit, process, directory):
        self.unit = unit
        self.process = process
        self.pid = process.pid
        self.stderr_path, self.stdout_path = directory / "stderr", directory / "stdout"

    def reload(self):
        for words in self.unit.commands("ExecReload"):
            subprocess.run([word.replace("${MAINPID}", str(self.pid)) for word in words], check=True)


def start_unit(unit, root, manager, tmp_path, environment=None):
    """Run the unit's ExecStart, word for word, in the sandbox that it describes.

    root has what is installed: its etc and usr/local are laid over the machine's.
    """
    directory = tmp_path / f"unit-{uuid.uuid4().hex[:8]}"
    credentials = directory / "credentials"
    credentials.mkdir(parents=True)
    for value in unit.values("SetCredential"):
        name, _, text = value.partition(":")
        (credentials / name).write_text(text.replace("\\n", "\n"))
    for value in unit.values("LoadCredential"):
        name, _, file = value.partition(":")
        path = root / file.lstrip("/")
        if path.exists():
            assert path.stat().st_mode & 0o077 == 0, f"{path} can be read by others"
            (credentials / name).write_bytes(path.read_bytes())
    given = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "LANG": "C.UTF-8",
             "NOTIFY_SOCKET": "/run/systemd/notify", "CREDENTIALS_DIRECTORY": f"/run/credentials/{unit.name}",
             # The sandbox keeps the leak checker's tracing out.
             "ASAN_OPTIONS": "detect_leaks=0"}
    for file in unit.values("EnvironmentFile"):
        given.update(line.split("=", 1) for line in (root / file.lstrip("-/")).read_text().splitlines())
    if seconds := unit.value("WatchdogSec"):
        given["WATCHDOG_USEC"] = str(int(seconds) * 1000000)
    given.update(environment or {})
    (command,) = unit.commands()
    spec = {"command": command, "environment": given, "uid": DYNAMIC_UID, "name": unit.name,
            "credentials": str(credentials), "notify": manager.path,
            "over": {f"/{path}": str(root / path) for path in ("etc", "usr/local")},
            "filter": {"allow": sorted(allowed_calls(unit)),
                       "families": unit.value("RestrictAddressFamilies").split()}}
    with open(directory / "stderr", "wb") as err, open(directory / "stdout", "wb") as out:
        process = subprocess.Popen([ROOT / "tests/support/sandbox", json.dumps(spec)], stdin=subprocess.DEVNULL,
                                   stdout=out, stderr=err, env={"PATH": os.environ["PATH"]})
    return Service(unit, process, directory)
