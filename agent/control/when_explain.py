"""Why a condition is true, false or unknown now, in words for people."""

from collections.abc import Sequence

from agent.control.facts import Facts
from agent.control.when_compile import compile_truth, compile_value
from agent.control.when_tree import (
    Calc,
    Check,
    Compare,
    Const,
    Logic,
    Measure,
    Read,
    Text,
    Truth,
    Value,
    is_device,
    nodes,
    show,
)
from agent.core.model import Number


def explain(tree: Truth, facts: Facts) -> str:
    """One clause for each part that decided. What it reads is watched from now on."""
    return " and ".join(dict.fromkeys(_clauses(tree, facts)))


def inputs(tree: Truth, facts: Facts) -> dict[str, Number | None]:
    """Each signal that it reads, and each age and rate as it is written, with what it is now."""
    found: dict[str, Number | None] = {}
    for node in nodes(tree):
        if isinstance(node, Check | Measure) and node.function in ("age", "silent"):
            age_s = facts.age_s(node.subject)
            found[f"age({node.subject})"] = None if age_s is None else round(age_s, 3)
        elif isinstance(node, Measure):
            found[show(node)] = compile_value(node, facts)()
        elif isinstance(node, Read):
            found[node.signal] = compile_value(node, facts)()
        if isinstance(node, Check | Measure) and not is_device(node.subject):
            found[node.subject] = compile_value(Read(node.subject), facts)()
    return dict(sorted(found.items()))


def _clauses(tree: Truth, facts: Facts) -> Sequence[str]:
    if isinstance(tree, Logic):
        truth = compile_truth(tree, facts)()
        if tree.op == "not":
            return _clauses(tree.parts[0], facts)
        # A true `or` is so by its true parts, an unknown one by its unknown parts; all others are false. So with `and`.
        return [
            clause for part in tree.parts if compile_truth(part, facts)() is truth for clause in _clauses(part, facts)
        ]
    missing = _missing(tree, facts)
    if missing:
        return missing
    if isinstance(tree, Check):
        return [_check(tree, facts)]
    if isinstance(tree, Compare):
        return [_compare(tree, facts)]
    return [f"{tree.signal} is {_value_of(tree, facts)}"]


def _missing(tree: Truth, facts: Facts) -> list[str]:
    """What can't be told, where that makes the whole unknown."""
    if compile_truth(tree, facts)() is not None:
        return []
    found = []
    for node in nodes(tree):
        if isinstance(node, Check | Measure):
            if not facts.has_device(node.subject) and facts.signal(node.subject) is None:
                found.append(f"there is no {node.subject}")
            elif node.function == "rate" and compile_value(node, facts)() is None:  # type: ignore[arg-type]
                found.append(f"{show(node)} is not known")
            elif node.function == "unchanged":
                found.append(f"{node.subject} is not known")
        elif isinstance(node, Read) and facts.signal(node.signal) is None:
            found.append(f"there is no {node.signal}")
        elif isinstance(node, Read) and compile_value(node, facts)() is None:
            found.append(f"{node.signal} is not known")
    return found or [f"{show(tree)} can't be calculated"]


def _check(tree: Check, facts: Facts) -> str:
    if tree.function == "known":
        return f"{tree.subject} is {'' if compile_truth(tree, facts)() else 'not '}known"
    if tree.function == "unchanged":
        place = facts.watch(tree.subject)
        seconds = 0.0 if place is None else facts.unchanged_s(place)
        return f"{tree.subject} is {_value_of(Read(tree.subject), facts)} since {_number(seconds)} s"
    if not facts.was_heard(tree.subject):
        return f"{tree.subject} was never heard"
    return f"{tree.subject} was heard {_number(facts.age_s(tree.subject) or 0.0)} s ago"


def _compare(tree: Compare, facts: Facts) -> str:
    left, right, op = tree.left, tree.right, tree.op
    if isinstance(left, Const | Text) and not isinstance(right, Const | Text):
        left, right = right, left
        op = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}.get(op, op)
    other = _number(right.value) if isinstance(right, Const) else show(right)
    if not isinstance(right, Const | Text):
        other += f", {_value_of(right, facts)}"
    said = "" if compile_truth(tree, facts)() else "not "
    return f"{show(left)} is {_value_of(left, facts)} ({said}{op} {other})"


def _value_of(node: Value, facts: Facts) -> str:
    """A value with its unit, or its label where it has one."""
    value = compile_value(node, facts)()
    if value is None:
        return "not known"
    if isinstance(node, Read):
        signal = facts.signal(node.signal)
        label = "" if signal is None or not isinstance(value, int) else signal.labels.get(value, "")
        if label:
            return label
    unit = _unit(node, facts)
    return f"{_number(value)} {unit}" if unit else _number(value)


def _unit(node: Value, facts: Facts) -> str:
    if isinstance(node, Read):
        signal = facts.signal(node.signal)
        return "" if signal is None else signal.unit
    if isinstance(node, Measure):
        unit = _unit(Read(node.subject), facts)
        return "s" if node.function == "age" else f"{unit}/s"
    if isinstance(node, Calc) and node.op not in ("*", "/"):
        units = {_unit(arg, facts) for arg in node.args if not isinstance(arg, Const)}
        return units.pop() if len(units) == 1 else ""
    return ""


def _number(value: Number) -> str:
    """A number for people: whole ones in full, others to three decimals or three digits."""
    if isinstance(value, int):
        return str(value)
    text = f"{value:.3f}" if abs(value) >= 1 or value == 0 else f"{value:.3g}"
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text
