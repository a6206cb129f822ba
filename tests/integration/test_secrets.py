"""No password is ever written, shown or left where others of the host could read it.

Each password here has the word "leak" in it, so that a part of one is found as well as the whole.
"""

import os
import pathlib
import pwd
import re
import resource
import signal
import subprocess
import socket
import sys
import urllib.error
import urllib.request

import psycopg2.extensions
import pytest

from clusters import closed_port
from conftest import RELAY_BINARY, die_with_parent, wait_until

WELL, UNREACHABLE, PERMISSION, CONFIGURATION = 0, 69, 77, 78
WORDS = {    # what each command is given; one that is not here is called alone
    "message": ["show", "1"], "dead": ["list"], "replay": ["--all", "--yes"], "migrate": ["status"], "inbox": ["status"],
    "run": ["--until-empty"], "check": ["--print"], "pending": ["discard", "--all", "--dry-run"], "topology": ["check"],
    "probe": ["ready"]}
QUICK = ("check", "run", "status")


def commands():
    text = subprocess.run([RELAY_BINARY, "--help"], check=True, capture_output=True, text=True).stdout
    return re.findall(r"^  ([a-z]+) ", text.partition("Commands:\n")[2].partition("\nOptions:")[0], re.MULTILINE)


@pytest.fixture
def silent(tmp_path):
    """silent(text, env, commands): runs the commands with that file; all that they write, by command, and no leak."""
    def silent(text="", env=None, names=QUICK, codes=None):
        path = tmp_path / "relay.yaml"
        path.write_text(text)
        path.chmod(0o600)
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("OUTBOX_RELAY_", "PG"))}
        said = {}
        for name in names:
            for level in ({}, {"OUTBOX_RELAY_LOG_LEVEL": "debug", "OUTBOX_RELAY_LOG_FORMAT": "json"}):
                done = subprocess.run([RELAY_BINARY, name, *WORDS.get(name, []), "--config", path], text=True, check=False,
                                      env={**clean, "OUTBOX_RELAY_HTTP_LISTEN": "null", **level, **(env or {})}, timeout=30,
                                      stdin=subprocess.DEVNULL, capture_output=True, errors="replace")
                assert "leak" not in done.stdout + done.stderr, (name, done.stdout, done.stderr)
                assert codes is None or name not in codes or done.returncode in codes[name], (name, done.returncode, done.stderr)
                said[name] = done.stdout + done.stderr
        assert [p for p in tmp_path.rglob("*") if p.name.startswith("core")] == []
        return said
    return silent


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


# ---- what is written

BAD_DSNS = [
    "host=h password=leak1 leak2", "host=h password='leak1", "host=h password=leak1\\", "host=h passwort=leak1",
    "host=h password = leak1 = leak2", "password=leak1 port=leak2", "password=leak1 connect_timeout=x host=127.0.0.1 port=1",
    "postgresql://u:leak1/leak2@h/d", "postgresql://u:leak1@leak2@h:1/d", "postgresql://u:leak1%zzleak2@h/d",
    "postgresql://u:leak1%00@h/d", "postgresql://u:leak1?leak2@h/d", "postgresql://u:leak1#leak2@h:1/d", "postgresql://u:leak1 leak2@h/d",
    "postgresql://h/d?password=leak1&password2=leak2", "postgresql://h/d?passwort=leak1", "postgresql://[u:leak1@h/d",
    "postgresql://u:leak1@h:leak2/d", "postgresql://u:leak1@[::1/d", "postgres:/u:leak1@h/d", "u:leak1@h/d", "leak1",
    "postgresql://u:leak1@leak2@leak3@h/d", "postgresql://h1,u:leak1@leak2@h/d", "host=127.0.0.1 port=1 sslpassword=leak1 sslcert=/x sslkey=/y sslmode=require",
]
BAD_URLS = [
    "http://u:leak1@h", "amqp:/u:leak1@h", "amqp:u:leak1@h", "//u:leak1@h", "u:leak1@h", "amqp://u:leak1@leak2@h:1", "amqp://u:leak1/leak2@h",
    "amqp://u:leak1/leak2@h/v", "amqp://u:leak1#leak2@h", "amqp://u:leak1?leak2@h", "amqp://u:leak1?leak2=3@h", "amqp://u:leak1%zzleak2@h",
    "amqp://u:leak1%00@h", "amqp://u:leak1 leak2@h", "amqp://u:leak1@h:port", "amqp://u:leak1@h:99999", "amqp://u:leak1@[::1",
    "amqp://u:leak1@h/v/leak2", "amqp://u:" + "leak" * 300 + "@h", "amqp://u:leak1@h?heartbeat=leak2", "amqp://:leak1@h:1", "amqps://u:leak1@",
    "amqp://u:leak1@h/" + "v" * 300, "amqp://u:leak1:leak2@h:1/x/y",
]


