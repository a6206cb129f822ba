"""doctor as a whole: the configuration, what it says when all is well, and how (surgery.py)."""

import contextlib
import json
import re
import socket
import time

import pytest

from clusters import Pooler
from conftest import ROOT, merge, wait_until
from surgery import FOUND, USAGE, Cases, explained, log_in, user, place, shared, users    # noqa: F401
from test_doctor_outbox import CASES as OUTBOX
from test_doctor_postgres import CASES as POSTGRES
from test_doctor_rabbitmq import CASES as RABBITMQ

CASES = Cases()
broken = CASES.broken


# ---- configuration --------------------------------------------------------------------------------------


@broken("configuration", 'unknown key "windwo" in publish')
def a_mistyped_key(place):
    place.set("publish", windwo=5)

    def person(remedy):
        assert remedy == 'did you mean "window"?'
        del place.config["publish"]
    place.person = person


@broken("configuration", "everybody may read", "warn")
def a_password_file_that_everybody_may_read(place):
    file = place.secret("x")
    file.chmod(0o644)
    place.set("postgres", password_file=str(file))


@broken("configuration", "postgres.dsn holds a password, and everybody may read this file", "warn")
def a_configuration_with_a_password_that_everybody_may_read(place):
    file = place.tmp_path / "mine.yaml"
    file.write_text(json.dumps(merge(place.config, {"postgres": {"dsn": place.database.dsn("relay") + " password=x"}})))
    file.chmod(0o644)
    place.config = None
    place.options = ["--config", str(file)]


@broken("configuration", "No such file or directory")
def a_password_file_that_is_not_there(place):
    place.input = "secret\n"
    place.set("postgres", password_file=str(place.tmp_path / "it's missing"))


# ---- its own port ----------------------------------------------------------------------------------------


@broken("http", "is taken by another program", "warn")
def another_program_at_the_port(place):
    taken = place.closing.enter_context(socket.socket())
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    place.set("http", listen=f"127.0.0.1:{taken.getsockname()[1]}")


@broken("http", "cannot be served: Cannot assign requested address", "warn")
def an_address_of_another_host(place):
    place.set("http", listen="192.0.2.1:9464")


@pytest.mark.parametrize("name", CASES)
def test_the_remedy_works(place, name):
    CASES.cure(place, name)


# ---- how it says it --------------------------------------------------------------------------------------


def test_all_is_well(place, broker):
    """A relay that leads and has sent something: nothing to warn of, also for a user that may only write."""
    database = place.fresh()
    exchange = broker.exchange()
    broker.queue(exchange=exchange)
    log_in(place, user(place), None, password_file=str(place.secret("right")))
    place.publish(exchange)
    running = place.relay(config=place.config)
    place.closing.callback(running.kill)
    running.wait_log("leading")
    wait_until(lambda: database.value("SELECT count(*) FROM outbox.sent") > 0, 10)
    findings = place.doctor()
    assert {finding.level for finding in findings} == {"ok"}, findings
    before = broker.count(broker.queues[0])
    done = place.doctor("--json")
    answer = json.loads(done.stdout)
    assert answer["well"] is True and done.returncode == 0
    assert [c["check"] for c in answer["checks"]] == [finding.check for finding in findings]
    assert all(c["result"] == "ok" and c["remedy"] is None for c in answer["checks"])
    # It sends nothing to anybody.
    assert broker.count(broker.queues[0]) == before == 1


def test_json_says_what_is_wrong(place):
    place.set("postgres", dsn=place.database.dsn("relay", dbname='no"such'))
    done = place.doctor("--json")
    answer = json.loads(done.stdout)
    failed = [c for c in answer["checks"] if c["result"] == "fail"]
    assert done.returncode == FOUND and answer["well"] is False and len(failed) == 1
    assert failed[0]["check"] == "postgres" and 'CREATE DATABASE "no""such"' in failed[0]["remedy"]


