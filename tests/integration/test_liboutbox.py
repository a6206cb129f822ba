"""liboutbox: its shared library called as any program would, and installed programs compiled against it."""

import ctypes
import datetime
import json
import os
import random
import re
import subprocess
import textwrap
import uuid

import psycopg2
import pytest

from conftest import ROOT, wait_until
from test_readme import blocks, section

BUILD = ROOT / "build"
OK, INVALID, NO_CONNECTION, NO_TRANSACTION, BUSY, FAILED, NO_MEMORY, REFUSED = range(8)
TEXT = ("exchange", "routing_key", "payload", "payload_len", "payload_text", "payload_json", "ordering_key", "headers",
        "type", "app_id", "content_type", "content_encoding", "correlation_id", "reply_to", "message_id")
IDLE, ACTIVE, IN_TRANSACTION, IN_ERROR, UNKNOWN = range(5)


class Message(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t if name == "payload_len" else ctypes.c_char_p) for name in TEXT] + [
        ("expiration_ms", ctypes.c_int64), ("deliver_at_us", ctypes.c_int64), ("priority", ctypes.c_int),
        ("transient", ctypes.c_bool)]

    def __init__(self, **fields):
        fields = {"routing_key": "k", **fields}
        if not {"payload", "payload_text", "payload_json"} & fields.keys():
            fields["payload_text"] = "x"
        super().__init__(**{k: v.encode() if isinstance(v, str) else v for k, v in fields.items()})


class Options(ctypes.Structure):
    _fields_ = [("schema", ctypes.c_char_p)]


class Error(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int), ("index", ctypes.c_size_t), ("field", ctypes.c_char * 32),
                ("sqlstate", ctypes.c_char * 6), ("text", ctypes.c_char * 512)]


pq = ctypes.CDLL("libpq.so.5")
for name, result in (("PQconnectdb", ctypes.c_void_p), ("PQexec", ctypes.c_void_p), ("PQgetResult", ctypes.c_void_p)):
    getattr(pq, name).restype = result


class Connection:
    """A plain libpq connection and the library on it."""

    def __init__(self, dsn, library):
        self.db = ctypes.c_void_p(pq.PQconnectdb(dsn.encode()))
        assert pq.PQstatus(self.db) == 0
        self.library = library

    def run(self, *statements):
        for sql in statements:
            result = ctypes.c_void_p(pq.PQexec(self.db, sql.encode()))
            assert pq.PQresultStatus(result) in (1, 2), sql
            pq.PQclear(result)

    def state(self):
        return pq.PQtransactionStatus(self.db)

    def publish(self, message, schema=None):
        """(code, id, error)"""
        self.error = Error()
        written = ctypes.create_string_buffer(37)
        options = Options(schema.encode()) if schema else None
        code = self.library.outbox_publish(self.db, ctypes.byref(message), options and ctypes.byref(options), written,
                                           ctypes.byref(self.error))
        assert code == self.error.code
        return code, written.value.decode()

    def publish_batch(self, messages):
        self.error = Error()
        written = ((ctypes.c_char * 37) * len(messages))()
        code = self.library.outbox_publish_batch(self.db, (Message * len(messages))(*messages),
                                                 ctypes.c_size_t(len(messages)), None, written,
                                                 ctypes.byref(self.error))
        assert code == self.error.code
        return code, [one.value.decode() for one in written]

    def finish(self):
        pq.PQfinish(self.db)


@pytest.fixture(scope="module")
def library():
    return ctypes.CDLL(next(BUILD.glob("liboutbox.so.*")))


@pytest.fixture
def connect(database, library):
    opened = []

    def connect(**more):
        opened.append(Connection(database.dsn("writer", **more), library))
        return opened[-1]
    yield connect
    for connection in opened:
        connection.finish()


