"""The engine and its facts: against a naive model that evaluates everything, and case by case."""

import math
import operator
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.control.alarm_model import RuleSpec
from agent.control.engine import Engine
from agent.control.facts import Facts, decoder
from agent.control.when import Condition, parse, parse_clear
from agent.control.when_parse import subjects
from agent.control.when_tree import Calc, Check, Compare, Const, Logic, Measure, Read, Text, Truth, Value, nodes, show
from agent.control.window import SAMPLES, Window
from agent.core.clock import FakeClock
from agent.core.model import Batch, Encoding, Number, Signal, float_to_word, word_to_float
from agent.pipeline.columns import rows_of, spots_of
from agent.pipeline.flow import Flow
from agent.pipeline.gate import Gate, Report
from agent.pipeline.hub import Hub
from tests.unit.when_random import truths

SIGNALS = (
    Signal("a", "temperature_degc", unit="°C", scale=0.1, id=1),
    Signal("a", "charger_status", labels={0: "Available", 1: "Faulted", 2: "faulted"}, id=2),
    Signal("b", "power_w", unit="W", encoding=Encoding.FLOAT, id=3),
    Signal("b", "energy_wh", encoding=Encoding.UINT, scale=2, offset=-1, id=4),
    Signal("b", "alive_counter", id=300),
)
NAN, INF = float_to_word(math.nan), float_to_word(math.inf)
#: Words of each signal: few, so that they repeat.
WORDS = {
    1: (0, 3, 523, -7),
    2: (0, 1, 2, 9),
    3: (NAN, INF, float_to_word(0.0), float_to_word(0.1), float_to_word(1e308)),
    4: (0, 1, -1, 1 << 62),
    300: (0, 1, 2),
}


def batch(*rows: tuple[int, int] | tuple[int, int, int], valid: bool = True) -> Batch:
    """(signal, word) or (signal, word, time in µs)."""
    times_us = array("q", [row[2] if len(row) > 2 else 0 for row in rows])
    return Batch(array("i", [row[0] for row in rows]), times_us, array("q", [row[1] for row in rows]), valid)


Told = tuple[str, bool | None, bool | None, float]


# -- the naive model: history in full, every rule evaluated by walking its tree


def physical(signal: Signal, word: int) -> Number | None:
    if signal.encoding is Encoding.FLOAT:
        value = word_to_float(word)
        return value if math.isfinite(value) else None
    raw = word + (1 << 64) if signal.encoding is Encoding.UINT and word < 0 else word
    if isinstance(signal.scale, int):
        return raw * signal.scale + int(signal.offset)
    return float(Decimal(raw) * Decimal(repr(signal.scale)) + Decimal(repr(signal.offset)))


