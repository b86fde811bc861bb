"""The language of conditions: text -> a small tree, and its value. Pure; nothing is ever evaluated as code.

Three values: true, false and (None) unknown, joined as Kleene's strong logic does: ``false and unknown`` is false,
``true or unknown`` is true, else what has an unknown part is unknown. ``docs/alarms.md`` has the language for people.
"""

from dataclasses import dataclass

from agent.control import when_explain
from agent.control.facts import Facts
from agent.control.when_parse import parse_rest, parse_tree, starts_with_comparison, subjects
from agent.control.when_tree import Check, Compare, Measure, Truth, is_device, nodes, show
from agent.core.errors import ConfigError
from agent.core.model import Number


@dataclass(frozen=True, slots=True)
class Condition:
    """A parsed condition; made by ``parse``. ``text`` is as it was written, and gives the same condition again."""

    text: str
    tree: Truth
    signals: frozenset[str]  #: full names that it reads: ``battery1.soc_pct``
    devices: frozenset[str] = frozenset()  #: whose silence or age it asks for
    timed: bool = False  #: it also changes by time alone: to be looked at once a second


def parse(text: str) -> Condition:
    """The condition that a text says. Raises ``ConfigError``: where, what is wrong there, what to write instead."""
    return _condition(text, parse_tree(text))


def parse_clear(text: str, when: Condition) -> Condition:
    """The condition that ends another: as ``parse``, or ``< 45``, which goes on from the left side of ``when``.

    The text of the latter is completed. Raises ``ConfigError``.
    """
    if not starts_with_comparison(text):
        return parse(text)
    if not isinstance(when.tree, Compare):
        raise ConfigError(
            "condition, column 1",
            f"`{text}` has no left side, and `when` is not a single comparison",
            "write the whole condition",
        )
    tree = parse_rest(text, when.tree.left)
    return _condition(show(tree), tree)


def explain(condition: Condition, facts: Facts) -> str:
    """What of the facts makes it true, false or unknown now, for people: ``battery1.soc_pct is 12 % (< 20)``."""
    return when_explain.explain(condition.tree, facts)


def inputs(condition: Condition, facts: Facts) -> dict[str, Number | None]:
    """What it reads, by name, and its ages and rates as they are written; None: unknown."""
    return when_explain.inputs(condition.tree, facts)


def _condition(text: str, tree: Truth) -> Condition:
    about = subjects(tree)
    devices = frozenset(filter(is_device, about))
    # Who asks whether a value is known asks nothing of time.
    timed = any(isinstance(node, Measure | Check) and node.function != "known" for node in nodes(tree))
    return Condition(text, tree, about - devices, devices, timed)
