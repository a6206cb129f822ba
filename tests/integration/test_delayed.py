"""Messages that wait, and dead ones: what a mark moves, what a search finds, what holds a key; against a real Postgres."""

import time

import psycopg2
import psycopg2.extras
import pytest

from conftest import wait_until
from waiting import check, ids, move, source, waiting  # noqa: F401 (a fixture)

INSERT = "INSERT INTO outbox.message (exchange, routing_key, ordering_key, payload_text) VALUES (%s, %s, %s, %s) RETURNING id"


def write(database, key=None, exchange="ex", routing_key="rk", body="hello"):
    return database.value(INSERT, [exchange, routing_key, key, body])


def schedule(database, key=None, at="now()"):
    message_id = database.value(f"SELECT outbox.publish('ex', 'rk', 'later', ordering_key => %s, deliver_at => {at})", [key])
    return database.value("SELECT id FROM outbox.delayed WHERE message_id = %s", [message_id])


def leader(source, *arguments):
    one = source(*arguments)
    # The session before it may not have ended yet.
    while one.next()["event"] != "up":
        pass
    return one


def rows_of(answer):
    return {r["id"]: r for r in answer["rows"]}


# ---- fates

FATES = [("retry", "retry"), ("exchange", "exchange"), ("queue", "queue"), ("behind", "key")]


@pytest.mark.parametrize("key", ["k", None])
@pytest.mark.parametrize("fate, waits", FATES)
def test_a_fresh_message_is_put_aside_with_all_that_it_has(database, source, fate, waits, key):
    first = write(database, key if fate == "behind" else None)
    database.execute("INSERT INTO outbox.message (exchange, routing_key, payload, ordering_key, headers, type, app_id, content_type,"
                     " content_encoding, correlation_id, reply_to, expiration, priority, persistent, created_at) VALUES ('ex', 'rk',"
                     " '\\x00ff', %s, '{\"a\": 1}', 't', 'app', 'text/plain', 'gzip', 'c', 'r', '90 s', 7, false, '2020-02-02 02:02:02.5+00')",
                     [key])
    one = leader(source)
    fetched = one.fetch()
    before = fetched["rows"][1]
    one.record([move(fetched["rows"][0], "exchange", reason="missing"),
                move(before, fate, attempts=3, delay_ms=0, reason=None if fate == "behind" else "said no")], fetched)
    check(database)
    second = before["id"]
    lined_up = fate == "behind" and key is not None
    assert waiting(database) == {first: "exchange", second: "retry" if fate == "behind" and not key else waits}
    columns = ("message_id, exchange, routing_key, payload, payload_text, payload_json, ordering_key, headers, type, app_id, content_type,"
               " content_encoding, correlation_id, reply_to, expiration, priority, persistent, created_at")
    assert (database.query(f"SELECT {columns} FROM outbox.message WHERE id = %s", [second])
            == database.query(f"SELECT {columns} FROM outbox.delayed WHERE id = %s", [second]))
    assert database.query("SELECT attempts, last_error, deliver_at FROM outbox.delayed WHERE id = %s", [second]) == [
        (3, None if fate == "behind" else "said no", None)]
    assert database.value("SELECT state FROM outbox.message_status WHERE id = %s", [second]) == "delayed"

    # And it comes back as it was.
    if waits in ("exchange", "queue") or lined_up:
        lane = {"routing_key": "rk"} if waits == "queue" else {}
        found = one.search("lane", exchange="ex", **lane)
    else:
        found = one.search()
    again = rows_of(found)[second]
    origin = {"retry": "retry", "exchange": "lane", "queue": "lane", "key": "behind" if lined_up else "retry"}[waits]
    assert again == {**before, "origin": origin, "attempts": 3}


