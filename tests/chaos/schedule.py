"""Which faults, when, for how long: all of it from the seed.

A run is made of rounds.  In a round each lane has its own sequence of faults, one after the other; then all is
healed and everything has to drain.  In a quiet round only messages are bad while the peers are well.  A lane deals
its kinds from a shuffled deck, so that each comes before any comes too often.
"""

import dataclasses
import random

from faults import KINDS

ROUND_S = 20
GAP_S = {"pg": 1.5, "mq": 1.5, "relays": 3, "servers": 4, "data": 2, "topology": 2}
# Each so many rounds one is quiet, the second one first.
QUIET_EVERY = 4


@dataclasses.dataclass
class Planned:
    number: int
    kind: str
    lane: str
    start_s: float      # in its round, not before
    seconds: float
    seed: str           # of what else the fault decides


class Schedule:
    """allowed: names of kinds; rounds() yields (quiet, [Planned]) until so many faults are planned."""

    def __init__(self, seed, allowed, faults):
        self.seed = seed
        self.faults = faults
        self.lanes = {}
        for name in sorted(allowed):
            self.lanes.setdefault(KINDS[name].lane, []).append(name)
        self.decks = {}
        self.number = 0

    def deal(self, lane, quiet, dice):
        deck = self.decks.setdefault((lane, quiet), [])
        if not deck:
            deck += [name for name in self.lanes[lane] for _ in range(KINDS[name].weight)
                     if not (quiet and KINDS[name].peer)]
            dice.shuffle(deck)
        return deck.pop() if deck else None

    def lane(self, lane, number, quiet):
        dice = random.Random(f"{self.seed}/{number}/{lane}")
        planned = []
        t = dice.uniform(0, GAP_S[lane])
        while t < ROUND_S and (name := self.deal(lane, quiet, dice)):
            seconds = dice.uniform(*KINDS[name].seconds)
            planned.append(Planned(0, name, lane, t, seconds, f"{self.seed}/{number}/{lane}/{len(planned)}"))
            t += seconds + dice.uniform(0, GAP_S[lane])
        return planned

    def rounds(self):
        number = 0
        while self.number < self.faults:
            number += 1
            quiet = number % QUIET_EVERY == 2 and any(not KINDS[n].peer for names in self.lanes.values() for n in names)
            planned = [p for lane in sorted(self.lanes) for p in self.lane(lane, number, quiet)]
            planned.sort(key=lambda p: (p.start_s, p.lane))
            planned = planned[:self.faults - self.number]
            for one in planned:
                self.number += 1
                one.number = self.number
            yield quiet, planned