@dataclass
class Naive:
    """Facts and engine in one. ``history`` of a signal: (time, value), with None where it became unknown."""

    specs: Sequence[RuleSpec] = ()
    now_s: float = 0.0
    born_s: float = 0.0
    told: list[Told] = field(default_factory=list)
    last: dict[str, tuple[Condition, Condition | None, bool | None, bool | None]] = field(default_factory=dict)
    word: dict[int, int] = field(default_factory=dict)
    known: set[int] = field(default_factory=set)
    heard_s: dict[int, float] = field(default_factory=dict)
    since_s: dict[int, float] = field(default_factory=dict)
    history: dict[int, list[tuple[float, Number | None]]] = field(default_factory=dict)

    def bind(self, specs: Sequence[RuleSpec], now_s: float) -> None:
        self.now_s = now_s
        self.specs = specs
        self.last = {spec.id: self.last[spec.id] for spec in specs if spec.id in self.last}
        self.judge(lambda _: True)

    def rows(self, rows: Iterable[tuple[int, int, int]], now_s: float, *, valid: bool) -> None:
        self.now_s = now_s
        if valid:
            # Who arrived together was heard together, and is no longer what it was, whatever came first.
            rows = list(rows)
            self.heard_s.update(dict.fromkeys((number for number, _, _ in rows), now_s))
            moved = [number for number, word, _ in rows if number not in self.known or self.word[number] != word]
            self.since_s.update(dict.fromkeys(moved, now_s))
        instant_us, changed = 0, set[int]()
        for number, word, t_us in rows:
            old = self.word.get(number) if number in self.known else None
            if old == word if valid else old is None:
                continue
            if self.is_read(number):
                if changed and (t_us != instant_us or number in changed):
                    self.instant(changed)
                    changed = set()
                instant_us = t_us
                changed.add(number)
            if valid:
                self.learn(number, word)
            else:
                self.known.discard(number)
                self.note(number, None)
        if changed:
            self.instant(changed)

    def touch(self, numbers: Iterable[int], now_s: float) -> None:
        self.now_s = now_s
        changed = set()
        for number in numbers:
            if number not in self.word:
                continue
            self.heard_s[number] = now_s
            if number not in self.known:
                changed.add(number)
                self.since_s[number] = now_s
                self.learn(number, self.word[number])
        self.instant(changed)

    def is_read(self, number: int) -> bool:
        """Rows of signals that no rule reads part no instants."""
        name = next(signal.full_name for signal in SIGNALS if signal.id == number)
        return any(name in one.signals for spec in self.specs for one in conditions(spec))

    def learn(self, number: int, word: int) -> None:
        self.word[number] = word
        self.known.add(number)
        (signal,) = (one for one in SIGNALS if one.id == number)
        self.note(number, physical(signal, word))

    def note(self, number: int, value: Number | None) -> None:
        self.history.setdefault(number, []).append((self.now_s, value))

    def tick(self, now_s: float) -> None:
        self.now_s = now_s
        self.judge(lambda spec: any(one.timed for one in conditions(spec)))

    def instant(self, changed: set[int]) -> None:
        """Every rule that time alone can't change is evaluated; one that it can, when what it reads has changed."""
        names = {signal.full_name for signal in SIGNALS if signal.id in changed}

        def due(spec: RuleSpec) -> bool:
            both = conditions(spec)
            return any(one.signals & names for one in both) or not any(one.timed for one in both)

        self.judge(due)

    def judge(self, due: Callable[[RuleSpec], bool]) -> None:
        for spec in filter(due, self.specs):
            when = self.truth(spec.when.tree)
            contrary = None if when is None else not when
            clear = contrary if spec.clear is None else self.truth(spec.clear.tree)
            now = (spec.when, spec.clear, when, clear)
            if self.last.get(spec.id) != now:
                self.last[spec.id] = now
                self.told.append((spec.id, when, clear, self.now_s))

    def number(self, name: str) -> int | None:
        return next((signal.id for signal in SIGNALS if signal.full_name == name), None)

    def value(self, name: str) -> Number | None:
        past = self.history.get(self.number(name) or 0)
        return past[-1][1] if past else None

    def age_s(self, subject: str) -> float | None:
        mine = [signal.id for signal in SIGNALS if subject in (signal.device, signal.full_name)]
        if not mine:
            return None
        return self.now_s - max(
            (self.heard_s[number] for number in mine if number in self.heard_s), default=self.born_s
        )

    def rate(self, name: str, seconds: Number) -> float | None:
        past = self.history.get(self.number(name) or 0, [])
        unknown = max((place for place, (_, value) in enumerate(past) if value is None), default=-1)
        known = [(t_s, value) for t_s, value in past[unknown + 1 :] if value is not None]
        before = [value for t_s, value in known if t_s <= self.now_s - seconds]
        if not before:
            return None
        try:
            rate = (known[-1][1] - before[-1]) / float(seconds)
        except OverflowError:
            return None
        return rate if math.isfinite(rate) else None

    def truth(self, tree: Truth) -> bool | None:
        if isinstance(tree, Read):
            value = self.value(tree.signal)
            return None if value is None else value != 0
        if isinstance(tree, Logic):
            parts = [self.truth(part) for part in tree.parts]
            if tree.op == "not":
                return None if parts[0] is None else not parts[0]
            decisive = tree.op == "or"
            return decisive if decisive in parts else None if None in parts else not decisive
        return self.compare(tree) if isinstance(tree, Compare) else self.check(tree)

    def compare(self, tree: Compare) -> bool | None:
        for state, text in ((tree.left, tree.right), (tree.right, tree.left)):
            if isinstance(state, Read) and isinstance(text, Text):
                value, number = self.value(state.signal), self.number(state.signal)
                if value is None or number is None:
                    return None
                label = next(one for one in SIGNALS if one.id == number).labels.get(int(value))
                same = value == int(value) and label is not None and label.casefold() == text.text.casefold()
                return same if tree.op == "==" else not same
        left, right = self.calculate(tree.left), self.calculate(tree.right)
        if left is None or right is None:
            return None
        return {
            "<": left < right,
            "<=": left <= right,
            ">": left > right,
            ">=": left >= right,
            "==": left == right,
            "!=": left != right,
        }[tree.op]

    def check(self, tree: Check) -> bool | None:
        seconds = tree.seconds or 0
        if tree.function == "silent":
            age_s = self.age_s(tree.subject)
            return None if age_s is None else age_s >= seconds
        number = self.number(tree.subject)
        if number is None:
            return None
        if tree.function == "known":
            return self.value(tree.subject) is not None
        if self.value(tree.subject) is None:
            return None
        return self.heard_s[number] - self.since_s[number] >= seconds

    def calculate(self, tree: Value) -> Number | None:
        if isinstance(tree, Const):
            return tree.value
        if isinstance(tree, Read):
            return self.value(tree.signal)
        if isinstance(tree, Measure):
            return self.age_s(tree.subject) if tree.function == "age" else self.rate(tree.subject, tree.seconds or 0)
        assert isinstance(tree, Calc)
        found = [self.calculate(arg) for arg in tree.args]
        args = [value for value in found if value is not None]
        if len(args) < len(found):
            return None
        first = args[0]
        try:
            results: dict[str, Callable[[], Number]] = {
                "+": lambda: reduce(operator.add, args),
                "-": lambda: first - args[1],
                "*": lambda: reduce(operator.mul, args),
                "/": lambda: first / args[1],
                "neg": lambda: -first,
                "abs": lambda: abs(first),
                "min": lambda: min(args),
                "max": lambda: max(args),
            }
            result = results[tree.op]()
            return result if math.isfinite(result) else None
        except (OverflowError, ZeroDivisionError):
            return None


