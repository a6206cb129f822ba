"""The migrations' files: any tool applies them, they know their version, and the way back is whole."""

import contextlib
import re
import subprocess

import psycopg2
import psycopg2.errors
import pytest

import sqldb

CREATES = re.compile(r"CREATE (?!OR REPLACE)")


@pytest.fixture(scope="module", autouse=True)
def server(session_stack):
    sqldb.use(session_stack.env)


@pytest.fixture
def db():
    with sqldb.database() as db:
        yield db


def inventory(db, schema="outbox"):
    """Everything in the schema, as text that can be compared."""
    found = db.rows("""
        SELECT 'column', c.relname || '.' || a.attname, format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull || ' '
            || coalesce(pg_get_expr(d.adbin, d.adrelid), '') || ' ' || a.attidentity::text
        FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relnamespace = %(s)s::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S')
        UNION ALL
        SELECT 'relation', c.relname, concat_ws(' ', c.relkind, c.reloptions::text, c.relacl::text) FROM pg_class AS c
        WHERE c.relnamespace = %(s)s::regnamespace
        UNION ALL
        SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = %(s)s::regnamespace
        UNION ALL
        SELECT 'function', p.oid::regprocedure::text, pg_get_functiondef(p.oid) || coalesce(p.proacl::text, '')
        FROM pg_proc AS p WHERE p.pronamespace = %(s)s::regnamespace
        UNION ALL
        SELECT 'trigger', t.tgrelid::regclass || '.' || t.tgname, pg_get_triggerdef(t.oid) FROM pg_trigger AS t
        JOIN pg_class AS c ON c.oid = t.tgrelid WHERE c.relnamespace = %(s)s::regnamespace AND NOT t.tgisinternal
        UNION ALL
        SELECT 'view', c.relname, pg_get_viewdef(c.oid) FROM pg_class AS c
        WHERE c.relnamespace = %(s)s::regnamespace AND c.relkind = 'v'
        UNION ALL
        SELECT 'comment', o.name, obj_description(o.oid, o.class) FROM (
            SELECT c.relname::text AS name, c.oid, 'pg_class' AS class FROM pg_class AS c WHERE c.relnamespace = %(s)s::regnamespace
            UNION ALL SELECT p.oid::regprocedure::text, p.oid, 'pg_proc' FROM pg_proc AS p
            WHERE p.pronamespace = %(s)s::regnamespace) AS o""",
                    {"s": schema})
    return sorted(tuple(re.sub(rf"\b{schema}\b", "SCHEMA", str(x)) for x in row) for row in found)


@pytest.fixture(scope="module")
def reference(server):
    with sqldb.database() as db:
        db.up()
        yield inventory(db)


def versions(db, schema="outbox"):
    return db.value(f"SELECT {schema}.applied_migrations()")


def everything_works(db, schema="outbox"):
    db.rows(f"SELECT {schema}.publish('e', 'r', 'x'), {schema}.publish('e', 'r', 'x', deliver_at => '2100-01-01')")
    assert db.rows(f"SELECT state, count(*) FROM {schema}.message_status GROUP BY 1 ORDER BY 1") == [("delayed", 1), ("pending", 1)]
    assert db.rows(f"SELECT pending, delayed, dead FROM {schema}.backlog()") == [(1, 1, 0)]


def names():
    return [re.match(r"(\d{4})_(\w+)\.up\.sql$", path.name).groups() for path in sqldb.files("up")]


def numbers():
    return [int(version) for version, _ in names()]


def test_files_are_numbered_from_one_and_each_has_its_way_back():
    assert numbers() == list(range(1, len(names()) + 1))
    assert [p.name.replace(".down.", ".up.") for p in reversed(sqldb.files("down"))] == [p.name for p in sqldb.files("up")]


def test_psql_in_one_transaction_as_a_plain_owner(db, reference):
    assert db.rows("SELECT rolsuper, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = current_user") == [(False, False, False)]
    db.psql("-1", *[a for path in sqldb.files("up") for a in ("-f", str(path))])
    assert versions(db) == numbers()
    assert db.value("SELECT outbox.schema_version()") == sqldb.schema_version()
    assert db.rows("SELECT version, name, applied_by FROM outbox.migration ORDER BY 1") == [
        (int(version), name, sqldb.OWNER) for version, name in names()]
    assert inventory(db) == reference
    everything_works(db)


