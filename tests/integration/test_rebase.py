"""migrate rebase: a restored or copied database goes on.  What had not been sent there and what came since arrives
once, nothing that was sent is sent again, and nothing changes where nothing has to."""

import contextlib
import subprocess
import threading
import uuid

import psycopg2
import pytest

from clusters import Cluster
from conftest import ROOT, wait_until

FOUND, USAGE, UNREACHABLE, PERMISSION, CONFIGURATION = 1, 64, 69, 77, 78


class Place:
    """One database: the original or a copy, wherever it is."""

    def __init__(self, dsn):
        self.dsn = dsn

    def connect(self):
        connection = psycopg2.connect(self.dsn)
        connection.autocommit = True
        return contextlib.closing(connection)

    def rows(self, sql, parameters=None):
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else None

    def value(self, sql, parameters=None):
        return self.rows(sql, parameters)[0][0]

    def write(self, queue, count, name):
        """One transaction each, as an application does; five keys.  Their message ids."""
        ids = []
        with self.connect() as connection, connection.cursor() as cursor:
            for n in range(count):
                cursor.execute("SELECT outbox.publish('', %s, %s::text, ordering_key => %s)",
                               [queue, f"{name} {n}", f"key {n % 5}"])
                ids.append(str(cursor.fetchone()[0]))
        return ids

    def states(self, state):
        """Message ids, in id order."""
        return [str(row[0]) for row in self.rows("SELECT message_id FROM outbox.message_status WHERE state = %s ORDER BY id",
                                                 [state])]

    def config(self, **publish):
        return {"postgres": {"dsn": self.dsn}, "publish": publish} if publish else {"postgres": {"dsn": self.dsn}}


def rebase(relay, place, *options, code=0):
    done = relay.command("migrate", "rebase", *options, config=place.config())
    assert done.returncode == code, (done.stdout, done.stderr)
    return done


def run(relay, place, code=0, **publish):
    done = relay.command("run", "--until-empty", config=place.config(**publish))
    assert done.returncode == code, done.stderr
    return done


def arrived(broker, queue, expected):
    """Exactly these message ids, each once and in this order of each key; nothing else is left."""
    taken = broker.take(queue, len(expected), 60)
    assert broker.count(queue) == 0
    ids = [m.message_id for m in taken]
    assert sorted(ids) == sorted(expected)
    place = {message_id: n for n, message_id in enumerate(expected)}
    for key in {m.headers.get("x-ordering-key") for m in taken} - {None}:
        order = [place[m.message_id] for m in taken if m.headers.get("x-ordering-key") == key]
        assert order == sorted(order), key
    return taken


BURN = "DO $$ BEGIN FOR i IN 1..3000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$"


@contextlib.contextmanager
def removed(cluster):
    try:
        yield cluster
    finally:
        cluster.remove()


@pytest.fixture(scope="module")
def behind(session_stack):
    """A second server whose transaction ids lie within those that the first has used."""
    with removed(Cluster(session_stack.env["POSTGRES_BIN"])) as cluster:
        cluster.start()
        env = session_stack.env
        Place(f"host={env['PGHOST']} port={env['PGPORT']} user={env['PGUSER']} dbname=postgres").rows(BURN)
        yield cluster


@pytest.fixture(scope="module")
def ahead(session_stack):
    """A second server whose transaction ids lie beyond all that the first has used."""
    with removed(Cluster(session_stack.env["POSTGRES_BIN"])) as cluster:
        cluster.run("pg_resetwal", "-e", "1", "-D", cluster.data)
        cluster.start()
        yield cluster


@pytest.fixture
def cluster(request):
    return request.getfixturevalue(getattr(request, "param", "behind"))


BOTH = pytest.mark.parametrize("cluster", ["behind", "ahead"], indirect=True)