def conditions(spec: RuleSpec) -> list[Condition]:
    return [one for one in (spec.when, spec.clear) if one is not None]


# -- the engine against it


def condition(tree: Truth) -> Condition:
    """As the parser makes it."""
    about = subjects(tree)
    timed = any(isinstance(node, Check | Measure) and node.function != "known" for node in nodes(tree))
    names = frozenset(name for name in about if "." in name)
    return Condition(show(tree), tree, names, about - names, timed)


NAMES = st.sampled_from([signal.full_name for signal in SIGNALS] * 3 + ["nobody.x"])
#: Whole seconds, so that each time has its own part of a window.
CONDITIONS = truths(NAMES, st.sampled_from(["a", "b", "nobody"]), st.sampled_from([1, 2, 4])).map(condition)
FIXED = [
    RuleSpec("hot", parse("a.temperature_degc > 52.2"), parse("a.temperature_degc < 0.3")),
    RuleSpec("both", parse("a.temperature_degc == 52.3 and b.alive_counter == 1")),
    RuleSpec("label", parse("a.charger_status == 'FAULTED' or b.power_w")),
    RuleSpec("fast", parse("rate(b.alive_counter, 2s) > 0.4")),
    RuleSpec("frozen", parse("unchanged(b.alive_counter, 3s)"), parse("known(b.alive_counter)")),
    RuleSpec("gone", parse("silent(b, 3s) or age(a.temperature_degc) > 4")),
]
IDS = st.sampled_from(list(WORDS))
ROW = IDS.flatmap(lambda number: st.tuples(st.just(number), st.sampled_from(WORDS[number]), st.integers(0, 2)))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("rows"), st.lists(ROW, min_size=1, max_size=6)),
        st.tuples(st.just("rows"), st.lists(ROW, min_size=1, max_size=6, unique_by=lambda row: row[0])),
        st.tuples(st.just("lost"), st.lists(ROW, min_size=1, max_size=4)),
        st.tuples(st.just("touched"), st.lists(IDS, min_size=1, max_size=4)),
        st.tuples(st.just("tick"), st.just(None)),
        st.tuples(st.just("wait"), st.integers(1, 3)),
        st.tuples(st.just("bind"), st.permutations(range(len(FIXED)))),
    ),
    max_size=30,
)


