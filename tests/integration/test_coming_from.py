"""docs/coming-from.md: its SQL moves a system that runs; nothing is lost, nothing comes twice, each key keeps its order."""

import json
import re
import threading

import psycopg2.errors
import pytest

from conftest import ROOT, wait_until

TEXT = (ROOT / "docs/coming-from.md").read_text()
BLOCKS = dict(re.findall(r"^```sql (\S+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))


class Place:
    """The page's role is the test's writer, and its exchange the test's; all else is as it stands there."""

    def __init__(self, database, broker, relay):
        self.database = database
        self.relay = relay
        self.broker = broker
        self.exchange = broker.exchange()
        self.queue = broker.queue(exchange=self.exchange)
        self.used = set()
        # Schema public belongs to the owner there, as it does in an application's database.
        database.execute(f"ALTER SCHEMA public OWNER TO {database.roles['owner']}", role="postgres")

    def apply(self, name):
        text = BLOCKS[name].replace("orders_service", self.database.roles["writer"]).replace("'events'", f"'{self.exchange}'")
        self.database.psql("-c", text)

    def write(self, sql, *parameters):
        self.database.execute(sql, parameters or None, role="writer")

    def arrive(self, count):
        done = self.relay.command("run", "--until-empty")
        assert done.returncode == 0, done.stderr
        messages = self.broker.take(self.queue, count)
        assert self.broker.get(self.queue) is None
        return messages


@pytest.fixture
def place(database, broker, relay):
    return Place(database, broker, relay)


def test_every_block_of_the_page_is_run_here():
    assert set(BLOCKS) == {"debezium", "polling-before", "polling", "listen", "pg_amqp"}
    assert len(re.findall(r"^```sql", TEXT, re.MULTILINE)) == len(BLOCKS)


EVENT = ("INSERT INTO outboxevent (id, aggregatetype, aggregateid, type, payload)"
         " VALUES (gen_random_uuid(), 'order', %s, %s, %s) RETURNING id::text")


@pytest.mark.parametrize("before", [True, False])
def test_applications_write_on_into_the_view_with_debeziums_columns(place, before):
    if before:
        place.database.execute("CREATE TABLE outboxevent (id uuid PRIMARY KEY, aggregatetype varchar(255) NOT NULL,"
                               " aggregateid varchar(255) NOT NULL, type varchar(255) NOT NULL, payload jsonb)")
        place.database.execute(f"GRANT SELECT, INSERT ON outboxevent TO {place.database.roles['writer']}")
        place.write(EVENT, "7", "OrderCreated", '{"was": "Debezium\'s"}')
    place.apply("debezium")
    ids = [place.database.value(EVENT, ["7", kind, json.dumps({"n": n})], role="writer")
           for n, kind in enumerate(["OrderCreated", "OrderPaid", "OrderPaid"])]
    place.write(EVENT, "8", "OrderDeleted", None)
    place.write("DELETE FROM outboxevent WHERE id = %s", ids[0])    # as some do right after
    messages = place.arrive(4)
    assert [m.message_id for m in messages if m.headers["x-ordering-key"] == "7"] == ids
    first = next(m for m in messages if m.message_id == ids[0])
    assert (first.routing_key, first.properties.type, first.body) == ("order.OrderCreated", "OrderCreated", b'{"n": 0}')
    assert {m.body for m in messages if m.headers["x-ordering-key"] == "8"} == {b"null"}
    if before:
        assert place.database.value("SELECT count(*) FROM outboxevent_before") == 1


def test_a_polled_table_is_moved_while_applications_write(place):
    place.apply("polling-before")
    place.database.execute(f"GRANT SELECT, INSERT ON event_outbox TO {place.database.roles['writer']}")
    insert = "INSERT INTO event_outbox (topic, entity_id, body) VALUES ('order', %s, %s) RETURNING event_id::text"
    ids = []
    switched = threading.Event()

    def write():
        """One after the other, before, during and after the switch."""
        connection = place.database.connect("writer", autocommit=True)
        with connection.cursor() as cursor:
            left = 20
            while left > 0:
                cursor.execute(insert, [f"key-{len(ids) % 3}", str(len(ids))])
                ids.append(cursor.fetchone()[0])
                left -= switched.is_set()

    writer = threading.Thread(target=write)
    writer.start()
    wait_until(lambda: len(ids) > 30)
    place.database.execute("UPDATE event_outbox SET sent_at = now() WHERE id <= 10")
    place.apply("polling")
    switched.set()
    writer.join()
    messages = place.arrive(len(ids) - 10)
    assert sorted(m.message_id for m in messages) == sorted(ids[10:])
    for key in range(3):
        bodies = [int(m.body) for m in messages if m.headers["x-ordering-key"] == f"key-{key}"]
        assert bodies == [n for n in range(10, len(ids)) if n % 3 == key]
    assert 0 < place.database.value("SELECT count(*) FROM event_outbox_before") < len(ids)
    # The table's defaults are the view's; a rolled back transaction leaves nothing.
    with pytest.raises(psycopg2.errors.NotNullViolation):
        place.write("INSERT INTO event_outbox (body) VALUES ('x')")
    assert place.database.value("SELECT pending FROM outbox.backlog()") == 0


def test_a_trigger_publishes_instead_of_notifying(place):
    place.database.execute("CREATE TABLE orders (id int PRIMARY KEY, item text)")
    place.apply("listen")
    place.database.execute("CREATE TRIGGER changed AFTER INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION order_changed();"
                           f" GRANT ALL ON orders TO {place.database.roles['writer']}")
    place.write("INSERT INTO orders VALUES (1, %s); UPDATE orders SET item = 'cup'", "x" * 10000)
    messages = place.arrive(2)
    assert [json.loads(m.body)["item"][:3] for m in messages] == ["xxx", "cup"]
    assert {m.headers["x-ordering-key"] for m in messages} == {"1"}


def test_calls_of_pg_amqp_write_messages(place):
    place.apply("pg_amqp")
    with place.database.connect("writer") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT amqp.publish(1, %s, 'k', 'hello'), amqp.publish(1, %s, 'k', 'kept', 2, 'text/plain', 'answers', '42')",
                       [place.exchange, place.exchange])
        assert cursor.fetchone() == (True, True)
    plain, kept = sorted(place.arrive(2), key=lambda m: m.body)
    assert (plain.body, plain.properties.delivery_mode, plain.properties.content_type) == (b"hello", 1, None)
    assert (kept.properties.delivery_mode, kept.properties.content_type, kept.properties.reply_to,
            kept.properties.correlation_id) == (2, "text/plain", "answers", "42")