@pytest.fixture
def original(database, broker, relay):
    """As a relay leaves it in the middle of its work: sent, pending, late, delayed and dead messages.  Whatever the
    relay had published by then is off the queue."""
    place = Place(database.dsn("owner"))
    place.queue = queue = broker.queue()
    place.write(queue, 150, "sent")
    for name in ("refused", "hopeless"):
        place.rows("SELECT outbox.publish('', %s, %s::text, ordering_key => %s)", [queue, name, name])
    assert relay.command("run", "--until-empty").returncode == 0
    late = database.connect("writer")
    with late.cursor() as cursor:
        cursor.execute("SELECT outbox.publish('', %s, 'late'::text, ordering_key => 'late')", [queue])
    place.write(queue, 20, "sent too")
    assert relay.command("run", "--until-empty").returncode == 0
    late.commit()
    place.write(queue, 60, "pending")
    place.value("SELECT outbox.publish('', %s, 'scheduled'::text, deliver_at => '2099-01-01')", [queue])
    # As if the broker had refused them.
    columns = "id, message_id, exchange, routing_key, payload_text, ordering_key, persistent, created_at"
    place.rows(f"INSERT INTO outbox.delayed ({columns}, waits_for, attempts, next_attempt_at, last_error) SELECT {columns}, "
               "'retry', 3, '2099-01-01', 'nacked' FROM outbox.message WHERE ordering_key = 'refused'")
    place.rows(f"INSERT INTO outbox.dead ({columns}, holds_key, attempts, reason) SELECT {columns}, "
               "true, 10, 'nacked' FROM outbox.message WHERE ordering_key = 'hopeless'")
    broker.take(queue, 172)
    assert [len(place.states(state)) for state in ("sent", "pending", "delayed", "dead")] == [170, 61, 2, 1]
    return place


def restore(original, cluster, *options):
    """A dump of the original in a new database of the cluster."""
    name = "r_" + uuid.uuid4().hex[:8]
    cluster.execute(f"CREATE DATABASE {name}")
    dumped = subprocess.run([cluster.binaries / "pg_dump", "-O", "-x", *options, "-d", original.dsn], check=True, capture_output=True)
    subprocess.run([cluster.binaries / "psql", "-qX", "-v", "ON_ERROR_STOP=1", "-d", cluster.dsn(name)], input=dumped.stdout,
                   check=True, capture_output=True)
    return Place(cluster.dsn(name))


@BOTH
@pytest.mark.parametrize("batch", [1000, 10])
def test_a_restored_dump_goes_on_where_the_original_stood(original, cluster, broker, relay, batch):
    """Also with more rows pending than an interval may have to be sorted (batch 10)."""
    pending, delayed, dead = (original.states(state) for state in ("pending", "delayed", "dead"))
    sent = original.states("sent")
    place = restore(original, cluster)
    since = place.write(original.queue, 100, "since")
    refused = run(relay, place, CONFIGURATION)
    assert "outbox-relay migrate rebase" in refused.stderr
    before = place.rows("SELECT id, message_id FROM outbox.message ORDER BY id")
    waiting = [place.rows(f"SELECT * FROM outbox.{table} ORDER BY id") for table in ("delayed", "dead")]

    dry = rebase(relay, place, "--dry-run").stdout
    assert "restored from a dump" in dry and "would be kept: 161 pending and 2 delayed" in dry
    assert place.value("SELECT count(*) FROM outbox.operation WHERE operation = 'rebase'") == 0
    run(relay, place, CONFIGURATION)

    done = rebase(relay, place).stdout
    assert "kept: 161 pending and 2 delayed" in done and "left as sent: 170" in done and "left as dead: 1" in done
    assert place.rows("SELECT id, message_id FROM outbox.message ORDER BY id") == before
    assert place.states("pending") == pending + since
    assert place.value("SELECT pending FROM outbox.backlog()") == 161
    # What the rewriting left behind is cleaned up.
    wait_until(lambda: place.value("SELECT count(last_vacuum) FROM pg_stat_user_tables WHERE relname ~ '^message_.$'") == 3, 10)
    run(relay, place, batch=batch)
    arrived(broker, original.queue, pending + since)
    assert place.states("sent") == sorted(sent + pending + since, key=[str(row[1]) for row in before].index)
    assert (place.states("delayed"), place.states("dead")) == (delayed, dead)
    assert [place.rows(f"SELECT * FROM outbox.{table} ORDER BY id") for table in ("delayed", "dead")] == waiting
    assert place.value("SELECT pending FROM outbox.backlog()") == 0
    # Once is enough, and it goes on as any other.
    assert "nothing to rebase" in rebase(relay, place, code=FOUND).stderr
    assert "nothing to rebase" in rebase(relay, place, "--if-needed").stdout
    later = place.write(original.queue, 5, "later")
    run(relay, place)
    arrived(broker, original.queue, later)