@given(
    st.lists(st.tuples(CONDITIONS, st.none() | CONDITIONS), max_size=4),
    STEPS,
    st.sampled_from([0, 300]),
)
def test_judges_as_if_every_rule_was_evaluated_each_time(
    random: list[tuple[Condition, Condition | None]], steps: list[tuple[str, object]], padding: int
) -> None:
    """``padding``: rows of a signal that never changes, so many that the batch is handled as a large one."""
    specs = [*FIXED, *(RuleSpec(f"r{n}", when, clear) for n, (when, clear) in enumerate(random))]
    told: list[Told] = []
    engine = Engine(lambda *judgement: told.append(judgement))
    naive = Naive()
    now_s = 0.0
    engine.bind(specs, SIGNALS, now_s)
    naive.bind(specs, now_s)
    for word, what in steps:
        if word == "wait":
            now_s += what  # type: ignore[operator]
        elif word == "tick":
            engine.tick(now_s)
            naive.tick(now_s)
        elif word == "touched":
            engine.touched(spots_of(what), now_s)  # type: ignore[arg-type]
            naive.touch(what, now_s)  # type: ignore[arg-type]
        elif word == "bind":
            order = [specs[place] for place in what] + specs[len(FIXED) :]  # type: ignore[attr-defined]
            engine.bind(order, SIGNALS, now_s)
            naive.bind(order, now_s)
        else:
            rows: list[tuple[int, int, int]] = what  # type: ignore[assignment]
            padded = rows + [(7, 7, 0)] * padding
            engine.rows(rows_of(batch(*padded, valid=word == "rows")), now_s)
            naive.rows(rows, now_s, valid=word == "rows")
        assert told == naive.told
    for spec in specs:
        assert engine.explain(spec.id)
        assert engine.inputs(spec.id).keys() >= {
            node.signal for node in nodes(spec.when.tree) if isinstance(node, Read)
        }


# -- case by case


class Rig:
    """An engine over the signals, with rules by their texts; what was told since the last look, without the clears."""

    def __init__(self, **texts: str) -> None:
        self.told: list[tuple[str, bool | None]] = []
        self.engine = Engine(lambda rule, when, _clear, _now_s: self.told.append((rule, when)))
        self.specs = [RuleSpec(name, parse(text)) for name, text in texts.items()]
        self.unknown = self.engine.bind(self.specs, SIGNALS, 0.0)
        self.told.clear()

    def rows(self, now_s: float, *rows: tuple[int, int] | tuple[int, int, int], valid: bool = True) -> None:
        self.engine.rows(rows_of(batch(*rows, valid=valid)), now_s)

    def look(self) -> list[tuple[str, bool | None]]:
        told, self.told[:] = list(self.told), []
        return told


