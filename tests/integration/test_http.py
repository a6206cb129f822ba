"""What is served over HTTP: it is true, soon, and nobody who asks disturbs the relay."""

import contextlib
import json
import re
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest

from conftest import ROOT, wait_until

SECRET = "hunter2"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Http:
    """A relay's server, asked by hand."""

    def __init__(self):
        self.port = free_port()
        self.listen = f"127.0.0.1:{self.port}"
        self.settings = {"listen": self.listen}

    def get(self, path, method="GET"):
        """Status, headers, body."""
        request = urllib.request.Request(f"http://{self.listen}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as answer:
            return answer.code, answer.headers, answer.read().decode()

    def json(self, path):
        return json.loads(self.get(path)[2])

    def serves(self):
        try:
            return self.get("/healthz")[0] == 200
        except urllib.error.URLError:
            return False

    def ready(self):
        return self.serves() and self.get("/readyz")[0] == 200

    def reason(self):
        """Why it is not ready; None if it is."""
        answer = self.json("/readyz")
        return None if answer["ready"] else "; ".join(answer["reasons"])

    def metrics(self):
        """{name with labels: value}"""
        lines = self.get("/metrics")[2].splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}

    def metric(self, name):
        return self.metrics().get("outbox_relay_" + name)

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=5)

    def send(self, data):
        """Raw bytes; what comes back until the other side closes."""
        with self.connect() as s:
            with contextlib.suppress(ConnectionError):
                s.sendall(data)
            answer = b""
            with contextlib.suppress(ConnectionError):
                while chunk := s.recv(65536):
                    answer += chunk
            return answer


@pytest.fixture
def http():
    return Http()


@pytest.fixture
def ready(relay, http):
    """A relay that publishes, and is asked by http."""
    running = relay(config={"http": http.settings})
    wait_until(http.ready)
    return running


def write(database, routing_key, count=1, exchange=""):
    database.execute("INSERT INTO outbox.message (exchange, routing_key, payload_text) SELECT %s, %s, %s "
                     "FROM generate_series(1, %s)", [exchange, routing_key, SECRET, count], role="writer")


# ---- what is said ----


def test_all_paths(database, broker, ready, http):
    ready.wait_log("http_listening", address=http.listen)
    queue = broker.queue()
    write(database, queue, 100)
    broker.take(queue, 100)
    stats = wait_until(lambda: (s := http.json("/stats"))["totals"]["recorded"] == 100 and s)
    assert stats["totals"]["published"] == stats["totals"]["confirmed"] == 100
    assert (stats["database"], stats["state"], stats["pid"]) == (database.name, "leading", ready.pid)
    assert stats["ready"] and stats["reasons"] == [] and stats["postgres"]["up"] and stats["broker"]["up"]
    assert 0 < stats["confirm_seconds"]["p50"] <= stats["commit_to_confirm_seconds"]["p99"] < 60
    assert http.json("/readyz") == {"ready": True, "reasons": [], "state": "leading"}
    assert http.json("/healthz")["healthy"]
    status, headers, page = http.get("/")
    assert status == 200 and "<html" in page
    assert re.match(r"default-src 'none'; script-src 'sha256-\S+'; style-src 'sha256-", headers["Content-Security-Policy"])
    metrics = http.metrics()
    for name, value in {"confirmed_total": 100, "leader": 1, "postgres_up": 1, "broker_up": 1, "broker_blocked": 0, "ready": 1,
                        "window_size": 10000, "inflight_messages": 0, "confirm_duration_seconds_count": 100,
                        "commit_to_confirm_seconds_count": 100, 'reconnects_total{peer="broker"}': 0}.items():
        assert metrics["outbox_relay_" + name] == value, name
    # By the clock of Postgres, when the row was written.
    database.execute("INSERT INTO outbox.message (routing_key, payload_text, created_at) VALUES (%s, 'x', now() - interval '1 hour')", [queue])
    wait_until(lambda: http.metric("commit_to_confirm_seconds_count") == 101)
    assert 3600 < http.metric("commit_to_confirm_seconds_sum") < 3700
    # HEAD is GET without the body, and there is nothing else.
    assert http.get("/stats", "HEAD")[0] == 200 and http.get("/stats", "HEAD")[2] == ""
    assert http.get("/stats", "POST")[0] == 405 and http.get("/etc/passwd")[0] == 404
    assert all("no-store" == http.get(path)[1]["Cache-Control"] for path in ("/", "/stats", "/nothing"))


