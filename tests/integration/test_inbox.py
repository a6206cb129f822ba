"""The inbox: a message that comes twice, at once or later, takes effect once for each consumer."""

import random
import threading
import time

import psycopg2
import psycopg2.errors
import pytest

from conftest import ROOT, wait_until


@pytest.fixture
def inbox(empty_database):
    empty_database.migrate("inbox")
    empty_database.query("SELECT inbox.grant_consumer(%s)", [empty_database.roles["writer"]])
    empty_database.execute("CREATE TABLE effect (message_id text)")
    empty_database.execute(f"GRANT SELECT, INSERT ON effect TO {empty_database.roles['writer']}")
    return empty_database


def claim(cursor, message_id, consumer="billing"):
    cursor.execute("SELECT inbox.claim(%s, %s)", [consumer, message_id])
    return cursor.fetchone()[0]


def waits(database, pid):
    return database.value("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %s", [pid], role="postgres")


def test_a_claim_holds_for_its_consumer_and_goes_with_the_transaction(inbox):
    connection = inbox.connect("writer")
    cursor = connection.cursor()
    assert claim(cursor, "a") and not claim(cursor, "a") and claim(cursor, "a", "shipping")
    connection.rollback()
    assert claim(cursor, "a")
    connection.commit()
    assert not claim(cursor, "a")
    connection.commit()
    assert inbox.query("SELECT consumer, claimed, failing FROM inbox.status") == [("billing", 1, 0)]


@pytest.mark.parametrize("first_commits", [True, False])
def test_a_duplicate_at_the_same_time_waits_and_then_knows(inbox, first_commits):
    first, second = inbox.connect("writer"), inbox.connect("writer")
    assert claim(first.cursor(), "a")
    answers = []
    thread = threading.Thread(target=lambda: answers.append(claim(second.cursor(), "a")))
    thread.start()
    wait_until(lambda: waits(inbox, second.get_backend_pid()), what="the second claim waits")
    first.commit() if first_commits else first.rollback()
    thread.join()
    assert answers == [not first_commits]


def test_lock_timeout_bounds_the_wait(inbox):
    first, second = inbox.connect("writer"), inbox.connect("writer")
    claim(first.cursor(), "a")
    cursor = second.cursor()
    cursor.execute("SET LOCAL lock_timeout = '50ms'")
    with pytest.raises(psycopg2.errors.LockNotAvailable):
        claim(cursor, "a")
    second.rollback()
    first.rollback()
    assert claim(second.cursor(), "a")


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
def test_above_read_committed_a_duplicate_at_the_same_time_begins_anew(inbox, isolation, batch):
    """40001 as it waits for another that commits, and as its snapshot is older than the claim; then it is seen."""
    first, second = inbox.connect("writer"), inbox.connect("writer")
    second.set_session(isolation_level=isolation)

    def attempt():
        with second.cursor() as cursor:
            if not batch:
                return claim(cursor, "a")
            cursor.execute("SELECT inbox.claim('billing', ARRAY['a', 'b'])")
            return "a" in [row[0] for row in cursor.fetchall()]

    def attempt_in_a_thread(answers):
        try:
            answers.append(attempt())
        except psycopg2.errors.SerializationFailure:
            answers.append("40001")

    assert claim(first.cursor(), "a")
    answers = []
    thread = threading.Thread(target=attempt_in_a_thread, args=[answers])
    thread.start()
    wait_until(lambda: waits(inbox, second.get_backend_pid()), what="the second claim waits")
    first.commit()
    thread.join()
    assert answers == ["40001"]
    second.rollback()
    assert attempt() is False
    second.rollback()

    # One that rolls back is waited for, too, and costs nothing.
    inbox.query("SELECT inbox.forget('billing', '-infinity')")
    assert claim(first.cursor(), "a")
    thread = threading.Thread(target=attempt_in_a_thread, args=[answers])
    thread.start()
    wait_until(lambda: waits(inbox, second.get_backend_pid()), what="the second claim waits again")
    first.rollback()
    thread.join()
    assert answers[1] is True
    second.rollback()

    with second.cursor() as cursor:
        cursor.execute("SELECT 1 FROM inbox.attempt")
    claim(first.cursor(), "a")
    first.commit()
    with pytest.raises(psycopg2.errors.SerializationFailure):
        attempt()
    second.rollback()
    assert attempt() is False