def test_a_new_rule_is_told_once_also_when_nothing_is_known() -> None:
    told: list[Told] = []
    engine = Engine(lambda *judgement: told.append(judgement))
    hot = parse("a.temperature_degc > 50")
    specs = [RuleSpec("hot", hot, parse_clear("< 45", hot)), RuleSpec("lost", parse("not known(b.power_w)"))]
    assert engine.bind(specs, SIGNALS, 3.0) == []
    assert told == [("hot", None, None, 3.0), ("lost", True, False, 3.0)]
    engine.bind(specs, SIGNALS, 4.0)
    assert len(told) == 2
    engine.rows(rows_of(batch((1, 480))), 5.0)
    assert told[2:] == [("hot", False, False, 5.0)]
    engine.bind([RuleSpec("hot", parse("a.temperature_degc > 40"))], SIGNALS, 6.0)
    assert told[3:] == [("hot", True, False, 6.0)], "the value stays; another condition is told anew"
    engine.bind([RuleSpec("hot", parse("a.temperature_degc > 41"))], SIGNALS, 7.0)
    assert told[4:] == [("hot", True, False, 7.0)], "also when it comes to the same"


def test_a_spike_of_one_sample_counts() -> None:
    rig = Rig(hot="a.temperature_degc > 50")
    rig.rows(1.0, (1, 400, 10), (1, 523, 20), (1, 400, 30))
    assert rig.look() == [("hot", False), ("hot", True), ("hot", False)]
    rig.rows(2.0, (1, 523, 40), (1, 400, 40))
    assert rig.look() == [("hot", True), ("hot", False)], "also within one time stamp"


def test_rows_of_one_time_are_one_instant() -> None:
    rig = Rig(differ="a.charger_status != b.alive_counter")
    rig.rows(1.0, (2, 1, 10), (300, 1, 10))
    rig.rows(2.0, (2, 2, 20), (300, 2, 20))
    assert rig.look() == [("differ", False)]
    rig.rows(3.0, (2, 1, 30), (300, 1, 31))
    assert rig.look() == [("differ", True), ("differ", False)]
    rig.rows(4.0, (2, 2, 40), (2, 2, 40), (300, 2, 40))
    assert rig.look() == [], "a row that changes nothing begins no instant"


def test_only_rules_that_read_what_changed_are_evaluated() -> None:
    rig = Rig(hot="a.temperature_degc > 50", power="b.power_w > 5", gone="silent(b, 5s)")
    rig.rows(1.0, (1, 400), (2, 1))
    before = rig.engine.evaluations
    rig.rows(2.0, (1, 400), (2, 2), (300, 7))
    assert rig.engine.evaluations == before
    rig.rows(3.0, (1, 401))
    assert rig.engine.evaluations == before + 1
    rig.engine.tick(4.0)
    assert rig.engine.evaluations == before + 2


def test_says_what_nobody_has() -> None:
    texts = {
        "one": "a.temperature > 5 or b.power_w > 5",
        "two": "silent(c, 5s) or a.temperature > 6",
        "three": "a.charger_status == 'Fautled' or a.charger_status == 'fAulted'",
        "four": "'x' != b.power_w and c.x == 'y'",
    }
    assert Rig(**texts).unknown == [
        "a.temperature",
        "c",
        'a.charger_status == "Fautled"',
        "c.x",
        '"x" != b.power_w',
    ]


def test_silence_and_age_begin_when_the_signal_does() -> None:
    rig = Rig(gone="silent(b, 5s)", old="age(b.power_w) > 3")
    for now_s in (2.9, 3.1, 4.9):
        rig.engine.tick(now_s)
    assert rig.look() == [("old", True)]
    rig.engine.tick(5.0)
    assert rig.look() == [("gone", True)]
    rig.rows(6.0, (300, 1))
    rig.engine.tick(6.0)
    assert rig.look() == [("gone", False)], "any signal of the device is enough"
    rig.engine.touched(spots_of([300]), 9.0)
    rig.engine.tick(11.0)
    assert rig.look() == [], "heard unchanged is heard"
    rig.rows(12.0, (300, 0), valid=False)
    rig.engine.tick(14.0)
    assert rig.look() == [("gone", True)], "that it became unknown is no hearing"