@pytest.mark.parametrize("dsn", BAD_DSNS)
def test_a_dsn_that_cannot_be_read_is_not_repeated(silent, dsn):
    silent(env={"OUTBOX_RELAY_POSTGRES_DSN": dsn, "OUTBOX_RELAY_RABBITMQ_URLS": "amqp://127.0.0.1:1"}, names=("check", "status"))


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_url_that_cannot_be_read_is_not_repeated(silent, url):
    silent(env={"OUTBOX_RELAY_RABBITMQ_URLS": url.replace(",", "%2C"), "OUTBOX_RELAY_POSTGRES_DSN": "host=127.0.0.1 port=1"},
           names=("check",))


@pytest.mark.parametrize("text", [
    'postgres: {dsn: "host=h password=leak1\n', "postgres:\n  dsn: host=h password=leak1: leak2\n", "postgres: {dsn: [leak1]}\n",
    "postgres: {password: leak1}\n", "postgres: {dsn: 'password=leak1', dsn: 'password=leak2'}\n", "postgres: &leak1 {dsn: x}\n",
    "rabbitmq: {urls: 'amqp://u:leak1@h'}\n", "rabbitmq: {urls: {leak1: leak2}}\n", "rabbitmq: {urls: ['amqp://u:${leak1@h']}\n",
    "rabbitmq: {urls: ['amqp://u:${UNSET_${PW}@h']}\n", "postgres: {dsn: 'host=127.0.0.1 port=1 password=${PW}'}\n",
    "rabbitmq: {password: leak1}\n", "rabbitmq:\n  urls:\n  - amqp://u:leak1@h\n  -amqp://u:leak2@h\n", "rabbitmq: {urls: [!leak1 x]}\n",
])
def test_a_file_with_a_mistake_beside_a_password_does_not_repeat_it(silent, text):
    # Where a word that is no value (a key, an anchor) is a secret, nobody can know.
    structural = ("{leak1:" in text or "&leak1" in text or "!leak1" in text or "${leak1" in text)
    silent(text.replace("leak1", "LEA-K1") if structural else text, env={"PW": "leak3 leak4"}, names=("check", "run"))


@pytest.fixture
def users(stack, empty_database):
    """Both servers have a user of ours whose password is one to be found."""
    role = f"{empty_database.name}_secret"
    empty_database.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'leak-p@ss/w:rd'", role="postgres")
    empty_database.migrate()
    empty_database.query("SELECT outbox.grant_relay(%s)", [role])
    stack.rabbitmqctl("add_user", role, "leak-m@ss/w:rd")
    stack.rabbitmqctl("set_permissions", role, "", ".*", "")
    yield role
    stack.rabbitmqctl("delete_user", role)
    empty_database.execute(f"DROP OWNED BY {role}; DROP ROLE {role}", role="postgres")


# The stack trusts everybody but one role over TCP.
def scram(stack):
    return stack.env["POSTGRES_PASSWORD_USER"]