@pytest.mark.parametrize("hold", [True, False])
@pytest.mark.parametrize("delayed", [True, False])
def test_a_dead_message_keeps_all_that_it_has_and_may_hold_its_key(database, source, delayed, hold):
    first, second, other = write(database, "k"), write(database, "k"), write(database)
    one = leader(source)
    fetched = one.fetch()
    head, follower, plain = fetched["rows"]
    if delayed:
        one.record([move(head, "retry", attempts=1, reason="once"), move(follower, "behind"), move(plain, "queue", reason="slow")], fetched)
        found = rows_of(one.search())
        head, follower = found[first], found[second]
        plain = one.search("lane", exchange="ex", routing_key="rk")["rows"][0]
        one.record([move(head, "dead", hold=hold, attempts=2, reason="given up"), move(plain, "dead", hold=hold, attempts=0, reason="late")])
    else:
        one.record([move(head, "dead", hold=hold, attempts=2, reason="given up"), move(follower, "behind"),
                    move(plain, "dead", hold=hold, attempts=0, reason="late")], fetched)
    check(database)
    assert database.query("SELECT id, attempts, reason, last_error, holds_key, exchange, payload_text, discarded_at FROM outbox.dead"
                          " ORDER BY id") == [(first, 2, "given up", "given up", hold, "ex", "hello", None),
                                              (other, 0, "late", "late", False, "ex", "hello", None)]
    events = [e["event"] for e in database.value("SELECT history FROM outbox.dead WHERE id = %s", [first])]
    assert events == (["retry", "dead"] if delayed else ["dead"])
    assert waiting(database) == {second: "key" if hold else "retry"}
    # Held: nothing is found.
    assert ids(one.search()) == ([] if hold else [second])
    assert one.search()["next_in_ms"] == -1
    assert database.query("SELECT state, reason FROM outbox.message_status WHERE id = %s", [first]) == [("dead", "given up")]


def test_a_delivered_message_lets_the_next_of_its_key_go(database, source):
    keyed = [write(database, "k") for _ in range(4)]
    one = leader(source)
    fetched = one.fetch()
    one.record([move(r, "retry" if r["id"] == keyed[0] else "behind") for r in fetched["rows"]], fetched)
    check(database)
    found = one.search()
    assert [(r["id"], r["origin"]) for r in found["rows"]] == [(keyed[0], "retry")] + [(k, "behind") for k in keyed[1:]]
    one.record([move(r, "delivered") for r in found["rows"][:2]])
    check(database)
    assert waiting(database) == {keyed[2]: "retry", keyed[3]: "key"}
    found = one.search("due")
    assert [(r["id"], r["origin"]) for r in found["rows"]] == [(keyed[2], "retry"), (keyed[3], "behind")]
    # The first is refused; the one behind it goes on waiting.
    one.record([move(found["rows"][0], "retry", attempts=1, delay_ms=3600_000, reason="no"), move(found["rows"][1], "behind")])
    check(database)
    found = one.search()
    assert found["rows"] == [] and 3590_000 < found["next_in_ms"] <= 3600_000
    assert database.value("SELECT count(*) FROM outbox.sent WHERE messages = 0") == 2
    one.end()


def test_an_update_moves_a_waiting_message_from_one_reason_to_another(database, source):
    written = write(database, "k")
    one = leader(source)
    fetched = one.fetch()
    row = fetched["rows"][0]
    one.record([move(row, "retry", attempts=1, reason="nack")], fetched)
    for fate, waits in FATES + FATES:
        one.record([{"id": written, "delayed": True, "fate": fate, "attempts": 2, "reason": None if fate == "behind" else "because"}])
        check(database)
        # Alone it has nobody to line up behind.
        assert waiting(database) == {written: "retry" if fate == "behind" else waits}
    one.record([{"id": written, "delayed": True, "fate": "delivered"}])
    assert waiting(database) == {} and database.value("SELECT count(*) FROM outbox.dead") == 0


