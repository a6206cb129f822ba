"""The systemd units: hardened, accepted by systemd, and their very command lines run."""

import os
import re
import shutil
import subprocess

import pytest

from conftest import RELAY_BINARY, ROOT, wait_until
from manager import DYNAMIC_UID, Unit, manager, start_unit  # noqa: F401 (a fixture)

UNITS = ROOT / "systemd"
SERVICES = sorted(file.name for file in UNITS.glob("*.service"))
RELAYS = [("outbox-relay.service", None, "outbox-relay"), ("outbox-relay@.service", "orders", "orders")]
CONFIGURATION = 78


@pytest.mark.parametrize("service", SERVICES)
def test_exposure_is_at_most_1_5(service):
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=15", UNITS / service],
                          text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert float(re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)[1]) <= 1.5, done.stdout
    assert done.returncode == 0, done.stdout


def test_systemd_has_nothing_to_say_about_them(installed, tmp_path):
    """Unknown keys, bad values and a program that is not there would be told."""
    for file in (installed / "usr/local/lib/systemd/system").iterdir():
        text = file.read_text().replace("/usr/local/bin/outbox-relay", str(installed / "usr/local/bin/outbox-relay"))
        (tmp_path / file.name).write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *sorted(tmp_path.glob("*.*"))], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    (tmp_path / "outbox-relay.service").write_text("[Service]\nExecStart=/nowhere\nPrivateTemp=yes\n")
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", tmp_path / "outbox-relay.service"], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode != 0 and "PrivateTemp" in done.stdout


