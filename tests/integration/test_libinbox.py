"""libinbox: claims in a program's own transaction, and its consumer loop against real servers that come and go."""

import ctypes
import os
import random
import re
import signal
import subprocess
import uuid

import pika
import psycopg2
import pytest

from conftest import ROOT, die_with_parent, wait_until
from test_liboutbox import IN_TRANSACTION, installed, run
from test_readme import blocks, section

BUILD = ROOT / "build"
DRIVER = BUILD / "tests/integration/inbox_driver"
# "make check-inbox" has more of both.
MESSAGES = int(os.environ.get("INBOX_MESSAGES", 2000))
CONSUMERS = int(os.environ.get("INBOX_CONSUMERS", 4))
FORMS = pytest.mark.parametrize("form", [{}, {"batch": 20}, {"batch": 20, "whole": 1}], ids=["one", "batch", "whole"])
OK, INVALID, NO_CONNECTION, NO_TRANSACTION, BUSY, FAILED, NO_MEMORY, REFUSED = range(8)


@pytest.fixture
def inbox(empty_database):
    empty_database.migrate("inbox")
    empty_database.query("SELECT inbox.grant_consumer(%s)", [empty_database.roles["writer"]])
    empty_database.execute("CREATE TABLE effect (message_id text, pid integer DEFAULT pg_backend_pid())")
    empty_database.execute(f"GRANT SELECT, INSERT ON effect TO {empty_database.roles['writer']}")
    return empty_database


# ---- claims -------------------------------------------------------------------------------------------


class Error(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int), ("sqlstate", ctypes.c_char * 6), ("text", ctypes.c_char * 512)]


class Options(ctypes.Structure):
    _fields_ = [("schema", ctypes.c_char_p)]


pq = ctypes.CDLL("libpq.so.5")
pq.PQconnectdb.restype = ctypes.c_void_p
pq.PQexec.restype = ctypes.c_void_p
pq.PQgetResult.restype = ctypes.c_void_p


class Claimer:
    def __init__(self, dsn):
        self.library = ctypes.CDLL(next(BUILD.glob("libinbox.so.*")))
        self.db = ctypes.c_void_p(pq.PQconnectdb(dsn.encode()))
        assert pq.PQstatus(self.db) == 0
        self.error = Error()

    @staticmethod
    def bytes_of(text):
        return text.encode() if isinstance(text, str) else text

    def run(self, sql):
        pq.PQclear(ctypes.c_void_p(pq.PQexec(self.db, sql.encode())))
        return pq.PQtransactionStatus(self.db)

    def claim(self, message_id, consumer="billing", schema=None):
        new = ctypes.c_bool(True)
        options = ctypes.byref(Options(schema.encode())) if schema else None
        code = self.library.inbox_claim(self.db, self.bytes_of(consumer), self.bytes_of(message_id), options,
                                        ctypes.byref(new), ctypes.byref(self.error))
        assert code == self.error.code
        return new.value if code == OK else (code, new.value)

    def claim_batch(self, ids, consumer="billing"):
        new = (ctypes.c_bool * len(ids))(*[True] * len(ids))
        code = self.library.inbox_claim_batch(self.db, consumer.encode(), (ctypes.c_char_p * len(ids))(
            *[self.bytes_of(one) for one in ids]), ctypes.c_size_t(len(ids)), None, new, ctypes.byref(self.error))
        assert code == self.error.code
        return list(new) if code == OK else code


@pytest.fixture
def claimer(inbox):
    one = Claimer(inbox.dsn("writer"))
    yield one
    pq.PQfinish(one.db)


def test_a_claim_is_the_callers_transaction(claimer, inbox):
    claimer.run("BEGIN")
    assert claimer.claim("a") and not claimer.claim("a") and claimer.claim("a", "shipping")
    assert claimer.run("ROLLBACK; BEGIN") == IN_TRANSACTION
    assert claimer.claim("a")
    claimer.run("COMMIT; BEGIN")
    assert not claimer.claim("a")
    assert claimer.claim("b", schema="nowhere") == (REFUSED, False) and claimer.error.sqlstate == b"3F000"
    assert claimer.claim("b") == (FAILED, False)
    claimer.run("ROLLBACK")
    assert inbox.query("SELECT consumer, message_id FROM inbox.message") == [("billing", "a")]


