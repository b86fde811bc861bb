"""A condition's tree -> one closure that gives its value now, from a ``Facts``.

A closure is what runs for each change of a signal, so the common forms (a signal against a number) have one of their
own. Division by zero, overflow and what is not finite are unknown: no closure raises.
"""

import math
import operator
from collections.abc import Callable, Sequence
from functools import reduce

from agent.control.facts import Facts
from agent.control.when_tree import Calc, Check, Compare, Const, Logic, Measure, Read, Text, Truth, Value
from agent.core.model import Number

Judge = Callable[[], bool | None]
Evaluate = Callable[[], Number | None]
_Values = list[Number | None]

_OPERATORS: dict[str, Callable[[Number, Number], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
#: A signal (by its place) against a number.
_QUICK: dict[str, Callable[[_Values, int, Number], Judge]] = {
    "<": lambda values, at, limit: lambda: None if (value := values[at]) is None else value < limit,
    "<=": lambda values, at, limit: lambda: None if (value := values[at]) is None else value <= limit,
    ">": lambda values, at, limit: lambda: None if (value := values[at]) is None else value > limit,
    ">=": lambda values, at, limit: lambda: None if (value := values[at]) is None else value >= limit,
    "==": lambda values, at, limit: lambda: None if (value := values[at]) is None else value == limit,
    "!=": lambda values, at, limit: lambda: None if (value := values[at]) is None else value != limit,
}
_CALCS: dict[str, Callable[..., Number]] = {
    "+": lambda *values: reduce(operator.add, values),  # `sum` of floats differs from Python 3.12 on
    "-": operator.sub,
    "*": lambda *values: math.prod(values),
    "/": operator.truediv,
    "neg": operator.neg,
    "abs": abs,
    "min": min,
    "max": max,
}
_TWO = 2


def compile_truth(tree: Truth, facts: Facts) -> Judge:
    """The condition as a call without arguments. What it reads is watched from now on."""
    if isinstance(tree, Logic):
        parts = [compile_truth(part, facts) for part in tree.parts]
        return {"and": _all, "or": _any}[tree.op](parts) if tree.op != "not" else _contrary(parts[0])
    if isinstance(tree, Compare):
        return _compare(tree, facts)
    if isinstance(tree, Check):
        return _check(tree, facts)
    place = facts.watch(tree.signal)
    return _unknown if place is None else _QUICK["!="](facts.values, place, 0)


def compile_value(tree: Value, facts: Facts) -> Evaluate:
    """The value as a call without arguments. A text has none: it is compared only."""
    if isinstance(tree, Read):
        return _read(facts, tree.signal)
    if isinstance(tree, Calc):
        return _calc(_CALCS[tree.op], [compile_value(arg, facts) for arg in tree.args])
    if isinstance(tree, Measure):
        return _measure(tree, facts)
    value = tree.value if isinstance(tree, Const) else None
    return lambda: value


def matching(signal_labels: dict[int, str], text: str) -> frozenset[int]:
    """The values whose label is that text, whatever its case."""
    return frozenset(value for value, label in signal_labels.items() if label.casefold() == text.casefold())


def _unknown() -> None:
    return None


def _read(facts: Facts, name: str) -> Evaluate:
    place, values = facts.watch(name), facts.values
    return _unknown if place is None else lambda: values[place]


def _compare(tree: Compare, facts: Facts) -> Judge:
    left, right = tree.left, tree.right
    if isinstance(left, Text) and isinstance(right, Read):
        left, right = right, left
    if isinstance(left, Read) and isinstance(right, Text):
        return _label(left.signal, right.text, facts, equal=tree.op == "==")
    place = facts.watch(left.signal) if isinstance(left, Read) else None
    if place is not None and isinstance(right, Const):
        return _QUICK[tree.op](facts.values, place, right.value)
    first, second, compare = compile_value(left, facts), compile_value(right, facts), _OPERATORS[tree.op]

    def judge() -> bool | None:
        one, other = first(), second()
        return None if one is None or other is None else compare(one, other)

    return judge


def _label(name: str, text: str, facts: Facts, *, equal: bool) -> Judge:
    signal, place, values = facts.signal(name), facts.watch(name), facts.values
    if signal is None or place is None:
        return _unknown
    labelled = matching(dict(signal.labels), text)
    return lambda: None if (value := values[place]) is None else (value in labelled) is equal


def _check(tree: Check, facts: Facts) -> Judge:
    subject, seconds = tree.subject, tree.seconds or 0
    if tree.function == "silent":

        def silent() -> bool | None:
            age_s = facts.age_s(subject)
            return None if age_s is None else age_s >= seconds

        return silent
    place, values = facts.watch(subject), facts.values
    if place is None:
        return _unknown
    if tree.function == "known":
        return lambda: values[place] is not None
    return lambda: None if values[place] is None else facts.unchanged_s(place) >= seconds


def _measure(tree: Measure, facts: Facts) -> Evaluate:
    if tree.function == "age":
        return lambda: facts.age_s(tree.subject)
    window = facts.window(tree.subject, tree.seconds or 0)
    return _unknown if window is None else lambda: window.rate(facts.now_s)


def _calc(calculate: Callable[..., Number], args: Sequence[Evaluate]) -> Evaluate:
    def evaluate() -> Number | None:
        values = [arg() for arg in args]
        return None if None in values else _finite(calculate, *values)

    if len(args) != _TWO:
        return evaluate
    first, second = args

    def evaluate_two() -> Number | None:
        one, other = first(), second()
        return None if one is None or other is None else _finite(calculate, one, other)

    return evaluate_two


def _finite(calculate: Callable[..., Number], *values: Number | None) -> Number | None:
    try:
        result = calculate(*values)
        return result if math.isfinite(result) else None
    except (ZeroDivisionError, OverflowError):
        return None


def _all(parts: Sequence[Judge]) -> Judge:
    def judge() -> bool | None:
        result: bool | None = True
        for part in parts:
            one = part()
            if one is False:
                return False
            if one is None:
                result = None
        return result

    return judge


def _any(parts: Sequence[Judge]) -> Judge:
    def judge() -> bool | None:
        result: bool | None = False
        for part in parts:
            one = part()
            if one:
                return True
            if one is None:
                result = None
        return result

    return judge


def _contrary(part: Judge) -> Judge:
    return lambda: None if (one := part()) is None else not one
