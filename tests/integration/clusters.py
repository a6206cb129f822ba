"""Further Postgres servers for a test: beside the stack's, small, and gone with the test."""

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
    """A server of its own, made by initdb; everybody is trusted, over its Unix socket alone."""

    def __init__(self, binaries):
        self.binaries = pathlib.Path(binaries)
        (ROOT / "build/clusters").mkdir(parents=True, exist_ok=True)
        self.directory = pathlib.Path(tempfile.mkdtemp(dir=ROOT / "build/clusters", prefix="c"))
        self.data = self.directory / "data"
        self.user = unprivileged()
        if self.user is not None:
            os.chown(self.directory, self.user.pw_uid, self.user.pw_gid)
        self.process = None
        # Postgres names its socket by the port; the directory is its own.
        self.port = 5432
        self.run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")

    def run(self, program, *arguments):
        subprocess.run([self.binaries / program, *arguments], check=True, cwd=self.directory, stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=lambda: become(self.user))

    def start(self):
        self.process = subprocess.Popen(
            [self.binaries / "postgres", "-D", self.data, "-k", self.directory, "-c", "listen_addresses=", "-p", str(self.port),
             "-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "max_connections=20"], cwd=self.directory,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(self.directory / "log", "ab"),
            preexec_fn=lambda: become(self.user))

        def answers():
            assert self.process.poll() is None, (self.directory / "log").read_text()
            with contextlib.suppress(psycopg2.OperationalError):
                return self.execute("SELECT true")
        wait_until(answers, 30, "the server's answer")

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)
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

    def become_standby(self):
        """Of no primary: it is in recovery, and stays so."""
        self.stop()
        (self.data / "standby.signal").touch()
        self.start()

    def remove(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.directory)


def closed_port():
    """A port on 127.0.0.1 on which nobody listens, and the socket that keeps it so while it lives."""
    keeper = socket.socket()
    keeper.bind(("127.0.0.1", 0))
    return keeper, keeper.getsockname()[1]