def test_a_message_that_lines_up_behind_nobody_is_due_at_once(database, source):
    late = database.connect()
    with late.cursor() as cursor:
        cursor.execute(INSERT, ["ex", "rk", "k", "straggler"])
        (straggler,) = cursor.fetchone()
    second = write(database, "k")
    one = leader(source)
    fetched = one.fetch()
    assert ids(fetched) == [second]
    one.record([move(fetched["rows"][0], "retry", attempts=1, delay_ms=3600_000, reason="no")], fetched)
    late.commit()
    fetched = one.fetch()
    assert [(r["id"], r["held"]) for r in fetched["rows"]] == [(straggler, True)]
    one.record([move(fetched["rows"][0], "behind")], fetched)
    check(database)
    # It has the lesser id: nobody is before it.
    assert waiting(database) == {straggler: "retry", second: "retry"}
    assert ids(one.search("due")) == [straggler]


# ---- all or nothing

def test_a_relay_that_lost_the_lead_moves_nothing(database, source):
    first, second = write(database, "k"), write(database)
    one = leader(source)
    fetched = one.fetch()
    one.record([move(fetched["rows"][0], "retry", reason="no")], fetched)
    found = one.search()
    third = write(database)
    fetched = one.fetch()
    # As another relay's mark would be.
    database.execute("INSERT INTO outbox.sent SELECT seq + 1, clock_timestamp(), prev, target, last_id, floor_id, max_id, 0, system_identifier,"
                     " database_oid, table_oid FROM outbox.sent ORDER BY seq DESC LIMIT 1", role="postgres")
    before = database.query("SELECT * FROM outbox.delayed ORDER BY id")
    one.send(record=fetched["interval"], exhausted=True, messages=1, max_id=third,
             moves=[move(found["rows"][0], "delivered"), move(fetched["rows"][0], "dead", reason="no")])
    down = one.expect("down")
    assert "another relay" in down["text"]
    assert database.query("SELECT * FROM outbox.delayed ORDER BY id") == before
    assert database.value("SELECT count(*) FROM outbox.dead") == 0
    assert second not in waiting(database)


def test_a_move_that_the_server_refuses_takes_the_mark_with_it(database, source):
    written = write(database)
    one = leader(source)
    fetched = one.fetch()
    database.execute("ALTER TABLE outbox.delayed ADD CONSTRAINT refuses CHECK (attempts < 5)")
    one.send(record=fetched["interval"], exhausted=True, messages=1, max_id=written, moves=[move(fetched["rows"][0], "retry", attempts=9)])
    # An answer to what was sent behind it.
    one.send(search="due")
    assert one.expect("found")["rows"] == []
    assert database.value("SELECT count(*) FROM outbox.sent") == 0 and waiting(database) == {}
    # It is tried again until the server takes it.
    database.execute("ALTER TABLE outbox.delayed DROP CONSTRAINT refuses")
    one.expect("recorded")
    assert database.query("SELECT seq, messages FROM outbox.sent") == [(1, 1)]
    assert waiting(database) == {written: "retry"}


def test_the_position_is_repeated_even_when_there_is_none(database, source):
    database.query("SELECT outbox.publish('ex', 'rk', 'x', deliver_at => now())")
    one = leader(source)
    found = one.search()
    assert [r["origin"] for r in found["rows"]] == ["scheduled"]
    one.record([move(found["rows"][0], "delivered")])
    written = write(database)
    fetched = one.fetch()
    assert ids(fetched) == [written]
    one.record([], fetched)
    newest = "SELECT prev::text, target::text, last_id, floor_id, max_id FROM outbox.sent ORDER BY seq DESC LIMIT 1"
    mark = database.query(newest)
    schedule(database)
    one.record([move(one.search()["rows"][0], "delivered")])
    assert database.query(newest) == mark
    assert database.query("SELECT seq, messages FROM outbox.sent ORDER BY seq") == [(1, 0), (2, 1), (3, 0)]
    # And by the next leader, which knows it from the table.
    one.end()
    schedule(database)
    one = leader(source)
    one.record([move(one.search()["rows"][0], "delivered")])
    assert database.query(newest) == mark
    assert one.fetch()["rows"] == []


