"""The relay with grant_relay's rights alone: it sends, sleeps, wakes, empties slots; business tables are closed to it."""

import psycopg2
import pytest

from conftest import wait_until


def test_business_tables_are_closed_to_the_relay(database):
    database.execute("CREATE TABLE orders (id int); INSERT INTO orders VALUES (1)")
    for role in ("relay", "writer", "monitor"):
        for sql in ("SELECT * FROM orders", "INSERT INTO orders VALUES (2)", "DELETE FROM orders", "TRUNCATE orders",
                    "DROP TABLE orders", "CREATE TABLE outbox.mine ()", "CREATE SCHEMA mine"):
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                database.execute(sql, role=role)


@pytest.mark.time_limit(120)
def test_the_relay_sends_wakes_and_empties_slots_with_its_own_rights(database, broker, relay):
    queue = broker.queue()
    # What lies in the next slot was written a period ago, long enough for no retention.
    database.query("SELECT outbox.set_retention('0')")
    database.execute("CREATE OR REPLACE FUNCTION outbox.current_slot() RETURNS smallint LANGUAGE sql STABLE"
                     " AS 'SELECT 0::smallint'")
    database.execute("INSERT INTO outbox.message (slot, routing_key, payload_text, created_at)"
                     " SELECT 1, %s, n::text, now() - interval '3 minutes' FROM generate_series(1, 100) n", [queue])
    running = relay(config={"wake": {"poll_interval": "1h"}})
    assert [m.body.decode() for m in broker.take(queue, 100)] == [str(n) for n in range(1, 101)]
    # Asleep, so that only a NOTIFY wakes it.
    wait_until(lambda: database.query(
        "SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 'outbox.message'::regclass::oid"
        " AND objid <> 4294967295 AND mode = 'ExclusiveLock'"), 10)
    database.query("SELECT outbox.publish('', %s, 'woken')", [queue], role="writer")
    assert broker.take(queue, 1)[0].body == b"woken"
    wait_until(lambda: database.value("SELECT count(*) FROM outbox.message WHERE created_at < now() - interval '2 minutes'") == 0,
               100, "an emptied slot")
    assert database.value("SELECT count(*) FROM outbox.message") >= 1
    assert running.stop() == 0
    assert not [line for line in running.log() if "permission" in str(line)]
