"""Report by exception: the vectorised gate against its rules told plainly."""

import math
from array import array
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.model import Batch, Encoding, Signal, float_to_word
from agent.pipeline.gate import DEFAULT_MAX_INTERVAL_S, Gate, Report

Row = tuple[int, int, int | None]

PLAIN = Signal("battery", "soc_pct", id=1)
OTHER = Signal("battery", "voltage_v", id=2)
T0_US = 1_700_000_000_000_000


def batch(*rows: tuple[int, int], t_us: int = T0_US, valid: bool = True) -> Batch:
    ids, words = zip(*rows, strict=True)
    return Batch(array("i", ids), array("q", [t_us + i for i in range(len(ids))]), array("q", words), valid)


def flat(batches: list[Batch]) -> list[Row]:
    """(id, µs, word or None) of each kept row, in order."""
    return [
        (int(number), int(t_us), int(word) if kept.valid else None)
        for kept in batches
        for number, t_us, word in zip(kept.ids, kept.times_us, kept.words, strict=True)
    ]


def words(batches: list[Batch]) -> list[int | None]:
    return [word for _, _, word in flat(batches)]


def test_keeps_what_changed_and_only_that() -> None:
    gate = Gate()
    assert words(gate.put(batch((1, 5), (2, 7)), 0.0)) == [5, 7]
    assert gate.put(batch((1, 5), (2, 7)), 1.0) == []
    assert flat(gate.put(batch((1, 5), (2, 8)), 2.0)) == [(2, T0_US + 1, 8)]


def test_keeps_every_change_within_one_batch() -> None:
    gate = Gate()
    rows = [(1, 1), (2, 9), (1, 1), (1, 2), (2, 9), (1, 1), (1, 1)]
    assert [(row[0], row[2]) for row in flat(gate.put(batch(*rows), 0.0))] == [(1, 1), (2, 9), (1, 2), (1, 1)]


def test_zero_is_a_value_like_any_other() -> None:
    assert words(Gate().put(batch((1, 0)), 0.0)) == [0]


def test_all_rows_changed_passes_the_batch_itself() -> None:
    sent = batch((1, 5), (2, 7))
    assert Gate().put(sent, 0.0)[0] is sent


def test_an_empty_batch_and_an_empty_touch_are_nothing() -> None:
    gate = Gate()
    empty = Batch(array("i"), array("q"), array("q"))
    assert gate.put(empty, 0.0) == []
    assert gate.touch(array("i"), 0.0, T0_US) == []


def test_takes_numpy_columns_and_plain_lists_and_large_ids() -> None:
    gate = Gate()
    columns = np.array([70_000, 3, 70_000]), np.array([1, 2, 3]), np.array([4, 5, 4])
    assert flat(gate.put(Batch(*(column.tolist() for column in columns)), 0.0)) == [(70_000, 1, 4), (3, 2, 5)]
    assert gate.put(Batch([70_000], [4], [4]), 1.0) == []


def test_an_unchanged_word_is_kept_again_while_it_is_heard() -> None:
    gate = Gate()
    gate.put(batch((1, 5), (2, 7)), 0.0)
    gate.touch(array("i", [1]), 59.0, T0_US)
    assert gate.due(59.9, T0_US) == []
    # Signal 2 was not heard since: repeating it would claim that somebody saw it.
    assert flat(gate.due(60.0, T0_US + 60_000_000)) == [(1, T0_US + 59_000_000, 5)]
    assert gate.due(61.0, T0_US + 61_000_000) == []
    gate.put(batch((2, 7)), 62.0)
    assert flat(gate.due(62.0, T0_US + 62_000_000)) == [(2, T0_US + 62_000_000, 7)]


def test_max_interval_can_be_set_and_switched_off() -> None:
    gate = Gate()
    gate.configure(PLAIN, Report(max_interval_s=5.0))
    gate.configure(OTHER, Report(max_interval_s=math.inf))
    gate.put(batch((1, 5), (2, 7)), 0.0)
    gate.touch(array("i", [1, 2]), 5.0, T0_US)
    assert words(gate.due(5.0, T0_US)) == [5]
    gate.touch(array("i", [1, 2]), 1e6, T0_US)
    assert words(gate.due(1e6, T0_US)) == [5]


def test_unknown_is_kept_once_per_edge() -> None:
    gate = Gate()
    gate.put(batch((1, 5), (2, 7)), 0.0)
    gone = batch((1, 0), (1, 0), (2, 0), valid=False)
    assert flat(gate.put(gone, 1.0)) == [(1, T0_US, None), (2, T0_US + 2, None)]
    assert gate.put(gone, 2.0) == []
    assert gate.due(100.0, T0_US) == []
    assert words(gate.put(batch((1, 5)), 3.0)) == [5], "the old word is news after the gap"


def test_unknown_is_kept_of_a_signal_never_heard() -> None:
    gate = Gate()
    assert words(gate.put(batch((9, 0), valid=False), 0.0)) == [None]
    assert gate.put(batch((9, 0), valid=False), 0.0) == []


