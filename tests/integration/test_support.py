"""What the other tests stand on: servers that come and go as told, and never outlive their owner."""

import fcntl
import os
import pathlib
import signal
import subprocess

import pika
import psycopg2
import pytest

from conftest import ROOT, STACK_COMMAND, Stack, wait_until


def processes_with(text):
    """Pids of the processes whose command line has this text."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if text.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                pass
    return found


@pytest.fixture
def others_may_run():
    """Whether a test of another worker could be here, too."""
    inside = os.open(ROOT / "tests/integration", os.O_RDONLY)
    try:
        fcntl.flock(inside, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    os.close(inside)


@pytest.mark.alone
def test_one_that_is_about_a_time_runs_alone(others_may_run):
    assert not others_may_run


def test_all_others_run_side_by_side(others_may_run):
    assert others_may_run


@pytest.fixture
def directory():
    path = ROOT / f"build/stack/support-{os.getpid()}"
    yield path
    subprocess.run([STACK_COMMAND, "stop", "--dir", path], check=True)


def test_roles_have_what_they_were_granted(database):
    database.execute("INSERT INTO outbox.message (routing_key, payload_text) VALUES ('k', '{}')", role="writer")
    assert database.value("SELECT count(*) FROM outbox.message", role="relay") == 1
    assert database.query("SELECT state FROM outbox.message_status", role="monitor") == [("pending",)]
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        database.query("SELECT payload_text FROM outbox.message", role="writer")


def test_committed_rows_survive_the_kill_of_postgres(stack, database):
    database.execute("CREATE TABLE survivor AS SELECT 42 AS n")
    before = stack.env["POSTGRES_PID"]
    stack.kill("postgres")
    assert processes_with(stack.env["POSTGRES_DATA"]) == []
    stack.start("postgres")
    assert stack.env["POSTGRES_PID"] != before
    assert database.connect().cursor() is not None
    database.cached.clear()
    assert database.value("SELECT n FROM survivor") == 42


def test_a_cluster_goes_on_without_one_node_and_heals(cluster, cluster_broker):
    queue = cluster_broker.queue()
    channel = cluster_broker.channel()
    channel.confirm_delivery()
    channel.basic_publish("", queue, b"first")
    # Where the broker fixture is connected, and the queue's leader is.
    cluster.partition("rabbitmq1")
    assert cluster.conditions() == {"rabbitmq1": "partitioned", "rabbitmq2": "running", "rabbitmq3": "running"}

    def publish_elsewhere():
        try:
            channel = cluster_broker.channel()
            channel.confirm_delivery()
            channel.basic_publish("", queue, b"second")
            return True
        except pika.exceptions.NackError:
            # A channel whose first message meets an election is refused for good (3.10): another one.
            channel.close()
        except pika.exceptions.AMQPError:
            pass
        return False

    wait_until(publish_elsewhere, 20, "the majority to take over")
    cluster.kill("rabbitmq3")
    cluster.heal()
    assert set(cluster.conditions().values()) == {"running"}
    cluster.rabbitmqctl("await_online_nodes", "3")
    bodies = [cluster_broker.take(queue, 1)[0].body for _ in range(2)]
    assert bodies == [b"first", b"second"]


def test_queue_survives_the_kill_of_rabbitmq(stack, broker):
    queue = broker.queue()
    channel = broker.channel()
    channel.confirm_delivery()
    channel.basic_publish("", queue, b"kept")
    stack.kill("rabbitmq")
    stack.start("rabbitmq")
    wait_until(lambda: broker.get(queue), what="the message")


def test_take_returns_what_is_there_in_order(broker):
    queue = broker.queue()
    for n in range(5):
        broker.channel().basic_publish("", queue, str(n).encode())
    assert [m.body for m in broker.take(queue, 3)] == [b"0", b"1", b"2"]
    assert [m.body for m in broker.take(queue, 2)] == [b"3", b"4"]
    with pytest.raises(AssertionError, match="0 of 1"):
        broker.take(queue, 1, timeout=0.2)


def test_paused_postgres_answers_again_after_resume(stack, database):
    stack.pause("postgres")
    try:
        with pytest.raises(psycopg2.OperationalError):
            psycopg2.connect(database.dsn("owner", connect_timeout=2))
    finally:
        stack.resume("postgres")
    assert database.value("SELECT 1") == 1


def test_role_with_a_password_must_give_it(stack):
    dsn = {"host": "127.0.0.1", "port": stack.env["PGPORT"], "dbname": "postgres",
           "user": stack.env["POSTGRES_PASSWORD_USER"]}
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(**dsn, password="wrong")
    psycopg2.connect(**dsn, password=stack.env["POSTGRES_PASSWORD"]).close()


def test_certificates_are_what_their_names_say(stack):
    tls = pathlib.Path(stack.env["TLS_DIR"])

    def verify(name, *more):
        return subprocess.run(["openssl", "verify", "-CAfile", tls / "ca.pem", *more, tls / f"{name}.pem"],
                              capture_output=True, text=True)

    assert verify("server", "-verify_hostname", "localhost").returncode == 0
    assert verify("server", "-verify_ip", "127.0.0.1").returncode == 0
    assert "has expired" in verify("expired").stderr
    assert "ostname mismatch" in verify("wronghost", "-verify_hostname", "localhost").stderr
    assert verify("other-ca").returncode != 0


def test_stack_dies_with_its_killed_owner(directory):
    runner = subprocess.Popen([STACK_COMMAND, "run", "--only", "postgres", "--dir", directory, "--", "sleep", "1000"])
    try:
        wait_until(lambda: (directory / "state.json").exists(), 30, "the stack")
        data = Stack(directory).env["POSTGRES_DATA"]
        assert processes_with(data)
        segment = int((pathlib.Path(data) / "postmaster.pid").read_text().splitlines()[6].split()[1])
        assert segment in shared_memory()
        assert "/dev/shm/" not in pathlib.Path(f"/proc/{Stack(directory).env['POSTGRES_PID']}/maps").read_text()
    finally:
        runner.kill()
        runner.wait()
    wait_until(lambda: not processes_with(str(directory)), 10, "the end of all processes")
    assert not pathlib.Path(data).exists()
    assert segment not in shared_memory()


def shared_memory():
    """The ids of all segments."""
    return {int(line.split()[1]) for line in pathlib.Path("/proc/sysvipc/shm").read_text().splitlines()[1:]}


def test_servers_die_with_a_killed_supervisor_and_the_next_start_clears_up(directory):
    start = [STACK_COMMAND, "start", "--only", "postgres", "--dir", directory, "--owner", str(os.getpid())]
    subprocess.run(start, check=True)
    os.kill(int(Stack(directory).env["STACK_SUPERVISOR_PID"]), signal.SIGKILL)
    wait_until(lambda: not processes_with(str(directory)), 10, "the end of all processes")
    subprocess.run(start, check=True)
    again = subprocess.run(start, capture_output=True, text=True)
    assert again.returncode == 1 and "runs already" in again.stderr
    for _ in range(2):
        subprocess.run([STACK_COMMAND, "stop", "--dir", directory], check=True)
    assert processes_with(str(directory)) == []


def test_run_hands_on_the_exit_code(directory):
    done = subprocess.run([STACK_COMMAND, "run", "--only", "postgres", "--dir", directory, "--",
                           "bash", "-c", 'psql -Atc "SELECT 6 * 7"; exit 9'], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (9, "42\n")
