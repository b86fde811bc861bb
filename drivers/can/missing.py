"""Values that mean "not known": a device's sentinels become rows that say so, once per edge. Missing is never 0."""

from collections.abc import Collection, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int32]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
#: ids, times in µs, words, and whether the rows are values (or say "unknown").
Rows = tuple[Ids, Ints, Ints, bool]


class Missing:
    """Takes sentinels out of rows.

    ``words``: every signal id -> the inclusive ranges of words that mean "not known"; ``floats``: those of them whose
    words are binary64, where NaN and the infinities mean that too.
    """

    def __init__(self, words: Mapping[int, tuple[tuple[int, int], ...]], floats: Collection[int] = ()) -> None:
        used = {signal: ranges for signal, ranges in words.items() if ranges}
        size = max(words, default=0) + 1
        self._layers: list[tuple[Flags, Ints, Ints]] = []
        for layer in range(max(map(len, used.values()), default=0)):
            has = np.zeros(size, dtype=np.bool_)
            low, high = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
            for signal, ranges in used.items():
                if layer < len(ranges):
                    has[signal] = True
                    low[signal], high[signal] = ranges[layer]
            self._layers.append((has, low, high))
        self._float: Flags | None = None
        if floats:
            self._float = np.zeros(size, dtype=np.bool_)
            self._float[list(floats)] = True
        self._missing = np.zeros(size, dtype=np.bool_)
        self._any = False

    def split(self, ids: Ids, times_us: Ints, words: Ints) -> Iterator[Rows]:
        """The rows in order, as runs of values and of edges to "unknown"."""
        flags = self._flags(ids, words)
        if flags is None or not flags.any():
            if self._any and len(ids):
                self._missing[ids] = False
                self._any = bool(self._missing.any())
            yield ids, times_us, words, True
            return
        edges = self._edges(ids, flags)
        kept = ~flags
        kept[edges] = True
        chosen = np.flatnonzero(kept)
        unknown = np.zeros(len(ids), dtype=np.bool_)
        unknown[edges] = True
        unknown = unknown[chosen]
        cuts = np.flatnonzero(unknown[1:] != unknown[:-1]) + 1
        for run in np.split(chosen, cuts):
            if len(run):
                yield ids[run], times_us[run], words[run], not flags[run[0]]

    def known(self, ids: Ids) -> Ids:
        """Only the signals that are not missing now: repeating a sentinel says nothing new."""
        return ids[~self._missing[ids]] if self._any else ids

    def forget(self) -> None:
        """All signals were said to be unknown otherwise: the next sentinel adds nothing, the next value ends it."""
        self._missing[:] = False
        self._any = False

    def _flags(self, ids: Ids, words: Ints) -> Flags | None:
        flags: Flags | None = None
        for has, low, high in self._layers:
            hit = has[ids] & (words >= low[ids]) & (words <= high[ids])
            flags = hit if flags is None else flags | hit
        if self._float is not None:
            hit = self._float[ids] & ~np.isfinite(words.view(np.float64))
            flags = hit if flags is None else flags | hit
        return flags

    def _edges(self, ids: Ids, flags: Flags) -> list[int]:
        """The sentinel rows before which their signal had a value. A loop over rows that may be edges only."""
        valued = np.zeros(len(self._missing), dtype=np.bool_)
        valued[ids[~flags]] = True
        candidates = valued[ids] | (flags & ~self._missing[ids])
        edges: list[int] = []
        rows = np.flatnonzero(candidates)
        mixed = rows[np.isin(ids[rows], ids[flags])]
        for row, signal, flag in zip(mixed.tolist(), ids[mixed].tolist(), flags[mixed].tolist(), strict=True):
            if flag and not self._missing[signal]:
                edges.append(row)
            self._missing[signal] = flag
        others = valued.copy()
        others[ids[mixed]] = False
        self._missing[others] = False
        self._any = bool(self._missing.any())
        return edges
