"""Databases of their own for the tests of the SQL: a plain owner, no relay, no broker.
"""

import contextlib
import itertools
import os
import pathlib
import re
import subprocess

import psycopg2
import psycopg2.extras

ROOT = pathlib.Path(__file__).resolve().parents[2]
MIGRATIONS = ROOT / "migrations" / "outbox"
OWNER = "sql_owner"

numbers = itertools.count(1)
server = {}


def files(direction):
    """Migration files in the order in which they are applied, or taken back."""
    return sorted(MIGRATIONS.glob(f"*.{direction}.sql"), reverse=direction == "down")


def schema_version():
    """What schema_version() says after all of them: the newest file that rewrites it."""
    return [v for path in files("up") for v in re.findall(r"SELECT '(\d+\.\d+)'::text", path.read_text())][-1]


def use(env):
    """From now on databases are on the server that the stack's ${env} names."""
    server.update({name: env[name] for name in ("PGHOST", "PGPORT", "PGUSER")})


def superuser(dbname="postgres"):
    connection = psycopg2.connect(host=server["PGHOST"], port=server["PGPORT"], user=server["PGUSER"], dbname=dbname)
    connection.autocommit = True
    return connection


class Database:
    def __init__(self, name, schema="outbox"):
        self.name = name
        self.schema = schema

    def connect(self, user=OWNER, autocommit=True):
        connection = psycopg2.connect(host=server["PGHOST"], port=server["PGPORT"], dbname=self.name, user=user)
        connection.autocommit = autocommit
        psycopg2.extras.register_uuid(conn_or_curs=connection)
        return connection

    def rows(self, sql, parameters=None, user=OWNER):
        with contextlib.closing(self.connect(user)) as connection, connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else None

    def value(self, sql, parameters=None, user=OWNER):
        return self.rows(sql, parameters, user)[0][0]

    def psql(self, *arguments, check=True, options=""):
        return subprocess.run(["psql", "-qXAt", "-v", "ON_ERROR_STOP=1", "-U", OWNER, "-d", self.name, *arguments],
                              check=check, capture_output=True, text=True, env={**os.environ, **server, "PGOPTIONS": options})

    def text(self, path):
        """A migration as it is for this database's schema."""
        return re.sub(r"\boutbox\b", self.schema, path.read_text())

    def up(self, only=None):
        for path in files("up"):
            if only is None or path.name.startswith(only):
                self.psql("-1", "-c", self.text(path))

    def down(self, options=""):
        for path in files("down"):
            self.psql("-1", "-c", self.text(path), options=options)


@contextlib.contextmanager
def database(schema="outbox", template=None):
    """A new, empty database that belongs to a plain owner; dropped at the end."""
    name = f"sql_{os.getpid()}_{next(numbers)}"
    with contextlib.closing(superuser()) as admin:
        cursor = admin.cursor()
        cursor.execute("SELECT FROM pg_roles WHERE rolname = %s", (OWNER,))
        if cursor.rowcount == 0:
            cursor.execute(f"CREATE ROLE {OWNER} LOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB")
        cursor.execute(f"CREATE DATABASE {name} OWNER {OWNER}" + (f" TEMPLATE {template}" if template else ""))
        try:
            yield Database(name, schema)
        finally:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextlib.contextmanager
def role(attributes="LOGIN"):
    """A new role, dropped at the end: so leave its databases first."""
    name = f"sql_role_{os.getpid()}_{next(numbers)}"
    with contextlib.closing(superuser()) as admin:
        cursor = admin.cursor()
        cursor.execute(f"CREATE ROLE {name} {attributes}")
        try:
            yield name
        finally:
            cursor.execute(f"DROP ROLE {name}")
