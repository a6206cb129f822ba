"""The README's first steps work as they stand there, and its links lead somewhere."""

import os
import re
import subprocess

import pytest

from conftest import RELAY_BINARY, ROOT

README = (ROOT / "README.md").read_text()
ROLES = ("orders_owner", "orders_service", "outbox_relay")


def section(title):
    return re.search(rf"^## {title}$(.*?)(?=^## )", README, re.MULTILINE | re.DOTALL).group(1)


def blocks(text):
    """(language, content) of each fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def shape(text):
    """What stays the same from one run to the next: times, ids, addresses and the width of columns do not."""
    for pattern, name in ((r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID"),
                          (r"\d{4}-\d\d-\d\d[T ][\d:.]+(Z|\+00)", "TIME"), (r"peer=\S+", "peer=PEER"),
                          (r"version=\S+", "version=VERSION"), (r"--+", "--"), (r"[ \t]+", " ")):
        text = re.sub(pattern, name, text)
    return [line.strip() for line in text.splitlines() if line.strip()]


@pytest.fixture
def server(stack):
    """What a reader has: a database that a role without rights of a superuser owns, and that may create roles."""
    def psql(sql, database="postgres"):
        subprocess.run([os.path.join(stack.env["POSTGRES_BIN"], "psql"), "-qX", "-v", "ON_ERROR_STOP=1", "-h",
                        stack.env["PGHOST"], "-p", stack.env["PGPORT"], "-U", "postgres", "-d", database, "-c", sql],
                       check=True, capture_output=True)

    def clear():
        psql("DROP DATABASE IF EXISTS orders WITH (FORCE)")
        for role in ROLES:
            psql(f"DROP ROLE IF EXISTS {role}")

    clear()
    psql("CREATE ROLE orders_owner LOGIN CREATEROLE")
    psql("CREATE DATABASE orders OWNER orders_owner")
    yield stack
    clear()


def delete_queue(broker):
    broker.channel().queue_delete("orders")


def test_five_minutes(server, broker, tmp_path):
    """Every block as it is, in one shell; only the build and where the servers are come from here."""
    given = {"PGHOST": server.env["PGHOST"], "PGPORT": server.env["PGPORT"], "PGDATABASE": "orders",
             "PGUSER": "orders_owner", "AMQP_URL": server.env["AMQP_URL"]}
    (tmp_path / "migrations").symlink_to(ROOT / "migrations")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OUTBOX_RELAY_", "PG"))}
    environment.update(given, PATH=f"{RELAY_BINARY.parent}:{os.environ['PATH']}", TZ="UTC", PGTZ="UTC")
    steps = blocks(section("Five minutes to a first message"))
    assert "make\n" in steps[0][1] and set(re.findall(r"(\w+)=", steps[1][1])) == given.keys()
    delete_queue(broker)
    output = ""
    compared = 0
    for language, content in steps[2:]:
        if language == "sh":
            done = subprocess.run(["bash", "-eu", "-c", content], cwd=tmp_path, env=environment, text=True, timeout=60,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            assert done.returncode == 0, (content, done.stdout)
            output = done.stdout
        else:
            said, found = shape(content), shape(output)
            assert [line for line in said if line not in found] == [], output
            compared += 1
    assert compared == 3
    assert " state sent " in " ".join(shape(output))
    # What rolled back is nowhere, and nothing is left.
    assert broker.count("orders") == 0
    delete_queue(broker)


def test_the_first_screen_shows_a_row_pending_then_sent():
    screen = "\n".join(README.splitlines()[:30])
    assert re.search(r"pending.*\n(.*\n)*.*\bsent\b.*\+00", screen)


def anchors(text):
    """As GitHub makes them."""
    return {re.sub(r"[^\w\- ]", "", line).strip().lower().replace(" ", "-")
            for line in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


def test_links_lead_somewhere():
    checked = 0
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if "://" in target:
                continue
            path, _, anchor = target.partition("#")
            file = (page.parent / path) if path else page
            assert file.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors(file.read_text()), f"{page.name}: {target}"
            checked += 1
    assert checked > 10


def test_every_event_of_the_log_is_explained():
    """docs/operations.md names each event that the sources can log."""
    events = set()
    for source in (ROOT / "relay").rglob("*.c"):
        text = source.read_text()
        events |= set(re.findall(r'log_(?:debug|info|warn|error)\(\s*"(\w+)"', text))
        events |= set(re.findall(r'(?:log_failure|log_event)\(\s*\w+,\s*"(\w+)"', text))
        events |= set(re.findall(r'rotation_warn\(\w+, "(\w+)"', text))
    explained = set(re.findall(r"`(\w+)`", (ROOT / "docs/operations.md").read_text()))
    assert len(events) > 15 and events <= explained, events - explained
