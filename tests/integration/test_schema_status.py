"""How a message stands, one by one and counted, in random histories and among many."""

import contextlib
import random
import time

from schemas import call, cursor, db, insert, server, template    # noqa: F401


class Marks:
    """Writes marks as the relay does."""

    def __init__(self, cursor):
        self.cursor = cursor
        self.seq = 0

    def add(self, prev, target=None, last_id=0, sent_at=None):
        self.seq += 1
        self.cursor.execute(
            "INSERT INTO outbox.sent (seq, sent_at, prev, target, last_id, floor_id, max_id, messages, system_identifier,"
            " database_oid, table_oid) VALUES (%s, %s, %s, %s, %s, (SELECT coalesce(max(id), 0) FROM outbox.message"
            " WHERE pg_visible_in_snapshot(xid, %s::pg_snapshot)), 0, 1, 1, 1, 1)",
            (self.seq, sent_at or f"2026-01-01 00:00:{self.seq:02d}+00", prev, target, last_id, prev))


def snapshot(cursor):
    cursor.execute("SELECT pg_current_snapshot()::text")
    return cursor.fetchone()[0]


def status(cursor):
    cursor.execute("SELECT id, state, date_part('second', sent_at)::int FROM outbox.message_status ORDER BY id")
    return {row[0]: row[1:] for row in cursor.fetchall()}


def backlog(cursor):
    cursor.execute("SELECT pending, delayed, dead, estimated FROM outbox.backlog()")
    return cursor.fetchone()


PENDING = ("pending", None)


def test_a_row_is_sent_from_the_first_mark_on_that_covers_it(cursor):
    marks = Marks(cursor)
    a, b = insert(cursor), insert(cursor)
    assert status(cursor) == {a: PENDING, b: PENDING}
    assert backlog(cursor) == (2, 0, 0, False)
    empty, both = "1:1:", snapshot(cursor)
    c = insert(cursor)
    marks.add(empty, both, a)
    assert status(cursor) == {a: ("sent", 1), b: PENDING, c: PENDING}
    assert backlog(cursor) == (2, 0, 0, False)
    marks.add(empty, both, b)
    assert status(cursor) == {a: ("sent", 1), b: ("sent", 2), c: PENDING}
    assert backlog(cursor) == (1, 0, 0, False)
    marks.add(both)
    assert status(cursor) == {a: ("sent", 1), b: ("sent", 2), c: PENDING}
    three = snapshot(cursor)
    d = insert(cursor)
    marks.add(both, three, c)
    assert status(cursor) == {a: ("sent", 1), b: ("sent", 2), c: ("sent", 4), d: PENDING}
    assert backlog(cursor) == (1, 0, 0, False)
    # Marks are trimmed from the front: then the first one left.
    cursor.execute("DELETE FROM outbox.sent WHERE seq < 3")
    assert status(cursor) == {a: ("sent", 3), b: ("sent", 3), c: ("sent", 4), d: PENDING}


def test_a_transaction_that_commits_late_is_pending_until_its_own_interval(db, cursor):
    marks = Marks(cursor)
    with contextlib.closing(db.connect(autocommit=False)) as late:
        straggler = insert(late.cursor())
        early = insert(cursor)
        first = snapshot(cursor)
        late.commit()
    after = insert(cursor)
    # The interval up to ${first} does not hold the straggler although its id is lower.
    marks.add("1:1:", first, early)
    assert status(cursor) == {straggler: PENDING, early: ("sent", 1), after: PENDING}
    assert backlog(cursor) == (2, 0, 0, False)
    marks.add(first)
    assert status(cursor) == {straggler: PENDING, early: ("sent", 1), after: PENDING}
    assert backlog(cursor) == (2, 0, 0, False)
    second = snapshot(cursor)
    marks.add(first, second, straggler)
    assert status(cursor) == {straggler: ("sent", 3), early: ("sent", 1), after: PENDING}
    assert backlog(cursor) == (1, 0, 0, False)
    marks.add(second)
    assert status(cursor) == {straggler: ("sent", 3), early: ("sent", 1), after: ("sent", 4)}
    assert backlog(cursor) == (0, 0, 0, False)


def test_backlog_counts_what_the_status_view_calls_pending_in_random_histories(db, cursor):
    for seed in range(5):
        rng = random.Random(seed)
        cursor.execute("TRUNCATE outbox.message, outbox.sent RESTART IDENTITY")
        marks = Marks(cursor)
        writers = [db.connect(autocommit=False) for _ in range(4)]
        prev, target, reached = snapshot(cursor), None, 0
        try:
            for _ in range(60):
                step = rng.random()
                if step < 0.5:
                    insert(rng.choice(writers).cursor())
                elif step < 0.75:
                    writer = rng.choice(writers)
                    writer.commit() if rng.random() < 0.8 else writer.rollback()
                else:
                    if target is None:
                        target, reached = snapshot(cursor), 0
                    cursor.execute("SELECT id FROM outbox.message WHERE pg_visible_in_snapshot(xid, %s::pg_snapshot)"
                                   " AND NOT pg_visible_in_snapshot(xid, %s::pg_snapshot) AND id > %s ORDER BY id LIMIT 3",
                                   (target, prev, reached))
                    rows = cursor.fetchall()
                    if len(rows) < 3:
                        prev, target = target, None
                        marks.add(prev, sent_at="2026-01-01")
                    else:
                        reached = rows[-1][0]
                        marks.add(prev, target, reached, sent_at="2026-01-01")
                cursor.execute("SELECT count(*) FILTER (WHERE state = 'pending'), count(*) FILTER (WHERE state = 'sent'),"
                               " count(*) FILTER (WHERE (state = 'sent') <> (sent_at IS NOT NULL)) FROM outbox.message_status")
                pending, sent, wrong = cursor.fetchone()
                assert backlog(cursor) == (pending, 0, 0, False), f"seed {seed}"
                assert wrong == 0
        finally:
            for writer in writers:
                writer.close()
        assert sent > 0 and marks.seq > 3


