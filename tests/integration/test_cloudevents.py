"""publish.cloudevents: every message is a CloudEvent in binary mode, whichever way it takes, and none is when it is off."""

import pytest

from conftest import wait_until

BINARY = {"publish": {"cloudevents": "binary", "cloudevents_source": "/shop/orders"}, "retry": {"initial": "50ms", "max": "50ms"}}
WRITE = """
    INSERT INTO outbox.message (exchange, routing_key, payload_json, type, ordering_key, headers, created_at)
    VALUES (%s, %s, '{"order": 1}', %s, %s, %s, '2026-11-21 05:32:06.984675+00') RETURNING message_id::text"""


def attributes(message):
    """Those of a CloudEvent as a reader of the binding takes them from headers and properties."""
    found = {key[len("cloudEvents_"):]: value for key, value in message.headers.items() if key.startswith(("cloudEvents_", "cloudEvents:"))}
    return {**found, "datacontenttype": message.properties.content_type}


def write(database, exchange, routing_key="order.eu.created", type="order.created", key=None, headers=None):
    return database.value(WRITE, [exchange, routing_key, type, key, headers])


def event(message_id, **more):
    return {"specversion": "1.0", "id": message_id, "source": "/shop/orders", "type": "order.created",
            "time": "2026-11-21T05:32:06Z", "datacontenttype": "application/json", **more}


def test_every_message_is_an_event_and_says_itself_what_it_likes(database, broker, relay):
    queue = broker.queue(exchange=(exchange := broker.exchange()))
    plain = write(database, exchange)
    keyed = write(database, exchange, key="customer-7", headers='{"traceparent": "00-1", "n": {"deep": [1]}}')
    nameless = write(database, exchange, type=None)
    own = write(database, exchange, headers='{"cloudEvents_source": "/returns", "cloudEvents:subject": "order/17", "tenant": "a"}')
    running = relay(config=BINARY)
    found = {message.message_id: message for message in broker.take(queue, 4)}
    assert attributes(found[plain]) == event(plain)
    assert attributes(found[keyed]) == event(keyed, partitionkey="customer-7")
    assert attributes(found[nameless]) == event(nameless, type="order.eu.created")
    assert attributes(found[own]) == event(own, source="/returns", subject="order/17")
    # Nothing else has changed.
    assert found[keyed].headers["traceparent"] == "00-1" and found[keyed].headers["n"] == {"deep": [1]}
    assert found[keyed].headers["x-ordering-key"] == "customer-7" and found[own].headers["tenant"] == "a"
    assert found[plain].body == b'{"order": 1}' and found[plain].properties.type == "order.created"
    assert running.stop() == 0


def test_it_stays_the_same_event_when_tried_again_scheduled_or_replayed(database, broker, relay):
    exchange = broker.exchange()
    again = write(database, exchange, key="k")
    running = relay(config=BINARY)
    running.wait_log("message_delayed")
    queue = broker.queue(exchange=exchange)
    [first] = broker.take(queue, 1)
    assert attributes(first) == event(again, partitionkey="k")
    scheduled = database.value("SELECT outbox.publish(%s, 'k', '{}'::json, type => 'late', deliver_at => clock_timestamp())", [exchange])
    [late] = broker.take(queue, 1)
    assert attributes(late)["id"] == scheduled and attributes(late)["type"] == "late"
    wait_until(lambda: database.query("SELECT pending, delayed FROM outbox.backlog()") == [(0, 0)], what="an empty backlog")
    nameless = write(database, exchange, type=None, key="k")
    broker.take(queue, 1)
    wait_until(lambda: database.query("SELECT pending, delayed FROM outbox.backlog()") == [(0, 0)], what="an empty backlog")
    alone = broker.queue("alone")
    for target in (["--to-queue", alone], []):
        done = relay.command("replay", "--all", "--yes", *target, config=None,
                             env={"OUTBOX_RELAY_POSTGRES_DSN": database.dsn("owner")})
        assert done.returncode == 0, done.stderr
        copies = {message.message_id: message for message in broker.take(alone if target else queue, 2)}
        assert attributes(copies[again]) == event(again, partitionkey="k")
        assert attributes(copies[nameless]) == event(nameless, type="order.eu.created", partitionkey="k")
        assert copies[nameless].headers["x-replayed"] is True
    assert running.stop() == 0


@pytest.mark.parametrize("config", [{}, {"publish": {"cloudevents": "off", "cloudevents_source": "/s"}}])
def test_no_message_is_one_when_it_is_off(database, broker, relay, config):
    queue = broker.queue(exchange=(exchange := broker.exchange()))
    write(database, exchange, key="k")
    running = relay(config=config)
    [message] = broker.take(queue, 1)
    assert set(message.headers) == {"x-outbox-id", "x-ordering-key"}
    assert running.stop() == 0


@pytest.mark.parametrize("source", ["", "with space", "ü", "x" * 256])
def test_a_source_that_is_no_uri_is_refused(relay, source):
    done = relay.command("check", config={"publish": {"cloudevents": "binary", "cloudevents_source": source}})
    assert done.returncode == 78 and "publish.cloudevents_source" in done.stderr and "percent-encoded" in done.stderr