def test_a_touch_brings_back_what_was_unknown() -> None:
    gate = Gate()
    gate.put(batch((1, 5)), 0.0)
    gate.put(batch((1, 0), valid=False), 1.0)
    assert flat(gate.touch(array("i", [1, 1, 2]), 2.0, T0_US)) == [(1, T0_US, 5)]
    assert gate.touch(array("i", [1]), 3.0, T0_US) == []


def test_a_touch_makes_no_value_of_nothing() -> None:
    gate = Gate()
    gate.put(batch((1, 0), valid=False), 0.0)
    assert gate.touch(array("i", [1]), 1.0, T0_US) == []


def test_every_keeps_unchanged_rows_too() -> None:
    gate = Gate()
    gate.configure(PLAIN, Report(every=True))
    assert words(gate.put(batch((1, 5), (1, 5), (2, 7), (2, 7)), 0.0)) == [5, 5, 7]
    assert flat(gate.touch(array("i", [1, 2]), 1.0, T0_US)) == [(1, T0_US, 5)]


def test_deadband_is_physical_and_measured_from_the_last_kept_value() -> None:
    gate = Gate()
    gate.configure(Signal("battery", "voltage_v", scale=0.1, id=1), Report(deadband=1.0))
    kept = [words(gate.put(batch((1, word)), float(n))) for n, word in enumerate([500, 510, 511, 505, 501, 500])]
    assert kept == [[500], [], [511], [], [], [500]]


def test_a_distance_of_exactly_the_deadband_is_inside_of_it_also_after_rounding() -> None:
    gate = Gate()
    gate.configure(Signal("battery", "voltage_v", scale=0.1, offset=-40, id=1), Report(deadband=0.3))
    assert [words(gate.put(batch((1, word)), float(n))) for n, word in enumerate([500, 503, 497, 504])] == [
        [500],
        [],
        [],
        [504],
    ]


def test_deadband_on_unsigned_and_float_words() -> None:
    gate = Gate()
    gate.configure(Signal("a", "u", encoding=Encoding.UINT, id=1), Report(deadband=2))
    assert words(gate.put(batch((1, -1)), 0.0)) == [-1]  # 2**64 - 1
    assert words(gate.put(batch((1, -3), (1, 1)), 1.0)) == [1]
    gate.configure(Signal("a", "f", encoding=Encoding.FLOAT, id=2), Report(deadband=0.5))
    numbers = [float_to_word(value) for value in (1.0, 1.4, math.nan, 1.2)]
    assert words(gate.put(batch(*((2, word) for word in numbers)), 0.0)) == [numbers[0], numbers[2], numbers[3]]


def test_the_last_value_of_a_burst_is_kept_when_its_interval_is_over() -> None:
    gate = Gate()
    gate.configure(PLAIN, Report(min_interval_s=1.0))
    assert words(gate.put(batch((1, 1), (1, 2), (1, 3)), 0.0)) == [1]
    assert gate.put(batch((1, 4), t_us=T0_US + 500_000), 0.5) == []
    assert gate.due(0.9, T0_US) == []
    assert flat(gate.due(1.0, T0_US)) == [(1, T0_US + 500_000, 4)]
    assert gate.due(2.0, T0_US) == []


def test_a_burst_that_ends_where_it_began_leaves_nothing_waiting() -> None:
    gate = Gate()
    gate.configure(PLAIN, Report(min_interval_s=1.0))
    gate.put(batch((1, 1), (1, 9), (1, 1)), 0.0)
    assert gate.due(5.0, T0_US) == []


def test_what_waits_is_kept_before_the_signal_becomes_unknown() -> None:
    gate = Gate()
    gate.configure(PLAIN, Report(min_interval_s=1.0))
    gate.put(batch((1, 1), (1, 2)), 0.0)
    assert words(gate.put(batch((1, 0), valid=False), 0.1)) == [2, None]


def test_a_rule_can_be_taken_back() -> None:
    gate = Gate()
    gate.configure(PLAIN, Report(deadband=10))
    gate.put(batch((1, 1), (1, 2)), 0.0)
    gate.configure(PLAIN, Report())
    assert words(gate.put(batch((1, 3)), 0.0)) == [3]


@pytest.mark.parametrize(
    "wrong",
    [
        {"deadband": -1.0},
        {"deadband": math.nan},
        {"min_interval_s": -1.0},
        {"min_interval_s": math.inf},
        {"max_interval_s": 0.0},
        {"min_interval_s": 61.0},
        {"every": True, "deadband": 1.0},
        {"every": True, "min_interval_s": 1.0},
    ],
)
def test_rules_that_mean_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be|goes with"):
        Report(**wrong)  # type: ignore[arg-type]


