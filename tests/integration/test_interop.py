"""Real clients of other languages write to the outbox and claim in the inbox; the README shows these very programs."""

import os
import re
import shutil
import subprocess

import pika
import pytest

from conftest import ROOT, die_with_parent, wait_until

PROGRAMS = ROOT / "tests/interop"
PYTHON = "/usr/bin/python3"
NODE_MODULES = ROOT / "build/interop/node_modules"
TABLES = """
    CREATE TABLE orders (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer text NOT NULL,
        item text NOT NULL CHECK (item <> 'nothing'));
    CREATE TABLE invoice (order_id integer NOT NULL, item text NOT NULL);
    GRANT SELECT, INSERT ON orders, invoice TO {writer};
"""
ORMS = ("sqlalchemy", "django")
ITEMS = ("kettle", "desk lamp", "Tasse für zwei", "it's a cup")


class Shop:
    """A database with both halves, its queue "billing", and the programs in front of it."""

    def __init__(self, database, broker, relay):
        self.database = database
        self.broker = broker
        self.relay = relay
        self.running = []
        database.migrate("inbox")
        database.query("SELECT inbox.grant_consumer(%s)", [database.roles["writer"]])
        database.execute(TABLES.format(**database.roles))
        self.env = {**{k: v for k, v in os.environ.items() if not k.startswith("PG")},
                    "PGHOST": database.stack.env["PGHOST"], "PGPORT": database.stack.env["PGPORT"],
                    "PGDATABASE": database.name, "PGUSER": database.roles["writer"],
                    "AMQP_URL": database.stack.env["AMQP_URL"], "PYTHONDONTWRITEBYTECODE": "1",
                    "NODE_PATH": str(NODE_MODULES)}
        self.clear()
        channel = broker.channel()
        channel.exchange_declare("shop", exchange_type="topic", durable=True)
        for queue, key in (("billing", "order.created"), ("others", "customer.*")):
            channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
            channel.queue_bind(queue, "shop", key)

    def clear(self):
        for queue in ("billing", "others"):
            self.broker.channel().queue_delete(queue)
        self.broker.channel().exchange_delete("shop")

    def psql(self, file, **variables):
        return subprocess.run([os.path.join(self.database.stack.env["POSTGRES_BIN"], "psql"), "-qXt", "-v",
                               "ON_ERROR_STOP=1", *(f"--set={k}={v}" for k, v in variables.items()), "-f", PROGRAMS / file],
                              env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)

    def program(self, *arguments):
        return subprocess.run([*arguments], env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=30)

    def place_order(self, language, customer, item):
        if language == "sql":
            return self.psql("place_order.sql", customer=customer, item=item)
        return self.program(*command(language, "place_order"), customer, item)

    def start_consumer(self, language):
        process = subprocess.Popen(command(language, "write_invoices"), env=self.env, stdin=subprocess.DEVNULL,
                                   preexec_fn=die_with_parent)
        self.running.append(process)
        return process

    def deliver_twice(self, count):
        """Publish what is pending, take it off the queue, and put it back there twice."""
        assert self.relay.command("run", "--until-empty").returncode == 0
        messages = self.broker.take("billing", count)
        for message in messages + messages:
            self.broker.channel().basic_publish("", "billing", message.body, message.properties)
        return messages

    def invoices(self):
        return self.database.query("SELECT order_id, item FROM invoice ORDER BY order_id, item")

    def orders(self):
        return self.database.query("SELECT id, item FROM orders ORDER BY id")

    def end(self):
        for process in self.running:
            process.kill()
            process.wait()
        self.clear()


@pytest.fixture(scope="session")
def node_modules():
    """What the lock file names, under build/; fetched again when the lock file is another one."""
    folder = NODE_MODULES.parent
    lock = (PROGRAMS / "package-lock.json").read_bytes()
    stamp = folder / "installed"
    if not stamp.exists() or stamp.read_bytes() != lock:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(PROGRAMS / name, folder)
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder, check=True, timeout=150,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        stamp.write_bytes(lock)


