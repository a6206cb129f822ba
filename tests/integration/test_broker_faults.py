"""RabbitMQ and TLS fail under a running relay: it says what is wrong and what helps, waits, and goes on by itself."""

import calendar
import pathlib
import re
import socket
import time
import uuid

import pytest

from conftest import wait_until
from manager import manager  # noqa: F401 (a fixture)
from trickle import Trickle

PERMISSION, CONFIGURATION = 77, 78


@pytest.fixture
def write(database):
    writers = []

    def start(queue):
        writers.append(Trickle(database, queue))
        return writers[-1]

    yield start
    for writer in writers:
        writer.stop()


def queued(database, queue, text="x"):
    database.query("SELECT outbox.publish('', %s, %s)", [queue, text], role="writer")


# ---- who may --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def user(session_stack):
    """May publish anywhere in "/"; user.url has no password."""
    stack = session_stack

    class User:
        name = "u_" + uuid.uuid4().hex[:8]
        url = f"amqp://{name}@127.0.0.1:{stack.env['AMQP_PORT']}/%2f"
        password = "first"

        def permit(self):
            stack.rabbitmqctl("set_permissions", "-p", "/", self.name, "", ".*", "")

        def change_password(self, password):
            stack.rabbitmqctl("change_password", self.name, password)
            self.password = password

        def disconnect(self):
            stack.rabbitmqctl("close_all_user_connections", self.name, "for a test")

    user = User()
    stack.rabbitmqctl("add_user", user.name, user.password)
    user.permit()
    yield user
    stack.heal()
    stack.rabbitmqctl("delete_user", user.name)


def test_a_password_is_changed_under_a_running_relay(stack, database, broker, relay, user, tmp_path):
    password = tmp_path / "password"
    password.write_text(user.password + "\n")
    password.chmod(0o600)
    running = relay(config={"rabbitmq": {"urls": [user.url], "password_file": str(password)}})
    running.wait_log("broker_connected")
    user.change_password("second")
    user.disconnect()
    lost = running.wait_log("broker_lost", 20)
    assert "320" in lost["error"] or "403" in lost["error"]
    queue = broker.queue()
    queued(database, queue)
    password.write_text("second\n")
    running.wait_log("broker_connected", 20, count=2)
    broker.take(queue, 1)
    assert "first" not in running.stderr() and "second" not in running.stderr()
    assert running.stop() == 0


def test_a_permission_is_withdrawn_and_granted_again(stack, database, broker, relay, user, manager):
    running = relay(config={"rabbitmq": {"urls": [user.url.replace("@", f":{user.password}@")]}}, env=manager.env)
    running.wait_log("broker_connected")
    stack.rabbitmqctl("clear_permissions", "-p", "/", user.name)
    user.disconnect()
    # It had been well: no reason to give up, as it would be at the start.
    manager.wait(f"530 NOT_ALLOWED - access to vhost '/' refused for user '{user.name}'")
    queue = broker.queue()
    queued(database, queue)
    user.permit()
    running.wait_log("broker_connected", 20, count=2)
    broker.take(queue, 1)
    assert running.stop() == 0


def test_out_of_connections(stack, database, broker, relay, user):
    """Whoever holds them may leave at any time: not a reason to give up, even at the start."""
    queue = broker.queue()
    queued(database, queue)
    stack.rabbitmqctl("set_user_limits", user.name, '{"max-connections": 0}')
    running = relay(config={"rabbitmq": {"urls": [user.url.replace("@", f":{user.password}@")]}})
    lost = running.wait_log("broker_lost")
    assert "connection limit (0) is reached" in lost["error"] and "set_user_limits" in lost["remedy"]
    stack.rabbitmqctl("clear_user_limits", user.name, "all")
    running.wait_log("broker_connected", 20)
    broker.take(queue, 1)
    assert running.stop() == 0


# ---- TLS ------------------------------------------------------------------------------------------------


