"""Postgres says no: not this host, not now, not you, not any more.  The relay says why, and goes on by itself.

What only a person can mend before the first start ends the process (test_bad_input); here it has been well before.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

import psycopg2
import psycopg2.errors
import psycopg2.extensions
import pytest

from checker import check
from clusters import Cluster, Pooler, closed_port
from conftest import ROOT, wait_until
from workload import Collector, committed_in

PERMISSION, CONFIGURATION = 77, 78
WINDOW = 500
ADD = ("INSERT INTO outbox.message (exchange, routing_key, payload_json, ordering_key)"
       " SELECT %s, 'order', jsonb_build_object('sequence', n), 'key-' || n %% 50 FROM generate_series(1, %s) n")


class Place:
    """A relay's database and a queue behind an exchange; what arrives is collected."""

    def __init__(self, database, broker, stack):
        self.database = database
        self.exchange = broker.exchange()
        self.queue = broker.queue(exchange=self.exchange)
        self.collector = Collector(stack.env["AMQP_URL"], self.queue)

    def add(self, count=1):
        self.database.execute(ADD, [self.exchange, count], role="writer")

    def pending(self):
        return self.database.value("SELECT pending FROM outbox.backlog()")

    def drained(self, timeout=30):
        wait_until(lambda: self.pending() == 0, timeout, "an empty outbox")

    def end_sessions(self, role):
        self.database.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [role],
                              role="postgres")

    def judge(self, duplicates=0):
        committed = committed_in(self.database)
        wait_until(lambda: set(self.collector.ids()) >= set(committed), 20, "all messages")
        verdict = check(committed, self.collector.end())
        assert verdict.well() and verdict.duplicates <= duplicates, str(verdict)


@pytest.fixture
def place(database, broker, stack):
    return Place(database, broker, stack)


@pytest.fixture
def cluster(stack):
    cluster = Cluster(stack.env["POSTGRES_BIN"])
    cluster.start()
    yield cluster
    cluster.remove()


def publish(cluster, queue):
    cluster.execute(f"SELECT outbox.publish('', '{queue}', 'x')")


def settings(cluster, more="", user="relay"):
    return {"postgres": {"dsn": f"{cluster.dsn(user=user)} {more}"}}


# ---- several hosts

def several(database, host, port):
    """Another host before the stack's server."""
    return {"postgres": {"dsn": database.dsn(host=f"{host},127.0.0.1", port=f"{port},{database.stack.env['PGPORT']}")}}


def test_the_first_host_is_dead(place, relay):
    place.add()
    keeper, port = closed_port()
    running = relay(config=several(place.database, "127.0.0.1", port))
    place.drained()
    assert not running.log("database_lost")
    keeper.close()
    place.judge()


def test_the_first_host_takes_connections_and_says_nothing(place, relay):
    """As a stopped or frozen server does: libpq would wait for it for ever."""
    place.add()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        running = relay(config=several(place.database, "127.0.0.1", silent.getsockname()[1]))
        assert "did not answer in time" in running.wait_log("database_lost", 15)["error"]
        place.drained(10)
    place.judge()


def test_a_standby_is_promoted_while_the_relay_waits(cluster, broker, relay):
    """Started in the middle of a failover: no host is a primary yet, and that is no mistake."""
    queue = broker.queue()
    cluster.furnish()
    publish(cluster, queue)
    cluster.become_standby()
    keeper, port = closed_port()
    dsn = f"host={cluster.directory},127.0.0.1 port={cluster.port},{port} dbname=postgres user=relay"
    dsn_back = f"host=127.0.0.1,{cluster.directory} port={port},{cluster.port} dbname=postgres user=relay"
    waiting = [relay(config={"postgres": {"dsn": d}}) for d in (dsn, dsn_back)]
    for running in waiting:
        lost = running.wait_log("database_lost", level="warn")
        assert "session is read-only" in lost["error"]
    assert "primary" in lost["remedy"]
    cluster.execute("SELECT pg_promote()")
    broker.take(queue, 1)
    keeper.close()
    assert [running.alive() for running in waiting] == [True, True]


