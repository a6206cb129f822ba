"""doctor where the outbox itself tells of trouble: its position, pauses, what waits and what was given up (surgery.py)."""

import contextlib
import uuid

import psycopg2
import pytest

from conftest import ROOT, wait_until
from surgery import Cases, place, shared, users    # noqa: F401

CASES = Cases()
broken = CASES.broken


@contextlib.contextmanager
def declared_queue(place, arguments=None):
    channel = place.broker.channel()
    name = f"{place.broker.prefix}_{uuid.uuid4().hex[:6]}"
    channel.queue_declare(name, durable=True, arguments={"x-queue-type": "classic", **(arguments or {})})
    yield name
    place.broker.channel().queue_delete(name)


def marked(place):
    """A database with a mark."""
    database = place.fresh()
    queue = place.closing.enter_context(declared_queue(place))
    place.publish("", queue)
    done = place.relay.command("run", "--until-empty", config=place.config)
    assert done.returncode == 0, done.stderr
    return database


@broken("leader", "no relay leads", "warn")
def no_relay(place):
    place.fresh()


@broken("position", "it was restored from a dump of another cluster")
def a_restored_database(place):
    database = marked(place)
    database.execute("UPDATE outbox.sent SET system_identifier = system_identifier + 1, table_oid = table_oid::int + 1")


@broken("position", "it is a copy of another database of this cluster")
def a_template_copy(place):
    original = marked(place)
    for connection in original.opened:
        connection.close()
    original.cached.clear()
    name = original.name + "_copy"
    server = psycopg2.connect(original.server_dsn())
    server.autocommit = True
    server.cursor().execute(f"CREATE DATABASE {name} TEMPLATE {original.name} OWNER {original.roles['owner']}")
    place.closing.callback(lambda: (server.cursor().execute(f"DROP DATABASE {name} WITH (FORCE)"), server.close()))
    place.set("postgres", dsn=original.dsn("relay", dbname=name))


@broken("paused", "everything is paused since", "warn")
def everything_is_paused(place):
    place.fresh().query("SELECT outbox.pause(reason => 'a migration')", role="relay")


@broken("paused", "exchange it's odd is paused since", "warn")
def an_exchange_is_paused(place):
    place.fresh().query("SELECT outbox.pause('it''s odd')", role="relay")


@broken("schema", "lacks migration 0004_operating: what came with it does not work", "warn")
def a_schema_of_the_version_before(place):
    place.fresh().psql("-1", "-f", ROOT / "migrations/outbox/0004_operating.down.sql")


@broken("backlog", "1 messages are pending, the oldest for", "warn")
def messages_that_nobody_sends(place):
    place.fresh()
    queue = place.closing.enter_context(declared_queue(place))
    place.publish("", queue, at="2026-01-01")


@broken("slots", "is", "warn")
def rows_that_stay(place):
    """Sent, and older than any retention, and no relay is there to empty the slot."""
    database = marked(place)
    database.execute("INSERT INTO outbox.message (routing_key, payload_text, created_at) OVERRIDING USER VALUE"
                     " SELECT routing_key, 'old', now() - interval '9 days' FROM outbox.message")
    database.execute("DELETE FROM outbox.message WHERE payload_text = 'x'")

    def person(remedy):
        assert remedy.startswith("outbox-relay run")
        # What a relay does there takes a minute: test_roles has it.
        database.execute("TRUNCATE outbox.message")
    place.person = person


@broken("dead", "1 messages were given up; most often: there is no queue", "warn")
def a_message_that_was_given_up(place):
    database = place.fresh()
    queue = f"{place.broker.prefix}_late"
    place.publish("", queue)
    place.set("retry", max_attempts=1, initial="10ms")
    done = place.relay.command("run", "--until-empty", config=place.config)
    assert done.returncode == 0, done.stderr
    assert database.value("SELECT count(*) FROM outbox.dead") == 1
    # Its reason is mended.
    place.broker.channel().queue_declare(queue, durable=True)
    place.broker.queues.append(queue)


@broken("refused", "a queue refused the message", "warn")
def a_queue_that_is_full(place):
    place.fresh()
    queue = place.closing.enter_context(declared_queue(place, {"x-max-length": 1, "x-overflow": "reject-publish"}))
    place.publish("", queue)
    place.publish("", queue)
    place.set("retry", initial="50ms", max="50ms", max_attempts=100000)
    running = place.relay(config=place.config)
    wait_until(lambda: place.database.value("SELECT count(*) FROM outbox.delayed WHERE last_error IS NOT NULL") == 1, 10)

    def person(remedy):
        place.type(remedy)
        assert place.broker.get(queue) is not None
    place.person = person
    place.closing.callback(running.kill)


@pytest.mark.parametrize("name", CASES)
def test_the_remedy_works(place, name):
    CASES.cure(place, name)
