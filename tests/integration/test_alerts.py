"""config/prometheus-alerts.yaml and config/grafana-dashboard.json: each alert rings when it should and not otherwise, and every
expression finds its metrics in a Prometheus that scrapes real relays."""

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request

import pytest

from conftest import RELAY_BINARY, ROOT, die_with_parent, free_port, wait_until

ALERTS = ROOT / "config/prometheus-alerts.yaml"
DASHBOARD = ROOT / "config/grafana-dashboard.json"
OPERATIONS = ROOT / "docs/operations.md"

A = 'job="outbox-relay", instance="a"'
B = 'job="outbox-relay", instance="b"'
INFO = 'outbox_relay_build_info{%s, schema="outbox", database="orders", version="%s"}'

# Two hours, a sample every 30 s, in which nobody must be called: the two relays change places, a backlog comes and goes, there are
# old nacks and a scheduled message, connections are lost now and then, somebody pauses for half an hour, and upgrades.
ORDINARY = {
    'up{%s}' % A: "1x240", 'up{%s}' % B: "1x240", 'up{job="postgres", instance="c"}': "0x240",
    INFO % (A, 1): "1x240", INFO % (B, 2): "1x240",
    'outbox_relay_leader{%s}' % A: "1x100 0x140", 'outbox_relay_leader{%s}' % B: "0x100 1x140",
    'outbox_relay_broker_up{%s}' % A: "1x100 0x140", 'outbox_relay_broker_up{%s}' % B: "0x100 1x140",
    'outbox_relay_broker_blocked{%s}' % A: "0x50 1 0x190",
    'outbox_relay_postgres_up{%s}' % A: "1x50 0 1x190", 'outbox_relay_postgres_up{%s}' % B: "1x240",
    'outbox_relay_oldest_pending_age_seconds{%s}' % A: "0x40 30 60 120 310 0x60 _x140",
    'outbox_relay_pending_messages{%s}' % A: "0x40 50000-1000x40 0x20 _x140",
    'outbox_relay_delayed_messages{%s}' % A: "5x240",
    'outbox_relay_dead_messages{%s}' % A: "0x240", 'outbox_relay_dead_total{%s}' % A: "70x240",
    'outbox_relay_nacked_total{%s}' % A: "9x240", 'outbox_relay_returned_total{%s}' % A: "9x240",
    'outbox_relay_reconnects_total{%s, peer="broker"}' % A: "0x20 1x20 2x200",
    'outbox_relay_reconnects_total{%s, peer="postgres"}' % A: "0x240",
    'outbox_relay_confirm_duration_seconds_bucket{%s, le="0.01"}' % A: "0+299x240",
    'outbox_relay_confirm_duration_seconds_bucket{%s, le="2.5"}' % A: "0+300x240",
    'outbox_relay_confirm_duration_seconds_bucket{%s, le="+Inf"}' % A: "0+300x240",
    'outbox_relay_tls_certificate_expiry_timestamp_seconds{%s}' % A: "2592000x240",
    'outbox_relay_paused{%s}' % A: "0x20 1x60 0x160", 'outbox_relay_paused_exchanges{%s}' % A: "0x240",
    'outbox_relay_start_timestamp_seconds{%s}' % A: "1x30 2x30 3x180",
}