def test_every_field_arrives_as_a_property(connect, database, broker, relay):
    queue = broker.queue(exchange=(exchange := broker.exchange()), kind="classic", arguments={"x-max-priority": 9})
    identity = str(uuid.uuid4())
    one = Message(exchange=exchange, routing_key="käse.created", payload=b"\x00\xff\x01", payload_len=3,
                  ordering_key="schlüssel", headers='{"tenant": 12, "é": [true, null]}', type="t", app_id="a",
                  content_type="application/octet-stream", content_encoding="identity", correlation_id="c", reply_to="r",
                  message_id=identity, expiration_ms=3600000, priority=7, transient=True)
    bare = Message(exchange=exchange, payload_json='{"b": 1, "a": 2}', content_type="")
    db = connect()
    db.run("BEGIN")
    assert db.publish(one) == (OK, identity)
    code, other = db.publish(bare)
    assert code == OK and uuid.UUID(other).version == 7
    assert db.state() == IN_TRANSACTION
    db.run("COMMIT")
    running = relay()
    first, second = sorted(broker.take(queue, 2), key=lambda m: m.message_id != identity)
    p = first.properties
    assert (first.body, first.routing_key, first.message_id) == (b"\x00\xff\x01", "käse.created", identity)
    assert {k: v for k, v in first.headers.items() if k != "x-outbox-id"} == {
        "tenant": 12, "é": [True, None], "x-ordering-key": "schlüssel"}
    assert (p.type, p.app_id, p.content_type, p.content_encoding, p.correlation_id, p.reply_to, p.expiration, p.priority,
            p.delivery_mode) == ("t", "a", "application/octet-stream", "identity", "c", "r", "3600000", 7, 1)
    assert (second.message_id, second.body) == (other, b'{"a": 2, "b": 1}')
    assert (second.properties.content_type, second.properties.delivery_mode, second.properties.priority,
            second.properties.expiration) == (None, 2, None, None)
    assert running.stop() == 0


def test_what_rolls_back_is_not_there_and_nothing_is_committed_by_itself(connect, database):
    db = connect()
    db.run("BEGIN")
    assert db.publish(Message())[0] == OK
    assert database.value("SELECT count(*) FROM outbox.message") == 0
    db.run("ROLLBACK", "BEGIN", "SAVEPOINT s")
    assert db.publish(Message(content_type=None))[0] == OK
    db.run("ROLLBACK TO s")
    assert db.publish(Message(payload_text="kept", expiration_ms=-1))[0] == OK
    db.run("COMMIT")
    assert database.query("SELECT payload_text, content_type, expiration = interval '0' FROM outbox.message") == [
        ("kept", "application/json", True)]


def test_a_scheduled_message_waits_until_its_microsecond(connect, database):
    at = datetime.datetime(2031, 2, 3, 4, 5, 6, 789123, tzinfo=datetime.timezone.utc)
    db = connect()
    db.run("BEGIN")
    code, written = db.publish(Message(payload_text="later", deliver_at_us=int(at.timestamp()) * 1000000 + 789123,
                                       expiration_ms=4294967295, priority=255))
    assert code == OK
    db.run("COMMIT")
    assert database.query("SELECT message_id::text, payload_text, deliver_at, priority,"
                          " (date_part('epoch', expiration) * 1000)::bigint FROM outbox.delayed") == [
        (written, "later", at, 255, 4294967295)]


def test_text_is_utf8_whatever_the_connection_speaks(connect, database):
    for encoding in ("LATIN1", "UTF8", "SQL_ASCII", "EUC_JP"):
        db = connect(client_encoding=encoding)
        db.run("BEGIN")
        assert db.publish(Message(payload_text="€ und ü", type=encoding, headers='{"k": "ü"}'))[0] == OK, db.error.text
        db.run("COMMIT")
    assert database.query("SELECT DISTINCT payload_text, headers->>'k' FROM outbox.message") == [("€ und ü", "ü")]


@pytest.mark.parametrize("fields,field", [
    ({"routing_key": "k" * 256}, "routing_key"), ({"type": b"a\xff"}, "type"), ({"headers": '{"a": }'}, "headers"),
    ({"payload_json": "{"}, "payload_json"), ({"message_id": "1"}, "message_id"), ({"priority": 300}, "priority")])
def test_a_field_that_is_wrong_leaves_the_transaction_usable(connect, database, fields, field):
    db = connect()
    db.run("BEGIN")
    code, written = db.publish(Message(**fields))
    assert (code, db.error.field.decode(), written) == (INVALID, field, "") and field in db.error.text.decode()
    assert db.state() == IN_TRANSACTION
    assert db.publish(Message())[0] == OK
    code, _ = db.publish_batch([Message(), Message(**fields), Message()])
    assert (code, db.error.index, db.error.field.decode()) == (INVALID, 1, field) and db.state() == IN_TRANSACTION
    db.run("COMMIT")
    assert database.value("SELECT count(*) FROM outbox.message") == 1


