"""doctor where the broker, its users or what is declared there is in a bad way (surgery.py)."""

import contextlib
import pathlib
import subprocess
import time

import pytest

from conftest import wait_until
from surgery import Cases, log_in, user, place, shared, users    # noqa: F401

CASES = Cases()
broken = CASES.broken


@broken("rabbitmq", "Connection refused")
def rabbitmq_is_down(place):
    place.stack.kill("rabbitmq")


@broken("rabbitmq", "403 ACCESS_REFUSED")
def the_wrong_password_file_for_rabbitmq(place):
    place.input = "right\n"
    log_in(place, user(place), None, password_file=str(place.secret("wrong")))


@broken("rabbitmq", "403 ACCESS_REFUSED")
def the_wrong_password_for_rabbitmq(place):
    place.input = "wrong\n"
    log_in(place, user(place), "wrong")


@broken("rabbitmq", "vhost t_absent not found")
def a_vhost_that_is_not_there(place):
    place.closing.callback(lambda: subprocess.run([place.stack.env["RABBITMQCTL"], "-q", "delete_vhost", "t_absent"],
                                                  capture_output=True, check=False))
    log_in(place, user(place), vhost="t_absent")


@broken("rabbitmq", "access to vhost '/' refused")
def a_vhost_that_is_closed_to_the_user(place):
    log_in(place, user(place, None))


@broken("exchanges", "access to exchange")
def an_exchange_that_may_not_be_written_to(place):
    place.fresh()
    place.publish(place.broker.exchange())
    log_in(place, user(place, ("", "^other$", "")))


@broken("exchanges", "does not exist; messages of late name it")
def an_exchange_that_is_not_there(place):
    place.fresh()
    name = f"{place.broker.prefix}_it's late"
    place.broker.exchanges.append(name)
    place.publish(name)


@broken("exchanges", "does not exist; messages of late name it")
def a_declared_exchange_that_is_not_there(place):
    place.fresh()
    name = f"{place.broker.prefix}_declared"
    place.broker.exchanges.append(name)
    place.publish(name)
    place.set("topology", exchanges=[{"name": name, "type": "fanout"}])


@broken("queues", "does not exist; messages of late name it at the default exchange")
def a_queue_that_is_not_there(place):
    place.fresh()
    name = f"{place.broker.prefix}_jobs"
    place.broker.queues.append(name)
    place.publish("", name)


@broken("routes", "1 messages wait because no queue is bound")
def an_exchange_without_a_queue(place):
    place.fresh()
    exchange, queue = place.broker.exchange(), place.broker.queue()
    place.publish(exchange, "order.paid")
    place.set("topology", bindings=[{"exchange": exchange, "queue": queue, "routing_key": "order.#"}])
    place.set("retry", initial="50ms", max="50ms", max_attempts=100000)
    running = place.relay(config=place.config)
    place.closing.callback(running.kill)
    wait_until(lambda: place.database.value("SELECT count(*) FROM outbox.delayed WHERE last_error IS NOT NULL") == 1, 10)


@broken("routes", "publish.mandatory is false", "warn")
def unroutable_messages_are_dropped(place):
    place.set("publish", mandatory=False)


@broken("alarm", "low on memory")
def rabbitmq_has_no_memory_left(place):
    place.stack.rabbitmqctl("set_vm_memory_high_watermark", "0.000001")
    place.closing.callback(lambda: place.stack.rabbitmqctl("set_vm_memory_high_watermark", "0.4"))


@broken("alarm", "low on disk")
def rabbitmq_has_no_disk_left(place):
    place.stack.rabbitmqctl("set_disk_free_limit", "100000GB")
    place.closing.callback(lambda: place.mended or place.stack.rabbitmqctl("set_disk_free_limit", "50MB"))


@contextlib.contextmanager
def certificate(place, until):
    """The broker's own until then; what replaces its file."""
    directory = pathlib.Path(place.stack.env["TLS_DIR"])
    kept = (directory / "server.pem").read_bytes()
    subprocess.run(["openssl", "ca", "-batch", "-notext", "-config", "openssl.cnf", "-cert", "ca.pem", "-keyfile", "ca.key",
                    "-extensions", "server", "-startdate", "20200101000000Z", "-enddate", until, "-in", "server.csr",
                    "-out", "soon.pem"], cwd=directory, check=True, capture_output=True)
    (directory / "server.pem").write_bytes((directory / "soon.pem").read_bytes())
    place.stack.rabbitmqctl("eval", "ssl:clear_pem_cache().")
    place.set("rabbitmq", urls=[place.stack.env["AMQPS_URL"]], tls={"ca_file": place.stack.env["TLS_CA_FILE"]})
    yield lambda: (directory / "server.pem").write_bytes(kept)
    if not place.mended:
        (directory / "server.pem").write_bytes(kept)
        place.stack.rabbitmqctl("eval", "ssl:clear_pem_cache().")


@broken("tls", "ends in 4 days", "warn")
def a_certificate_that_ends_soon(place):
    until = time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + 5 * 86400 - 60))
    renew = place.closing.enter_context(certificate(place, until))

    def person(remedy):
        renew()
        place.type(remedy)
    place.person = person


@broken("rabbitmq", "certificate has expired")
def a_certificate_that_has_ended(place):
    renew = place.closing.enter_context(certificate(place, "20200201000000Z"))

    def person(remedy):
        assert remedy.startswith("renew the broker's certificate")
        renew()
        place.stack.rabbitmqctl("eval", "ssl:clear_pem_cache().")
    place.person = person


@broken("topology", "is missing (")
def a_declared_queue_that_is_not_there(place):
    name = f"{place.broker.prefix}_declared"
    place.broker.queues.append(name)
    place.set("topology", queues=[{"name": name}])


@broken("topology", "differs (")
def a_declared_queue_that_differs(place):
    queue = place.broker.queue()
    place.set("topology", queues=[{"name": queue, "type": "classic"}])

    def person(remedy):
        assert "declare at" in remedy and "outbox-relay.yaml:" in remedy
        place.set("topology", queues=[{"name": queue, "type": "quorum"}])
    place.person = person


@broken("overflow", "drops its oldest messages when it is full", "warn")
def a_queue_that_drops_its_oldest(place):
    name = f"{place.broker.prefix}_small"
    place.set("topology", queues=[{"name": name, "arguments": {"x-max-length": 10}}])

    def person(remedy):
        assert "x-overflow: reject-publish" in remedy
        place.set("topology", queues=[{"name": name, "arguments": {"x-max-length": 10, "x-overflow": "reject-publish"}}])
    place.person = person


@pytest.mark.parametrize("name", CASES)
def test_the_remedy_works(place, name):
    CASES.cure(place, name)