def test_claims_of_different_messages_do_not_disturb_each_other_under_serializable(inbox):
    """In the same page of the index, at the same time."""
    connections = [inbox.connect("writer") for _ in range(8)]
    for connection in connections:
        connection.set_session(isolation_level="SERIALIZABLE")
    for turn in range(2):
        for number, connection in enumerate(connections):
            with connection.cursor() as cursor:
                assert claim(cursor, f"m{turn} {number}")
                cursor.execute("SELECT inbox.claim('billing', ARRAY[%s, %s])", [f"n{turn} {number}", f"o{turn} {number}"])
                assert len(cursor.fetchall()) == 2
    for connection in connections:
        connection.commit()
    assert inbox.value("SELECT count(*) FROM inbox.message") == 48


def test_batches_of_the_same_messages_never_deadlock(inbox):
    """Eight at once, each in an order of its own: every message has its effect once."""
    ids = [f"m{n}" for n in range(400)]
    failures = []

    def consume(seed):
        order = random.Random(seed)
        try:
            connection = inbox_connections[seed]
            for _ in range(5):
                batch = order.sample(ids, len(ids) // 2)
                with connection.cursor() as cursor:
                    cursor.execute("SELECT inbox.claim('billing', %s)", [batch])
                    new = [row[0] for row in cursor.fetchall()]
                    cursor.execute("INSERT INTO effect SELECT unnest(%s::text[])", [new])
                connection.commit()
        except psycopg2.Error as failure:
            failures.append(failure)

    inbox_connections = [inbox.connect("writer") for _ in range(8)]
    threads = [threading.Thread(target=consume, args=[seed]) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert inbox.value("SELECT count(*) = count(DISTINCT message_id) AND count(*) > 390 FROM effect")


@pytest.mark.parametrize("consumer,message_id,named", [
    ("", "a", "consumer_1_to_255_bytes"), ("c" * 256, "a", "consumer_1_to_255_bytes"),
    ("c", "", "message_id_1_to_255_bytes"), ("c", "a" * 256, "message_id_1_to_255_bytes"),
    (None, "a", "consumer"), ("c", None, "message_id")])
def test_what_cannot_be_claimed_is_named(inbox, consumer, message_id, named):
    cursor = inbox.connect("writer").cursor()
    with pytest.raises(psycopg2.errors.IntegrityError, match=named):
        claim(cursor, message_id, consumer)


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("consumer,message_id,column,constraint", [
    ("", "a", "consumer", "consumer_1_to_255_bytes"), ("c" * 256, "a", "consumer", "consumer_1_to_255_bytes"),
    ("ü" * 128, "a", "consumer", "consumer_1_to_255_bytes"),
    ("c", "", "message_id", "message_id_1_to_255_bytes"), ("c", "a" * 256, "message_id", "message_id_1_to_255_bytes"),
    ("c", "ü" * 128, "message_id", "message_id_1_to_255_bytes"),
    (None, "a", "consumer", None), ("c", None, "message_id", None)],
    ids=["no name", "long name", "long name of few letters", "no id", "long id", "long id of few letters", "name NULL", "id NULL"])
def test_a_refusal_names_what_and_why_and_repeats_nothing(inbox, batch, consumer, message_id, column, constraint):
    cursor = inbox.connect("writer").cursor()
    with pytest.raises(psycopg2.errors.CheckViolation if constraint else psycopg2.errors.NotNullViolation) as refused:
        if batch:
            cursor.execute("SELECT inbox.claim(%s, %s::text[])", [consumer, ["first", message_id, "z"]])
        else:
            claim(cursor, message_id, consumer)
    diag = refused.value.diag
    assert (diag.schema_name, diag.table_name, diag.column_name, diag.constraint_name) == ("inbox", "message", column, constraint)
    if constraint:
        wrong = consumer if column == "consumer" else message_id
        assert f"1 to 255 bytes, not {len(wrong.encode())} " in diag.message_primary
        assert not wrong or wrong not in str(refused.value)


def test_names_and_ids_of_255_bytes_are_claimed(inbox):
    cursor = inbox.connect("writer").cursor()
    longest = "ü" * 127 + "x"
    assert claim(cursor, longest, longest) and not claim(cursor, longest, longest)
    cursor.execute("SELECT inbox.claim(%s, %s)", [longest, [longest, "x" * 255]])
    assert cursor.fetchall() == [("x" * 255,)]


def advisory_locks(inbox, connection):
    """How many the session holds or waits for."""
    return inbox.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = %s",
                       [connection.get_backend_pid()], role="postgres")


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_a_claim_leaves_no_advisory_lock_behind(inbox, isolation):
    """Neither while its transaction is open, nor after it fails."""
    connection = inbox.connect("writer")
    connection.set_session(isolation_level=isolation)
    cursor = connection.cursor()
    assert claim(cursor, "a") and not claim(cursor, "a")
    cursor.execute("SELECT inbox.claim('billing', ARRAY['a', 'b'])")
    assert cursor.fetchall() == [("b",)] and advisory_locks(inbox, connection) == 0
    connection.commit()
    for values in (["c", None], ["c", "x" * 256], ["c", ["x", None]], ["c", ["x", ""]], [None, "a"]):
        with pytest.raises(psycopg2.errors.IntegrityError):
            cursor.execute("SELECT inbox.claim(%s, %s)", values)
        assert advisory_locks(inbox, connection) == 0
        connection.rollback()
    assert advisory_locks(inbox, connection) == 0


def test_a_claim_that_is_cancelled_leaves_no_advisory_lock_behind(inbox):
    connection = inbox.connect("writer", autocommit=True)
    cursor = connection.cursor()
    cursor.execute("SET statement_timeout = '3ms'")
    for turn in range(60):
        with pytest.raises(psycopg2.errors.QueryCanceled):
            cursor.execute("DO $$ BEGIN LOOP PERFORM inbox.claim('c', 'm'); PERFORM inbox.claim('c', ARRAY['m', 'n']); END LOOP; END $$")
        assert advisory_locks(inbox, connection) == 0


def test_forget_lets_one_consumer_handle_again(inbox):
    cursor = inbox.connect("writer", autocommit=True).cursor()
    for consumer in ("billing", "shipping"):
        for message_id in ("old", "new"):
            claim(cursor, message_id, consumer)
    inbox.execute("UPDATE inbox.message SET claimed_at = now() - interval '1 hour' WHERE message_id = 'old'")
    cursor.execute("SELECT inbox.forget('billing', now() - interval '30 minutes')")
    assert cursor.fetchone()[0] == 1
    assert claim(cursor, "new") and not claim(cursor, "old") and not claim(cursor, "new", "shipping")


def test_purge_removes_the_old_in_bounded_pieces(inbox):
    inbox.execute("INSERT INTO inbox.message SELECT 'c', n::text, now() - n * interval '1 minute' FROM generate_series(0, 99) n")
    inbox.execute("INSERT INTO inbox.attempt (consumer, message_id, attempts, last_at) VALUES ('c', 'x', 1, now() - interval '1 day')")
    cursor = inbox.connect("writer", autocommit=True).cursor()
    removed = []
    while not removed or removed[-1] == 30:
        cursor.execute("SELECT inbox.purge('10 minutes', 30)")
        removed.append(cursor.fetchone()[0])
    assert sum(removed) == 90 and removed[:2] == [30, 30]
    assert inbox.value("SELECT max(message_id::int) FROM inbox.message") == 9
    assert inbox.value("SELECT count(*) FROM inbox.attempt") == 0
    for age, rows in (("-1 second", 1), (None, 1), ("1 day", 0)):
        with pytest.raises(psycopg2.errors.InvalidParameterValue):
            cursor.execute("SELECT inbox.purge(%s, %s)", [age, rows])


def purging(inbox):
    """A session that has purged and not committed, and what it has purged."""
    inbox.execute("INSERT INTO inbox.message SELECT 'c', 'old-' || n, now() - interval '1 day' FROM generate_series(1, 50) n")
    connection = inbox.connect("writer")
    with connection.cursor() as cursor:
        cursor.execute("SELECT inbox.purge('1 hour')")
        assert cursor.fetchone()[0] == 50
    return connection


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"])
@pytest.mark.parametrize("purge_commits", [True, False])
def test_a_claim_of_what_is_being_purged_does_not_wait(inbox, isolation, purge_commits):
    """It was handled, whatever becomes of the purge; afterwards it is new, if the purge was committed."""
    other = purging(inbox)
    connection = inbox.connect("writer")
    connection.set_session(isolation_level=isolation)
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '10ms'")
        assert not claim(cursor, "old-7", "c") and claim(cursor, "new", "c") and claim(cursor, "old-7", "d")
        cursor.execute("SELECT inbox.claim('c', %s)", [["old-1", "other", "old-50"]])
        assert cursor.fetchall() == [("other",)]
        connection.commit()
        other.commit() if purge_commits else other.rollback()
        assert claim(cursor, "old-7", "c") == purge_commits


def test_under_serializable_it_waits_for_the_purge_and_begins_anew(inbox):
    other = purging(inbox)
    connection = inbox.connect("writer")
    connection.set_session(isolation_level="SERIALIZABLE")
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '10ms'")
        connection.commit()
        with pytest.raises(psycopg2.errors.LockNotAvailable):
            claim(cursor, "old-7", "c")
        connection.rollback()
        other.commit()
        assert claim(cursor, "old-7", "c")


@pytest.fixture(params=["purge", "forget"])
def removing(request, inbox):
    """A session that has removed claims of c and not committed."""
    if request.param == "purge":
        return purging(inbox)
    inbox.execute("INSERT INTO inbox.message SELECT 'c', 'old-' || n FROM generate_series(1, 50) n")
    connection = inbox.connect("writer")
    with connection.cursor() as cursor:
        cursor.execute("SELECT inbox.forget('c', '-infinity')")
        assert cursor.fetchone()[0] == 50
    return connection


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_claims_of_others_go_on_beside_what_removes_claims(inbox, removing, isolation):
    connection = inbox.connect("writer")
    connection.set_session(isolation_level=isolation)
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '10ms'")
        assert claim(cursor, "new", "c") and not claim(cursor, "new", "c") and claim(cursor, "old-7", "d")
        cursor.execute("SELECT inbox.claim('c', %s)", [["newest", "new", "other", "other"]])
        assert cursor.fetchall() == [("newest",), ("other",)]
        assert advisory_locks(inbox, connection) == 0
        connection.commit()
        removing.commit()
        assert advisory_locks(inbox, removing) == 0
        assert claim(cursor, "old-7", "c") and not claim(cursor, "new", "c")


def test_what_is_being_removed_counts_as_handled_until_it_is_gone(inbox, removing):
    connection = inbox.connect("writer")
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '10ms'")
        assert not claim(cursor, "old-7", "c")
        cursor.execute("SELECT inbox.claim('c', ARRAY['old-1', 'old-50'])")
        assert cursor.fetchall() == []
        removing.commit()
        cursor.execute("SELECT inbox.claim('c', ARRAY['old-50', 'old-1'])")
        assert claim(cursor, "old-7", "c") and cursor.fetchall() == []


@pytest.mark.parametrize("batch", [False, True])
def test_a_duplicate_at_the_same_time_waits_beside_what_removes_claims_too(inbox, removing, batch):
    first, second = inbox.connect("writer"), inbox.connect("writer")
    assert claim(first.cursor(), "a")
    answers = []

    def attempt():
        with second.cursor() as cursor:
            cursor.execute("SELECT inbox.claim('billing', %s)", [["b", "a"] if batch else "a"])
            answers.extend(cursor.fetchall())

    thread = threading.Thread(target=attempt)
    thread.start()
    wait_until(lambda: waits(inbox, second.get_backend_pid()), what="the second claim waits")
    first.commit()
    thread.join()
    assert answers == ([("b",)] if batch else [(False,)])


def test_what_removes_claims_waits_for_none_of_its_kind(inbox, removing):
    """Several consumers purge by themselves, one perhaps in a long transaction."""
    inbox.execute("INSERT INTO inbox.message SELECT 'e', n::text, now() - interval '1 day' FROM generate_series(1, 30) n")
    connection = inbox.connect("writer")
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '10ms'")
        cursor.execute("SELECT inbox.purge('1 hour', 20), inbox.forget('e', '-infinity')")
        assert cursor.fetchone() == (20, 10)
    connection.commit()
    removing.commit()
    assert inbox.value("SELECT count(*) FROM inbox.message") == 0


def test_two_purges_at_once_share_the_work_and_both_end(inbox):
    inbox.execute("INSERT INTO inbox.message SELECT 'c', n::text, now() - interval '1 day' FROM generate_series(1, 20000) n")
    connections = [inbox.connect("writer", autocommit=True) for _ in range(2)]
    removed = []

    def purge(connection):
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '10s'")
            while True:
                cursor.execute("SELECT inbox.purge('1 hour', 200)")
                removed.append(cursor.fetchone()[0])
                if removed[-1] == 0:
                    break

    threads = [threading.Thread(target=purge, args=[connection]) for connection in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(removed) == 20000 and [advisory_locks(inbox, connection) for connection in connections] == [0, 0]


@pytest.mark.parametrize("beside_a_purge", [False, True])
def test_a_claim_goes_by_the_index_though_its_plan_was_made_for_an_empty_table(inbox, beside_a_purge):
    if beside_a_purge:
        purge = inbox.connect("writer")
        purge.cursor().execute("SELECT inbox.purge('1 day')")
    cursor = inbox.connect("writer", autocommit=True).cursor()
    claim(cursor, "first", "c")
    inbox.execute("ANALYZE inbox.message")
    for number in range(10):
        claim(cursor, f"first-{number}", "c")
    inbox.execute("INSERT INTO inbox.message SELECT 'c', n::text FROM generate_series(1, 50000) n")
    scans = "SELECT seq_scan FROM pg_stat_user_tables WHERE relid = 'inbox.message'::regclass"
    read = "SELECT pg_stat_clear_snapshot(); " + scans
    # While the table was empty, a scan was right.
    cursor.execute("SELECT pg_stat_force_next_flush()")
    cursor.execute("SELECT 1")
    before = inbox.value(read)
    for number in range(20):
        claim(cursor, f"next-{number}", "c")
    cursor.execute("SELECT count(*) FROM inbox.claim('c', ARRAY(SELECT (n * 7)::text FROM generate_series(1, 200) n))")
    assert cursor.fetchone()[0] == 0
    cursor.execute("SELECT pg_stat_force_next_flush()")
    cursor.execute("SELECT 1")
    assert inbox.value(read) == before


@pytest.mark.parametrize("step", [10000, 1000000])
def test_purge_of_a_million_keeps_no_claim_waiting(inbox, step):
    """Neither of what is new nor of what is on its way out, though all were purged at once."""
    inbox.execute("INSERT INTO inbox.message SELECT 'c', n::text, now() - interval '1 day' FROM generate_series(1, 1000000) n")
    purging = inbox.connect("writer", autocommit=True).cursor()
    done = threading.Event()

    def purge():
        while True:
            purging.execute("SELECT inbox.purge('1 hour', %s)", [step])
            if purging.fetchone()[0] < step:
                break
        done.set()

    observer = inbox.connect("postgres", autocommit=True).cursor()
    claiming = inbox.connect("writer", autocommit=True)
    stop = threading.Event()
    claims = []

    def claim_on():
        number = 0
        cursor = claiming.cursor()
        while not stop.is_set():
            number += 1
            claims.append(claim(cursor, f"new-{number}", "c"))
            claim(cursor, str(number * 997 % 1000000 + 1), "c")
            # The ones that are purged next.
            cursor.execute("SELECT inbox.claim('c', ARRAY(SELECT (%s + n)::text FROM generate_series(1, 20) n))", [number * 1000])

    threads = [threading.Thread(target=purge), threading.Thread(target=claim_on)]
    for thread in threads:
        thread.start()
    longest = 0.0
    while not done.is_set():
        observer.execute("SELECT extract(epoch FROM clock_timestamp() - waitstart)::float FROM pg_locks"
                         " WHERE pid = %s AND NOT granted", [claiming.get_backend_pid()])
        longest = max([longest] + [waited or 0 for waited, in observer.fetchall()])
        time.sleep(0.001)
    stop.set()
    for thread in threads:
        thread.join()
    assert longest < 0.05
    assert len(claims) > 100 and all(claims)
    assert inbox.value("SELECT count(*) FROM inbox.message WHERE claimed_at < now() - interval '1 hour'") == 0


def test_failures_are_counted_over_restarts(inbox):
    cursor = inbox.connect("writer", autocommit=True).cursor()
    for count in (1, 2):
        cursor.execute("SELECT inbox.fail('c', 'm', 'it''s \x01 bad')")
        assert cursor.fetchone()[0] == count
    cursor.execute("SELECT inbox.attempts('c', 'm'), inbox.attempts('c', 'other'), inbox.attempts('d', 'm')")
    assert cursor.fetchone() == (2, 0, 0)


def test_a_role_without_the_grant_can_do_nothing(inbox):
    stranger = inbox.connect("monitor", autocommit=True).cursor()
    for sql in ("SELECT inbox.claim('c', 'm')", "SELECT * FROM inbox.message", "SELECT inbox.purge('1 day')"):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            stranger.execute(sql)
    consumer = inbox.connect("writer", autocommit=True).cursor()
    for sql in ("DROP TABLE inbox.message", "SELECT inbox.record_migration(1, 'x', true)", "TRUNCATE inbox.message"):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            consumer.execute(sql)


def test_the_relay_applies_it_under_any_name_and_takes_it_back(empty_database, relay):
    def migrate(*words):
        done = relay.command("migrate", *words, "--line", "inbox", config={"postgres": {"dsn": empty_database.dsn("owner")}})
        assert done.returncode == 0, done.stderr
        return done.stdout
    migrate("up", "--schema", "seen")
    assert empty_database.value("SELECT seen.claim('c', 'm')") and not empty_database.value("SELECT seen.claim('c', 'm')")
    assert empty_database.value("SELECT seen.applied_migrations()") == [1, 2, 3]
    empty_database.execute("SELECT seen.forget('c', '-infinity')")
    migrate("down", "--schema", "seen", "--to", "0")
    assert empty_database.value("SELECT to_regnamespace('seen')") is None


def test_down_refuses_while_there_are_claims(inbox, relay):
    inbox.value("SELECT inbox.claim('c', 'm')")
    done = relay.command("migrate", "down", "--line", "inbox", "--to", "0",
                         config={"postgres": {"dsn": inbox.dsn("owner")}})
    assert done.returncode != 0 and "still holds claims" in done.stderr
    assert inbox.value("SELECT count(*) FROM inbox.message") == 1


def test_who_was_granted_before_a_migration_needs_no_new_grant(empty_database):
    files = sorted((ROOT / "migrations/inbox").glob("*.up.sql"))
    empty_database.psql("-1", "-f", files[0])
    empty_database.query("SELECT inbox.grant_consumer(%s)", [empty_database.roles["writer"]])
    for file in files[1:]:
        empty_database.psql("-1", "-f", file)
    cursor = empty_database.connect("writer", autocommit=True).cursor()
    assert claim(cursor, "a") and not claim(cursor, "a")
    cursor.execute("SELECT inbox.claim('billing', ARRAY['a', 'b'])")
    assert cursor.fetchall() == [("b",)]
    with empty_database.connect("owner").cursor() as remover:
        remover.execute("SELECT inbox.purge('1 day')")
        assert not claim(cursor, "a") and claim(cursor, "c")
    cursor.execute("SELECT inbox.purge('0'), inbox.forget('billing', '-infinity')")
    assert cursor.fetchone() == (3, 0)


def test_claims_stay_as_migrations_go_back_and_what_was_no_claim_is_named(inbox):
    down, up = (ROOT / f"migrations/inbox/0003_cheap_claims.{way}.sql" for way in ("down", "up"))
    cursor = inbox.connect("writer", autocommit=True).cursor()
    assert claim(cursor, "a" * 255)
    inbox.execute("INSERT INTO inbox.message VALUES ('', 'written past claim()')")
    refused = inbox.psql("-1", "-f", down, check=False)
    assert refused.returncode != 0 and '"consumer_1_to_255_bytes"' in refused.stderr and "violated by some row" in refused.stderr
    assert inbox.value("SELECT inbox.applied_migrations()") == [1, 2, 3] and not claim(cursor, "a" * 255)
    inbox.execute("DELETE FROM inbox.message WHERE consumer = ''")
    for file, versions, number in ((down, [1, 2], "1.1"), (up, [1, 2, 3], "1.2")):
        inbox.psql("-1", "-f", file)
        assert inbox.query("SELECT inbox.applied_migrations(), inbox.schema_version()") == [(versions, number)]
        assert not claim(cursor, "a" * 255) and claim(cursor, number)
        for message_id in ("", "b" * 256):
            with pytest.raises(psycopg2.errors.CheckViolation, match="message_id_1_to_255_bytes"):
                claim(cursor, message_id)
