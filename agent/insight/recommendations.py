"""Recommendations that name their numbers: what a rule says, and the order in which they are given. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent.insight.periods import DAY_US

#: Savings are those of so many days.
MONTH_DAYS = 30
#: What is given at once.
MAX_RECOMMENDATIONS = 200


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a recommendation is drawn from: a signal over a span, and the figures of it."""

    signal: str
    from_us: int
    to_us: int
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Something worth doing. Savings are estimates for 30 days; None: there is none to tell, or no tariff.

    ``id`` is the same each time for the same cause. ``priority``: 1 (act soon) to 3 (when there is time).
    ``since_us``: since when it can be seen in what was looked at.
    """

    id: str
    kind: str
    device: str
    text: str
    evidence: tuple[Evidence, ...]
    priority: int
    since_us: int
    saving_kwh: float | None = None
    saving_money: float | None = None
    currency: str = ""


def ranked(found: Iterable[Recommendation | None]) -> list[Recommendation]:
    """The most urgent first, in each priority what saves most money, then energy; each id once."""
    by_id = {one.id: one for one in found if one is not None}
    order = sorted(
        by_id.values(), key=lambda one: (one.priority, -(one.saving_money or 0), -(one.saving_kwh or 0), one.id)
    )
    return order[:MAX_RECOMMENDATIONS]


def month_share(from_us: int, to_us: int) -> float:
    """What figures of a span are multiplied by to be those of 30 days."""
    return MONTH_DAYS * DAY_US / (to_us - from_us)