SHORT = ("exchange", "routing_key", "type", "app_id", "content_type", "content_encoding", "correlation_id", "reply_to")


def test_every_text_is_checked_before_anything_is_sent(connect, database):
    """Too long, not UTF-8, or no JSON: the field, the reason, and a transaction that lives."""
    db = connect()
    db.run("BEGIN")
    bad = [(field, "x" * 256, "longer than 255 bytes") for field in SHORT] + [("ordering_key", "x" * 1025, "longer than 1024 bytes")]
    bad += [(field, b"ab\xc3", "not valid UTF-8 at byte 2") for field in (*SHORT, "ordering_key", "payload_text")]
    bad += [(field, b'{"a": "\xff"}', "not valid UTF-8 at byte 7") for field in ("headers", "payload_json")]
    bad += [("headers", text, "headers must be a JSON object") for text in ("", "[]", "1", "null", '{"a": 1', "{'a': 1}")]
    bad += [("payload_json", "{]", "payload_json"), ("message_id", b"\xff" * 36, "message_id")]
    for field, text, why in bad:
        code, _ = db.publish(Message(**{field: text}))
        assert (code, db.error.field.decode()) == (INVALID, field) and why in db.error.text.decode(), (field, text, db.error.text)
        assert db.state() == IN_TRANSACTION
        assert db.publish_batch([Message(), Message(**{field: text})])[0] == INVALID and db.error.index == 1
    assert db.publish(Message(payload_text="well"))[0] == OK
    db.run("COMMIT")
    assert database.query("SELECT payload_text FROM outbox.message") == [("well",)]


SEEDS = ['{"a": [1, -2.5e+3, true, null, "x\\u00e9\\n"], "b": {"c": {}}}', '{"n": 9223372036854775807, "m": -9223372036854775808}',
         '{"x-outbox-id": 1}', '{"n": 922337203685477580.8e1, "s": "\\ud83d\\ude00"}', '[[[[1e10]]]]', '"\\u0000"', '{"é": "€"}',
         '{"' + "k" * 255 + '": 0}', '{"a": 1e131071, "b": 1e-16383}', " \t{ } ", "{'a': 1}", '{"a": 01}', '{"a": NaN}',
         '{"a": 0e999999999999}', '{"a": 1e-131071}']


def test_what_we_let_pass_postgres_takes_and_the_other_way_round(connect, database):
    """A statement that fails would cost the caller the transaction."""
    rng = random.Random(4)
    texts = list(SEEDS)
    for _ in range(600):
        text = list(rng.choice(SEEDS))
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(text) + 1)
            text[at:at + rng.randint(0, 2)] = rng.choice(list('{}[]",:.eE+-0199\\u dé') + ["\\ud800", "99999999999999999999"])
            text = text or [" "]
        texts.append("".join(text))
    db = connect()
    observer = database.connect("owner", autocommit=True).cursor()

    def taken(sql, text):
        try:
            observer.execute(sql, [text])
            return observer.fetchone()[0]
        except psycopg2.Error:
            return False

    db.run("BEGIN")
    good = 0
    for text in texts:
        for field, sql in (("payload_json", "SELECT %s::jsonb IS NOT NULL"), ("headers", "SELECT outbox.headers_valid(%s::jsonb)")):
            code = db.publish(Message(**{field: text}))[0]
            assert code == (OK if taken(sql, text) else INVALID), (field, text, db.error.text)
            good += code == OK
    db.run("COMMIT")
    assert 100 < good < len(texts)
    assert database.value("SELECT count(*) FROM outbox.message") == good