def test_a_leader_whose_server_becomes_a_standby_waits_for_a_primary(cluster, broker, relay):
    queue = broker.queue()
    cluster.furnish()
    running = relay(config=settings(cluster, "target_session_attrs=any"))
    running.wait_log("leading")
    publish(cluster, queue)
    broker.take(queue, 1)
    cluster.become_standby()
    assert "primary" in running.wait_log("database_lost", sqlstate="25006")["remedy"]
    cluster.execute("SELECT pg_promote()")
    publish(cluster, queue)
    broker.take(queue, 1, timeout=30)
    assert running.alive()


# ---- who may

def test_the_right_to_mark_is_lost_and_comes_back(place, relay):
    running = relay(config={"publish": {"window": WINDOW}})
    running.wait_log("leading")
    role = place.database.roles["relay"]
    place.database.execute(f"REVOKE INSERT ON outbox.sent FROM {role}")
    place.add(3 * WINDOW)
    refused = running.wait_log("mark_refused", level="warn", sqlstate="42501")
    assert "outbox.grant_relay(" in refused["remedy"]
    assert place.pending() == 3 * WINDOW
    place.database.query("SELECT outbox.grant_relay(%s)", [role])
    place.drained()
    assert not running.log("stepped_down")
    place.judge()


def test_the_right_to_read_is_lost_and_comes_back(place, relay):
    running = relay()
    running.wait_log("leading")
    role = place.database.roles["relay"]
    place.database.execute(f"REVOKE SELECT ON outbox.message FROM {role}")
    place.add()
    # By the read, then by the checks at the door.
    for number in (1, 2):
        assert "outbox.grant_relay(" in running.wait_log("database_lost", count=number, level="warn")["remedy"]
    place.database.query("SELECT outbox.grant_relay(%s)", [role])
    place.drained()
    assert running.alive()
    place.judge()


def test_the_role_may_not_log_in_for_a_while(place, relay):
    running = relay()
    running.wait_log("leading")
    role = place.database.roles["relay"]
    place.database.execute(f"ALTER ROLE {role} NOLOGIN", role="postgres")
    place.end_sessions(role)
    place.add()
    assert "terminating connection" in running.wait_log("database_lost")["error"]
    lost = running.wait_log("database_lost", count=2)
    assert "is not permitted to log in" in lost["error"] and "LOGIN" in lost["remedy"]
    place.database.execute(f"ALTER ROLE {role} LOGIN", role="postgres")
    place.drained()
    place.judge()


@pytest.fixture
def password_role(place, stack):
    """The stack's role that needs a password, as a relay of this database."""
    role = stack.env["POSTGRES_PASSWORD_USER"]
    place.database.query("SELECT outbox.grant_relay(%s)", [role])
    yield role
    place.database.execute(f"ALTER ROLE {role} PASSWORD %s", [stack.env["POSTGRES_PASSWORD"]], role="postgres")
    place.end_sessions(role)
    place.database.execute(f"DROP OWNED BY {role}", role="postgres")


def test_a_rotated_password_is_read_again(place, password_role, stack, relay, tmp_path):
    secret = tmp_path / "password"
    secret.write_text("wrong\n")
    config = {"postgres": {"dsn": place.database.dsn(password_role), "password_file": str(secret)}}
    done = relay.command("run", config=config, timeout=20)
    assert done.returncode == PERMISSION and "password authentication failed" in done.stderr
    secret.write_text(stack.env["POSTGRES_PASSWORD"] + "\n")
    running = relay(config=config)
    running.wait_log("leading")
    place.database.execute(f"ALTER ROLE {password_role} PASSWORD 'rotated'", role="postgres")
    place.end_sessions(password_role)
    place.add()
    lost = running.wait_log("database_lost", count=2)
    assert "password authentication failed" in lost["error"] and "password_file" in lost["remedy"]
    secret.write_text("rotated\n")
    running.wait_log("leading", count=2)
    place.drained()
    place.judge()


# ---- out of something

def test_no_connection_is_free(cluster, broker, relay):
    """From before the start: the server is full; and full again, except for one."""
    queue = broker.queue()
    cluster.furnish()
    publish(cluster, queue)
    with contextlib.ExitStack() as stack:
        taken = []
        with contextlib.suppress(psycopg2.OperationalError):
            while True:
                taken.append(stack.enter_context(contextlib.closing(psycopg2.connect(cluster.dsn(user="relay")))))
        running = relay(config=settings(cluster))
        lost = running.wait_log("database_lost", level="warn")
        assert "connection" in lost["error"] and "max_connections" in lost["remedy"]
        taken.pop().close()
        broker.take(queue, 1)
        # One for rows and marks; the one that listens has to wait.
        refused = running.wait_log("listen_connection_lost", level="warn")
        assert "max_connections" in refused["remedy"]
        publish(cluster, queue)
        broker.take(queue, 1)
    wait_until(lambda: cluster.execute("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")[0][0] == 1, 10,
               "the one that listens")


