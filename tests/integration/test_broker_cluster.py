"""Several urls and a real cluster: a node of three fails, and the relay goes on at the next."""

import threading
import time

import pytest

from conftest import Broker, wait_until
from trickle import Trickle

WINDOW = 100


@pytest.fixture
def running(cluster, database, relay):
    """A relay that is connected to the first node."""
    running = relay(config={"rabbitmq": {"urls": cluster.urls, "heartbeat": "1s"}, "publish": {"window": WINDOW},
                            "retry": {"initial": "200ms", "max": "1s", "max_attempts": 1000}})
    connected = running.wait_log("broker_connected")
    assert port_of(cluster, 1) in connected["peer"]
    return running


@pytest.fixture
def reader(cluster):
    """At the last node: it is never the one that fails."""
    broker = Broker(cluster, cluster.urls[2])
    yield broker
    cluster.heal()
    broker.close()


def port_of(cluster, number):
    return cluster.env[f"AMQP_PORT_{number}"]


def sent(database):
    return database.value("SELECT count(*) FROM outbox.message_status WHERE state = 'sent'", role="monitor")


@pytest.mark.parametrize("fault", ["kill", "stop", "pause", "partition"])
def test_the_node_of_the_connection_fails(cluster, database, reader, running, fault):
    queue = reader.queue()
    load = Trickle(database, queue)
    wait_until(lambda: sent(database) > 20)
    cluster.act(fault, "rabbitmq1")
    connected = running.wait_log("broker_connected", 20, count=2)
    # The next one, unless that takes nobody for a moment (it has its own part in a partition): then the one after it.
    refused = [line for line in running.log("broker_lost") if port_of(cluster, 2) in line["error"]]
    assert port_of(cluster, 3 if refused else 2) in connected["peer"]
    # It goes on while the node is away.
    written = load.count
    wait_until(lambda: sent(database) > written + 20, 20)
    cluster.heal()
    load.judge(reader, repeated=2 * WINDOW)
    assert running.stop() == 0


def test_a_first_message_that_meets_an_election(cluster, database, reader, relay):
    """RabbitMQ 3 refuses every message for a queue on a channel whose first one came while the queue had just lost its
    leader, until the lost node returns: the relay does not wait for that (V).  RabbitMQ 4 refuses at most the first."""
    there = Broker(cluster, cluster.urls[0])
    queues = [there.queue(f"queue{n}") for n in range(30)]
    there.connection.close()
    # What is refused does not come again before the test is over.
    running = relay(config={"rabbitmq": {"urls": cluster.urls[1:]}, "retry": {"initial": "100s"}})
    running.wait_log("broker_connected")
    partition = threading.Thread(target=cluster.partition, args=["rabbitmq1"])
    partition.start()
    for queue in queues:
        database.query("SELECT outbox.publish('', %s, 'first')", [queue], role="writer")
        time.sleep(0.06)       # spread over the moment that is hard to hit
    partition.join()
    if cluster.rabbitmqctl("version").startswith("3."):
        refused = running.wait_log("message_refused", 1)
        assert "without its leader" in refused["remedy"]
        before = {queue: reader.count(queue) for queue in queues}
        assert 0 in before.values()
    else:
        def refused():
            return {key for key, in database.query("SELECT routing_key FROM outbox.delayed", role="postgres")}

        # Each is in its queue, or put aside to be tried again: none is lost.
        wait_until(lambda: refused() | {queue for queue in queues if reader.count(queue)} == set(queues), 15, "all answers")
        before = {queue: reader.count(queue) for queue in queues}

    def all_take():
        for queue in queues:
            if reader.count(queue) == before[queue]:
                database.query("SELECT outbox.publish('', %s, 'second')", [queue], role="writer")
        return all(reader.count(queue) > before[queue] for queue in queues)

    wait_until(all_take, 15, "every queue to take messages again")
    assert not running.log("broker_lost")
    assert running.stop() == 0
    # Each would wait for the member that is away.
    cluster.heal()
    for queue in queues:
        reader.channel().queue_delete(queue)


