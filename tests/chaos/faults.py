"""The kinds of faults.  begin(place, random) begins one and returns what heals it.

Kinds of one lane never meet, those of different lanes do: that is the point.  weight says how often a kind comes
among those of its lane, seconds between which bounds it lasts.  Peers are ill while a fault with peer stands.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import time
import uuid

import pika
import psycopg2

from place import EVERYTHING, NOT_FLAKY, WINDOW

KINDS = {}
HEAL_LIMIT_S = 60
RETRY_S = 0.1
# Beyond the lease, and beyond the time after which a standby ends the session of a leader that stands still.
LEASE_S = (11, 14)


class Missed(Exception):
    """The fault could not begin: what it is to hit is not there."""


@dataclasses.dataclass
class Kind:
    name: str
    lane: str
    begin: object
    seconds: tuple
    weight: int
    peer: bool
    servers: str        # only with these (place.py), or None: with all


def kind(name, lane, seconds=(0.2, 2), weight=4, peer=True, servers=None):
    def register(begin):
        KINDS[name] = Kind(name, lane, begin, seconds, weight, peer, servers)
        return begin
    return register


def nothing():
    pass


def until_done(action):
    """Healing must succeed; other lanes may have taken its server away for a while."""
    deadline = time.monotonic() + HEAL_LIMIT_S
    while True:
        try:
            return action()
        except (pika.exceptions.AMQPError, psycopg2.Error, OSError, subprocess.SubprocessError):
            if time.monotonic() > deadline:
                raise
        time.sleep(RETRY_S)


# ---- the network --------------------------------------------------------------------------------------


def network(name, *words, seconds=(0.2, 4), weight=3, stands=True, numbers=None):
    """A command of the proxy, towards Postgres and towards RabbitMQ.  numbers: bounds of the arguments."""
    for server in ("pg", "mq"):
        def begin(place, random, server=server):
            # The leader is the one that matters; both at once is what a broken switch does.
            leader = place.relays.leader()
            ports = random.choice([[leader], [leader], [0, 1], [1 - leader]])
            arguments = [random.randint(*bounds) for bounds in numbers or []]
            names = [name for port in ports for name in place.links[server, port]]
            for name in names:
                place.proxy.command(words[0], name, *words[1:], *arguments)

            def heal():
                for name in names:
                    place.proxy.heal(name)
            return heal if stands else nothing
        kind(f"{server}_{name}", server, seconds, weight)(begin)


SHORT = (0.1, 0.5)
# Some longer than the lease and two heartbeats, so that the relay has to find out by itself.
LONG = (1, 13)
network("latency_up", "latency", "up", numbers=[(5, 200), (0, 100)])
network("latency_down", "latency", "down", numbers=[(5, 200), (0, 100)])
network("slices_up", "slice", "up", numbers=[(1, 3), (20, 200)])
network("slices_down", "slice", "down", numbers=[(1, 3), (20, 200)])
network("narrow_up", "bandwidth", "up", numbers=[(2_000, 100_000)])
network("narrow_down", "bandwidth", "down", numbers=[(2_000, 100_000)])
network("stall_up", "stall", "up", seconds=LONG, weight=2)
network("stall_down", "stall", "down", seconds=LONG, weight=2)
network("half_open_up", "drop", "up", seconds=LONG, weight=2)
network("half_open_down", "drop", "down", seconds=LONG, weight=2)
network("black_hole", "drop", "both", seconds=LONG, weight=2)
network("reset", "reset", seconds=SHORT, weight=5, stands=False)
network("refuse", "refuse", seconds=(0.2, 3))
network("end_up", "finish", "up", seconds=SHORT, weight=5, stands=False)
network("end_down", "finish", "down", seconds=SHORT, weight=5, stands=False)


# ---- relays -------------------------------------------------------------------------------------------


def relay_kinds(which, number_of):
    @kind(f"{which}_killed", "relays", SHORT, weight=6)
    def killed(place, random):
        place.relays.signal(number_of(place), signal.SIGKILL)
        return nothing

    @kind(f"{which}_restarted", "relays", SHORT, weight=4)
    def restarted(place, random):
        place.relays.signal(number_of(place), signal.SIGTERM)
        return nothing

    def stop(place):
        process = place.relays.signal(number_of(place), signal.SIGSTOP)
        return lambda: process.relay.process.send_signal(signal.SIGCONT)

    @kind(f"{which}_stopped_briefly", "relays", (0.5, 5), weight=3)
    def stopped_briefly(place, random):
        return stop(place)

    @kind(f"{which}_stopped", "relays", LEASE_S, weight=1)
    def stopped(place, random):
        return stop(place)


relay_kinds("leader", lambda place: place.relays.leader())
relay_kinds("standby", lambda place: 1 - place.relays.leader())


# ---- one server of each -------------------------------------------------------------------------------


def single(name, seconds, weight):
    return kind(name, "servers", seconds, weight, servers="single")


def down_and_up(server, verb):
    def begin(place, random):
        getattr(place.stack, verb)(server)
        return lambda: place.stack.start(server)
    return begin


def freeze(server):
    def begin(place, random):
        place.stack.pause(server)
        return lambda: place.stack.resume(server)
    return begin


single("postgres_restarted", SHORT, weight=4)(down_and_up("postgres", "stop"))
single("postgres_killed", SHORT, weight=3)(down_and_up("postgres", "kill"))
single("postgres_away", (2, 10), weight=2)(down_and_up("postgres", "stop"))
single("postgres_frozen", (0.5, 6), weight=2)(freeze("postgres"))
single("postgres_frozen_beyond_the_lease", LEASE_S, weight=1)(freeze("postgres"))
single("rabbitmq_restarted", SHORT, weight=1)(down_and_up("rabbitmq", "stop"))
single("rabbitmq_killed", SHORT, weight=2)(down_and_up("rabbitmq", "kill"))
single("rabbitmq_frozen", (0.5, 6), weight=2)(freeze("rabbitmq"))
single("rabbitmq_frozen_beyond_heartbeats", LEASE_S, weight=1)(freeze("rabbitmq"))


@single("postgres_immediate", SHORT, weight=3)
def postgres_immediate(place, random):
    pid = int(place.stack.env["POSTGRES_PID"])
    os.kill(pid, signal.SIGQUIT)
    deadline = time.monotonic() + HEAL_LIMIT_S
    while pathlib.Path(f"/proc/{pid}/stat").exists() and time.monotonic() < deadline:
        if pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            break
        time.sleep(RETRY_S)
    return lambda: place.stack.start("postgres")


@single("rabbitmq_application_stopped", (0.5, 3), weight=1)
def rabbitmq_application_stopped(place, random):
    place.rabbitmqctl("stop_app")
    return lambda: place.rabbitmqctl("start_app")


@single("memory_alarm", (1, 6), weight=2)
def memory_alarm(place, random):
    place.rabbitmqctl("set_vm_memory_high_watermark", "0.000001")
    return lambda: place.rabbitmqctl("set_vm_memory_high_watermark", "0.4")


@single("disk_alarm", (1, 6), weight=2)
def disk_alarm(place, random):
    place.rabbitmqctl("set_disk_free_limit", "900000GB")
    return lambda: place.rabbitmqctl("set_disk_free_limit", "50MB")


@single("connections_closed_by_broker", SHORT, weight=2)
def connections_closed_by_broker(place, random):
    place.rabbitmqctl("close_all_connections", "chaos")
    return nothing


@kind("sessions_terminated", "servers", SHORT, weight=5)
def sessions_terminated(place, random):
    with contextlib.closing(place.connect("postgres")) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = %s",
                       [place.database.roles["relay"]])
        if cursor.fetchone()[0] == 0:
            raise Missed()
    return nothing


# ---- several ------------------------------------------------------------------------------------------


def several(name, seconds, weight):
    return kind(name, "servers", seconds, weight, servers="cluster")


NODES = ["rabbitmq1", "rabbitmq2", "rabbitmq3"]


def node_kind(name, seconds, weight, begin, heal):
    """One of the three at a time: the others go on."""
    @several(f"node_{name}", seconds, weight)
    def act(place, random):
        node = random.choice(NODES)
        place.stack.act(begin, node)
        return lambda: place.stack.act(heal, node)


node_kind("killed", (0.5, 5), 3, "kill", "start")
node_kind("restarted", (0.5, 5), 2, "stop", "start")
node_kind("frozen", (1, 12), 2, "pause", "resume")
node_kind("cut_off", (2, 10), 4, "partition", "rejoin")


@several("standby_promoted", SHORT, weight=5)
def standby_promoted(place, random):
    """It lacks the last moment.  What the relay published meanwhile and the standby does not know comes again."""
    before = place.consumers["audit"].count + place.consumers["lossy"].count
    place.pair.promote(random.uniform(0.1, 1.5))
    published = place.consumers["audit"].count + place.consumers["lossy"].count - before
    place.history.add("failover")
    place.history.add("death", what="failover", window=WINDOW + published)
    return place.pair.make_standby


# ---- the database's contents --------------------------------------------------------------------------


def held_open(place, *statements):
    """A transaction that stays open; healing commits it."""
    connection = place.connect()
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)

    def heal():
        # The server may have been restarted meanwhile.
        with contextlib.suppress(psycopg2.Error):
            connection.commit()
        connection.close()
    return heal


@kind("old_snapshot", "data", (2, 10), weight=3, peer=False)
def old_snapshot(place, random):
    """With an xid: a transaction in progress in every snapshot that the relay takes."""
    return held_open(place, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT pg_current_xact_id()")


@kind("sent_locked", "data", (0.5, 5), weight=3)
def sent_locked(place, random):
    return held_open(place, "SET lock_timeout = '5s'", "LOCK TABLE outbox.sent IN SHARE ROW EXCLUSIVE MODE")


@kind("delayed_locked", "data", (0.5, 5), weight=2)
def delayed_locked(place, random):
    return held_open(place, "SET lock_timeout = '5s'", "LOCK TABLE outbox.delayed IN SHARE ROW EXCLUSIVE MODE")


def write_by_hand(place, rows):
    """rows: (key, sequence, destination, exchange, headers, payload) in one transaction."""
    number = f"hand-{uuid.uuid4()}"
    messages = [[str(uuid.uuid4()), key, sequence, destination, None] for key, sequence, destination, *_ in rows]
    connection = place.connect("writer")
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute("INSERT INTO chaos_transaction VALUES (%s)", [number])
        for message, (key, _, _, exchange, headers, payload) in zip(messages, rows):
            cursor.execute("INSERT INTO outbox.message (message_id, exchange, routing_key, payload_text, ordering_key, headers)"
                           " VALUES (%s, %s, 'order', %s, %s, %s)",
                           [message[0], exchange, payload, key, headers and json.dumps(headers)])
        try:
            connection.commit()
        except psycopg2.Error:
            place.history.add("unknown", transaction=number, messages=messages)
            raise
    place.history.add("committed", transaction=number, messages=messages)


def poison(name, headers):
    """A message that can never be sent, one behind it of its key, and its neighbours."""
    @kind(f"poison_{name}", "data", SHORT, weight=3, peer=False)
    def begin(place, random):
        key = f"poison-{uuid.uuid4()}"
        write_by_hand(place, [(None, 0, "good", "chaos.good", None, "before"),
                              (key, 1, "poison", "chaos.good", headers, "poison"),
                              (key, 2, "good", "chaos.good", None, "behind"),
                              (None, 0, "poison", "chaos.good", headers, "poison")])
        return nothing


# The broker closes the channel with 406: a CC header has to be an array.
poison("406", {"CC": "no array"})
# No frame holds it.
poison("header_too_large", {"large": "x" * 200_000})


# ---- the broker's contents ----------------------------------------------------------------------------


def at_broker(place, action):
    with place.channel() as channel:
        return action(channel)


@kind("exchange_deleted", "topology", (0.5, 6), weight=4, peer=False)
def exchange_deleted(place, random):
    at_broker(place, lambda channel: channel.exchange_delete("chaos.flaky"))
    return lambda: at_broker(place, lambda channel: place.declare_exchange(channel, "flaky"))


@kind("binding_deleted", "topology", (0.5, 6), weight=4, peer=False)
def binding_deleted(place, random):
    at_broker(place, lambda channel: place.unbind(channel, "routed"))
    return lambda: at_broker(place, lambda channel: place.bind(channel, "routed"))


# Not in a cluster: RabbitMQ 3.10 makes a queue for good unavailable when a node that missed its end comes back after it
# was declared anew.
@kind("queue_deleted", "topology", (0.5, 4), weight=3, peer=False, servers="single")
def queue_deleted(place, random):
    at_broker(place, lambda channel: channel.queue_delete("lossy"))
    return lambda: at_broker(place, lambda channel: place.declare_queue(channel, "lossy"))


@kind("permission_withdrawn", "topology", (0.5, 5), weight=2, peer=False, servers="single")
def permission_withdrawn(place, random):
    """A channel that is open keeps what it knows; the next one is refused with 403."""
    place.permit(NOT_FLAKY)
    return lambda: place.permit(EVERYTHING)


@kind("queue_overflows", "topology", (1, 8), weight=3, peer=False)
def queue_overflows(place, random):
    place.consumers["full"].paused.set()
    return place.consumers["full"].paused.clear
