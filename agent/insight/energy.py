"""Energy of a device by hour, day or month: from registers, from postings, or from power where there is no register.

Rules of this file:

1. Unknown is None, never 0. What is counted is counted once: the periods and the spans that lie in the range add up to
   ``total_wh``, whatever was missing or corrected.
2. A register says nothing of when between two readings its energy flowed. Where these lie in one period, that does not
   matter. Where they lie in two and are no more than 15 min apart, it goes to the later one; if they are no further
   apart than this register's readings usually are, also, and both are marked ``estimated``. A longer silence is a
   ``Span`` of its own, and the periods that it touches are estimated: they say only what is known.
3. A posting is the energy of an interval that its client names by one time: it goes to the period of that time.
4. The integral of power takes the mean of each minute, and the last value for up to 5 min where none came: always
   estimated.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from itertools import pairwise
from math import fsum
from typing import Literal

import numpy as np

from agent.core.model import POSTED_ENERGY, Kind, Signal
from agent.insight.periods import MINUTE_US, WEEK_US
from agent.insight.registers import LOSSY, Moves
from agent.insight.tariff import Tariff
from agent.store.energy import Rolled

Direction = Literal["import", "export"]
#: Where the figures are from.
Source = Literal["register", "posted", "power"]

#: ``Signal.source`` of the register that we keep of what clients post.
POSTED = POSTED_ENERGY
#: Why a period is estimated, beside the corrections of a register.
GAP, MOVED, BEGIN, POWER = "gap", "moved", "begin", "power"
LATE_US = 15 * MINUTE_US
HOLD_US = 5 * MINUTE_US
#: What is known of a period must cover so much of it.
_COVERED = 0.98
_US_PER_H = 3_600_000_000


@dataclass(frozen=True, slots=True)
class PeriodEnergy:
    """The energy of one period in Wh; None: nothing is known of it.

    ``reasons`` are corrections, and why it is estimated: ``gap`` (of a part of it nothing is known), ``moved`` (some of
    it may belong to the neighbour), ``begin`` (the register was first seen in it), ``power`` (it is the integral of
    power), ``reset`` ``replaced`` ``jump`` (some energy around it is not known). ``glitch`` and ``rollover`` leave it
    exact.
    """

    from_us: int
    to_us: int
    wh: float | None
    reasons: tuple[str, ...] = ()

    @property
    def estimated(self) -> bool:
        """Whether it may be off, mostly too low."""
        return any(reason in LOSSY or reason in (GAP, MOVED, BEGIN, POWER) for reason in self.reasons)


@dataclass(frozen=True, slots=True)
class Span:
    """Energy that flowed some time between these two readings, over the bounds of periods."""

    from_us: int
    to_us: int
    wh: float


@dataclass(frozen=True, slots=True)
class Energy:
    """The energy of a device in one direction, by period. ``signals``: the names that it is from; empty: nothing is.

    ``total_wh``: of the periods and the spans inside the range. ``corrections``: how often each was needed.
    """

    device: str
    direction: Direction
    source: Source | None
    signals: tuple[str, ...]
    periods: Sequence[PeriodEnergy]
    spans: Sequence[Span] = ()
    corrections: Mapping[str, int] | None = None
    total_wh: float | None = None


def registers(signals: Collection[Signal], direction: Direction) -> list[list[Signal]]:
    """The registers of a device that together are its energy, the best choice first.

    Its own register; those of its outlets; those of the tariffs (many household meters have no sum); of the phases.
    """
    base = f"energy_{direction}"
    found = [one for one in signals if one.kind is Kind.COUNTER and one.unit == "Wh"]
    choices = [
        [one for one in found if one.name == f"{base}_wh"],
        [one for one in found if one.name.startswith(f"{base}_wh.")],
        [one for one in found if one.name.startswith(f"{base}_tariff_wh.")],
        [one for one in found if one.name in {f"{base}_l{phase}_wh" for phase in (1, 2, 3)}],
    ]
    return [choice for choice in choices if choice]


def powers(signals: Collection[Signal], direction: Direction) -> list[list[Signal]]:
    """The powers of a device whose integral is its energy, the best choice first."""
    found = [one for one in signals if one.kind is Kind.GAUGE and one.unit == "W"]
    choices = [
        [one for one in found if one.name == "power_w"],
        [one for one in found if one.name == f"power_{direction}_w"],
        [one for one in found if one.name.startswith("power_w.")],
    ]
    return [choice for choice in choices if choice]


def usual_us(rolled: Rolled) -> int:
    """How far apart the buckets usually are in which it was read."""
    times = rolled.t_us[rolled.count > 0]
    return int(np.median(np.diff(times))) if len(times) > 1 else 0


def by_period(moved: Moves, bounds: Sequence[int], now_us: int, usual: int = 0, *, posted: bool = False) -> Energy:
    """What a register moved, by period. ``usual``: how far apart its readings usually are, in µs."""
    count = len(bounds) - 1
    edges = np.array(bounds, np.int64)
    place = np.searchsorted(edges, moved.at_us, side="right") - 1
    inside = (place >= 0) & (place < count)
    begin = edges[np.clip(place, 0, count)]
    crossing = inside & (moved.from_us < begin) & (moved.at_us - moved.from_us > LATE_US)
    if posted:
        crossing[:] = False
        inside &= (moved.at_us != moved.first_us) | (moved.wh > 0)  # the 0 that it begins with was not posted
    reasons: list[set[str]] = [set() for _ in range(count)]
    spans: list[Span] = []
    for one in np.flatnonzero(crossing).tolist():
        from_us, at_us = int(moved.from_us[one]), int(moved.at_us[one])
        first, last = max(bisect_right(bounds, from_us) - 1, 0), int(place[one])
        regular = at_us - from_us <= min(2 * usual, bounds[last + 1] - bounds[last])
        for touched in range(first, last + 1):
            reasons[touched].add(MOVED if regular else GAP)
        if not regular:
            spans.append(Span(from_us, at_us, float(moved.wh[one])))
            inside[one] = False
    for one, reason in moved.reasons.items():
        if 0 <= place[one] < count:
            reasons[int(place[one])].add(reason)
    times = np.bincount(place[inside], minlength=count)
    sums = np.bincount(place[inside], moved.wh[inside], count)
    known = [float(wh) if number else None for wh, number in zip(sums.tolist(), times.tolist(), strict=True)]
    if not posted:
        _mark_ends(moved, bounds, now_us, max(LATE_US, 2 * usual), reasons)
    periods = [
        PeriodEnergy(bounds[n], bounds[n + 1], known[n], tuple(sorted(reasons[n])) if known[n] is not None else ())
        for n in range(count)
    ]
    return summed("", "import", "posted" if posted else "register", (), periods, spans, moved.corrections)


def _mark_ends(moved: Moves, bounds: Sequence[int], now_us: int, late_us: int, reasons: list[set[str]]) -> None:
    """The period in which a register was first seen, and the one in which it was last seen, are known in part."""
    if moved.first_us is None or moved.last_us is None:
        return
    place = bisect_right(bounds, moved.first_us) - 1
    if 0 <= place < len(reasons) and moved.first_us - bounds[place] > LATE_US:
        reasons[place].add(BEGIN)
    place = bisect_right(bounds, moved.last_us - 1) - 1
    if 0 <= place < len(reasons) and min(bounds[place + 1], now_us) - moved.last_us > late_us:
        reasons[place].add(GAP)


def integral(rolled: Rolled, bounds: Sequence[int], now_us: int, direction: Direction) -> Energy:
    """The integral of power over its minutes, by period."""
    count = len(bounds) - 1
    rolled = rolled.take((rolled.count > 0) & (rolled.t_us >= bounds[0]) & (rolled.t_us < bounds[-1]))
    place = np.searchsorted(bounds, rolled.t_us, side="right") - 1
    next_us = np.append(rolled.t_us[1:], now_us)
    silence_us = np.clip(next_us - rolled.t_us - rolled.width_us, 0, HOLD_US)
    held = np.isfinite(rolled.last)
    held_w = np.where(held, rolled.last, 0.0)
    held_us = np.where(held, silence_us, 0)
    sign = 1 if direction == "import" else -1
    flowed = np.maximum(rolled.mean * sign, 0) * rolled.width_us + np.maximum(held_w * sign, 0) * held_us
    wh = np.bincount(place, flowed, count) / _US_PER_H
    covered_us = np.bincount(place, rolled.width_us + held_us, count)
    periods: list[PeriodEnergy] = []
    for n in range(count):
        from_us, to_us = bounds[n], bounds[n + 1]
        if not covered_us[n]:
            periods.append(PeriodEnergy(from_us, to_us, None))
            continue
        whole = covered_us[n] >= _COVERED * (min(to_us, now_us) - from_us) - MINUTE_US
        periods.append(PeriodEnergy(from_us, to_us, float(wh[n]), (POWER,) if whole else (GAP, POWER)))
    return summed("", direction, "power", (), periods)


def cost_of(found: Energy, tariff: Tariff, zone: tzinfo) -> float | None:
    """What energy by the hour costs, in the tariff's currency; None: nothing is known of it."""
    known = [(one.from_us, one.to_us, one.wh) for one in found.periods if one.wh is not None]
    known += [(one.from_us, min(one.to_us, one.from_us + WEEK_US), one.wh) for one in found.spans]
    parts = [wh / 1000 * tariff.price(from_us, to_us, zone) for from_us, to_us, wh in known if wh]
    return fsum(parts) if known else None


