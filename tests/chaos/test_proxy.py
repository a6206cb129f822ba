"""Each fault of the proxy does what it says, to what is there and what comes, and is gone when healed."""

import os
import socket
import threading
import time

import pytest

from proxy import Proxy
from conftest import room, time_limit, wait_until    # noqa: F401

LONG_S = 10
SHORT_S = 0.3


class Pair:
    """A client and a server's side of one connection through the proxy."""

    def __init__(self, port, listener):
        self.client = socket.create_connection(("127.0.0.1", port), LONG_S)
        self.server, _ = listener.accept()
        for side in (self.client, self.server):
            side.settimeout(LONG_S)

    def close(self):
        self.client.close()
        self.server.close()


class Place:
    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(LONG_S)
        self.proxy = Proxy(seed=1)
        self.port = self.proxy.listen("p", self.listener.getsockname()[1])
        self.pairs = []

    def pair(self):
        self.pairs.append(Pair(self.port, self.listener))
        return self.pairs[-1]

    def end(self):
        for pair in self.pairs:
            pair.close()
        self.proxy.end()
        self.listener.close()


@pytest.fixture
def place():
    place = Place()
    yield place
    place.end()


def receive(side, size):
    data = b""
    while len(data) < size and (more := side.recv(size - len(data))):
        data += more
    return data


def silent(side, seconds=SHORT_S):
    """Nothing comes, no end either."""
    side.settimeout(seconds)
    try:
        side.recv(1)
        return False
    except TimeoutError:
        return True
    finally:
        side.settimeout(LONG_S)


def was_reset(side):
    try:
        while side.recv(65536):
            pass
        return False
    except ConnectionResetError:
        return True


def refused(port):
    """A new connection is reset, be it before the client knows that it is there."""
    try:
        with socket.create_connection(("127.0.0.1", port), LONG_S) as client:
            return was_reset(client)
    except ConnectionResetError:
        return True


def ends(pair, direction):
    """(from, to)"""
    return (pair.client, pair.server) if direction == "up" else (pair.server, pair.client)


def exchange(pair):
    """Both directions work."""
    for sender, receiver in ((pair.client, pair.server), (pair.server, pair.client)):
        sender.sendall(b"hello")
        assert receive(receiver, 5) == b"hello"


def test_bytes_pass_unchanged_both_ways(place):
    pair = place.pair()
    data = os.urandom(3_000_000)
    for sender, receiver in (ends(pair, "up"), ends(pair, "down")):
        thread = threading.Thread(target=sender.sendall, args=[data])
        thread.start()
        assert receive(receiver, len(data)) == data
        thread.join()
    assert place.proxy.command("stats", "p") == ["1", "1", "3000000", "3000000"]


def test_an_end_passes_in_its_direction_alone_and_both_close_the_connection(place):
    pair = place.pair()
    pair.client.sendall(b"last")
    pair.client.shutdown(socket.SHUT_WR)
    assert receive(pair.server, 10) == b"last"
    pair.server.sendall(b"answer")
    assert receive(pair.client, 6) == b"answer"
    pair.server.close()
    assert pair.client.recv(1) == b""
    wait_until(lambda: place.proxy.connections("p") == 0)


def test_a_reset_passes(place):
    pair = place.pair()
    pair.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    pair.client.close()
    assert was_reset(pair.server)


def test_a_server_that_is_not_there(place):
    place.listener.close()
    assert refused(place.port)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_latency_with_jitter_delays_and_keeps_the_order(place, direction):
    pair = place.pair()
    place.proxy.command("latency", "p", direction, 100, 50)
    sender, receiver = ends(pair, direction)
    begun = time.monotonic()
    for byte in range(20):
        sender.sendall(bytes([byte]))
        time.sleep(0.002)               # a segment of its own, so with a jitter of its own
    assert receive(receiver, 20) == bytes(range(20))
    assert time.monotonic() - begun > 0.1
    # The other way is as fast as ever.
    begun = time.monotonic()
    receiver.sendall(b"x")
    assert sender.recv(1) == b"x" and time.monotonic() - begun < 0.1


def test_healed_latency_holds_nothing_up(place):
    pair = place.pair()
    place.proxy.command("latency", "p", "up", 60_000, 0)
    pair.client.sendall(b"x")
    assert silent(pair.server)
    place.proxy.heal("p")
    assert pair.server.recv(1) == b"x"


@pytest.mark.parametrize("direction", ["up", "down"])
def test_single_bytes(place, direction):
    pair = place.pair()
    place.proxy.command("slice", "p", direction, 1, 2000)
    sender, receiver = ends(pair, direction)
    sender.sendall(b"0123456789")
    pieces = []
    while sum(map(len, pieces)) < 10:
        pieces.append(receiver.recv(100))
    assert b"".join(pieces) == b"0123456789"
    # A busy machine may read two at once.
    assert len(pieces) > 5


def test_bandwidth_is_what_it_says(place):
    pair = place.pair()
    place.proxy.command("bandwidth", "p", "both", 200_000)
    begun = time.monotonic()
    pair.client.sendall(b"x" * 100_000)
    assert len(receive(pair.server, 100_000)) == 100_000
    assert 0.4 < time.monotonic() - begun < 3