def test_a_device_that_was_away_from_the_configuration_begins_anew() -> None:
    rig = Rig(gone="silent(b, 5s)", power="b.power_w > 5", alive="b.alive_counter")
    rig.rows(1.0, (3, float_to_word(7.0)), (300, 1))
    rig.engine.bind(rig.specs, SIGNALS[:2], 2.0)
    rig.look()
    assert rig.engine.bind(rig.specs, SIGNALS, 100.0) == []
    rig.engine.tick(104.9)
    rig.engine.touched(spots_of([3]), 104.9)
    assert rig.look() == [("gone", False)], "nothing is known of it, and a touch repeats nothing"
    rig.engine.tick(105.0)
    assert rig.look() == [("gone", True)]


def test_frozen_is_heard_and_the_same() -> None:
    rig = Rig(frozen="unchanged(b.alive_counter, 10s)")
    rig.rows(1.0, (300, 5))
    rig.look()
    rig.engine.tick(60.0)
    assert rig.look() == [], "silence is not freezing"
    rig.rows(60.5, (300, 5))
    rig.engine.tick(61.0)
    assert rig.look() == [("frozen", True)]
    assert rig.engine.explain("frozen") == "b.alive_counter is 5 since 59.5 s"
    rig.rows(62.0, (300, 6))
    assert rig.look() == [("frozen", False)]
    rig.rows(70.0, (300, 0), valid=False)
    rig.engine.touched(spots_of([300]), 80.0)
    assert rig.look() == [("frozen", None), ("frozen", False)], "it was not heard all the time"
    rig.engine.touched(spots_of([300]), 90.0)
    rig.engine.tick(90.0)
    assert rig.look() == [("frozen", True)]


def test_what_expires_in_the_hub_is_unknown_to_rules_until_a_touch() -> None:
    clock = FakeClock()
    hub = Hub(clock)
    flow = Flow(clock, Gate(), hub, lambda _: None)
    rig = Rig(hot="a.temperature_degc > 50")
    flow.put(batch((1, 523)))
    flow.watcher = rig.engine
    flow.put(batch((1, 524)))
    hub.stale_after(SIGNALS[0], 3.0)
    assert rig.look() == [("hot", True)]
    clock.advance(4.0)
    flow.tick()
    assert rig.look() == [("hot", None)]
    flow.touch(array("i", [1]))
    assert rig.look() == [("hot", True)]


def test_the_gate_thins_nothing_out_for_rules() -> None:
    clock = FakeClock()
    gate, kept = Gate(), list[Batch]()
    flow = Flow(clock, gate, Hub(clock), kept.append)
    gate.configure(SIGNALS[0], Report(deadband=10.0))
    rig = Rig(hot="a.temperature_degc > 50")
    flow.watcher = rig.engine
    flow.put(batch((1, 495)))
    flow.put(batch((1, 505)))
    assert len(kept) == 1
    assert rig.look() == [("hot", False), ("hot", True)]


def test_who_is_told_may_ask_why() -> None:
    heard: list[str] = []
    engine = Engine(lambda rule, _when, _clear, _now_s: heard.append(engine.explain(rule)))
    engine.bind([RuleSpec("hot", parse("a.temperature_degc > 50"))], SIGNALS, 0.0)
    engine.rows(rows_of(batch((1, 523, 1), (1, 400, 2))), 1.0)
    assert heard == [
        "a.temperature_degc is not known",
        "a.temperature_degc is 52.3 °C (> 50)",
        "a.temperature_degc is 40 °C (not > 50)",
    ]
    assert engine.inputs("hot") == {"a.temperature_degc": 40}
    assert (engine.explain("no such rule"), engine.inputs("no such rule")) == ("", {})


def test_a_scale_that_changes_counts_at_once() -> None:
    rig = Rig(hot="a.temperature_degc > 50", fast="rate(a.temperature_degc, 2s) > 100")
    rig.rows(1.0, (1, 50))
    rig.engine.tick(4.0)
    rig.look()
    tens = Signal("a", "temperature_degc", unit="°C", scale=10, id=1)
    rig.engine.bind(rig.specs, [tens, *SIGNALS[1:]], 5.0)
    assert rig.look() == [("hot", True)]
    rig.rows(6.0, (1, 51))
    assert rig.look() == [], "it rose by 10 °C, not from 5 to 510"


