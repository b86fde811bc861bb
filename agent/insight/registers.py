"""The energy that a register moved, from what its roll-ups show of it. Pure.

Rules of this file:

1. Energy is what the register moved. Of a bucket its lowest and highest reading are known, and its last: that is the
   first and the last one unless the register fell in it.
2. Nothing that moves further than ``max_w`` allows, or back, is believed before the next reading goes on from there. If
   that goes on from before, it was a glitch, and nothing is counted twice or lost.
3. A register that fell and stayed there rolled over, when it was that near to the end of a usual width; otherwise it
   was reset and counts from 0, if it can have come from there in that time. Where it can't, another register answers:
   the energy in between is not known and not counted. So it is with one that jumped up, unless it is back where it was
   before it fell.
4. Where the wall clock went back, older readings stand between newer ones, by time. A register that falls there has
   not moved: what it shows until it is above where it stood was counted before.
5. A step back of no more than 1 Wh, or a millionth (float registers), is rounding.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from agent.store.energy import Rolled

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: What no device of a site draws, unless its rating says more: 400 kW.
MAX_POWER_W = 400_000.0
SLACK_US = 60_000_000
_US_PER_H = 3_600_000_000
_ROUNDING_WH, _ROUNDING_SHARE = 1.0, 1e-6
_WORD_BITS = (16, 24, 31, 32)
#: Registers with so many digits, in Wh: 9,999.9 kWh to 99,999,999 kWh.
_DIGITS_WH = tuple(10.0**power for power in range(7, 12))
#: A register rolls over when it was that near to its end.
_NEAR_END = 0.05

#: A register that comes back after so long is not the one that fell.
_BACK_US = 86_400_000_000

#: Why energy was counted otherwise than as the difference of two readings.
GLITCH, RESET, ROLLOVER, REPLACED, JUMP = "glitch", "reset", "rollover", "replaced", "jump"
#: It was counted before: the clock went back.
REPEATED = "repeated"
#: What leaves some energy uncounted.
LOSSY = frozenset({RESET, REPLACED, JUMP})


@dataclass(frozen=True, slots=True)
class Moves:
    """What a register moved between its readings, as columns: ``wh`` between a reading in a bucket that ended at
    ``from_us`` and one in the bucket that begins at ``at_us`` (both the same: between two readings of that bucket).

    ``reasons`` are those of the moves that are no ordinary differences, by place; ``corrections`` counts them.
    ``first_us`` and ``last_us`` are where its first bucket begins and its last one ends.
    """  # noqa: D205 - one sentence

    from_us: Ints
    at_us: Ints
    wh: Floats
    reasons: Mapping[int, str] = field(default_factory=dict)
    corrections: Mapping[str, int] = field(default_factory=dict)
    first_us: int | None = None
    last_us: int | None = None


def moves_of(
    rolled: Rolled, scale: float = 1, max_w: float = MAX_POWER_W, twice: Sequence[tuple[int, int]] = ()
) -> Moves:
    """The moves of one register. ``scale``: Wh of one count of the device, for the widths that it may have;
    ``twice``: the times (from_us, to_us) that a clock showed twice.
    """  # noqa: D205 - one sentence
    rolled = rolled.take(~np.isnan(rolled.lo))
    if not len(rolled):
        none = np.empty(0, np.int64)
        return Moves(none, none, np.empty(0))
    return _rising(rolled, max_w) or _one_by_one(rolled, scale, max_w, twice)


def odd(rolled: Rolled) -> list[int]:
    """The places of the buckets in which a register fell, so that finer ones would tell more."""
    places = np.flatnonzero(~np.isnan(rolled.lo))
    lo, hi, last = rolled.lo[places], rolled.hi[places], rolled.last[places]
    end = np.where(np.isnan(last), hi, last)
    fell = end < hi - np.maximum(_ROUNDING_WH, np.abs(hi) * _ROUNDING_SHARE)
    fell[1:] |= lo[1:] < end[:-1] - np.maximum(_ROUNDING_WH, np.abs(end[:-1]) * _ROUNDING_SHARE)
    found: list[int] = places[fell].tolist()
    return found


def _rising(rolled: Rolled, max_w: float) -> Moves | None:
    """The moves of a register that only rose, by no more than it can, which is nearly each; None of another one."""
    start, end = rolled.t_us, rolled.t_us + rolled.width_us
    lo, hi = rolled.lo, rolled.hi
    before = np.append(lo[0], hi[:-1])
    before_us = np.append(start[0], end[:-1])
    limit = max_w * (end + SLACK_US - before_us) / _US_PER_H
    if np.any(lo < before) or np.any(rolled.last < hi) or np.any(hi - before > limit):
        return None
    hole = start > before_us  # there were buckets without it in between
    inside = hi - np.where(hole, lo, before)
    # The very first reading is no difference.
    first = int(rolled.count[0] == 1)
    return Moves(
        np.concatenate((start[first:], before_us[hole])),
        np.concatenate((start[first:], start[hole])),
        np.concatenate((inside[first:], (lo - before)[hole])),
        first_us=int(start[0]),
        last_us=int(end[-1]),
    )


def _one_by_one(rolled: Rolled, scale: float, max_w: float, twice: Sequence[tuple[int, int]] = ()) -> Moves:
    """The moves of a register that fell or jumped."""
    account = _Account(scale, max_w, twice)
    columns = (rolled.t_us, rolled.width_us, rolled.lo, rolled.hi, rolled.last)
    for t_us, width_us, lo, hi, last in zip(*(column.tolist() for column in columns), strict=True):
        base = lo if account.base is None else account.base
        if lo >= base and not last < hi and account.calm and account.high is None:
            account.ordinary(t_us, width_us, lo, hi)
        else:
            account.bucket(t_us, width_us, _in_order(base, lo, hi, last))
    moves = account.moves[int(rolled.count[0] == 1) :]
    from_us, at_us, wh, reasons = zip(*moves, strict=True) if moves else ((), (), (), ())
    return Moves(
        np.array(from_us, np.int64),
        np.array(at_us, np.int64),
        np.array(wh, np.float64),
        {place: reason for place, reason in enumerate(reasons) if reason},
        Counter(reason for reason in reasons if reason),
        account.first_us,
        account.base_us,
    )


def _in_order(base: float, lo: float, hi: float, last: float) -> Iterable[float]:
    """The readings of a bucket in the order in which they most likely came. One that stood still does not confirm."""
    if last != last or last >= hi:  # noqa: PLR0124 - NaN: unknown at the end
        return (lo, hi) if hi > lo else (lo,)
    return (hi, lo, last) if base <= hi and lo < last else (lo, hi, last) if lo < last else (hi, last)


def _rounding(value: float) -> float:
    return max(_ROUNDING_WH, abs(value) * _ROUNDING_SHARE)


class _Account:
    """Reads registers one after the other: the last one believed, and a suspect one that waits for the next."""

    def __init__(self, scale: float, max_w: float, twice: Sequence[tuple[int, int]] = ()) -> None:
        self._max_w = max_w
        self._twice = twice
        #: Up to there it was counted, while it stands below (rule 4).
        self.high: float | None = None
        self._jumped = False  #: the last step was not counted
        self._widths_wh = sorted({abs(scale) * 2.0**bits for bits in _WORD_BITS} | set(_DIGITS_WH))
        self.base: float | None = None
        self.base_us = 0
        self.first_us = 0
        #: (from_us, at_us, wh, reason)
        self.moves: list[tuple[int, int, float, str]] = []
        self._suspect: tuple[float, int] | None = None
        #: Where it stood before it fell, when, and what was counted since.
        self._fallen: tuple[float, int] | None = None
        self._since_wh = 0.0

    @property
    def calm(self) -> bool:
        """Whether no reading waits to be believed."""
        return self._suspect is None

    def ordinary(self, t_us: int, width_us: int, lo: float, hi: float) -> None:
        """A bucket in which it only rose, by no more than it can; otherwise its two readings are looked at one by one.

        The commonest case by far, and so the shortest way.
        """
        within_us = width_us + SLACK_US
        base = self.base
        if base is None:
            self.base, self.base_us, self.first_us = lo, t_us, t_us
            base = lo
        if hi - base > self._limit_wh(t_us + within_us - self.base_us):
            self.bucket(t_us, width_us, _in_order(base, lo, hi, hi))
            return
        moves = self.moves
        if t_us > self.base_us:  # there were buckets without it in between
            moves.append((self.base_us, t_us, lo - base, ""))
            base, self.base_us = lo, t_us
        moves.append((t_us, t_us, hi - base, ""))
        self._since_wh += hi - base
        self.base, self.base_us = hi, t_us + width_us

    def bucket(self, t_us: int, width_us: int, values: Iterable[float]) -> None:
        """The readings of a bucket, one by one."""
        at_us = t_us
        for value in values:
            self._read(value, at_us, width_us + SLACK_US)
            at_us = t_us + width_us
        if self.calm:
            self.base_us = t_us + width_us

    def _read(self, value: float, at_us: int, within_us: int) -> None:
        """A reading of ``at_us`` or up to ``within_us`` later."""
        if self.base is None:
            self.base, self.base_us, self.first_us = value, at_us, at_us
            return
        rise = self._rise(self.base, self.base_us, value, at_us + within_us)
        if rise is not None:
            self._count(self._news(rise, value), at_us, "" if self._suspect is None else GLITCH)
            self._suspect = None
            self.base = max(self.base, value)
            return
        if self._suspect is not None:
            seen, seen_us = self._suspect
            rise = self._rise(seen, seen_us, value, at_us + within_us)
            if rise is not None:
                self._confirm(seen, seen_us, within_us)
                self._count(self._news(rise, value), at_us, "")
                self._suspect = None
                self.base = max(seen, value)
                return
        self._suspect = (value, at_us)

    def _confirm(self, value: float, at_us: int, within_us: int) -> None:
        """It went to this value and stayed there."""
        base = self.base or 0.0
        jumped, self._jumped = self._jumped, False
        if (
            value < base
            and not jumped
            and any(from_us - _US_PER_H <= at_us <= to_us + _US_PER_H for from_us, to_us in self._twice)
        ):
            self.high = base if self.high is None else max(base, self.high)
            self._count(0.0, at_us, REPEATED)
            self.base = value
            return
        limit_wh = self._limit_wh(at_us + within_us - self.base_us)
        if value < base:
            past_wh = min((width - base + value for width in self._widths_wh if width > base), default=limit_wh + 1)
            width_wh = base + past_wh - value
            before = (base, self.base_us)
            if past_wh <= min(limit_wh, width_wh * _NEAR_END):
                self._count(past_wh, at_us, ROLLOVER)
            elif value <= limit_wh:
                self._count(value, at_us, RESET)
            else:
                self._count(0.0, at_us, REPLACED)
            self._fallen, self._since_wh = before, self.moves[-1][2]
        else:
            fallen, self._fallen = self._fallen, None
            rise = None
            if fallen is not None and at_us - fallen[1] <= _BACK_US:
                rise = self._rise(*fallen, value, at_us + within_us)
            if rise is not None:
                self._count(max(0.0, rise - self._since_wh), at_us, GLITCH)
            else:
                self._jumped = True
                self._count(0.0, at_us, JUMP)
        self.base = value

    def _news(self, rise: float, value: float) -> float:
        """What of a rise to this value was not counted before."""
        if self.high is None:
            return rise
        over, self.high = value - self.high, None if value >= self.high else self.high
        return min(max(over, 0.0), rise)

    def _count(self, wh: float, at_us: int, reason: str) -> None:
        at_us = max(at_us, self.base_us)
        self.moves.append((self.base_us, at_us, wh, reason))
        self._since_wh += wh
        self.base_us = at_us

    def _rise(self, base: float, base_us: int, value: float, latest_us: int) -> float | None:
        """What it rose by since, when it can have; 0 for rounding; None when it can't be."""
        rise = value - base
        if rise > self._limit_wh(latest_us - base_us) or rise < -_rounding(base):
            return None
        return max(rise, 0.0)

    def _limit_wh(self, elapsed_us: int) -> float:
        return self._max_w * max(elapsed_us, SLACK_US) / _US_PER_H