def test_nothing_but_the_history_is_seeded(db):
    db.up()
    for table in db.rows("SELECT c.oid::regclass FROM pg_class AS c WHERE c.relnamespace = 'outbox'::regnamespace"
                         " AND c.relkind IN ('r', 'p') AND c.relname <> 'migration'"):
        assert db.rows(f"SELECT count(*) FROM {table[0]}") == [(0,)]


def test_every_table_column_and_function_is_described(db):
    db.up()
    assert db.rows("SELECT c.oid::regclass FROM pg_class AS c WHERE c.relnamespace = 'outbox'::regnamespace AND NOT c.relispartition"
                   " AND c.relkind IN ('r', 'p', 'v') AND obj_description(c.oid, 'pg_class') IS NULL") == []
    assert db.rows("SELECT p.oid::regprocedure FROM pg_proc AS p WHERE p.pronamespace = 'outbox'::regnamespace"
                   " AND obj_description(p.oid, 'pg_proc') IS NULL") == []
    assert db.rows("SELECT a.attname FROM pg_attribute AS a WHERE a.attrelid IN ('outbox.message'::regclass, 'outbox.sent'::regclass)"
                   " AND a.attnum > 0 AND col_description(a.attrelid, a.attnum) IS NULL") == []


def test_a_second_time_changes_nothing(db, reference):
    db.up()
    for path in sqldb.files("up"):
        # One that only alters or replaces what is there may find that it is so.
        assert db.psql("-1", "-f", str(path), check=False).returncode != 0 or not CREATES.search(path.read_text())
    assert inventory(db) == reference
    assert versions(db) == numbers()


def test_down_removes_all_that_up_made_and_up_works_again(db, reference):
    before = db.value("SELECT count(*) FROM pg_depend")
    db.up()
    db.down()
    assert db.value("SELECT to_regnamespace('outbox')") is None
    assert db.value("SELECT count(*) FROM pg_depend") == before
    db.up()
    assert inventory(db) == reference
    everything_works(db)


def test_down_and_up_step_by_step(db, reference):
    db.up()
    for path in sqldb.files("down")[:-1]:
        db.psql("-1", "-f", str(path))
        version = int(path.name[:4])
        assert versions(db) == list(range(1, version))
        assert db.rows("SELECT count(*) FROM outbox.migration") == [(version - 1,)]
    for path in sqldb.files("up")[1:]:
        db.psql("-1", "-f", str(path))
    assert inventory(db) == reference


def test_the_inbox_goes_back_to_what_it_was_step_by_step(db):
    files = sorted((sqldb.ROOT / "migrations/inbox").glob("*.up.sql"))
    before = []
    for path in files:
        before.append(inventory(db, "inbox") if before else None)
        db.psql("-1", "-f", str(path))
    whole = inventory(db, "inbox")
    for path, was in list(zip(files, before))[:0:-1]:
        db.psql("-1", "-f", str(path).replace(".up.", ".down."))
        assert inventory(db, "inbox") == was
    for path in files[1:]:
        db.psql("-1", "-f", str(path))
    assert inventory(db, "inbox") == whole


def test_who_could_write_before_a_migration_can_write_after_it(db):
    with sqldb.role() as writer:
        db.up(only="0001")
        db.up(only="0002")
        db.rows("SELECT outbox.grant_writer(%s)", (writer,))
        for path in sqldb.files("up")[2:]:
            db.psql("-1", "-f", str(path))
            assert db.rows("SELECT count(outbox.publish('e', 'r', 'x'))", user=writer) == [(1,)], path.name
            db.rows("INSERT INTO outbox.message (routing_key, payload_text) VALUES ('r', 'x')", user=writer)
        with contextlib.closing(sqldb.superuser(db.name)) as admin:
            admin.cursor().execute(f"DROP OWNED BY {writer}")


def test_the_wake_up_trigger_may_be_left_out(db):
    for version, name in names():
        if name != "wake":
            db.up(only=f"{version}_{name}")
    assert versions(db) == [n for n in numbers() if n != 3]
    assert db.rows("SELECT count(*) FROM pg_trigger WHERE tgname = 'wake'") == [(0,)]
    everything_works(db)
    # Two-phase commit then works (NOTIFY would forbid it).
    assert "wake" not in [p[0] for p in db.rows("SELECT proname FROM pg_proc WHERE pronamespace = 'outbox'::regnamespace")]