def test_each_right_that_is_missing_is_named(place):
    """All that grant_relay gives, one by one."""
    database = place.fresh()
    role = database.roles["relay"]
    rights = database.query("""
        SELECT 'TABLE', c.relname::text, a.privilege_type, c.oid::regclass::text
        FROM pg_class AS c, aclexplode(c.relacl) AS a
        WHERE c.relnamespace = 'outbox'::regnamespace AND a.grantee = %s::regrole
        UNION ALL
        SELECT 'FUNCTION', p.proname, a.privilege_type, p.oid::regprocedure::text
        FROM pg_proc AS p, aclexplode(p.proacl) AS a
        WHERE p.pronamespace = 'outbox'::regnamespace AND a.grantee = %s::regrole""", [role, role])
    assert len(rights) > 30
    for kind, name, privilege, full in rights:
        database.execute(f"REVOKE {privilege} ON {kind} {full} FROM {role}")
        told = [f.text for f in place.doctor() if f.check == "privileges" and f.level == "FAIL"]
        assert told == [f"{role} lacks {privilege} on outbox.{name}"]
        database.execute(f"GRANT {privilege} ON {kind} {full} TO {role}")
    assert not place.ills("privileges", "")


def test_many_missing_rights_are_one_trouble(place):
    database = place.fresh()
    role = database.roles["relay"]
    database.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA outbox FROM {role}")
    told = [f for f in place.doctor() if f.check == "privileges" and f.level == "FAIL"]
    assert len(told) == 1 and "grant_relay" in told[0].remedy
    assert told[0].text.startswith(f"{role} lacks ") and told[0].text.count(" on outbox.") == 5
    assert re.search(r" and rights on \d+ more$", told[0].text)


def test_a_url_that_fails_beside_one_that_works_is_a_warning(place):
    place.set("rabbitmq", urls=["amqp://127.0.0.1:1/%2f", place.stack.env["AMQP_URL"]])
    levels = {f.text.split(" ")[0].rstrip(":"): f.level for f in place.doctor() if f.check == "rabbitmq"}
    assert sorted(levels.values()) == ["ok", "warn"]


def test_a_pooler_in_session_mode_is_fine(place):
    pooler = Pooler(place.database.dsn("relay"), "session")
    place.closing.callback(pooler.remove)
    place.set("postgres", dsn=pooler.dsn())
    pooler_line, = [f for f in place.doctor() if f.check == "pooler"]
    assert pooler_line.level == "ok" and "session for good" in pooler_line.text


def test_silent_servers_are_told_in_bounded_time(place):
    """Both take connections and say nothing."""
    with contextlib.ExitStack() as sockets:
        ports = []
        for _ in range(2):
            silent = sockets.enter_context(socket.socket())
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            ports.append(silent.getsockname()[1])
        place.set("postgres", dsn=f"host=127.0.0.1 port={ports[0]} dbname=x user=x connect_timeout=2")
        place.set("rabbitmq", urls=[f"amqp://127.0.0.1:{ports[1]}/%2f?connection_timeout=2000"])
        began = time.monotonic()
        levels = {f.check: f.level for f in place.doctor()}
        assert levels["postgres"] == levels["rabbitmq"] == "FAIL"
        assert time.monotonic() - began < 15


def test_a_relay_that_serves_is_recognised(place, relay):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        place.set("http", listen=f"127.0.0.1:{probe.getsockname()[1]}")
    running = relay(config=place.config)
    running.wait_log("http_listening")
    line, = [f for f in place.doctor() if f.check == "http"]
    assert line.level == "ok" and "a relay answers" in line.text
    running.kill()
    line, = [f for f in place.doctor() if f.check == "http"]
    assert line.level == "ok" and "is free" in line.text


def test_wrong_words(place):
    done = place.relay.command("doctor", "--older-than", "soon", config=place.config)
    assert done.returncode == USAGE and "--older-than takes an age" in done.stderr


def checks_of_the_sources():
    names = set()
    for source in [*(ROOT / "relay/cli").glob("doctor*.c"), *(ROOT / "relay/admin").glob("checkup*.c")]:
        names |= set(re.findall(r'(?:findings|checkup_ask\(c),\s*"([a-z-]+)"', source.read_text()))
    return names


def test_every_line_is_explained():
    """docs/operations.md has a row for each check, and no other."""
    assert len(explained()) > 20 and explained() == checks_of_the_sources()


def test_there_are_cases_enough():
    cases = [case for found in (CASES, OUTBOX, POSTGRES, RABBITMQ) for case in found.values()]
    assert len(cases) >= 20
    assert {check for _, check, _, _ in cases} >= checks_of_the_sources()
