"""How fast a backlog goes out, what it costs, and whether a held snapshot or a long queue slows it."""

import contextlib
import socket
import threading
import time
import urllib.request

from harness import chart
from harness.bench import QUEUE, BenchError
from harness.figures import Figure, quartiles, ratios

RATE_NOTE = ("rate of the relay: messages over the wall time of the whole process, from exec to exit; "
             "of the baselines: from the first publish to the last confirm (they gain what they need to start)")


def program(bench, name, count, traceparent, *arguments):
    bench.fresh_queue()
    used = bench.run(name, "--url", bench.url, "--queue", QUEUE, *arguments,
                     *(["--count", count] if name != "plain_relay" else []),
                     *(["--traceparent"] if traceparent and name != "plain_relay" else []))
    if used["messages"] != count:
        raise BenchError(f"{name} published {used['messages']} of {count} messages")
    used["rate"] = count / used["seconds"]
    return used


def relay(bench, database, count):
    """Drain what is in the database; the rows are written already."""
    bench.fresh_queue()
    before = database.sent()
    wal = bench.wal_position()
    used = bench.drain(database)
    used["wal_bytes"] = bench.wal_position() - wal
    sent = database.sent() - before
    if sent != count or bench.queue("count")["messages"] < count:
        raise BenchError(f"the relay marked {sent} of {count} messages")
    used["rate"] = count / used["wall_seconds"]
    marks = [mark for mark in database.marks() if mark[1] > before]
    if len(marks) > 1:
        used["rate_by_marks"] = (marks[-1][1] - marks[0][1]) / (marks[-1][0] - marks[0][0])
    return used


def one_kind(bench, database, count, traceparent):
    """All ways to send the same messages, in alternating order; returns [{way: usage}, ...]."""
    rounds = []

    def run(way):
        if way == "relay":
            database.refill(count, traceparent)
            return relay(bench, database, count)
        if way == "plain_relay":
            database.refill_plain(count, traceparent)
            return program(bench, way, count, traceparent, "--dsn", database.dsn())
        return program(bench, way, count, traceparent)

    # The relay stands next to both baselines that it is held against; the plain one is for comparison only.
    order = ["bare", "relay", "link_alone"]
    for pair in range(bench.pairs):
        rounds.append({way: run(way) for way in order + ["plain_relay"] * (pair % 3 == 0)})
        order.reverse()
        bench.say(f"    {pair + 1}/{bench.pairs} thousand messages a second: " +
                  ", ".join(f"{way} {used['rate'] / 1000:.1f}" for way, used in sorted(rounds[-1].items())))
    return rounds


def cpu_of(way):
    """Where the CPU of the whole process stands: the baselines also print that of their loop."""
    return "cpu_seconds" if way == "relay" else "process_cpu_seconds"


def drain(bench):
    count = 80000 if bench.quick else 300000
    database = bench.database("bench_drain")
    rates = []
    costs = []
    names = {"plain_relay": "plain relay", "bare": "bare rabbitmq-c loop", "relay": "outbox-relay",
             "link_alone": "its link alone"}
    for traceparent in (False, True):
        kind = "one header" if traceparent else "no header"
        bench.say(f"  {count:,} messages, {kind}")
        rounds = one_kind(bench, database, count, traceparent)

        def samples(way, key, scale=1.0):
            return [used[way][key] * scale for used in rounds if way in used and key in used[way]]

        def against(way):
            return ratios([(used["relay"]["rate"], used[way]["rate"]) for used in rounds if way in used])

        def figure(what, values, *arguments, **named):
            bench.figure(Figure("drain", f"{kind}, {what}", values, *arguments, **named))

        figure("relay / bare rabbitmq-c loop", against("bare"), "x", (">=", 1.15), note=RATE_NOTE)
        figure("relay / link alone", against("link_alone"), "x", (">=", 0.85), note=RATE_NOTE)
        figure("relay / plain relay", against("plain_relay"), "x", note=RATE_NOTE)
        for way, name in (("relay", "relay"), ("bare", "bare loop"), ("link_alone", "link alone"),
                          ("plain_relay", "plain relay")):
            figure(f"{name}, rate", samples(way, "rate"), "msg/s", places=0)
        if samples("relay", "rate_by_marks"):
            figure("relay, rate from its first mark to its last", samples("relay", "rate_by_marks"), "msg/s", places=0)
        figure("relay, CPU", samples("relay", "cpu_seconds", 1e6 / count), "us/msg",
               ("<=", 1.6 if traceparent else 0.8), note="CPU is that of the whole process, start and end included")
        for way, name in (("bare", "bare loop"), ("link_alone", "link alone"), ("plain_relay", "plain relay")):
            figure(f"{name}, CPU", samples(way, cpu_of(way), 1e6 / count), "us/msg")
        figure("relay, peak memory", samples("relay", "peak_kib", 1 / 1024), "MiB", ("<=", 16))
        figure("relay, WAL beyond the inserts", samples("relay", "wal_bytes", 1 / count), "B/msg", ("<=", 2))
        rates.append((f"with {kind}", [(name, quartiles(samples(way, "rate")), way == "relay")
                                       for way, name in names.items()]))
        costs.append((f"with {kind}", [(name, quartiles(samples(way, cpu_of(way), 1e6 / count)), way == "relay")
                                       for way, name in names.items()]))
    database.drop()
    bench.charts["drain.svg"] = chart.bars(
        "Drain of a backlog: messages a second",
        f"{count:,} messages of 512 bytes, confirmed by a durable quorum queue; median and quartiles of "
        f"up to {bench.pairs} runs", rates)
    bench.charts["cpu.svg"] = chart.bars(
        "CPU of the publisher: microseconds a message",
        f"{count:,} messages of 512 bytes; the whole process, user and system", costs)