def test_a_batch_of_claims_tells_the_new_ones_apart(claimer):
    ids = [f'id {n % 700} "ü{{}}\\,' for n in random.Random(1).sample(range(1400), 1400)]
    first = {}
    for at, one in enumerate(ids):
        first.setdefault(one, at)
    claimer.run("BEGIN")
    seen = {f'id {n} "ü{{}}\\,' for n in range(0, 700, 3)}
    assert all(claimer.claim(one) for one in seen)
    assert claimer.claim_batch(ids) == [first[one] == at and one not in seen for at, one in enumerate(ids)]
    assert not any(claimer.claim_batch(ids)) and claimer.claim_batch([]) == []
    claimer.run("ROLLBACK")


def test_what_cannot_be_claimed_is_told_and_the_transaction_lives(claimer):
    assert claimer.claim("a") == (NO_TRANSACTION, False) and claimer.claim_batch(["a"]) == NO_TRANSACTION
    claimer.run("BEGIN")
    for message_id, consumer, text in ((None, "c", b"message id is NULL"), ("", "c", b"message id is empty"),
                                       ("a" * 256, "c", b"longer than 255"), ("a", None, b"name is NULL"),
                                       ("a", "c" * 256, b"name is longer"), (b"a\xff", "c", b"message id is not valid UTF-8 at byte 1"),
                                       ("a", b"\xed\xa0\x80", b"name is not valid UTF-8 at byte 0")):
        assert claimer.claim(message_id, consumer) == (INVALID, False) and text in claimer.error.text
    assert claimer.claim_batch(["a", "", "b"]) == INVALID and b"message id 1 is empty" in claimer.error.text
    assert claimer.claim_batch(["a", "b", b"\xc3"]) == INVALID and b"message id 2 is not valid UTF-8" in claimer.error.text
    assert claimer.claim("a", schema="s" * 64) == (INVALID, False)
    assert claimer.claim("a") and claimer.claim("zwölf €😀") and not claimer.claim("zwölf €😀")
    new = ctypes.c_bool()
    assert claimer.library.inbox_claim(None, b"c", b"a", None, ctypes.byref(new), None) == NO_CONNECTION


def test_text_that_a_connection_would_mangle_is_refused(inbox):
    claimer = Claimer(inbox.dsn("writer", client_encoding="LATIN1"))
    claimer.run("BEGIN")
    assert claimer.claim("plain")
    assert claimer.claim("zwölf") == (INVALID, False) and b"client_encoding is LATIN1" in claimer.error.text
    assert claimer.run("COMMIT") == 0
    pq.PQfinish(claimer.db)


def test_a_connection_that_cannot_be_used_is_told(claimer, inbox):
    def claims():
        return {claimer.claim("a")[0], claimer.claim_batch(["a", "b"])}

    assert claims() == {NO_TRANSACTION}
    pq.PQenterPipelineMode(claimer.db)
    assert claims() == {BUSY} and b"pipeline" in claimer.error.text
    pq.PQexitPipelineMode(claimer.db)
    pq.PQsendQuery(claimer.db, b"SELECT 1")
    assert claims() == {BUSY} and b"results" in claimer.error.text
    while result := pq.PQgetResult(claimer.db):
        pq.PQclear(ctypes.c_void_p(result))
    claimer.run("BEGIN")
    claimer.run("SELECT 1/0")
    assert claims() == {FAILED} and b"roll the transaction back" in claimer.error.text
    claimer.run("ROLLBACK")
    claimer.run("BEGIN")
    pid = pq.PQbackendPID(claimer.db)
    inbox.execute("SELECT pg_terminate_backend(%s)", [pid], role="postgres")
    wait_until(lambda: inbox.value("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = %s", [pid]))
    assert claimer.claim("a") == (NO_CONNECTION, False) and b"lost" in claimer.error.text
    assert claimer.claim("a") == (NO_CONNECTION, False) and b"closed" in claimer.error.text


# ---- the loop -----------------------------------------------------------------------------------------


