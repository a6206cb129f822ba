"""Versions in the field: program and migrations are deployed by different people, each when they like."""

import json
import subprocess

import pytest

import sqldb
from conftest import ROOT, wait_until

CONFIGURATION = 78
FIRST = 3        # where version 1.0 of the schema stood: no older one was ever released
NAMES = [path.name.removesuffix(".up.sql") for path in sqldb.files("up")]


def as_owner(database):
    return {"postgres": {"dsn": database.dsn("owner")}}


def migrate(relay, database, *arguments):
    done = relay.command("migrate", *arguments, config=as_owner(database))
    assert done.returncode == 0, done.stderr
    return done.stdout


def publish(database, exchange, routing_key, *keys):
    """One with each ordering key, in a transaction; their bodies are numbers that go on."""
    return database.query("SELECT outbox.publish(%s, %s, n::text, ordering_key => k) FROM unnest(%s::text[])"
                          " WITH ORDINALITY AS t(k, n)", [exchange, routing_key, list(keys)], role="writer")


class Work:
    """What a relay and its commands do for a living, with the grants that the roles were given long ago."""

    def __init__(self, database, broker, relay):
        self.database, self.broker, self.relay = database, broker, relay
        self.exchange = broker.exchange()
        self.queue = broker.queue(exchange=self.exchange)

    def start(self, **config):
        return self.relay(config={"retry": {"max_attempts": 1}, **config})

    def command(self, *arguments, role="relay", code=0):
        done = self.relay.command(*arguments, config={"postgres": {"dsn": self.database.dsn(role)}})
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        assert "level=warn" not in done.stderr, done.stderr
        return done.stdout

    def sends(self):
        """Plain, with a key, and scheduled."""
        publish(self.database, self.exchange, "k", None, "a", "a")
        self.database.query("SELECT outbox.publish(%s, 'k', 'later', deliver_at => now())", [self.exchange], role="writer")
        assert sorted(m.body.decode() for m in self.broker.take(self.queue, 4)) == ["1", "2", "3", "later"]

    def buries_and_retries(self):
        """A message that no queue takes is given up, seen and retried by a person."""
        lost = self.broker.exchange("lost")
        publish(self.database, lost, "k", "b")
        dead = lambda: self.database.query("SELECT id, reason FROM outbox.dead WHERE discarded_at IS NULL")
        ((number, _),) = wait_until(dead, 15, "a dead letter")
        assert [json.loads(line)["id"] for line in self.command("dead", "list", "--json").splitlines()] == [number]
        assert "NO_ROUTE" in self.command("dead", "show", number)
        self.broker.channel().queue_bind(self.queue, lost, "#")
        self.command("dead", "retry", number)
        assert self.broker.take(self.queue, 1)[0].body == b"1"

    def tells(self):
        for role in ("monitor", "relay"):
            found = json.loads(self.command("status", "--json", role=role))
            assert found["schema"] == "outbox" and found["dead"] == 0
            assert "state" in self.command("message", "show", 1, role=role)

    def replays(self):
        wait_until(lambda: self.database.query("SELECT pending, delayed FROM outbox.backlog()") == [(0, 0)])
        self.command("replay", "--exchange", self.exchange, "--yes", role="owner")
        assert all(m.headers["x-replayed"] for m in self.broker.take(self.queue, 3))

    def all(self):
        running = self.start()
        running.wait_log("leading")
        self.sends()
        self.buries_and_retries()
        self.tells()
        self.replays()
        assert running.stop() == 0
        assert [line for line in running.log() if line["level"] == "error" and line["event"] != "message_dead"] == []
        assert running.log("database_lost") == running.log("stepped_down") == running.log("mark_refused") == []
        return running


@pytest.fixture
def work(empty_database, broker, relay):
    return Work(empty_database, broker, relay)