# ---- what people read

NASTY = "quote ' double \" back\\slash {curly, comma} NULL \n line \t é ☃ 💥 $1 %s \x7f"


def test_reasons_may_say_anything(database, source):
    written = [write(database) for _ in range(4)]
    one = leader(source)
    fetched = one.fetch()
    invalid = [0x61, 0x00, 0xff, 0xc3, 0x28, 0xed, 0xa0, 0x80, 0xf4, 0x90, 0x80, 0x80, 0xc0, 0x80, 0xc3, 0xa9, 0xe2, 0x98]
    moves = [move(fetched["rows"][0], "retry", attempts=1, reason=NASTY), move(fetched["rows"][1], "dead", reason=NASTY),
             {**move(fetched["rows"][2], "retry"), "reason_bytes": invalid}, move(fetched["rows"][3], "retry", reason="é" * 5000)]
    one.record(moves, fetched)
    assert database.query("SELECT last_error, history -> 0 ->> 'reason' FROM outbox.delayed WHERE id = %s", [written[0]]) == [(NASTY, NASTY)]
    assert database.query("SELECT reason, history -> 0 ->> 'reason' FROM outbox.dead") == [(NASTY, NASTY)]
    assert database.value("SELECT last_error FROM outbox.delayed WHERE id = %s", [written[2]]) == "a??" + "?(" + "?" * 9 + "é" + "??"
    assert database.value("SELECT last_error FROM outbox.delayed WHERE id = %s", [written[3]]) == "é" * 500


def test_the_newest_twenty_events_are_kept(database, source):
    written = write(database)
    one = leader(source)
    fetched = one.fetch()
    one.record([move(fetched["rows"][0], "retry", attempts=1, reason="no 1")], fetched)
    for n in range(2, 26):
        one.record([{"id": written, "delayed": True, "fate": "retry", "attempts": n, "reason": f"no {n}"}])
    history = database.value("SELECT history FROM outbox.delayed")
    assert [(e["attempts"], e["reason"], e["event"]) for e in history] == [(n, f"no {n}", "retry") for n in range(6, 26)]
    one.record([{"id": written, "delayed": True, "fate": "dead", "attempts": 26, "reason": "enough"}])
    history = database.value("SELECT history FROM outbox.dead")
    assert len(history) == 20 and history[-1]["event"] == "dead" and history[0]["reason"] == "no 7"
    assert database.value("SELECT outbox.retry_dead(%s)", [[written]], role="relay") == 1
    history = database.value("SELECT history FROM outbox.delayed")
    assert len(history) == 20 and history[-1]["event"] == "retried"


# ---- searches

def test_due_rows_are_paged_in_the_order_in_which_they_fell_due(database, source):
    times = ["now() - interval '3 s'", "now() - interval '2 s'", "now() - interval '1 s'", "now() + interval '1 h'"]
    a, b, c, d = [schedule(database, at=at) for at in times]
    one = leader(source)
    found = one.search(rows=2)
    assert (ids(found), found["more"], found["next_in_ms"]) == ([a, b], True, 0)
    found = one.search("due", rows=2)
    assert (ids(found), found["more"]) == ([c], False)
    assert 3590_000 < found["next_in_ms"] <= 3600_000
    # What was found is not found again, unless all is asked for.
    assert ids(one.search("due")) == []
    assert ids(one.search("all", **{"except": [a, c]})) == [b]
    # What committed late, with a time gone by, is found when all is asked for.
    late = schedule(database, at="now() - interval '10 s'")
    assert ids(one.search("due")) == []
    assert ids(one.search("all")) == [late, a, b, c]
    database.execute("UPDATE outbox.delayed SET next_attempt_at = now() WHERE id = %s", [d])
    assert ids(one.search("due")) == [d]


