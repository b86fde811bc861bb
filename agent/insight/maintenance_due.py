"""When a plan is due: by date, or by what was counted since the work was done last. Pure.

Rules of this file:

1. A date counts from the last entry that counts for the plan, or from the day on which the machine was installed. A
   counter counts from that entry; without one it counts the machine's whole life, as its register shows it.
2. When a counter will be due is told from its mean of the last ``MEAN_US``, or of what is known of them, when that is a
   day at least. What it did not count in that time has no date.
3. A plan is what its worst interval is, and due when its first one is. Unknown is neither.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from agent.core.model import Number
from agent.insight.counters import Tally
from agent.insight.maintenance_model import STATES, Interval, Plan, State
from agent.insight.periods import DAY_US, HOUR_US
from agent.store.maintenance import Entry

MEAN_US = 30 * DAY_US
#: What is due later than this has no date worth telling.
_FAR_US = 100 * 365 * DAY_US


@dataclass(frozen=True, slots=True)
class Counted:
    """How far one interval of a plan is. ``used`` and ``left`` in its unit; None: not known.

    ``due_us``: when it was or will be due. ``estimated``: some of what was counted is not known, so it is due sooner.
    """

    interval: Interval
    used: Number | None = None
    left: Number | None = None
    due_us: int | None = None
    state: State = "unknown"
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Due:
    """How far a plan is with one machine. ``entry``: the last time that it was done; None: nothing is written of it."""

    machine: str
    name: str
    plan: Plan
    counted: tuple[Counted, ...]
    entry: Entry | None = None

    @property
    def state(self) -> State:
        """The worst of its intervals'."""
        return max((one.state for one in self.counted), key=STATES.index, default="unknown")

    @property
    def due_us(self) -> int | None:
        """When the first of its intervals was or will be due."""
        return min((one.due_us for one in self.counted if one.due_us is not None), default=None)

    @property
    def by(self) -> Counted | None:
        """The interval that decides: of the worst the first."""
        worst = [one for one in self.counted if one.state == self.state]
        return min(worst, key=lambda one: (one.due_us is None, one.due_us or 0), default=None)


def last_done(plan: Plan, machine: str, last: Iterable[Entry]) -> Entry | None:
    """The latest entry that counts for a plan. ``last``: those of each machine, kind and plan."""
    found = [
        one for one in last if one.machine == machine and (one.plan == plan.id if one.plan else one.kind == plan.kind)
    ]
    return max(found, key=lambda one: (one.t_us, one.id), default=None)


def midnight_us(date: str | None) -> int | None:
    """When a day begins, UTC; None for none."""
    if not date:
        return None
    try:
        return round(datetime.fromisoformat(date).replace(tzinfo=UTC).timestamp() * 1e6)
    except ValueError:
        return None


def by_date(interval: Interval, since_us: int | None, now_us: int) -> Counted:
    """How far an interval of days is."""
    if since_us is None:
        return Counted(interval)
    used = (now_us - since_us) / DAY_US
    due_us = since_us + round(interval.every * DAY_US)
    return Counted(interval, used, interval.every - used, due_us, _state(interval, used))


def by_counter(interval: Interval, tally: Tally | None, since_us: int | None, now_us: int) -> Counted:
    """How far an interval of a counter is. ``since_us``: when it was done last; None: it never was."""
    if tally is None or tally.first_us is None:
        return Counted(interval)
    if since_us is None:
        used = max(tally.reading or 0.0, tally.between(0, now_us))
        estimated = tally.lossy
    else:
        used = tally.between(since_us, now_us)
        estimated = tally.lossy or tally.first_us > since_us + HOUR_US
    left = interval.every - used
    return Counted(interval, used, left, _forecast(tally, left, now_us), _state(interval, used), estimated)


def _forecast(tally: Tally, left: float, now_us: int) -> int | None:
    """When the rest will be counted, at the pace of the last weeks; of what is over now, when it was at that pace."""
    from_us = max(now_us - MEAN_US, tally.first_us or 0)
    if now_us - from_us < DAY_US:
        return None
    counted = tally.between(from_us, now_us)
    if counted <= 0:
        return None
    wait_us = left / counted * (now_us - from_us)
    return now_us + round(wait_us) if abs(wait_us) < _FAR_US else None


def _state(interval: Interval, used: float) -> State:
    if used >= interval.every:
        return "overdue"
    return "due" if used >= interval.every - interval.warn else "ok"


def soonest(found: Iterable[Due]) -> list[Due]:
    """The worst first, of these the soonest."""
    return sorted(
        found,
        key=lambda one: (-STATES.index(one.state), one.due_us is None, one.due_us or 0, one.machine, one.plan.id),
    )
