"""inbox status and purge: in a consumer's database."""

import json
import re
import signal

import pytest

from conftest import ROOT, wait_until

CLAIM = """
    INSERT INTO inbox.message (consumer, message_id, claimed_at)
    SELECT %s, 'm' || n, now() - %s::interval FROM generate_series(1, %s) AS n"""
FAIL = """
    INSERT INTO inbox.attempt (consumer, message_id, attempts, last_at)
    SELECT %s, 'm' || n, 3, now() - %s::interval FROM generate_series(1, %s) AS n"""


@pytest.fixture
def consumer(empty_database):
    empty_database.migrate("inbox")
    empty_database.query("SELECT inbox.grant_consumer(%s)", [empty_database.roles["writer"]])
    return empty_database


@pytest.fixture
def inbox(relay, empty_database):
    """inbox("status", ..., code=0): stdout and stderr, as the consumer's own role."""
    def inbox(*arguments, code=0):
        done = relay.command("inbox", *arguments, config=None,
                             env={"OUTBOX_RELAY_POSTGRES_DSN": empty_database.dsn("writer")})
        assert done.returncode == code, (done.stdout, done.stderr)
        return done.stdout + done.stderr
    return inbox


def test_status_has_a_line_for_each_consumer(consumer, inbox):
    assert "no consumer" in inbox("status")
    consumer.execute(CLAIM, ["billing", "2 days", 7])
    consumer.execute(CLAIM, ["shipping", "1 hour", 3])
    consumer.execute(FAIL, ["shipping", "1 hour", 2])
    lines = [line.split() for line in inbox("status").splitlines()]
    assert lines[0] == ["consumer", "claimed", "oldest", "newest", "failing"]
    assert [(line[0], line[1], line[-1]) for line in lines[1:]] == [("billing", "7", "0"), ("shipping", "3", "2")]
    found = [json.loads(line) for line in inbox("status", "--json").splitlines()]
    assert [(row["consumer"], row["claimed"], row["failing"]) for row in found] == [("billing", 7, 0), ("shipping", 3, 2)]


def test_a_role_without_rights_is_told_which_statement_gives_them(empty_database, inbox):
    empty_database.migrate("inbox")
    said = inbox("status", code=77)
    assert f"SELECT inbox.grant_consumer('{empty_database.roles['writer']}')" in said and "outbox." not in said


def test_purge_goes_on_until_nothing_old_is_left(consumer, inbox):
    consumer.execute(CLAIM, ["old", "31 days", 25000])
    consumer.execute(FAIL, ["old", "31 days", 25000])
    consumer.execute(CLAIM, ["young", "29 days", 5])
    consumer.execute(FAIL, ["young", "29 days", 5])
    assert inbox("purge", "--older-than", "30d", "--dry-run") == "would be purged: 25000 claims and 25000 records of failures\n"
    assert consumer.value("SELECT count(*) FROM inbox.message") == 25005
    assert inbox("purge", "--older-than", "30d") == "purged: 25000 claims\n"
    for table in ("message", "attempt"):
        assert consumer.query(f"SELECT DISTINCT consumer, count(*) FROM inbox.{table} GROUP BY consumer") == [("young", 5)]
    assert inbox("purge", "--older-than", "30d") == "purged: 0 claims\n"


def test_what_somebody_holds_is_left_and_not_waited_for(consumer, inbox):
    consumer.execute(CLAIM, ["old", "31 days", 3])
    consumer.execute(FAIL, ["old", "31 days", 3])
    holder = consumer.connect()
    with holder.cursor() as cursor:
        for table in ("message", "attempt"):
            cursor.execute(f"SELECT FROM inbox.{table} WHERE message_id = 'm2' FOR UPDATE")
        assert inbox("purge", "--older-than", "30d") == "purged: 2 claims\n"
    holder.rollback()
    assert consumer.query("SELECT message_id FROM inbox.message UNION ALL SELECT message_id FROM inbox.attempt") == [("m2",)] * 2


def test_interrupted_it_ends_between_two_steps(consumer, relay, inbox):
    consumer.execute(CLAIM, ["old", "31 days", 200000])
    process = relay("inbox", "purge", "--older-than", "30d", config=None,
                    env={"OUTBOX_RELAY_POSTGRES_DSN": consumer.dsn("writer")})
    wait_until(lambda: consumer.value("SELECT count(*) FROM inbox.message") < 200000, what="the first step")
    process.process.send_signal(signal.SIGTERM)
    assert process.wait() == -signal.SIGTERM
    left = 200000 - int(process.stdout().split()[1])
    assert left % 10000 == 0 and consumer.value("SELECT count(*) FROM inbox.message") == left


def test_another_schema(consumer, inbox):
    consumer.execute("ALTER SCHEMA inbox RENAME TO billing_in")
    assert "inbox" in inbox("status", code=78)
    assert "no consumer" in inbox("status", "--schema", "billing_in")


@pytest.mark.parametrize("arguments, words", [
    (["empty"], "status or purge"), (["purge"], "--older-than"), (["purge", "--older-than", "soon"], "--older-than"),
    (["status", "--older-than", "1d"], "--older-than"), (["status", "--dry-run"], "--dry-run"),
    (["purge", "--older-than", "1d", "--json"], "--json"), (["status", "--schema", "x; --"], "--schema")])
def test_mistakes_change_nothing(consumer, inbox, arguments, words):
    consumer.execute(CLAIM, ["old", "31 days", 3])
    assert words in inbox(*arguments, code=64)
    assert consumer.value("SELECT count(*) FROM inbox.message") == 3


def test_a_database_without_an_inbox(empty_database, inbox):
    assert "migrate up --line inbox" in inbox("status", code=78)


def test_the_samples_run_this_command(consumer, inbox):
    """What the timer's service and the CronJob would run, with their options."""
    consumer.execute(CLAIM, ["old", "31 days", 3])
    for file, pattern in ((ROOT / "systemd/outbox-relay-inbox-purge.service", r"^ExecStart=\S+ inbox (.*)$"),
                          (ROOT / "config/inbox-purge-cronjob.yaml", r"^ +args: \[inbox, (.*)\]$")):
        words = re.search(pattern, file.read_text(), re.M).group(1).replace(",", " ").replace('"', "").split()
        assert words[0] == "purge" and inbox(*words).startswith("purged: ")
    assert consumer.value("SELECT count(*) FROM inbox.message") == 0