def test_a_search_takes_rows_up_to_a_sum_of_bytes(database, source):
    written = [write(database, body="x" * 100_000) for _ in range(5)]
    one = leader(source)
    fetched = one.fetch()
    one.record([move(r, "retry") for r in fetched["rows"]], fetched)
    found = one.search(bytes=250_000)
    assert (ids(found), found["more"]) == (written[:3], True)
    found = one.search("due", bytes=250_000)
    assert (ids(found), found["more"]) == (written[3:], False)
    assert {r["body"] for r in found["rows"]} == {100_000}
    # One alone may pass it.
    assert ids(one.search(bytes=1)) == written[:1]


@pytest.mark.parametrize("kind", ["due", "lane"])
def test_each_head_is_followed_by_what_waits_behind_it(database, source, kind):
    a, b = write(database, "a"), write(database, "b")
    behind = {key: [] for key in "ab"}
    for n in range(150):
        for key in "ab":
            behind[key].append(write(database, key, exchange=f"x{n % 3}"))
    one = leader(source)
    fetched = one.fetch()
    fate = "retry" if kind == "due" else "exchange"
    one.record([move(r, fate if r["id"] in (a, b) else "behind") for r in fetched["rows"]], fetched)
    check(database)
    look = {"what": "all"} if kind == "due" else {"what": "lane", "exchange": "ex"}
    found = one.search(**look)
    assert ids(found) == [a] + behind["a"][:100] + [b] + behind["b"][:100]
    assert {r["origin"] for r in found["rows"]} == {"retry" if kind == "due" else "lane", "behind"}
    # A page that ends among followers goes on with the next head.
    found = one.search(**look, rows=50)
    assert ids(found) == [a] + behind["a"][:49] and found["more"]
    following = one.search("due") if kind == "due" else one.search("lane", exchange="ex", after=a)
    assert ids(following) == [b] + behind["b"][:100]
    # Those that are known already are passed over; a known head brings nobody.
    found = one.search(**look, **{"except": [a, behind["b"][0]]})
    assert ids(found) == [b] + behind["b"][1:100]
    assert ids(one.search(**look, rows=1)) == [a]


@pytest.mark.parametrize("kind", ["retry", "exchange"])
def test_a_key_is_served_from_its_first_message_on(database, source, kind):
    """Also where one behind it waits for something else than its key: that one stops those behind it."""
    first, second, third, fourth = [write(database, "k") for _ in range(4)]
    other = write(database)
    one = leader(source)
    fetched = one.fetch()
    one.record([move(r, {first: "retry", third: kind, other: "retry"}.get(r["id"], "behind")) for r in fetched["rows"]], fetched)
    found = one.search()
    assert [(r["id"], r["origin"]) for r in found["rows"]] == [(first, "retry"), (second, "behind"), (other, "retry")]
    assert ids(one.search("due")) == [] == ids(one.search("lane", exchange="ex"))
    one.record([move(r, "delivered") for r in found["rows"]])
    check(database)
    # It was passed over when it fell due: now it falls due anew.
    found = one.search("due") if kind == "retry" else one.search("lane", exchange="ex")
    assert ids(found) == [third, fourth]


def test_lanes_are_listed_and_read_in_order(database, source):
    one = leader(source)
    lanes = {("e1", None): [], ("e2", None): [], ("e1", "q1"): [], ("e1", "q2"): [], ("", "q1"): []}
    for _ in range(4):
        for exchange, routing_key in lanes:
            lanes[exchange, routing_key].append(write(database, exchange=exchange, routing_key=routing_key or "any"))
    fetched = one.fetch()
    one.record([move(r, "queue" if r["routing_key"] != "any" else "exchange", reason=f"no {r['exchange']} {r['routing_key']}")
                for r in fetched["rows"]], fetched)
    check(database)
    found = one.search()
    assert found["rows"] == [] and found["next_in_ms"] == -1
    assert sorted(map(tuple, found["lanes"]), key=str) == sorted(
        ((e, q, f"no {e} {q or 'any'}") for e, q in lanes), key=str)
    assert one.search("due")["lanes"] == []
    for (exchange, routing_key), members in lanes.items():
        where = {"exchange": exchange, **({"routing_key": routing_key} if routing_key else {})}
        assert ids(one.search("lane", **where)) == members
        page = one.search("lane", **where, rows=2, after=members[0])
        assert (ids(page), page["more"]) == (members[1:3], True)
        page = one.search("lane", **where, rows=2, after=members[2])
        assert (ids(page), page["more"]) == (members[3:], False)
    assert ids(one.search("lane", exchange="e3")) == [] == ids(one.search("lane", exchange="e2", routing_key="any"))


