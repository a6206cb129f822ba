"""Plans for messages that wait stay index-driven, whatever the statistics say, and cheap under an old snapshot.

The statements are the relay's own, sent by the source: auto_explain writes the plan of each, with what it really read.
"""

import json
import pathlib
import re

import pytest

from test_plans import Plans, nodes, read
from waiting import Source, check, ids, move, source  # noqa: F401 (a fixture)

KEPT = 20_000
PAGE = 200


class Statements(Plans):
    """All of the relay's statements, those inside of functions too."""

    def __init__(self, database):
        super().__init__(database)
        database.execute(f"ALTER ROLE {database.roles['relay']} SET auto_explain.log_nested_statements = on", role="postgres")

    def all(self):
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            data = file.read()
        data = data[:data.rfind(b"\n") + 1]
        self.offset += len(data)
        found = []
        for match in re.finditer(r"plan:\n\t(\{\n(?:\t.*\n)+)", data.decode(errors="replace")):
            entry = json.loads(match[1].replace("\n\t", "\n"))
            if re.search(r"outbox\.(delayed|dead)", entry["Query Text"]):
                found.append((entry["Query Text"], entry["Plan"]))
        return found


def fill(database, kept):
    """Of each kind of waiting, in many keys, and dead ones; half of them hold their key."""
    database.execute(
        "INSERT INTO outbox.delayed (id, exchange, routing_key, ordering_key, payload_text, waits_for, next_attempt_at)"
        " SELECT 10000000 + n, 'ex' || n % 7, 'rk' || n % 11, CASE WHEN n % 3 > 0 THEN 'k' || g END, 'x', w,"
        " CASE WHEN w IN ('key', 'exchange', 'queue') THEN 'infinity' ELSE now() - n * interval '1 ms' END"
        f" FROM generate_series(1, {kept}) AS n, LATERAL (SELECT n / 20 AS g, CASE WHEN n % 20 > 3 AND n % 3 > 0 AND n / 20 % 4 > 0"
        " THEN 'key' ELSE (ARRAY['schedule', 'retry', 'exchange', 'queue'])[1 + n / 20 % 4] END AS w) AS l")
    database.execute(
        "INSERT INTO outbox.dead (id, message_id, exchange, routing_key, ordering_key, payload_text, persistent, created_at, reason, holds_key)"
        f" SELECT 20000000 + n, outbox.uuid_v7(), 'ex', 'rk', 'dead' || n, 'x', true, now(), 'no', n % 2 = 0 FROM generate_series(1, {kept}) AS n")


def exercise(database, one):
    """Each statement once or more: every kind of move, search and look."""
    with database.cursor("owner") as cursor:
        cursor.execute("INSERT INTO outbox.message (exchange, routing_key, ordering_key, payload_text)"
                       " SELECT 'ex', 'rk', CASE WHEN n % 2 = 0 THEN 'f' || n % 50 WHEN n % 5 = 0 THEN 'dead' || n END, 'x'"
                       f" FROM generate_series(1, {PAGE}) AS n")
    fetched = one.fetch(rows=2 * PAGE)
    fates = ["retry", "exchange", "queue", "behind", "dead"]
    one.record([move(r, fates[n % 5], delay_ms=0, hold=n % 2 == 0, reason="no") for n, r in enumerate(fetched["rows"])], fetched)
    for rest in range(3):
        found = one.search(rows=PAGE, **{"except": [r["id"] for r in fetched["rows"]]})
        found["rows"] += one.search("due", rows=PAGE)["rows"]
        found["rows"] += one.search("lane", exchange="ex1", rows=PAGE)["rows"]
        found["rows"] += one.search("lane", exchange="ex1", routing_key="rk1", rows=PAGE)["rows"]
        rows = list({r["id"]: r for r in found["rows"]}.values())[:900]
        one.record([move(r, (fates + ["delivered"] * 5)[n % 10], delay_ms=0, hold=n % 20 == 4, reason="no") for n, r in enumerate(rows)])


def relations(plan):
    return [n for n in nodes(plan) if n.get("Relation Name", "").startswith(("delayed", "dead", "message"))]


def buffers(plan):
    return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