# What makes each ring, when it is still quiet, and when it rings, alone.
RING = {
    "OutboxRelayNotScraped": ({'up{%s}' % A: "1x2 0x20"}, "2m", "4m"),
    "OutboxRelayNoLeader": ({INFO % (A, 1): "1x40", INFO % (B, 1): "1x40", 'outbox_relay_leader{%s}' % A: "1x10 0x30",
                             'outbox_relay_leader{%s}' % B: "0x40"}, "6m", "8m"),
    "OutboxRelayPostgresDown": ({'outbox_relay_postgres_up{%s}' % A: "1x10 0x30"}, "6m", "8m"),
    "OutboxRelayBrokerDown": ({'outbox_relay_broker_up{%s}' % A: "1x10 0x30", 'outbox_relay_leader{%s}' % A: "1x40",
                               'outbox_relay_broker_up{%s}' % B: "0x40", 'outbox_relay_leader{%s}' % B: "0x40"}, "6m", "8m"),
    "OutboxRelayBrokerBlocked": ({'outbox_relay_broker_blocked{%s}' % A: "0x10 1x30"}, "6m", "8m"),
    "OutboxRelayMessagesWait": ({'outbox_relay_oldest_pending_age_seconds{%s}' % A: "0+30x60"}, "6m", "8m"),
    "OutboxRelayBacklogGrows": ({'outbox_relay_pending_messages{%s}' % A: "0+2000x80"}, "10m", "20m"),
    "OutboxRelaySlowConfirms": ({'outbox_relay_confirm_duration_seconds_bucket{%s, le="0.01"}' % A: "0+90x80",
                                 'outbox_relay_confirm_duration_seconds_bucket{%s, le="1"}' % A: "0+95x80",
                                 'outbox_relay_confirm_duration_seconds_bucket{%s, le="2.5"}' % A: "0+100x80",
                                 'outbox_relay_confirm_duration_seconds_bucket{%s, le="+Inf"}' % A: "0+100x80"}, "9m", "12m"),
    "OutboxRelayMessagesRefused": ({'outbox_relay_nacked_total{%s}' % A: "0x40", 'outbox_relay_returned_total{%s}' % A: "0x10 1x30"}, "6m", "12m"),
    "OutboxRelayDeadMessages": ({'outbox_relay_dead_messages{%s}' % A: "0x10 1x30"}, "6m", "8m"),
    "OutboxRelayMessagesDie": ({'outbox_relay_dead_total{%s}' % A: "0x10 0+20x30"}, "6m", "12m"),
    "OutboxRelayPaused": ({'outbox_relay_paused{%s}' % A: "0x200", 'outbox_relay_paused_exchanges{%s}' % A: "0x10 2x190"}, "1h", "70m"),
    "OutboxRelayRestarts": ({'outbox_relay_start_timestamp_seconds{%s}' % A: "1x10 2+1x30"}, "5m", "8m"),
    "OutboxRelayReconnects": ({'outbox_relay_reconnects_total{%s, peer="broker"}' % A: "0+1x60",
                               'outbox_relay_reconnects_total{%s, peer="postgres"}' % A: "0x60"}, "5m", "10m"),
    "OutboxRelayCertificateExpires": ({'outbox_relay_tls_certificate_expiry_timestamp_seconds{%s}' % A: "1210200x80"}, "15m", "30m"),
}


def program(name):
    found = shutil.which(name)
    assert found, f"{name} is missing: tests/support/install test"
    return found


