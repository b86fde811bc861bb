"""What insight needs of the store, and how an energy is read from it: hours where they do, minutes where they don't.

Months and days are read from 1 h roll-ups, but for the two hours around each bound: these, and hours in which a
register fell, are read minute by minute. So the energy of a month is some 5,000 rows, not 45,000.
"""

from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np

from agent.core.model import Number, Session, Signal
from agent.insight.advice_cost import HourEnergy
from agent.insight.energy import (
    BEGIN,
    GAP,
    POSTED,
    Direction,
    Energy,
    PeriodEnergy,
    by_period,
    integral,
    nothing,
    powers,
    registers,
    together,
    usual_us,
)
from agent.insight.periods import HOUR_US, Period
from agent.insight.registers import LOSSY, MAX_POWER_W, moves_of, odd
from agent.store.energy import Level, Range, Rolled, join

#: Hours in which a register fell that are looked at more closely; the others keep what the hour shows.
MAX_REFINED = 200
#: Of so many bounds the hours around each are read minute by minute; of more, a silence around midnight is not seen
#: that is shorter than two hours.
_MAX_EDGES = 100


class Reader(Protocol):
    """The store's history. All of it blocks for some ms, is thread-safe and raises ``StoreError``."""

    def catalog(self) -> tuple[int, Sequence[Signal]]:
        """The catalogue's version and every signal that ever was."""

    def rolled(
        self, signal_ids: Collection[int], level: Level, ranges: Sequence[Range], *, before: bool = False
    ) -> dict[int, Rolled]:
        """Buckets that begin in the ranges, for each known id; ``before``: and the newest one ahead of them."""

    def shown_twice(self) -> Sequence[Range]:
        """The times that the wall clock showed twice, because it went back."""

    def rows(self, signal_ids: Sequence[int], from_us: int, to_us: int) -> Iterator[tuple[int, int, Number | None]]:
        """Every raw row as (µs UTC, signal id, value or None)."""

    def list_sessions(
        self,
        device: str | None = None,
        running: bool | None = None,  # noqa: FBT001 - a filter of three values
        from_us: int | None = None,
        to_us: int | None = None,
        *,
        newest_first: bool = True,
        limit: int = 100,
        offset: int = 0,
    ) -> tuple[int, list[Session]]:
        """How many sessions started in the range, and one page of them."""


def read_energy(
    reader: Reader,
    device: str,
    direction: Direction,
    period: Period,
    bounds: Sequence[int],
    now_us: int,
    max_w: float | None = None,
    *,
    coarse: bool = False,
) -> Energy:
    """The energy of a device by the periods of ``bounds``: of the first of its registers that say anything, or powers.

    ``max_w``: what it can draw at most; a register that moves faster is not believed. ``coarse``: hours are those of
    UTC and are read from 1 h roll-ups, which costs a sixtieth.
    """
    signals = [signal for signal in reader.catalog()[1] if signal.device == device]
    for choice in registers(signals, direction):
        level: Level = "hour" if coarse or period != "hour" else "minute"
        rolled = _roll_ups(reader, [one.id for one in choice], level, bounds, edges=not coarse)
        found = _of_registers(reader, device, direction, choice, rolled, bounds, now_us, max_w)
        if found is not None:
            return found
    for choice in powers(signals, direction):
        rolled = reader.rolled([one.id for one in choice], "minute", [(bounds[0], bounds[-1])])
        names = list(dict.fromkeys(one.name for one in choice))
        parts = [
            integral(join([rolled[one.id] for one in choice if one.name == name]), bounds, now_us, direction)
            for name in names
        ]
        if any(part.total_wh is not None for part in parts):
            return together(device, direction, names, parts)
    return nothing(device, direction, bounds)


