"""The link against a real RabbitMQ, driven by link_driver.c; what arrives is read by pika."""

import uuid

import pytest

from conftest import wait_until
from driving import drive, driver_binary    # noqa: F401


# ---- publishing -----------------------------------------------------------------------------------------


def test_every_message_is_confirmed_once_and_arrives_in_order(stack, broker, drive):
    queue = broker.queue()
    driver = drive([{"exchange": "", "routing_key": queue, "body": "hello", "count": 20000}], "--url",
                   stack.env["AMQP_URL"])
    assert driver.end()["settled"] == 20000
    taken = broker.take(queue, 20000)
    assert [message.headers["x-outbox-id"] for message in taken] == list(range(1, 20001))
    assert driver.names() == ["up", "closed", "end"]


def test_properties_and_headers_as_another_client_reads_them(stack, broker, drive, faithful_pika):
    queue = broker.queue()
    headers = {"text": "a\\b\"é\n", "integer": -5, "large": 2**63 - 1, "small": -2**63, "fraction": 0.1, "yes": True,
               "no": False, "nothing": None, "list": [1, "two", [3.5, None], {"four": 4}], "empty": {}, "none": [],
               "table": {"deep": {"deeper": ["x", {"y": "z"}]}}, "traceparent": "00-0af7-b7ad-01"}
    plain = {"traceparent": "00-0af7-b7ad-01", "tenant": "a b"}
    drive([{"id": 7, "exchange": "", "routing_key": queue, "body": "{\"a\": \"é\\\\\"}", "headers": headers,
            "ordering_key": "k-é", "type": "order.created", "app_id": "shop", "content_type": "application/json",
            "content_encoding": "utf-8", "correlation_id": "c1", "reply_to": "answers", "timestamp_s": 1700000000,
            "expiration_ms": 3600000, "priority": 9, "persistent": 0},
           {"id": 8, "exchange": "", "routing_key": queue, "headers": plain, "body": "plain"},
           {"id": 9, "exchange": "", "routing_key": queue}], "--url", stack.env["AMQP_URL"]).end()
    first, second, third = broker.take(queue, 3)
    assert first.headers == {**headers, "x-outbox-id": 7, "x-ordering-key": "k-é"}
    for name, value in headers.items():
        assert type(first.headers[name]) is type(value), name
    assert first.body == "{\"a\": \"é\\\\\"}".encode()
    p = first.properties
    assert (p.type, p.app_id, p.content_type, p.content_encoding) == ("order.created", "shop", "application/json", "utf-8")
    assert (p.correlation_id, p.reply_to, p.timestamp, p.expiration) == ("c1", "answers", 1700000000, "3600000")
    assert (p.priority, p.delivery_mode) == (9, 1)
    assert p.message_id == "00112233-4455-6677-8899-aabbccddeeff"
    assert second.headers == {**plain, "x-outbox-id": 8}
    assert third.body == b""
    assert third.headers == {"x-outbox-id": 9}
    assert third.properties.type is None and third.properties.expiration is None
    assert third.properties.priority is None and third.properties.delivery_mode == 2