def test_every_metric_is_documented_and_promtool_is_content(stack, database, broker, relay, http):
    documented = set(re.findall(r"^\| `(outbox_relay_\w+)` \| (gauge|counter|histogram) \|", (ROOT / "docs/metrics.md").read_text(), re.M))
    relay(config={"http": http.settings, "rabbitmq": {"urls": [stack.env["AMQPS_URL"]], "tls": {"ca_file": stack.env["TLS_CA_FILE"]}}})
    wait_until(lambda: http.ready() and http.metric("pending_messages") is not None)
    text = http.get("/metrics")[2]
    assert set(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.M)) == documented
    assert re.findall(r"^# HELP (\w+) \S", text, re.M) == re.findall(r"^# TYPE (\w+) ", text, re.M)
    done = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, capture_output=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    with socket.create_connection(("localhost", int(stack.env["AMQPS_PORT"]))) as plain:
        with ssl.create_default_context(cafile=stack.env["TLS_CA_FILE"]).wrap_socket(plain, server_hostname="localhost") as tls:
            expires = ssl.cert_time_to_seconds(tls.getpeercert()["notAfter"])
    assert http.metric("tls_certificate_expiry_timestamp_seconds") == expires
    assert http.json("/stats")["tls_certificate_expires_at"].startswith(time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(expires)))


def test_the_backlog_is_counted_and_the_newest_failures_are_named(stack, database, broker, relay, http):
    """Nothing can be sent: all waits, and is old."""
    database.execute("INSERT INTO outbox.message (routing_key, payload_text, created_at) VALUES ('k', 'x', now() - interval '1 hour')")
    write(database, "k", 41)
    running = relay(config={"http": http.settings, "rabbitmq": {"urls": [f"amqp://guest@127.0.0.1:{free_port()}"]}})
    wait_until(http.serves)
    assert wait_until(lambda: http.metric("pending_messages")) == 42
    assert 3600 <= http.metric("oldest_pending_age_seconds") < 3700
    assert http.metric("backlog_estimated") == 0 and http.metric("broker_up") == 0 and http.metric("leader") == 1
    running.kill()
    # Above 10,000 it is an estimate; and two are refused.
    queue = broker.queue()
    write(database, broker.prefix + "_nowhere")
    write(database, queue, exchange="missing")
    write(database, queue, 20000)
    database.execute("INSERT INTO outbox.dead (id, message_id, exchange, routing_key, payload_text, persistent, created_at, attempts, reason) "
                     "SELECT -n, gen_random_uuid(), 'x', 'k', %s, true, now(), 3, 'reason ' || n FROM generate_series(1, 12) AS n", [SECRET])
    relay(config={"http": http.settings})
    wait_until(http.serves)
    first = wait_until(lambda: (s := http.json("/stats"))["backlog"]["read_at"] and s)
    assert first["backlog"]["estimated"] and 15000 < first["backlog"]["pending"] < 25000

    def named():
        return {entry["exchange"]: entry for entry in http.json("/stats")["newest_delayed"]}

    wait_until(lambda: named().keys() == {"", "missing"}, 20)
    assert "NO_ROUTE" in named()[""]["reason"] and named()[""]["attempts"] >= 1
    assert "missing" in named()["missing"]["reason"]
    dead = http.json("/stats")["newest_dead"]
    assert len(dead) == 10 and dead[0]["reason"] == "reason 12" and dead[0]["attempts"] == 3 and dead[0]["died_at"]
    assert http.metric("dead_messages") == 12
    wait_until(lambda: http.metric("pending_messages") == 0 and http.metric("delayed_messages") == 44, 20)


@pytest.mark.parametrize("mode", ["listen", "poll"])
def test_a_backlog_that_cannot_be_counted_stops_nobody(database, broker, relay, http, mode):
    queue = broker.queue()
    database.execute(f"REVOKE EXECUTE ON FUNCTION outbox.backlog() FROM {database.roles['relay']}")
    running = relay(config={"http": http.settings, "wake": {"mode": mode, "poll_interval": "20ms"}})
    assert "permission denied" in running.wait_log("backlog_not_read")["error"]
    write(database, queue, 100)
    broker.take(queue, 100)
    wait_until(lambda: http.metric("recorded_total") == 100)
    # What is not known is absent.
    assert http.ready() and http.metric("pending_messages") is None
    assert len(running.log("backlog_not_read")) == 1 and not running.log("stepped_down")


# ---- readiness ----


def test_not_ready_within_a_second_of_the_brokers_death(stack, database, relay, ready, http):
    stack.kill("rabbitmq")
    wait_until(lambda: not http.ready(), 1)
    assert "not connected to RabbitMQ" in http.reason() and http.json("/healthz")["healthy"]
    assert http.metric("broker_up") == 0 and http.metric("leader") == 1 and http.metric("ready") == 0
    assert ":guest" not in http.get("/stats")[2] + http.get("/readyz")[2]
    probe = relay.command("probe", "ready", config={"http": http.settings})
    assert probe.returncode == 1 and probe.stderr.startswith("outbox-relay: not ready: not connected to RabbitMQ: ")
    assert relay.command("probe", "live", config={"http": http.settings}).returncode == 0
    stack.start("rabbitmq")
    wait_until(http.ready, 30)
    assert http.metric('reconnects_total{peer="broker"}') == 1


