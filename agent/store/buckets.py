"""Parts of a signal's history summed up into buckets, minima and maxima kept. Pure: columns in, values out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.core.model import Encoding, Number, Signal
from agent.store.rollup import physical_words
from agent.store.unpack import Rows

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Bucket:
    """What a signal was in ``width_us`` from ``t_us`` on; values are physical. With ``width_us`` 0 it is one row.

    ``lo``, ``hi``, ``mean`` are None when it was unknown all along, ``last`` when it was at the end; ``gap`` says that
    it was at some time in it. ``lo_us`` and ``hi_us`` are when the extremes were first met (from roll-ups:
    in which minute or hour).
    """

    t_us: int
    width_us: int
    lo: Number | None
    hi: Number | None
    mean: Number | None
    last: Number | None
    count: int
    gap: bool
    lo_us: int | None
    hi_us: int | None


@dataclass(frozen=True, slots=True)
class Pieces:
    """Parts of one signal's history as columns, in order of arrival. NaN: no value. Numbers as the device sent them."""

    t_us: Ints
    lo: Floats
    hi: Floats
    sum: Floats
    last: Floats
    count: Ints
    gaps: Ints

    def by(self, unit_us: int) -> "Pieces":
        """In the order of the units of time that they lie in, in each unit still in order of arrival."""
        order = np.argsort(self.t_us // unit_us, kind="stable")
        return Pieces(
            self.t_us[order],
            self.lo[order],
            self.hi[order],
            self.sum[order],
            self.last[order],
            self.count[order],
            self.gaps[order],
        )


def pieces_of(rows: Rows | None, encoding: Encoding) -> Pieces:
    """Each row as a piece of its own."""
    if rows is None:
        empty = np.empty(0)
        none = np.empty(0, np.int64)
        return Pieces(none, empty, empty, empty, empty, none, none)
    words, invalid = physical_words(rows.words, rows.invalid, encoding)
    values = np.where(invalid, np.nan, words.astype(np.float64))
    gaps = invalid.astype(np.int64)
    return Pieces(rows.times_us, values, values, np.where(invalid, 0.0, values), values, 1 - gaps, gaps)


def join(before: Pieces, after: Pieces) -> Pieces:
    """Pieces behind one another."""
    return Pieces(
        np.concatenate((before.t_us, after.t_us)),
        np.concatenate((before.lo, after.lo)),
        np.concatenate((before.hi, after.hi)),
        np.concatenate((before.sum, after.sum)),
        np.concatenate((before.last, after.last)),
        np.concatenate((before.count, after.count)),
        np.concatenate((before.gaps, after.gaps)),
    )


def buckets_of(signal: Signal, pieces: Pieces, from_us: int, width_us: int) -> list[Bucket]:
    """Pieces summed up in buckets of ``width_us``."""
    if not len(pieces.t_us):
        return []
    index = (pieces.t_us - from_us) // width_us
    order = np.argsort(index, kind="stable")
    index = index[order]
    starts = np.flatnonzero(np.r_[True, index[1:] != index[:-1]])
    sizes = np.diff(np.r_[starts, len(index)])
    t_us, lo, hi = pieces.t_us[order], pieces.lo[order], pieces.hi[order]
    lows, highs = np.fmin.reduceat(lo, starts), np.fmax.reduceat(hi, starts)
    columns = (
        (from_us + index[starts] * width_us).tolist(),
        lows.tolist(),
        highs.tolist(),
        np.add.reduceat(pieces.sum[order], starts).tolist(),
        pieces.last[order][starts + sizes - 1].tolist(),
        np.add.reduceat(pieces.count[order], starts).tolist(),
        np.add.reduceat(pieces.gaps[order], starts).tolist(),
        _first_times(t_us, lo, lows, starts, sizes),
        _first_times(t_us, hi, highs, starts, sizes),
    )
    return [_bucket(signal, width_us, column) for column in zip(*columns, strict=True)]


def _first_times(t_us: Ints, values: Floats, extremes: Floats, starts: Ints, sizes: Ints) -> list[int]:
    """For each bucket the time of the first piece that has its extreme; anything where it has no value."""
    places = np.flatnonzero(values == np.repeat(extremes, sizes))
    if not len(places):
        return [0] * len(starts)
    first = places[np.minimum(np.searchsorted(places, starts), len(places) - 1)]
    times: list[int] = t_us[first].tolist()
    return times


def _bucket(
    signal: Signal, width_us: int, summed: tuple[int, float, float, float, float, int, int, int, int]
) -> Bucket:
    t_us, lo, hi, total, last, count, gaps, lo_us, hi_us = summed
    known_last = None if last != last else _value(signal, last)  # noqa: PLR0124 - NaN is not equal to itself
    if not count:
        return Bucket(t_us, width_us, None, None, None, known_last, 0, gaps > 0, None, None)
    ends = [(_value(signal, lo), lo_us), (_value(signal, hi), hi_us)]
    if signal.scale < 0:
        ends.reverse()
    mean = total / count * signal.scale + signal.offset
    (low, low_us), (high, high_us) = ends
    return Bucket(t_us, width_us, low, high, mean, known_last, count, gaps > 0, low_us, high_us)


def _value(signal: Signal, raw: float) -> Number:
    """A physical value from a raw number that went through float64. Whole numbers stay whole."""
    number: Number = raw if signal.encoding is Encoding.FLOAT else round(raw)
    return number if signal.scale == 1 and signal.offset == 0 else number * signal.scale + signal.offset


def points_of(signal: Signal, rows: Rows) -> list[Bucket]:
    """Each row as it is, by time."""
    order = np.argsort(rows.times_us, kind="stable")
    columns = (
        rows.times_us[order].tolist(),
        rows.words[order].tolist(),
        _silent(rows, signal.encoding)[order].tolist(),
    )
    return [_point(signal, *row) for row in zip(*columns, strict=True)]


def _silent(rows: Rows, encoding: Encoding) -> NDArray[np.bool_]:
    return physical_words(rows.words, rows.invalid, encoding)[1]


def _point(signal: Signal, t_us: int, word: int, silent: bool) -> Bucket:  # noqa: FBT001 - a column's value
    if silent:
        return Bucket(t_us, 0, None, None, None, None, 0, gap=True, lo_us=None, hi_us=None)
    value = signal.physical(word)
    return Bucket(t_us, 0, value, value, value, value, 1, gap=False, lo_us=t_us, hi_us=t_us)