def hour_energy(
    reader: Reader,
    device: str,
    direction: Direction,
    from_us: int,
    to_us: int,
    now_us: int,
    *,
    max_w: float | None = None,
    registers_only: bool = False,
) -> HourEnergy | None:
    """The energy of each UTC hour of which something is known, from 1 h roll-ups; None: nothing is.

    An hour that is part of a gap, or whose register was put right, is not known.
    """
    found = read_energy(
        reader, device, direction, "hour", range(from_us, to_us + 1, HOUR_US), now_us, max_w, coarse=True
    )
    if found.source is None or (registers_only and found.source == "power"):
        return None
    whole = [one for one in found.periods if one.wh is not None and one.to_us <= now_us and not _spoilt(one)]
    if not whole:
        return None
    times = np.array([one.from_us for one in whole], np.int64)
    name = found.signals[0] if len(found.signals) == 1 else f"energy_{direction}_wh"
    return HourEnergy(device, f"{device}.{name}", times, np.array([one.wh for one in whole], np.float64), to_us)


def _spoilt(one: PeriodEnergy) -> bool:
    return any(reason in LOSSY or reason in (GAP, BEGIN) for reason in one.reasons)


def _roll_ups(
    reader: Reader, ids: Sequence[int], level: Level, bounds: Sequence[int], *, edges: bool
) -> dict[int, Rolled]:
    """The roll-ups of registers over a range, with the reading ahead of it."""
    if level == "hour" and edges and len(bounds) <= _MAX_EDGES:
        hours, minutes = _split(bounds)
        coarse = reader.rolled(ids, "hour", hours)
        fine = reader.rolled(ids, "minute", minutes, before=True)
        return {one: join([fine[one], coarse[one]]) for one in ids}
    if edges and any(one % HOUR_US for one in bounds):
        level = "minute"  # bounds inside of UTC hours (India's days) need their minutes
    return reader.rolled(ids, level, [(bounds[0], bounds[-1])], before=True)


def _of_registers(
    reader: Reader,
    device: str,
    direction: Direction,
    choice: Sequence[Signal],
    rolled: dict[int, Rolled],
    bounds: Sequence[int],
    now_us: int,
    max_w: float | None,
) -> Energy | None:
    parts: list[Energy] = []
    names = list(dict.fromkeys(one.name for one in choice))
    for name in names:
        # A name that changed its meaning (a scale was put right) is one register after the other.
        meanings = [one for one in choice if one.name == name]
        history = join([_refined(reader, one.id, rolled[one.id], bounds[0]) for one in meanings])
        posted = meanings[-1].source == POSTED
        limit_w = float("inf") if posted else MAX_POWER_W if max_w is None else max_w
        moved = moves_of(history, float(meanings[-1].scale), limit_w, reader.shown_twice())
        parts.append(by_period(moved, bounds, now_us, usual_us(history), posted=posted))
    if all(period.wh is None for part in parts for period in part.periods) and not any(part.spans for part in parts):
        return None
    return together(device, direction, names, parts)


def _split(bounds: Sequence[int]) -> tuple[list[Range], list[Range]]:
    """The range as hours, and as minutes for the hours on both sides of each bound."""
    edges: list[Range] = []
    for bound in bounds:
        # Ahead of the first bound only the newest reading counts; the hour of the last bound is behind the range.
        from_us = max((bound - 1) // HOUR_US * HOUR_US, bounds[0])
        to_us = min((bound // HOUR_US + 1) * HOUR_US, bounds[-1])
        if from_us >= to_us:
            continue
        if edges and from_us <= edges[-1][1]:
            edges[-1] = (edges[-1][0], max(edges[-1][1], to_us))
        else:
            edges.append((from_us, to_us))
    hours = [(one[1], two[0]) for one, two in pairwise(edges)]
    return hours, edges


def _refined(reader: Reader, signal_id: int, rolled: Rolled, from_us: int) -> Rolled:
    """Hours in which a register fell replaced by their minutes, and its first one.

    The lowest reading of that need not be the first: nothing before tells.
    """
    first = {0} if len(rolled) and rolled.t_us[0] >= from_us else set()
    places = [place for place in sorted({*odd(rolled), *first}) if rolled.width_us[place] == HOUR_US][:MAX_REFINED]
    if not places:
        return rolled
    starts = rolled.t_us[places].tolist()
    minutes = reader.rolled([signal_id], "minute", [(start, start + HOUR_US) for start in starts])[signal_id]
    if len(minutes) <= len(places):  # they were dropped for their age
        return rolled
    rest = np.ones(len(rolled), np.bool_)
    rest[places] = False
    return join([rolled.take(rest), minutes])