def test_released_migrations_are_never_edited():
    """Whoever has applied one would never get the change: it belongs into a new migration."""
    done = subprocess.run(["sha256sum", "--strict", "-c", "released.sha256"], cwd=ROOT / "migrations", check=False,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert len(done.stdout.splitlines()) >= 8


# ---- an older schema

@pytest.mark.parametrize("newest", range(FIRST, len(NAMES) + 1))
def test_on_an_older_schema_all_else_works_and_one_line_says_what_is_off(work, relay, newest):
    database = work.database
    migrate(relay, database, "up", "--to", newest)
    database.grant()
    running = work.all()
    missing = NAMES[newest:]
    said = running.log("schema_behind")
    assert [line["missing"] for line in said] == ([" ".join(missing)] if missing else [])
    assert all("migrate up" in line["remedy"] for line in said)
    assert running.log("schema_ahead") == []
    # Applied meanwhile: the roles need no new grant.
    running = work.start()
    running.wait_log("leading")
    migrate(relay, database, "up")
    work.sends()
    assert running.stop() == 0
    running = work.start()
    running.wait_log("leading")
    work.sends()
    work.tells()
    assert running.stop() == 0
    assert running.log("schema_behind") == []
    assert [line for line in running.log() if line["level"] in ("warn", "error")] == []


def test_migrations_taken_back_under_a_running_relay(work, relay):
    """A rollback of a deployment: the relay goes on, at worst after a new connection."""
    migrate(relay, work.database, "up")
    work.database.grant()
    running = work.start()
    running.wait_log("leading")
    work.sends()
    wait_until(lambda: work.database.query("SELECT pending, delayed FROM outbox.backlog()") == [(0, 0)])
    migrate(relay, work.database, "down", "--to", FIRST)
    work.sends()
    assert running.stop() == 0
    assert running.log(level="error") == []
    work.tells()


# ---- a newer schema

FUTURE = """
    ALTER TABLE outbox.message ADD COLUMN future text DEFAULT 'x';
    ALTER TABLE outbox.delayed ADD COLUMN future text NOT NULL DEFAULT 'x';
    ALTER TABLE outbox.dead ADD COLUMN future text NOT NULL DEFAULT 'x';
    ALTER TABLE outbox.sent ADD COLUMN future text NOT NULL DEFAULT 'x';
    ALTER TABLE outbox.operation ADD COLUMN future text NOT NULL DEFAULT 'x';
    ALTER TABLE outbox.migration ADD COLUMN future text NOT NULL DEFAULT 'x';
    CREATE INDEX future_idx ON outbox.message (ordering_key, id);
    CREATE TABLE outbox.future (id int PRIMARY KEY);
    CREATE FUNCTION outbox.future(text) RETURNS text LANGUAGE sql AS 'SELECT $1';
    CREATE FUNCTION outbox.publish_many(jsonb) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint';
    CREATE OR REPLACE FUNCTION outbox.schema_version() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
        AS $$ SELECT '{version}'::text $$;
    SELECT outbox.record_migration({number}, 'future', true)"""


def test_on_a_newer_schema_of_the_same_major_everything_works(work, relay):
    database = work.database
    migrate(relay, database, "up")
    database.grant()
    database.execute(FUTURE.format(version="1.99", number=len(NAMES) + 1))
    running = work.all()
    assert [line["newest"] for line in running.log("schema_ahead")] == [f"{len(NAMES) + 1:04}"]
    assert running.log("schema_behind") == []
    found = json.loads(work.command("status", "--json"))
    assert (found["schema_version"], found["migrations"][-1]) == ("1.99", len(NAMES) + 1)
    assert f"{len(NAMES) + 1:04}_?" in migrate(relay, database, "status")


@pytest.mark.parametrize("arguments", [["run"], ["run", "--until-empty"], ["status"], ["message", "show", "1"], ["dead", "list"],
                                       ["dead", "discard", "--all"], ["replay", "--all", "--yes"], ["migrate", "up"],
                                       ["migrate", "down"], ["migrate", "rebase"]])
def test_a_newer_major_is_refused_with_the_remedy(database, relay, arguments):
    database.query("SELECT outbox.publish('', 'r', 'x')")
    database.execute(FUTURE.format(version="2.0", number=len(NAMES) + 1))
    refused = relay.command(*arguments, config=as_owner(database))
    assert (refused.returncode, refused.stdout) == (CONFIGURATION, ""), refused.stderr
    assert "upgrade outbox-relay" in refused.stderr or "the version of outbox-relay that has it" in refused.stderr
    assert "2.0" in refused.stderr or arguments[-1] == "down"
    assert database.value("SELECT count(*) FROM outbox.message_status WHERE state = 'pending'") == 1


def test_a_newer_major_of_an_inbox_is_refused_with_the_remedy(empty_database, relay):
    empty_database.migrate("inbox")
    empty_database.execute("CREATE OR REPLACE FUNCTION inbox.schema_version() RETURNS text LANGUAGE sql STABLE"
                           " AS $$ SELECT '2.0'::text $$")
    for arguments in (["inbox", "status"], ["inbox", "purge", "--older-than", "1d"], ["migrate", "up", "--line", "inbox"]):
        refused = relay.command(*arguments, config=as_owner(empty_database))
        assert refused.returncode == CONFIGURATION and "upgrade outbox-relay" in refused.stderr, refused.stderr


def test_a_newer_inbox_of_the_same_major_works(empty_database, relay):
    empty_database.migrate("inbox")
    empty_database.query("SELECT inbox.grant_consumer(%s)", [empty_database.roles["writer"]])
    empty_database.execute("ALTER TABLE inbox.message ADD COLUMN future text DEFAULT 'x';"
                           " CREATE OR REPLACE FUNCTION inbox.schema_version() RETURNS text LANGUAGE sql STABLE"
                           " AS $$ SELECT '1.99'::text $$; SELECT inbox.record_migration(40, 'future', true)")
    assert empty_database.value("SELECT inbox.claim('billing', 'm')", role="writer")
    config = {"postgres": {"dsn": empty_database.dsn("writer")}}
    for arguments in (["inbox", "status"], ["inbox", "purge", "--older-than", "1d"]):
        done = relay.command(*arguments, config=config)
        assert done.returncode == 0, done.stderr