@pytest.mark.parametrize("direction", ["up", "down"])
def test_stall_fills_the_senders_buffers_and_loses_nothing(place, direction):
    pair = place.pair()
    place.proxy.command("stall", "p", direction)
    sender, receiver = ends(pair, direction)
    sender.settimeout(SHORT_S)
    sent = 0
    with pytest.raises(TimeoutError):
        while True:
            sent += sender.send(b"x" * 65536)
    assert silent(receiver)
    # The other way goes on.
    receiver.sendall(b"y")
    sender.settimeout(LONG_S)
    assert sender.recv(1) == b"y"
    place.proxy.heal("p")
    assert len(receive(receiver, sent)) == sent
    exchange(pair)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_half_open_loses_bytes_and_the_end_in_one_direction(place, direction):
    pair = place.pair()
    place.proxy.command("drop", "p", direction)
    sender, receiver = ends(pair, direction)
    sender.sendall(b"lost")
    receiver.sendall(b"comes")
    assert receive(sender, 5) == b"comes"
    sender.shutdown(socket.SHUT_WR)
    assert silent(receiver)
    # Its peer is gone for long: healed, it learns.
    place.proxy.heal("p")
    assert was_reset(receiver)


def test_half_open_when_the_peer_vanishes(place):
    pair = place.pair()
    place.proxy.command("drop", "p", "up")
    pair.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    pair.client.close()
    assert silent(pair.server)
    # A host that does not know the connection answers bytes with a reset, which is not dropped: it goes down.
    pair.server.sendall(b"x")
    assert was_reset(pair.server)


def test_black_hole_for_old_and_new_connections(place):
    old = place.pair()
    place.proxy.command("drop", "p", "both")
    new = place.pair()
    for pair in (old, new):
        pair.client.sendall(b"x")
        pair.server.sendall(b"y")
        assert silent(pair.server) and silent(pair.client)
    old.client.close()
    assert silent(old.server)
    place.proxy.heal("p")
    assert was_reset(new.client) and was_reset(new.server) and was_reset(old.server)
    exchange(place.pair())


def test_a_connection_that_lost_nothing_survives_the_black_hole(place):
    pair = place.pair()
    place.proxy.command("drop", "p", "both")
    place.proxy.heal("p")
    exchange(pair)


def test_reset_hits_both_sides_of_all(place):
    pairs = [place.pair(), place.pair()]
    assert place.proxy.command("reset", "p") == ["2"]
    assert all(was_reset(side) for pair in pairs for side in (pair.client, pair.server))
    exchange(place.pair())


@pytest.mark.parametrize("direction", ["up", "down"])
def test_finish_is_a_clean_end_behind_what_is_on_its_way(place, direction):
    pair = place.pair()
    place.proxy.command("latency", "p", direction, 50, 0)
    sender, receiver = ends(pair, direction)
    sender.sendall(b"before")
    time.sleep(0.02)                    # well within the latency: the bytes are in the proxy
    place.proxy.command("finish", "p", direction)
    assert receive(receiver, 100) == b"before"
    # Nothing of what is sent later comes; the way back is open.
    sender.sendall(b"after")
    receiver.sendall(b"back")
    assert receive(sender, 4) == b"back"
    receiver.close()
    assert sender.recv(1) == b""


def test_refuse_hits_new_connections_alone(place):
    old = place.pair()
    place.proxy.command("refuse", "p")
    assert refused(place.port)
    exchange(old)
    place.proxy.heal("p")
    exchange(place.pair())


def test_another_target_for_new_connections(place):
    old = place.pair()
    with socket.create_server(("127.0.0.1", 0)) as other:
        place.proxy.command("target", "p", other.getsockname()[1])
        new = Pair(place.port, other)
        exchange(new)
        new.close()
    exchange(old)


def test_faults_are_of_one_port_alone(place):
    other = place.proxy.listen("q", place.listener.getsockname()[1])
    place.proxy.command("stall", "p", "both")
    pair = Pair(other, place.listener)
    exchange(pair)
    pair.close()


def test_many_connections_and_an_idle_proxy_uses_no_cpu(place):
    for pair in [place.pair() for _ in range(40)]:
        exchange(pair)
    place.proxy.command("stall", "p", "both")
    for pair in place.pairs:
        pair.client.close()             # hung up, and not to be noticed yet

    def used():
        with open(f"/proc/{place.proxy.process.pid}/stat") as stat:
            return sum(map(int, stat.read().rpartition(")")[2].split()[11:13]))
    before = used()
    time.sleep(0.5)                     # over this time it is measured
    assert used() - before < 10


@pytest.mark.parametrize("words", [["stall"], ["stall", "nobody", "up"], ["stall", "p", "sideways"], ["dance", "p", "up"],
                                   ["listen", "p", "1"]])
def test_a_wrong_command_is_refused(place, words):
    with pytest.raises(AssertionError, match="error"):
        place.proxy.command(*words)


def test_it_ends_with_its_owner(place):
    pair = place.pair()
    place.proxy.end()
    assert place.proxy.process.returncode == 0
    assert was_reset(pair.client)
    place.proxy = Proxy()
