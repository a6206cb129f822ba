"""What the inbox costs a consumer: libinbox against the same handler on bare libpq and rabbitmq-c."""

from harness.bench import QUEUE, BenchError
from harness.figures import Figure, ratios

BATCH = 100
WAYS = {"autocommit": ["autocommit"], "bare": ["bare"], "inbox": ["inbox"], "batch": ["--batch", BATCH, "inbox"],
        "whole": ["--batch", BATCH, "--whole", "inbox"]}
CLAIMING = ("inbox", "batch", "whole")
TABLE = "CREATE TABLE effect (message_id text NOT NULL, body bytea NOT NULL)"
NOTE = ("consumer: from the subscription to the last acknowledgement; the handler is one INSERT; bare: BEGIN, INSERT, COMMIT by "
        "libpq, acknowledged by rabbitmq-c; autocommit: the INSERT alone, in one round trip where the others take three; "
        "one statement a batch: an INSERT from two arrays")


def run(bench, database, way, count):
    """Messages a second; the queue holds count messages, the tables nothing."""
    database.execute("TRUNCATE inbox.message, effect")
    bench.fresh_queue()
    bench.run("bare", "--url", bench.url, "--queue", QUEUE, "--count", count)
    bench.checkpoint()
    bench.settle()
    used = bench.run("consumer", "--url", bench.url, "--queue", QUEUE, "--dsn", database.dsn(), "--count", count, *WAYS[way])
    effects, claims = database.row("SELECT (SELECT count(*) FROM effect), (SELECT count(*) FROM inbox.message)")
    if effects != count or claims != (count if way in CLAIMING else 0):
        raise BenchError(f"{way}: {effects} effects and {claims} claims of {count} messages")
    return count / used["seconds"]


def consumer(bench):
    count = 2000 if bench.quick else 10000
    database = bench.database("bench_consumer")
    database.migrate("inbox")
    database.execute(TABLE)
    bench.say(f"  {count:,} messages, batches of {BATCH}")
    rounds = []
    order = list(WAYS)
    for pair in range(bench.pairs):
        rounds.append({way: run(bench, database, way, count) for way in order})
        order.reverse()
        bench.say(f"    {pair + 1}/{bench.pairs} messages a second: " +
                  ", ".join(f"{way} {rounds[-1][way]:,.0f}" for way in sorted(order)))

    def figure(what, one, other, target=None):
        bench.figure(Figure("consumer", what, ratios([(used[one], used[other]) for used in rounds]), "x", target, note=NOTE))

    figure("inbox / bare loop", "inbox", "bare", (">=", 0.85))
    figure(f"inbox, batches of {BATCH}, one statement a batch / one by one", "whole", "inbox", (">=", 3))
    figure(f"inbox, batches of {BATCH}, one statement a message / one by one", "batch", "inbox", (">=", 3))
    figure("inbox / bare loop with autocommit", "inbox", "autocommit")
    for way, name in (("inbox", "inbox, rate"), ("bare", "bare loop, rate"), ("autocommit", "bare loop with autocommit, rate"),
                      ("batch", f"inbox, batches of {BATCH}, one statement a message, rate"),
                      ("whole", f"inbox, batches of {BATCH}, one statement a batch, rate")):
        bench.figure(Figure("consumer", name, [used[way] for used in rounds], "msg/s", places=0))
    database.drop()
    bench.queue("delete")