def test_a_dump_made_in_the_middle_of_an_interval(database, cluster, broker, relay):
    original = Place(database.dsn("owner"))
    queue = broker.queue()
    with original.connect() as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO outbox.message (routing_key, payload_text, ordering_key) "
                       "SELECT %s, n::text, 'key ' || n %% 100 FROM generate_series(1, 5000) n", [queue])
    running = relay(config={"publish": {"batch": 20, "window": 100}})
    wait_until(lambda: original.value("SELECT count(*) > 3 FROM outbox.sent WHERE last_id > 0"), 20)
    running.kill()
    pending = original.states("pending")
    assert 0 < len(pending) < 5000
    broker.channel().queue_purge(queue)
    place = restore(original, cluster)
    since = place.write(queue, 10, "since")
    rebase(relay, place)
    run(relay, place)
    arrived(broker, queue, pending + since)


def test_messages_that_came_without_any_mark(original, cluster, broker, relay):
    """Nothing is known to be sent then.  Ids ahead of the server's would not be seen for a long time: it is said."""
    place = restore(original, cluster, "--exclude-table-data=outbox.sent")
    place.rows("UPDATE outbox.message SET xid = '99999999999' WHERE id % 2 = 0")
    assert "ahead of this server" in run(relay, place, CONFIGURATION).stderr
    expected = [str(row[0]) for row in place.rows("SELECT message_id FROM outbox.message WHERE id NOT IN "
                                                  "(SELECT id FROM outbox.delayed UNION ALL SELECT id FROM outbox.dead) ORDER BY id")]
    rebase(relay, place)
    run(relay, place)
    arrived(broker, original.queue, expected)


def test_ids_tell_what_came_since_where_the_rows_do_not(original, cluster, broker, relay):
    """A mark that was written anew (by pg_repack, say) looks younger than they are."""
    pending = original.states("pending")
    place = restore(original, cluster)
    since = place.write(original.queue, 10, "since")
    place.rows("UPDATE outbox.sent SET messages = messages")
    rebase(relay, place)
    run(relay, place)
    arrived(broker, original.queue, pending + since)


@BOTH
def test_a_sequence_that_was_set_back_loses_nothing(original, cluster, broker, relay):
    """As where rows are replicated and sequences are not: ids are given out again, and all of them arrive, the restored
    before the new, also those that a subtransaction wrote."""
    pending = original.states("pending")
    place = restore(original, cluster)
    # Another slot than that of the restored rows, as it is a day later.
    place.rows("SELECT setval('outbox.message_id_seq', 1, false)")
    place.rows("CREATE OR REPLACE FUNCTION outbox.current_slot() RETURNS smallint LANGUAGE sql STABLE AS "
               f"$$ SELECT {(place.value('SELECT outbox.current_slot()') + 1) % 3}::smallint $$")
    place.value("SELECT outbox.publish('', 'x', 'scheduled since'::text, deliver_at => '2099-01-01')")
    # The first of its key will not be the first any more.
    place.rows("INSERT INTO outbox.delayed (id, routing_key, payload_text, ordering_key, waits_for, next_attempt_at) VALUES"
               " (3, 'x', 'x', 'held', 'retry', '2099-01-01'), (900000, 'x', 'x', 'held', 'key', 'infinity') RETURNING 1")
    since = place.write(original.queue, 120, "since")
    with place.connect() as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN; SELECT pg_current_xact_id(); SAVEPOINT s")
        cursor.execute("SELECT outbox.publish('', %s, 'nested'::text, ordering_key => 'key 0')", [original.queue])
        since.append(str(cursor.fetchone()[0]))
        cursor.execute("COMMIT")
    since += place.write(original.queue, 129, "more")
    twice = ("SELECT count(*) - count(DISTINCT id) FROM (SELECT id, message_id FROM outbox.message UNION "
             "SELECT id, message_id FROM outbox.delayed UNION SELECT id, message_id FROM outbox.dead) i")
    assert place.value(twice) > 200
    assert "would be given new ids: 250" in rebase(relay, place, "--dry-run").stdout
    assert "given new ids: 250 pending messages" in rebase(relay, place).stdout
    assert place.value(twice) == 0
    assert place.rows("SELECT id > 900000, waits_for FROM outbox.delayed WHERE ordering_key = 'held' ORDER BY id") == [
        (False, "retry"), (True, "retry")]
    assert place.states("pending") == pending + since
    later = place.write(original.queue, 3, "later")
    run(relay, place, batch=10)
    arrived(broker, original.queue, pending + since + later)
    assert place.value(twice) == 0


