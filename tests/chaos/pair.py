"""Two Postgres servers for a run, one the standby of the other, and a database on whichever is the primary."""

import contextlib
import shutil
import signal
import socket
import time

import psycopg2
import psycopg2.extensions

from clusters import Cluster
from conftest import Database

LIMIT_S = 30
POLL_S = 0.02


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait(condition, what):
    """wait_until() is for tests; this raises in any thread."""
    deadline = time.monotonic() + LIMIT_S
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {LIMIT_S} s in vain for {what}")
        time.sleep(POLL_S)
    return value


class Pair:
    """What is replicated goes through the port "replication" of the fault proxy."""

    def __init__(self, binaries, proxy):
        self.proxy = proxy
        self.servers = [Cluster(binaries, port=free_port(), listen_addresses="127.0.0.1", max_connections=100,
                                wal_keep_size="256MB") for _ in range(2)]
        self.primary = 0
        self.servers[0].start()
        self.port = proxy.listen("replication", self.servers[0].port)
        self.make_standby()

    def make_standby(self):
        """Anew from the primary: the old data are of no use once the other was promoted."""
        server, primary = self.servers[1 - self.primary], self.servers[self.primary]
        self.proxy.command("target", "replication", primary.port)
        shutil.rmtree(server.data)
        server.run("pg_basebackup", "-D", server.data, "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-R",
                   "--checkpoint=fast", "--no-sync", "-X", "stream")
        server.start()
        self.wait_caught_up()

    def wait_caught_up(self):
        primary = self.servers[self.primary]

        def caught_up():
            rows = primary.execute("SELECT replay_lsn >= pg_current_wal_flush_lsn() - 100000 FROM pg_stat_replication")
            return rows and rows[0][0]
        wait(caught_up, "the standby")

    def promote(self, blind_s):
        """The standby sees nothing more for so long, then the primary dies and the standby takes its place."""
        self.wait_caught_up()
        self.proxy.command("drop", "replication", "both")
        time.sleep(blind_s)
        old, new = self.servers[self.primary], self.servers[1 - self.primary]
        old.process.send_signal(signal.SIGQUIT)
        old.process.wait(LIMIT_S)
        old.process = None
        self.primary = 1 - self.primary
        new.execute("SELECT pg_promote(true, 30)")
        self.proxy.heal("replication")

    def remove(self):
        for server in self.servers:
            with contextlib.suppress(ProcessLookupError):
                server.remove()


class PairDatabase(Database):
    """As a client with all hosts in its dsn sees it."""

    def __init__(self, stack, pair):
        super().__init__(stack)
        self.pair = pair

    def hosts(self, tcp_ports=None):
        servers = self.pair.servers
        return {"host": ",".join(["127.0.0.1"] * 2 if tcp_ports else [str(s.directory) for s in servers]),
                "port": ",".join(map(str, tcp_ports or [s.port for s in servers])), "target_session_attrs": "read-write"}

    def dsn(self, role="relay", tcp_ports=None, **more):
        return psycopg2.extensions.make_dsn(**self.hosts(tcp_ports), dbname=self.name, user=self.roles.get(role, role), **more)

    def server_dsn(self):
        return psycopg2.extensions.make_dsn(**self.hosts(), dbname="postgres", user="postgres")
