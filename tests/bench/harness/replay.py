"""What a replay costs those who write messages meanwhile."""

import subprocess
import time

from harness.bench import QUEUE, BenchError
from harness.figures import Figure, ratios

ASIDE = QUEUE + "-replayed"
RATE = 1000
NOTE = (f"replay: {RATE:,} new messages/s, from COMMIT to basic.deliver, while kept messages are replayed to another queue; "
        "the replay goes on for the whole of each run")


def aside(bench, command):
    subprocess.run([bench.directory / "queue", "--url", bench.url, "--queue", ASIDE, command], check=True,
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def copies(database):
    return int(database.value("SELECT coalesce(sum(messages), 0) FROM outbox.operation WHERE operation = 'replay'"))


def beside_replay(bench, database, until, measure):
    """What measure() returns while a replay runs, and copies a second."""
    config = bench.directory / "relay.yaml"    # as the relay that runs
    before, start = copies(database), time.monotonic()
    with bench.beside(bench.relay_program, "replay", "--all", "--until", until, "--to-queue", ASIDE, "--config", config) as replay:
        measured = measure()
        replay.check_running()
        rate = (copies(database) - before) / (time.monotonic() - start)
    if rate == 0:
        raise BenchError("the replay has copied nothing")
    return measured, rate


def replay(bench):
    seconds = 2 if bench.quick else 8
    kept = 20000 if bench.quick else 100000
    database = bench.database("bench_replay")
    runs = {"alone": [], "beside": []}
    rates = []

    def measure():
        return bench.run("latency", "--url", bench.url, "--queue", QUEUE, "--mode", "relay", "--seconds", seconds,
                         "--rate", RATE, "--dsn", database.dsn())["from_commit_ms"]

    bench.fresh_queue()
    with bench.awake_relay(database) as relay:
        database.write(kept)
        database.wait_sent(kept + 1, relay, 300)
        until = database.value("SELECT clock_timestamp()::text")
        order = list(runs)
        for pair in range(bench.pairs):
            for way in order:
                bench.fresh_queue()
                aside(bench, "recreate")
                if way == "alone":
                    runs[way].append(measure())
                    continue
                measured, rate = beside_replay(bench, database, until, measure)
                runs[way].append(measured)
                rates.append(rate)
            order.reverse()
            bench.say(f"    {pair + 1}/{bench.pairs} median ms: " +
                      ", ".join(f"{way} {used[-1][500]:.2f}" for way, used in runs.items()))
    database.drop()
    aside(bench, "delete")

    def figure(what, values, *arguments, **named):
        bench.figure(Figure("replay", what, values, *arguments, note=NOTE, **named))

    pairs = list(zip(runs["beside"], runs["alone"]))
    figure("median delay of new messages, beside a replay / alone", ratios([(a[500], b[500]) for a, b in pairs]), "x", ("<=", 1.2))
    figure("mean of p10 to p90, beside / alone", ratios([(sum(a[100:901]), sum(b[100:901])) for a, b in pairs]), "x")
    for way, used in runs.items():
        figure(f"{way}, median", [one[500] for one in used], "ms", places=2)
        figure(f"{way}, p99", [one[990] for one in used], "ms", places=2)
    figure("copies a second", rates, "1/s", places=0)
