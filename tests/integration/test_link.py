"""The link against a real RabbitMQ, driven by link_driver.c; what arrives is read by pika."""

import json
import os
import pathlib
import socket
import subprocess
import threading
import uuid

import pika
import pytest

from conftest import ROOT, die_with_parent, wait_until

BUILD = pathlib.Path(os.environ.get("BUILD", ROOT / "build"))
TLS_ERROR = 78


@pytest.fixture(scope="session")
def driver_binary():
    target = BUILD / "tests/integration/link_driver"
    subprocess.run(["make", "-s", f"BUILD={BUILD}", str(target)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return target


class Driver:
    """One running driver; its events as they come."""

    def __init__(self, binary, messages, arguments):
        self.process = subprocess.Popen([binary, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, preexec_fn=die_with_parent)
        self.seen = []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        for message in messages:
            headers = message.get("headers")
            if isinstance(headers, dict):
                message = {**message, "headers": json.dumps(headers)}
            self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.close()

    def read(self):
        for line in self.process.stdout:
            self.seen.append(json.loads(line))

    def events(self, name):
        return [event for event in list(self.seen) if event["event"] == name]

    def wait(self, name, count=1, timeout=20):
        return wait_until(lambda: len(self.events(name)) >= count and self.events(name), timeout, name)

    def end(self, timeout=60):
        """All messages are settled; the end event."""
        code = self.process.wait(timeout)
        self.reader.join()
        assert code == 0, self.seen
        return self.events("end")[0]

    def names(self):
        return [event["event"] for event in self.seen]


@pytest.fixture
def drive(driver_binary):
    drivers = []

    def start(messages, *arguments):
        drivers.append(Driver(driver_binary, messages, arguments))
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.process.kill()
        driver.process.wait()


def why_down(drive, *arguments):
    driver = drive([{"exchange": "", "routing_key": "x", "body": "x"}], *arguments, "--exit-on-down")
    driver.process.wait(30)
    driver.reader.join()
    event, = [event for event in driver.seen if event["event"] in ("down", "refused")]
    return event


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


# ---- login ----------------------------------------------------------------------------------------------


def test_a_wrong_password_is_a_matter_of_permission(stack, drive):
    event = why_down(drive, "--url", f"amqp://guest:wrong@127.0.0.1:{stack.env['AMQP_PORT']}")
    assert event["code"] == 77 and event["amqp_code"] == 403
    assert "ACCESS_REFUSED" in event["text"] and "password" in event["remedy"]
    assert "wrong" not in event["text"] + event["remedy"]


def test_a_wrong_vhost_is_named(stack, drive):
    event = why_down(drive, "--url", f"amqp://127.0.0.1:{stack.env['AMQP_PORT']}/no%20such")
    assert event["code"] == 78 and event["amqp_code"] == 530
    assert "no such" in event["text"] and "add_vhost" in event["remedy"]


def test_the_password_file_beats_the_url(stack, broker, drive, tmp_path):
    password = tmp_path / "password"
    url = f"amqp://guest:wrong@127.0.0.1:{stack.env['AMQP_PORT']}"
    password.write_text("guest\n")
    driver = drive([{"exchange": "", "routing_key": broker.queue()}], "--url", url, "--password-file", password)
    driver.end()
    event = why_down(drive, "--url", url, "--password-file", tmp_path / "missing")
    assert event["code"] == 78 and "missing" in event["text"]


def test_the_password_file_is_read_at_each_attempt(stack, broker, drive, tmp_path):
    password = tmp_path / "password"
    password.write_text("old")
    driver = drive([{"exchange": "", "routing_key": broker.queue()}], "--url",
                   f"amqp://guest@127.0.0.1:{stack.env['AMQP_PORT']}", "--password-file", password)
    driver.wait("down", 2)
    password.write_text("guest")
    driver.end()


def test_a_dead_port_is_unreachable(stack, drive):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        event = why_down(drive, "--url", f"amqp://127.0.0.1:{unused.getsockname()[1]}")
    assert event["code"] == 69 and "refused" in event["text"]


def test_a_silent_server_times_out(stack, drive):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        event = why_down(drive, "--url", f"amqp://127.0.0.1:{silent.getsockname()[1]}?connection_timeout=300")
    assert event["code"] == 69 and "in time" in event["text"]


@pytest.mark.parametrize("answer, says", [(b"HTTP/1.1 400 Bad Request\r\n", "HTTP"), (b"AMQP\0\1\0\0", "0-9-1"),
                                          (b"\x01\0\0\0\0\0\4\0\x0a\0\x0a\0", "not AMQP"), (b"", "before it spoke")])
def test_a_server_that_is_no_broker(stack, drive, answer, says):
    with socket.create_server(("127.0.0.1", 0)) as server:
        def serve():
            connection, _ = server.accept()
            connection.recv(8)
            connection.sendall(answer)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(100):
                pass

        threading.Thread(target=serve, daemon=True).start()
        event = why_down(drive, "--url", f"amqp://127.0.0.1:{server.getsockname()[1]}")
    assert says in event["text"], event


class Puppet:
    """A broker that says what a test makes it say, on one connection."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"amqp://127.0.0.1:{self.listener.getsockname()[1]}?connection_timeout=500"
        self.got = b""

    def say(self, channel, *methods):
        for method in methods:
            self.connection.sendall(pika.frame.Method(channel, method).marshal())

    def next_method(self):
        while True:
            used, frame = pika.frame.decode_frame(self.got)
            self.got = self.got[used:]
            if frame is None:
                received = self.connection.recv(65536)
                assert received, "closed"
                self.got += received
            elif isinstance(frame, pika.frame.Method):
                return frame.method

    def hear(self, method):
        """Read up to a method of this class."""
        while not isinstance(self.next_method(), method):
            pass

    def login(self):
        self.connection, _ = self.listener.accept()
        self.connection.settimeout(10)
        assert self.connection.recv(8, socket.MSG_WAITALL) == b"AMQP\0\0\x09\x01"
        spec = pika.spec
        self.say(0, spec.Connection.Start(0, 9, {}, "PLAIN", "en_US"))
        self.hear(spec.Connection.StartOk)
        self.say(0, spec.Connection.Tune(2047, 131072, 0))
        self.hear(spec.Connection.Open)
        self.say(0, spec.Connection.OpenOk())
        self.open_channel()

    def open_channel(self):
        self.hear(pika.spec.Channel.Open)
        self.say(1, pika.spec.Channel.OpenOk())
        self.hear(pika.spec.Confirm.Select)
        self.say(1, pika.spec.Confirm.SelectOk())


@pytest.fixture
def puppet():
    puppet = Puppet()
    yield puppet
    puppet.listener.close()


def test_a_blocked_broker_may_take_its_time_to_open_a_channel(puppet, drive):
    """It reads nothing during an alarm; never a reason to connect again."""
    driver = drive([{"exchange": "", "routing_key": "x"}, {"id": 2, "exchange": "", "routing_key": "y"}],
                   "--url", puppet.url, "--heartbeat", 0)
    puppet.login()
    puppet.hear(pika.spec.Basic.Publish)
    puppet.say(0, pika.spec.Connection.Blocked("low on memory"))
    puppet.say(1, pika.spec.Channel.Close(406, "PRECONDITION_FAILED - for a test", 60, 40))
    puppet.hear(pika.spec.Channel.CloseOk)
    puppet.hear(pika.spec.Channel.Open)
    # Twice what it would be given otherwise.
    driver.reader.join(1.3)
    assert driver.names() == ["up", "blocked", "channel_closed", "named"]
    puppet.say(0, pika.spec.Connection.Unblocked())
    puppet.say(1, pika.spec.Channel.OpenOk())
    puppet.hear(pika.spec.Confirm.Select)
    puppet.say(1, pika.spec.Confirm.SelectOk())
    puppet.hear(pika.spec.Basic.Publish)
    puppet.say(1, pika.spec.Basic.Ack(1))
    puppet.hear(pika.spec.Connection.Close)
    puppet.say(0, pika.spec.Connection.CloseOk())
    driver.end()
    assert not driver.events("down")


def test_a_broker_that_does_not_open_a_channel_again_is_left(puppet, drive):
    driver = drive([{"exchange": "", "routing_key": "x"}, {"id": 2, "exchange": "", "routing_key": "y"}],
                   "--url", puppet.url, "--heartbeat", 0, "--exit-on-down")
    puppet.login()
    puppet.hear(pika.spec.Basic.Publish)
    puppet.say(1, pika.spec.Channel.Close(406, "PRECONDITION_FAILED - for a test", 60, 40))
    puppet.hear(pika.spec.Channel.Open)
    assert "in time" in driver.wait("down", timeout=5)[0]["text"]


def test_a_nack_leads_to_a_new_channel_once_all_is_settled(puppet, drive):
    spec = pika.spec
    # As many as a window of 1 lets through at once, and some more.
    driver = drive([{"exchange": "", "routing_key": "x", "count": 64 + 6}], "--url", puppet.url, "--heartbeat", 0,
                   "--window", 1)
    puppet.login()
    for _ in range(64):
        puppet.hear(spec.Basic.Publish)
    puppet.say(1, spec.Basic.Nack(1))
    driver.wait("nacked")
    # There is room for one, and it is not used.
    puppet.say(1, spec.Basic.Ack(64, multiple=True))
    assert isinstance(puppet.next_method(), spec.Channel.Close)
    assert len(driver.wait("confirmed", 63)) == 63
    puppet.say(1, spec.Channel.CloseOk())
    puppet.open_channel()
    for _ in range(6):
        assert isinstance(puppet.next_method(), spec.Basic.Publish)
    puppet.say(1, spec.Basic.Ack(6, multiple=True))
    puppet.hear(spec.Connection.Close)
    puppet.say(0, spec.Connection.CloseOk())
    driver.end()
    assert driver.names().count("up") == 1 and not driver.events("down")


def test_a_nack_among_what_is_never_confirmed_stops_nothing(puppet, drive):
    """The channel is kept when the wait takes too long."""
    spec = pika.spec
    driver = drive([{"exchange": "", "routing_key": "x", "count": 64 + 2}], "--url", puppet.url, "--heartbeat", 0,
                   "--window", 1)
    puppet.login()
    for _ in range(64):
        puppet.hear(spec.Basic.Publish)
    puppet.say(1, spec.Basic.Nack(1), spec.Basic.Ack(2))
    for _ in range(2):
        assert isinstance(puppet.next_method(), spec.Basic.Publish)
    puppet.say(1, spec.Basic.Ack(66, multiple=True))
    puppet.hear(spec.Connection.Close)
    puppet.say(0, spec.Connection.CloseOk())
    driver.end()


# ---- TLS ------------------------------------------------------------------------------------------------


def amqps(stack, host="localhost"):
    return f"amqps://guest:guest@{host}:{stack.env['AMQPS_PORT']}"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_amqps_with_the_right_ca(stack, broker, drive, host):
    queue = broker.queue()
    driver = drive([{"exchange": "", "routing_key": queue, "body": "x", "count": 5000},
                    {"id": 5001, "exchange": "", "routing_key": queue, "body_size": 3000000}],
                   "--url", amqps(stack, host), "--ca-file", stack.env["TLS_CA_FILE"])
    driver.end()
    taken = broker.take(queue, 5001)
    assert [m.headers["x-outbox-id"] for m in taken] == list(range(1, 5002))
    assert len(taken[-1].body) == 3000000


@pytest.mark.parametrize("ca", [None, "other-ca.pem"])
def test_amqps_with_a_wrong_ca(stack, drive, ca):
    more = [] if ca is None else ["--ca-file", f"{stack.env['TLS_DIR']}/{ca}"]
    event = why_down(drive, "--url", amqps(stack), *more)
    assert event["code"] == TLS_ERROR and "certificate" in event["text"] and "ca_file" in event["remedy"]


def test_amqps_to_another_name(stack, drive):
    event = why_down(drive, "--url", amqps(stack), "--ca-file", stack.env["TLS_CA_FILE"], "--server-name", "other.example")
    assert event["code"] == TLS_ERROR and "other.example" in event["text"] and "server_name" in event["remedy"]
    event = why_down(drive, "--url", amqps(stack), "--ca-file", stack.env["TLS_CA_FILE"], "--server-name", "192.0.2.1")
    assert event["code"] == TLS_ERROR and "192.0.2.1" in event["text"]


def test_plain_to_the_tls_port_and_tls_to_the_plain_one(stack, drive):
    event = why_down(drive, "--url", f"amqp://127.0.0.1:{stack.env['AMQPS_PORT']}")
    assert event["code"] == TLS_ERROR and "amqps://" in event["remedy"]
    event = why_down(drive, "--url", f"amqps://127.0.0.1:{stack.env['AMQP_PORT']}")
    assert event["code"] == TLS_ERROR and "plain AMQP" in event["remedy"]


def test_client_certificates(stack, broker, drive):
    directory = stack.env["TLS_DIR"]
    driver = drive([{"exchange": "", "routing_key": broker.queue()}], "--url", amqps(stack), "--ca-file",
                   stack.env["TLS_CA_FILE"], "--cert-file", f"{directory}/client.pem", "--key-file",
                   f"{directory}/client.key")
    driver.end()
    event = why_down(drive, "--url", amqps(stack), "--cert-file", f"{directory}/client.pem", "--key-file",
                     f"{directory}/server.key")
    assert event["event"] == "refused" and event["code"] == TLS_ERROR and "key_file" in event["text"]


@pytest.fixture(scope="module")
def external(session_stack):
    """The broker knows the user "client", whom no password lets in."""
    stack = session_stack
    stack.rabbitmqctl("add_user", "client", "")
    stack.rabbitmqctl("clear_password", "client")
    stack.rabbitmqctl("set_permissions", "-p", "/", "client", "", ".*", "")
    yield ["--external", "--url", f"amqps://localhost:{stack.env['AMQPS_PORT']}", "--ca-file", stack.env["TLS_CA_FILE"]]
    stack.heal()
    stack.rabbitmqctl("delete_user", "client")


def certificate(stack, name):
    return "--cert-file", f"{stack.env['TLS_DIR']}/{name}.pem", "--key-file", f"{stack.env['TLS_DIR']}/{name}.key"


def test_the_client_certificate_says_who_we_are(stack, broker, drive, external):
    queue = broker.queue()
    drive([{"exchange": "", "routing_key": queue, "body": "hello"}], *external, *certificate(stack, "client")).end()
    assert broker.take(queue, 1)[0].body == b"hello"


def test_a_client_certificate_that_the_broker_refuses(stack, drive, external):
    event = why_down(drive, *external, *certificate(stack, "other-ca"))
    assert event["code"] == TLS_ERROR and "alert" in event["text"] and "cert_file" in event["remedy"]
    event = why_down(drive, *external)
    assert event["code"] == 77 and "EXTERNAL" in event["text"] and "client certificate" in event["remedy"]
    event = why_down(drive, "--external", "--url", f"amqp://127.0.0.1:{stack.env['AMQP_PORT']}")
    assert event["code"] == TLS_ERROR and "does not offer" in event["text"] and "amqps://" in event["remedy"]


def test_a_renewed_client_certificate_is_taken_at_the_next_attempt(stack, broker, drive, external, tmp_path):
    for kind in ("pem", "key"):
        (tmp_path / f"mine.{kind}").write_text(pathlib.Path(stack.env["TLS_DIR"], f"other-ca.{kind}").read_text())
    driver = drive([{"exchange": "", "routing_key": broker.queue()}], *external, "--cert-file", tmp_path / "mine.pem",
                   "--key-file", tmp_path / "mine.key")
    driver.wait("down", 2)
    for kind in ("pem", "key"):
        (tmp_path / f"mine.{kind}").write_text(pathlib.Path(stack.env["TLS_DIR"], f"client.{kind}").read_text())
    driver.end()


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
