"""Plans stay index-driven, whatever the statistics say: a fetch reads a small multiple of the rows that it asks for.

The statements are the relay's own: auto_explain writes the plan of each, with what it really read, to the server's log.
"""

import json
import pathlib
import re

import pytest

from conftest import wait_until

BATCH = 1000
KEPT = 500_000
INTERVAL = 30_000
# A fetch probes four times its rows and one, then looks up those that it takes.
ROWS_MAX = 6 * BATCH + 200
# Rows of this test fill 80 to a page and some hundreds to a page of an index; a row found may cost three pages of one.
PAGES_MAX = 12 * BATCH
# Of a fetch that finds a row or two.
TRICKLE_PAGES_MAX = 200
# Beyond so many xids in which some transaction stays open an interval is not tiny to the relay.
TINY_XIDS = 100
KINDS = {"tiny": "WITH probe AS", "small": "WITH now AS", "below": "SELECT (SELECT true", "large": "outbox_relay_before"}


class Plans:
    """Of one role's statements on outbox.message, since this was made."""

    def __init__(self, database):
        self.path = pathlib.Path(database.stack.env["POSTGRES_LOG"])
        self.offset = self.path.stat().st_size
        role = database.roles["relay"]
        for name, value in {"session_preload_libraries": "auto_explain", "auto_explain.log_min_duration": "0",
                            "auto_explain.log_analyze": "on", "auto_explain.log_timing": "off", "auto_explain.log_buffers": "on",
                            "auto_explain.log_format": "json", "log_min_messages": "log"}.items():
            database.execute(f"ALTER ROLE {role} SET {name} = '{value}'", role="postgres")

    def all(self):
        """(kind, plan) of each fetch so far; the next call starts behind the last one that was written as a whole."""
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            data = file.read()
        found = []
        end = 0
        for match in re.finditer(rb"plan:\n\t(\{\n(?:\t .*\n)+\t\}\n)", data):
            end = match.end()
            entry = json.loads(match[1].decode(errors="replace").replace("\n\t", "\n"))
            query = entry["Query Text"]
            if "outbox.message m" not in query:
                continue
            kind = next((k for k, start in KINDS.items() if query.startswith(start) or (k == "large" and start in query)), None)
            if kind:
                found.append((kind, entry["Plan"]))
        self.offset += end
        return found


def nodes(plan):
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def read(node):
    """Rows that a node took up, or let fall."""
    removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return (node["Actual Rows"] + removed) * node["Actual Loops"]


def check(kind, plan, pages_max=PAGES_MAX):
    scans = [n for n in nodes(plan) if n.get("Relation Name", "").startswith("message")]
    assert scans, kind
    shown = json.dumps(plan, indent=1)
    for node in nodes(plan):
        assert node["Node Type"] not in ("Seq Scan", "Bitmap Heap Scan", "Bitmap Index Scan"), shown
        if node["Node Type"] in ("Sort", "Incremental Sort"):
            assert sum(c["Actual Rows"] * c["Actual Loops"] for c in node["Plans"]) <= ROWS_MAX, shown
    assert sum(read(n) for n in scans) <= ROWS_MAX, shown
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= pages_max, shown


def insert(cursor, exchange, rows):
    cursor.execute("INSERT INTO outbox.message (exchange, routing_key, payload_text)"
                   " SELECT %s, 'x', 'x' FROM generate_series(1, %s)", [exchange, rows])


def mark_all_sent(database):
    """As a relay would have left it that published everything."""
    database.execute(
        "INSERT INTO outbox.sent (seq, prev, last_id, floor_id, max_id, messages, system_identifier, database_oid, table_oid)"
        " SELECT 1, pg_current_snapshot(), 0, max(id), max(id), count(*), (SELECT system_identifier FROM pg_control_system()),"
        " (SELECT oid FROM pg_database WHERE datname = current_database()), 'outbox.message'::regclass FROM outbox.message",
        role="postgres")


