"""The checker itself finds each violation that is planted, and nothing else."""

from checker import arrivals_by_section, check, duplicates_by_section

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