def test_the_role_has_no_connection_left(place, relay):
    role = place.database.roles["relay"]
    place.database.execute(f"ALTER ROLE {role} CONNECTION LIMIT 0", role="postgres")
    place.add()
    running = relay()
    lost = running.wait_log("database_lost", level="warn")
    assert "too many connections" in lost["error"] and "CONNECTION LIMIT" in lost["remedy"]
    place.database.execute(f"ALTER ROLE {role} CONNECTION LIMIT -1", role="postgres")
    place.drained()
    place.judge()


@pytest.fixture
def full_disk(cluster, tmp_path):
    """The disk below a server with an outbox; it is full while the file exists."""
    library = tmp_path / "full_disk.so"
    subprocess.run(["cc", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", library, ROOT / "tests/support/full_disk.c"], check=True)
    shutil.copy(library, cluster.directory)
    flag = cluster.directory / "full"
    cluster.furnish()
    cluster.stop()
    cluster.env = {"LD_PRELOAD": str(cluster.directory / library.name), "FULL_DISK": str(flag)}
    cluster.start()
    return flag


def test_a_full_disk_stops_the_marks_and_repeats_nothing(cluster, full_disk, broker, relay):
    queue = broker.queue()
    running = relay(config={**settings(cluster), "publish": {"window": WINDOW}})
    running.wait_log("broker_connected")
    full_disk.touch()
    with pytest.raises(psycopg2.errors.DiskFull):
        cluster.execute("CREATE TABLE ballast AS SELECT repeat('x', 10000)")
    full_disk.unlink()
    with contextlib.closing(psycopg2.connect(cluster.dsn())) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT outbox.publish('', %s, n::text) FROM generate_series(1, %s) n", [queue, 5 * WINDOW])
        # The first mark of all needs the first page of its table.
        full_disk.touch()
        connection.commit()
    refused = running.wait_log("mark_refused", level="warn", sqlstate="53100")
    assert "No space left on device" in refused["error"] and "disk space" in refused["remedy"]
    wait_until(lambda: cluster.log().count("ERROR:  could not extend file") >= 4, 10, "more attempts")
    assert 0 < broker.count(queue) <= WINDOW
    full_disk.unlink()
    bodies = [message.body for message in broker.take(queue, 5 * WINDOW)]
    assert bodies == [b"%d" % n for n in range(1, 5 * WINDOW + 1)]
    assert running.stop() == 0
    assert broker.get(queue) is None
    assert len(running.log("mark_refused")) == 1 and not running.log("stepped_down")


# ---- locks

@pytest.mark.time_limit(60)
def test_a_lock_on_the_marks_costs_neither_the_lead_nor_a_duplicate(place, relay):
    """Longer than the lease and a standby's patience together."""
    leader = relay(config={"publish": {"window": WINDOW}})
    leader.wait_log("broker_connected")
    standby = relay()
    standby.wait_log("standby")
    holder = place.database.connect()
    holder.cursor().execute("LOCK TABLE outbox.sent IN SHARE ROW EXCLUSIVE MODE")
    since = time.monotonic()
    place.add(3 * WINDOW)
    refused = leader.wait_log("mark_refused", 10, level="warn", sqlstate="55P03")
    assert "pg_blocking_pids" in refused["remedy"]
    wait_until(lambda: time.monotonic() - since > 13, 15)
    assert 0 < place.collector.count() <= WINDOW
    holder.rollback()
    place.drained()
    assert not leader.log("stepped_down") and not standby.log("leading")
    assert len(leader.log("broker_connected")) == 1
    place.judge()


@pytest.mark.time_limit(60)
def test_a_lock_on_the_messages_is_waited_for(place, relay):
    running = relay()
    running.wait_log("broker_connected")
    place.add()
    place.drained()
    holder = place.database.connect()
    holder.cursor().execute("LOCK TABLE outbox.message IN ACCESS EXCLUSIVE MODE")
    lost = running.wait_log("database_lost", 10, level="warn")
    assert lost["sqlstate"] == "55P03" and "pg_blocking_pids" in lost["remedy"]
    holder.rollback()
    place.add()
    place.drained()
    place.judge()


def test_a_server_that_ends_idle_sessions_ends_neither_lead_nor_listener(place, relay):
    """With a producer that stays in its transaction, too."""
    role = place.database.roles["relay"]
    settings = ["idle_session_timeout", "idle_in_transaction_session_timeout", "statement_timeout"]
    if int(place.database.value("SHOW server_version_num")) >= 170000:
        settings.append("transaction_timeout")
    for setting in settings:
        place.database.execute(f"ALTER ROLE {role} SET {setting} = '300ms'", role="postgres")
    running = relay(config={"wake": {"poll_interval": "10s"}})
    running.wait_log("broker_connected")
    writer = place.database.connect("writer")
    writer.cursor().execute(ADD, [place.exchange, 1])
    listener = wait_until(lambda: place.database.query(
        "SELECT pid FROM pg_stat_activity WHERE usename = %s AND query LIKE 'LISTEN%%'"
        " AND state_change < clock_timestamp() - interval '1 s'", [role], role="postgres"), 10, "a quiet listener")
    place.add()
    wait_until(lambda: place.collector.count() == 1, 5, "the message of the other writer")
    writer.commit()
    place.drained()
    assert place.database.query("SELECT pid FROM pg_stat_activity WHERE usename = %s AND query LIKE 'LISTEN%%'", [role],
                                role="postgres") == listener
    assert not running.log("stepped_down") and not running.log("listen_connection_lost")
    place.judge()


# ---- crash recovery

def startup_process(postmaster):
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == postmaster and \
                    b"startup" in (path.parent / "cmdline").read_bytes():
                return int(path.parent.name)
    return None


def test_crash_recovery_is_waited_for(cluster, broker, relay):
    """By a relay that led, and by one that is started meanwhile, for which that is no mistake."""
    queue = broker.queue()
    cluster.furnish()
    leader = relay(config=settings(cluster))
    leader.wait_log("leading")
    # Enough to recover for the startup process to be caught at it.
    cluster.execute("CREATE TABLE ballast AS SELECT repeat(md5(n::text), 30) AS text FROM generate_series(1, 60000) n")
    backend = cluster.execute("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'outbox-relay%'")[0][0]
    os.kill(backend, signal.SIGKILL)
    recovering = wait_until(lambda: startup_process(cluster.process.pid), 10, "the start of recovery")
    os.kill(recovering, signal.SIGSTOP)
    late = relay(config=settings(cluster))
    lost = late.wait_log("database_lost", level="warn")
    assert "the database system is" in lost["error"] and "none needed" in lost["remedy"]
    os.kill(recovering, signal.SIGCONT)

    def published():
        with contextlib.suppress(psycopg2.OperationalError):
            publish(cluster, queue)
            return True

    wait_until(published, 20, "the end of recovery")
    broker.take(queue, 1)
    assert late.alive() and leader.alive()


# ---- poolers

@pytest.fixture
def pooler(database):
    poolers = []

    def start(mode):
        poolers.append(Pooler(database.dsn("relay"), mode))
        return poolers[-1]
    yield start
    for pooler in poolers:
        pooler.remove()


@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_a_pooler_in_transaction_mode_is_refused(place, pooler, relay, mode):
    place.add()
    done = relay.command("run", config={"postgres": {"dsn": pooler(mode).dsn()}}, timeout=20)
    assert done.returncode == CONFIGURATION, done.stderr
    error, = [line for line in relay.started[-1].log() if line.get("level") == "error"]
    assert "pooler in transaction mode" in error["error"] and "directly" in error["remedy"]
    assert place.collector.count() == 0 and place.pending() == 1


@pytest.mark.parametrize("listen", ["listen", "poll"])
def test_a_pooler_in_session_mode_will_do(place, pooler, relay, listen):
    running = relay(config={"postgres": {"dsn": pooler("session").dsn()}, "wake": {"mode": listen}})
    running.wait_log("leading")
    place.add(100)
    place.drained()
    assert running.stop() == 0
    place.judge()


# ---- certificates

@pytest.fixture
def tls_cluster(stack):
    """Over TCP by TLS alone, with client certificates; cluster.certify(name) changes the server's own."""
    keeper, port = closed_port()
    keeper.close()
    tls = pathlib.Path(stack.env["TLS_DIR"])
    cluster = Cluster(stack.env["POSTGRES_BIN"], port=port, listen_addresses="localhost", ssl="on", ssl_cert_file="../server.pem",
                      ssl_key_file="../server.key", ssl_ca_file="../ca.pem")
    cluster.give("data/pg_hba.conf", "local all all trust\nhostssl all client all cert\nhostssl all all all trust\n")

    def certify(name):
        cluster.give("server.pem", (tls / f"{name}.pem").read_text())
        cluster.give("server.key", (tls / f"{name}.key").read_text())
        if cluster.process is not None:
            cluster.execute("SELECT pg_reload_conf()")
    cluster.certify = certify
    cluster.give("ca.pem", (tls / "ca.pem").read_text())
    certify("server")
    cluster.start()
    cluster.furnish()
    cluster.execute("CREATE ROLE client LOGIN")
    cluster.execute("SELECT outbox.grant_relay('client')")
    yield cluster
    cluster.remove()


def over_tls(cluster, stack, user="relay", **more):
    return {"postgres": {"dsn": psycopg2.extensions.make_dsn(
        host="localhost", port=cluster.port, dbname="postgres", user=user, sslmode="verify-full",
        sslrootcert=stack.env["TLS_CA_FILE"], **more)}}


def test_the_servers_certificate_expires_and_is_renewed(tls_cluster, stack, broker, relay):
    queue = broker.queue()
    running = relay(config=over_tls(tls_cluster, stack))
    running.wait_log("leading")
    publish(tls_cluster, queue)
    broker.take(queue, 1)
    tls_cluster.certify("expired")
    late = []

    def refused():
        """The reload is not done at once."""
        late.append(relay(config=over_tls(tls_cluster, stack)))
        wait_until(lambda: late[-1].log("database_lost") or late[-1].log("leading") or late[-1].log("standby"), 10)
        return late[-1].log("database_lost")

    lost = wait_until(refused, 20, "a server with an expired certificate")[0]
    assert "certificate verify failed" in lost["error"] and "expired" in lost["remedy"]
    tls_cluster.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'relay'")
    assert "certificate verify failed" in running.wait_log("database_lost", count=2)["error"]
    tls_cluster.certify("server")
    publish(tls_cluster, queue)
    broker.take(queue, 1, timeout=30)
    assert running.alive() and late[-1].alive()


@pytest.mark.parametrize("name,words", [("wronghost", ["does not match host name", "localhost"]),
                                        ("expired", ["certificate verify failed"])])
def test_a_certificate_that_does_not_fit_is_never_accepted(tls_cluster, stack, broker, relay, name, words):
    queue = broker.queue()
    publish(tls_cluster, queue)
    tls_cluster.stop()
    tls_cluster.certify(name)
    tls_cluster.start()
    running = relay(config=over_tls(tls_cluster, stack))
    lost = running.wait_log("database_lost", level="warn")
    for word in words:
        assert word in lost["error"]
    assert "certificate" in lost["remedy"]
    assert broker.count(queue) == 0


def test_a_client_certificate_instead_of_a_password(tls_cluster, stack, broker, relay, tmp_path):
    queue = broker.queue()
    publish(tls_cluster, queue)
    tls = pathlib.Path(stack.env["TLS_DIR"])
    for name in ("client", "other-ca"):
        for kind in ("pem", "key"):
            shutil.copy(tls / f"{name}.{kind}", tmp_path)
            (tmp_path / f"{name}.{kind}").chmod(0o600)

    def run(*arguments, **more):
        return relay.command("run", "--until-empty", config=over_tls(tls_cluster, stack, user="client", **more), timeout=20)

    done = run(sslcert=tmp_path / "none.pem", sslkey=tmp_path / "none.key")
    assert done.returncode == PERMISSION and "valid client certificate" in done.stderr and "sslcert" in done.stderr
    done = run(sslcert=tmp_path / "client.pem", sslkey=tmp_path / "none.key")
    assert done.returncode == CONFIGURATION and "sslkey" in done.stderr, done.stderr
    done = run(sslcert=tmp_path / "other-ca.pem", sslkey=tmp_path / "other-ca.key")
    assert done.returncode == PERMISSION and "ssl_ca_file" in done.stderr, done.stderr
    done = run(sslcert=tmp_path / "client.pem", sslkey=tmp_path / "client.key")
    assert done.returncode == 0, done.stderr
    broker.take(queue, 1)