@pytest.mark.time_limit(300)
@pytest.mark.parametrize("statistics", ["none", "empty", "full"])
def test_a_fetch_reads_a_small_multiple_of_its_rows(database, broker, relay, stack, statistics):
    # No queue and not mandatory: each message is confirmed and gone.
    exchange = broker.exchange(kind="fanout")
    settings = {"publish": {"mandatory": False, "batch": BATCH, "window": 2 * BATCH}}
    leaves = ["message", "message_0", "message_1", "message_2"]
    if statistics == "empty":
        database.execute("ANALYZE " + ", ".join(f"outbox.{leaf}" for leaf in leaves))
    # Room below, for a sequence that goes back.
    database.execute("ALTER SEQUENCE outbox.message_id_seq RESTART 1000000")
    with database.cursor("owner") as cursor:
        insert(cursor, exchange, KEPT)
        mark_all_sent(database)
        if statistics == "full":
            database.execute("ANALYZE " + ", ".join(f"outbox.{leaf}" for leaf in leaves))
        assert (database.value("SELECT bool_or(last_analyze IS NOT NULL) FROM pg_stat_all_tables WHERE schemaname = 'outbox'"
                               " AND relname ~ '^message_[012]$'")) == (statistics != "none")
        plans = Plans(database)

        # A trickle, and a straggler: a transaction that is open while others are recorded beyond it.
        running = relay(config=settings)
        running.wait_log("broker_connected")
        late = database.connect()
        # What it has written so far is looked at once at most, while nobody may see it.
        insert(late.cursor(), exchange, INTERVAL)
        insert(cursor, exchange, 1)
        wait_until(lambda: database.value("SELECT pending FROM outbox.backlog()") == 0, 10)
        plans.all()
        for expected in ("tiny", "small"):
            for _ in range(5):
                insert(cursor, exchange, 1)
                wait_until(lambda: database.value("SELECT pending FROM outbox.backlog()") == 0, 10)
            found = plans.all()
            assert sum(kind == expected for kind, _ in found) >= 5
            for kind, plan in found:
                check(kind, plan, TRICKLE_PAGES_MAX)
            for _ in range(TINY_XIDS):
                cursor.execute("SELECT pg_current_xact_id()")
        assert running.stop() == 0

        # A large interval with that straggler, in the middle too; it is frozen before there are many newer rows behind it.
        insert(cursor, exchange, INTERVAL // 2)
        insert(late.cursor(), exchange, INTERVAL // 3)
        late.commit()
        insert(cursor, exchange, INTERVAL // 2)
        stack.pause("rabbitmq")
        running = relay(config=settings)
        found = []
        wait_until(lambda: found.extend(plans.all()) or "large" in dict(found), 20)
        insert(cursor, exchange, 2 * INTERVAL)
        stack.resume("rabbitmq")
        wait_until(lambda: database.value("SELECT pending FROM outbox.backlog()") == 0, 60)
        assert running.stop() == 0
        published = 4 * INTERVAL + INTERVAL // 3
        assert running.log("stopped")[0]["recorded"] == str(published)
        found += plans.all()
        assert sum(kind == "large" for kind, _ in found) >= published // BATCH
        below = [plan for kind, plan in found if kind == "below"]
        # Once an interval: this one walks the index over the interval, and nothing else.
        assert 2 <= len(below) <= 4
        for kind, plan in found:
            check(kind, plan, 2 * INTERVAL // 50 if kind == "below" else PAGES_MAX)

        # The sequence went back: rows below all that was ever recorded.
        database.query("SELECT setval('outbox.message_id_seq', 1)")
        insert(cursor, exchange, 2 * BATCH * 4)
        done = relay.command("run", "--until-empty", config=settings)
        assert done.returncode == 0, done.stderr
        assert relay.started[-1].log("stopped")[0]["recorded"] == str(8 * BATCH)
        assert database.value("SELECT count(*) FROM outbox.message_status WHERE id < 1000000 AND state <> 'sent'") == 0
        assert any(kind == "below" for kind, _ in plans.all())


@pytest.mark.parametrize("statistics", ["none", "empty"])
def test_plans_made_while_all_was_empty_stay_good(database, broker, relay, statistics):
    """The relay keeps its plans for as long as it is connected; meanwhile, other slots fill."""
    exchange = broker.exchange(kind="fanout")
    if statistics == "empty":
        database.execute("ANALYZE outbox.message, outbox.message_0, outbox.message_1, outbox.message_2")
    plans = Plans(database)
    with database.cursor("owner") as cursor:
        running = relay(config={"publish": {"mandatory": False, "batch": BATCH, "window": 2 * BATCH}})
        running.wait_log("broker_connected")
        late = database.connect()
        for slot in range(3):
            database.execute("CREATE OR REPLACE FUNCTION outbox.current_slot() RETURNS smallint LANGUAGE sql STABLE"
                             " AS %s", [f"SELECT {slot}::smallint"])
            insert(late.cursor(), exchange, 3)
            for rows in (1, 500, 4 * BATCH, INTERVAL, 500):
                insert(cursor, exchange, rows)
                wait_until(lambda: database.value("SELECT pending FROM outbox.backlog()") == 0, 30)
        late.commit()
        wait_until(lambda: database.value("SELECT pending FROM outbox.backlog()") == 0, 30)
        assert running.stop() == 0
    found = plans.all()
    assert {kind for kind, _ in found} == {"tiny", "small", "below", "large"}
    for kind, plan in found:
        check(kind, plan)