def test_a_connection_that_cannot_be_used_is_told(connect, library, database):
    error = Error()
    assert library.outbox_publish(None, ctypes.byref(Message()), None, None, ctypes.byref(error)) == NO_CONNECTION
    assert library.outbox_publish(None, ctypes.byref(Message()), None, None, None) == NO_CONNECTION
    db = connect()
    assert library.outbox_publish(db.db, None, None, None, ctypes.byref(error)) == NO_TRANSACTION
    for publish in (lambda: db.publish(Message())[0], lambda: db.publish_batch([Message()])[0]):
        assert publish() == NO_TRANSACTION and b"BEGIN" in db.error.text
        pq.PQenterPipelineMode(db.db)
        assert publish() == BUSY
        pq.PQexitPipelineMode(db.db)
        assert pq.PQsendQuery(db.db, b"SELECT 1") == 1
        assert publish() == BUSY
        while result := pq.PQgetResult(db.db):
            pq.PQclear(ctypes.c_void_p(result))
        db.run("BEGIN")
        pq.PQclear(ctypes.c_void_p(pq.PQexec(db.db, b"SELECT 1/0")))
        assert publish() == FAILED
        db.run("ROLLBACK")
    db.run("BEGIN")
    assert library.outbox_publish(db.db, None, None, None, ctypes.byref(error)) == INVALID
    pid = pq.PQbackendPID(db.db)
    database.execute("SELECT pg_terminate_backend(%s)", [pid], role="postgres")
    wait_until(lambda: database.value("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = %s", [pid]))
    assert db.publish(Message())[0] == NO_CONNECTION and b"lost" in db.error.text
    assert db.publish(Message())[0] == NO_CONNECTION and b"closed" in db.error.text
    again = connect()
    again.run("BEGIN")
    pid = pq.PQbackendPID(again.db)
    database.execute("SELECT pg_terminate_backend(%s)", [pid], role="postgres")
    wait_until(lambda: database.value("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = %s", [pid]))
    assert again.publish_batch([Message()] * 1000)[0] == NO_CONNECTION


def test_what_postgres_alone_knows_is_refused_with_its_reason(connect, database):
    database.execute("SELECT outbox.set_payload_limit(10)")
    db = connect()
    db.run("BEGIN", "SAVEPOINT s")
    assert db.publish(Message(payload_text="x" * 11))[0] == REFUSED
    assert (db.error.sqlstate, db.error.field) == (b"23514", b"payload_at_most_payload_limit")
    assert b"xxxx" not in db.error.text and db.state() == IN_ERROR
    db.run("ROLLBACK TO s")
    assert db.publish(Message(payload_text="fits"))[0] == OK
    code, _ = db.publish_batch([Message(payload_text="fits")] * 300 + [Message(payload_text="x" * 11)] * 2)
    assert (code, db.error.index) == (REFUSED, 300) and db.state() == IN_ERROR
    db.run("ROLLBACK TO s")
    code, _ = db.publish(Message(), schema="nowhere")
    assert code == REFUSED and b"nowhere" in db.error.text
    db.run("ROLLBACK TO s")
    for schema in ("", "x" * 64, b"\xff".decode("latin1") * 40):
        options = Options(schema.encode())
        assert db.library.outbox_publish(db.db, ctypes.byref(Message()), ctypes.byref(options), None, None) == INVALID
    assert db.publish_batch([Message(payload_text="last")])[0] == OK
    db.run("COMMIT")
    assert database.query("SELECT payload_text FROM outbox.message") == [("last",)]


def test_what_a_trigger_keeps_out_is_no_message(connect, database):
    database.execute("CREATE FUNCTION keep_out() RETURNS trigger LANGUAGE plpgsql"
                     " AS $$BEGIN RETURN CASE WHEN NEW.payload_text = 'out' THEN NULL ELSE NEW END; END$$;"
                     "CREATE TRIGGER keep_out BEFORE INSERT ON outbox.message FOR EACH ROW EXECUTE FUNCTION keep_out()")
    db = connect()
    db.run("BEGIN", "SAVEPOINT s")
    assert db.publish(Message(payload_text="in"))[0] == OK
    assert db.publish(Message(payload_text="out"))[0] == REFUSED
    assert b"trigger" in db.error.text and db.state() == IN_ERROR
    db.run("ROLLBACK TO s")
    code, _ = db.publish_batch([Message(payload_text="in"), Message(payload_text="out"), Message(payload_text="in")])
    assert (code, db.error.index) == (REFUSED, 1) and db.state() == IN_ERROR


def test_another_schema(empty_database, library):
    for file in sorted((ROOT / "migrations/outbox").glob("*.up.sql")):
        empty_database.psql("-1", "-c", re.sub(r"\boutbox\b", "shop_out", file.read_text()))
    db = Connection(empty_database.dsn("owner"), library)
    db.run("BEGIN")
    assert db.publish(Message(payload_text="here"), schema="shop_out")[0] == OK, db.error.text
    assert empty_database.value("SELECT count(*) FROM shop_out.message") == 0
    db.run("COMMIT")
    assert empty_database.query("SELECT payload_text FROM shop_out.message") == [("here",)]
    db.run("BEGIN")
    # No injection, and no template of ours shows through.
    assert db.publish(Message(), schema='a" @ #1; b')[0] == REFUSED and b'"a" @ #1; b.message" does' in db.error.text
    db.finish()


