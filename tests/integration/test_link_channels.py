"""A link with several channels, driven by link_driver.c: what takes which, and what the end of one does to the others."""

import collections
import uuid

import pytest

from driving import drive, driver_binary    # noqa: F401

CHANNELS = 4
KEY = 1 << 32    # message.key: its upper half chooses the channel


def ids(messages):
    return [message.headers["x-outbox-id"] for message in messages]


def several(stack):
    return "--url", stack.env["AMQP_URL"], "--channels", CHANNELS


def test_all_channels_are_used_and_each_keeps_its_order(stack, broker, drive):
    queue = broker.queue()
    count = 20000
    driver = drive([{"exchange": "", "routing_key": queue, "key": KEY, "count": count}], *several(stack))
    assert driver.end()["settled"] == count
    taken = ids(broker.take(queue, count))
    assert sorted(taken) == list(range(1, count + 1))
    for channel in range(CHANNELS):
        of_one = [i for i in taken if i % CHANNELS == channel]
        assert of_one == sorted(of_one)
    # Were it one channel, it would be one order.
    assert taken != sorted(taken)


def test_messages_without_a_key_keep_one_order(stack, broker, drive):
    queue = broker.queue()
    drive([{"exchange": "", "routing_key": queue, "count": 20000}], *several(stack)).end()
    assert ids(broker.take(queue, 20000)) == list(range(1, 20001))


@pytest.mark.parametrize("name", ["no_such", "é"])
def test_a_missing_exchange_costs_the_other_channels_nothing(stack, broker, drive, name):
    """What was in flight on the channel that is closed may come twice; what was on another is confirmed before it is told."""
    queue = broker.queue()
    half = 4000
    bad = 2 * half + 1
    driver = drive([{"id": 1, "exchange": "", "routing_key": queue, "key": KEY, "count": half},
                    {"id": bad, "exchange": name, "routing_key": "x", "key": 2 * KEY},
                    {"id": half + 1, "exchange": "", "routing_key": queue, "key": KEY, "count": half}], *several(stack))
    assert driver.end()["settled"] == bad
    closed, = driver.events("channel_closed")
    assert closed["amqp_code"] == 404
    assert [e["exchange"] for e in driver.events("named")] == [name]
    assert driver.names().count("up") == 2 and not driver.events("down")
    deliveries = broker.count(queue)
    arrived = collections.Counter(ids(broker.take(queue, deliveries)))
    assert sorted(arrived) == list(range(1, 2 * half + 1))
    twice = {(i - 1) % half % CHANNELS for i, times in arrived.items() if times > 1}
    assert twice <= {1}, "the key of the bad one is that of every second of four"


def test_exchanges_missing_on_every_channel(stack, broker, drive):
    queue = broker.queue()
    driver = drive([{"id": 1, "exchange": "nowhere", "routing_key": "x", "key": KEY, "count": 8},
                    {"id": 9, "exchange": "", "routing_key": queue, "key": KEY, "count": 100}], *several(stack))
    driver.end()
    assert {e["exchange"] for e in driver.events("named")} == {"nowhere"}
    assert {e["id"] for e in driver.events("confirmed")} == set(range(9, 109))
    assert set(ids(broker.take(queue, broker.count(queue)))) == set(range(9, 109))


def test_a_user_who_may_have_one_channel_is_served(stack, broker, drive):
    name = "u_" + uuid.uuid4().hex[:8]
    stack.rabbitmqctl("add_user", name, "secret")
    try:
        stack.rabbitmqctl("set_permissions", "-p", "/", name, "", ".*", "")
        stack.rabbitmqctl("set_user_limits", name, '{"max-channels": 1}')
        queue = broker.queue()
        driver = drive([{"exchange": "", "routing_key": queue, "key": KEY, "count": 100}], "--url",
                       f"amqp://{name}:secret@127.0.0.1:{stack.env['AMQP_PORT']}/%2f", "--channels", CHANNELS)
        assert driver.end()["settled"] == 100
        assert [name for name in driver.names() if name != "confirmed"] == ["up", "closed", "end"]
        assert sorted(ids(broker.take(queue, 100))) == list(range(1, 101))
    finally:
        stack.rabbitmqctl("delete_user", name)
