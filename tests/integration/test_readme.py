"""The README's first steps work as they stand there, and its links lead somewhere."""

import os
import pathlib
import re
import subprocess

import pytest

from conftest import RELAY_BINARY, ROOT
from manager import Unit, manager, start_unit  # noqa: F401 (a fixture)

README = (ROOT / "README.md").read_text()
ROLES = ("orders_owner", "orders_service", "outbox_relay")


def section(title):
    return re.search(rf"^## {title}$(.*?)(?=^## )", README, re.MULTILINE | re.DOTALL).group(1)


def blocks(text):
    """(language, content) of each fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def shape(text):
    """What stays the same from one run to the next: times, ids, addresses, the day's slot and the width of columns do not."""
    for pattern, name in ((r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID"),
                          (r"\d{4}-\d\d-\d\d[T ][\d:.]+(Z|\+00)", "TIME"), (r"peer=\S+", "peer=PEER"),
                          (r"version=\S+", "version=VERSION"), (r"\bslot +[012]\b", "slot SLOT"), (r"--+", "--"), (r"[ \t]+", " ")):
        text = re.sub(pattern, name, text)
    return [line.strip() for line in text.splitlines() if line.strip()]


def psql(stack, sql):
    """As the superuser."""
    return subprocess.run([os.path.join(stack.env["POSTGRES_BIN"], "psql"), "-qXAt", "-v", "ON_ERROR_STOP=1", "-h",
                           stack.env["PGHOST"], "-p", stack.env["PGPORT"], "-U", "postgres", "-d", "postgres", "-c", sql],
                          check=True, text=True, capture_output=True).stdout.strip()


@pytest.fixture
def server(stack):
    """What a reader has: a database that a role without rights of a superuser owns, and that may create roles."""
    def clear():
        psql(stack, "DROP DATABASE IF EXISTS orders WITH (FORCE)")
        for role in ROLES:
            psql(stack, f"DROP ROLE IF EXISTS {role}")

    clear()
    psql(stack, "CREATE ROLE orders_owner LOGIN CREATEROLE")
    psql(stack, "CREATE DATABASE orders OWNER orders_owner")
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


def test_what_the_programs_need(server, broker, tmp_path):
    """Writer and consumer of a language, in the very database of the five minutes."""
    first = [content for language, content in blocks(section("Five minutes to a first message")) if language == "sh"]
    [prepare] = [content for language, content in blocks(section("From SQL, Python and Node.js")) if language == "sh"]
    [configure] = [content for content in first if "cat >outbox-relay.yaml" in content]
    (tmp_path / "migrations").symlink_to(ROOT / "migrations")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OUTBOX_RELAY_", "PG"))}
    environment.update(PGHOST=server.env["PGHOST"], PGPORT=server.env["PGPORT"], PGDATABASE="orders", PGUSER="orders_owner",
                       AMQP_URL=server.env["AMQP_URL"], PATH=f"{RELAY_BINARY.parent}:{os.environ['PATH']}")

    def shell(content):
        done = subprocess.run(["bash", "-eu", "-c", content], cwd=tmp_path, env=environment, text=True, timeout=60,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert done.returncode == 0, (content, done.stdout)
        return done.stdout

    def clear():
        for queue in ("billing", "marketing"):
            broker.channel().queue_delete(queue)
        broker.channel().exchange_delete("shop")

    clear()
    try:
        for content in [*first[2:4], configure, prepare]:
            shell(content)
        shell(f"psql -Xq -v ON_ERROR_STOP=1 -v customer=c -v item=kettle -f {ROOT}/tests/interop/place_order.sql")
        assert "delayed=0 dead=0" in shell("outbox-relay run --until-empty --config outbox-relay.yaml")
        assert broker.count("marketing") == 1
        [message] = broker.take("billing", 1)
        shell(f"psql -Xq -v ON_ERROR_STOP=1 -v message_id={message.message_id} -v body='{message.body.decode()}'"
              f" -f {ROOT}/tests/interop/write_invoice.sql")
        assert shell("psql -XAt -c 'TABLE invoice'") == "1|kettle\n"
    finally:
        clear()


@pytest.fixture
def strict(server):
    """Asks the relay's role for its password."""
    file = pathlib.Path(psql(server, "SHOW hba_file"))
    before = file.read_text()
    file.write_text("host orders outbox_relay 127.0.0.1/32 scram-sha-256\n" + before)
    psql(server, "SELECT pg_reload_conf()")
    yield server
    file.write_text(before)
    psql(server, "SELECT pg_reload_conf()")


# A machine whose /etc and /usr/local are the reader's own; what is written there stays in $ROOT.
LAYERS = """
for path in etc usr/local; do
	mkdir -p "$ROOT/$path" "$ROOT/work/$path"
	mount -t overlay overlay -o "lowerdir=/$path,upperdir=$ROOT/$path,workdir=$ROOT/work/$path" "/$path"
done
exec bash -euc "$STEP"
"""


def test_as_a_service(strict, broker, manager, tmp_path):
    """Every block as it is; then the command line of the unit that was enabled, with the credentials that it names."""
    first = [content for language, content in blocks(section("Five minutes to a first message")) if language == "sh"]
    steps = [content for _, content in blocks(section("As a service"))]
    given = {"PGHOST": "127.0.0.1", "PGPORT": strict.env["PGPORT"], "PGDATABASE": "orders", "PGUSER": "orders_owner",
             "AMQP_URL": strict.env["AMQP_URL"], "RELAY_PASSWORD": "it's secret", "AMQP_USER": "guest",
             "AMQP_PASSWORD": "guest", "AMQP_HOST": f"127.0.0.1:{strict.env['AMQP_PORT']}"}
    assert set(re.findall(r"(\w+)=", first[1] + steps[0])) == given.keys()
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in (("sudo", 'exec "$@"'), ("systemctl", f'echo "$@" >>{tmp_path}/systemctl')):
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OUTBOX_RELAY_", "PG"))}
    environment.update(given, ROOT=str(tmp_path / "root"), PATH=f"{programs}:{RELAY_BINARY.parent}:{os.environ['PATH']}")
    delete_queue(broker)
    for step in first[2:5] + steps[1:]:
        done = subprocess.run(["unshare", "--mount", "bash", "-euc", LAYERS], cwd=ROOT, env={**environment, "STEP": step},
                              text=True, timeout=60, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        assert done.returncode == 0, (step, done.stdout)
    name = re.search(r"^enable --now (\S+)$", (tmp_path / "systemctl").read_text(), re.MULTILINE)[1]
    root = tmp_path / "root"
    assert "change-me" not in (root / "etc/outbox-relay/outbox-relay.yaml").read_text()
    running = start_unit(Unit(root / f"usr/local/lib/systemd/system/{name}.service"), root, manager, tmp_path)
    try:
        manager.wait("publishing")
        subprocess.run(["psql", "-qX", "-c", "SELECT outbox.publish('', 'orders', 'hello')"], check=True, env=environment,
                       stdout=subprocess.DEVNULL)
        assert broker.take("orders", 1)[0].body == b"hello"
        assert running.stop() == 0
    finally:
        if running.alive():
            running.kill()
        print(running.stderr())
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