class Consumer:
    """One process of inbox_driver."""

    def __init__(self, command, path):
        self.path = path
        self.output = open(path, "wb")
        self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=self.output,
                                        stderr=subprocess.STDOUT, preexec_fn=die_with_parent)

    def lines(self, *parts):
        text = self.path.read_text(errors="replace")
        return [line for line in text.splitlines() if all(part in line for part in parts)]

    def wait_line(self, *parts, count=1, timeout=20):
        wait_until(lambda: len(self.lines(*parts)) >= count, timeout, f"{parts} in\n{self.path.read_text()}")
        return self.lines(*parts)[count - 1]

    def stop(self, timeout=10):
        self.process.send_signal(signal.SIGTERM)
        return self.wait(timeout)

    def wait(self, timeout=10):
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the consumer did not end:\n{self.path.read_text()[-3000:]}")

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def consume(inbox, stack, queues, tmp_path):
    """consume(batch=10, ...) starts one on queues.main."""
    started = []

    def consume(*under, **options):
        settings = {"name": "billing", "queue": queues.main, "postgres": inbox.dsn("writer"),
                    "url": stack.env["AMQP_URL"], "retry_initial_ms": 20, "retry_max_ms": 100, **options}
        words = [word for key, value in settings.items() for one in (value if isinstance(value, list) else [value])
                 for word in (key, one)]
        started.append(Consumer([*under, DRIVER, *words], tmp_path / f"consumer-{len(started)}"))
        return started[-1]
    yield consume
    for one in started:
        if one.process.poll() is None:
            one.kill()
        print(f"---- {one.path.name} (exit {one.process.returncode}) ----\n{one.path.read_text(errors='replace')[-2000:]}")