def test_a_scheduled_message_holds_nobody_and_obeys_the_hold_of_its_key(database, source):
    scheduled = schedule(database, "k")
    written = write(database, "k")
    one = leader(source)
    fetched = one.fetch()
    assert [r["held"] for r in fetched["rows"]] == [False]
    found = one.search()
    assert [(r["id"], r["origin"], r["held"]) for r in found["rows"]] == [(scheduled, "scheduled", False)]
    one.record([move(fetched["rows"][0], "retry", delay_ms=3600_000, reason="no")], fetched)
    found = one.search()
    assert [(r["id"], r["held"]) for r in found["rows"]] == [(scheduled, True)]
    late = schedule(database, "k")
    one.record([move(r, "behind") for r in one.search()["rows"]])
    check(database)
    # The earlier one has nobody before it, the later one has.
    assert waiting(database) == {scheduled: "retry", written: "retry", late: "key"}


def test_what_waits_keeps_its_time_of_writing_and_its_delivery_time(database, source):
    scheduled = schedule(database, at="now()")
    created, deliver_at = database.query("SELECT date_part('epoch', created_at)::bigint, deliver_at FROM outbox.delayed")[0]
    one = leader(source)
    (row,) = one.search()["rows"]
    assert row["timestamp_s"] in (created, created - 1)
    one.record([move(row, "dead", reason="no")])
    assert database.value("SELECT deliver_at FROM outbox.dead") == deliver_at
    database.query("SELECT outbox.retry_dead(ARRAY[%s])", [scheduled])
    assert database.query("SELECT deliver_at, waits_for FROM outbox.delayed") == [(deliver_at, "retry")]


# ---- held keys

def test_held_keys_are_looked_up_with_each_fetch(database, source):
    keys = ["plain", 'quote " back\\slash', "{curly,brace}", "NULL", "é☃", "", " "]
    heads = [write(database, key) for key in keys]
    one = leader(source)
    fetched = one.fetch()
    one.record([move(r, "retry", delay_ms=3600_000, reason="no") for r in fetched["rows"]], fetched)
    for key in keys:
        write(database, key)
        write(database, key + "x")
    write(database)
    fetched = one.fetch()
    held = {r["ordering_key"]: r["held"] for r in fetched["rows"]}
    assert held == {**{k + "x": False for k in keys}, **{k: True for k in keys}, None: False}
    one.record([move(r, "behind") for r in fetched["rows"] if r["held"]], fetched)
    check(database)
    # Gone, so nobody is held any more.
    database.execute("UPDATE outbox.delayed SET next_attempt_at = now() WHERE waits_for = 'retry'")
    one.record([move(r, "delivered") for r in one.search()["rows"]])
    assert waiting(database) == {} and len(heads) == 7
    write(database, "plain")
    assert [r["held"] for r in one.fetch()["rows"]] == [False]


def test_a_hold_is_seen_by_the_next_leader_and_not_asked_for_when_pipelined(database, source):
    write(database, "k")
    one = leader(source)
    fetched = one.fetch()
    one.record([move(fetched["rows"][0], "dead", hold=True, reason="no")], fetched)
    one.end()
    write(database, "k")
    one = leader(source, "--flush")
    fetched = one.fetch()
    assert [r["held"] for r in fetched["rows"]] == [True]
    one.end()
    one = leader(source, "--not-strict")
    assert [r["held"] for r in one.fetch()["rows"]] == [False]


