"""What became of the messages: compares what was committed with what arrived.

check(committed, arrived) -> Verdict, by the letters of the promises:
  lost        L: committed and never arrived
  phantoms    P: arrived and never committed
  disorder    O: first deliveries of a key that came after a later one of that key
  duplicates  D: arrivals beyond the first of a message

committed maps a message id to (key, sequence); within a key the sequence grows in the order written.  A message
without a key (None) has no order.  arrived is the list of ids in the order of arrival; ids that begin with MARKER
are the test's own and stand between sections.

judge(events) -> Judgement does the same, and more, with the history of a whole run under faults (tests/chaos).
"""

import dataclasses

MARKER = "marker-"


@dataclasses.dataclass
class Verdict:
    lost: set
    phantoms: set
    disorder: list
    duplicates: int

    def well(self):
        return not (self.lost or self.phantoms or self.disorder)

    def __str__(self):
        def some(things):
            return f"{len(things)} {sorted(things, key=str)[:5]}"
        return (f"lost {some(self.lost)}, phantoms {some(self.phantoms)}, out of order {some(self.disorder)}, "
                f"duplicates {self.duplicates}")


def check(committed, arrived):
    seen = set()
    greatest = {}
    verdict = Verdict(set(), set(), [], 0)
    for message_id in arrived:
        if message_id.startswith(MARKER):
            continue
        if message_id in seen:
            verdict.duplicates += 1
            continue
        seen.add(message_id)
        if message_id not in committed:
            verdict.phantoms.add(message_id)
            continue
        key, sequence = committed[message_id]
        if key is None:
            continue
        if sequence < greatest.get(key, sequence):
            verdict.disorder.append((key, greatest[key], sequence))
        greatest[key] = max(sequence, greatest.get(key, sequence))
    verdict.lost = set(committed) - seen
    return verdict


def duplicates_by_section(arrived):
    """How many duplicates came before the first marker, between the first and the second, and so on."""
    seen = set()
    sections = [0]
    for message_id in arrived:
        if message_id.startswith(MARKER):
            sections.append(0)
        elif message_id in seen:
            sections[-1] += 1
        seen.add(message_id)
    return sections


def arrivals_by_section(arrived):
    sections = [0]
    for message_id in arrived:
        if message_id.startswith(MARKER):
            sections.append(0)
        else:
            sections[-1] += 1
    return sections


# ---- a history ----------------------------------------------------------------------------------------


@dataclasses.dataclass
class Written:
    """A message of a transaction that may have committed."""
    key: str
    sequence: int
    destination: str
    due: float          # not before; None: at once
    time: float         # when its writer knew that it had committed, or that nobody knows
    must: bool          # it is in the database at the end: it committed


class Judgement:
    """The violations found in a history, by letter, each as a line for people; and some figures."""

    SHOWN = 5

    def __init__(self):
        self.violations = {}
        self.figures = {}

    def add(self, letter, text):
        self.violations.setdefault(letter, []).append(text)

    def well(self):
        return not self.violations

    def __str__(self):
        lines = []
        for letter, found in sorted(self.violations.items()):
            lines += [f"{letter}: {text}" for text in found[:self.SHOWN]]
            if len(found) > self.SHOWN:
                lines.append(f"{letter}: and {len(found) - self.SHOWN} more")
        return "\n".join(lines) or "all promises held"


class History:
    """The events of a run in the order of time, taken apart.  See judge() for the events."""

    def __init__(self, events):
        self.events = sorted(events, key=lambda event: event["t"])
        self.run = next(event for event in self.events if event["event"] == "run")
        self.destinations = {event["name"]: event for event in self.of("destination")}
        self.kept = {number for event in self.of("kept") for number in event["transactions"]}
        self.dead = {m: reason for event in self.of("dead") for m, reason in event["messages"].items()}
        self.sent = {m for event in self.of("sent") for m in event["messages"]}
        self.rolled_back = {row[0] for event in self.of("rolled_back") for row in event["messages"]}
        self.written = {}
        self.forgotten = []
        for event in self.of("committed", "unknown"):
            must = event["transaction"] in self.kept
            if event["event"] == "committed" and not must:
                self.forgotten.append(event["transaction"])
            for message_id, key, sequence, destination, due in event["messages"]:
                self.written[message_id] = Written(key, sequence, destination, due, event["t"], must)
        self.arrived = {}
        for event in self.of("delivered"):
            self.arrived.setdefault(event["queue"], []).append(event)

    def of(self, *names):
        return [event for event in self.events if event["event"] in names]

    def kind(self, written):
        return self.destinations[written.destination]["kind"]


