"""What became of the messages: compares what was committed with what arrived.

check(committed, arrived) -> Verdict, by the letters of the promises:
  lost        L: committed and never arrived
  phantoms    P: arrived and never committed
  disorder    O: first deliveries of a key that came after a later one of that key
  duplicates  D: arrivals beyond the first of a message

committed maps a message id to (key, sequence); within a key the sequence grows in the order written.  A message
without a key (None) has no order.  arrived is the list of ids in the order of arrival; ids that begin with MARKER
are the test's own and stand between sections.
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
