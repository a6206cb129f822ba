"""The relay beside writers: latency, what it costs them, and what it costs when nothing happens."""

import select
import time

import psycopg2.extensions

from harness import chart
from harness.bench import QUEUE, BenchError, cpu_seconds
from harness.figures import Figure, quartiles, ratios

LATENCY_NOTE = ("latency is counted from the moment at which COMMIT (bare: basic.publish) is behind or begins in "
                "the writer, to basic.deliver in the same process; a tenth of each run is warm-up")


def latency(bench):
    seconds = 2 if bench.quick else 10
    rounds = 2 if bench.quick else 3
    database = bench.database("bench_latency")
    runs = {"bare": [], "relay": [], "dual": [], "trickle": []}

    def run(mode, rate=1000):
        return bench.run("latency", "--url", bench.url, "--queue", QUEUE, "--mode", mode, "--seconds", seconds,
                         "--rate", rate, *(["--dsn", database.dsn()] if mode != "bare" else []))

    order = list(runs)
    for number in range(rounds):
        for mode in order:
            database.empty()
            bench.fresh_queue()
            if mode in ("relay", "trickle"):
                with bench.awake_relay(database):
                    bench.fresh_queue()
                    runs[mode].append(run("relay", 100 if mode == "trickle" else 1000))
            else:
                runs[mode].append(run(mode))
        order.reverse()
        bench.say(f"    {number + 1}/{rounds} median ms: " + ", ".join(
            f"{mode} {used[-1]['from_commit_ms'][500]:.2f}" for mode, used in runs.items()))
    database.drop()

    def samples(mode, permille, key="from_commit_ms"):
        return [used[key][permille] for used in runs[mode]]

    def beyond(permille):
        return [a - b for a, b in zip(samples("relay", permille), samples("bare", permille))]

    def figure(what, values, *arguments, **named):
        bench.figure(Figure("latency", what, values, *arguments, note=LATENCY_NOTE, **named))

    figure("median, relay beyond bare publish", beyond(500), "ms", ("<=", 0.5), 3)
    figure("p99, relay beyond bare publish", beyond(990), "ms", ("<=", 5), 3)
    names = {"bare": "bare publish to consumer", "dual": "commit, then publish by itself",
             "relay": "commit to consumer, relay", "trickle": "the same at 100 messages a second"}
    for mode, name in names.items():
        figure(f"{name}, median", samples(mode, 500), "ms", places=3)
        figure(f"{name}, p99", samples(mode, 990), "ms", places=3)
    figure("relay, median counted from before COMMIT is sent", samples("relay", 500, "from_commit_sent_ms"), "ms",
           places=3)
    figure("rate of the writers, relay", [used["rate"] for used in runs["relay"]], "tx/s", places=0)
    bench.charts["latency.svg"] = chart.bars(
        "Latency at 1,000 messages a second, in milliseconds",
        "from COMMIT (or basic.publish) to the consumer of a durable quorum queue",
        [(heading, [(name, quartiles(samples(mode, permille)), mode == "relay")
                    for mode, name in (("bare", "bare publish"), ("dual", "commit, then publish"),
                                       ("relay", "commit, then outbox-relay"))])
         for heading, permille in (("median", 500), ("99th percentile", 990))])


def commits_a_second(bench, database, threads, seconds):
    used = bench.run("writers", "--dsn", database.dsn(), "--queue", QUEUE, "--threads", threads, "--seconds", seconds)
    return used["commits"] / used["seconds"]


def writers(bench):
    """With and without the trigger, beside a relay and without one."""
    seconds = 1 if bench.quick else 3
    threads = 8
    database = bench.database("bench_writers")
    # Awake is awake: without the trigger the relay polls as often as it would look by itself.
    polling = {"wake": {"mode": "poll", "poll_interval": "10ms"}}
    ways = {"trigger, relay": (True, {}), "no trigger, relay": (False, polling),
            "no trigger, no relay": (False, None), "trigger, no relay": (True, None)}
    rates = {way: [] for way in ways}
    order = list(ways)
    for pair in range(bench.pairs):
        for way in order:
            trigger, settings = ways[way]
            database.execute(f"ALTER TABLE outbox.message {'ENABLE' if trigger else 'DISABLE'} TRIGGER USER")
            database.empty()
            bench.checkpoint()
            bench.fresh_queue()
            if settings is None:
                rates[way].append(commits_a_second(bench, database, threads, seconds))
            else:
                with bench.awake_relay(database, **settings):
                    rates[way].append(commits_a_second(bench, database, threads, seconds))
        order.reverse()
        bench.say(f"    {pair + 1}/{bench.pairs} transactions a second: " +
                  ", ".join(f"{way} {values[-1]:,.0f}" for way, values in rates.items()))
    database.drop()

    def against(a, b):
        return ratios(list(zip(rates[a], rates[b])))

    bench.figure(Figure("writers", "trigger / no trigger, relay awake in both",
                        against("trigger, relay", "no trigger, relay"), "x", (">=", 0.95),
                        note="writers commit one INSERT a transaction, 8 connections; without the trigger the relay "
                        "polls each 10 ms"))
    bench.figure(Figure("writers", "trigger / no trigger, no relay",
                        against("trigger, no relay", "no trigger, no relay"), "x"))
    bench.figure(Figure("writers", "all (relay and broker work on the same cores) / no trigger, no relay",
                        against("trigger, relay", "no trigger, no relay"), "x"))
    for way, values in rates.items():
        bench.figure(Figure("writers", way, values, "tx/s", places=0))
    bench.charts["writers.svg"] = chart.bars(
        "What writers pay: transactions a second",
        f"{threads} writers, one INSERT a transaction; relay and broker share the cores with them",
        [("", [(way, quartiles(values), way == "trigger, relay") for way, values in rates.items()])])