def test_a_mark_on_its_way_is_seen_by_the_look_behind_it(database, source):
    first = write(database, "k")
    one = leader(source)
    fetched = one.fetch()
    # Nothing is held: the relay stops asking.
    assert ids(fetched) == [first] and not fetched["rows"][0]["held"]
    second = write(database, "k")
    one.send(record=fetched["interval"], exhausted=True, messages=1, max_id=first,
             moves=[move(fetched["rows"][0], "retry", delay_ms=3600_000, reason="no")])
    one.send(fetch=True)
    one.expect("recorded")
    assert [(r["id"], r["held"]) for r in one.expect("fetched")["rows"]] == [(second, True)]


# ---- people

def hold(database, source, followers=2):
    """A dead message that holds its key, and what waits behind it."""
    written = [write(database, "k") for _ in range(followers + 1)]
    one = leader(source)
    fetched = one.fetch()
    one.record([move(fetched["rows"][0], "dead", hold=True, attempts=10, reason="no")]
               + [move(r, "behind") for r in fetched["rows"][1:]], fetched)
    check(database)
    assert waiting(database) == {i: "key" for i in written[1:]} and ids(one.search()) == []
    return one, written


@pytest.mark.parametrize("role", ["owner", "relay"])
def test_retry_dead_sends_it_again_before_those_behind_it(database, source, role):
    one, (dead, second, third) = hold(database, source)
    assert database.value("SELECT outbox.retry_dead(%s)", [[dead, 12345]], role=role) == 1
    check(database)
    assert waiting(database) == {dead: "retry", second: "key", third: "key"}
    found = one.search()
    assert [(r["id"], r["origin"], r["attempts"]) for r in found["rows"]] == [
        (dead, "retry", 0), (second, "behind", 0), (third, "behind", 0)]
    assert database.query("SELECT operation, messages, actor, details FROM outbox.operation") == [
        ("retry", 1, database.roles[role], {"from": "dead", "first_ids": [dead]})]
    one.record([move(r, "delivered") for r in found["rows"]])
    assert waiting(database) == {}
    assert database.value("SELECT outbox.retry_dead('{}')") == 0


@pytest.mark.parametrize("role", ["owner", "relay"])
def test_discard_dead_lets_those_behind_it_go(database, source, role):
    one, (dead, second, third) = hold(database, source)
    assert database.value("SELECT dead FROM outbox.backlog()") == 1
    assert database.value("SELECT outbox.discard_dead(%s)", [[dead]], role=role) == 1
    check(database)
    assert database.query("SELECT state, reason FROM outbox.message_status WHERE id = %s", [dead]) == [("dead", "discarded: no")]
    assert database.value("SELECT dead FROM outbox.backlog()") == 0
    assert waiting(database) == {second: "retry", third: "key"}
    assert ids(one.search()) == [second, third]
    assert database.query("SELECT operation, messages FROM outbox.operation") == [("discard", 1)]
    # A second time there is nothing to do.
    assert database.value("SELECT outbox.discard_dead(%s)", [[dead]]) == 0


def test_two_dead_ones_of_a_key_hold_it_until_both_are_dealt_with(database, source):
    written = [write(database, "k") for _ in range(3)]
    one = leader(source)
    fetched = one.fetch()
    one.record([move(r, "dead", hold=True, reason="no") for r in fetched["rows"][:2]] + [move(fetched["rows"][2], "behind")], fetched)
    database.query("SELECT outbox.discard_dead(ARRAY[%s])", [written[0]])
    check(database)
    assert waiting(database) == {written[2]: "key"}
    database.query("SELECT outbox.discard_dead(ARRAY[%s])", [written[1]])
    check(database)
    assert waiting(database) == {written[2]: "retry"}