def held(bench):
    """An old snapshot and a million rows that are sent already."""
    count = 80000 if bench.quick else 300000
    already = 100000 if bench.quick else 1000000
    alone = bench.database("bench_alone")
    old = bench.database("bench_held")
    bench.say(f"  {already:,} rows sent under a held snapshot")
    pairs = []
    with old.held_snapshot():
        bench.checkpoint()
        old.write(already)
        relay(bench, old, already)

        def with_snapshot():
            bench.checkpoint()
            old.write(count)
            return relay(bench, old, count)["rate"]

        def without():
            alone.refill(count)
            return relay(bench, alone, count)["rate"]

        for pair in range(bench.pairs):
            if pair % 2 == 0:
                first = with_snapshot()
                pairs.append((first, without()))
            else:
                first = without()
                pairs.append((with_snapshot(), first))
            bench.say(f"    {pair + 1}/{bench.pairs} thousand messages a second: "
                      f"held {pairs[-1][0] / 1000:.1f}, alone {pairs[-1][1] / 1000:.1f}")
    bench.figure(Figure("held", f"snapshot held, {already:,} sent before / neither", ratios(pairs), "x",
                        (">=", 0.95)))
    bench.figure(Figure("held", "rate under the snapshot", [a for a, _ in pairs], "msg/s", places=0))
    bench.figure(Figure("held", "rate without", [b for _, b in pairs], "msg/s", places=0))
    alone.drop()
    old.drop()


def sent_first(bench, database, count, **settings):
    """The rate of the first ${count} messages of a relay that is then killed."""
    database.execute("TRUNCATE outbox.sent")
    bench.checkpoint()
    bench.fresh_queue()
    with bench.relay(database, **settings) as process:
        deadline = time.monotonic() + 120
        while database.sent() < count:
            process.check_running()
            if time.monotonic() > deadline:
                raise BenchError(f"the relay marked {database.sent()} of {count} messages within 120 s")
            time.sleep(0.05)
        used = process.kill()
    at, sent = next(mark for mark in database.marks() if mark[1] >= count)
    return sent / (at - used["started_at"])


def waiting(bench):
    """The first messages of a long backlog."""
    count = 30000 if bench.quick else 200000
    backlog = 300000 if bench.quick else 3000000
    alone = bench.database("bench_few")
    long = bench.database("bench_many")
    bench.say(f"  {backlog:,} messages wait")
    alone.write(count)
    long.write(backlog)
    pairs = []
    for pair in range(bench.pairs):
        order = [long, alone] if pair % 2 == 0 else [alone, long]
        rates = {database: sent_first(bench, database, count) for database in order}
        pairs.append((rates[long], rates[alone]))
        bench.say(f"    {pair + 1}/{bench.pairs} thousand messages a second: "
                  f"of many {pairs[-1][0] / 1000:.1f}, alone {pairs[-1][1] / 1000:.1f}")
    note = "from exec of the relay to the mark that covers them; then it is killed and the marks are removed"
    bench.figure(Figure("waiting", f"first {count:,} of {backlog:,} / {count:,} alone", ratios(pairs), "x",
                        (">=", 0.9), note=note))
    bench.figure(Figure("waiting", "rate of the first", [a for a, _ in pairs], "msg/s", places=0))
    bench.figure(Figure("waiting", "rate alone", [b for _, b in pairs], "msg/s", places=0))
    alone.drop()
    long.drop()


