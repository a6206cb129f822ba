"""What was measured: samples with their median, quartiles and target."""

import dataclasses
import statistics


def quartiles(samples):
    """First quartile, median, third quartile."""
    if len(samples) == 1:
        return samples[0], samples[0], samples[0]
    return tuple(statistics.quantiles(samples, n=4, method="inclusive"))


@dataclasses.dataclass
class Figure:
    """One line of the table.  The median counts; a target is (">=" or "<=", value)."""
    measurement: str
    what: str
    samples: list
    unit: str = ""
    target: tuple = None
    places: int = 2
    note: str = ""

    def median(self):
        return quartiles(self.samples)[1]

    def met(self):
        """None without a target."""
        if self.target is None:
            return None
        relation, bound = self.target
        return self.median() >= bound if relation == ">=" else self.median() <= bound

    def as_json(self):
        first, median, third = quartiles(self.samples)
        return {"measurement": self.measurement, "what": self.what, "unit": self.unit, "median": median,
                "quartiles": [first, third], "samples": self.samples, "target": self.target, "met": self.met(),
                "note": self.note}


def ratios(pairs):
    """Of adjacent runs: [(a, b), ...] gives [a / b, ...]."""
    return [a / b for a, b in pairs]
