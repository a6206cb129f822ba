"""How a link gets in, by password, certificate and TLS, and what it says where it does not."""

import pathlib
import socket
import threading

import pytest

from driving import drive, driver_binary, why_down    # noqa: F401

TLS_ERROR = 78


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