class Scraper(threading.Thread):
    """Asks for /metrics ten times a second, until the block ends."""

    def __init__(self):
        super().__init__()
        with socket.socket() as chosen:
            chosen.bind(("127.0.0.1", 0))
            self.listen = f"127.0.0.1:{chosen.getsockname()[1]}"
        self.ended = threading.Event()
        self.answers = 0
        self.slowest = 0.0

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.join()

    def run(self):
        while not self.ended.wait(0.1):
            # Before it listens, and after it was killed.
            with contextlib.suppress(OSError):
                begun = time.monotonic()
                with urllib.request.urlopen(f"http://{self.listen}/metrics", timeout=5) as answer:
                    if b"outbox_relay_confirmed_total" in answer.read():
                        self.answers += 1
                        self.slowest = max(self.slowest, time.monotonic() - begun)


def scraped(bench):
    """The same backlog, with ten scrapes a second and without any; the port is open in both."""
    count = 80000 if bench.quick else 300000
    database = bench.database("bench_scraped")
    pairs, answers, slowest = [], [], []

    def run(with_scrapes):
        database.refill(count)
        scraper = Scraper()
        settings = {"http": {"listen": scraper.listen}}
        if not with_scrapes:
            return sent_first(bench, database, count, **settings)
        with scraper:
            rate = sent_first(bench, database, count, **settings)
        if scraper.answers == 0:
            raise BenchError("no scrape was answered")
        answers.append(scraper.answers / (count / rate))
        slowest.append(scraper.slowest * 1000)
        return rate

    for pair in range(bench.pairs):
        order = [True, False] if pair % 2 == 0 else [False, True]
        rates = {with_scrapes: run(with_scrapes) for with_scrapes in order}
        pairs.append((rates[True], rates[False]))
        bench.say(f"    {pair + 1}/{bench.pairs} thousand messages a second: "
                  f"scraped {pairs[-1][0] / 1000:.1f}, not {pairs[-1][1] / 1000:.1f}")
    note = "from exec of the relay to the mark that covers all; the client that scrapes shares the cores"
    bench.figure(Figure("scraped", f"{count:,} messages, 10 scrapes a second / none", ratios(pairs), "x", (">=", 0.97),
                        note=note))
    bench.figure(Figure("scraped", "rate, scraped", [a for a, _ in pairs], "msg/s", places=0))
    bench.figure(Figure("scraped", "rate, not scraped", [b for _, b in pairs], "msg/s", places=0))
    bench.figure(Figure("scraped", "scrapes answered", answers, "1/s", places=1))
    bench.figure(Figure("scraped", "slowest scrape", slowest, "ms", places=1))
    database.drop()


def bloat(bench):
    """Round after round under a held snapshot: what deleting rows costs a plain relay."""
    count = 10000 if bench.quick else 100000
    rounds = 3 if bench.quick else 5
    database = bench.database("bench_bloat")
    rates = {"outbox-relay": [], "plain relay": []}
    with database.held_snapshot():
        for number in range(rounds):
            bench.checkpoint()
            database.write(count)
            rates["outbox-relay"].append(relay(bench, database, count)["rate"])
            bench.checkpoint()
            database.write_plain(count)
            rates["plain relay"].append(
                program(bench, "plain_relay", count, False, "--dsn", database.dsn())["rate"])
            bench.say(f"    {number + 1}/{rounds} thousand messages a second: " +
                      ", ".join(f"{name} {values[-1] / 1000:.1f}" for name, values in rates.items()))
    for name, values in rates.items():
        bench.figure(Figure("bloat", f"{name}, last round / first, under a held snapshot",
                            [values[-1] / values[0]], "x"))
    database.drop()
    bench.charts["bloat.svg"] = chart.lines(
        "While a transaction stays open: messages a second",
        f"{count:,} messages a round; the plain relay deletes what it sent, outbox-relay writes nothing to a row",
        "messages sent since the snapshot was taken", [f"{(i + 1) * count // 1000}k" for i in range(rounds)],
        [(name, values, name == "outbox-relay") for name, values in rates.items()])