def test_not_ready_within_a_second_of_postgress_death(stack, database, ready, http):
    wait_until(lambda: http.metric("pending_messages") == 0)
    stack.kill("postgres")
    wait_until(lambda: not http.ready(), 1)
    assert "not connected to Postgres" in http.reason() and http.json("/healthz")["healthy"]
    # What waits is not known any more, and not called 0.
    assert http.metric("postgres_up") == http.metric("leader") == 0 and http.metric("pending_messages") is None
    stack.start("postgres")
    wait_until(http.ready, 30)
    assert http.metric('reconnects_total{peer="postgres"}') == 1


def test_not_ready_within_a_second_of_being_blocked(stack, database, broker, ready, http):
    queue = broker.queue()
    try:
        stack.rabbitmqctl("set_vm_memory_high_watermark", "0.000001")
        write(database, queue)
        ready.wait_log("broker_blocked")
        wait_until(lambda: not http.ready(), 1)
        assert "blocked by RabbitMQ: low on memory" in http.reason()
        assert http.metric("broker_blocked") == 1 and http.metric("broker_up") == 1
    finally:
        stack.rabbitmqctl("set_vm_memory_high_watermark", "0.4")
    ready.wait_log("broker_unblocked")
    wait_until(http.ready, 1)
    assert http.metric("broker_blocked") == 0


def test_a_standby_is_not_ready_and_takes_over(database, relay, ready, http):
    """The lead is taken away from its holder, who stands by until it is free."""
    superuser = database.connect("postgres", autocommit=True)
    lock = "'outbox.message'::regclass::oid::int4, -1"
    with superuser.cursor() as cursor:
        cursor.execute(f"""DO $$ BEGIN
            PERFORM pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4294967295 AND granted
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database());
            WHILE NOT pg_try_advisory_lock({lock}) LOOP PERFORM pg_sleep(0.001); END LOOP; END $$""")
    wait_until(lambda: not http.ready(), 1)
    wait_until(lambda: http.reason() == "standby: another relay leads")
    stats = http.json("/stats")
    assert stats["state"] == "standby" and stats["postgres"]["up"] and not stats["broker"]["up"]
    assert stats["backlog"]["read_at"] is None
    assert http.metric("leader") == 0 and http.metric("pending_messages") is None
    probe = relay.command("probe", "ready", config={"http": http.settings})
    assert probe.returncode == 1 and "standby: another relay leads" in probe.stderr
    assert relay.command("probe", "live", config={"http": http.settings}).returncode == 0
    with superuser.cursor() as cursor:
        cursor.execute(f"SELECT pg_advisory_unlock({lock})")
    wait_until(http.ready, 10)


def test_what_a_person_pauses_is_said(database, ready, http):
    database.query("SELECT outbox.pause('audit')", role="relay")
    wait_until(lambda: http.json("/stats")["paused"] == {"all": False, "exchanges": ["audit"]})
    database.query("SELECT outbox.pause()", role="relay")
    wait_until(lambda: http.json("/stats")["paused"]["all"])
    # On purpose, so not a reason to be called unwell.
    assert http.ready() and http.metric("paused") == 1 and http.metric("paused_exchanges") == 1
    database.query("SELECT outbox.resume()", role="relay")
    wait_until(lambda: http.metric("paused") == 0)


# ---- who asks ----


def test_no_answer_holds_a_secret(stack, database, broker, relay, http):
    relay(config={"http": http.settings, "postgres": {"dsn": database.dsn("relay", password=SECRET)},
                  "rabbitmq": {"urls": [f"amqp://guest:{SECRET}@127.0.0.1:{free_port()}/", stack.env["AMQP_URL"]]}})
    wait_until(http.serves)
    answers = [http.get("/readyz"), http.get("/stats")]
    write(database, "k", exchange="missing")
    database.execute("INSERT INTO outbox.message (routing_key, payload_text, headers) VALUES ('nowhere', %s, %s)",
                     [SECRET, json.dumps({"authorization": SECRET})])
    wait_until(lambda: len(http.json("/stats")["newest_delayed"]) == 2, 20)
    answers += [http.get(path) for path in ("/", "/stats", "/metrics", "/readyz", "/healthz", "/" + SECRET[:3])]
    assert not [text for _, headers, text in answers if SECRET in text or SECRET in str(headers)]
    assert re.match(r"amqp://127\.0\.0\.1:\d+/%2f$", http.json("/stats")["broker"]["url"])