@pytest.fixture
def shop(database, broker, relay, node_modules):
    shop = Shop(database, broker, relay)
    yield shop
    shop.end()


def command(language, name):
    if language in ORMS:
        return [PYTHON, PROGRAMS / f"orm/{name}_{language}.py"]
    if language == "node":
        return ["node", PROGRAMS / f"{name}.js"]
    return [PYTHON, PROGRAMS / f"{name}.py"]


@pytest.mark.parametrize("language", ["python", "node", "sql", *ORMS])
def test_the_row_and_its_messages_are_written_together(shop, language):
    for number, item in enumerate(ITEMS):
        done = shop.place_order(language, f"customer-{number}", item)
        assert done.returncode == 0, done.stderr
    # Refused by a constraint of the table: nobody hears of it.
    assert shop.place_order(language, "customer-0", "nothing").returncode != 0
    assert [item for _, item in shop.orders()] == list(ITEMS)
    assert shop.database.value("SELECT count(*) FROM outbox.message") == 2 * len(ITEMS)
    assert shop.relay.command("run", "--until-empty").returncode == 0
    created = shop.broker.take("billing", len(ITEMS))
    assert {message.headers["x-ordering-key"] for message in created} == {f"customer-{n}" for n in range(len(ITEMS))}
    assert all(message.properties.content_type == "application/json" for message in created)
    active = shop.broker.take("others", len(ITEMS))
    assert {message.properties.type for message in active} == {"customer.active"}


@pytest.mark.parametrize("producer, consumer", [("sql", "python"), ("python", "node"), ("node", "python")])
def test_what_comes_twice_is_invoiced_once(shop, producer, consumer):
    for number, item in enumerate(ITEMS):
        assert shop.place_order(producer, f"customer-{number}", item).returncode == 0
    shop.deliver_twice(len(ITEMS))
    process = shop.start_consumer(consumer)
    wait_until(lambda: len(shop.invoices()) >= len(ITEMS) and shop.broker.count("billing") == 0, 20, "the invoices")
    # Killed with what it had not acknowledged, and started again.
    process.kill()
    process.wait()
    shop.start_consumer(consumer)
    assert shop.place_order(producer, "customer-9", "last one").returncode == 0
    assert shop.relay.command("run", "--until-empty").returncode == 0
    wait_until(lambda: len(shop.invoices()) > len(ITEMS), 20, "the last invoice")
    assert shop.invoices() == shop.orders()
    assert shop.database.query("SELECT consumer, claimed FROM inbox.status") == [("billing", len(ITEMS) + 1)]


@pytest.mark.parametrize("language", ["python", "node"])
def test_a_message_without_an_id_is_not_handled(shop, language):
    process = shop.start_consumer(language)
    shop.broker.channel().basic_publish("", "billing", b'{"order": 1, "item": "x"}', pika.BasicProperties())
    assert process.wait(20) != 0
    assert shop.invoices() == []
    wait_until(lambda: shop.broker.count("billing") == 1, what="the message is in the queue again")


def test_claim_and_effect_in_one_statement(shop):
    assert shop.place_order("sql", "customer-1", "it's a cup").returncode == 0
    for message in shop.deliver_twice(1) * 2:
        done = shop.psql("write_invoice.sql", message_id=message.message_id, body=message.body.decode())
        assert done.returncode == 0, done.stderr
    assert shop.invoices() == shop.orders()


def test_the_readme_shows_these_programs():
    text = (ROOT / "README.md").read_text()
    shown = re.findall(r"^```(?:python|js|sql)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    files = [file for file in PROGRAMS.iterdir() if file.suffix in (".py", ".js", ".sql")]
    assert len(files) == 6
    for file in files:
        assert file.read_text() in shown, f"README.md does not show {file.name} as it is"


def test_the_page_about_orms_shows_these_programs():
    shown = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/orm.md").read_text(), re.MULTILINE | re.DOTALL)
    assert sorted(shown) == sorted((PROGRAMS / f"orm/place_order_{name}.py").read_text() for name in ORMS)
