"""A link and a broker that does what a real one does once in a year."""

import socket

import pika
import pytest

from driving import drive, driver_binary    # noqa: F401


class Puppet:
    """A broker that says what a test makes it say, on one connection."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"amqp://127.0.0.1:{self.listener.getsockname()[1]}?connection_timeout=500"
        self.got = b""

    def say(self, channel, *methods):
        for method in methods:
            self.connection.sendall(pika.frame.Method(channel, method).marshal())

    def next_method(self):
        while True:
            used, frame = pika.frame.decode_frame(self.got)
            self.got = self.got[used:]
            if frame is None:
                received = self.connection.recv(65536)
                assert received, "closed"
                self.got += received
            elif isinstance(frame, pika.frame.Method):
                return frame.method

    def hear(self, method):
        """Read up to a method of this class."""
        while not isinstance(self.next_method(), method):
            pass

    def login(self, channels=1):
        self.accept()
        for channel in range(1, channels + 1):
            self.hear(pika.spec.Channel.Open)
            self.say(channel, pika.spec.Channel.OpenOk())
        for channel in range(1, channels + 1):
            self.hear(pika.spec.Confirm.Select)
            self.say(channel, pika.spec.Confirm.SelectOk())

    def accept(self):
        self.connection, _ = self.listener.accept()
        self.connection.settimeout(10)
        assert self.connection.recv(8, socket.MSG_WAITALL) == b"AMQP\0\0\x09\x01"
        spec = pika.spec
        self.say(0, spec.Connection.Start(0, 9, {}, "PLAIN", "en_US"))
        self.hear(spec.Connection.StartOk)
        self.say(0, spec.Connection.Tune(2047, 131072, 0))
        self.hear(spec.Connection.Open)
        self.say(0, spec.Connection.OpenOk())

    def open_channel(self):
        self.hear(pika.spec.Channel.Open)
        self.say(1, pika.spec.Channel.OpenOk())
        self.hear(pika.spec.Confirm.Select)
        self.say(1, pika.spec.Confirm.SelectOk())


@pytest.fixture
def puppet():
    puppet = Puppet()
    yield puppet
    puppet.listener.close()


def test_a_blocked_broker_may_take_its_time_to_open_a_channel(puppet, drive):
    """It reads nothing during an alarm; never a reason to connect again."""
    driver = drive([{"exchange": "", "routing_key": "x"}, {"id": 2, "exchange": "", "routing_key": "y"}],
                   "--url", puppet.url, "--heartbeat", 0)
    puppet.login()
    puppet.hear(pika.spec.Basic.Publish)
    puppet.say(0, pika.spec.Connection.Blocked("low on memory"))
    puppet.say(1, pika.spec.Channel.Close(406, "PRECONDITION_FAILED - for a test", 60, 40))
    puppet.hear(pika.spec.Channel.CloseOk)
    puppet.hear(pika.spec.Channel.Open)
    # Twice what it would be given otherwise.
    driver.reader.join(1.3)
    assert driver.names() == ["up", "blocked", "channel_closed", "named"]
    puppet.say(0, pika.spec.Connection.Unblocked())
    puppet.say(1, pika.spec.Channel.OpenOk())
    puppet.hear(pika.spec.Confirm.Select)
    puppet.say(1, pika.spec.Confirm.SelectOk())
    puppet.hear(pika.spec.Basic.Publish)
    puppet.say(1, pika.spec.Basic.Ack(1))
    puppet.hear(pika.spec.Connection.Close)
    puppet.say(0, pika.spec.Connection.CloseOk())
    driver.end()
    assert not driver.events("down")


def test_a_broker_that_does_not_open_a_channel_again_is_left(puppet, drive):
    driver = drive([{"exchange": "", "routing_key": "x"}, {"id": 2, "exchange": "", "routing_key": "y"}],
                   "--url", puppet.url, "--heartbeat", 0, "--exit-on-down")
    puppet.login()
    puppet.hear(pika.spec.Basic.Publish)
    puppet.say(1, pika.spec.Channel.Close(406, "PRECONDITION_FAILED - for a test", 60, 40))
    puppet.hear(pika.spec.Channel.Open)
    assert "open it again, in time" in driver.wait("down", timeout=5)[0]["text"]


def test_a_nack_leads_to_a_new_channel_once_all_is_settled(puppet, drive):
    spec = pika.spec
    # As many as a window of 1 lets through at once, and some more.
    driver = drive([{"exchange": "", "routing_key": "x", "count": 64 + 6}], "--url", puppet.url, "--heartbeat", 0,
                   "--window", 1)
    puppet.login()
    for _ in range(64):
        puppet.hear(spec.Basic.Publish)
    puppet.say(1, spec.Basic.Nack(1))
    driver.wait("nacked")
    # There is room for one, and it is not used.
    puppet.say(1, spec.Basic.Ack(64, multiple=True))
    assert isinstance(puppet.next_method(), spec.Channel.Close)
    assert len(driver.wait("confirmed", 63)) == 63
    puppet.say(1, spec.Channel.CloseOk())
    puppet.open_channel()
    for _ in range(6):
        assert isinstance(puppet.next_method(), spec.Basic.Publish)
    puppet.say(1, spec.Basic.Ack(6, multiple=True))
    puppet.hear(spec.Connection.Close)
    puppet.say(0, spec.Connection.CloseOk())
    driver.end()
    assert driver.names().count("up") == 1 and not driver.events("down")


def test_a_nack_among_what_is_never_confirmed_stops_nothing(puppet, drive):
    """The channel is kept when the wait takes too long."""
    spec = pika.spec
    driver = drive([{"exchange": "", "routing_key": "x", "count": 64 + 2}], "--url", puppet.url, "--heartbeat", 0,
                   "--window", 1)
    puppet.login()
    for _ in range(64):
        puppet.hear(spec.Basic.Publish)
    puppet.say(1, spec.Basic.Nack(1), spec.Basic.Ack(2))
    for _ in range(2):
        assert isinstance(puppet.next_method(), spec.Basic.Publish)
    puppet.say(1, spec.Basic.Ack(66, multiple=True))
    puppet.hear(spec.Connection.Close)
    puppet.say(0, spec.Connection.CloseOk())
    driver.end()


KEY = 1 << 32    # message.key: its upper half chooses the channel


def test_a_broker_that_refuses_a_second_channel_is_asked_for_one(puppet, drive):
    spec = pika.spec
    driver = drive([{"exchange": "", "routing_key": "x", "key": KEY, "count": 2}], "--url", puppet.url, "--heartbeat", 0,
                   "--channels", 4)
    puppet.accept()
    puppet.hear(spec.Channel.Open)
    puppet.say(1, spec.Channel.OpenOk())
    puppet.say(0, spec.Connection.Close(530, "NOT_ALLOWED - number of channels opened for user 'x' has reached the maximum", 20, 10))
    puppet.hear(spec.Connection.CloseOk)
    puppet.login()
    for _ in range(2):
        puppet.hear(spec.Basic.Publish)
    puppet.say(1, spec.Basic.Ack(2, multiple=True))
    puppet.hear(spec.Connection.Close)
    puppet.say(0, spec.Connection.CloseOk())
    driver.end()
    assert driver.names().count("up") == 1 and not driver.events("down")


def test_a_closed_channel_waits_for_the_others_but_not_for_ever(puppet, drive):
    spec = pika.spec
    driver = drive([{"exchange": "", "routing_key": "x", "key": KEY, "count": 4}], "--url", puppet.url, "--heartbeat", 0,
                   "--channels", 2)
    puppet.login(channels=2)
    for _ in range(4):
        puppet.hear(spec.Basic.Publish)
    puppet.say(1, spec.Channel.Close(406, "PRECONDITION_FAILED - for a test", 60, 40))
    puppet.hear(spec.Channel.CloseOk)
    puppet.say(2, spec.Basic.Ack(1))
    # The other's second message is not confirmed in time; what is said about it later is not believed.
    assert isinstance(puppet.next_method(), spec.Channel.Close)
    assert len(driver.wait("confirmed")) == 1
    driver.wait("channel_closed")
    puppet.say(2, spec.Basic.Ack(2), spec.Channel.CloseOk())
    for channel in (1, 2):
        puppet.hear(spec.Channel.Open)
    for channel in (1, 2):
        puppet.say(channel, spec.Channel.OpenOk())
        puppet.hear(spec.Confirm.Select)
        puppet.say(channel, spec.Confirm.SelectOk())
    # Three were open; the driver gives up the oldest.
    puppet.hear(spec.Basic.Publish)
    puppet.hear(spec.Basic.Publish)
    puppet.say(1, spec.Basic.Ack(1, multiple=True))
    puppet.say(2, spec.Basic.Ack(1, multiple=True))
    puppet.hear(spec.Connection.Close)
    puppet.say(0, spec.Connection.CloseOk())
    driver.end()
    assert len(driver.events("confirmed")) == 3 and not driver.events("down")


@pytest.mark.parametrize("end", ["close", "loss"])
def test_what_closed_a_channel_is_told_although_the_connection_ends(puppet, drive, end):
    """Or else each of the two would be published again with the other, and again."""
    spec = pika.spec
    driver = drive([{"exchange": "nowhere", "routing_key": "x"}, {"id": 2, "exchange": "", "routing_key": "x", "key": KEY}],
                   "--url", puppet.url, "--heartbeat", 0, "--channels", 2, "--exit-on-down")
    puppet.login(channels=2)
    for _ in range(2):
        puppet.hear(spec.Basic.Publish)
    puppet.say(1, spec.Channel.Close(404, "NOT_FOUND - no exchange 'nowhere' in vhost '/'", 60, 40))
    puppet.hear(spec.Channel.CloseOk)
    if end == "close":
        puppet.say(0, spec.Connection.Close(541, "INTERNAL_ERROR", 0, 0))
    else:
        puppet.connection.close()
    driver.wait("down")
    assert driver.names()[:4] == ["up", "channel_closed", "named", "down"]
    assert [e["exchange"] for e in driver.events("named")] == ["nowhere"]