def test_an_unavailable_queue_keeps_nobody_else_waiting(cluster, database, reader, relay):
    """A quorum queue whose only member is away confirms nothing (S); once it is back it gets what waited, in order."""
    there = Broker(cluster, cluster.urls[0])
    away = there.queue("away", arguments={"x-quorum-initial-group-size": 1})
    there.connection.close()
    queue = reader.queue()
    timeout_s = 3
    running = relay(config={"rabbitmq": {"urls": cluster.urls[1:]}, "publish": {"confirm_timeout": f"{timeout_s}s"}})
    running.wait_log("broker_connected")

    def write(name, key, count):
        database.execute("INSERT INTO outbox.message (exchange, routing_key, ordering_key, payload_text)"
                         " SELECT '', %s, %s || n %% 50, n::text FROM generate_series(1, %s) n", [name, key, count])

    # The keys' channels know the queue's leader; they would be told at once that there is none, else.
    write(away, "bad", 5)
    wait_until(lambda: sent(database) == 5)
    cluster.kill("rabbitmq1")
    write(queue, "good", 2000)
    write(away, "bad", 5)
    write(queue, "better", 2000)
    began = time.monotonic()
    wait_until(lambda: sent(database) == 4005, 30, "all that can be confirmed")
    assert time.monotonic() - began < timeout_s + 2 + 3, "a confirm timeout, and not much more"
    waits = database.query("SELECT DISTINCT waits_for, attempts FROM outbox.delayed")
    assert waits == [("queue", 0)]
    assert "no confirm" in database.value("SELECT last_error FROM outbox.delayed LIMIT 1")
    cluster.heal()
    wait_until(lambda: database.value("SELECT count(*) FROM outbox.delayed") == 0, 30, "what waited for the queue")
    assert {message.body for message in reader.take(away, 10)} == {str(n).encode() for n in range(1, 6)}
    assert running.stop() == 0


def test_many_queues_without_quorum_keep_nobody_else_waiting(cluster, database, reader, relay):
    """The other member of some quorum queues is away: their leaders take messages and confirm none (S)."""
    there = Broker(cluster, cluster.urls[1])
    queues = [there.queue(f"queue{n}", arguments={"x-quorum-initial-group-size": 2}) for n in range(20)]
    there.connection.close()
    well = reader.queue(kind="classic")
    timeout_s = 3
    running = relay(config={"rabbitmq": {"urls": cluster.urls[1:2]}, "publish": {"confirm_timeout": f"{timeout_s}s"}})
    running.wait_log("broker_connected")

    def write(name, count):
        database.execute("INSERT INTO outbox.message (exchange, routing_key, payload_text)"
                         " SELECT '', %s, n::text FROM generate_series(1, %s) n", [name, count])

    def sent_to(name):
        return database.value("SELECT count(*) FROM outbox.message_status WHERE routing_key = %s AND state = 'sent'", [name],
                              role="monitor")

    for name in queues:
        write(name, 1)
    wait_until(lambda: sent(database) == len(queues))
    cluster.kill("rabbitmq1")
    for name in queues:
        write(name, 20)
        write(well, 20)
    began = time.monotonic()
    wait_until(lambda: sent_to(well) == 400, 120, "all that can be confirmed")
    took = time.monotonic() - began
    stuck = [name for name in queues if sent_to(name) == 1]
    assert len(stuck) > 3, "some have their other member on the node that is away"
    assert took < 2.5 * timeout_s, f"{took:.1f} s: two confirm timeouts, and not much more"
    cluster.heal()
    wait_until(lambda: database.value("SELECT count(*) FROM outbox.delayed") == 0, 120, "what waited for the queues")
    for name in queues:
        assert {int(message.body) for message in reader.take(name, 21)} == set(range(1, 21))
    assert running.stop() == 0
