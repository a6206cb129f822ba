"""The checker itself finds each violation that is planted, and nothing else."""

import pytest

from checker import arrivals_by_section, check, duplicates_by_section, judge

COMMITTED = {"a1": ("a", 1), "a2": ("a", 2), "a3": ("a", 3), "b1": ("b", 1), "n1": (None, 7), "n2": (None, 3)}
IN_ORDER = ["a1", "n1", "b1", "a2", "n2", "a3"]


def test_all_well():
    verdict = check(COMMITTED, IN_ORDER)
    assert verdict.well() and verdict.duplicates == 0


def test_a_lost_message_is_found():
    verdict = check(COMMITTED, [m for m in IN_ORDER if m != "a2"])
    assert verdict.lost == {"a2"} and not verdict.well() and not verdict.disorder


def test_a_phantom_is_found():
    verdict = check(COMMITTED, IN_ORDER + ["x"])
    assert verdict.phantoms == {"x"} and not verdict.well()


def test_a_later_message_before_an_earlier_one_is_found():
    verdict = check(COMMITTED, ["a1", "a3", "a2", "b1", "n1", "n2"])
    assert verdict.disorder == [("a", 3, 2)] and not verdict.well()


def test_every_message_behind_a_later_one_is_found():
    assert len(check(COMMITTED, ["a3", "a1", "a2", "b1", "n1", "n2"]).disorder) == 2


def test_duplicates_count_and_do_not_disturb_the_order():
    verdict = check(COMMITTED, ["a1", "a2", "a1", "a2", "a3", "b1", "n2", "n1", "n1"])
    assert verdict.well() and verdict.duplicates == 3


def test_a_repeated_phantom_is_one_phantom():
    verdict = check(COMMITTED, IN_ORDER + ["x", "x"])
    assert verdict.phantoms == {"x"} and verdict.duplicates == 1


def test_markers_are_no_messages_and_part_the_sections():
    arrived = ["a1", "marker-1", "a1", "a2", "marker-2", "a1", "a2", "a2", "b1"]
    assert duplicates_by_section(arrived) == [0, 1, 3]
    assert arrivals_by_section(arrived) == [1, 2, 4]
    assert check({m: COMMITTED[m] for m in ("a1", "a2", "b1")}, arrived).well()


# ---- histories ----------------------------------------------------------------------------------------


class Forged:
    """A history in which all is well: two writers' transactions, two relays' deaths, one round of faults."""

    def __init__(self):
        self.events = []
        self.add(0, "run", window=2, drain_s=10, good_s=2)
        for name, kind, queues in (("good", "good", ["q", "audit"]), ("bad", "bad", ["b", "audit"]),
                                   ("lossy", "lossy", ["l"]), ("poison", "poison", [])):
            self.add(0, "destination", name=name, kind=kind, queues=queues)
        self.write(1, "committed", 1, ["a1", "a", 1, "good", None], ["a2", "a", 2, "bad", None])
        self.write(2, "committed", 2, ["g1", "g", 1, "good", None], ["n1", None, 0, "good", None])
        self.write(2, "rolled_back", 3, ["r1", "a", 3, "good", None])
        self.write(3, "unknown", 4, ["u1", "u", 1, "good", None])
        self.write(3, "unknown", 5, ["u2", "u", 2, "good", None])
        self.write(3, "committed", 6, ["p1", "p", 1, "poison", None], ["p2", "p", 2, "good", None])
        self.write(3, "committed", 7, ["l1", "l", 1, "lossy", None], ["l2", "l", 2, "lossy", None])
        self.write(3, "committed", 8, ["s1", "g", 9, "good", 6], ["a3", "a", 3, "good", None])
        self.add(3.5, "death")
        self.arrive(4, "a1", "q"), self.arrive(4, "g1", "q"), self.arrive(4, "n1", "q"), self.arrive(4, "u1", "q")
        self.arrive(4, "a1", "q"), self.arrive(4, "p2", "q"), self.arrive(4, "l1", "l"), self.arrive(4, "a2", "b")
        self.arrive(4.1, "a3", "q")
        self.arrive(6, "s1", "q")
        self.add(7, "all_healed")
        self.add(8, "drained")
        self.add(9, "kept", transactions=[1, 2, 4, 6, 7, 8])
        self.add(9, "dead", messages={"p1": "406 invalid header"})
        self.add(9, "sent", messages=["l2"])
        self.add(9, "effects", queue="q", counts={m: 1 for m in ("a1", "a3", "g1", "n1", "u1", "p2", "s1")})
        self.add(9, "effects", queue="b", counts={"a2": 1})

    def add(self, t, event, **fields):
        self.events.append({"t": t, "event": event, **fields})

    def write(self, t, how, transaction, *messages):
        self.add(t, how, transaction=transaction, messages=list(messages))

    def arrive(self, t, message_id, queue, redelivered=False):
        """In its own queue, and in that for all."""
        for place in [queue, "audit"] if queue in ("q", "b") else [queue]:
            self.add(t, "delivered", queue=place, id=message_id, redelivered=redelivered)

    def without(self, event, **fields):
        self.events = [e for e in self.events if e["event"] != event or any(e[k] != v for k, v in fields.items())]

    def change(self, event, **fields):
        for e in self.events:
            if e["event"] == event:
                e.update(fields)

    def effects(self, queue):
        return next(e["counts"] for e in self.events if e["event"] == "effects" and e["queue"] == queue)

    def found(self):
        return set(judge(self.events).violations)


@pytest.fixture
def forged():
    return Forged()


def test_a_history_in_which_all_is_well(forged):
    judgement = judge(forged.events)
    assert judgement.well(), str(judgement)
    assert judgement.figures["published again"] == 1 and judgement.figures["committed"] == 11