@pytest.mark.parametrize("nonblocking", [0, 1])
def test_a_batch_keeps_its_order_and_leaves_the_connection_as_it_was(connect, database, nonblocking):
    db = connect()
    pq.PQsetnonblocking(db.db, nonblocking)
    db.run("BEGIN")
    messages = [Message(payload_text=f"{n} " + "x" * (5000 if n % 100 == 0 else 10),
                        deliver_at_us=4102444800000000 if n % 500 == 7 else 0) for n in range(3000)]
    code, ids = db.publish_batch(messages)
    assert code == OK, db.error.text
    assert db.publish_batch([])[0] == OK
    assert pq.PQpipelineStatus(db.db) == 0 and pq.PQisnonblocking(db.db) == nonblocking and db.state() == IN_TRANSACTION
    db.run("SELECT 1", "COMMIT")
    stored = database.query("SELECT message_id::text, split_part(payload_text, ' ', 1)::int FROM"
                            " (SELECT id, message_id, payload_text FROM outbox.message UNION ALL"
                            "  SELECT id, message_id, payload_text FROM outbox.delayed) AS m ORDER BY id")
    assert stored == [(identity, n) for n, identity in enumerate(ids)]
    assert database.value("SELECT count(*) FROM outbox.delayed") == 6
    assert database.value("SELECT count(*) FROM pg_prepared_statements") == 0


PROGRAM = textwrap.dedent("""\
    #include <stdio.h>
    #include <outbox.h>

    static int
    run(PGconn * db, const char * sql)
    {
    	PGresult * result = PQexec(db, sql);
    	int failed = PQresultStatus(result) != PGRES_COMMAND_OK;

    	if (failed)
    		fprintf(stderr, "%s", PQerrorMessage(db));
    	PQclear(result);
    	return (failed);
    }

    int
    main(int argc, char ** argv)
    {
    	PGconn * db = PQconnectdb(argc > 1 ? argv[1] : "");
    	struct outbox_message order = {.exchange = "shop", .routing_key = "order.created",
    	    .payload_text = "{\\"order\\": 1}", .ordering_key = "customer-7"};
    	struct outbox_message many[2] = {order, order};
    	char id[OUTBOX_ID_SIZE], ids[2][OUTBOX_ID_SIZE];
    	struct outbox_error error;
    	int failed = run(db, "BEGIN");

    	if (!failed && outbox_publish(db, &order, NULL, id, &error)) {
    		fprintf(stderr, "%s\\n", error.text);
    		failed = 1;
    	}
    	many[1].headers = "[]";
    	if (!failed && outbox_publish_batch(db, many, 2, NULL, ids, &error))
    		printf("%s in message %zu\\n", error.text, error.index);
    	many[1].headers = "{}";
    	failed = failed || outbox_publish_batch(db, many, 2, NULL, ids, &error);
    	failed = run(db, failed ? "ROLLBACK" : "COMMIT") || failed;
    	if (!failed)
    		printf("%s\\n%s\\n%s\\n", id, ids[0], ids[1]);
    	PQfinish(db);
    	return (failed);
    }
    """)


def run(*command, **more):
    done = subprocess.run([str(word) for word in command], text=True, capture_output=True, timeout=120, **more)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture
def installed(tmp_path):
    """Installed for real under a folder of its own; and the environment that finds it there."""
    run("make", "-s", "-C", ROOT, "install", "BUILD=build", "DESTDIR=", f"PREFIX={tmp_path}/usr",
        f"SYSCONFDIR={tmp_path}/etc")
    return {**os.environ, "PKG_CONFIG_PATH": f"{tmp_path}/usr/lib/pkgconfig", "LD_LIBRARY_PATH": f"{tmp_path}/usr/lib"}


