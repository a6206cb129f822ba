"""The page at "/" in a real Chromium: against real relays and servers, and for each state against a server that says what we want.

Pictures of every state stay in build/page.
"""

import base64
import hashlib
import http.server
import json
import re
import shlex
import threading
import time
import urllib.error
import urllib.request

import pytest

from browser import Browser
from conftest import ROOT, free_port, wait_until

PAGE = ROOT / "relay/http/page.html"
PICTURES = ROOT / "build/page"
MARKUP = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
DRESSES = [(1280, "light"), (1280, "dark"), (360, "light"), (360, "dark")]
TAB, ENTER = "\ue004", "\ue007"

# The ratio of luminance between each text and what is painted behind it (WCAG 2.2, 1.4.3), and what sticks out sideways.
LOOK = """
    const parse = colour => colour.match(/[\\d.]+/g).map(Number);
    const luminance = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
    const behind = element => {
        for (let e = element; e; e = e.parentElement) {
            const colour = parse(getComputedStyle(e).backgroundColor);
            if (colour.length < 4 || colour[3] === 1) return colour;
        }
        return [255, 255, 255];
    };
    const poor = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    let seen = 0;
    for (let node; node = walker.nextNode();) {
        const element = node.parentElement;
        if (!node.data.trim() || !element.checkVisibility() || element.closest("script, .unseen, noscript")) continue;
        const [a, b] = [luminance(parse(getComputedStyle(element).color)), luminance(behind(element))];
        const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
        seen++;
        if (ratio < 4.5) poor.push(node.data.trim().slice(0, 40) + ": " + ratio.toFixed(2));
    }
    return {seen, poor, wide: document.documentElement.scrollWidth - document.documentElement.clientWidth};
"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium):
    """Afterwards: nothing was asked for elsewhere, and the console is empty but for a relay that did not answer."""
    chromium.dress(1280)
    chromium.go("about:blank")
    chromium.log("browser"), chromium.requests()
    yield chromium
    address = chromium.run("return location.origin")
    asked = {url for url in chromium.requests() if not url.startswith(("data:", "about:"))}
    assert {url.split("?")[0] for url in asked} <= {address + "/", address + "/stats"}, asked
    complaints = [entry["message"] for entry in chromium.log("browser")]
    assert [c for c in complaints if not re.search(r"/stats .*Failed to load resource", c)] == []


def headline(browser):
    return browser.text("#headline")


def wait_headline(browser, text, timeout=20):
    wait_until(lambda: text in headline(browser), timeout, f"{text!r} on the page; it says {headline(browser)!r}")


def take_pictures(browser, name):
    """In every dress; each is readable and as wide as the window."""
    for width, scheme in DRESSES:
        browser.dress(width, scheme=scheme)
        browser.picture(PICTURES / f"{name}-{width}-{scheme}.png")
        look = browser.run(LOOK)
        assert look["seen"] > 40 and look["poor"] == [] and look["wide"] <= 0, (name, width, scheme, look)
    browser.dress(1280)


# ---- real relays ----


@pytest.fixture
def watched(database, relay):
    """Start a relay with an HTTP port and return it, with its address as .page."""
    def start(**config):
        port = free_port()
        running = relay(config={"http": {"listen": f"127.0.0.1:{port}"}, **config})
        running.page = f"http://127.0.0.1:{port}/"
        wait_until(lambda: ready(running) is not None, 10, "an answer")
        return running
    return start


def ready(running):
    """None when it does not answer."""
    try:
        with urllib.request.urlopen(running.page + "readyz", timeout=5) as answer:
            return answer.status == 200
    except urllib.error.HTTPError:
        return False
    except OSError:
        return None


def write(database, exchange, routing_key="k", messages=1):
    database.execute("INSERT INTO outbox.message (exchange, routing_key, payload_text) SELECT %s, %s, 'x' FROM generate_series(1, %s)",
                     [exchange, routing_key, messages], role="writer")


def test_a_healthy_relay_says_so(database, broker, watched, browser):
    broker.queue(exchange=(exchange := broker.exchange()))
    running = watched()
    wait_until(lambda: ready(running), 10, "ready")
    browser.go(running.page)
    wait_headline(browser, "Well")
    write(database, exchange, messages=200)
    wait_until(lambda: browser.text("#totals [data-key=confirmed] dd") == "200", 10, "200 confirmed")
    wait_until(lambda: browser.text("#pending") == "0", 10, "nothing pending")
    assert browser.text("#database") == database.name
    assert browser.text("#postgres strong") == "✓ connected" and browser.text("#broker strong") == "✓ connected"
    assert browser.text("#relay strong") == "● leads"
    assert browser.run("return document.title") == f"✓ Well – {database.name}"
    assert browser.run("return document.querySelector('link[rel=icon]').href").startswith("data:image/svg+xml,")
    # Charts have data, and say it in words.
    wait_until(lambda: "most" in browser.label(browser.find("#charts svg[role=img]")[2]), 5, "a latency")
    charts = browser.find("#charts svg[role=img]")
    assert [browser.role(chart) for chart in charts] == ["image"] * 4
    labels = [browser.label(chart) for chart in charts]
    assert [label.split(",")[0] for label in labels] == ["Pending", "Confirmed a second", "Publish to confirm", "Commit to confirm"]
    assert all(re.search(r"now \S+.*, least .*, most .*", label) for label in labels), labels
    take_pictures(browser, "well")


def test_a_pause_shows_and_what_the_page_says_to_type_ends_it(database, relay, watched, browser):
    running = watched()
    wait_until(lambda: ready(running), 10, "ready")
    browser.go(running.page)
    wait_headline(browser, "Well")
    for words, options in (("Paused: it's $HOME", ["--exchange", "it's $HOME"]), ("Paused", [])):
        assert relay.command("pause", *options, "--reason", "a test").returncode == 0
        wait_until(lambda: headline(browser) == words, 10, words)
        typed = shlex.split(browser.text("#troubles code"))
        assert typed[0] == "outbox-relay" and relay.command(*typed[1:]).returncode == 0
        wait_headline(browser, "Well")


def test_the_page_changes_within_a_second_of_readyz(stack, database, broker, watched, browser):
    running = watched()
    wait_until(lambda: ready(running), 10, "ready")
    browser.go(running.page)
    wait_headline(browser, "Well")
    # The page notes itself when it changes.
    browser.run("""new MutationObserver(() => { window.changedAt ??= Date.now() / 1000; })
        .observe(document.getElementById("headline"), {childList: true, characterData: true, subtree: true})""")
    stack.kill("rabbitmq")
    wait_until(lambda: ready(running) is False, 10, "not ready")
    saw = time.time()
    changed = wait_until(lambda: browser.run("return window.changedAt"), 5, "the page to change")
    assert changed - saw < 1
    assert headline(browser) == "Not well: RabbitMQ cannot be used"
    assert browser.text("#troubles code") == "outbox-relay doctor" and browser.text("#troubles .why")
    assert browser.text("#broker strong") == "✗ not connected"
    assert browser.run("return document.title").startswith("✗ Not well")
    take_pictures(browser, "broker-down")
    stack.start("rabbitmq")
    wait_headline(browser, "Well", 20)


def test_names_and_reasons_are_shown_as_text(database, broker, watched, browser):
    missing, unbound = MARKUP, broker.exchange("unbound" + MARKUP)
    running = watched(retry={"max_attempts": 1})
    write(database, missing, MARKUP)
    write(database, unbound, MARKUP)
    browser.go(running.page)
    wait_until(lambda: browser.run("return document.querySelectorAll('#dead-list li').length"), 15, "the dead message")
    wait_until(lambda: browser.run("return document.querySelectorAll('#delayed-list li').length"), 15, "the delayed message")
    assert MARKUP in browser.text("#dead-list .top") and unbound in browser.text("#dead-list .top")
    assert MARKUP in browser.text("#delayed-list .top")
    assert re.fullmatch(r"outbox-relay dead show \d+", browser.text("#dead-list code"))
    assert browser.run("return document.querySelectorAll('img, main script').length") == 0
    assert "taken" not in browser.run("return document.title")
    take_pictures(browser, "dead-and-delayed")


def test_a_relay_that_does_not_answer_is_not_shown_as_well(database, watched, browser):
    running = watched()
    wait_until(lambda: ready(running), 10, "ready")
    browser.go(running.page)
    wait_headline(browser, "Well")
    running.pause()
    wait_headline(browser, "does not answer", 8)
    assert "old" in browser.text("#detail") and "ago" in browser.text("#updated")
    running.resume()
    wait_headline(browser, "Well", 10)


def test_the_server_allows_the_page_its_own_script_alone(watched):
    with urllib.request.urlopen(watched().page) as answer:
        policy, page = answer.headers["Content-Security-Policy"], answer.read().decode()
    assert page == PAGE.read_text()
    directives = {name: sources for name, *sources in (part.split() for part in policy.split(";"))}
    assert directives["default-src"] == ["'none'"] and directives["script-src"] == [sha256(page, "script")]


# ---- every state ----


def sha256(page, element):
    [content] = re.findall(f"<{element}>(.*?)</{element}>", page, re.DOTALL)
    return "'sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() + "'"


def rfc3339(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03}Z"


STARTED_AT = rfc3339(time.time() - 93600)


def stats(**over):
    """What a relay says that is well, but for what is given."""
    now = time.time()
    return {
        "version": "0.1.0", "started_at": STARTED_AT, "now": rfc3339(now), "state": "leading", "ready": True, "reasons": [],
        "schema": "outbox", "database": "orders", "host": "app-7", "pid": 4711,
        "postgres": {"up": True, "reason": None},
        "broker": {"up": True, "blocked": False, "blocked_reason": None, "reason": None, "url": "amqp://rabbit.example:5672/shop"},
        "backlog": {"pending": 12, "estimated": False, "oldest_pending_age_seconds": 0.04, "delayed": 3, "dead": 0, "read_at": rfc3339(now)},
        "paused": {"all": False, "exchanges": []}, "window": {"size": 10000, "in_flight": 17, "unrecorded": 40},
        "totals": {"published": 1234567, "confirmed": 1234550, "nacked": 2, "returned": 0, "republished": 17, "delayed": 5, "dead": 0,
                   "recorded": 1234510, "reconnects_postgres": 0, "reconnects_broker": 1},
        "rates": {"confirmed_per_second": 1280.5 + 400 * (now % 7 - 3)}, "confirm_seconds": {"p50": 0.0012 + now % 3 / 5000, "p99": 0.009},
        "commit_to_confirm_seconds": {"p50": 0.0019, "p99": 0.012}, "tls_certificate_expires_at": None,
        "newest_delayed": [], "newest_dead": [], **over}


def entry(number, **more):
    return {"id": number, "exchange": "billing", "routing_key": "invoice.created", "attempts": 10, "reason": "312 NO_ROUTE: no queue is bound", **more}


@pytest.fixture
def pretend():
    """A server of the page whose /stats answers pretend.say: a dictionary to put over stats(), bytes as they are, or a status."""
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            say = pretend.say
            status = say if isinstance(say, int) else 200
            if self.path == "/":
                body, kind, status = PAGE.read_bytes(), "text/html; charset=utf-8", 200
            else:
                body, kind = say if isinstance(say, bytes) else json.dumps(stats(**say) if isinstance(say, dict) else {}).encode(), "application/json"
            self.send_response(status)
            page = PAGE.read_text()
            self.send_header("Content-Security-Policy", f"default-src 'none'; script-src {sha256(page, 'script')}; style-src "
                             f"{sha256(page, 'style')}; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'")
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    pretend = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    pretend.daemon_threads = True
    pretend.say = {}
    pretend.page = f"http://127.0.0.1:{pretend.server_port}/"
    threading.Thread(target=pretend.serve_forever, daemon=True).start()
    yield pretend
    pretend.shutdown()
    pretend.server_close()


DOWN = {"up": False, "blocked": False, "blocked_reason": None, "reason": None, "url": "amqp://rabbit.example:5672/shop"}
STANDBY = {"state": "standby", "ready": False, "reasons": ["standby: another relay leads"], "broker": DOWN, "newest_dead": [],
           "backlog": {"pending": 0, "estimated": False, "oldest_pending_age_seconds": None, "delayed": 0, "dead": 0, "read_at": None}}
STATES = {
    "well": ({}, "well", "Well", None),
    "standby": (STANDBY, "calm", "Standby", None),
    "starting": ({**STANDBY, "state": "starting", "reasons": ["starting"], "postgres": {"up": None}}, "calm", "Starting", None),
    "stopping": ({"state": "stopping", "ready": False, "reasons": ["stopping"]}, "calm", "Stopping", None),
    "postgres": ({**STANDBY, "state": "starting", "postgres": {"up": False, "reason": "connection to server at \"10.0.0.5\", port 5432 failed: Connection refused"}},
                 "bad", "Not well: Postgres cannot be used", "outbox-relay doctor"),
    "blocked": ({"ready": False, "reasons": ["RabbitMQ has blocked us: low on disk"],
                 "broker": {**DOWN, "up": True, "blocked": True, "blocked_reason": "low on disk"}},
                "bad", "Not well: RabbitMQ takes no messages", "rabbitmqctl status"),
    "unknown": ({"ready": False, "reasons": ["the loop has not turned for 21 s"]}, "bad", "Not well: Nothing is published", "outbox-relay doctor"),
    "paused": ({"paused": {"all": True, "exchanges": []}}, "look", "Paused", "outbox-relay resume"),
    "paused-exchange": ({"paused": {"all": False, "exchanges": ["it's $(here)"]}}, "look", "Paused: it's $(here)",
                        "outbox-relay resume --exchange 'it'\\''s $(here)'"),
    "dead": ({"backlog": {**stats()["backlog"], "dead": 2}, "newest_dead": [entry(9, died_at="2026-11-20T10:00:00Z"),
                                                                         entry(7, died_at="2026-11-20T09:00:00Z")]},
             "look", "Messages are dead", "outbox-relay dead list"),
    "waiting": ({"backlog": {**stats()["backlog"], "pending": 2345678, "estimated": True, "oldest_pending_age_seconds": 4000}},
                "look", "Messages wait for long", "outbox-relay status"),
    "delayed": ({"newest_delayed": [entry(12, attempts=2, next_attempt_at=None)]}, "look", "Messages are refused", "outbox-relay message show 12"),
    "expires": ({"tls_certificate_expires_at": rfc3339(time.time() + 86400 * 5.5)}, "look", "The TLS certificate expires in 5 days", "outbox-relay doctor"),
    "failing": (500, "gone", "The relay does not answer", "outbox-relay probe live"),
    "well again": ({}, "well", "Well", None),
    "garbage": (b'{"now": 1}', "gone", "The relay does not answer", "outbox-relay probe live"),
}


def test_each_state_has_its_words(pretend, browser):
    """One after the other, on the same page."""
    browser.go(pretend.page)
    for state, (say, tone, words, command) in STATES.items():
        pretend.say = say
        wait_headline(browser, words)
        if state in ("standby", "failing"):
            # Tones that no real relay of these tests has.
            take_pictures(browser, f"state-{state}")
        else:
            browser.picture(PICTURES / f"state-{state.replace(' ', '-')}.png")
        assert headline(browser) == words
        assert browser.run("return document.getElementById('state').dataset.tone") == tone, state
        assert browser.run("return document.querySelector('#troubles code')?.textContent ?? null") == command, state
        assert words in browser.text("#spoken") and words in browser.run("return document.title"), state


def test_a_keyboard_reaches_everything_in_the_order_of_reading(pretend, browser):
    pretend.say = {**STATES["dead"][0], "newest_delayed": [entry(12, attempts=2, next_attempt_at=None)]}
    browser.go(pretend.page)
    wait_headline(browser, "Messages are dead")
    reached = []
    while len(reached) < 40:
        browser.press(TAB)
        focus = browser.run("""const e = document.activeElement, style = getComputedStyle(e);
            return [e.tagName, e.textContent.trim(), style.outlineStyle, parseFloat(style.outlineWidth)]""")
        if focus[0] == "BODY":
            break
        assert focus[2] == "solid" and focus[3] >= 2, f"no ring around {focus}"
        reached.append(focus[1])
    assert reached == ["Copy outbox-relay dead list", "Copy outbox-relay dead retry --all --dry-run", "Copy outbox-relay message show 12",
                       "Copy outbox-relay doctor", "Copy outbox-relay dead show 9", "Copy outbox-relay dead show 7",
                       "Copy outbox-relay message show 12", "Since this process started", "stats", "metrics", "readyz"]
    names = [browser.label(element) for element in browser.find("button")]
    assert names[0] == "Copy outbox-relay dead list" and len(names) == 7


def test_what_stays_the_same_is_left_alone(pretend, browser):
    """Focus and selection survive new figures; a screen reader hears a change of state once, and no figures."""
    pretend.say = STATES["dead"][0]
    browser.go(pretend.page)
    wait_headline(browser, "Messages are dead")
    browser.press(TAB)
    browser.press(ENTER)
    wait_until(lambda: browser.run("return document.activeElement.textContent").startswith(("Copied", "Selected")), 5, "the button to say so")
    assert browser.run("return getSelection().toString()") == "outbox-relay dead list"
    browser.run("""window.spoken = []; window.answers = 0;
        const watch = (id, tell) => new MutationObserver(tell).observe(document.getElementById(id), {childList: true, characterData: true, subtree: true});
        watch("spoken", () => spoken.push(document.getElementById("spoken").textContent));
        watch("inflight", () => answers++);""")
    assert browser.run("return document.querySelectorAll('[aria-live], [role=status], [role=alert]').length") == 1
    for in_flight in range(4):
        pretend.say = {**STATES["dead"][0], "window": {"size": 10000, "in_flight": in_flight, "unrecorded": 0}}
        wait_until(lambda: browser.run("return answers") > in_flight, 5, "new figures")
    assert browser.run("return spoken") == []
    assert browser.run("return document.activeElement.textContent").endswith("outbox-relay dead list")
    assert browser.run("return getSelection().toString()") == "outbox-relay dead list"
    pretend.say = {}
    wait_headline(browser, "Well")
    assert browser.run("return spoken") == ["Well."]


def test_landmarks_and_headings(pretend, browser):
    browser.go(pretend.page)
    wait_headline(browser, "Well")
    roles = [browser.role(element) for element in browser.find("body > header, main, body > footer, main section")]
    assert roles[0] == "banner" and roles[1] == "main" and roles[-1] == "contentinfo"
    assert all(browser.label(element) for element in browser.find("main section"))
    levels = [int(tag[1]) for tag in browser.run("return [...document.querySelectorAll('h1, h2, h3')].map(e => e.tagName)")]
    assert levels[0] == 1 and levels.count(1) == 1 and all(b - a <= 1 for a, b in zip(levels, levels[1:]))
    assert PAGE.stat().st_size < 40 * 1024