class Hostile:
    """Clients that mean no good, until the end of the block."""

    def __init__(self, http):
        self.http = http
        self.sockets = []
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.drip)

    def __enter__(self):
        for _ in range(1000):
            with contextlib.suppress(OSError):
                s = socket.socket()
                s.setblocking(False)
                self.sockets.append(s)
                s.connect_ex(("127.0.0.1", self.http.port))
        self.thread.start()
        return self

    def drip(self):
        """A byte of a header from each, again and again."""
        data = b"GET /stats HTTP/1.1\r\nHost: x\r\nX-Slow: " + b"a" * 10000
        for byte in data:
            for s in self.sockets:
                with contextlib.suppress(OSError):
                    s.send(bytes([byte]))
            if self.done.wait(0.05):
                return

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()
        for s in self.sockets:
            s.close()


def peak_kib(running):
    return int(re.search(r"VmHWM:\s+(\d+)", open(f"/proc/{running.pid}/status").read()).group(1))


def test_hostile_clients_disturb_nobody(database, broker, ready, http):
    queue = broker.queue()
    before = peak_kib(ready)
    with Hostile(http):
        for _ in range(5):
            write(database, queue, 100)
            broker.take(queue, 100, timeout=5)
            # Who behaves is served meanwhile.
            start = time.monotonic()
            assert http.json("/healthz")["healthy"] and time.monotonic() - start < 2
        files = len(list((ROOT / f"/proc/{ready.pid}/fd").iterdir()))
        assert files < 100, "connections are bounded"
        # Too much of a header, of a path, of a body; no HTTP at all.
        answers = {name: http.send(data).split(b"\r\n")[0] for name, data in {
            "header": b"GET /stats HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 1000000 + b"\r\n\r\n",
            "headers": b"GET /stats HTTP/1.1\r\nHost: x\r\n" + b"X-A: b\r\n" * 100000 + b"\r\n",
            "path": b"GET /" + b"a" * 1000000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            "query": b"GET /healthz?" + b"a=b&" * 250000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            "post": b"POST /stats HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000000\r\n\r\n" + b"a" * 1000000,
            "chunked": b"PUT /stats HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n" + b"a" * 1000000,
            "none": b"SSH-2.0-OpenSSH\r\n\r\n"}.items()}
        assert not [name for name, line in answers.items() if b" 200 " in line], answers
    assert peak_kib(ready) - before < 8 * 1024
    assert ready.alive() and http.ready()
    assert http.send(b"GET /healthz?x=1 HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")


def test_a_taken_port_is_tried_again_and_nobody_waits_for_it(database, broker, relay, http):
    queue = broker.queue()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", http.port))
        other.listen()
        running = relay(config={"http": http.settings})
        assert "in use" in running.wait_log("http_listen_failed")["reason"]
        write(database, queue, 10)
        broker.take(queue, 10)
    running.wait_log("http_listening", timeout=12)
    assert http.metric("confirmed_total") == 10
    assert running.stop() == 0


# ---- probe ----


def test_probe(database, relay, ready, http):
    def probe(what, listen=http.listen):
        done = relay.command("probe", what, config={"http": {"listen": listen}})
        return done.returncode, done.stderr

    assert probe("ready") == (0, "") == probe("live")
    assert probe("ready", f":{http.port}")[0] == probe("ready", f"localhost:{http.port}")[0] == 0
    code, said = probe("ready", f"127.0.0.1:{free_port()}")
    assert code == 69 and "no relay listens at" in said and "remedy" in said
    code, said = probe("live", None)
    assert code == 78 and "http.listen is null" in said
    code, said = probe("well")
    assert code == 64 and "live or ready" in said
    # Nothing of it turns any more.
    ready.pause()
    code, said = probe("live")
    assert code == 1 and "no answer from" in said
    ready.resume()


@pytest.mark.parametrize("answer, said", [
    (b'{"ready":false,"reasons":["a \\"b\\" \\\\ c\\u0041\\u001bz","tw,o]"],"x":1}', 'a "b" \\ cA z; tw,o]'),
    (b'{"reasons":["cut \\', "cut \\"), (b'{"reasons":["cut \\u12', "cut u12"),
    (b'{"reasons":[' + b",,,," * 1000, ","), (b'{"reasons":[' + b'"' * 50000, ""), (b"no JSON", "no JSON")])
def test_a_probe_takes_whatever_answers(relay, http, answer, said):
    with socket.create_server(("127.0.0.1", http.port)) as server:
        def serve():
            client, _ = server.accept()
            with client, contextlib.suppress(OSError):
                client.recv(1000)
                client.sendall(b"HTTP/1.1 503 x\r\n\r\n" + answer)

        thread = threading.Thread(target=serve)
        thread.start()
        done = relay.command("probe", "ready", config={"http": http.settings})
        thread.join()
    assert done.returncode == 1 and done.stderr.startswith("outbox-relay: not ready: " + said)