@BOTH
def test_a_restore_where_oids_fall_the_same_is_no_upgrade(original, cluster, relay):
    """As in clusters that are set up by the same script: the mark's row itself tells that it was written anew."""
    place = restore(original, cluster, "--schema-only")
    oid = "SELECT 'outbox.message'::regclass::oid"
    dumped = subprocess.run([cluster.binaries / "pg_dump", "--data-only", "-d", original.dsn], check=True, capture_output=True, text=True)
    text = dumped.stdout.replace(f"\t{original.value(oid)}\t", f"\t{place.value(oid)}\t")
    subprocess.run([cluster.binaries / "psql", "-qX", "-v", "ON_ERROR_STOP=1", "-d", place.dsn], input=text, text=True, check=True,
                   capture_output=True)
    assert place.value("SELECT bool_and(table_oid = 'outbox.message'::regclass) FROM outbox.sent")
    # Whatever the transaction ids say, which is much on one of the two clusters.
    place.rows(BURN)
    assert "restored from a dump" in run(relay, place, CONFIGURATION).stderr


def test_pg_upgrade_needs_nothing(session_stack, broker, relay):
    """Another system identifier, the same oids and transaction ids: nothing is asked, nothing is sent twice or lost."""
    queue = broker.queue()
    with contextlib.ExitStack() as stack:
        old, new = (Cluster(session_stack.env["POSTGRES_BIN"]) for _ in range(2))
        stack.callback(old.remove)
        stack.callback(new.remove)
        old.start()
        for file in sorted((ROOT / "migrations/outbox").glob("*.up.sql")):
            old.execute(file.read_text())
        place = Place(old.dsn())
        place.write(queue, 20, "sent")
        run(relay, place)
        broker.take(queue, 20)
        pending = place.write(queue, 5, "pending")
        identifier = "SELECT system_identifier FROM pg_control_system()"
        before = place.value(identifier)
        old.stop()
        new.run("pg_upgrade", "-b", old.binaries, "-B", new.binaries, "-d", old.data, "-D", new.data, "-U", "postgres",
                "-s", new.directory)
        new.start()
        place = Place(new.dsn())
        assert place.value(identifier) != before
        assert "nothing to rebase" in rebase(relay, place, "--if-needed").stdout
        since = place.write(queue, 5, "since")
        run(relay, place)
        arrived(broker, queue, pending + since)


# ---- copies in the same cluster

@pytest.fixture
def copy(original, database):
    """CREATE DATABASE ... TEMPLATE, for the same owner."""
    name = database.name + "_copy"
    for connection in database.opened:
        connection.close()
    with contextlib.closing(psycopg2.connect(database.server_dsn())) as server:
        server.autocommit = True
        with server.cursor() as cursor:
            wait_until(lambda: not cursor.execute("SELECT FROM pg_stat_activity WHERE datname = %s", [database.name])
                       and cursor.rowcount == 0, 10)
            cursor.execute(f"CREATE DATABASE {name} TEMPLATE {database.name} OWNER {database.roles['owner']}")
            yield Place(database.dsn("owner", dbname=name))
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_another_schema_alone_is_rebased(original, copy, broker, relay):
    copy.rows("ALTER SCHEMA outbox RENAME TO kept")
    # The bodies of its functions still say the old name: nothing of it is called.
    assert relay.command("migrate", "up", "--schema", "orders_out", config=copy.config()).returncode == 0
    copy.rows("INSERT INTO orders_out.message (routing_key, payload_text) VALUES (%s, 'x')", [original.queue])
    copy.rows("INSERT INTO orders_out.sent (seq, prev, last_id, floor_id, max_id, messages, system_identifier, database_oid, "
              "table_oid) SELECT 1, '9999999999:9999999999:', 0, 0, 0, 0, system_identifier, 1, 1 FROM pg_control_system()")
    before = copy.rows("SELECT xid::text, id FROM kept.message ORDER BY id")
    done = rebase(relay, copy, "--schema", "orders_out")
    assert "schema orders_out" in done.stdout and "kept: 1 pending" in done.stdout
    assert copy.rows("SELECT xid::text, id FROM kept.message ORDER BY id") == before
    expected = [str(copy.value("SELECT message_id FROM orders_out.message"))]
    done = relay.command("run", "--until-empty", config={"postgres": {"dsn": copy.dsn, "schema": "orders_out"}})
    assert done.returncode == 0, done.stderr
    arrived(broker, original.queue, expected)