def judge_loss(history, judgement):
    """L: all that committed is in each queue of its destination, or where its kind of destination allows."""
    reached = {queue: {event["id"] for event in events} for queue, events in history.arrived.items()}
    for message_id, written in history.written.items():
        if not written.must:
            continue
        kind = history.kind(written)
        missed = [queue for queue in history.destinations[written.destination]["queues"]
                  if message_id not in reached.get(queue, ())]
        if message_id in history.dead:
            if kind == "good":
                judgement.add("S", f"{message_id} is dead and nothing was wrong with it: {history.dead[message_id]}")
            elif not history.dead[message_id]:
                judgement.add("L", f"{message_id} is dead without a reason")
        elif kind == "poison":
            judgement.add("L", f"{message_id} cannot be delivered and is not dead")
        elif missed and not (kind == "lossy" and message_id in history.sent):
            judgement.add("L", f"{message_id} (key {written.key}, {written.destination}) never came to {', '.join(missed)}")
    if history.forgotten and not history.of("failover"):
        judgement.add("L", f"the database forgot {len(history.forgotten)} transactions that committed")
    for event in history.of("ended"):
        judgement.add("V", f"a relay ended by itself with {event['code']}")


def judge_phantoms(history, judgement):
    """P: nothing arrives that never committed.  Nor before its time."""
    for queue, events in history.arrived.items():
        for event in events:
            written = history.written.get(event["id"])
            if written is None:
                how = "was rolled back" if event["id"] in history.rolled_back else "was never written"
                judgement.add("P", f"{event['id']} in {queue} {how}")
            elif queue not in history.destinations[written.destination]["queues"]:
                judgement.add("P", f"{event['id']} for {written.destination} came to {queue}")
            elif written.due is not None and event["t"] < written.due:
                judgement.add("P", f"{event['id']} came {written.due - event['t']:.3f} s before its time")


def judge_order(history, judgement):
    """O, in each queue.  What is scheduled takes its place when it falls due.

    Where the broker says of the first that came of a message that it had delivered it before, nobody saw its place.
    """
    committed = {message_id: (written.key if written.due is None else None, written.sequence)
                 for message_id, written in history.written.items() if written.must}
    for queue, events in history.arrived.items():
        first = {event["id"]: event for event in reversed(events)}
        arrived = [event["id"] for event in events if event["id"] in committed and not first[event["id"]]["redelivered"]]
        for key, before, after in check(committed, arrived).disorder:
            judgement.add("O", f"in {queue}: {after} of {key} came after {before}")


def judge_duplicates(history, judgement):
    """D, between any two moments at which nothing was under way: the repeats of a death come before the next.

    A message counts as often as it was published again, whatever number of queues took it.  What the broker itself
    delivered again does not count, nor does a destination where a queue may refuse what another took.
    """
    seen, repeats, deaths = {}, {}, []
    total, section = 0, 1

    def close(t):
        nonlocal repeats, deaths, total, section
        count = sum(max(queues.values()) for queues in repeats.values())
        bound = sum(death.get("window", history.run["window"]) for death in deaths)
        if count > bound:
            judgement.add("D", f"{count} published again in section {section} (until {t:.1f}) after {len(deaths)} deaths: "
                               f"at most {bound}")
        total += count
        section += 1
        repeats, deaths = {}, []

    for event in history.events:
        if event["event"] == "death":
            deaths.append(event)
        elif event["event"] == "drained":
            close(event["t"])
        elif event["event"] == "delivered":
            message_id, queue = event["id"], event["queue"]
            again = queue in seen.setdefault(message_id, set())
            seen[message_id].add(queue)
            written = history.written.get(message_id)
            if again and not event["redelivered"] and not (
                    written and history.destinations[written.destination].get("refuses")):
                queues = repeats.setdefault(message_id, {})
                queues[queue] = queues.get(queue, 0) + 1
    close(history.events[-1]["t"])
    judgement.figures["published again"] = total