def promtool(*arguments):
    done = subprocess.run([program("promtool"), *map(str, arguments)], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    return done.stdout


def rules():
    """By name: expression, severity, annotations.  promtool reads YAML for us; what we need of it is plain."""
    found = {}
    for text in re.split(r"^      - alert: ", ALERTS.read_text(), flags=re.MULTILINE)[1:]:
        fields = dict(re.findall(r"^ +(expr|summary|description|remedy|runbook): (.*)$", text, re.MULTILINE))
        found[text.split("\n", 1)[0]] = {**fields, "severity": re.search(r"labels: {severity: (\w+)}", text)[1]}
    return found


def expressions_of_dashboard():
    """(panel, expression), with what a person would choose at the top of the dashboard put in."""
    dashboard = json.loads(DASHBOARD.read_text())
    return [(panel["title"], target["expr"].replace("$job", "outbox-relay").replace("$instance", ".*").replace("$__rate_interval", "5s"))
            for panel in dashboard["panels"] for target in panel.get("targets", [])]


def test_promtool_accepts_the_rules():
    assert f"{len(rules())} rules found" in promtool("check", "rules", ALERTS)
    assert all(len(rule) == 6 and rule["severity"] in ("critical", "warning") for rule in rules().values())


def test_each_alert_rings_when_it_should_and_alone(tmp_path):
    assert RING.keys() == rules().keys()

    def ringing(names, at):
        return {"expr": 'count by (alertname) (ALERTS{alertstate="firing"})', "eval_time": at,
                "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in names]}

    def test(series, *expected):
        return {"interval": "30s", "promql_expr_test": list(expected),
                "input_series": [{"series": name, "values": values} for name, values in series.items()]}

    tests = [test(series, ringing([], quiet), ringing([name], loud)) for name, (series, quiet, loud) in RING.items()]
    tests.append(test(ORDINARY, {"expr": 'count_over_time(ALERTS{alertstate="firing"}[2h])', "eval_time": "2h", "exp_samples": []}))
    file = tmp_path / "alerts.json"
    file.write_text(json.dumps({"rule_files": [str(ALERTS)], "evaluation_interval": "30s", "tests": tests}))
    assert "SUCCESS" in promtool("test", "rules", file)


def test_what_is_to_be_typed_exists():
    """Of alerts, their rows in the guide and the page: each command, its verb and its options are in its help."""
    lines = [rule["remedy"] for rule in rules().values()] + re.findall(r"^\| `OutboxRelay.*", OPERATIONS.read_text(), re.MULTILINE)
    lines += re.findall(r'"(outbox-relay (?!on )[^"]*)"', (ROOT / "relay/http/page.html").read_text())
    typed = {words.strip() for line in lines for words in re.findall(r"outbox-relay((?: (?:--[a-z-]+|[a-z]+)(?!\w))+)", line)}
    assert {"doctor", "dead retry --all --dry-run", "probe live", "pause --exchange", "message show"} <= typed
    for command in sorted(typed):
        name, *words = command.split()
        done = subprocess.run([RELAY_BINARY, name, "--help"], text=True, capture_output=True)
        assert done.returncode == 0, command
        missing = [word for word in words if not re.search(rf"(?<![\w-]){word}(?![\w-])", done.stdout)]
        assert missing == [], (command, done.stdout)


def test_each_alert_has_its_row_in_the_operations_guide_and_leads_there():
    text = OPERATIONS.read_text()
    assert set(re.findall(r"^\| `(OutboxRelay\w+)` \|", text, re.MULTILINE)) == rules().keys()
    headings = {re.sub(r"[^\w\- ]", "", line).strip().lower().replace(" ", "-") for line in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}
    for name, rule in rules().items():
        page, _, anchor = rule["runbook"].partition("#")
        assert ROOT / page == OPERATIONS and anchor in headings, (name, rule["runbook"])


# ---- in a Prometheus, of real relays ----


class Prometheus:
    """Scrapes once a second, and lets no alert wait: "for" is taken out of the rules."""

    def __init__(self, directory, targets):
        rules_file = directory / "rules.yaml"
        rules_file.write_text(re.sub(r"^ +for: .*\n", "", ALERTS.read_text(), flags=re.MULTILINE))
        (directory / "prometheus.yml").write_text(json.dumps({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}, "rule_files": [str(rules_file)],
            "scrape_configs": [{"job_name": "outbox-relay", "static_configs": [{"targets": targets}]}]}))
        port = free_port()
        self.base = f"http://127.0.0.1:{port}/api/v1/"
        self.log = directory / "prometheus.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([program("prometheus"), f"--config.file={directory}/prometheus.yml",
                                             f"--storage.tsdb.path={directory}/tsdb", f"--web.listen-address=127.0.0.1:{port}"],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent)

    def ask(self, what, **parameters):
        try:
            with urllib.request.urlopen(self.base + what + "?" + urllib.parse.urlencode(parameters), timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as e:
            if e.code == 503:
                return None  # it is starting
            pytest.fail(f"{parameters}: {e.read().decode()}")
        except OSError:
            assert self.process.poll() is None, self.log.read_text()
            return None

    def query(self, expression):
        """[(labels, value)], without those that are not a number."""
        data = self.ask("query", query=expression)
        return [(sample["metric"], float(sample["value"][1])) for sample in data["result"] if sample["value"][1] != "NaN"] if data else []

    def alerts(self):
        """The firing ones by name: labels and annotations."""
        data = self.ask("alerts") or {"alerts": []}
        return {alert["labels"]["alertname"]: alert for alert in data["alerts"] if alert["state"] == "firing"}


@pytest.fixture
def prometheus(tmp_path):
    started = []

    def start(*targets):
        started.append(Prometheus(tmp_path, targets))
        return started[0]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


def test_every_expression_finds_its_metrics_in_a_real_run(stack, database, broker, relay, prometheus):
    """A leader over TLS and a standby; some messages, one that is returned and one that dies; then RabbitMQ is killed."""
    ports = [free_port(), free_port()]
    broker.queue(exchange=(exchange := broker.exchange()))
    unbound = broker.exchange("unbound")

    def start(port, **rabbitmq):
        return relay(config={"http": {"listen": f"127.0.0.1:{port}"}, "retry": {"max_attempts": 1}, "rabbitmq": rabbitmq})

    start(ports[0], urls=[stack.env["AMQPS_URL"]], tls={"ca_file": stack.env["TLS_CA_FILE"]}).wait_log("leading")
    start(ports[1]).wait_log("standby")
    leader, standby = (f"127.0.0.1:{port}" for port in ports)
    monitor = prometheus(leader, standby)
    wait_until(lambda: len(monitor.query("up == 1")) == 2, 20, "both relays to be scraped")

    def write():
        database.execute("INSERT INTO outbox.message (exchange, routing_key, payload_text) SELECT %s, 'k', 'x' FROM generate_series(1, 50)", [exchange], role="writer")
        return True

    database.execute("INSERT INTO outbox.message (exchange, routing_key, payload_text) VALUES (%s, 'k', 'x')", [unbound], role="writer")

    # Rates need messages within their few seconds; those of a comparison are looked at without it.
    wanted = {f"panel {title} {n}": expression for n, (title, expression) in enumerate(expressions_of_dashboard())}
    wanted.update({name: re.sub(r" (==|>|<) \d+( \* \d+)?", "", rule["expr"]) for name, rule in rules().items()})
    found = {}

    def all_found():
        write()
        for name, expression in wanted.items():
            if name not in found and (result := monitor.query(expression)):
                found[name] = result
        return found.keys() == wanted.keys()

    try:
        wait_until(all_found, 25)
    finally:
        assert found.keys() == wanted.keys(), {name: wanted[name] for name in wanted.keys() - found.keys()}

    # What rings bears the labels that its annotations name.
    def rings(*names):
        alerts = monitor.alerts()
        return alerts if set(names) <= alerts.keys() else None

    alerts = wait_until(lambda: rings("OutboxRelayDeadMessages", "OutboxRelayMessagesRefused"), 15, "the dead message to ring")
    assert alerts["OutboxRelayDeadMessages"]["labels"]["instance"] == leader
    assert alerts["OutboxRelayDeadMessages"]["annotations"]["summary"] == "dead messages: 1"
    assert alerts.keys() == {"OutboxRelayDeadMessages", "OutboxRelayMessagesRefused"}
    stack.kill("rabbitmq")
    alerts = wait_until(lambda: rings("OutboxRelayBrokerDown"), 15, "the lost broker to ring")
    assert alerts["OutboxRelayBrokerDown"]["labels"]["instance"] == leader
    texts = [text for alert in alerts.values() for text in alert["annotations"].values()]
    assert [text for text in texts if "<no value>" in text or "rror" in text or "on  " in text] == []
    for name, rule in rules().items():
        used = set(re.findall(r"\$labels\.(\w+)", str(rule)))
        assert all(used <= labels.keys() for labels, _ in found[name]), (name, used, found[name])
    [(labels, leaders)] = found["OutboxRelayNoLeader"]
    assert leaders == 1 and labels["database"] == database.name and labels["schema"] == "outbox"
