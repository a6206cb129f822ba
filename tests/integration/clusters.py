"""Further Postgres servers for a test, and poolers: beside the stack's, small, and gone with the test."""

import contextlib
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile

import psycopg2
import psycopg2.extensions

from conftest import ROOT, die_with_parent, wait_until


def unprivileged():
    return pwd.getpwnam("postgres") if os.geteuid() == 0 else None


def become(user):
    if user is not None:
        os.setgroups([])
        os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    # Behind the change of user, which clears it.
    die_with_parent()


class Cluster:
    """A server of its own, made by initdb; everybody is trusted, over its Unix socket alone.

    settings are further ones; with a port it listens on 127.0.0.1 too.  With a primary, which runs, it is a copy of
    it by pg_basebackup: once started, a standby that streams from it.
    """

    def __init__(self, binaries, port=5432, primary=None, **settings):
        self.settings = {"listen_addresses": "", "port": port, "fsync": "off", "shared_buffers": "16MB", "dynamic_shared_memory_type": "mmap",
                         "max_connections": 20, **settings}
        self.env = {}
        self.binaries = pathlib.Path(binaries)
        (ROOT / "build/clusters").mkdir(parents=True, exist_ok=True)
        self.directory = pathlib.Path(tempfile.mkdtemp(dir=ROOT / "build/clusters", prefix="c"))
        self.data = self.directory / "data"
        self.user = unprivileged()
        if self.user is not None:
            os.chown(self.directory, self.user.pw_uid, self.user.pw_gid)
        self.process = None
        # Postgres names its socket by the port; the directory is its own.
        self.port = port
        if primary is None:
            self.run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
        else:
            self.run("pg_basebackup", "-D", self.data, "-d", primary.dsn(), "-R", "-c", "fast", "--no-sync")

    def run(self, program, *arguments):
        subprocess.run([self.binaries / program, *arguments], check=True, cwd=self.directory, stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=lambda: become(self.user))

    def start(self):
        self.process = subprocess.Popen(
            [self.binaries / "postgres", "-D", self.data, "-k", self.directory,
             *(f"--{name}={value}" for name, value in self.settings.items())], cwd=self.directory,
            env={**os.environ, **self.env},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(self.directory / "log", "ab"),
            preexec_fn=lambda: become(self.user))

        def answers():
            assert self.process.poll() is None, self.log()
            with contextlib.suppress(psycopg2.OperationalError):
                return self.execute("SELECT true")
        wait_until(answers, 30, "the server's answer")

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)
        self.process = None

    def kill(self):
        """kill -9 of all of its processes at once."""
        pid = self.process.pid
        self.process.send_signal(signal.SIGSTOP)
        for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self.process = None

    def dsn(self, database="postgres", user="postgres"):
        return f"host={self.directory} port={self.port} dbname={database} user={user}"

    def execute(self, sql, database="postgres"):
        """The rows, if there are any."""
        with contextlib.closing(psycopg2.connect(self.dsn(database))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall() if cursor.description else None

    def log(self):
        return (self.directory / "log").read_text(errors="replace")

    def give(self, name, text):
        """A file in its directory that it alone may read."""
        path = self.directory / name
        path.write_text(text)
        path.chmod(0o600)
        if self.user is not None:
            os.chown(path, self.user.pw_uid, self.user.pw_gid)
        return path

    def furnish(self):
        """The outbox, and a role "relay" for it."""
        for file in sorted((ROOT / "migrations/outbox").glob("*.up.sql")):
            self.execute(file.read_text())
        self.execute("CREATE ROLE relay LOGIN")
        self.execute("SELECT outbox.grant_relay('relay')")

    def become_standby(self):
        """Of no primary: it is in recovery, and stays so."""
        self.stop()
        (self.data / "standby.signal").touch()
        self.start()

    def remove(self):
        if self.process is not None:
            # Killed it would leave its shared memory to the machine.
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(30)
        shutil.rmtree(self.directory)


class Pooler:
    """A pgbouncer before a server: pooler.dsn(database) goes through it.  mode: session, transaction."""

    def __init__(self, server_dsn, mode):
        (ROOT / "build/clusters").mkdir(parents=True, exist_ok=True)
        self.directory = pathlib.Path(tempfile.mkdtemp(dir=ROOT / "build/clusters", prefix="b"))
        self.server = psycopg2.extensions.parse_dsn(server_dsn)
        user = unprivileged()
        (self.directory / "ini").write_text(f"""
[databases]
* = host={self.server["host"]} port={self.server["port"]}
[pgbouncer]
unix_socket_dir = {self.directory}
listen_port = {self.server["port"]}
auth_type = trust
auth_file = {self.directory}/users
pool_mode = {mode}
""")
        (self.directory / "users").write_text(f'"{self.server["user"]}" ""\n')
        if user is not None:
            os.chown(self.directory, user.pw_uid, user.pw_gid)
        self.process = subprocess.Popen(["/usr/sbin/pgbouncer", "-q", self.directory / "ini"], cwd=self.directory,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=open(self.directory / "log", "ab"), preexec_fn=lambda: become(user))

        def answers():
            assert self.process.poll() is None, (self.directory / "log").read_text()
            with contextlib.suppress(psycopg2.OperationalError):
                psycopg2.connect(self.dsn()).close()
                return True
        wait_until(answers, 20, "the pooler's answer")

    def dsn(self):
        return psycopg2.extensions.make_dsn(**{**self.server, "host": str(self.directory)})

    def remove(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.directory)


def closed_port():
    """A port on 127.0.0.1 on which nobody listens, and the socket that keeps it so while it lives."""
    keeper = socket.socket()
    keeper.bind(("127.0.0.1", 0))
    return keeper, keeper.getsockname()[1]