@pytest.mark.parametrize("act", ["retry", "discard"])
@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_a_person_who_leaves_a_transaction_open_stops_nobody(database, source, act, ends):
    """The relay neither waits for the person, nor sends past what is still held, nor forgets what comes meanwhile."""
    one, (dead, second) = hold(database, source, 1)
    person = database.connect()
    with person.cursor() as cursor:
        cursor.execute(f"SELECT outbox.{act}_dead(%s)", [[dead]])
    third = write(database, "k")
    other = write(database, "other")
    fetched = one.fetch()
    assert [(r["id"], r["held"]) for r in fetched["rows"]] == [(third, True), (other, False)]
    begun = time.monotonic()
    one.record([move(fetched["rows"][0], "behind")], fetched)
    assert time.monotonic() - begun < 5
    assert ids(one.search()) == []
    getattr(person, ends)()
    check(database)
    if ends == "rollback":
        assert ids(one.search()) == []
        database.query(f"SELECT outbox.{act}_dead(%s)", [[dead]])
    # Each that was due before its turn came falls due anew when it comes.
    for expected in ([[dead]] if act == "retry" else []) + [[second, third]]:
        found = one.search("due")
        assert ids(found) == expected
        one.record([move(r, "delivered") for r in found["rows"]])


def test_a_person_waits_for_a_mark_that_lines_up_behind_what_is_dead(database, source):
    """Else the last message would wait for ever: the person would not see it, nor the mark the person."""
    one, (dead,) = hold(database, source, 0)
    second = write(database, "k")
    fetched = one.fetch()
    # Holds the mark's transaction open, at its last statement.
    blocker = database.connect("postgres")
    with blocker.cursor() as cursor:
        cursor.execute("CREATE TABLE outbox.gate (); GRANT ALL ON outbox.gate TO PUBLIC; CREATE FUNCTION outbox.pass() RETURNS trigger"
                       " LANGUAGE plpgsql AS $$ BEGIN LOCK TABLE outbox.gate IN SHARE MODE; RETURN NULL; END $$;"
                       " CREATE CONSTRAINT TRIGGER pass AFTER INSERT ON outbox.delayed DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
                       " EXECUTE FUNCTION outbox.pass()")
        blocker.commit()
        cursor.execute("LOCK TABLE outbox.gate IN ACCESS EXCLUSIVE MODE")
    one.send(record=fetched["interval"], exhausted=True, messages=1, max_id=second, moves=[move(fetched["rows"][0], "behind")])
    locks = "SELECT FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock' AND usename = %s"
    wait_until(lambda: database.query(locks, [database.name, database.roles["relay"]], role="postgres"))
    person = psycopg2.connect(database.dsn("owner"), async_=True)
    psycopg2.extras.wait_select(person)
    acting = person.cursor()
    acting.execute("SELECT outbox.discard_dead(%s)", [[dead]])
    wait_until(lambda: database.query(locks, [database.name, database.roles["owner"]], role="postgres"))
    blocker.commit()
    one.expect("recorded")
    psycopg2.extras.wait_select(person)
    person.close()
    check(database)
    assert waiting(database) == {second: "retry"}


# ---- waking

@pytest.mark.parametrize("asleep", [True, False])
def test_a_waiting_fetch_is_answered_when_something_is_scheduled(database, source, asleep):
    one = leader(source, "--poll-interval-ms", 3600_000)
    one.send(fetch=True, wait=True)
    if asleep:
        # It falls asleep, and says so once by an empty answer.
        assert one.expect("fetched")["rows"] == []
        one.send(fetch=True, wait=True)
        wait_until(lambda: database.query("SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 'outbox.message'::regclass::oid"
                                          " AND objid <> 4294967295 AND mode = 'ExclusiveLock'"))
    scheduled = schedule(database)
    assert one.expect("fetched", 5)["rows"] == []
    assert ids(one.search()) == [scheduled]