def test_a_template_copy_goes_on(original, copy, broker, relay):
    since = copy.write(original.queue, 30, "since")
    assert "copy of another database" in run(relay, copy, CONFIGURATION).stderr
    pending = original.states("pending")
    rebase(relay, copy, "--if-needed")
    run(relay, copy)
    arrived(broker, original.queue, pending + since)
    assert original.states("pending") == pending


def test_a_copy_that_must_stay_silent(original, copy, database, broker, relay):
    """Pending and delayed messages become dead, with a reason, and what is written afterwards is sent."""
    pending, delayed, dead = (original.states(state) for state in ("pending", "delayed", "dead"))
    since = copy.write(original.queue, 30, "since")
    assert "would be discarded: 91 pending and 2 delayed" in rebase(relay, copy, "--discard-pending", "--dry-run").stdout
    assert "discarded: 91 pending and 2 delayed" in rebase(relay, copy, "--discard-pending").stdout
    assert copy.states("pending") == [] and copy.states("delayed") == []
    assert sorted(copy.states("dead")) == sorted(pending + since + delayed + dead)
    reasons = copy.rows("SELECT DISTINCT reason, holds_key, discarded_at > now() - interval '1 hour', history->-1->>'reason' FROM outbox.dead WHERE message_id = ANY (%s::uuid[])", [pending + since + delayed])
    reason = f"discarded: migrate rebase --discard-pending by {database.roles['owner']}"
    assert reasons == [(reason, False, True, reason)]
    assert copy.rows("SELECT attempts, last_error FROM outbox.dead WHERE ordering_key = 'refused'") == [(3, "nacked")]
    assert copy.rows("SELECT payload_text, ordering_key, routing_key FROM outbox.dead WHERE message_id = %s", [since[7]]) == [
        ("since 7", "key 2", original.queue)]
    run(relay, copy)
    assert broker.count(original.queue) == 0
    afterwards = copy.write(original.queue, 10, "afterwards")
    run(relay, copy)
    arrived(broker, original.queue, afterwards)
    assert "nothing to rebase" in rebase(relay, copy, "--discard-pending", "--if-needed").stdout


def test_what_was_done_is_recorded(original, copy, database, relay):
    rebase(relay, copy)
    actor, details, messages = copy.rows("SELECT actor, details, messages FROM outbox.operation WHERE operation = 'rebase'")[0]
    assert actor == database.roles["owner"] and messages == 61
    assert details["why"].endswith("it is a copy of another database of this cluster") and details["user"] and details["host"]
    assert (details["kept"], details["pending"], details["sent"], details["discard_pending"]) == (233, 61, 170, False)
    # Where xids go on as they were, nothing but the pending rows is rewritten.
    assert details["rewritten"] == 61
    # Marks of the other database are gone; the key goes on, as a fence.
    assert copy.rows("SELECT count(*), max(seq) FROM outbox.sent") == [(1, original.value("SELECT max(seq) + 1 FROM outbox.sent"))]


# ---- where there is nothing to rebase

def test_a_position_that_belongs_to_its_database_is_left_alone(original, broker, relay):
    marks = original.rows("SELECT * FROM outbox.sent ORDER BY seq")
    for options, code in (([], FOUND), (["--if-needed"], 0), (["--dry-run"], FOUND), (["--discard-pending", "--if-needed"], 0)):
        done = rebase(relay, original, *options, code=code)
        assert "nothing to rebase" in (done.stderr if code else done.stdout)
    assert original.rows("SELECT * FROM outbox.sent ORDER BY seq") == marks
    # A copy of the disk looks like this, and must be silenced all the same.
    rebase(relay, original, "--discard-pending")
    run(relay, original)
    assert broker.count(original.queue) == 0 and len(original.states("dead")) == 64


