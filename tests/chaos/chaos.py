"""Real faults on real servers: make check-chaos.

Writers commit, two relays publish, consumers handle, while a schedule of faults made from a seed goes on; the
checker (tests/integration/checker.py) judges the history.  --help lists the options, --kinds the faults.

  make check-chaos CHAOS_ARGS="--seed 7 --faults 50"      a shorter run
  make check-chaos CHAOS_ARGS="--only leader_killed,mq_reset --faults 20"

The history, the relays' and the servers' logs are left in build/chaos/seed-N.
"""

import argparse
import os
import pathlib
import queue
import random
import sys
import threading
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))
sys.dont_write_bytecode = True

from checker import judge                                                      # noqa: E402
from conftest import ROOT                                                      # noqa: E402
from faults import KINDS, Missed, until_done                                   # noqa: E402
from place import WINDOW, Place, Trouble                                       # noqa: E402
from schedule import MESSAGES, Schedule                                        # noqa: E402

# Some find nothing to hit (no session to end) and do not count.
FAULTS = 1020
# Of the faults, so many parts with these servers.
SHARES = {"single": 4, "cluster": 1}
# V: by then the slowest of the waits that an end of all faults leaves behind is over: a backoff, a probe, a retry.
DRAIN_S = 45
# S: what a message to a well destination may wait beside bad ones, on a busy machine.
GOOD_S = 3
SETTLE_S = 20


class Lane(threading.Thread):
    """Begins and heals the faults of one lane.  A thread for the whole run: what it starts dies with it."""

    def __init__(self, place, counts):
        super().__init__(daemon=True)
        self.place = place
        self.counts = counts
        self.given = queue.Queue()
        self.failure = None
        self.start()

    def one(self, planned):
        place, kind = self.place, KINDS[planned.kind]
        begun = time.monotonic()
        try:
            heal = until_done(lambda: kind.begin(place, random.Random(planned.seed)))
        except Missed:
            return
        place.history.add("fault", number=planned.number, kind=planned.kind, planned_s=round(planned.seconds, 3))
        time.sleep(max(0, begun + planned.seconds - time.monotonic()))
        until_done(heal)
        place.history.add("healed", number=planned.number, kind=planned.kind)
        self.counts[planned.kind] = self.counts.get(planned.kind, 0) + 1

    def run(self):
        while True:
            start, planned = self.given.get()
            try:
                time.sleep(max(0, start + planned.start_s - time.monotonic()))
                self.one(planned)
            except Exception:
                self.failure = f"{planned.kind} (fault {planned.number}): {traceback.format_exc()}"
            self.given.task_done()


class Run:
    """With one kind of servers, from beginning to verdict."""

    def __init__(self, given, servers, faults, allowed):
        self.given = given
        self.schedule = Schedule(f"{given.seed}/{servers}", allowed, faults)
        self.directory = ROOT / f"build/chaos/seed-{given.seed}-{servers}"
        self.counts = {}
        self.lanes = {}
        self.place = Place(self.directory, servers, given.seed, given.writers, given.pause, given.scheduled)
        self.history = self.place.history
        self.history.add("run", t=0, seed=given.seed, window=WINDOW, drain_s=DRAIN_S, good_s=given.good_s)

    def round(self, number, what, planned):
        print(f"round {number}: {len(planned)} faults, {what}", flush=True)
        start = time.monotonic()
        if what == MESSAGES:
            self.history.add("peers_well")
        for one in planned:
            if one.lane not in self.lanes:
                self.lanes[one.lane] = Lane(self.place, self.counts)
            self.lanes[one.lane].given.put((start, one))
        for lane in self.lanes.values():
            lane.given.join()
            if lane.failure:
                raise Trouble(lane.failure)
        if what == MESSAGES:
            self.history.add("peers_ill")
        until_done(self.place.declare_again)
        self.history.add("all_healed")
        self.place.pause_writers()
        return self.drain()

    def drain(self, scheduled=False):
        """To the end of all that is under way.  False: not in time."""
        if not self.place.drained(DRAIN_S + SETTLE_S, scheduled):
            stuck = self.place.stuck()
            self.history.add("stuck", text=stuck)
            print(f"not everything drained\n{stuck}", flush=True)
            return False
        self.history.add("drained")
        return True

    def go(self):
        """Whether everything drained, round after round."""
        self.place.relays.wait_led(60)
        well = True
        for number, (what, planned) in enumerate(self.schedule.rounds(), 1):
            if number > 1:
                self.place.resume_writers()
            well = self.round(number, what, planned)
            if not well:
                break
        if well and self.given.scheduled:
            self.history.add("all_healed")
            well = self.drain(scheduled=True)
        return well

    def finish(self):
        self.place.conclude()
        codes = self.place.end()
        for code in codes:
            if code != 0:
                self.history.add("ended", code=code)
        for t in self.place.channels_closed():
            self.history.add("death", t, what="channel")
        self.history.file.flush()
        return judge(self.history.read(*(writer.path for writer in self.place.writers)))