def test_no_command_says_a_password_whatever_fails(silent, stack, users, empty_database, tmp_path):
    def dsn(**more):
        return psycopg2.extensions.make_dsn(**{"host": "127.0.0.1", "port": stack.env["PGPORT"], "dbname": empty_database.name,
                                               "user": users, "password": "leak-p@ss/w:rd", **more})

    def url(scheme="amqp", port=None, password="leak-m%40ss%2Fw%3Ard", host="127.0.0.1"):
        return f"{scheme}://{users}:{password}@{host}:{port or stack.env['AMQP_PORT']}/%2f"

    def env(dsn, url, **more):
        return {"OUTBOX_RELAY_POSTGRES_DSN": dsn, "OUTBOX_RELAY_RABBITMQ_URLS": url, **more}

    everything = commands()
    keeper, closed = closed_port()
    with keeper:
        # All is well; each command, in each form that a password may come in.
        said = silent(env=env(dsn(), url()), names=everything, codes={"run": [WELL], "status": [WELL], "dead": [WELL]})
        assert "password=***" in said["check"] and ":***@" in said["check"]
        silent(env={**env(dsn(password=""), url(password="x").replace(":x@", "@")), "PGPASSWORD": "leak-p@ss/w:rd"})
        # With something to send, none is done before it was refused.
        empty_database.query("SELECT outbox.publish('', 'nowhere', 'x'::text)")
        # Refused by both, and by one.
        wrong = dsn(user=scram(stack), password="leak-wrong")
        said = silent(env=env(wrong, url()), names=everything, codes={"run": [PERMISSION], "status": [PERMISSION]})
        assert "password authentication failed" in said["status"]
        said = silent(env=env(dsn(), url(password="leak-wrong")), codes={"run": [PERMISSION]})
        assert "ACCESS_REFUSED" in said["run"]
        # Nobody there, by address and by name.
        for host, port in (("127.0.0.1", closed), ("leaves-nobody.invalid", 5432)):
            silent(env=env(dsn(host=host, port=port), url()), codes={"run": [UNREACHABLE], "status": [UNREACHABLE]})
            silent(env=env(dsn(), url(host=host, port=port)), names=("run",), codes={"run": [UNREACHABLE]})
        # TLS that fails: a server without it, a certificate that is not trusted, another name.
        silent(env=env(dsn(sslmode="require"), url()), codes={"status": [UNREACHABLE, CONFIGURATION]})
        for more in ({}, {"OUTBOX_RELAY_RABBITMQ_TLS_CA_FILE": stack.env["TLS_CA_FILE"],
                          "OUTBOX_RELAY_RABBITMQ_TLS_SERVER_NAME": "elsewhere.example"}):
            silent(env=env(dsn(), url("amqps", stack.env["AMQPS_PORT"], host="localhost"), **more), names=("run",),
                   codes={"run": [UNREACHABLE, PERMISSION, CONFIGURATION]})
        silent(env=env(dsn(), url("amqps")), names=("run",))
        # The other's port.
        silent(env=env(dsn(port=stack.env["AMQP_PORT"], connect_timeout=2), url(port=stack.env["PGPORT"])), names=("status",))
        # A file that holds too much, too little, or is none.
        secret = tmp_path / "password"
        for content in ("leak5\nleak6\n", "leak" * 300, "\n", "leak7"):
            secret.write_text(content)
            secret.chmod(0o644)
            silent(env=env(dsn(user=scram(stack)), url(), OUTBOX_RELAY_POSTGRES_PASSWORD_FILE=str(secret),
                           OUTBOX_RELAY_RABBITMQ_PASSWORD_FILE=str(secret)))
        silent(env=env(dsn(), url(), OUTBOX_RELAY_POSTGRES_DNS="password=leak8", OUTBOX_RELAY_RABBITMQ_PASSWORD="leak9"))


def test_a_running_relay_shows_no_password(stack, users, empty_database, broker, relay, tmp_path):
    """Neither ps, nor its status, nor Postgres's and RabbitMQ's lists of connections; a reload and a lost peer included."""
    queue = broker.queue()
    config = {"postgres": {"dsn": psycopg2.extensions.make_dsn(host="127.0.0.1", port=stack.env["PGPORT"], dbname=empty_database.name,
                                                               user=users, password="leak-p@ss/w:rd")},
              "rabbitmq": {"urls": [f"amqp://{users}:leak-m%40ss%2Fw%3Ard@127.0.0.1:{stack.env['AMQP_PORT']}/%2f"]},
              "log": {"level": "debug"}, "http": {"listen": f"127.0.0.1:{(port := free_port())}"}}
    running = relay(config=config)
    running.wait_log("leading")
    running.wait_log("broker_connected")
    empty_database.query("SELECT outbox.publish('', %s, 'x')", [queue])
    empty_database.query("SELECT outbox.publish('', 'nobody is there', 'leaked?', headers => '{\"h\": \"leaked?\"}')")
    broker.take(queue, 1)
    running.wait_log("message_delayed")
    for path in ("/", "/metrics", "/healthz", "/readyz", "/stats", "/nothing-here"):
        try:
            answer = urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5)
        except urllib.error.HTTPError as refusal:
            answer = refusal
        text = str(answer.headers) + answer.read().decode()
        # Neither a password nor a body or header of a message.
        assert text and "leak" not in text, path
    for name in ("cmdline", "status", "comm"):
        assert b"leak" not in pathlib.Path(f"/proc/{running.pid}/{name}").read_bytes()
    assert not empty_database.query("SELECT FROM pg_stat_activity WHERE pg_stat_activity::text LIKE '%leak%'"
                                    " AND application_name LIKE 'outbox-relay%'", role="postgres")
    assert "leak" not in stack.rabbitmqctl("list_connections", "name", "client_properties")
    empty_database.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [users], role="postgres")
    running.wait_log("database_lost")
    running.wait_log("leading", count=2)
    assert running.stop() == 0
    assert "leak" not in running.stderr() + running.stdout()