def test_the_relays_of_one_and_of_several_databases_differ_in_names_alone():
    one, several = (sorted({entry for entry in Unit(UNITS / name, instance).entries})
                    for name, instance, _ in RELAYS)
    differing = {key for _, key, _ in set(one) ^ set(several)}
    assert differing == {"Description", "ExecStart", "LoadCredential", "SetCredential", "User"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """What "make install" leaves, with the binary under test."""
    root = tmp_path_factory.mktemp("installed")
    subprocess.run(["make", "-s", "install", f"DESTDIR={root}"], cwd=ROOT, check=True, stdin=subprocess.DEVNULL)
    shutil.copy(RELAY_BINARY, root / "usr/local/bin/outbox-relay")
    # Whatever this test runs as: a user without an account has to get there.
    for directory in (root, *root.parents):
        if directory.stat().st_uid == os.getuid() and directory != directory.parent:
            directory.chmod(directory.stat().st_mode | 0o011)
    return root


@pytest.fixture
def root(installed, tmp_path):
    """A copy to configure."""
    root = tmp_path / "root"
    shutil.copytree(installed, root, symlinks=True)
    root.chmod(0o755)
    return root


@pytest.fixture
def service(root, manager, tmp_path):
    """service(NAME, INSTANCE) runs a unit's command line; ended after the test."""
    started = []

    def start(name, instance=None, **more):
        unit = Unit(root / "usr/local/lib/systemd/system" / name, instance)
        started.append(start_unit(unit, root, manager, tmp_path, **more))
        return started[-1]

    yield start
    for one in started:
        if one.alive():
            one.kill()
        print(f"---- stderr of {one.unit.name} (exit {one.process.returncode}) ----\n{one.stderr()[-8000:]}")


def credential(root, name, text):
    file = root / "etc/outbox-relay" / name
    file.write_text(text + "\n")
    file.chmod(0o600)


@pytest.fixture
def configured(stack, database, root):
    """configured(FILE, PREFIX) writes a configuration whose passwords are credentials; both servers ask for them."""
    database.query("SELECT outbox.grant_relay(%s)", [stack.env["POSTGRES_PASSWORD_USER"]])

    def write(file, prefix):
        dsn = database.dsn(stack.env["POSTGRES_PASSWORD_USER"], tcp=True)
        (root / f"etc/outbox-relay/{file}.yaml").write_text(
            f'postgres: {{dsn: "{dsn}", password_file: {prefix}postgres-password}}\n'
            f'rabbitmq: {{urls: ["amqp://guest@127.0.0.1:{stack.env["AMQP_PORT"]}/%2f"],'
            f' password_file: {prefix}rabbitmq-password}}\n'
            "http: {listen: null}\n")
        credential(root, f"{prefix}postgres-password", stack.env["POSTGRES_PASSWORD"])
        credential(root, f"{prefix}rabbitmq-password", "guest")

    return write


def status_of(pid):
    with open(f"/proc/{pid}/status") as file:
        return dict(re.findall(r"^(\w+):[ \t]*(.*?) *$", file.read(), re.MULTILINE))


@pytest.mark.parametrize("name, instance, file", RELAYS)
def test_the_units_command_line_delivers(database, broker, configured, service, manager, name, instance, file):
    """Ready, alive and truthful to the manager; passwords from credentials; as nobody in a read-only system."""
    configured(file, f"{instance}." if instance else "")
    queue = broker.queue()
    running = service(name, instance, environment={"WATCHDOG_USEC": "600000"})
    manager.wait("1", key="READY")
    manager.wait("publishing")
    database.query("SELECT outbox.publish('', %s, 'hello')", [queue], role="writer")
    assert broker.take(queue, 1)[0].body == b"hello"
    wait_until(lambda: len(manager.values("WATCHDOG")) >= 3, what="the watchdog to be fed")
    status = status_of(running.pid)
    assert status["Uid"].split() == [str(DYNAMIC_UID)] * 4 and status["Groups"] == ""
    assert {status[key] for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert running.log("configuration_warning") == []
    running.terminate()
    manager.wait("1", key="STOPPING")
    assert running.wait(int(running.unit.value("TimeoutStopSec"))) == 0
    assert manager.values("READY") == ["1"]


def test_the_status_is_the_truth(stack, configured, service, manager):
    """What "systemctl status" shows while a peer is away, and when it is back."""
    configured("outbox-relay", "")
    running = service("outbox-relay.service")
    at, _ = manager.wait("publishing")
    stack.kill("postgres")
    at, _ = manager.wait("no database", after=at)
    stack.start("postgres")
    manager.wait("publishing", after=at)
    assert running.stop() == 0


def test_a_credential_that_is_missing_is_told_by_name(configured, service, root):
    """And not tried for ever."""
    configured("outbox-relay", "")
    (root / "etc/outbox-relay/postgres-password").unlink()
    running = service("outbox-relay.service")
    assert running.wait() == CONFIGURATION
    assert str(CONFIGURATION) in running.unit.value("RestartPreventExitStatus").split()
    assert "/run/credentials/outbox-relay.service/postgres-password is empty" in running.stderr()


def test_the_same_configuration_serves_commands_that_root_types(configured, root):
    """The passwords lie beside it, so nobody needs the service's credentials to ask how it is."""
    configured("orders", "orders.")
    done = subprocess.run([RELAY_BINARY, "status", "--config", root / "etc/outbox-relay/orders.yaml"], text=True,
                          capture_output=True, env={"PATH": os.environ["PATH"]})
    assert (done.returncode, done.stderr) == (0, "") and "pending" in done.stdout


def test_a_reload_takes_the_new_configuration(configured, service, manager, root):
    configured("outbox-relay", "")
    running = service("outbox-relay.service")
    at, _ = manager.wait("publishing")
    with open(root / "etc/outbox-relay/outbox-relay.yaml", "a") as file:
        file.write("log: {level: debug}\n")
    running.reload()
    running.wait_log("reloaded")
    assert running.alive() and running.stop() == 0


def test_the_purge_runs_once_and_ends(stack, empty_database, service, root):
    """As its unit runs it: one step, then the end, with the password of a credential."""
    empty_database.migrate("inbox")
    empty_database.query("SELECT inbox.grant_consumer(%s)", [stack.env["POSTGRES_PASSWORD_USER"]])
    empty_database.execute("INSERT INTO inbox.message (consumer, message_id, claimed_at)"
                           " VALUES ('billing', 'old', now() - interval '31 days'), ('billing', 'new', now())")
    (root / "etc/outbox-relay/inbox.env").write_text(
        f"OUTBOX_RELAY_POSTGRES_DSN={empty_database.dsn(stack.env['POSTGRES_PASSWORD_USER'], tcp=True)}\n"
        "OUTBOX_RELAY_POSTGRES_PASSWORD_FILE=inbox-password\n")
    credential(root, "inbox-password", stack.env["POSTGRES_PASSWORD"])
    running = service("outbox-relay-inbox-purge.service")
    assert (running.wait(), running.stderr()) == (0, "")
    assert empty_database.query("SELECT message_id FROM inbox.message") == [("new",)]
