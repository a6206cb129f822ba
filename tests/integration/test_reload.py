"""SIGHUP: what can change does at once, what cannot is refused by name, and a broken file changes nothing."""

import json
import os
import pathlib
import signal

import pytest

from conftest import wait_until
from manager import manager  # noqa: F401 (a fixture)


def path(running):
    return pathlib.Path(running.stderr_path.parent, "outbox-relay.yaml")


def rewrite(running, change):
    settings = json.loads(path(running).read_text())
    change(settings)
    path(running).write_text(json.dumps(settings, indent=1) + "\n")


def reload(running, event="reloaded"):
    before = len(running.log(event))
    running.process.send_signal(signal.SIGHUP)
    return running.wait_log(event, count=before + 1)


def write(database, routing_key):
    database.execute("INSERT INTO outbox.message (routing_key, payload_text) VALUES (%s, 'x')", [routing_key])


def test_what_can_change_changes_at_once(database, broker, relay, manager):
    running = relay(config={"retry": {"initial": "1h", "max": "1h", "max_attempts": 100}, "log": {"level": "warn"}}, env=manager.env)
    manager.wait("publishing")
    write(database, "nowhere")
    wait_until(lambda: database.query("SELECT attempts FROM outbox.delayed") == [(1,)], what="it to be put aside")
    rewrite(running, lambda s: s.update(retry={"max_attempts": 1}, log={"level": "debug", "format": "json"},
                                        publish={"window": 5000}, topology={"exchanges": [{"name": "x", "type": "topic"}]}))
    changed = reload(running)["changed"].split()
    assert set(changed) == {"log.level", "log.format", "publish.window", "retry.initial", "retry.max", "retry.max_attempts"}
    assert not running.log("reload_refused")
    write(database, "nowhere")
    wait_until(lambda: database.value("SELECT count(*) FROM outbox.dead") == 1, what="the next one to be dead at once")
    # Up to what it was at the start.
    rewrite(running, lambda s: s.update(publish={"window": 10000}))
    assert reload(running)["changed"] == "publish.window"
    assert reload(running)["changed"] == "nothing"
    assert running.alive() and not running.log("stepped_down")
    # As systemd's own form of it wants to hear it.
    keys = [key for _, key, _ in list(manager.said) if key in ("RELOADING", "MONOTONIC_USEC", "READY")]
    assert keys == ["READY"] + ["RELOADING", "MONOTONIC_USEC", "READY"] * 3
    assert int(manager.values("MONOTONIC_USEC")[0]) > 0


def test_what_cannot_change_is_refused_by_name_and_the_rest_goes_on(database, broker, relay):
    queue = broker.queue()
    running = relay()
    running.wait_log("leading")
    rewrite(running, lambda s: s.update(
        postgres={**s["postgres"], "schema": "elsewhere"}, rabbitmq={"urls": ["amqp://nowhere:1"]}, http={"listen": "127.0.0.1:1"},
        publish={"window": 20000, "batch": 10, "ordering": "pipelined"}, retry={"on_dead": "hold", "max_attempts": 7}))
    assert reload(running)["changed"] == "retry.max_attempts"
    refused = running.log("reload_refused")
    assert {line["key"] for line in refused} == {"postgres.schema", "rabbitmq.urls", "http.listen", "publish.window",
                                                 "publish.batch", "publish.ordering", "retry.on_dead"}
    assert all(line["remedy"] == "restart the relay" for line in refused)
    write(database, queue)
    broker.take(queue, 1)


@pytest.mark.parametrize("broken", ["{", '{"retry": {"max_attempts": 0}, "log": {"level": "debug"}}', None])
def test_a_broken_file_leaves_all_as_it_was(database, broker, relay, broken):
    queue = broker.queue()
    running = relay()
    running.wait_log("leading")
    good = path(running).read_text()
    path(running).write_text(broken) if broken else os.unlink(path(running))
    assert reload(running, "reload_failed")["remedy"].startswith("outbox-relay check")
    assert running.log("configuration_error")[0]["source"] == str(path(running))
    assert not running.log("reloaded")
    write(database, queue)
    broker.take(queue, 1)
    path(running).write_text(good)
    assert reload(running)["changed"] == "nothing"


def test_a_password_is_read_again_at_the_next_connection_anyway(database, broker, relay, tmp_path):
    """Nobody has to reload for it; the file's name alone cannot change."""
    secret = tmp_path / "secret"
    secret.write_text("guest")
    running = relay(config={"rabbitmq": {"password_file": str(secret)}})
    running.wait_log("broker_connected")
    rewrite(running, lambda s: s["rabbitmq"].update(password_file=str(tmp_path / "another")))
    (tmp_path / "another").write_text("guest")
    reload(running)
    assert [line["key"] for line in running.log("reload_refused")] == ["rabbitmq.password_file"]


def test_a_reload_while_it_stops_does_not_count_as_a_second_signal(database, broker, relay):
    running = relay()
    running.wait_log("leading")
    running.pause()
    running.process.send_signal(signal.SIGTERM)
    running.process.send_signal(signal.SIGHUP)
    running.resume()
    assert running.wait() == 0
    assert not running.log("stopping_at_once")