def summed(
    device: str,
    direction: Direction,
    source: Source | None,
    signals: tuple[str, ...],
    periods: Sequence[PeriodEnergy],
    spans: Sequence[Span] = (),
    corrections: Mapping[str, int] | None = None,
) -> Energy:
    """An ``Energy`` with its total."""
    parts = [one.wh for one in periods if one.wh is not None]
    parts += [one.wh for one in spans if periods and one.from_us >= periods[0].from_us]
    total = sum(parts) if parts else None
    return Energy(device, direction, source, signals, periods, spans, corrections or {}, total)


def together(device: str, direction: Direction, signals: Sequence[str], parts: Sequence[Energy]) -> Energy:
    """Several registers of one device (tariffs, outlets, phases) as one, period by period.

    A period of which one of them says nothing is known in part: ``gap``.
    """
    if len(parts) == 1:
        one = parts[0]
        return summed(device, direction, one.source, tuple(signals), one.periods, one.spans, one.corrections)
    periods: list[PeriodEnergy] = []
    for row in zip(*(part.periods for part in parts), strict=True):
        known = [one.wh for one in row if one.wh is not None]
        reasons = {reason for one in row for reason in one.reasons}
        if known and len(known) < len(row):
            reasons.add(GAP)
        periods.append(
            PeriodEnergy(row[0].from_us, row[0].to_us, sum(known) if known else None, tuple(sorted(reasons)))
        )
    spans = sorted((span for part in parts for span in part.spans), key=lambda span: (span.from_us, span.to_us))
    corrections: Counter[str] = Counter()
    for part in parts:
        corrections.update(part.corrections or {})
    return summed(device, direction, parts[0].source, tuple(signals), periods, spans, corrections)


def nothing(device: str, direction: Direction, bounds: Sequence[int]) -> Energy:
    """Of a device without register and power."""
    periods = [PeriodEnergy(from_us, to_us, None) for from_us, to_us in pairwise(bounds)]
    return Energy(device, direction, None, (), periods, (), {})
