"""Faults of simulated devices that come and go by themselves."""

import argparse
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

F = TypeVar("F", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class FaultPlan(Generic[F]):
    """A fault from ``start_s`` on, for ``lasts_s`` (None: to the end)."""

    fault: F
    start_s: float = 0.0
    lasts_s: float | None = None

    def active(self, t_s: float) -> bool:
        """Whether it is on at that time."""
        return t_s >= self.start_s and (self.lasts_s is None or t_s < self.start_s + self.lasts_s)


def parse_fault(kinds: type[F], text: str) -> FaultPlan[F]:
    """``name``, ``name@start`` or ``name@start+duration`` in seconds. Raises ``argparse.ArgumentTypeError``."""
    name, _, times = text.partition("@")
    start, _, lasts = times.partition("+")
    try:
        return FaultPlan(kinds(name), float(start or 0), float(lasts) if lasts else None)
    except ValueError as error:
        known = ", ".join(kinds)
        raise argparse.ArgumentTypeError(f"{text!r}: write NAME, NAME@60 or NAME@60+5, of {known}") from error