# ---- what is left where others could read it

def nobody():
    """Another process of the relay's own user must not read it either; root may."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def become(user):
    if user is not None:
        os.setgroups([])
        os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    die_with_parent()


def start(arguments, env, stderr):
    return subprocess.Popen([str(a) for a in arguments], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr,
                            cwd="/tmp", preexec_fn=lambda: become(nobody()))


def test_neither_a_core_dump_nor_proc_gives_a_password_away(tmp_path):
    binary = pathlib.Path("/tmp") / f"outbox-relay-{os.getpid()}"    # where nobody may execute it
    binary.write_bytes(RELAY_BINARY.read_bytes())
    binary.chmod(0o755)
    env = {"OUTBOX_RELAY_POSTGRES_DSN": "host=127.0.0.1 port=1 password=leak1", "OUTBOX_RELAY_HTTP_LISTEN": "null"}
    read = "import sys; sys.exit(b'leak1' not in open('/proc/%d/environ' % int(sys.argv[1]), 'rb').read())"
    try:
        with open(tmp_path / "stderr", "wb") as stderr:
            control = start([sys.executable, "-c", "import signal; print(); signal.pause()"], env, stderr)
            process = start([binary, "run"], env, stderr)
            wait_until(lambda: b"event=starting" in (tmp_path / "stderr").read_bytes())
        # The same user reads the environment of the one, and not of the other.
        asked = [start([sys.executable, "-c", read, p.pid], {}, subprocess.DEVNULL).wait() for p in (control, process)]
        assert asked == [0, 1]
        for name in ("mem", "maps"):
            asked = start([sys.executable, "-c", f"open('/proc/{process.pid}/{name}')"], {}, subprocess.DEVNULL).wait()
            assert asked != 0, name
        if os.geteuid() == 0:
            assert os.stat(f"/proc/{process.pid}/environ").st_uid == 0
            assert os.stat(f"/proc/{control.pid}/environ").st_uid == nobody().pw_uid
        # Both are killed by a signal that dumps core.
        dumped = []
        for p in (control, process):
            p.send_signal(signal.SIGABRT)
            _, status = os.waitpid(p.pid, 0)
            assert os.WTERMSIG(status) == signal.SIGABRT
            dumped.append(os.WCOREDUMP(status))
        # Where the host writes no core at all, the first is False as well.
        assert dumped[1] is False
        print("a core was written of the other process:", dumped[0])
    finally:
        binary.unlink()
        for core in pathlib.Path("/tmp").glob("core*"):
            if core.is_file() and nobody() and core.stat().st_uid == nobody().pw_uid:
                core.unlink()


@pytest.mark.parametrize("key,text", [
    ("postgres.dsn", "postgres: {dsn: 'host=h password=leak1'}"), ("postgres.dsn", "postgres: {dsn: 'postgresql://u:leak1@h/d'}"),
    ("rabbitmq.urls", "rabbitmq: {urls: ['amqp://u:leak1@h']}"), ("postgres.password_file", "postgres: {password_file: open}"),
    ("rabbitmq.password_file", "rabbitmq: {password_file: open}"),
    ("rabbitmq.tls.key_file", "rabbitmq: {tls: {cert_file: closed, key_file: open}}")])
def test_what_everybody_may_read_is_a_warning(tmp_path, key, text):
    for name, mode in (("open", 0o644), ("closed", 0o640)):
        (tmp_path / name).write_text("leak2")
        (tmp_path / name).chmod(mode)
    path = tmp_path / "relay.yaml"

    def check(text, mode):
        path.write_text(text + "\n")
        path.chmod(mode)
        done = subprocess.run([RELAY_BINARY, "check", "--config", path], check=False, capture_output=True, text=True)
        assert done.returncode == 0 and "leak" not in done.stdout + done.stderr
        return done.stderr

    warned = check(text, 0o644)
    assert f"warning: {key}" in warned and "everybody may read" in warned and "chmod" in warned
    assert check(text.replace("open", "closed"), 0o640) == ""