def test_delayed_and_dead_rows_have_their_state_once_whether_kept_as_message_or_not(cursor):
    marks = Marks(cursor)
    kept_delayed, kept_dead, plain = insert(cursor), insert(cursor), insert(cursor)
    marks.add(snapshot(cursor))
    cursor.execute("INSERT INTO outbox.delayed (id, message_id, exchange, routing_key, payload_text, attempts, last_error, next_attempt_at)"
                   " SELECT id, message_id, exchange, routing_key, payload_text, 3, 'nacked', now() FROM outbox.message WHERE id = %s",
                   (kept_delayed,))
    cursor.execute("INSERT INTO outbox.dead (id, message_id, exchange, routing_key, payload_text, persistent, created_at, attempts,"
                   " last_error, reason) SELECT id, message_id, exchange, routing_key, payload_text, true, created_at, 10, 'unroutable',"
                   " 'attempts' FROM outbox.message WHERE id = %s", (kept_dead,))
    cursor.execute("INSERT INTO outbox.dead (id, message_id, exchange, routing_key, persistent, created_at, reason)"
                   " VALUES (1000, outbox.uuid_v7(), '', 'rk', true, now(), 'unfit')")
    call(cursor, "'x'", deliver_at="2100-01-01")
    cursor.execute("SELECT id, state, sent_at IS NULL, attempts, last_error, reason, slot IS NULL FROM outbox.message_status ORDER BY id")
    assert cursor.fetchall() == [
        (kept_delayed, "delayed", True, 3, "nacked", None, False), (kept_dead, "dead", True, 10, "unroutable", "attempts", False),
        (plain, "sent", False, 0, None, None, False), (plain + 1, "delayed", True, 0, None, None, True),
        (1000, "dead", True, 0, None, "unfit", True)]
    assert backlog(cursor) == (0, 2, 2, False)


def test_backlog_is_exact_to_ten_thousand_and_estimates_above_without_reading_it(cursor):
    cursor.execute("INSERT INTO outbox.message (routing_key, payload_text) SELECT 'r', 'x' FROM generate_series(1, 10000)")
    assert backlog(cursor) == (10000, 0, 0, False)
    cursor.execute("INSERT INTO outbox.message (routing_key, payload_text) SELECT 'r', 'x' FROM generate_series(1, 190000)")
    before = leaf_reads(cursor)
    pending, _, _, estimated = backlog(cursor)
    assert estimated and 199000 <= pending <= 201000
    assert 10000 < leaf_reads(cursor) - before <= 25000
    marks = Marks(cursor)
    marks.add("1:1:", snapshot(cursor), 199990)
    assert backlog(cursor) == (10, 0, 0, False)
    cursor.execute("SELECT oldest_pending_age BETWEEN '0' AND '5 min' FROM outbox.backlog()")
    assert cursor.fetchone() == (True,)
    marks.add(snapshot(cursor))
    cursor.execute("SELECT pending, oldest_pending_age FROM outbox.backlog()")
    assert cursor.fetchone() == (0, None)


def leaf_reads(cursor):
    """Rows read from the slots so far."""
    cursor.execute("SELECT pg_stat_force_next_flush()")
    cursor.execute("SELECT sum(seq_tup_read) + sum(idx_tup_fetch) FROM pg_stat_user_tables"
                   " WHERE schemaname = 'outbox' AND relname LIKE 'message_%'")
    return int(cursor.fetchone()[0])


def test_rows_after_a_restart_of_the_identity_are_pending(cursor):
    marks = Marks(cursor)
    for _ in range(5):
        insert(cursor)
    marks.add(snapshot(cursor))
    cursor.execute("TRUNCATE outbox.message RESTART IDENTITY")
    assert insert(cursor) == 1
    assert backlog(cursor) == (1, 0, 0, False)
    assert status(cursor) == {1: PENDING}


def test_status_of_one_id_is_found_by_index_and_of_a_hundred_thousand_in_time(cursor):
    marks = Marks(cursor)
    cursor.execute("INSERT INTO outbox.message (routing_key, payload_text) SELECT 'r', 'x' FROM generate_series(1, 100000)")
    target = snapshot(cursor)
    for last_id in range(2500, 100001, 2500):
        marks.add("1:1:", target, last_id, sent_at="2026-01-01")
    cursor.execute("EXPLAIN (FORMAT JSON) SELECT * FROM outbox.message_status WHERE id = 77777")
    assert not set(seq_scanned(cursor.fetchone()[0])) & {"message_0", "message_1", "message_2"}
    began = time.monotonic()
    cursor.execute("SELECT state FROM outbox.message_status WHERE id = 99999")
    assert cursor.fetchone() == ("sent",)
    assert time.monotonic() - began < 1
    began = time.monotonic()
    cursor.execute("SELECT count(sent_at), count(DISTINCT state) FROM outbox.message_status")
    assert cursor.fetchone() == (100000, 1)
    assert time.monotonic() - began < 20


def seq_scanned(plan):
    if isinstance(plan, list):
        return [t for p in plan for t in seq_scanned(p)]
    if isinstance(plan, dict):
        own = [plan["Relation Name"]] if plan.get("Node Type") == "Seq Scan" else []
        return own + [t for v in plan.values() if isinstance(v, (list, dict)) for t in seq_scanned(v)]
    return []