@pytest.mark.parametrize("what", [
    "SELECT outbox.publish('e', 'r', 'x')",
    "SELECT outbox.publish('e', 'r', 'x', deliver_at => '2100-01-01')",
    "INSERT INTO outbox.dead (id, message_id, exchange, routing_key, persistent, created_at, reason)"
    " VALUES (1, outbox.uuid_v7(), '', 'r', true, now(), 'x')",
])
def test_down_refuses_to_destroy_messages_unless_forced(db, what):
    db.up()
    db.rows(f"WITH x AS ({what} RETURNING 1) SELECT 1" if what.startswith("INSERT") else what)
    # The newer ones hold no messages.
    back = [path for path in sqldb.files("down") if int(path.name[:4]) > 2]
    for path in back:
        db.psql("-1", "-f", str(path))
    for path in sqldb.files("down")[len(back):]:
        refused = db.psql("-1", "-f", str(path), check=False)
        assert refused.returncode != 0 and "still holds" in refused.stderr and "force_down" in refused.stderr
    assert db.value("SELECT count(*) FROM outbox.message_status") == 1
    for path in sqldb.files("down")[len(back):]:
        db.psql("-1", "-f", str(path), options="-c outbox_relay.force_down=on")
    assert db.value("SELECT to_regnamespace('outbox')") is None


def test_down_takes_back_an_outbox_whose_messages_are_sent(db):
    db.up()
    db.rows("SELECT outbox.publish('e', 'r', 'x')")
    db.rows("INSERT INTO outbox.sent SELECT 1, now(), pg_current_snapshot(), NULL, 0, 1, 1, 1, 1, 1, 1 RETURNING 1")
    db.down()
    assert db.value("SELECT to_regnamespace('outbox')") is None


def test_an_existing_schema_is_used_and_kept(db):
    with contextlib.closing(sqldb.superuser(db.name)) as admin:
        admin.cursor().execute(f"CREATE SCHEMA outbox; GRANT USAGE, CREATE ON SCHEMA outbox TO {sqldb.OWNER};"
                               f" CREATE TABLE outbox.of_the_application (); REVOKE CREATE ON DATABASE {db.name} FROM PUBLIC;"
                               f" ALTER DATABASE {db.name} OWNER TO {sqldb.server['PGUSER']}")
        db.up()
        everything_works(db)
        db.down(options="-c outbox_relay.force_down=on")
        assert db.rows("SELECT c.relname FROM pg_class AS c WHERE c.relnamespace = 'outbox'::regnamespace") == [("of_the_application",)]


def test_our_own_schema_is_kept_when_the_application_put_something_into_it(db):
    db.up()
    db.rows("CREATE TABLE outbox.of_the_application ()")
    db.down()
    assert db.rows("SELECT c.relname FROM pg_class AS c WHERE c.relnamespace = 'outbox'::regnamespace") == [("of_the_application",)]
    db.up()
    everything_works(db)


# ---- other tools

def test_as_golang_migrate_sends_a_file(db, reference):
    """The whole file as one simple query, no transaction around it."""
    with contextlib.closing(db.connect()) as connection:
        for path in sqldb.files("up"):
            connection.cursor().execute(path.read_text())
    assert inventory(db) == reference
    assert versions(db) == numbers()
    with contextlib.closing(db.connect()) as connection:
        for path in sqldb.files("down"):
            connection.cursor().execute(path.read_text())
    assert db.value("SELECT to_regnamespace('outbox')") is None


def statements(text):
    """Split as Flyway does: by ; outside quotes, dollar quotes and comments."""
    token = re.compile(r"--[^\n]*|'(?:[^']|'')*'|(\$\w*\$).*?\1|;|[^-'$;]+|.", re.S)
    found, current = [], ""
    for match in token.finditer(text):
        part = match.group()
        if part == ";":
            found.append(current)
            current = ""
        elif not part.startswith("--"):
            current += part
    assert current.strip() == ""
    return found


