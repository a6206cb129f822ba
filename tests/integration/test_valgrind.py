"""The relay as users run it, under valgrind: what the sanitizers do not see (memory that was never written)."""

import contextlib
import re
import socket
import urllib.error
import urllib.request

import conftest
from conftest import ROOT, wait_until

ERRORS = 99


def test_valgrind_finds_nothing_in_a_run_that_loses_its_connections(database, vhost, relay, tmp_path, stack,
                                                                    monkeypatch):
    wrapper = tmp_path / "under-valgrind"
    wrapper.write_text(f"""#!/bin/sh
exec valgrind -q --error-exitcode={ERRORS} --leak-check=full --errors-for-leak-kinds=definite,indirect,possible \\
    {ROOT / "build/outbox-relay"} "$@"
""")
    wrapper.chmod(0o755)
    monkeypatch.setattr(conftest, "RELAY_BINARY", wrapper)
    broker = conftest.Broker(stack, vhost.url)
    queue = broker.queue(exchange=(exchange := broker.exchange()))

    def write(first, last):
        database.execute(
            "INSERT INTO outbox.message (exchange, routing_key, payload_text, ordering_key, headers, expiration) "
            "SELECT %s, 'k', repeat('x', CASE WHEN n %% 50 = 0 THEN 200000 ELSE n END), nullif(n %% 7, 0), "
            "jsonb_build_object('n', n, 'list', ARRAY[1.5, n]), CASE WHEN n %% 3 = 0 THEN interval '1 hour' END "
            "FROM generate_series(%s, %s) n", [exchange, first, last], role="writer")

    write(1, 150)
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{chosen.getsockname()[1]}"
    running = relay(config={"rabbitmq": {"urls": [vhost.url]}, "http": {"listen": listen}})
    running.wait_log("broker_connected", timeout=60)
    assert {len(m.body) for m in broker.take(queue, 150, timeout=60)} == {n if n % 50 else 200000
                                                                          for n in range(1, 151)}
    broker.connection.close()      # ours, so that only the relay's is cut
    broker.connection = None
    stack.rabbitmqctl("close_all_connections", "-p", vhost.name, "a test")
    database.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                     "AND usename = %s", [database.roles["relay"]], role="postgres")
    running.wait_log("broker_connected", timeout=60, count=2)
    write(151, 200)
    wait_until(lambda: broker.count(queue) >= 50, 60, "the rest")
    for path in ("/stats", "/metrics", "/", "/readyz", "/nothing?x"):
        with contextlib.suppress(urllib.error.HTTPError):
            assert urllib.request.urlopen(f"http://{listen}{path}", timeout=30).read()
    assert running.stop(30) == 0, running.stderr()
    assert not re.search(r"^==\d+==", running.stderr(), re.M), running.stderr()
