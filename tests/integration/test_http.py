"""What is served over HTTP: it is true, soon, and nobody who asks disturbs the relay."""

import json
import socket
import urllib.error
import urllib.request

import pytest

from conftest import wait_until


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Http:
    def __init__(self, port):
        self.port = port

    def get(self, path, method="GET"):
        """Status, headers, body."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as answer:
            return answer.code, answer.headers, answer.read().decode()

    def json(self, path):
        return json.loads(self.get(path)[2])

    def status(self, path):
        return self.get(path)[0]

    def settings(self):
        return {"listen": f"127.0.0.1:{self.port}"}


@pytest.fixture
def http():
    return Http(free_port())


def write(database, routing_key, count=1, exchange=""):
    database.execute("INSERT INTO outbox.message (exchange, routing_key, payload_text) SELECT %s, %s, 'hunter2' "
                     "FROM generate_series(1, %s)", [exchange, routing_key, count], role="writer")


def test_routes(database, broker, relay, http):
    queue = broker.queue()
    running = relay(config={"http": http.settings()})
    running.wait_log("http_listening", address=f"127.0.0.1:{http.port}")
    wait_until(lambda: http.status("/readyz") == 200)
    assert http.json("/readyz") == {"ready": True, "reasons": [], "state": "leading"}
    assert http.json("/healthz")["healthy"]
    write(database, queue, 100)
    broker.take(queue, 100)
    stats = wait_until(lambda: (s := http.json("/stats"))["totals"]["recorded"] == 100 and s)
    assert stats["totals"]["published"] == stats["totals"]["confirmed"] == 100 and stats["database"] == database.name
    status, headers, page = http.get("/")
    assert status == 200 and "<html" in page and "script-src 'sha256-" in headers["Content-Security-Policy"]
    status, headers, metrics = http.get("/metrics")
    assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert "outbox_relay_confirmed_total 100\n" in metrics
    assert http.status("/etc/passwd") == 404
    assert running.stop() == 0
