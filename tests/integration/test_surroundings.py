"""What a database, its role or its neighbours may be like, far from the outbox: none of it may cost a message or keep
others waiting.
"""

PERMISSION = 77


def test_row_security_hides_nothing_from_the_relay(database, broker, relay):
    """Rows that a policy hides would be passed over, and emptied away unsent."""
    queue = broker.queue()
    database.execute("CREATE POLICY tenants ON outbox.message FOR SELECT USING (ordering_key = 'mine')")
    running = relay()
    running.wait_log("broker_connected")

    database.execute("ALTER TABLE outbox.message ENABLE ROW LEVEL SECURITY")
    database.execute("SELECT outbox.publish('', %s, 'x'::text)", [queue])
    # It was well before: somebody changes something, and may change it back.
    lost = running.wait_log("database_lost", count=2)
    assert "row-level security" in lost["error"] and "BYPASSRLS" in lost["remedy"]
    beside = relay.command("run", "--until-empty")
    assert beside.returncode == PERMISSION and "row-level security hides rows of outbox.message" in beside.stderr

    database.execute("ALTER TABLE outbox.message DISABLE ROW LEVEL SECURITY")
    broker.take(queue, 1)


def test_what_a_transaction_has_written_that_stays_open_is_not_waited_for(database, broker, relay):
    """wait_for_flush: its WAL lies behind the message's, and nobody flushes it before it ends."""
    queue = broker.queue()
    database.execute("CREATE TABLE business (n int); INSERT INTO business VALUES (0)")
    running = relay(config={"postgres": {"wait_for_flush": True}})
    running.wait_log("broker_connected")
    running.pause()
    database.execute("SELECT outbox.publish('', %s, 'x'::text)", [queue])
    database.connect().cursor().execute("INSERT INTO business VALUES (1)")
    running.resume()
    broker.take(queue, 1, timeout=5)