def count_notifications(listener, seconds):
    deadline = time.monotonic() + seconds
    count = 0
    while (left := deadline - time.monotonic()) > 0:
        select.select([listener], [], [], left)
        listener.poll()
        count += len(listener.notifies)
        listener.notifies.clear()
    return count


def notify(bench):
    """NOTIFYs while writers commit steadily and the relay may sleep between."""
    seconds = 5 if bench.quick else 20
    database = bench.database("bench_notify")
    listener = database.connect()
    bench.fresh_queue()
    with bench.awake_relay(database) as relay:
        bench.fresh_queue()
        with listener.cursor() as cursor:
            cursor.execute("LISTEN outbox_wake")
        with bench.beside("writers", "--dsn", database.dsn(), "--queue", QUEUE, "--threads", 4, "--seconds", seconds,
                          "--rate", 1000) as process:
            count = count_notifications(listener, seconds)
            used = process.wait(60)
        database.wait_sent(used["commits"] + 1, relay)
    listener.close()
    database.drop()
    bench.figure(Figure("notify", "NOTIFYs at 1,000 transactions/s", [count / seconds], "1/s", ("<=", 100), 1,
                        note="as a second session that listens counts them"))
    bench.figure(Figure("notify", "transactions", [used["commits"] / used["seconds"]], "tx/s", places=0))


def idle(bench):
    seconds = 5 if bench.quick else 30
    database = bench.database("bench_idle")
    bench.fresh_queue()
    with bench.awake_relay(database) as relay:
        pid = relay.pid()
        time.sleep(2)    # it falls asleep in its own time; there is nothing to wait for
        before, start = cpu_seconds(pid), time.monotonic()
        time.sleep(seconds)
        percent = (cpu_seconds(pid) - before) / (time.monotonic() - start) * 100
        relay.check_running()
    database.drop()
    bench.figure(Figure("idle", "CPU of a relay with nothing to do", [percent], "% of a core", ("<=", 0.2), 3))


def large(bench, database, count, size):
    """Messages of ${size} bytes through the relay; returns what it used."""
    database.empty()
    with database.session.cursor() as cursor:
        cursor.execute("INSERT INTO outbox.message (routing_key, payload, persistent) "
                       "SELECT %s, convert_to(repeat('x', %s), 'UTF8'), %s FROM generate_series(1, %s)",
                       (QUEUE, size, count == 1, count))
    used = bench.drain(database, timeout_s=600)
    if database.sent() != count:
        raise BenchError(f"the relay marked {database.sent()} of {count} messages")
    return used


def big(bench):
    many = 50 if bench.quick else 1000
    mebibyte = 1 << 20
    database = bench.database("bench_big")
    # Only what the table is compressed with: the bodies are all alike, and pglz would take minutes.
    if database.value("SELECT current_setting('server_version_num')::int >= 140000"):
        database.execute("SET default_toast_compression = 'lz4'")
    database.execute("SELECT outbox.set_payload_limit(%s)", 100 * mebibyte)
    # The queue keeps the last message alone, so that 10 GB need no disk.
    bench.fresh_queue("--type", "classic", "--max-length", "1")
    one = large(bench, database, 1, 100 * mebibyte)
    arrived = bench.queue("get")["bytes"]
    if arrived != 100 * mebibyte:
        raise BenchError(f"{arrived} bytes of the message of 100 MiB arrived")
    bench.figure(Figure("big", "a message of 100 MiB, peak memory", [one["peak_kib"] / 1024], "MiB", ("<=", 300), 1))
    thousand = large(bench, database, many, 10 * mebibyte)
    bench.figure(Figure("big", f"{many} messages of 10 MiB, peak memory", [thousand["peak_kib"] / 1024], "MiB",
                        ("<=", 150), 1))
    bench.figure(Figure("big", f"{many} messages of 10 MiB, throughput",
                        [many * 10 / thousand["wall_seconds"]], "MiB/s", places=0))
    database.drop()
    bench.queue("delete")