def test_refused_while_a_relay_leads(original, broker, relay):
    pending = original.states("pending")
    running = relay()
    running.wait_log("leading")
    done = rebase(relay, original, "--discard-pending", code=FOUND)
    assert "a relay leads" in done.stderr and "pid " in done.stderr and "stop every relay" in done.stderr
    arrived(broker, original.queue, pending)
    assert running.stop() == 0
    assert original.value("SELECT count(*) FROM outbox.operation") == 0


@pytest.mark.parametrize("role", ["relay", "writer", "monitor"])
def test_refused_for_a_role_that_is_not_the_owner(database, relay, role):
    done = relay.command("migrate", "rebase", "--discard-pending", config={"postgres": {"dsn": database.dsn(role)}})
    assert done.returncode == PERMISSION and done.stdout == ""
    assert database.roles[role] in done.stderr and database.roles["owner"] in done.stderr
    assert "OUTBOX_RELAY_POSTGRES_DSN" in done.stderr


@pytest.mark.parametrize("words", [["status", "--dry-run"], ["down", "--if-needed"], ["rebase", "--line", "inbox"]])
def test_options_that_mean_nothing_are_refused(database, relay, words):
    applied = database.value("SELECT outbox.applied_migrations()")
    assert relay.command("migrate", *words, config=Place(database.dsn("owner")).config()).returncode == USAGE
    assert database.value("SELECT outbox.applied_migrations()") == applied


# ---- others at the same time

def test_a_transaction_that_wrote_is_waited_for_and_named(original, copy, relay):
    with copy.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET application_name = 'slow-service'; BEGIN; INSERT INTO outbox.message (routing_key, payload_text) "
                       "VALUES ('x', 'y')")
        done = rebase(relay, copy, code=UNREACHABLE)
        assert "could not be locked within 10 s" in done.stderr and "slow-service" in done.stderr
        cursor.execute("ROLLBACK")
    rebase(relay, copy)


def test_transactions_that_are_open_meanwhile_lose_nothing(original, copy, broker, relay):
    """One has an xid before the rebase and writes after it; one writes before and commits while the rebase waits."""
    with copy.connect() as early, copy.connect() as writing, early.cursor() as one, writing.cursor() as two:
        one.execute("BEGIN; SELECT pg_current_xact_id()")
        two.execute("BEGIN")
        two.execute("SELECT outbox.publish('', %s, 'open'::text)", [original.queue])
        opened = str(two.fetchone()[0])
        waiting = relay("migrate", "rebase", config=copy.config())
        wait_until(lambda: copy.value("SELECT count(*) FROM pg_locks WHERE NOT granted AND database = "
                                      "(SELECT oid FROM pg_database WHERE datname = current_database())"), 10)
        two.execute("COMMIT")
        assert waiting.wait(20) == 0, waiting.stderr()
        run(relay, copy)
        arrived(broker, original.queue, original.states("pending") + [opened])
        one.execute("SELECT outbox.publish('', %s, 'late'::text)", [original.queue])
        late = str(one.fetchone()[0])
        newer = copy.write(original.queue, 2, "newer")
        run(relay, copy)
        arrived(broker, original.queue, newer)
        one.execute("COMMIT")
    run(relay, copy)
    arrived(broker, original.queue, [late])


def test_an_application_that_writes_during_the_rebase_loses_nothing(original, cluster, broker, relay):
    place = restore(original, cluster)
    pending = original.states("pending")
    stop = threading.Event()
    written = []

    def write():
        while not stop.is_set():
            written.extend(place.write(original.queue, 5, "meanwhile"))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        wait_until(lambda: len(written) > 50, 20)
        rebase(relay, place)
        count = len(written)
        wait_until(lambda: len(written) > count + 50, 20)
    finally:
        stop.set()
        writer.join()
    run(relay, place)
    arrived(broker, original.queue, pending + written)
