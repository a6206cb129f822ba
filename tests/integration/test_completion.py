"""Completion in real, interactive shells, from where "make install" puts it; it knows all that --help has."""

import os
import pty
import re
import select
import subprocess
import time

import pytest

from conftest import ROOT
from test_man import commands, help_of

SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"],
             ["bind 'set bell-style none'", "bind 'set enable-bracketed-paste off'",
              ". /usr/share/bash-completion/bash_completion"]),
    "zsh": (["zsh", "-f", "-i"],
            ["unsetopt beep auto_menu prompt_cr prompt_sp", "zstyle ':completion:*' rehash true",
             "fpath=($DATA/zsh/site-functions $fpath)", "autoload -Uz compinit && compinit -u -D"])}


class Shell:
    """Types lines and the tab key, and reads what the line has become."""

    def __init__(self, name, data, directory):
        words, setup = SHELLS[name]
        environment = {"PATH": os.environ["PATH"], "TERM": "xterm", "DATA": str(data), "HOME": str(directory),
                       "XDG_DATA_DIRS": f"{data}:/usr/share", "LC_ALL": "C.UTF-8"}
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(directory)
            os.execvpe(words[0], words, environment)
        self.seen = ""
        for line in ["stty -echo cols 200", "PS1=", *setup]:
            os.write(self.terminal, f"{line}\n".encode())
        self.marks = 0
        self.completed("true")

    def completed(self, line):
        """The line after its end was completed, as the shell would run it."""
        self.marks += 1
        # To the start of the line and back to its end: quoted, and printed between marks.
        os.write(self.terminal, f"{line}\t\x01echo '<{self.marks}<\x05>{self.marks}>'\n".encode())
        deadline = time.monotonic() + 20
        pattern = re.compile(rf"^<{self.marks}<(.*?)>{self.marks}>", re.MULTILINE)
        while not (found := pattern.search(self.seen)):
            assert select.select([self.terminal], [], [], max(0, deadline - time.monotonic()))[0], self.seen[-2000:]
            self.seen += os.read(self.terminal, 65536).decode(errors="replace").replace("\r", "")
        # What a shell puts behind a word, and takes back when one goes on typing.
        return found[1].rstrip(" =/")

    def end(self):
        os.write(self.terminal, b"exit\n")
        os.close(self.terminal)
        os.waitpid(self.pid, 0)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("installed")
    subprocess.run(["make", "-s", "install", f"DESTDIR={root}"], cwd=ROOT, check=True, stdin=subprocess.DEVNULL)
    return root / "usr/local/share"


@pytest.fixture(scope="module", params=SHELLS)
def shell(request, data, tmp_path_factory):
    directory = tmp_path_factory.mktemp("home")
    (directory / "relay.yaml").write_text("")
    (directory / "migrations").mkdir()
    shell = Shell(request.param, data, directory)
    yield shell
    shell.end()


def test_every_command_is_completed(shell):
    for command in commands():
        assert shell.completed(f"outbox-relay {command[:-1]}") == f"outbox-relay {command}"


@pytest.mark.parametrize("command", commands())
def test_every_option_and_verb_is_completed(shell, command):
    options, verbs = help_of(command)
    words = [*(f"--{option}" for option in options), *verbs]
    for word in words:
        # Without its last letter it may be the beginning of another one, too.
        if sum(other.startswith(word[:-1]) for other in words) == 1:
            assert shell.completed(f"outbox-relay {command} {word[:-1]}") == f"outbox-relay {command} {word}"
        else:
            assert shell.completed(f"outbox-relay {command} {word}") == f"outbox-relay {command} {word}"


@pytest.mark.parametrize("typed, becomes", [
    ("outbox-relay migrate print --format fl", "outbox-relay migrate print --format flyway"),
    ("outbox-relay migrate --line in", "outbox-relay migrate --line inbox"),
    ("outbox-relay migrate print --output mig", "outbox-relay migrate print --output migrations"),
    ("outbox-relay check --config rel", "outbox-relay check --config relay.yaml"),
    ("outbox-relay -c rel", "outbox-relay -c relay.yaml"),
    ("outbox-relay --config rel", "outbox-relay --config relay.yaml"),
    ("outbox-relay --config relay.yaml sta", "outbox-relay --config relay.yaml status"),
    ("outbox-relay --config=rel", "outbox-relay --config=relay.yaml"),
    ("outbox-relay --vers", "outbox-relay --version"),
    # A name is the person's own, and so are ids.
    ("outbox-relay dead list --exchange re", "outbox-relay dead list --exchange re"),
    ("outbox-relay dead show ret", "outbox-relay dead show ret"),
    ("outbox-relay unknown --ex", "outbox-relay unknown --ex")])
def test_arguments_are_completed_by_their_kind(shell, typed, becomes):
    assert shell.completed(typed) == becomes