def table(counts):
    width = max(map(len, counts), default=0)
    lines = [f"{name:{width}} {count:5}" for name, count in sorted(counts.items())]
    half = -(-len(lines) // 2)
    for left, right in zip(lines[:half], lines[half:] + [""] * half):
        print(f"  {left}    {right}".rstrip())


def run(given, servers, faults, allowed, total):
    """Adds its counts to total; returns whether all went well."""
    print(f"{faults} faults, servers: {servers}", flush=True)
    one = Run(given, servers, faults, allowed)
    try:
        drained = one.go()
        judgement = one.finish()
    except Exception:
        # Of the test itself, or of a server that does not come back.
        traceback.print_exc(file=sys.stdout)
        return False
    finally:
        for name, count in one.counts.items():
            total[name] = total.get(name, 0) + count
        one.place.remove()
    print(", ".join(f"{name}: {value}" for name, value in judgement.figures.items()))
    print(judgement, flush=True)
    if not drained or not judgement.well():
        print(f"history and logs: {one.directory.relative_to(ROOT)}")
    return drained and judgement.well()


def phases(given):
    """(servers, how many faults, names of their kinds)"""
    names = [name for name in given.only or KINDS if name not in given.without]
    kinds = {servers: [name for name in names if KINDS[name].servers in (None, servers)] for servers in SHARES}
    if given.bounded:
        del kinds["cluster"]
    elif given.only:
        # With the servers that the kinds need, and no more.
        needed = {KINDS[name].servers for name in names} - {None} or {"single"}
        kinds = {servers: chosen for servers, chosen in kinds.items() if servers in needed}
    shares = sum(SHARES[servers] for servers in kinds)
    return [(servers, round(given.faults * SHARES[servers] / shares), chosen) for servers, chosen in kinds.items()]


def kind_names(text):
    names = text.split(",")
    for name in names:
        if name not in KINDS:
            raise argparse.ArgumentTypeError(f"no such kind: {name}")
    return names


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=FAULTS, help=f"how many; {FAULTS} by default")
    parser.add_argument("--bounded", action="store_true", help="one server of each, no cluster")
    parser.add_argument("--only", type=kind_names, help="kinds, separated by commas")
    parser.add_argument("--without", type=kind_names, default=[], help="kinds to leave out")
    parser.add_argument("--writers", type=int, default=3)
    parser.add_argument("--pause", type=float, default=0.15, help="longest pause of a writer between transactions, in seconds")
    parser.add_argument("--scheduled", type=float, default=0.05, help="share of transactions that write for later")
    parser.add_argument("--good-s", type=float, default=GOOD_S, help="longest delay of good messages beside bad ones")
    parser.add_argument("--kinds", action="store_true", help="list the kinds")
    given = parser.parse_args(arguments)
    if given.kinds:
        for name, kind in sorted(KINDS.items()):
            print(f"{name:36} {kind.lane:10} {kind.servers or ''}".rstrip())
        return 0
    begun = time.monotonic()
    total = {}
    well = True
    for servers, faults, allowed in phases(given):
        well = run(given, servers, faults, allowed, total) and well
    table(total)
    print(f"{sum(total.values())} faults of {len(total)} kinds in {time.monotonic() - begun:.0f} s: "
          + ("all promises held" if well else "FAILED"))
    if not well:
        print(f"to run it again: make check-chaos CHAOS_ARGS=\"{' '.join(arguments)}\"")
    return 0 if well else 1


if __name__ == "__main__":
    # Threads that still wait for something die with it.
    status = 1
    try:
        status = main(sys.argv[1:])
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(status)
