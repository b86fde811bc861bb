"""Roll-ups as insight reads them: whole columns of 1 min or 1 h buckets, up to the newest committed row.

Rules of this file:

1. A bucket belongs to the range that it begins in, so neighbouring ranges never share one.
2. What no roll-up holds yet is in memory (``tail.py``).
3. Where 1 min buckets were dropped for their age, 1 h ones stand in; ``width_us`` tells.
"""

import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agent.core.model import Signal
from agent.store.catalogue import Catalogue
from agent.store.readers import Readers
from agent.store.rollup import HOUR_US, LEVELS, MINUTE_US
from agent.store.schema import get_mark
from agent.store.tail import Bucket, Tail, put

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Level = Literal["minute", "hour"]
Range = tuple[int, int]

_COLUMNS = "t, lo, hi, sum, last, count, gaps"


@dataclass(frozen=True, slots=True)
class Rolled:
    """Roll-ups of one signal by time, as columns of physical values; NaN: there is none.

    ``last`` is NaN when the signal was unknown at the end of the bucket; ``gaps`` counts how often it became unknown.
    """

    t_us: Ints
    width_us: Ints
    lo: Floats
    hi: Floats
    mean: Floats
    last: Floats
    count: Ints
    gaps: Ints

    def __len__(self) -> int:
        return len(self.t_us)

    def take(self, chosen: NDArray[np.bool_] | Ints) -> "Rolled":
        """Some of the buckets."""
        return Rolled(*(getattr(self, name)[chosen] for name in self.__slots__))


def join(parts: Sequence[Rolled]) -> Rolled:
    """Buckets of several answers, by time; an empty sequence gives no buckets."""
    if not parts:
        none, nothing = np.empty(0, np.int64), np.empty(0)
        return Rolled(none, none, nothing, nothing, nothing, nothing, none, none)
    joined = Rolled(*(np.concatenate([getattr(part, name) for part in parts]) for name in Rolled.__slots__))
    return (
        joined if np.all(joined.t_us[1:] >= joined.t_us[:-1]) else joined.take(np.argsort(joined.t_us, kind="stable"))
    )


class RollupReader:
    """Reads roll-ups, from any thread; ``tail`` has what they don't hold yet."""

    def __init__(self, readers: Readers, catalogue: Callable[[], Catalogue], tail: Tail) -> None:
        self._readers = readers
        self._catalogue = catalogue
        self._tail = tail

    def read(
        self, signal_ids: Collection[int], level: Level, ranges: Sequence[Range], *, before: bool
    ) -> dict[int, Rolled]:
        """The buckets of each known signal that begin in one of the ranges (from_us, to_us), which are in order.

        ``before``: and the newest one ahead of the first range. Raises ``StoreError``.
        """
        catalogue = self._catalogue()
        signals = [signal for signal_id in signal_ids if (signal := catalogue.find(signal_id)) is not None]
        if not ranges or not signals:
            return {signal.id: join([]) for signal in signals}
        with self._readers.snapshot() as connection:
            minutes = self._tail.minutes(connection, catalogue, [signal.id for signal in signals], ranges[-1][1])
            query = _Query(connection, level, ranges)
            return {signal.id: query.rolled(signal, minutes.get(signal.id, {}), before=before) for signal in signals}


class _Query:
    """One level of some ranges, inside one read transaction."""

    def __init__(self, connection: sqlite3.Connection, level: Level, ranges: Sequence[Range]) -> None:
        self._connection = connection
        self._level = level
        self._ranges = ranges
        # Charts and this agree: the hour in which the cut lies is taken from the 1 h buckets.
        self._cut_us = -(-get_mark(connection, "minute_cut_us") // HOUR_US) * HOUR_US if level == "minute" else 0

    def rolled(self, signal: Signal, tail: Mapping[int, Bucket], *, before: bool) -> Rolled:
        parts: list[Rolled] = []
        if before:
            parts.append(self._before(signal, tail))
        hours: list[Bucket] = []
        rows: list[Bucket] = []
        for from_us, to_us in self._ranges:
            if from_us < self._cut_us:
                hours += self._select("hour", signal.id, from_us, min(self._cut_us, to_us))
            rows += self._select(self._level, signal.id, max(self._cut_us, from_us), to_us)
        if hours:
            parts.append(_physical(signal, hours, HOUR_US))
        width_us = LEVELS[self._level]
        inside = [row for row in _coarser(tail, width_us) if self._inside(row[0] * width_us)]
        if inside:
            known = {row[0]: row for row in rows}
            for row in inside:
                put(known, row)
            rows = sorted(known.values(), key=lambda row: row[0])
        parts.append(_physical(signal, rows, width_us))
        return join(parts)

    def _inside(self, t_us: int) -> bool:
        return any(from_us <= t_us < to_us for from_us, to_us in self._ranges)

    def _select(self, table: str, signal: int, from_us: int, to_us: int) -> list[Bucket]:
        width_us = LEVELS[table]
        found: list[Bucket] = self._connection.execute(
            f"SELECT {_COLUMNS} FROM {table} WHERE signal = ? AND t >= ? AND t < ? ORDER BY t",  # noqa: S608 - our own
            (signal, -(-from_us // width_us), -(-to_us // width_us)),
        ).fetchall()
        return found

    def _before(self, signal: Signal, tail: Mapping[int, Bucket]) -> Rolled:
        """The newest minute ahead of the first range, or hour where there is none."""
        first_us = self._ranges[0][0]
        early = [row for minute, row in tail.items() if minute * MINUTE_US < first_us and row[5]]
        if early:
            return _physical(signal, [max(early, key=lambda row: row[0])], MINUTE_US)
        for table, width_us in LEVELS.items():
            found = self._connection.execute(
                f"SELECT {_COLUMNS} FROM {table} WHERE signal = ? AND t < ? AND count > 0 ORDER BY t DESC LIMIT 1",  # noqa: S608 - our own
                (signal.id, first_us // width_us),  # one that lies across the beginning tells what comes after, too
            ).fetchall()
            if found:
                return _physical(signal, found, width_us)
        return join([])


def _coarser(minutes: Mapping[int, Bucket], width_us: int) -> list[Bucket]:
    """Minutes summed up in buckets of that width."""
    found: dict[int, Bucket] = {}
    for minute in sorted(minutes):
        put(found, (minute * MINUTE_US // width_us, *minutes[minute][1:]))
    return list(found.values())


def _physical(signal: Signal, rows: Sequence[Bucket], width_us: int) -> Rolled:
    """Stored buckets as columns."""
    if not rows:
        return join([])
    t, lo, hi, total, last, count, gaps = np.array(rows, np.float64).T
    scale, offset = float(signal.scale), float(signal.offset)
    lo, hi, last = lo * scale + offset, hi * scale + offset, last * scale + offset
    if scale < 0:
        lo, hi = hi, lo
    with np.errstate(invalid="ignore"):
        mean = total / count * scale + offset
    times = t.astype(np.int64) * width_us
    widths = np.full(len(times), width_us, np.int64)
    return Rolled(times, widths, lo, hi, mean, last, count.astype(np.int64), gaps.astype(np.int64))
