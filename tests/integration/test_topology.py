"""topology check and apply: what the configuration declares, against a real broker."""

import uuid

import pika
import pytest

FOUND, USAGE, UNREACHABLE = 1, 64, 69


@pytest.fixture
def names(broker):
    """Of an exchange, a queue and another exchange; deleted afterwards."""
    prefix = "t_" + uuid.uuid4().hex[:8]
    names = type("Names", (), {"exchange": f"{prefix}_events", "queue": f"{prefix}_billing", "audit": f"{prefix}_audit"})
    broker.queues.append(names.queue)
    broker.exchanges += [names.exchange, names.audit]
    return names


def declared(names, queue=None, exchange=None):
    return {"topology": {
        "exchanges": [{"name": names.exchange, **(exchange or {})}, {"name": names.audit, "type": "fanout"}],
        "queues": [{"name": names.queue, "arguments": {"x-max-length": 100, "x-overflow": "reject-publish"}, **(queue or {})}],
        "bindings": [{"exchange": names.exchange, "queue": names.queue, "routing_key": "order.#"},
                     {"exchange": names.exchange, "to_exchange": names.audit, "routing_key": "#"}]}}


def exists(broker, names):
    """Which of the two are there."""
    found = []
    for name, ask in ((names.exchange, "exchange_declare"), (names.queue, "queue_declare")):
        try:
            getattr(broker.channel(), ask)(name, passive=True)
            found.append(name)
        except pika.exceptions.ChannelClosedByBroker:
            pass
    return found


def lines(done):
    return [line.split(None, 1) for line in done.stdout.splitlines()]


def test_check_changes_nothing_and_apply_makes_what_is_missing(stack, broker, relay, names):
    config = declared(names)
    for arguments in ("check",), ("apply", "--dry-run"):
        done = relay.command("topology", *arguments, config=config)
        assert [line[0] for line in lines(done)] == ["missing"] * 5, done.stdout
        assert done.returncode == (FOUND if arguments == ("check",) else 0)
    assert exists(broker, names) == []

    done = relay.command("topology", "apply", config=config)
    assert done.returncode == 0, done
    assert lines(done) == [["declared", f"exchange {names.exchange}"], ["declared", f"exchange {names.audit}"],
                           ["declared", f"queue {names.queue}"],
                           ["bound", f'binding {names.exchange} -> {names.queue} "order.#"'],
                           ["bound", f'binding {names.exchange} -> {names.audit} "#"']]
    # It routes: through the binding, and not past it.
    channel = broker.channel()
    channel.confirm_delivery()
    channel.basic_publish(names.exchange, "order.paid", b"x", mandatory=True)
    with pytest.raises(pika.exceptions.UnroutableError):
        channel.basic_publish(names.exchange, "other", b"x", mandatory=True)
    assert broker.count(names.queue) == 1

    # Again it finds all there, changes nothing and loses nothing.
    done = relay.command("topology", "apply", config=config)
    assert done.returncode == 0 and [line[0] for line in lines(done)] == ["ok"] * 3 + ["bound"] * 2
    done = relay.command("topology", "check", config=config)
    assert done.returncode == 0 and [line[0] for line in lines(done)] == ["ok"] * 3 + ["unknown"] * 2
    assert "AMQP does not tell" in done.stdout
    assert broker.count(names.queue) == 1


def test_what_differs_is_named_and_left_alone(stack, broker, relay, names):
    assert relay.command("topology", "apply", config=declared(names)).returncode == 0
    config = declared(names, queue={"arguments": {"x-max-length": 7}}, exchange={"type": "direct"})
    for arguments in ("check",), ("apply", "--dry-run"), ("apply",):
        done = relay.command("topology", *arguments, config=config)
        assert done.returncode == FOUND
        differs = [line for line in done.stdout.splitlines() if line.startswith("differs")]
        assert len(differs) == 2
        assert names.exchange in differs[0] and "406 PRECONDITION_FAILED" in differs[0] and "'topic'" in differs[0]
        assert "x-max-length" in differs[1]
        assert done.stdout.count("  remedy: it cannot be changed: declare at ") == 2
    assert relay.command("topology", "check", config=declared(names)).returncode == 0


def test_a_user_that_may_only_write_is_told_what_it_cannot_see(stack, broker, relay, names):
    assert relay.command("topology", "apply", config=declared(names)).returncode == 0
    user = "u_" + uuid.uuid4().hex[:8]
    stack.rabbitmqctl("add_user", user, "secret")
    stack.rabbitmqctl("set_permissions", "-p", "/", user, "", ".*", "")
    try:
        config = {**declared(names), "rabbitmq": {"urls": [f"amqp://{user}:secret@127.0.0.1:{stack.env['AMQP_PORT']}/%2f"]}}
        done = relay.command("topology", "check", config=config)
        assert done.returncode == 0 and [line[0] for line in lines(done)] == ["unknown"] * 5
        assert "403 ACCESS_REFUSED" in done.stdout
        done = relay.command("topology", "apply", config=config)
        assert done.returncode == FOUND and "FAILED" in done.stdout
        assert f"set_permissions -p \"/\" \"{user}\"" in done.stdout
        assert "secret" not in done.stdout + done.stderr
    finally:
        stack.rabbitmqctl("delete_user", user)


def test_a_binding_to_what_is_not_there(stack, relay, names):
    config = {"topology": {"exchanges": [{"name": names.exchange}],
                           "bindings": [{"exchange": names.exchange, "queue": names.queue}]}}
    done = relay.command("topology", "apply", config=config)
    assert done.returncode == FOUND
    assert lines(done)[0][0] == "declared" and lines(done)[1][0] == "FAILED" and "404 NOT_FOUND" in done.stdout


def test_words_and_servers(stack, relay, names):
    assert relay.command("topology", "frobnicate").returncode == USAGE
    assert relay.command("topology", "check", "--dry-run").returncode == USAGE
    done = relay.command("topology", "check")
    assert done.returncode == 0 and "declares nothing" in done.stderr
    done = relay.command("topology", "check", config={**declared(names), "rabbitmq": {"urls": ["amqp://127.0.0.1:1/%2f"]}})
    assert done.returncode == UNREACHABLE and "127.0.0.1:1" in done.stderr
    # The next url is tried.
    done = relay.command("topology", "check", config={**declared(names), "rabbitmq": {
        "urls": ["amqp://127.0.0.1:1/%2f", stack.env["AMQP_URL"]]}})
    assert done.returncode == FOUND and "missing" in done.stdout
