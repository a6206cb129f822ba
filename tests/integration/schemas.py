"""Schema outbox in a database of its own for each test, made from a template; and what tests write there."""

import contextlib

import pytest

import sqldb


@pytest.fixture(scope="module", autouse=True)
def server(session_stack):
    sqldb.use(session_stack.env)


@pytest.fixture(scope="module")
def template(server):
    with sqldb.database() as db:
        db.up()
        yield db.name


@pytest.fixture
def db(template):
    with sqldb.database(template=template) as db:
        yield db


@pytest.fixture
def cursor(db):
    with contextlib.closing(db.connect()) as connection:
        yield connection.cursor()


def insert(cursor, **columns):
    columns = {"routing_key": "rk", **columns}
    if not {"payload", "payload_text", "payload_json"} & set(columns):
        columns["payload_text"] = "hello"
    cursor.execute(f"INSERT INTO outbox.message ({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(columns))})"
                   " RETURNING id", list(columns.values()))
    return cursor.fetchone()[0]


def call(cursor, payload, routing_key="rk", **named):
    named = {k: v for k, v in named.items() if v is not None}
    cursor.execute("SELECT outbox.publish('ex', %s, " + payload.replace("%", "%%") +
                   "".join(f", {name} => %s" for name in named) + ")", [routing_key, *named.values()])
    return cursor.fetchone()[0]


def db_drop_owned(db, name):
    with contextlib.closing(sqldb.superuser(db.name)) as admin:
        admin.cursor().execute(f"DROP OWNED BY {name}")