@pytest.fixture
def server_certificate(stack):
    """Puts one of the certificates in place of the broker's, as a renewal would; server_certificate("expired")."""
    directory = pathlib.Path(stack.env["TLS_DIR"])
    kept = {kind: (directory / f"server.{kind}").read_bytes() for kind in ("pem", "key")}

    def install(contents):
        for kind, content in contents.items():
            (directory / f"server.{kind}").write_bytes(content)
        # Read again at once, not when its memory of files is two minutes old.
        stack.rabbitmqctl("eval", "ssl:clear_pem_cache().")

    yield lambda name: install({kind: (directory / f"{name}.{kind}").read_bytes() for kind in kept}
                               if name != "server" else kept)
    stack.heal()
    install(kept)


def over_tls(stack):
    return {"rabbitmq": {"urls": [stack.env["AMQPS_URL"]], "tls": {"ca_file": stack.env["TLS_CA_FILE"]}}}


def test_a_certificate_expires_and_is_renewed_under_a_running_relay(stack, database, broker, relay, server_certificate,
                                                                   manager):
    running = relay(config=over_tls(stack), env=manager.env)
    running.wait_log("broker_connected")
    server_certificate("expired")
    stack.rabbitmqctl("close_all_connections", "for a test")
    manager.wait("certificate has expired")
    queue = broker.queue()
    queued(database, queue)
    # Somebody renews it, for the wrong host first.
    server_certificate("wronghost")
    manager.wait('not for "localhost"')
    server_certificate("server")
    running.wait_log("broker_connected", 30, count=2)
    broker.take(queue, 1)
    assert running.stop() == 0


def test_a_client_certificate_alone_lets_the_relay_in(stack, database, broker, relay):
    """auth: external.  Without such a user the remedy is named; then somebody creates it."""
    queue = broker.queue()
    queued(database, queue)
    config = over_tls(stack)
    config["rabbitmq"]["auth"] = "external"
    for key, kind in (("cert_file", "pem"), ("key_file", "key")):
        config["rabbitmq"]["tls"][key] = f"{stack.env['TLS_DIR']}/client.{kind}"
    refused = relay(config=config)
    assert refused.wait() == PERMISSION
    line = refused.log(level="error")[-1]
    assert "EXTERNAL" in line["error"] and "client certificate" in line["remedy"]
    stack.rabbitmqctl("add_user", "client", "")
    try:
        stack.rabbitmqctl("set_permissions", "-p", "/", "client", "", ".*", "")
        running = relay(config=config)
        broker.take(queue, 1)
        assert running.stop() == 0
    finally:
        stack.rabbitmqctl("delete_user", "client")


@pytest.mark.parametrize("name, text, remedy", [("expired", "certificate has expired", "renew the broker's certificate"),
                                                ("wronghost", 'not for "localhost"', "rabbitmq.tls.server_name")])
def test_a_certificate_that_is_no_good_at_the_start(stack, database, relay, server_certificate, name, text, remedy):
    server_certificate(name)
    running = relay(config=over_tls(stack))
    assert running.wait() == CONFIGURATION
    line = [line for line in running.log() if line.get("level") == "error"][-1]
    assert text in line["error"] and remedy in line["remedy"]


# ---- alarms ---------------------------------------------------------------------------------------------

ALARMS = {
    "memory": (("set_vm_memory_high_watermark", "0.000001"), ("set_vm_memory_high_watermark", "0.4")),
    "disk": (("set_disk_free_limit", "100000GB"), ("set_disk_free_limit", "50MB")),
}


