"""The language of conditions: text -> a small tree, and its value. Pure; nothing is ever evaluated as code."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Condition:
    """A parsed condition. ``text`` is as it was written."""

    text: str
    signals: frozenset[str]  #: full names that it reads: ``battery1.soc_pct``
    timed: bool = False  #: it also changes by time alone: to be looked at once a second
