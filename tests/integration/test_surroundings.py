"""What a database, its role or its neighbours may be like, far from the outbox: none of it may cost a message or keep
others waiting.
"""


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
