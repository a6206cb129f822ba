"""The fault proxy (proxy.c) as an object: ports by name, commands as methods."""

import os
import pathlib
import subprocess
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

from conftest import ROOT, die_with_parent    # noqa: E402

BINARY = ROOT / os.environ.get("BUILD", "build") / "tests/chaos/proxy"


class Proxy:
    def __init__(self, seed=0):
        self.process = subprocess.Popen([BINARY, str(seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        preexec_fn=die_with_parent)
        self.lock = threading.Lock()
        self.ports = {}

    def command(self, *words):
        """The words of the answer behind "ok"."""
        with self.lock:
            self.process.stdin.write(" ".join(map(str, words)) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline().split()
        assert answer[:1] == ["ok"], f"{words}: {' '.join(answer) or 'the proxy has ended'}"
        return answer[1:]

    def listen(self, name, server_port):
        self.ports[name] = int(self.command("listen", name, server_port)[0])
        return self.ports[name]

    def heal(self, name):
        self.command("heal", name)

    def connections(self, name):
        return int(self.command("stats", name)[0])

    def accepted(self, name):
        return int(self.command("stats", name)[1])

    def end(self):
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()