@pytest.mark.parametrize("queue", ["q", "audit"])
def test_a_message_missing_in_one_of_its_queues_is_lost(forged, queue):
    forged.without("delivered", id="g1", queue=queue)
    forged.effects("q").pop("g1" if queue == "q" else None, None)
    assert forged.found() == {"L"}


def test_a_message_whose_commit_was_in_doubt_and_that_is_kept_must_come(forged):
    forged.without("delivered", id="u1")
    assert "L" in forged.found()


def test_a_message_in_doubt_that_is_not_kept_may_stay_away(forged):
    forged.change("kept", transactions=[1, 2, 6, 7, 8])
    assert not forged.found()


def test_a_transaction_that_the_database_forgot(forged):
    forged.change("kept", transactions=[1, 2, 4, 6, 7])
    assert forged.found() == {"L"}
    forged.add(5, "failover")
    assert not forged.found()


def test_a_lost_queue_excuses_only_what_was_sent(forged):
    forged.change("sent", messages=[])
    assert forged.found() == {"L"}


def test_a_poison_message_must_be_dead_with_a_reason(forged):
    forged.change("dead", messages={"p1": ""})
    assert forged.found() == {"L"}
    forged.change("dead", messages={})
    assert forged.found() == {"L"}


def test_a_good_message_must_not_die(forged):
    forged.change("dead", messages={"p1": "406", "g1": "nacked"})
    assert forged.found() == {"S"}


def test_a_bad_message_may_die(forged):
    forged.without("delivered", id="a2")
    forged.effects("b").clear()
    assert "L" in forged.found()
    forged.change("dead", messages={"p1": "406", "a2": "312 unroutable"})
    assert not forged.found()


def test_a_message_that_rolled_back_or_that_nobody_wrote_is_a_phantom(forged):
    forged.arrive(5, "r1", "q")
    assert "P" in forged.found()
    forged.without("delivered", id="r1")
    forged.add(5, "delivered", queue="q", id="x", redelivered=False)
    assert "P" in forged.found()


def test_a_message_in_a_queue_of_others_is_a_phantom(forged):
    forged.arrive(5, "g1", "b")
    assert "P" in forged.found()


def test_a_scheduled_message_before_its_time(forged):
    forged.without("delivered", id="s1")
    forged.arrive(5.9, "s1", "q")
    assert forged.found() == {"P"}


def test_a_later_one_before_an_earlier_one_of_its_key_though_to_another_queue(forged):
    forged.without("delivered", id="a3")
    forged.arrive(3.9, "a3", "q")
    assert forged.found() == {"O"}


def test_what_first_came_as_a_redelivery_has_no_place(forged):
    forged.without("delivered", id="a3")
    forged.arrive(3.9, "a3", "q", redelivered=True)
    forged.arrive(3.95, "a3", "q", redelivered=True)
    assert not forged.found()


def test_more_repeats_than_the_deaths_explain(forged):
    forged.arrive(5, "g1", "q")
    assert not forged.found()
    forged.arrive(5, "n1", "q")
    assert forged.found() == {"D"}
    forged.add(4.5, "death", window=1)
    assert not forged.found()


def test_repeats_without_a_death_in_their_section(forged):
    forged.arrive(8.5, "g1", "q")
    assert forged.found() == {"D"}


def test_what_the_broker_delivered_again_is_not_the_relays(forged):
    for _ in range(5):
        forged.arrive(8.5, "g1", "q", redelivered=True)
    assert not forged.found()


def test_a_nack_may_repeat_in_the_queue_that_took_it(forged):
    for _ in range(5):
        forged.add(5, "delivered", queue="audit", id="a2", redelivered=False)
    assert forged.found() == {"D"}
    next(e for e in forged.events if e.get("name") == "bad")["refuses"] = True
    assert not forged.found()


@pytest.mark.parametrize("count", [0, 2])
def test_no_effect_or_two(forged, count):
    forged.effects("q")["g1"] = count
    assert forged.found() == {"E"}


def test_an_effect_of_nothing(forged):
    forged.effects("q")["r1"] = 1
    assert forged.found() == {"E"}


def test_a_backlog_that_drains_late_or_never(forged):
    forged.change("drained", t=17.5)
    assert forged.found() == {"V"}
    forged.without("drained")
    assert forged.found() == {"V"}


def test_a_relay_that_ended_by_itself(forged):
    forged.add(5, "ended", code=70)
    assert forged.found() == {"V"}


def bystander(forged, key, delay, destination="good", due=None):
    forged.add(20, "peers_well")
    forged.write(min(21, due or 21), "committed", 8, ["w1", key, 10, destination, due])
    forged.arrive(21 + delay, "w1", "q" if destination == "good" else "b")
    forged.add(30, "peers_ill")
    forged.effects("q" if destination == "good" else "b")["w1"] = 1


@pytest.mark.parametrize("key", ["g", None])
def test_a_good_message_that_waited_beside_bad_ones(forged, key):
    bystander(forged, key, 2.5)
    assert forged.found() == {"S"}


def test_a_prompt_one_and_those_that_may_wait(forged):
    bystander(forged, "g", 1.5)
    assert not forged.found()


def test_a_scheduled_one_that_is_late(forged):
    bystander(forged, None, 1.5, due=20.6)
    assert not forged.found()
    forged.change("run", good_s=1.5)
    assert forged.found() == {"S"}


def test_one_behind_a_bad_one_of_its_key_may_wait(forged):
    bystander(forged, "a", 5)
    assert not forged.found()


def test_a_bad_one_may_wait(forged):
    bystander(forged, None, 5, "bad")
    assert not forged.found()


def test_while_peers_are_ill_everyone_may_wait(forged):
    bystander(forged, "g", 5)
    forged.change("peers_ill", t=21.5)
    assert not forged.found()
