"""Giving up some rows of a block that was not sent yet, the least missed first. Numpy only, no database.

Rules of this file:

1. Each level leaves less than the one before it: every second row of gauges, then their 1 min averages, then no states,
   then of counters the first and last row of each hour and those beside the start and stop of a session of the device.
2. A value stands until the next one. So what a signal said last before it fell silent stays as it is, and so does
   what says that it became unknown; an average takes the place of the first row that it is made of.
3. Counters are never averaged, nor touched before the last level. Roll-ups were made before: they do not change.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from agent.core.model import Encoding, Kind
from agent.store.blocks import Flags, Ids, Ints
from agent.store.rollup import HOUR_US, MINUTE_US, physical_words
from agent.store.unpack import Rows, concatenate

#: Whole numbers up to here are exact as a double.
_EXACT = 2.0**53


class Level(IntEnum):
    """What is left of a block."""

    FULL = 0
    HALF = 1
    MINUTES = 2
    NO_STATES = 3
    REGISTERS = 4


@dataclass(frozen=True, slots=True)
class Meaning:
    """What thinning must know of a signal. ``kept_us``: starts and stops of its device's sessions."""

    kind: Kind = Kind.GAUGE
    encoding: Encoding = Encoding.INT
    kept_us: Sequence[int] = field(default_factory=tuple)


def thin(rows: Rows, level: Level, meanings: Mapping[int, Meaning]) -> Rows:
    """What is left on that level of rows on the one before it, signal by signal; maybe nothing.

    ``rows`` come signal by signal, each in order of arrival. Signals without a meaning are taken for gauges.
    """
    if not len(rows) or level is Level.FULL:
        return rows
    if level is Level.HALF:
        return _half(rows, _of_kind(rows.ids, meanings, Kind.GAUGE))
    if level is Level.MINUTES:
        return _averaged(rows, meanings)
    if level is Level.NO_STATES:
        return _chosen(rows, ~_of_kind(rows.ids, meanings, Kind.STATE))
    return _chosen(rows, _registers(rows, meanings))


def counts(ids: Ids) -> dict[int, int]:
    """How many rows each signal has; they come signal by signal."""
    ends = _ends(ids)
    return dict(zip(ids[ends].tolist(), np.diff(np.r_[-1, ends]).tolist(), strict=True))


def _chosen(rows: Rows, chosen: Flags | Ints) -> Rows:
    return Rows(rows.ids[chosen], rows.times_us[chosen], rows.words[chosen], rows.invalid[chosen])


def _of_kind(ids: Ids, meanings: Mapping[int, Meaning], kind: Kind) -> Flags:
    ends = _ends(ids)
    flags = np.array([meanings.get(signal, Meaning()).kind is kind for signal in ids[ends].tolist()], np.bool_)
    return np.repeat(flags, np.diff(np.r_[-1, ends]))


def _ends(*columns: NDArray[np.int32] | NDArray[np.int64]) -> Ints:
    """The last row of each run in which all columns stay the same."""
    last = np.ones(len(columns[0]), np.bool_)
    last[:-1] = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    return np.flatnonzero(last)


def _half(rows: Rows, gauges: Flags) -> Rows:
    """Every second row of gauges, counted from each signal's last one."""
    ends = _ends(rows.ids)
    sizes = np.diff(np.r_[-1, ends])
    behind = np.repeat(ends, sizes) - np.arange(len(rows))
    return _chosen(rows, ~gauges | rows.invalid | (behind % 2 == 0))


def _averaged(rows: Rows, meanings: Mapping[int, Meaning]) -> Rows:
    gauges = _of_kind(rows.ids, meanings, Kind.GAUGE)
    parts = [_chosen(rows, ~gauges)]
    ends = _ends(rows.ids)
    encodings = np.array([meanings.get(signal, Meaning()).encoding for signal in rows.ids[ends].tolist()])
    of_row = np.repeat(encodings, np.diff(np.r_[-1, ends]))
    parts += [_averages(_chosen(rows, gauges & (of_row == one)), one) for one in Encoding]
    whole = concatenate([part for part in parts if len(part)])
    # A signal's rows all stand in one part: stable, they stay in order.
    return _chosen(whole, whole.ids.argsort(kind="stable"))


def _averages(rows: Rows, encoding: Encoding) -> Rows:
    """One row for each signal and minute, and what rule 2 keeps beside it."""
    if not len(rows):
        return rows
    values, unknown = physical_words(rows.words, rows.invalid, encoding)
    minutes = rows.times_us // MINUTE_US
    ends = _ends(rows.ids, minutes)
    of_row = np.repeat(np.arange(len(ends)), np.diff(np.r_[-1, ends]))
    kept = np.zeros(len(rows), np.bool_)
    kept[ends[unknown[ends]]] = True
    valid = np.flatnonzero(~unknown)
    words = rows.words.copy()
    if len(valid):
        valid_ends = _ends(of_row[valid])
        starts = np.r_[0, valid_ends[:-1] + 1]
        firsts, lasts = valid[starts], valid[valid_ends]
        with np.errstate(over="ignore"):
            means = np.add.reduceat(values[valid].astype(np.float64), starts) / (valid_ends - starts + 1)
        words[firsts] = np.where(firsts == lasts, words[firsts], _as_words(means, rows.words[lasts], encoding))
        kept[firsts] = True
        group = of_row[lasts]
        following = ends[np.minimum(group + 1, len(ends) - 1)]
        goes_on = (rows.ids[following] == rows.ids[lasts]) & (minutes[following] == minutes[lasts] + 1)
        kept[lasts[~goes_on]] = True
    return _chosen(Rows(rows.ids, rows.times_us, words, rows.invalid), kept)


def _as_words(means: NDArray[np.float64], lasts: Ints, encoding: Encoding) -> Ints:
    """Averages in the encoding of their signals; the last word where the average can't be told exactly."""
    if encoding is Encoding.FLOAT:
        return np.where(np.isfinite(means), means.view(np.int64), lasts)
    exact = np.abs(means) < _EXACT
    return np.where(exact, np.rint(np.where(exact, means, 0)).astype(np.int64), lasts)


def _registers(rows: Rows, meanings: Mapping[int, Meaning]) -> Flags:
    kept = np.zeros(len(rows), np.bool_)
    known = np.flatnonzero(_of_kind(rows.ids, meanings, Kind.COUNTER) & ~rows.invalid)
    if not len(known):
        return kept
    ids, times = rows.ids[known], rows.times_us[known]
    ends = _ends(ids, times // HOUR_US)
    kept[known[ends]] = True
    kept[known[np.r_[0, ends[:-1] + 1]]] = True
    for signal in np.unique(ids).tolist():
        mine = known[ids == signal]
        for kept_us in meanings[signal].kept_us:
            before = mine[rows.times_us[mine] <= kept_us]
            after = mine[rows.times_us[mine] >= kept_us]
            kept[before[rows.times_us[before].argsort(kind="stable")[-1:]]] = True
            kept[after[rows.times_us[after].argsort(kind="stable")[:1]]] = True
    return kept
