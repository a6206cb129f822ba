"""The one-shot commands that talk to the database alone: migrate, status, message."""

import contextlib
import json
import os
import re
import subprocess
import time
import uuid

import pytest

import sqldb
from conftest import RELAY_BINARY, ROOT, wait_until

NAMES = [path.name.removesuffix(".up.sql") for path in sqldb.files("up")]
INBOX_NAMES = sorted(path.name.removesuffix(".up.sql") for path in (ROOT / "migrations/inbox").glob("*.up.sql"))
NUMBERS = [int(name[:4]) for name in NAMES]


@pytest.fixture(scope="module", autouse=True)
def server(session_stack):
    sqldb.use(session_stack.env)


@pytest.fixture
def db():
    with sqldb.database() as db:
        yield db


def dsn(db, user=sqldb.OWNER):
    return f"host={sqldb.server['PGHOST']} port={sqldb.server['PGPORT']} dbname={db.name} user={user}"


def start(db, *arguments, user=sqldb.OWNER, **env):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OUTBOX_RELAY_", "PG"))}
    return subprocess.Popen([RELAY_BINARY, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env={**clean, "OUTBOX_RELAY_POSTGRES_DSN": dsn(db, user), **env})


def command(db, *arguments, code=0, **more):
    process = start(db, *arguments, **more)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, (out, err)
    return out.decode() if code == 0 else err.decode()


def applied(names):
    return "".join(f"{name} applied\n" for name in names)


def fields(text):
    return dict(re.split(r"\s+", line, maxsplit=1) for line in text.splitlines() if line.strip())


# ---- migrate

def test_up_status_down_and_up_again(db):
    assert [line.split()[1:3] for line in command(db, "migrate", "status").splitlines()] == [["not", "applied"]] * len(NAMES)
    assert command(db, "migrate", "up", "--to", "1") == "0001_tables applied\n"
    assert command(db, "migrate", "up") == applied(NAMES[1:])
    assert command(db, "migrate", "up") == "schema outbox: nothing to apply\n"
    lines = command(db, "migrate", "status").splitlines()
    assert len(lines) == len(NAMES) and all(re.search(rf"applied  20\S+ \S+ by {sqldb.OWNER}$", line) for line in lines)
    assert command(db, "migrate", "down") == f"{NAMES[-1]} taken back\n"
    assert command(db, "migrate", "down", "--to", "0") == "".join(f"{name} taken back\n" for name in NAMES[-2::-1])
    assert command(db, "migrate", "down", "--to", "0") == "schema outbox: nothing to take back\n"
    assert db.value("SELECT to_regnamespace('outbox')") is None
    command(db, "migrate", "up")
    assert db.value("SELECT outbox.applied_migrations()") == NUMBERS


def everything(db):
    """What a dry run must leave alone: objects and their definitions, and the rows of each table."""
    tables = [row[0] for row in db.rows("SELECT c.oid::regclass::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
                                        " WHERE n.nspname IN ('outbox', 'inbox', 'orders_out') AND c.relkind IN ('r', 'S') ORDER BY 1")]
    return (db.rows("SELECT p.oid, p.xmin::text FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace"
                    " WHERE n.nspname IN ('outbox', 'inbox', 'orders_out') ORDER BY 1"),
            {table: db.rows(f"SELECT xmin::text, * FROM {table} ORDER BY 1, 2") for table in tables})


def test_output_that_cannot_be_written_is_no_success_and_no_server_that_is_away(db):
    for words in (["print"], ["status"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run([RELAY_BINARY, "migrate", *words], stdout=full, stderr=subprocess.PIPE, text=True,
                                  env={**os.environ, "OUTBOX_RELAY_POSTGRES_DSN": dsn(db)})
        assert done.returncode == 70 and "cannot" in done.stderr, done


def test_waiting_for_another_that_migrates_is_told(db):
    with contextlib.closing(db.connect()) as connection:
        connection.cursor().execute("SELECT pg_advisory_lock(hashtext('outbox-relay migrate'), hashtext('outbox'))")
        process = start(db, "migrate", "up")
        assert b"somebody else migrates schema outbox: waiting" in process.stderr.readline()
    assert (process.wait(60), process.stderr.read()) == (0, b"")
    assert db.value("SELECT outbox.applied_migrations()") == NUMBERS


def test_a_dry_run_names_the_migrations_and_the_schema_and_applies_none(db):
    before = everything(db)
    for line, schema, names in (("outbox", "orders_out", NAMES), ("inbox", "inbox", INBOX_NAMES)):
        said = command(db, "migrate", "up", "--dry-run", "--line", line, "--schema", schema)
        assert said == "".join(f"{name} would be applied to schema {schema} of database {db.name}\n" for name in names)
    assert everything(db) == before
    command(db, "migrate", "up", "--to", "2")
    before = everything(db)
    assert [line.split()[0] for line in command(db, "migrate", "up", "--dry-run", "--to", "3").splitlines()] == NAMES[2:3]
    command(db, "migrate", "up")
    before = everything(db)
    assert command(db, "migrate", "up", "--dry-run") == "schema outbox: nothing to apply\n"
    assert command(db, "migrate", "down", "--dry-run") == (
        f"{NAMES[-1]} would be taken back from schema outbox of database {db.name}\n")
    assert [line.split()[0] for line in command(db, "migrate", "down", "--to", "0", "--dry-run").splitlines()] == NAMES[::-1]
    assert everything(db) == before


def test_a_dry_run_refuses_what_would_be_refused(db):
    with sqldb.role() as nobody:
        assert nobody in command(db, "migrate", "up", "--dry-run", "--schema", "elsewhere", code=77, user=nobody)
        command(db, "migrate", "up", "--to", "4")
        db.rows("SELECT outbox.grant_relay(%s)", (nobody,))
        refused = command(db, "migrate", "up", "--dry-run", code=77, user=nobody)
        assert nobody in refused and "OUTBOX_RELAY_POSTGRES_DSN" in refused
        with contextlib.closing(sqldb.superuser(db.name)) as admin:
            admin.cursor().execute(f"DROP OWNED BY {nobody}")
    db.rows("SELECT outbox.publish('e', 'r', 'x')")
    db.rows("SELECT outbox.publish('e', 'r', 'x', deliver_at => '2100-01-01')")
    before = everything(db)
    # As without it: what holds no message comes first.
    assert [line.split()[0] for line in command(db, "migrate", "down", "--dry-run", "--to", "2").splitlines()] == NAMES[3:1:-1]
    refused = command(db, "migrate", "down", "--dry-run", "--to", "0", code=1)
    assert "0002_functions (down) would refuse" in refused and "1 pending, 1 delayed and 0 dead" in refused and "force_down" in refused
    forced = command(db, "migrate", "down", "--dry-run", "--to", "0", PGOPTIONS="-c outbox_relay.force_down=on").splitlines()
    assert len(forced) == 4 and "throwing away" not in forced[0] and forced[-1].endswith(
        "throwing away 1 pending, 1 delayed and 0 dead messages")
    assert everything(db) == before
    command(db, "migrate", "up", "--line", "inbox")
    db.rows("SELECT inbox.claim('c', 'm')")
    assert "still holds 1 claims" in command(db, "migrate", "down", "--line", "inbox", "--to", "0", "--dry-run", code=1)


def test_what_another_tool_applied_is_known(db):
    db.up()
    db.rows("TRUNCATE outbox.migration")       # as after a schema-only dump
    assert [line.split()[1] for line in command(db, "migrate", "status").splitlines()] == ["applied"] * len(NAMES)
    assert command(db, "migrate", "up") == "schema outbox: nothing to apply\n"


def test_two_at_once_are_harmless(db):
    processes = [start(db, "migrate", "up") for _ in range(4)]
    outputs = [p.communicate(timeout=60)[0].decode() for p in processes]
    assert [p.returncode for p in processes] == [0] * 4
    assert sorted(outputs)[:1] == [applied(NAMES)]
    assert outputs.count("schema outbox: nothing to apply\n") == 3


def test_down_refuses_while_a_message_waits(db):
    command(db, "migrate", "up")
    db.rows("SELECT outbox.publish('', 'r', 'x')")
    err = command(db, "migrate", "down", "--to", "0", code=1)
    assert "0002_functions (down)" in err and "still holds 1 pending" in err and "force_down" in err
    command(db, "migrate", "down", "--to", "0", PGOPTIONS="-c outbox_relay.force_down=on")
    assert db.value("SELECT to_regnamespace('outbox')") is None


def test_another_schema(db):
    command(db, "migrate", "up", "--schema", "orders_out")
    assert db.value("SELECT orders_out.applied_migrations()") == NUMBERS
    assert db.value("SELECT to_regnamespace('outbox')") is None
    assert "pending" in command(db, "status", OUTBOX_RELAY_POSTGRES_SCHEMA="orders_out")


@pytest.mark.parametrize("arguments, code, words", [
    (["migrate", "sideways"], 64, "sideways"),
    (["migrate", "up", "--to", "x"], 64, "--to"),
    (["migrate", "up", "--to", "-1"], 64, "--to"),
    (["migrate", "up", "--to", "77"], 64, "at most "),
    (["migrate", "up", "--line", "x"], 64, "--line"),
    (["migrate", "up", "--schema", "Robert'); --"], 64, "--schema"),
    (["migrate", "up", "--schema", "user"], 78, "user"),
    (["migrate", "print", "--format", "x"], 64, "--format"),
    (["migrate", "print", "--format", "goose"], 64, "--output"),
    (["migrate", "print", "--output", "/nonexistent/dir"], 64, "/nonexistent/dir"),
    (["message", "show", "x"], 64, "UUID"),
    (["message", "hide", "1"], 64, "hide"),
    (["status"], 78, "migrate up"),
    (["message", "show", "1"], 78, "migrate up"),
])
def test_mistakes_have_a_clear_line_and_change_nothing(db, arguments, code, words):
    assert words in command(db, *arguments, code=code)
    assert db.rows("SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'") == [("public",)]


def test_a_role_that_may_not_create_the_schema_is_told_who_may(db):
    with sqldb.role() as nobody:
        err = command(db, "migrate", "up", code=77, user=nobody)
        assert "0001_tables (up)" in err and "owner of schema" in err


def test_a_newer_schema_is_left_to_a_newer_program(db):
    command(db, "migrate", "up")
    db.rows("SELECT outbox.record_migration(99, 'future', true)")
    assert "0099_?" in command(db, "migrate", "status")
    assert "newer than this program" in command(db, "migrate", "down", code=78)
    assert command(db, "migrate", "up") == "schema outbox: nothing to apply\n"


def test_a_lock_that_is_held_ends_in_a_remedy(db):
    command(db, "migrate", "up", "--to", "2")
    with contextlib.closing(db.connect(autocommit=False)) as holder:
        holder.cursor().execute("LOCK TABLE outbox.message IN ACCESS EXCLUSIVE MODE")
        process = start(db, "migrate", "up")
        wait_until(lambda: db.value("SELECT count(*) FROM pg_locks WHERE NOT granted"), what="migrate to wait")
        assert process.poll() is None
        holder.rollback()
        assert process.communicate(timeout=60)[0].decode() == applied(NAMES[2:])


# ---- print

def test_print_to_stdout_is_what_psql_applies(db):
    text = command(db, "migrate", "print")
    db.psql("-1", "-c", text)
    assert db.value("SELECT outbox.applied_migrations()") == NUMBERS


def printed(db, tmp_path, format, schema="outbox"):
    names = command(db, "migrate", "print", "--format", format, "--output", str(tmp_path), "--schema", schema).split()
    assert sorted(names) == sorted(p.name for p in tmp_path.iterdir())
    return {name: (tmp_path / name).read_text() for name in names}


def test_plain_files_are_the_files_of_the_tree(db, tmp_path):
    files = printed(db, tmp_path, "plain")
    assert files == {p.name: p.read_text() for d in ("up", "down") for p in sqldb.files(d)}
    # A second time leaves them alone.
    assert command(db, "migrate", "print", "--output", str(tmp_path)) == ""


def test_flyway_files(db, tmp_path):
    files = printed(db, tmp_path, "flyway", "orders_out")
    assert list(files) == [f"{letter}{int(name[:4])}__{name[5:]}.sql" for name in NAMES
                           for letter in "VU"]
    for name in sorted(n for n in files if n.startswith("V")):
        db.psql("-1", "-c", files[name])
    assert db.value("SELECT orders_out.applied_migrations()") == NUMBERS
    for name in sorted((n for n in files if n.startswith("U")), reverse=True):
        db.psql("-1", "-c", files[name])
    assert db.value("SELECT to_regnamespace('orders_out')") is None


@pytest.mark.parametrize("format, up_mark, down_mark", [
    ("dbmate", "-- migrate:up", "-- migrate:down"),
    ("goose", "-- +goose Up", "-- +goose Down"),
])
def test_files_with_both_directions(db, tmp_path, format, up_mark, down_mark):
    files = printed(db, tmp_path, format)
    assert list(files) == [f"{name}.sql" for name in NAMES]
    ups, downs = [], []
    for name, text in files.items():
        lines = text.splitlines()
        assert lines[0] == up_mark and lines.count(down_mark) == 1
        if format == "goose":
            begins = [n for n, line in enumerate(lines) if line == "-- +goose StatementBegin"]
            ends = [n for n, line in enumerate(lines) if line == "-- +goose StatementEnd"]
            assert begins == [1, lines.index(down_mark) + 1] and ends == [lines.index(down_mark) - 2, len(lines) - 1]
        up, down = text.split(down_mark + "\n")
        ups.append(up)
        downs.insert(0, down)
    # Each direction is sent as it is, in one transaction.
    with contextlib.closing(db.connect(autocommit=False)) as connection:
        for text in ups:
            connection.cursor().execute(text)
            connection.commit()
        assert db.value("SELECT outbox.applied_migrations()") == NUMBERS
        for text in downs:
            connection.cursor().execute(text)
            connection.commit()
    assert db.value("SELECT to_regnamespace('outbox')") is None


def test_print_needs_no_database(db):
    assert "CREATE TABLE x.message" in command(db, "migrate", "print", "--to", "1", "--schema", "x",
                                               OUTBOX_RELAY_POSTGRES_DSN="host=/nonexistent")


# ---- status and message

@pytest.fixture
def outbox(db):
    db.up()
    return db


def test_a_role_without_rights_is_told_which_statement_gives_them(outbox):
    with sqldb.role() as nobody:
        for words in (["status"], ["message", "show", "1"], ["dead", "list"]):
            assert f"SELECT outbox.grant_relay('{nobody}')" in command(outbox, *words, code=77, user=nobody)


def mark(db, target="pg_current_snapshot()"):
    db.rows(f"INSERT INTO outbox.sent SELECT coalesce((SELECT max(seq) FROM outbox.sent), 0) + 1, clock_timestamp(), {target},"
            " NULL, 0, (SELECT coalesce(max(id), 0) FROM outbox.message), (SELECT coalesce(max(id), 0) FROM outbox.message), 1, 1, 1, 1"
            " RETURNING 1")


def test_status_tells_backlog_position_and_leader(outbox):
    empty = json.loads(command(outbox, "status", "--json"))
    assert (empty["pending"], empty["oldest_pending_age_seconds"], empty["leader_pid"], empty["mark"]) == (0, None, None, None)
    outbox.rows("SELECT outbox.publish('', 'r', 'x')")
    mark(outbox)
    outbox.rows("SELECT outbox.publish('', 'r', 'x'), outbox.publish('', 'r', 'x', deliver_at => '2100-01-01')")
    with contextlib.closing(outbox.connect()) as leader:
        leader.cursor().execute("SELECT pg_advisory_lock('outbox.message'::regclass::oid::int4, -1)")
        found = json.loads(command(outbox, "status", "--json"))
        assert found["leader_pid"] == leader.info.backend_pid
        text = fields(command(outbox, "status"))
        assert text["leader_pid"] == str(leader.info.backend_pid)
    assert {k: found[k] for k in ("schema", "schema_version", "migrations", "wake_up_trigger", "pending", "delayed", "dead",
                                  "estimated", "mark", "greatest_id_sent", "sent_last_minute", "retention_seconds")} == {
        "schema": "outbox", "schema_version": sqldb.schema_version(), "migrations": NUMBERS, "wake_up_trigger": True, "pending": 1,
        "delayed": 1, "dead": 0, "estimated": False, "mark": 1, "greatest_id_sent": 1, "sent_last_minute": 1,
        "retention_seconds": 86400}
    assert 0 <= found["oldest_pending_age_seconds"] < 120
    assert text["pending"] == "1" and text["mark"] == "1"


def test_a_message_is_shown_by_number_and_by_id_pending_then_sent(outbox):
    message_id = outbox.value("SELECT outbox.publish('ex', 'rk', 'x', ordering_key => 'k', type => 't')")
    for name in ("1", str(message_id), str(message_id).upper()):
        shown = fields(command(outbox, "message", "show", name))
        assert (shown["id"], shown["message_id"], shown["state"], shown["sent_at"]) == ("1", str(message_id), "pending", "-")
        assert (shown["exchange"], shown["routing_key"], shown["ordering_key"], shown["type"]) == ("ex", "rk", "k", "t")
        assert shown["why"] == "no relay leads: start one"
    mark(outbox)
    shown = fields(command(outbox, "message", "show", str(message_id)))
    assert shown["state"] == "sent" and shown["sent_at"].startswith("20")


def test_a_message_is_found_by_an_id_of_any_kind_wherever_it_lies(outbox):
    # Version 4, and a version 7 of long ago that the application made.
    old = uuid.UUID(int=(int(time.time() * 1000) - 10**10 << 80) | (7 << 76) | (2 << 62) | 5)
    for message_id in (uuid.uuid4(), old):
        for deliver_at in (None, "2100-01-01"):
            outbox.rows("SELECT outbox.publish('', 'r', 'x', message_id => %s, deliver_at => %s)", (message_id, deliver_at))
        both = command(outbox, "message", "show", str(message_id))
        assert re.findall(r"^state\s+(\w+)$", both, re.M) == ["pending", "delayed"]
        assert re.findall(r"^why\s+(.*)$", both, re.M) == ["no relay leads: start one", "scheduled"]


def test_a_message_that_is_not_there(outbox):
    for name in ("77", str(uuid.uuid4()), "01a1fc46-d3e0-768b-833b-68c3303d25d2"):
        assert name in command(outbox, "message", "show", name, code=1)


def test_reasons_of_delayed_and_dead(outbox):
    delayed = [("retry", "NO_ROUTE", "to be tried again: NO_ROUTE"), ("retry", None, "due"), ("schedule", None, "scheduled, and due"),
               ("exchange", "no exchange", "waits until its exchange is well: no exchange"),
               ("queue", "15 s", "waits until its queue is well: 15 s"), ("key", None, "behind an earlier message of its key")]
    for number, (waits_for, error, why) in enumerate(delayed):
        outbox.rows("INSERT INTO outbox.delayed (id, routing_key, payload_text, attempts, waits_for, last_error, next_attempt_at)"
                    " VALUES (%s, 'r', 'x', 2, %s, %s, now()) RETURNING 1", (50 + number, waits_for, error))
        assert fields(command(outbox, "message", "show", str(50 + number)))["why"] == why
    outbox.rows("INSERT INTO outbox.dead (id, message_id, exchange, routing_key, payload, persistent, created_at, attempts, reason)"
                " VALUES (6, outbox.uuid_v7(), '', 'r', '\\x00ff0a', true, now(), 10, 'ten attempts failed') RETURNING 1")
    dead = fields(command(outbox, "message", "show", "6"))
    assert (dead["state"], dead["why"], dead["attempts"]) == ("dead", "given up: ten attempts failed", "10")


@pytest.mark.parametrize("payload, body", [
    ("'line 1\nline é'::text", "line 1\nline é".encode()),
    (r"'\x00ff0a'::bytea", b"\x00\xff\n"),
    ("'{\"a\":  1}'::json", b'{"a":  1}'),
    ("'{\"a\":  1}'::jsonb", b'{"a": 1}'),
    ("''::text", b""),
])
def test_payload_is_printed_only_when_asked_for_and_as_it_is(outbox, payload, body):
    outbox.rows(f"SELECT outbox.publish('', 'r', {payload})")
    process = start(outbox, "message", "show", "1", "--payload")
    out = process.communicate(timeout=60)[0]
    assert process.returncode == 0
    assert out.endswith(b"\n\n" + body + b"\n")
    process = start(outbox, "message", "show", "1")
    assert process.communicate(timeout=60)[0] == out[:-len(body) - 2]


def test_a_monitor_may_ask_for_status_but_not_for_payloads(outbox):
    outbox.rows("SELECT outbox.publish('', 'r', 'secret')")
    with sqldb.role() as monitor:
        outbox.rows("SELECT outbox.grant_monitor(%s)", (monitor,))
        assert fields(command(outbox, "status", user=monitor))["pending"] == "1"
        assert fields(command(outbox, "message", "show", "1", user=monitor))["state"] == "pending"
        command(outbox, "message", "show", "1", "--payload", user=monitor, code=77)
        with contextlib.closing(sqldb.superuser(outbox.name)) as admin:
            admin.cursor().execute(f"DROP OWNED BY {monitor}")


def test_searching_by_time_reads_a_fraction_of_what_is_kept(outbox):
    outbox.rows("INSERT INTO outbox.message (routing_key, payload_text, created_at, message_id)"
                " SELECT 'r', repeat('x', 200), clock_timestamp() - interval '20 hours' + n * interval '1 second', gen_random_uuid()"
                " FROM generate_series(1, 60000) AS n RETURNING 1")
    outbox.rows("SELECT sum(brin_summarize_new_values(indexrelid)) FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid"
                " JOIN pg_am AS a ON a.oid = c.relam WHERE a.amname = 'brin' AND c.relkind = 'i'"
                " AND i.indrelid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'outbox.message'::regclass)")
    with contextlib.closing(outbox.connect()) as connection:
        cursor = connection.cursor()
        cursor.execute("SET enable_seqscan = off")
        cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) SELECT id FROM outbox.message_status WHERE message_id = gen_random_uuid()"
                       " AND created_at BETWEEN now() - interval '610 minutes' AND now() - interval '590 minutes'")
        plan = json.dumps(cursor.fetchone()[0])
    assert "Bitmap Heap Scan" in plan
    assert sum(int(n) for n in re.findall(r'"Rows Removed by Index Recheck": (\d+)', plan)) < 20000
