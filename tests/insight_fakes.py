"""A history in memory that reads as the store's does, made of columns of rows."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.core.model import Encoding, Kind, Number, Session, Signal
from agent.insight.periods import HOUR_US, MINUTE_US
from agent.store.energy import Level, Range, Rolled, join

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

#: A Monday, 00:00 UTC.
MONDAY_US = 1_767_571_200_000_000  # 2026-01-05
DAY_US = 24 * HOUR_US


@dataclass
class History:
    """Implements ``agent.insight.reading.Reader``. NaN in a column: the signal became unknown."""

    signals: list[Signal] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    data: dict[int, tuple[Ints, Floats]] = field(default_factory=dict)
    reads: int = 0
    minutes_from_us: int = 0  #: 1 min buckets before were dropped
    _rolled: dict[tuple[int, str], Rolled] = field(default_factory=dict)

    def add(
        self,
        device: str,
        name: str,
        times_us: Sequence[int] | Ints,
        values: Sequence[float] | Floats,
        *,
        unit: str = "",
        kind: Kind = Kind.GAUGE,
        source: str = "",
        scale: Number = 1,
    ) -> Signal:
        signal = Signal(device, name, unit, kind, Encoding.INT, scale, source=source, id=len(self.signals) + 1)
        self.signals.append(signal)
        self.data[signal.id] = np.array(times_us, np.int64), np.array(values, np.float64)
        return signal

    def register(
        self, device: str, times_us: Sequence[int] | Ints, values: Sequence[float] | Floats, **more: str
    ) -> Signal:
        name = more.pop("name", "energy_import_wh")
        return self.add(device, name, times_us, values, unit="Wh", kind=Kind.COUNTER, source=more.get("source", ""))

    def catalog(self) -> tuple[int, Sequence[Signal]]:
        return 1, self.signals

    def shown_twice(self) -> list[tuple[int, int]]:
        return []

    def rolled(
        self, signal_ids: Collection[int], level: Level, ranges: Sequence[Range], *, before: bool = False
    ) -> dict[int, Rolled]:
        self.reads += 1
        return {one: self._one(one, level, ranges, before) for one in signal_ids if one in self.data}

    def _one(self, signal: int, level: Level, ranges: Sequence[Range], before: bool) -> Rolled:  # noqa: FBT001
        minutes = self._level(signal, "minute")
        rolled = minutes if level == "minute" else self._level(signal, "hour")
        if level == "minute" and self.minutes_from_us:
            hours = self._level(signal, "hour")
            cut = -(-self.minutes_from_us // HOUR_US) * HOUR_US
            rolled = join([hours.take(hours.t_us < cut), minutes.take(minutes.t_us >= cut)])
        inside = np.zeros(len(rolled), np.bool_)
        for from_us, to_us in ranges:
            inside |= (rolled.t_us >= from_us) & (rolled.t_us < to_us)
        parts = [rolled.take(inside)]
        if before:
            early = np.flatnonzero((minutes.t_us < ranges[0][0]) & (minutes.count > 0))
            parts.insert(0, minutes.take(early[-1:]))
        return join(parts)

    def _level(self, signal: int, level: str) -> Rolled:
        key = signal, level
        if key not in self._rolled:
            self._rolled[key] = roll_up(*self.data[signal], MINUTE_US if level == "minute" else HOUR_US)
        return self._rolled[key]

    def rows(self, signal_ids: Sequence[int], from_us: int, to_us: int) -> Iterator[tuple[int, int, Number | None]]:
        for signal in signal_ids:
            times, values = self.data[signal]
            for t_us, value in zip(times.tolist(), values.tolist(), strict=True):
                if from_us <= t_us < to_us:
                    yield t_us, signal, None if np.isnan(value) else value

    def list_sessions(
        self,
        device: str | None = None,
        running: bool | None = None,  # noqa: FBT001
        from_us: int | None = None,
        to_us: int | None = None,
        *,
        newest_first: bool = True,
        limit: int = 100,
        offset: int = 0,
    ) -> tuple[int, list[Session]]:
        found = [
            replace(one, id=number)
            for number, one in enumerate(self.sessions, 1)
            if (device is None or one.device == device)
            and (running is None or one.running == running)
            and (from_us is None or one.start_us >= from_us)
            and (to_us is None or one.start_us < to_us)
        ]
        found.sort(key=lambda one: one.start_us, reverse=newest_first)
        return len(found), found[offset : offset + limit]


def roll_up(times_us: Ints, values: Floats, width_us: int) -> Rolled:
    """What the roll-up tables say of these rows, which are by time."""
    if not len(times_us):
        return join([])
    bucket = times_us // width_us
    starts = np.flatnonzero(np.r_[True, bucket[1:] != bucket[:-1]])
    valid = ~np.isnan(values)
    count = np.add.reduceat(valid.astype(np.int64), starts)
    lo = np.fmin.reduceat(values, starts)
    hi = np.fmax.reduceat(values, starts)
    last = values[np.r_[starts[1:], len(values)] - 1]
    total = np.add.reduceat(np.where(valid, values, 0.0), starts)
    with np.errstate(invalid="ignore"):
        mean = total / count
    sizes = np.diff(np.r_[starts, len(values)])
    width = np.full(len(starts), width_us, np.int64)
    return Rolled(bucket[starts] * width_us, width, lo, hi, mean, last, count, sizes - count)


def every(step_us: int, from_us: int, to_us: int) -> Ints:
    """Times from one to the other."""
    return np.arange(from_us, to_us, step_us, dtype=np.int64)
