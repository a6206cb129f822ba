"""Hundreds of outboxes on one server: created, migrated, drained and dropped, several at a time.

OUTBOX_TEST_DATABASES scales it (300).
"""

import concurrent.futures
import os
import subprocess

import psycopg2
import pytest

from conftest import RELAY_BINARY, Database

DATABASES = int(os.environ.get("OUTBOX_TEST_DATABASES", 300))
AT_ONCE = 4
ROWS = 3


@pytest.mark.time_limit(400)
def test_each_is_created_migrated_drained_and_dropped(stack, broker):
    exchange = broker.exchange()
    queue = broker.queue(exchange=exchange)

    def command(database, *arguments):
        env = {"OUTBOX_RELAY_POSTGRES_DSN": database.dsn("postgres"), "OUTBOX_RELAY_RABBITMQ_URLS": stack.env["AMQP_URL"],
               "OUTBOX_RELAY_HTTP_LISTEN": "null"}
        done = subprocess.run([RELAY_BINARY, *arguments], env=env, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    def live_through(_):
        database = Database(stack)
        server = psycopg2.connect(database.server_dsn())
        server.autocommit = True
        # No roles here: they belong to the cluster, and are another test's subject.
        server.cursor().execute(f"CREATE DATABASE {database.name}")
        try:
            command(database, "migrate", "up")
            ids = [row[0] for row in database.query(
                "SELECT outbox.publish(%s, 'order', 'x')::text FROM generate_series(1, %s)", [exchange, ROWS],
                role="postgres")]
            command(database, "run", "--until-empty")
            states = database.query("SELECT state, count(*) FROM outbox.message_status GROUP BY state", role="postgres")
            assert states == [("sent", ROWS)]
        finally:
            for connection in database.opened:
                connection.close()
            server.cursor().execute(f"DROP DATABASE {database.name} WITH (FORCE)")
            server.close()
        return ids

    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        written = [message_id for ids in pool.map(live_through, range(DATABASES)) for message_id in ids]
    assert len(written) == ROWS * DATABASES
    arrived = [message.message_id for message in broker.take(queue, len(written), timeout=60)]
    assert sorted(arrived) == sorted(written)
    assert broker.get(queue) is None