@pytest.mark.parametrize("statistics", ["none", "empty", "full"])
def test_searches_looks_and_moves_read_what_they_are_about(database, source, statistics):
    for table in ("delayed", "dead"):
        database.execute(f"ALTER TABLE outbox.{table} SET (autovacuum_enabled = off)")
    if statistics == "empty":
        database.execute("ANALYZE outbox.delayed, outbox.dead")
    plans = Statements(database)
    one = source()
    one.expect("up")
    if statistics != "full":
        # The relay keeps its plans: these were made while there was nothing.
        exercise(database, one)
        database.execute("DELETE FROM outbox.delayed; DELETE FROM outbox.dead")
    fill(database, KEPT)
    if statistics == "full":
        database.execute("ANALYZE outbox.delayed, outbox.dead")
    plans.all()
    exercise(database, one)
    check(database)
    one.end()
    found = plans.all()
    # Each of them: six moves and the release inside of one, three searches, the lanes, the held keys.
    assert len({text for text, _ in found}) == 12
    for text, plan in found:
        shown = text + json.dumps(plan, indent=1)
        for node in nodes(plan):
            assert node["Node Type"] not in ("Seq Scan", "Bitmap Heap Scan", "Bitmap Index Scan"), shown
            if node["Node Type"] in ("Sort", "Incremental Sort"):
                assert sum(c["Actual Rows"] * c["Actual Loops"] for c in node["Plans"]) <= 1000, shown
        for node in relations(plan):
            assert read(node) <= 3000, shown


def test_an_old_snapshot_does_not_slow_the_search_for_what_is_due(database, source):
    """While it is open, each row that has passed stays in the way of whoever reads from the beginning."""
    passed = 50_000
    plans = Statements(database)
    old = database.connect()
    old.set_session(isolation_level="REPEATABLE READ")
    with old.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM outbox.delayed")
    database.execute("INSERT INTO outbox.delayed (id, routing_key, payload_text, waits_for, next_attempt_at)"
                     f" SELECT n, 'rk', 'x', 'retry', now() FROM generate_series(1, {passed}) AS n")
    database.execute(f"DELETE FROM outbox.delayed WHERE id < {passed}")
    one = source()
    one.expect("up")
    found = one.search()
    assert ids(found) == [passed]
    one.record([move(found["rows"][0], "delivered")])
    plans.all()
    for n in range(5):
        database.execute("INSERT INTO outbox.delayed (id, routing_key, payload_text, waits_for, next_attempt_at)"
                         " VALUES (%s, 'rk', 'x', 'retry', now())", [passed + n])
        found = one.search("due")
        assert ids(found) == [passed + n]
        one.record([move(found["rows"][0], "delivered")])
    one.end()
    searches = [p for text, p in plans.all() if text.startswith("WITH heads")]
    assert len(searches) == 5
    assert max(map(buffers, searches)) < 100
    old.close()


def test_a_search_takes_messages_by_their_id_though_the_table_is_believed_empty(database, source):
    """So it is believed after many have passed through, where an old snapshot kept their pages; to the planner all indexes are alike then."""
    for table in ("delayed", "dead"):
        database.execute(f"ALTER TABLE outbox.{table} SET (autovacuum_enabled = off)")
    old = database.connect()
    old.set_session(isolation_level="REPEATABLE READ")
    with old.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM outbox.delayed")
    fill(database, KEPT)
    database.execute("DELETE FROM outbox.delayed; DELETE FROM outbox.dead")
    database.execute("ANALYZE outbox.delayed, outbox.dead")
    fill(database, KEPT)
    plans = Statements(database)
    one = source()
    one.expect("up")
    one.search(rows=PAGE)
    one.search("lane", exchange="ex1", rows=PAGE)
    one.search("lane", exchange="ex1", routing_key="rk1", rows=PAGE)
    one.end()
    searches = [plan for text, plan in plans.all() if text.startswith("WITH heads")]
    assert len(searches) == 3
    for plan in searches:
        taken = [n for n in relations(plan) if n["Alias"] == "m"]
        assert [n["Index Name"] for n in taken] == ["delayed_pkey"] and taken[0]["Actual Loops"] > 10, json.dumps(plan, indent=1)
    old.close()