def judge_effects(history, judgement):
    """E: exactly one for each message that arrived in a queue whose consumer handles."""
    for event in history.of("effects"):
        counts = event["counts"]
        arrived = {delivery["id"] for delivery in history.arrived.get(event["queue"], [])}
        for message_id in arrived:
            if counts.get(message_id, 0) != 1:
                judgement.add("E", f"{message_id} took effect {counts.get(message_id, 0)} times by {event['queue']}")
        for message_id in counts.keys() - arrived:
            judgement.add("E", f"{message_id} took effect by {event['queue']} and never came there")


def judge_return(history, judgement):
    """V: after all is healed the backlog drains within the time, and nothing is left at the end."""
    healed, longest = None, 0
    for event in history.of("all_healed", "drained"):
        if event["event"] == "all_healed":
            if healed is not None:
                judgement.add("V", f"healed at {healed:.1f} and never drained")
            healed = event["t"]
        elif healed is not None:
            took = event["t"] - healed
            longest = max(longest, took)
            if took > history.run["drain_s"]:
                judgement.add("V", f"drained {took:.1f} s after {healed:.1f}, when all was healed")
            healed = None
    if healed is not None:
        judgement.add("V", f"healed at {healed:.1f} and never drained")
    judgement.figures["longest drain"] = f"{longest:.1f} s"


def judge_bystanders(history, judgement):
    """S: while peers are well, a message to a good destination whose key has nothing to do with others is prompt.

    A scheduled one from its time on.
    """
    spans = []
    for event in history.of("peers_well", "peers_ill"):
        if event["event"] == "peers_well":
            spans.append([event["t"], history.events[-1]["t"]])
        elif spans:
            spans[-1][1] = event["t"]
    others = {written.key for written in history.written.values() if history.kind(written) != "good"}
    first = {}
    for events in history.arrived.values():
        for event in events:
            first[event["id"]] = min(event["t"], first.get(event["id"], event["t"]))
    limit, longest, looked_at = history.run["good_s"], 0, 0
    for message_id, written in history.written.items():
        start = max(written.time, written.due or 0)
        if (not written.must or history.kind(written) != "good" or (written.key is not None and written.key in others)
                or not any(begin <= start <= end - limit for begin, end in spans)):
            continue
        looked_at += 1
        delay = first.get(message_id, history.events[-1]["t"]) - start
        longest = max(longest, delay)
        if delay > limit:
            judgement.add("S", f"{message_id} (key {written.key}) took {delay:.1f} s beside bad ones")
    judgement.figures["bystanders"] = f"{looked_at}, the slowest {longest:.2f} s"


def judge(events):
    """A Judgement of a history: dictionaries, each with t (seconds) and event:

    run          window, drain_s (V), good_s (S)
    destination  name, queues, kind: good; bad (may be refused for a while: delivered or dead); lossy (its queue may
                 vanish with what is in it: delivered, sent or dead); poison (never delivered: dead).
                 refuses: one of its queues may refuse what another takes
    committed, unknown, rolled_back   transaction, messages: [id, key, sequence, destination, due or null]; by the writer
    kept         transactions that are in the database at the end: the truth when a commit's answer was lost
    delivered    queue, id, redelivered (the broker says so)
    dead, sent   messages: {id: reason}, [id], at the end
    effects      queue, counts: {id: how often its handler, with the check of the inbox, took effect}
    death        of a relay, connection, channel or database: up to a window (its own, or the run's) comes again
    failover     the database lost what it had not replicated
    ended        a relay by itself: code
    all_healed, drained     no fault stands; nothing is under way any more
    peers_well, peers_ill   in between only messages are bad
    """
    history = History(events)
    judgement = Judgement()
    for part in (judge_loss, judge_phantoms, judge_order, judge_duplicates, judge_effects, judge_return, judge_bystanders):
        part(history, judgement)
    judgement.figures["committed"] = sum(written.must for written in history.written.values())
    judgement.figures["deliveries"] = sum(map(len, history.arrived.values()))
    judgement.figures["dead"] = len(history.dead)
    judgement.figures["deaths"] = len(history.of("death"))
    return judgement