class Queues:
    """A queue with a dead letter queue, and messages into it."""

    def __init__(self, broker):
        self.broker = broker
        self.dead = broker.queue("dead")
        self.main = broker.queue("main", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": self.dead})

    def send(self, body="ok", message_id="", queue=None, **properties):
        """message_id None sends none."""
        if message_id == "":
            message_id = str(uuid.uuid4())
        self.broker.channel().basic_publish("", queue or self.main, body.encode() if isinstance(body, str) else body,
                                            pika.BasicProperties(message_id=message_id, delivery_mode=2, **properties))
        return message_id

    def empty(self):
        """Nothing is ready, and nothing is with a consumer."""
        rows = self.broker.stack.rabbitmqctl("list_queues", "name", "messages", "--no-table-headers")
        return re.search(rf"^{self.main}\t0$", rows, re.MULTILINE)


@pytest.fixture
def queues(broker):
    return Queues(broker)


def effects(database):
    """Sorted; none while the database is away."""
    try:
        return sorted(row[0] for row in database.query("SELECT message_id FROM effect"))
    except psycopg2.Error:
        database.cached.clear()
        return []


def test_a_message_is_handled_once_and_acknowledged(inbox, queues, consume):
    consumer = consume()
    one = queues.send("ok", type="order.paid", headers={"tenant": 12, "x-ordering-key": "k7"})
    queues.send("ok", one)
    other = queues.send()
    wait_until(lambda: effects(inbox) == sorted([one, other]))
    line = consumer.wait_line("handled", one)
    assert "failures=0 redelivered=0 key=k7 type=order.paid exchange= routing_key=" in line and "tenant=12 body=ok" in line
    wait_until(queues.empty)
    assert consumer.stop() == 0
    assert effects(inbox) == sorted([one, other]) and len(consumer.lines("handled")) == 2
    assert queues.broker.count(queues.dead) == 0
    assert inbox.query("SELECT consumer, count(*) FROM inbox.message GROUP BY 1") == [("billing", 2)]


@FORMS
def test_poison_goes_to_the_dead_letter_queue_after_its_attempts_and_the_others_flow(inbox, queues, consume, form):
    poison = queues.send("poison")
    good = [queues.send() for _ in range(20)]
    quitter, sql, twice = queues.send("giveup"), queues.send("sql"), queues.send("until 2")
    consumer = consume(**form, max_attempts=3)
    dead = {message.message_id for message in queues.broker.take(queues.dead, 3)}
    assert dead == {poison, quitter, sql}
    wait_until(lambda: effects(inbox) == sorted([*good, twice]))
    consumer.wait_line("event=message_given_up", poison, "attempts=3: the handler answered: try again")
    consumer.wait_line("event=message_given_up", sql, "attempts=3", "division by zero")
    consumer.wait_line("event=message_given_up", quitter, "attempts=1: the handler answered: give up")
    assert len(consumer.lines("event=message_failed", poison)) == 2
    assert dict(inbox.query("SELECT message_id, attempts FROM inbox.attempt")) == {poison: 3, sql: 3, quitter: 1}
    assert inbox.value("SELECT count(*) FROM inbox.message WHERE message_id = ANY(%s)", [[poison, sql, quitter]]) == 0
    # Sent again from there, it has its attempts again.
    queues.send("poison", poison)
    queues.broker.take(queues.dead, 1)
    assert len(consumer.lines("handled", poison)) >= 6
    consumer.wait_line("event=message_failed", poison, count=4)
    assert consumer.stop() == 0


def test_a_handler_that_breaks_the_rules_harms_its_own_message_alone(inbox, queues, consume):
    bad = [queues.send("busy"), queues.send("disconnect")]
    committer = queues.send("commit")
    good = [queues.send() for _ in range(5)]
    consumer = consume(max_attempts=2)
    assert {message.message_id for message in queues.broker.take(queues.dead, 2)} == set(bad)
    # It has committed, so it is handled.
    wait_until(lambda: effects(inbox) == sorted([*good, committer]))
    wait_until(queues.empty)
    assert "the handler ended the transaction" in consumer.wait_line("event=message_failed", committer)
    assert consumer.stop() == 0


@pytest.mark.parametrize("follows", [True, False], ids=["with the next one waiting", "with none waiting"])
def test_a_handler_may_deallocate_all_prepared_statements(inbox, queues, consume, follows):
    """As a pooler does that gives the next transaction another session."""
    ids = []
    consumer = None if follows else consume()
    for body in ("ok", "deallocate", "ok", "deallocate", "deallocate", "ok"):
        ids.append(queues.send(body))
        if not follows:
            wait_until(lambda: effects(inbox) == sorted(ids))
            wait_until(queues.empty)
    consumer = consumer or consume()
    wait_until(lambda: effects(inbox) == sorted(ids))
    assert consumer.stop() == 0
    assert len(consumer.lines("handled")) == len(ids) and not consumer.lines("failed") and not consumer.lines("lost")
    assert len(consumer.lines("event=database_connected")) == 1
    assert inbox.value("SELECT count(*) FROM inbox.attempt") == 0


def test_why_a_statement_failed_is_told_without_the_row(inbox, queues, consume):
    inbox.execute("ALTER TABLE effect ADD COLUMN card text DEFAULT '4111-1111', ADD CONSTRAINT no_cards CHECK (card IS NULL) NOT VALID")
    consumer = consume(max_attempts=1)
    refused = queues.send()
    line = consumer.wait_line("event=message_given_up", refused, 'violates check constraint "no_cards"')
    reason = inbox.value("SELECT last_error FROM inbox.attempt WHERE message_id = %s", [refused])
    assert "no_cards" in reason
    assert "4111" not in line + reason
    assert consumer.stop() == 0


def test_a_message_without_id_is_never_handled(inbox, queues, consume):
    consumer = consume(batch=5)
    queues.send("ok", None, type="nameless")
    queues.send("ok", "x" * 255)
    queues.send("ok", "zero\0byte")
    good = queues.send()
    assert [message.properties.type for message in queues.broker.take(queues.dead, 2)] == ["nameless", None]
    wait_until(lambda: effects(inbox) == sorted(["x" * 255, good]))
    consumer.wait_line("event=message_without_id level=2", "given up", f"routing_key={queues.main}", count=2)
    assert consumer.stop() == 0


def test_an_id_that_is_no_text_is_given_up(inbox, queues, consume, monkeypatch):
    # RabbitMQ takes any bytes; pika would not send them.
    monkeypatch.setattr(pika.data, "encode_short_string",
                        lambda pieces, value: (pieces.append(bytes([len(value)]) + value.encode("latin-1")), len(value) + 1)[1])
    queues.send("ok", "a\xff")
    good = [queues.send() for _ in range(3)]
    consumer = consume(batch=10)
    wait_until(lambda: effects(inbox) == sorted(good))
    wait_until(lambda: queues.broker.count(queues.dead) == 1)
    consumer.wait_line("event=message_given_up", "cannot be claimed")
    assert consumer.stop() == 0


def test_a_message_that_kills_its_consumer_is_given_up_too(inbox, queues, consume):
    queues.send("crash")
    good = queues.send()
    deaths = 0
    while not queues.broker.count(queues.dead):
        consumer = consume(max_attempts=3)
        wait_until(lambda: consumer.process.poll() is not None or queues.broker.count(queues.dead))
        deaths += consumer.process.poll() == 9
    assert deaths == 4
    wait_until(lambda: effects(inbox) == [good])
    assert consumer.stop() == 0


def test_stop_finishes_what_is_being_handled_and_gives_the_rest_back(inbox, queues, consume):
    for _ in range(10):
        queues.send("sleep 0.5")
    consumer = consume()
    consumer.wait_line("handled")
    assert consumer.stop(timeout=5) == 0
    handled = len(consumer.lines("handled"))
    assert 1 <= handled <= 2 and len(effects(inbox)) == handled
    wait_until(lambda: queues.broker.count(queues.main) == 10 - handled)
    assert not consumer.lines("event=broker_lost")


def test_a_claim_in_other_hands_is_waited_for_without_counting(inbox, queues, consume):
    other = inbox.connect("writer")
    held = str(uuid.uuid4())
    other.cursor().execute("SELECT inbox.claim('billing', %s)", [held])
    queues.send("ok", held)
    good = queues.send()
    consumer = consume(lock_timeout_ms=50)
    wait_until(lambda: effects(inbox) == [good])
    other.rollback()
    wait_until(lambda: effects(inbox) == sorted([good, held]))
    assert inbox.value("SELECT count(*) FROM inbox.attempt") == 0
    assert consumer.stop() == 0


def test_either_server_may_go_and_come_back(inbox, stack, queues, consume):
    consumer = consume(url=["amqp://guest:guest@localhost:1/", stack.env["AMQP_URL"]])
    first = queues.send()
    wait_until(lambda: effects(inbox) == [first])
    assert consumer.lines("event=broker_lost")
    stack.kill("postgres")
    second = queues.send()
    consumer.wait_line("event=database_lost")
    stack.start("postgres")
    wait_until(lambda: effects(inbox) == sorted([first, second]), 30)
    stack.kill("rabbitmq")
    consumer.wait_line("event=broker_lost", count=3)
    stack.start("rabbitmq")
    consumer.wait_line("event=broker_connected", count=2, timeout=30)
    third = queues.send()
    wait_until(lambda: effects(inbox) == sorted([first, second, third]), 30)
    assert consumer.stop() == 0


def test_a_queue_that_goes_is_waited_for(inbox, broker, consume):
    name = broker.queue("gone")
    consumer = consume(queue=name)
    consumer.wait_line("event=broker_connected")
    broker.channel().queue_delete(name)
    consumer.wait_line("event=broker_lost", "the queue was deleted")
    consumer.wait_line("event=broker_lost", "404 NOT_FOUND")
    broker.queue("gone")
    consumer.wait_line("event=broker_connected", count=2)
    broker.channel().basic_publish("", name, b"ok", pika.BasicProperties(message_id="after"))
    wait_until(lambda: effects(inbox) == ["after"])
    assert consumer.stop() == 0


def test_a_database_without_the_schema_is_asked_again_and_loses_nothing(inbox, queues, consume):
    one = queues.send()
    consumer = consume(schema="not yet")
    consumer.wait_line("event=database_lost", 'schema "not yet" does not exist', count=2)
    assert consumer.stop() == 0
    consumer = consume()
    wait_until(lambda: effects(inbox) == [one])
    assert consumer.stop() == 0


@FORMS
@pytest.mark.parametrize("happens,counted", [
    ("PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(10);", 0),
    ("RAISE EXCEPTION 'in the way' USING ERRCODE = 'serialization_failure';", 0),
    ("RAISE EXCEPTION 'refused';", 2)])
def test_a_commit_that_fails_is_no_commit(inbox, queues, consume, happens, counted, form):
    """At the first two commits; what was not committed must not be acknowledged."""
    inbox.execute("CREATE SEQUENCE commits; GRANT USAGE ON commits TO PUBLIC")
    inbox.execute(f"""CREATE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF nextval('commits') <= 2 THEN {happens} END IF; RETURN NULL; END $$""")
    inbox.execute("CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON effect DEFERRABLE INITIALLY DEFERRED"
                  " FOR EACH ROW EXECUTE FUNCTION at_commit()")
    sent = [queues.send() for _ in range(5)]
    consumer = consume(**form)
    wait_until(lambda: effects(inbox) == sorted(sent))
    wait_until(queues.empty)
    assert consumer.stop() == 0
    assert len(consumer.lines("event=message_failed")) == (counted // 2 if form else counted)
    assert queues.broker.count(queues.dead) == 0
    assert inbox.value("SELECT count(*) FROM inbox.attempt") == 0


def test_a_batch_is_one_transaction(inbox, queues, consume):
    sent = [queues.send() for _ in range(200)]
    for one in sent[::7]:
        queues.send("ok", one)
    consumer = consume(batch=50)
    wait_until(lambda: effects(inbox) == sorted(sent))
    wait_until(queues.empty)
    assert consumer.stop() == 0
    assert inbox.value("SELECT count(DISTINCT xmin::text) FROM effect") < 60
    assert len(consumer.lines("handled")) == 200


@pytest.fixture
def together(inbox, queues):
    """together(consumer, (body, id), ...): they all lie before the consumer when it comes to the first of them, whatever
    the broker sends at a time: it waits for a lock meanwhile, in the handler of a message whose id is returned."""
    queues.broker.channel().confirm_delivery()

    def together(consumer, *messages):
        keeper = inbox.connect()
        keeper.cursor().execute("SELECT pg_advisory_xact_lock(1)")
        gate = queues.send("lock 1")
        wait_until(lambda: [gate] in calls(consumer))
        for body, message_id in messages:
            queues.send(body, message_id)
        wait_until(lambda: queues.broker.count(queues.main) == 0)
        keeper.close()
        return gate
    return together


def calls(consumer):
    """The message ids of each call of a handler."""
    return [ids.strip("{}").split(",") for kind, ids, *_ in map(str.split, consumer.lines()) if kind in ("handled", "whole")]


def test_a_batch_handler_gets_what_is_new_in_order_and_in_one_transaction(inbox, queues, consume, together):
    ids = [f"m{n:02}" for n in range(25)]
    seen, new = ids[2::3], [one for n, one in enumerate(ids) if n % 3 != 2]
    inbox.execute("SELECT inbox.claim('billing', %s::text[])", [seen])
    consumer = consume(batch=10, whole=1, lock_timeout_ms=60000)
    gate = together(consumer, *[("ok", one) for one in [*ids[:5], ids[0], *ids[5:]]])
    wait_until(lambda: effects(inbox) == sorted([gate, *new]))
    made = calls(consumer)
    assert sum(made, []) == [gate, *new] and 5 < max(map(len, made)) <= 10
    transactions = dict(inbox.query("SELECT message_id, xmin::text FROM effect"))
    assert all(len({transactions[one] for one in call}) == 1 for call in made)
    assert len(set(transactions.values())) == len(made)
    # Where nothing is new it is not called, where one is it may be either.
    gates = [together(consumer, *[("ok", one) for one in ids]), together(consumer, *[("ok", one) for one in [*ids, "last"]])]
    wait_until(lambda: effects(inbox) == sorted([gate, *gates, "last", *new]))
    assert calls(consumer)[len(made):] == [[gates[0]], [gates[1]], ["last"]]
    wait_until(queues.empty)
    assert consumer.stop() == 0
    assert not consumer.lines("event=batch_failed")


@pytest.mark.parametrize("body,attempts,reason", [
    ("alone", 0, "the handler answered: try again"), ("poison", 2, "the handler answered: try again"),
    ("giveup", 1, "the handler answered: give up"), ("sql", 2, "division by zero"),
    ("busy", 2, "left a statement or pipeline mode behind"), ("pipeline", 2, "left a statement or pipeline mode behind"),
    ("disconnect", 2, "the connection to Postgres was lost"), ("commit", 0, "the handler ended the transaction")])
def test_a_batch_that_fails_is_handled_one_by_one(inbox, queues, consume, together, body, attempts, reason):
    good, bad = [f"m{n}" for n in range(6)], "bad"
    consumer = consume(batch=10, whole=1, max_attempts=2, lock_timeout_ms=60000)
    gate = together(consumer, *[(body if one == bad else "ok", one) for one in [*good[:3], bad, *good[3:]]])
    done = [*good, gate] if attempts else [*good, bad, gate]
    wait_until(lambda: effects(inbox) == sorted(done))
    wait_until(lambda: queues.broker.count(queues.dead) == (attempts > 0))
    wait_until(queues.empty)
    assert consumer.stop() == 0
    assert effects(inbox) == sorted(done)
    assert {row[0] for row in inbox.query("SELECT message_id FROM inbox.message")} == set(done)
    assert dict(inbox.query("SELECT message_id, attempts FROM inbox.attempt")) == ({bad: attempts} if attempts else {})
    [failed] = [call for call in calls(consumer) if bad in call and len(call) > 1]
    assert re.search(rf"messages={len(failed)}: .*{reason}", consumer.wait_line("event=batch_failed"))
    # It has committed, so nothing is left to be handled.
    again = 0 if body == "commit" else 1
    assert [calls(consumer).count([one]) for one in failed if one != bad] == [again] * (len(failed) - 1)
    assert calls(consumer).count([bad]) == (attempts or again)


def test_a_batch_handler_has_nothing_to_do_where_batches_are_of_one(inbox, queues, consume):
    sent = [queues.send() for _ in range(30)]
    consumer = consume(batch=1, whole=1)
    wait_until(lambda: effects(inbox) == sorted(sent))
    assert consumer.stop() == 0
    assert len(consumer.lines("handled")) == 30 and not consumer.lines("whole ")


def test_old_claims_are_purged_by_itself(inbox, queues, consume):
    inbox.execute("INSERT INTO inbox.message SELECT 'old', n::text, now() - interval '2 hours' FROM generate_series(1, 3500) n")
    inbox.execute("INSERT INTO inbox.message VALUES ('old', 'young', now() - interval '10 minutes')")
    consumer = consume(retention_s=3600, purge_interval_s=1)
    wait_until(lambda: inbox.query("SELECT message_id FROM inbox.message") == [("young",)])
    assert consumer.stop() == 0
    consumer = consume(retention_s=-1, purge_interval_s=1)
    one = queues.send()
    wait_until(lambda: effects(inbox) == [one])
    assert consumer.stop() == 0


def test_over_tls_the_broker_proves_who_it_is(inbox, stack, queues, consume):
    consumer = consume(url=stack.env["AMQPS_URL"], ca_file=stack.env["TLS_CA_FILE"])
    one = queues.send()
    wait_until(lambda: effects(inbox) == [one])
    assert consumer.stop() == 0
    consumer = consume(url=stack.env["AMQPS_URL"])
    consumer.wait_line("event=broker_lost", "connect")
    assert consumer.stop() == 0 and not consumer.lines("event=broker_connected")


@pytest.mark.parametrize("options,text", [
    ({"name": ""}, "name is required"), ({"queue": ""}, "queue is required"), ({"prefetch": 70000}, "prefetch is 70000"),
    ({"batch": 101}, "batch is 101: it must be from 1 to 100"), ({"url": "http://secret@host"}, "urls cannot be read"),
    ({"max_attempts": -1}, "max_attempts"), ({"retention_s": -2}, "retention_s"), ({"schema": "s" * 64}, "schema")])
def test_an_option_that_is_wrong_is_named(consume, options, text):
    consumer = consume(**options)
    assert consumer.wait() == 78
    assert text in consumer.lines("invalid")[0] and "secret" not in consumer.lines("invalid")[0]


@pytest.mark.parametrize("whole", [0, 1])
def test_nothing_leaks_and_nothing_is_read_that_was_not_written(inbox, queues, consume, whole):
    sent = [queues.send(f"until {n % 3}", headers={"tenant": "t"}) for n in range(12)]
    queues.send("giveup")
    consumer = consume("valgrind", "-q", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite",
                       batch=4, whole=whole)
    wait_until(lambda: effects(inbox) == sorted(sent), 60)
    wait_until(lambda: queues.broker.count(queues.dead) == 1)
    queues.send("poison")
    consumer.wait_line("event=message_failed", timeout=30)
    assert consumer.stop(timeout=30) == 0


@pytest.mark.time_limit(240 + MESSAGES // 20)
@FORMS
def test_every_message_twice_and_everything_killed_takes_effect_once(inbox, stack, queues, consume, form):
    """Each message is sent twice in any order to several consumers; they, the broker and the database are killed."""
    rng = random.Random(len(form))
    sent = [str(uuid.uuid4()) for _ in range(MESSAGES)]
    twice = sent * 2
    rng.shuffle(twice)
    for one in twice:
        queues.send("sleep 0.005", one)
    consumers = [consume(**form, prefetch=50, max_attempts=1000) for _ in range(CONSUMERS)]

    def progress(count):
        return lambda: len(effects(inbox)) >= count

    steps = range(MESSAGES // 20, MESSAGES, MESSAGES // 20)
    servers = dict(zip(rng.sample(range(len(steps)), 2), ("postgres", "rabbitmq")))
    for step, count in enumerate(steps):
        wait_until(progress(count), 60 + MESSAGES // 100, f"{count} effects")
        victim = rng.randrange(CONSUMERS)
        consumers[victim].kill()
        consumers[victim] = consume(**form, prefetch=50, max_attempts=1000)
        if step in servers:
            before = stack.env[f"{servers[step].upper()}_PID"]
            stack.kill(servers[step])
            stack.start(servers[step])
            assert stack.env[f"{servers[step].upper()}_PID"] != before
    wait_until(lambda: len(effects(inbox)) >= len(sent) and queues.empty(), 60 + MESSAGES // 100)
    assert effects(inbox) == sorted(sent)
    assert queues.broker.count(queues.dead) == 0
    for consumer in consumers:
        assert consumer.stop() == 0
    assert any(consumer.lines("whole ") for consumer in consumers) == ("whole" in form)


def test_the_readmes_program_works_once_installed(inbox, stack, broker, installed, tmp_path):
    [program] = [content for _, content in blocks(section("From C")) if "inbox_consumer_run" in content]
    broker.channel().queue_declare("billing", durable=True, arguments={"x-queue-type": "quorum"})
    broker.queues.append("billing")
    inbox.execute("CREATE TABLE invoice (order_id integer, item text); GRANT INSERT ON invoice TO PUBLIC")
    (tmp_path / "program.c").write_text(program)
    flags = run("pkg-config", "--cflags", "--libs", "inbox", env=installed).split()
    run("gcc", "-Wall", "-Wextra", "-Werror", "-o", tmp_path / "program", tmp_path / "program.c", *flags)
    for _ in range(2):
        broker.channel().basic_publish("", "billing", b'{"order": 3, "item": "zw\\u00f6lf Kessel"}', pika.BasicProperties(message_id="m1"))
    environment = {**installed, **inbox.environment("writer"), "AMQP_URL": stack.env["AMQP_URL"]}
    wrong = subprocess.run([tmp_path / "program"], env={**environment, "AMQP_URL": "http://x"}, capture_output=True, text=True)
    assert wrong.returncode == 1 and "urls" in wrong.stderr
    process = subprocess.Popen([tmp_path / "program"], preexec_fn=die_with_parent, env=environment, stderr=subprocess.PIPE,
                               text=True)
    wait_until(lambda: inbox.query("SELECT order_id, item FROM invoice") == [(3, "zwölf Kessel")])
    wait_until(lambda: broker.count("billing") == 0)
    process.send_signal(signal.SIGTERM)
    assert "database_connected: " in process.communicate(timeout=10)[1] and process.returncode == 0
    assert inbox.value("SELECT count(*) FROM invoice") == 1


def test_the_shared_library_shows_its_interface_alone():
    file = next(BUILD.glob("libinbox.so.*"))
    needed = set(re.findall(r"NEEDED.*\[(\w+)\.so", run("readelf", "-d", file)))
    assert needed == {"libpq", "librabbitmq", "libc"}
    shown = {line.split()[-1] for line in run("nm", "-D", "--defined-only", file).splitlines()}
    assert shown == {"inbox_claim", "inbox_claim_batch", "inbox_consumer_free", "inbox_consumer_new", "inbox_consumer_run",
                     "inbox_consumer_stop", "inbox_message_header", "inbox_version"}
