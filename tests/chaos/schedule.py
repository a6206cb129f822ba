"""Which faults, when, for how long: all of it from the seed.

A run is made of rounds.  In a round each lane has its own sequence of faults, one after the other; then all is
healed and everything has to drain.  In some rounds only messages are bad while the peers are well, which shows what
they do to others; in some only the peers are ill, so that no channel is closed by a message and few deaths have to
explain all repeats.  A lane deals its kinds from a shuffled deck, so that each comes before any comes too often.
"""

import dataclasses
import random

from faults import KINDS

ROUND_S = 20
GAP_S = {"pg": 1.5, "mq": 1.5, "relays": 3, "servers": 4, "data": 2, "topology": 2}
# What goes wrong in each round, over and over.
EVERYTHING, MESSAGES, PEERS = "everything", "only messages", "only peers"
ROUNDS = [EVERYTHING, MESSAGES, EVERYTHING, PEERS]


@dataclasses.dataclass
class Planned:
    number: int
    kind: str
    lane: str
    start_s: float      # in its round, not before
    seconds: float
    seed: str           # of what else the fault decides


def in_round(kind, what):
    return what == EVERYTHING or kind.peer == (what == PEERS)


class Schedule:
    """allowed: names of kinds; rounds() yields (what goes wrong, [Planned]) until so many faults are planned."""

    def __init__(self, seed, allowed, faults):
        self.seed = seed
        self.faults = faults
        self.lanes = {}
        for name in sorted(allowed):
            self.lanes.setdefault(KINDS[name].lane, []).append(name)
        self.decks = {}
        self.number = 0

    def deal(self, lane, what, dice):
        deck = self.decks.setdefault((lane, what), [])
        if not deck:
            deck += [name for name in self.lanes[lane] for _ in range(KINDS[name].weight) if in_round(KINDS[name], what)]
            dice.shuffle(deck)
        return deck.pop() if deck else None

    def lane(self, lane, number, what):
        dice = random.Random(f"{self.seed}/{number}/{lane}")
        planned = []
        t = dice.uniform(0, GAP_S[lane])
        while t < ROUND_S and (name := self.deal(lane, what, dice)):
            seconds = dice.uniform(*KINDS[name].seconds)
            planned.append(Planned(0, name, lane, t, seconds, f"{self.seed}/{number}/{lane}/{len(planned)}"))
            t += seconds + dice.uniform(0, GAP_S[lane])
        return planned

    def rounds(self):
        number = 0
        while self.number < self.faults:
            what = ROUNDS[number % len(ROUNDS)]
            number += 1
            planned = [p for lane in sorted(self.lanes) for p in self.lane(lane, number, what)]
            planned.sort(key=lambda p: (p.start_s, p.lane))
            planned = planned[:self.faults - self.number]
            for one in planned:
                self.number += 1
                one.number = self.number
            if planned:
                yield what, planned