def test_a_body_of_100_mib_passes_uncopied(stack, broker, drive):
    queue = broker.queue(kind="classic")
    size = 100 * 1024 * 1024
    driver = drive([{"exchange": "", "routing_key": queue, "body_size": size},
                    {"id": 2, "exchange": "", "routing_key": queue, "body": "next"}], "--url", stack.env["AMQP_URL"])
    end = driver.end(120)
    assert end["peak_kib"] < size // 1024 + 20 * 1024
    assert end["references"] == 1
    large, following = broker.take(queue, 2, timeout=60)
    pattern = bytes(ord("a") + i for i in range(23))
    assert large.body == (pattern * (size // 23 + 1))[:size]
    assert following.body == b"next"


def test_unroutable_messages_are_returned_each_with_its_ticket(stack, broker, drive):
    queue = broker.queue()
    nowhere = queue + "_nowhere"
    messages = [{"id": i, "exchange": "", "routing_key": nowhere if i % 3 == 0 else queue,
                 "headers": {"n": i, "l": [i]}, "body_size": 300000 if i % 30 == 0 else 10} for i in range(1, 301)]
    driver = drive(messages, "--url", stack.env["AMQP_URL"])
    driver.end()
    assert sorted(e["id"] for e in driver.events("returned")) == [i for i in range(1, 301) if i % 3 == 0]
    assert sorted(e["id"] for e in driver.events("confirmed")) == [i for i in range(1, 301) if i % 3 != 0]
    assert {e["amqp_code"] for e in driver.events("returned")} == {312}
    assert {e["text"] for e in driver.events("returned")} == {
        f"there is no queue '{nowhere}' (default exchange, 312 NO_ROUTE)"}
    assert len(broker.take(queue, 200)) == 200


def test_a_return_says_what_lacks_a_queue(stack, broker, drive):
    exchange = broker.exchange()
    driver = drive([{"exchange": exchange, "routing_key": "it's.nothing"}], "--url", stack.env["AMQP_URL"])
    driver.end()
    returned, = driver.events("returned")
    assert returned["text"] == f"no queue is bound for routing key 'it's.nothing' at exchange '{exchange}' (312 NO_ROUTE)"
    assert "bind a queue" in returned["remedy"]


def test_a_full_queue_nacks(stack, broker, drive):
    exchange = broker.exchange()
    broker.queue(exchange=exchange, kind="classic", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    driver = drive([{"exchange": exchange, "routing_key": "k", "body": "x", "count": 20}], "--url", stack.env["AMQP_URL"])
    driver.end()
    nacked = driver.events("nacked")
    assert len(nacked) >= 10
    assert len(nacked) + len(driver.events("confirmed")) == 20
    assert nacked[0]["text"] == f"a queue refused the message for routing key 'k' at exchange '{exchange}' (basic.nack)"
    assert "reject-publish" in nacked[0]["remedy"]


def test_nacks_lead_to_a_new_channel_and_nothing_is_published_twice(stack, broker, drive):
    """Half of the messages go to a queue that is full, the others arrive once and in order."""
    full = broker.queue("full", kind="classic", arguments={"x-max-length": 0, "x-overflow": "reject-publish"})
    queue = broker.queue()
    messages = [{"id": i, "exchange": "", "routing_key": full if i % 2 else queue} for i in range(1, 901)]
    driver = drive(messages, "--url", stack.env["AMQP_URL"], "--window", 10, "--heartbeat", 1)
    driver.end()
    assert len(driver.events("nacked")) == len(driver.events("confirmed")) == 450
    assert driver.names().count("up") == 1
    assert [m.headers["x-outbox-id"] for m in broker.take(queue, 450)] == list(range(2, 901, 2))


@pytest.mark.parametrize("name", ["no_such", "it's", "' in vhost '/", "é", "a\nb", "x" * 210])
def test_a_missing_exchange_is_named_and_the_channel_comes_back(stack, broker, drive, name):
    queue = broker.queue()
    driver = drive([{"id": 1, "exchange": "", "routing_key": queue, "body": "a"},
                    {"id": 2, "exchange": name, "routing_key": "x", "body": "b"},
                    {"id": 3, "exchange": "", "routing_key": queue, "body_size": 500000}],
                   "--url", stack.env["AMQP_URL"])
    driver.end()
    closed, = driver.events("channel_closed")
    assert closed["amqp_code"] == 404 and "declare the exchange" in closed["remedy"]
    assert [e["exchange"] for e in driver.events("named")] == [name]
    assert driver.names().count("up") == 2 and not driver.events("down")
    assert {e["id"] for e in driver.events("confirmed")} == {1, 3}


def test_a_name_that_the_broker_cuts_is_not_taken_for_one(stack, drive):
    driver = drive([{"exchange": "x" * 230, "routing_key": "x"}], "--url", stack.env["AMQP_URL"])
    driver.end()
    assert driver.events("channel_closed")[0]["amqp_code"] == 404
    assert [e["exchange"] for e in driver.events("named")] == [None]


@pytest.fixture
def user(stack):
    """A user who may log in and nothing else; user.allow(write, topic=(exchange, write)), user.url."""
    class User:
        name = "u_" + uuid.uuid4().hex[:8]
        url = f"amqp://{name}:secret@127.0.0.1:{stack.env['AMQP_PORT']}/%2f"

        def allow(self, write, topic=None):
            stack.rabbitmqctl("set_permissions", "-p", "/", self.name, "", write, "")
            if topic:
                stack.rabbitmqctl("set_topic_permissions", "-p", "/", self.name, topic[0], topic[1], ".*")

    stack.rabbitmqctl("add_user", User.name, "secret")
    yield User()
    stack.heal()
    stack.rabbitmqctl("delete_user", User.name)


def test_a_refused_exchange_is_named(stack, broker, drive, user):
    refused, allowed = broker.exchange("refused"), broker.exchange("allowed")
    queue = broker.queue(exchange=allowed)
    user.allow(allowed)
    driver = drive([{"id": 1, "exchange": refused, "routing_key": "k"},
                    {"id": 2, "exchange": "", "routing_key": queue},
                    {"id": 3, "exchange": "amq.default", "routing_key": queue},
                    {"id": 4, "exchange": allowed, "routing_key": "k"}], "--url", user.url)
    driver.end()
    assert {e["amqp_code"] for e in driver.events("channel_closed")} == {403}
    assert [e["exchange"] for e in driver.events("named")] == [refused, "", "amq.default"]
    assert f'"{user.name}"' in driver.events("channel_closed")[0]["remedy"]
    assert [e["id"] for e in driver.events("confirmed")] == [4]


def test_a_refused_topic_does_not_name_its_exchange(stack, broker, drive, user):
    exchange = broker.exchange()
    broker.queue(exchange=exchange)
    user.allow(".*", topic=(exchange, "^good$"))
    driver = drive([{"id": 1, "exchange": exchange, "routing_key": "bad"},
                    {"id": 2, "exchange": exchange, "routing_key": "good"}], "--url", user.url)
    driver.end()
    closed, = driver.events("channel_closed")
    assert closed["amqp_code"] == 403 and "set_topic_permissions" in closed["remedy"]
    assert [e["exchange"] for e in driver.events("named")] == [None]
    assert [e["id"] for e in driver.events("confirmed")] == [2]


def test_a_message_that_the_broker_cannot_take_names_nothing(stack, broker, drive):
    """406: the header CC has to be a list."""
    queue = broker.queue()
    driver = drive([{"id": 1, "exchange": "", "routing_key": queue, "headers": {"CC": "not a list"}},
                    {"id": 2, "exchange": "", "routing_key": queue}], "--url", stack.env["AMQP_URL"])
    driver.end()
    assert driver.events("channel_closed")[0]["amqp_code"] == 406
    assert [e["exchange"] for e in driver.events("named")] == [None]
    assert [e["id"] for e in driver.events("confirmed")] == [2]


def test_what_amqp_cannot_carry_is_named_and_nothing_else_suffers(stack, broker, drive):
    queue = broker.queue()
    to_queue = {"exchange": "", "routing_key": queue}
    driver = drive([{**to_queue, "id": 1, "headers": '{"n": 9223372036854775808}'}, {**to_queue, "id": 2},
                    {**to_queue, "id": 3, "type": "x" * 256}, {**to_queue, "id": 4}], "--url", stack.env["AMQP_URL"])
    driver.end()
    headers, kind = driver.events("unfit")
    assert "headers" in headers["text"] and "type: 256 bytes" in kind["text"]
    assert [e["id"] for e in driver.events("confirmed")] == [2, 4]


# ---- faults ---------------------------------------------------------------------------------------------


def test_the_second_url_when_the_first_is_dead(stack, broker, drive):
    driver = drive([{"exchange": "", "routing_key": broker.queue()}], "--url", "amqp://127.0.0.1:1",
                   "--url", stack.env["AMQP_URL"])
    driver.end()
    assert driver.names()[:2] == ["down", "up"]
    assert driver.events("down")[0]["retry_ms"] == 0


def test_the_broker_is_killed_and_started_again(stack, broker, drive):
    queue = broker.queue()
    driver = drive([{"exchange": "", "routing_key": queue, "body_size": 2000, "count": 150000}], "--url",
                   stack.env["AMQP_URL"])
    driver.wait("up")
    wait_until(lambda: broker.count(queue) > 0)
    stack.kill("rabbitmq")
    down = driver.wait("down")[0]
    assert down["code"] == 69
    stack.start("rabbitmq")
    assert driver.end(120)["settled"] == 150000
    assert len(driver.events("up")) == 2
    # What was confirmed before the kill is there; what was in flight may be twice.
    wait_until(lambda: broker.count(queue) >= 150000, 30)
    assert broker.count(queue) <= 160000


def test_an_operator_closes_the_connection(stack, broker, drive):
    queue = broker.queue()
    driver = drive([{"exchange": "", "routing_key": queue, "body_size": 2000, "count": 100000}], "--url",
                   stack.env["AMQP_URL"])
    driver.wait("up")
    stack.rabbitmqctl("close_all_connections", "for a test")
    down = driver.wait("down")[0]
    assert down["amqp_code"] == 320 and "for a test" in down["text"]
    assert driver.end()["settled"] == 100000


def test_a_stopped_broker_is_found_by_missing_heartbeats(stack, broker, drive):
    queue = broker.queue()
    driver = drive([{"exchange": "", "routing_key": queue, "body_size": 2000, "count": 150000}], "--url",
                   stack.env["AMQP_URL"], "--heartbeat", 1)
    driver.wait("up")
    stack.pause("rabbitmq")
    down = driver.wait("down")[0]
    assert "heartbeats" in down["text"]
    stack.resume("rabbitmq")
    assert driver.end()["settled"] == 150000


def test_an_idle_connection_is_kept_by_heartbeats(stack, broker, drive):
    """Blocked by an alarm for longer than three heartbeats, and nothing is lost or reconnected."""
    queue = broker.queue()
    driver = drive([{"exchange": "", "routing_key": queue, "body_size": 2000, "count": 100000}], "--url",
                   stack.env["AMQP_URL"], "--heartbeat", 1)
    driver.wait("up")
    stack.rabbitmqctl("set_vm_memory_high_watermark", "0.000001")
    try:
        driver.wait("blocked")
        # What must not happen has four heartbeats' time to happen.
        driver.reader.join(4)
        assert not driver.events("down")
    finally:
        stack.rabbitmqctl("set_vm_memory_high_watermark", "0.4")
    assert driver.end()["settled"] == 100000
    assert len(driver.events("up")) == 1 and len(driver.events("unblocked")) == 1


def test_a_connection_closed_over_what_was_published(stack, broker, drive):
    """541: a process of the broker's dies while messages are in flight; the culprit may be among them."""
    queue = broker.queue()
    driver = drive([{"exchange": "", "routing_key": queue, "body_size": 2000, "count": 100000}], "--url",
                   stack.env["AMQP_URL"])
    driver.wait("up")
    stack.rabbitmqctl("eval", "[exit(P, for_a_test) || P <- rabbit_channel:list_local()].")
    down = driver.wait("down")[0]
    closed, = driver.events("channel_closed")
    assert closed["amqp_code"] == down["amqp_code"] == 541
    assert [e["exchange"] for e in driver.events("named")] == [None]
    assert down["retry_ms"] <= 100
    assert driver.end()["settled"] == 100000


# ---- what the owner asks for ----------------------------------------------------------------------------


def test_a_closed_link_is_opened_again(stack, broker, drive):
    queue = broker.queue()
    driver = drive([{"exchange": "", "routing_key": queue, "body": "x", "count": 10}], "--url", stack.env["AMQP_URL"],
                   "--twice")
    driver.end()
    assert [name for name in driver.names() if name != "confirmed"] == ["up", "closed", "up", "closed", "end"]
    assert [e["fd"] for e in driver.events("closed")] == [-1, -1]
    assert len(driver.events("confirmed")) == 20
    assert [m.headers["x-outbox-id"] for m in broker.take(queue, 20)] == 2 * list(range(1, 11))


def test_a_reset_goes_on_at_the_next_url(stack, broker, drive):
    """At once and without a word; what was unsettled is published again."""
    queue = broker.queue()
    port = stack.env["AMQP_PORT"]
    driver = drive([{"exchange": "", "routing_key": queue, "body_size": 20000, "count": 3000}],
                   "--url", f"amqp://guest:guest@127.0.0.1:{port}", "--url", f"amqp://guest:guest@localhost:{port}",
                   "--reset")
    driver.end()
    assert not driver.events("down") and not driver.events("channel_closed")
    first, second = (e["peer"] for e in driver.events("up"))
    assert "127.0.0.1" in first and "localhost" in second
    assert {m.headers["x-outbox-id"] for m in broker.take(queue, broker.count(queue))} == set(range(1, 3001))