@pytest.mark.parametrize("kind", ALARMS)
def test_an_alarm_while_publishing_is_reported_at_once_and_waited_for(stack, database, broker, relay, write, manager, kind):
    """Within 1 s in the log and to the service manager, and never a reason to connect again."""
    queue = broker.queue()
    running = relay(config={"rabbitmq": {"heartbeat": "1s"}}, env=manager.env)
    running.wait_log("broker_connected")
    writer = write(queue)
    writer.collect(broker, 20)
    alarm, clear = ALARMS[kind]
    log = pathlib.Path(stack.env["RABBITMQ_LOG"])
    logged = log.stat().st_size
    try:
        stack.rabbitmqctl(*alarm)
        blocked = running.wait_log("broker_blocked")
        at, _ = manager.wait("blocked by the broker")
        raised = wait_until(lambda: re.search(rf"^(\S+ \S+) \[warning\].*{kind} resource limit alarm set",
                                              log.read_bytes()[logged:].decode(), re.M))
        assert time_of(blocked) - stamp(raised[1]) < 1
        assert at - stamp(raised[1]) < 1
        # More heartbeats than a connection survives without.
        before = writer.count
        wait_until(lambda: time.time() - at > 3.5, 10)
        assert writer.count > before and running.alive()
    finally:
        stack.rabbitmqctl(*clear)
    running.wait_log("broker_unblocked", 20)
    writer.judge(broker)
    assert manager.last().startswith("publishing")
    assert len(running.log("broker_connected")) == 1 and not running.log("broker_lost")
    assert running.stop() == 0


def time_of(line):
    return stamp(line["time"])


def stamp(text):
    """Seconds since 1970 of a time in UTC, as the relay or RabbitMQ writes it."""
    whole, fraction = re.match(r"(\d{4}-\d\d-\d\d.\d\d:\d\d:\d\d)(\.\d+)", text).groups()
    return calendar.timegm(time.strptime(whole.replace("T", " "), "%Y-%m-%d %H:%M:%S")) + float(fraction)


# ---- a broker that stands still -------------------------------------------------------------------------


def test_a_broker_that_accepts_and_never_answers_is_passed_over(stack, database, broker, relay):
    queue = broker.queue()
    queued(database, queue)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"amqp://127.0.0.1:{silent.getsockname()[1]}?connection_timeout=300"
        running = relay(config={"rabbitmq": {"urls": [url, stack.env["AMQP_URL"]]}})
        lost = running.wait_log("broker_lost")
        assert "did not answer in time" in lost["error"]
        running.wait_log("broker_connected", 5)
        broker.take(queue, 1)
        assert running.stop() == 0


def test_a_frozen_broker_is_found_by_its_missing_heartbeats(stack, database, broker, relay, write):
    queue = broker.queue()
    running = relay(config={"rabbitmq": {"heartbeat": "1s"}, "publish": {"window": 100}})
    running.wait_log("broker_connected")
    writer = write(queue)
    writer.collect(broker, 20)
    stack.pause("rabbitmq")
    paused = time.time()
    lost = running.wait_log("broker_lost")
    # Two heartbeats, and what it takes to notice.
    assert time_of(lost) - paused < 3.5
    assert "heartbeats" in lost["error"]
    stack.resume("rabbitmq")
    running.wait_log("broker_connected", 30, count=2)
    writer.judge(broker, repeated=100)
    assert running.stop() == 0


# ---- a queue that refuses -------------------------------------------------------------------------------


def test_a_full_queue_that_rejects_delays_nobody_else(stack, database, broker, relay, write):
    full = broker.queue("full", kind="classic", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    good = broker.queue("good")
    running = relay(config={"retry": {"initial": "200ms", "max": "1s", "max_attempts": 1000}})
    running.wait_log("broker_connected")
    for text in "1234":
        queued(database, full, text)
    refusal = running.wait_log("message_refused")
    assert f"routing key '{full}'" in refusal["error"] and "reject-publish" in refusal["remedy"]
    writer = write(good)
    writer.collect(broker, 50)
    writer.judge(broker)
    for _ in range(4):
        wait_until(lambda: broker.get(full), 20, "a message in the queue that was full")
    assert running.stop() == 0
