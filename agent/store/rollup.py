"""Roll-ups: rows to (lo, hi, sum, last, count, gaps) per signal and minute or hour.

They are merged into the tables, in the transaction that moves the mark up to which blocks were rolled. So each row
counts once, whatever crashes; late rows and a clock that jumps back find their bucket as well.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.core.model import Encoding
from agent.store.blocks import Flags, Ids, Ints
from agent.store.unpack import Rows

MINUTE_US = 60_000_000
HOUR_US = 3_600_000_000
LEVELS = {"minute": MINUTE_US, "hour": HOUR_US}

_INT64_MAX = 2**63 - 1
_EXACT = 2.0**53

Number = int | float
Bucket = tuple[int, int, Number | None, Number | None, Number, Number | None, int, int]

_MERGE = """INSERT INTO {table} VALUES(?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(signal, t) DO UPDATE SET
    lo = ifnull(min(lo, excluded.lo), ifnull(lo, excluded.lo)),
    hi = ifnull(max(hi, excluded.hi), ifnull(hi, excluded.hi)),
    sum = sum + excluded.sum, last = excluded.last, count = count + excluded.count, gaps = gaps + excluded.gaps"""


def merge(connection: sqlite3.Connection, rows: Rows, encodings: Mapping[int, Encoding]) -> None:
    """Add rows to both roll-up tables, inside the caller's transaction."""
    for table, width_us in LEVELS.items():
        connection.executemany(_MERGE.format(table=table), aggregate(rows, width_us, encodings))


def aggregate(rows: Rows, width_us: int, encodings: Mapping[int, Encoding]) -> list[Bucket]:
    """One tuple (signal, bucket, lo, hi, sum, last, count, gaps) for each signal and bucket that has rows.

    ``rows`` come signal by signal, each in order of arrival, which makes ``last``. A float that is not finite says
    nothing: it counts as a gap. Unknown signals are taken for ``Encoding.INT``.
    """
    buckets: list[Bucket] = []
    kinds = np.array([encodings.get(signal, Encoding.INT) for signal in np.unique(rows.ids).tolist()])
    row_kinds = kinds[np.searchsorted(np.unique(rows.ids), rows.ids)]
    for kind in np.unique(kinds).tolist():
        chosen = slice(None) if len(np.unique(kinds)) == 1 else row_kinds == kind
        values, invalid = physical_words(rows.words[chosen], rows.invalid[chosen], Encoding(kind))
        buckets += _aggregate(rows.ids[chosen], rows.times_us[chosen] // width_us, values, invalid)
    return buckets


def physical_words(
    words: Ints, invalid: Flags, encoding: Encoding
) -> tuple[NDArray[np.int64] | NDArray[np.uint64] | NDArray[np.float64], Flags]:
    """Words read in their encoding, and which of them say nothing."""
    if encoding is Encoding.FLOAT:
        floats = words.view(np.float64)
        return floats, invalid | ~np.isfinite(floats)
    return (words.view(np.uint64) if encoding is Encoding.UINT else words), invalid


@dataclass(frozen=True, slots=True)
class _Groups:
    """Where each group of rows begins, and the group of each row."""

    starts: Ints
    of_row: Ints


def _groups(ids: Ids, bucket: Ints) -> _Groups:
    new = np.r_[True, (ids[1:] != ids[:-1]) | (bucket[1:] != bucket[:-1])]
    return _Groups(np.flatnonzero(new), np.cumsum(new) - 1)


def _aggregate(
    ids: Ids, bucket: Ints, values: NDArray[np.int64] | NDArray[np.uint64] | NDArray[np.float64], invalid: Flags
) -> list[Bucket]:
    if np.any((bucket[1:] < bucket[:-1]) & (ids[1:] == ids[:-1])):  # wall time went back
        order = np.lexsort((bucket, ids))  # stable: within a bucket the order of arrival stays
        ids, bucket, values, invalid = ids[order], bucket[order], values[order], invalid[order]
    groups = _groups(ids, bucket)
    total = len(groups.starts)
    sizes = np.diff(np.r_[groups.starts, len(ids)])
    ends = groups.starts + sizes - 1
    valid_rows = np.flatnonzero(~invalid)
    counts = np.bincount(groups.of_row[valid_rows], minlength=total)
    lows: list[Number | None] = [None] * total
    highs: list[Number | None] = [None] * total
    sums: list[Number] = [0] * total
    if len(valid_rows):
        of_row = groups.of_row[valid_rows]
        starts = np.flatnonzero(np.r_[True, of_row[1:] != of_row[:-1]])
        valid = values[valid_rows]
        found = zip(
            of_row[starts].tolist(),
            np.minimum.reduceat(valid, starts).tolist(),
            np.maximum.reduceat(valid, starts).tolist(),
            np.add.reduceat(valid, starts, dtype=np.float64).tolist(),
            strict=True,
        )
        for group, low, high, total_value in found:
            lows[group], highs[group], sums[group] = _storable(low), _storable(high), _short(total_value)
    lasts = [
        None if gap else _storable(value)
        for value, gap in zip(values[ends].tolist(), invalid[ends].tolist(), strict=True)
    ]
    columns = (ids[groups.starts].tolist(), bucket[groups.starts].tolist(), lows, highs, sums, lasts, counts.tolist())
    return list(zip(*columns, (sizes - counts).tolist(), strict=True))


def _storable(value: Number) -> Number:
    """SQLite's integers end at 2**63 - 1."""
    return value if isinstance(value, float) or value <= _INT64_MAX else float(value)


def _short(value: float) -> Number:
    """Whole sums are stored as integers, which SQLite keeps in fewer bytes."""
    return int(value) if value.is_integer() and abs(value) < _EXACT else value
