"""The Containerfile and the sidecar's manifest: what can be tried of them without a container engine."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest
import yaml

from conftest import RELAY_BINARY, ROOT, free_port, wait_until

CONTAINERFILE = (ROOT / "config/Containerfile").read_text()


def stages():
    return re.split(r"^FROM .*\n", CONTAINERFILE, flags=re.MULTILINE)[1:]


def test_what_is_copied_is_enough_to_build(tmp_path):
    """make finds all that it wants to install, in a tree that has what COPY names and nothing else."""
    for source in re.findall(r"^COPY (\S+) \S+$", stages()[0], re.MULTILINE):
        kind = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        (tmp_path / source).parent.mkdir(parents=True, exist_ok=True)
        kind(ROOT / source, tmp_path / source)
    done = subprocess.run(["make", "-n", "install", f"DESTDIR={tmp_path}/installed"], cwd=tmp_path, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "relay/main.o" in done.stdout and "outbox-relay.1" in done.stdout


def test_the_image_has_every_library_and_no_other():
    told = subprocess.run(["objdump", "-p", RELAY_BINARY], check=True, text=True, stdout=subprocess.PIPE).stdout
    needed = set()
    for library in re.findall(r"NEEDED +(\S+)", told):
        if library.startswith(("libasan", "libubsan", "libtsan")):
            continue
        owners = subprocess.run(["dpkg", "-S", f"*/{library}"], check=True, text=True, stdout=subprocess.PIPE).stdout
        needed.add(owners.partition(":")[0])
    words = re.search(r"apt-get install (.*?) && ", stages()[1].replace("\\\n", ""), re.DOTALL)[1].split()
    installed = {word for word in words if not word.startswith("-")}
    # Those of another release of Debian have other names.
    if "bookworm" in pathlib.Path("/etc/os-release").read_text():
        assert needed - {"libc6"} == installed - {"ca-certificates"}
    assert {"ca-certificates"} <= installed


@pytest.fixture
def sidecar():
    manifest = yaml.safe_load((ROOT / "config/kubernetes-sidecar.yaml").read_text())
    pod = manifest["spec"]["template"]["spec"]
    (container,) = pod["initContainers"]
    return pod, container


def test_the_sidecar_is_native_and_not_asked_whether_it_is_ready(sidecar):
    pod, container = sidecar
    assert container["restartPolicy"] == "Always" and "readinessProbe" not in container
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["exec"]["command"] == ["/usr/local/bin/outbox-relay", "probe", "live"]
    assert pod["securityContext"]["runAsNonRoot"] and container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"] | {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}} \
        == container["securityContext"]


def test_its_memory_is_that_of_the_formula(sidecar):
    """The defaults of the configuration, and messages of up to 1 MiB, as its comment says."""
    shown = subprocess.run([RELAY_BINARY, "check", "--print", "--config", "/dev/null"], check=True, text=True,
                           stdout=subprocess.PIPE, env={"PATH": os.environ["PATH"]}).stdout
    window = int(re.search(r"^publish.window: (\d+)", shown, re.MULTILINE)[1])
    in_flight = int(re.search(r"^publish.max_bytes_in_flight: (\d+)MiB", shown, re.MULTILINE)[1])
    limit = int(sidecar[1]["resources"]["limits"]["memory"].removesuffix("Mi"))
    assert 16 + window / 2048 + 1.25 * in_flight + 4 <= limit <= 1.5 * (16 + window / 2048 + 1.25 * in_flight + 4)


# What a container has: the host's system, read-only, its secrets where they are mounted, and no way back to root.
CONTAINER = """
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/secrets /run/program
cp -r "$SECRETS" /run/secrets/outbox-relay
cp "$BINARY" /run/program/outbox-relay
chown -R "$USER_ID" /run/secrets
mount -o remount,ro /run
mount -o remount,bind,ro /
cd /
exec setpriv --reuid "$USER_ID" --regid "$USER_ID" --clear-groups --bounding-set -all --no-new-privs \
	env -i PATH=/usr/bin "$@"
"""


def test_the_sidecar_runs_and_its_probes_answer(stack, database, broker, sidecar, tmp_path):
    """Its very arguments, environment and probes: no root, a read-only system, passwords in files; then the broker goes."""
    pod, container = sidecar
    user = stack.env["POSTGRES_PASSWORD_USER"]
    database.query("SELECT outbox.grant_relay(%s)", [user])
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "postgres-password").write_text(stack.env["POSTGRES_PASSWORD"])
    (secrets / "rabbitmq-password").write_text("guest")
    for file in secrets.iterdir():
        file.chmod(0o440)
    given = {entry["name"]: entry["value"] for entry in container["env"]}
    assert {os.path.dirname(value) for name, value in given.items() if name.endswith("_PASSWORD_FILE")} == \
        {mount["mountPath"] for mount in container["volumeMounts"]}
    given["OUTBOX_RELAY_POSTGRES_DSN"] = database.dsn(user, tcp=True)
    given["OUTBOX_RELAY_RABBITMQ_URLS"] = f"amqp://guest@127.0.0.1:{stack.env['AMQP_PORT']}/%2f"
    given["OUTBOX_RELAY_HTTP_LISTEN"] = f"127.0.0.1:{free_port()}"
    environment = [f"{name}={value}" for name, value in given.items()]
    outside = {**os.environ, "SECRETS": str(secrets), "BINARY": str(RELAY_BINARY),
               "USER_ID": str(pod["securityContext"]["runAsUser"])}

    def inside(*words):
        return ["unshare", "--mount", "bash", "-euc", CONTAINER, "container", *environment, "/run/program/outbox-relay",
                *words]

    def live():
        (_, *words) = container["livenessProbe"]["exec"]["command"]
        return subprocess.run(inside(*words), env=outside, stdin=subprocess.DEVNULL, capture_output=True).returncode

    queue = broker.queue()
    database.query("SELECT outbox.publish('', %s, 'hello')", [queue], role="writer")
    with open(tmp_path / "log", "wb") as log:
        running = subprocess.Popen(inside(*container["args"]), env=outside, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_until(lambda: live() == 0, 20, "the startup probe")
        assert broker.take(queue, 1)[0].body == b"hello"
        broker.connection.close()
        broker.connection = None
        stack.kill("rabbitmq")
        wait_until(lambda: "broker_lost" in (tmp_path / "log").read_text(), 20, "the loss of the broker")
        assert live() == 0
        running.terminate()
        assert running.wait(10) == 0
    finally:
        running.kill()
        running.wait()
        print((tmp_path / "log").read_text())