# -- windows and numbers


@given(
    st.lists(st.tuples(st.floats(0, 3), st.floats(-1e6, 1e6)), min_size=1, max_size=300), st.sampled_from([1, 10, 60])
)
def test_a_window_is_bounded_and_right_to_a_part_of_it(moves: list[tuple[float, float]], seconds: int) -> None:
    window, history, now_s = Window(seconds), list[tuple[float, float]](), 5.0
    for step_s, value in moves:
        now_s += step_s / 10
        window.put(now_s, value)
        history.append((now_s, value))
        assert len(window) <= SAMPLES + 2
    rate = window.rate(now_s)
    part_s = seconds / SAMPLES
    start_s = now_s - seconds
    around = [value for t_s, value in history if start_s - part_s <= t_s <= start_s]
    before = [value for t_s, value in history if t_s <= start_s - part_s]
    possible = {(history[-1][1] - value) / seconds for value in around + before[-1:]}
    if rate is None:
        assert not before
    else:
        assert rate in possible


def test_a_window_of_a_flood_keeps_its_bound() -> None:
    window = Window(60)
    for n in range(60_001):
        window.put(n / 100, n)
    assert len(window) <= SAMPLES + 2
    assert window.rate(600.0) == pytest.approx(100.0, rel=2 / SAMPLES)
    window.put(601.0, None)
    assert len(window) == 0
    assert window.rate(700.0) is None


def test_a_rate_is_from_the_value_that_held_when_the_window_began() -> None:
    window = Window(10)
    window.put(0.0, 100)
    assert window.rate(9.9) is None
    window.put(10.0, 5)
    assert window.rate(19.9) == -9.5
    assert window.rate(20.0) == 0.0
    window.put(20.0, 6)
    assert window.rate(20.0) == 0.1


def test_windows_that_nobody_reads_any_more_are_gone() -> None:
    rig = Rig(fast="rate(b.alive_counter, 2s) > 1")
    for cycle in range(5):
        rig.engine.bind([RuleSpec("fast", parse(f"rate(b.alive_counter, {cycle + 1}s) > 1"))], SIGNALS, 1.0)
    facts = rig.engine.facts
    assert len(facts._windows) == len(facts._moving[300]) == 1
    assert not facts._spare


@given(
    st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(-100_000, 100_000),
    st.sampled_from([0.1, 0.01, 0.001, 0.25, 1e-5, 2.5, 1000.0, 1, 10, 1 / 3, 1e300, math.inf]),
    st.sampled_from([0, 0.5, -273.15, -40, 1e17, math.nan]),
    st.sampled_from([Encoding.INT, Encoding.UINT]),
)
def test_a_value_is_the_decimal_number_that_it_is_written_as(
    word: int, scale: float, offset: float, encoding: Encoding
) -> None:
    signal = Signal("a", "x", scale=scale, offset=offset, encoding=encoding, id=1)
    value = decoder(signal)(word)
    physical = signal.physical(word)
    if not math.isfinite(physical):
        assert value is None
    else:
        assert value == pytest.approx(physical, rel=1e-12, abs=1e-9)
    if encoding is Encoding.INT and math.isfinite(offset) and scale in (0.1, 0.01, 0.001, 0.25, 2.5):
        exact = Decimal(word) * Decimal(repr(scale)) + Decimal(repr(offset))
        assert value == float(exact)


def test_facts_grow_with_the_ids() -> None:
    facts = Facts()
    far = Signal("a", "x", id=100_000)
    facts.news(rows_of(batch((100_000, 5))), 1.0)
    facts.bind([far], 2.0)
    assert facts.watch("a.x") == 100_000
    assert facts.values[100_000] == 5