@dataclass
class _Told:
    """One signal of the reference: the rules of gate.py, one row at a time."""

    report: Report
    state: str = "unseen"
    newest: int = 0
    kept: int = 0
    kept_s: float = -math.inf
    heard_s: float = 0.0
    waiting: tuple[int, int] | None = None

    def put(self, t_us: int, word: int, now_s: float) -> bool:
        self.newest, self.heard_s = word, now_s
        was, self.state = self.state, "valid"
        self.waiting = None
        if was == "valid" and not self.report.every:
            if word == self.kept:
                return False
            if self.report.deadband is not None and abs(word - self.kept) <= self.report.deadband:
                return False
            if now_s - self.kept_s < self.report.min_interval_s:
                self.waiting = (t_us, word)
                return False
        self.keep(word, now_s)
        return True

    def keep(self, word: int, now_s: float) -> None:
        self.kept, self.kept_s, self.waiting = word, now_s, None


@dataclass
class _Reference:
    told: dict[int, _Told] = field(default_factory=dict)
    rules: dict[int, Report] = field(default_factory=dict)

    def of(self, number: int) -> _Told:
        return self.told.setdefault(number, _Told(self.rules.get(number, Report())))

    def put(self, rows: list[tuple[int, int]], now_s: float, t_us: int) -> list[Row]:
        return [
            (number, t_us + i, word)
            for i, (number, word) in enumerate(rows)
            if self.of(number).put(t_us + i, word, now_s)
        ]

    def gone(self, numbers: list[int], now_s: float, t_us: int) -> list[Row]:
        waited: list[Row] = []
        edges: list[Row] = []
        for i, number in enumerate(numbers):
            told = self.of(number)
            if told.state in {"invalid", "blank"}:
                continue
            if told.waiting:
                waited.append((number, *told.waiting))
                told.keep(told.waiting[1], now_s)
            told.state, told.kept_s = "invalid" if told.state == "valid" else "blank", now_s
            edges.append((number, t_us + i, None))
        return waited + edges

    def touch(self, numbers: list[int], now_s: float, now_us: int) -> list[Row]:
        back: list[Row] = []
        for number in sorted(set(numbers)):
            told = self.of(number)
            told.heard_s = now_s
            if told.state == "invalid" or (told.state == "valid" and told.report.every):
                told.state = "valid"
                told.keep(told.newest, now_s)
                back.append((number, now_us, told.newest))
        return back

    def due(self, now_s: float, now_us: int) -> set[Row]:
        rows: set[Row] = set()
        for number, told in self.told.items():
            if told.waiting and now_s - told.kept_s >= told.report.min_interval_s:
                rows.add((number, *told.waiting))
                told.keep(told.waiting[1], now_s)
        for number, told in self.told.items():
            quiet = told.heard_s > told.kept_s and now_s - told.kept_s >= told.report.max_interval_s
            if told.state == "valid" and quiet:
                told.keep(told.newest, now_s)
                rows.add((number, now_us - round((now_s - told.heard_s) * 1e6), told.newest))
        return rows


NUMBERS = st.integers(1, 6)
WORDS = st.integers(-3, 3)
STEPS = st.one_of(
    st.tuples(st.just("put"), st.lists(st.tuples(NUMBERS, WORDS), min_size=1, max_size=12)),
    st.tuples(st.just("gone"), st.lists(NUMBERS, min_size=1, max_size=4)),
    st.tuples(st.just("touch"), st.lists(NUMBERS, min_size=1, max_size=4)),
    st.tuples(st.just("wait"), st.sampled_from([0.25, 0.5, 1.0, 30.0, 60.0])),
)
RULES = {
    2: Report(every=True),
    3: Report(deadband=1.0),
    4: Report(min_interval_s=1.0),
    5: Report(deadband=1.0, min_interval_s=1.0, max_interval_s=2.0),
    6: Report(max_interval_s=1.5),
}


@settings(max_examples=300, deadline=None)
@given(steps=st.lists(STEPS, max_size=30), ruled=st.booleans())
def test_equals_its_rules_told_plainly(steps: list[tuple[str, object]], ruled: bool) -> None:  # noqa: FBT001 - drawn
    gate, reference = Gate(), _Reference()
    if ruled:
        reference.rules = RULES
        for number, report in RULES.items():
            gate.configure(Signal("d", str(number), id=number), report)
    now_s, now_us = 1000.0, T0_US
    for what, argument in steps:
        if what == "wait":
            assert isinstance(argument, float)
            now_s += argument
            now_us += round(argument * 1e6)
            assert set(flat(gate.due(now_s, now_us))) == reference.due(now_s, now_us)
            continue
        assert isinstance(argument, list)
        if what == "put":
            assert flat(gate.put(batch(*argument, t_us=now_us), now_s)) == reference.put(argument, now_s, now_us)
        elif what == "gone":
            rows = batch(*((number, 0) for number in argument), t_us=now_us, valid=False)
            assert flat(gate.put(rows, now_s)) == reference.gone(argument, now_s, now_us)
        else:
            touched = gate.touch(array("i", argument), now_s, now_us)
            assert flat(touched) == reference.touch(argument, now_s, now_us)


def test_default_repeats_once_a_minute() -> None:
    assert DEFAULT_MAX_INTERVAL_S == 60.0