@pytest.mark.parametrize("static", [False, True])
def test_an_installed_program_works_and_leaks_nothing(installed, database, tmp_path, static):
    (tmp_path / "program.c").write_text(PROGRAM)
    flags = run("pkg-config", "--cflags", "--libs", "outbox", env=installed).split()
    if static:
        flags = [f"{tmp_path}/usr/lib/liboutbox.a" if flag == "-loutbox" else flag for flag in flags]
    run("gcc", "-Wall", "-Wextra", "-Werror", "-o", tmp_path / "program", tmp_path / "program.c", *flags)
    assert ("liboutbox" in run("ldd", tmp_path / "program", env=installed)) == (not static)
    command = [tmp_path / "program", database.dsn("writer")]
    said = run("valgrind", "-q", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite", *command,
               env=installed).splitlines()
    assert said[0] == "headers must be a JSON object that AMQP can carry: no JSON object at byte 0 in message 1"
    assert database.query("SELECT message_id::text FROM outbox.message ORDER BY id") == [(one,) for one in said[1:]]
    assert len(said) == 4


def test_the_readmes_program_works_once_installed(installed, database, tmp_path):
    [program] = [content for _, content in blocks(section("From C")) if "outbox_publish(" in content]
    assert len(program.splitlines()) <= 40
    database.execute("CREATE TABLE orders (customer text PRIMARY KEY, item text); GRANT INSERT ON orders TO PUBLIC")
    (tmp_path / "program.c").write_text(program)
    flags = run("pkg-config", "--cflags", "--libs", "outbox", env=installed).split()
    run("gcc", "-Wall", "-Wextra", "-Werror", "-o", tmp_path / "program", tmp_path / "program.c", *flags)
    environment = {**installed, **database.environment("writer")}
    said = run(tmp_path / "program", env=environment)
    assert database.query("SELECT message_id::text, ordering_key FROM outbox.message") == [(said.strip(), "customer-7")]
    again = subprocess.run([tmp_path / "program"], env=environment, capture_output=True, text=True)
    assert again.returncode == 1 and "orders_pkey" in again.stderr
    assert database.query("SELECT count(*) FROM outbox.message") == [(1,)]


def test_install_under_a_staging_folder_is_taken_back_wholly(tmp_path):
    where = ["BUILD=build", f"DESTDIR={tmp_path}", "PREFIX=/opt/outbox", "SYSCONFDIR=/etc"]
    run("make", "-s", "-C", ROOT, "install", *where)
    package = (tmp_path / "opt/outbox/lib/pkgconfig/outbox.pc").read_text()
    assert "prefix=/opt/outbox\n" in package and "libdir=${prefix}/lib\n" in package and str(tmp_path) not in package
    assert os.path.exists(tmp_path / "opt/outbox/lib/liboutbox.so")
    run("make", "-s", "-C", ROOT, "uninstall", *where)
    assert [path for path in tmp_path.rglob("*") if path.is_symlink() or path.is_file()] == []


def test_the_shared_library_shows_its_interface_alone():
    file = next(BUILD.glob("liboutbox.so.*"))
    dynamic = run("readelf", "-d", file)
    assert f"soname: [{file.name.split('.so.')[0]}.so.{file.name.split('.so.')[1].split('.')[0]}]" in dynamic
    needed = {line.split("[")[1].split(".so")[0] for line in dynamic.splitlines() if "NEEDED" in line}
    assert needed == {"libpq", "libc"}
    shown = {line.split()[-1] for line in run("nm", "-D", "--defined-only", file).splitlines()}
    assert shown == {"outbox_publish", "outbox_publish_batch", "outbox_version"}
    declared = json.loads(run("sed", "-n", 's/^#define OUTBOX_VERSION \\(".*"\\)/\\1/p', ROOT / "lib/outbox_version.h"))
    library = ctypes.CDLL(file)
    library.outbox_version.restype = ctypes.c_char_p
    assert library.outbox_version().decode() == declared == file.name.split(".so.")[1]


@pytest.mark.parametrize("header", sorted(path.name for path in (ROOT / "include").glob("*.h")))
@pytest.mark.parametrize("compiler", [["g++", "-std=c++11", "-x", "c++"], ["gcc", "-std=c99", "-x", "c"]])
def test_headers_compile_alone_in_c_and_cpp(header, compiler, tmp_path):
    source = tmp_path / "includes"
    source.write_text(f"#include <{header}>\n#include <{header}>\nint main(void) {{ return 0; }}\n")
    flags = run("pkg-config", "--cflags", "libpq").split()
    run(*compiler, "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{ROOT}/include", *flags, "-o", tmp_path / "out", source)