def test_as_flyway_sends_statement_by_statement(db, reference):
    with contextlib.closing(db.connect(autocommit=False)) as connection:
        for path in sqldb.files("up"):
            assert "${" not in path.read_text()      # Flyway's placeholders
            for statement in statements(path.read_text()):
                connection.cursor().execute(statement)
            connection.commit()
    assert inventory(db) == reference
    assert versions(db) == numbers()


def test_under_a_tool_that_sets_another_search_path(db, reference):
    with contextlib.closing(db.connect(autocommit=False)) as connection:
        cursor = connection.cursor()
        cursor.execute("CREATE SCHEMA elsewhere; SET search_path = elsewhere")
        for path in sqldb.files("up"):
            cursor.execute(path.read_text())
        connection.commit()
        cursor.execute("SELECT count(*) FROM pg_class WHERE relnamespace = 'elsewhere'::regnamespace")
        assert cursor.fetchone() == (0,)
    assert inventory(db) == reference


# ---- dumps

def test_a_schema_only_dump_restored_works_and_knows_its_version(db, reference, session_stack):
    db.up()
    db.rows("SELECT outbox.set_retention('3 hours'), outbox.set_payload_limit(1000)")
    db.rows("SELECT outbox.publish('e', 'r', 'x')")
    dump = subprocess.run(["pg_dump", "-h", sqldb.server["PGHOST"], "-p", sqldb.server["PGPORT"], "-U", sqldb.server["PGUSER"],
                           "--schema-only", db.name], check=True, capture_output=True, text=True).stdout
    with sqldb.database() as copy:
        path = sqldb.ROOT / "build" / f"{copy.name}.sql"
        path.write_text(dump)
        try:
            subprocess.run(["psql", "-qX", "-v", "ON_ERROR_STOP=1", "-h", sqldb.server["PGHOST"], "-p", sqldb.server["PGPORT"],
                            "-U", sqldb.server["PGUSER"], "-d", copy.name, "-f", str(path)], check=True, capture_output=True)
        finally:
            path.unlink()
        assert versions(copy) == numbers()
        assert copy.value("SELECT outbox.schema_version()") == sqldb.schema_version()
        assert copy.rows("SELECT outbox.retention()::text, outbox.slot_period()::text, outbox.payload_limit()") == [
            ("03:00:00", "03:00:00", 1000)]
        with pytest.raises(psycopg2.errors.CheckViolation):
            copy.rows("SELECT outbox.publish('e', 'r', repeat('x', 1001))")
        copy.rows("SELECT outbox.set_retention('1 day'), outbox.set_payload_limit(16777216)")
        differing = set(inventory(copy)) ^ set(reference)
        # A dump writes the owner's own privileges out or leaves them out: the same thing.
        assert {(kind, name) for kind, name, _ in differing if kind not in ("relation", "function")} == set()
        everything_works(copy)
        copy.down(options="-c outbox_relay.force_down=on")
        assert copy.value("SELECT to_regnamespace('outbox')") is None


# ---- another name

def test_another_schema_name_gives_the_same_schema(reference):
    with sqldb.database(schema="orders_out") as db:
        db.up()
        assert inventory(db, "orders_out") == reference
        assert db.value("SELECT count(*) FROM pg_namespace WHERE nspname = 'outbox'") == 0
        assert versions(db, "orders_out") == numbers()
        everything_works(db, "orders_out")
        with pytest.raises(psycopg2.errors.CheckViolation, match="x-outbox-id"):
            db.rows("SELECT orders_out.publish('', 'r', 'x', headers => '{\"x-outbox-id\": 1}')")
        with sqldb.role() as writer:
            db.rows("SELECT orders_out.grant_writer(%s)", (writer,))
            assert db.rows("SELECT count(orders_out.publish('e', 'r', 'x'))", user=writer) == [(1,)]
            with contextlib.closing(sqldb.superuser(db.name)) as admin:
                admin.cursor().execute(f"DROP OWNED BY {writer}")
        db.down(options="-c outbox_relay.force_down=on")
        assert db.value("SELECT to_regnamespace('orders_out')") is None


def test_two_schemas_live_in_one_database(db):
    db.up()
    db.schema = "second"
    db.up()
    everything_works(db, "outbox")
    everything_works(db, "second")
