"""Judges the conditions of all rules whenever something that they read changes. No clock, no I/O.

Rules of this file:

1. A rule is evaluated when a signal that it reads has changed, and each second if time alone can change it.
2. Rows of one batch that share a time stamp are one instant: all are set, then rules are evaluated. Rows of different
   times are evaluated in their order, so that a spike of one sample counts. A signal that changes again within one time
   stamp begins a new instant.
3. A rule is told (``judged``) when what is known of its conditions has changed, and once when it is new.
"""

from collections.abc import Callable, Iterable, Sequence
from enum import Enum

from agent.control.alarm_model import RuleSpec
from agent.control.facts import Change, Facts
from agent.control.when import Condition, explain, inputs
from agent.control.when_compile import Judge, compile_truth, matching
from agent.control.when_tree import Compare, Read, Text, nodes, show
from agent.core.model import Number, Signal
from agent.pipeline.columns import Rows, Spots

#: Rule, its ``when``, its ``clear`` (without one: the contrary of ``when``), monotonic time. None: unknown.
Judged = Callable[[str, bool | None, bool | None, float], None]


class _Nothing(Enum):
    """Nobody was told anything yet; told is also ``None``, for unknown."""

    NOTHING = "nothing"


_NOTHING = _Nothing.NOTHING


class _Rule:
    """A rule with its conditions compiled, and what was told of it."""

    __slots__ = ("clear", "spec", "told_clear", "told_when", "when")

    def __init__(self, spec: RuleSpec, facts: Facts) -> None:
        self.spec = spec
        self.when: Judge = compile_truth(spec.when.tree, facts)
        self.clear: Judge | None = None if spec.clear is None else compile_truth(spec.clear.tree, facts)
        self.told_when: bool | _Nothing | None = _NOTHING
        self.told_clear: bool | _Nothing | None = _NOTHING


class Engine:
    """All rules of a site. ``judged`` may ask the engine to explain, and may not bind it or bring it rows."""

    def __init__(self, judged: Judged) -> None:
        self.facts = Facts()
        self.evaluations = 0  #: of rules, since the start
        self._judged = judged
        self._rules: list[_Rule] = []
        self._places: dict[str, int] = {}
        self._readers: dict[int, tuple[int, ...]] = {}
        self._timed: tuple[int, ...] = ()

    def bind(self, specs: Sequence[RuleSpec], signals: Iterable[Signal], now_s: float) -> list[str]:
        """These rules over these signals from now on; values seen so far stay. All rules are evaluated.

        Gives what conditions name and nobody has: signals, devices, and ``cp1.charger_status == "Fautled"``.
        """
        self.facts.bind(signals, now_s)
        before = {rule.spec.id: rule for rule in self._rules}
        self._rules = [_Rule(spec, self.facts) for spec in specs]
        self.facts.settle()
        self._places = {spec.id: index for index, spec in enumerate(specs)}
        readers: dict[int, list[int]] = {}
        timed = []
        for index, rule in enumerate(self._rules):
            for name in sorted(frozenset[str]().union(*(one.signals for one in _conditions(rule.spec)))):
                place = self.facts.watch(name)
                if place is not None:
                    readers.setdefault(place, []).append(index)
            if any(one.timed for one in _conditions(rule.spec)):
                timed.append(index)
            old = before.get(rule.spec.id)
            if old is not None and _conditions(old.spec) == _conditions(rule.spec):
                rule.told_when, rule.told_clear = old.told_when, old.told_clear
        self._readers = {place: tuple(indexes) for place, indexes in readers.items()}
        self._timed = tuple(timed)
        self._evaluate(range(len(self._rules)), now_s)
        return self._unknown(specs)

    def rows(self, rows: Rows, now_s: float) -> None:
        """A batch from a wire."""
        changes = self.facts.news(rows, now_s)
        if changes:
            self._take(changes, now_s)

    def touched(self, spots: Spots, now_s: float) -> None:
        """Signals that were read again unchanged."""
        changes = self.facts.touched(spots, now_s)
        if changes:
            self._take(changes, now_s)

    def tick(self, now_s: float) -> None:
        """Once a second: what time alone can change."""
        self.facts.tick(now_s)
        self._evaluate(self._timed, now_s)

    def explain(self, rule_id: str) -> str:
        """Why a rule's ``when`` is as it is now, in words; empty where there is no such rule."""
        place = self._places.get(rule_id)
        return "" if place is None else explain(self._rules[place].spec.when, self.facts)

    def inputs(self, rule_id: str) -> dict[str, Number | None]:
        """What a rule's ``when`` reads now; empty where there is no such rule."""
        place = self._places.get(rule_id)
        return {} if place is None else inputs(self._rules[place].spec.when, self.facts)

    def _take(self, changes: Sequence[Change], now_s: float) -> None:
        accept, readers = self.facts.accept, self._readers
        instant_us = changes[0][0]
        seen: set[int] = set()
        due: set[int] = set()
        for t_us, place, value in changes:
            if t_us != instant_us or place in seen:
                self._evaluate(sorted(due), now_s)
                instant_us = t_us
                seen.clear()
                due.clear()
            accept(place, value)
            seen.add(place)
            due.update(readers.get(place, ()))
        self._evaluate(sorted(due), now_s)

    def _evaluate(self, indexes: Sequence[int], now_s: float) -> None:
        rules = self._rules
        self.evaluations += len(indexes)
        for index in indexes:
            rule = rules[index]
            when = rule.when()
            if rule.clear is None:
                if when is rule.told_when:
                    continue
                clear = None if when is None else not when
            else:
                clear = rule.clear()
                if when is rule.told_when and clear is rule.told_clear:
                    continue
            rule.told_when, rule.told_clear = when, clear
            self._judged(rule.spec.id, when, clear, now_s)

    def _unknown(self, specs: Sequence[RuleSpec]) -> list[str]:
        found: dict[str, None] = {}
        for spec in specs:
            for condition in _conditions(spec):
                missing = [name for name in condition.signals if self.facts.signal(name) is None]
                missing += [device for device in condition.devices if not self.facts.has_device(device)]
                found.update(dict.fromkeys([*sorted(missing), *self._no_labels(condition)]))
        return list(found)

    def _no_labels(self, condition: Condition) -> list[str]:
        """Comparisons with a text that no value of the signal is called."""
        found = []
        for node in nodes(condition.tree):
            if isinstance(node, Compare) and isinstance(node.left, Read | Text) and isinstance(node.right, Read | Text):
                names = [side.signal for side in (node.left, node.right) if isinstance(side, Read)]
                texts = [side.text for side in (node.left, node.right) if isinstance(side, Text)]
                signal = self.facts.signal(names[0])
                if signal is not None and texts and not matching(dict(signal.labels), texts[0]):
                    found.append(show(node))
        return found


def _conditions(spec: RuleSpec) -> tuple[Condition, ...]:
    return (spec.when,) if spec.clear is None else (spec.when, spec.clear)
