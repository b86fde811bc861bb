"""The columnar block, write side (numpy). The format's rules and the read side stand in ``agent/core/blocks.py``."""

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.core.blocks import COUNTS, HEADER, MAGIC, MAX_COLUMNS, MAX_ROWS, SPLIT, TABLE, VERSION

Ints = NDArray[np.int64]
Ids = NDArray[np.int32]
Flags = NDArray[np.bool_]

#: numpy sorts 16-bit numbers by radix, many times as fast as wider ones.
_RADIX_IDS = 1 << 16
_WIDTH_LIMITS = np.array([1 << (8 * width) for width in range(8)], dtype=np.uint64)


def encode(
    ids: Ids, times_us: Ints, words: Ints, invalid: Flags | None = None, *, split: bool = False, level: int = 6
) -> bytes:
    """Rows as a block. ``invalid`` marks rows that say "unknown from here".

    Raises ``ValueError`` unless there are 1 to ``MAX_ROWS`` rows of at most ``MAX_COLUMNS`` signals.
    """
    if not 0 < len(ids) <= MAX_ROWS:
        raise ValueError(f"{len(ids)} rows, a block has 1 to {MAX_ROWS}")
    order = _order(ids)
    sorted_ids = ids[order]
    starts = np.flatnonzero(np.r_[True, sorted_ids[1:] != sorted_ids[:-1]])
    if len(starts) > MAX_COLUMNS:
        raise ValueError(f"{len(starts)} signals, a block has at most {MAX_COLUMNS}")
    t0_us = int(times_us.min())
    times = times_us[order] - t0_us
    sorted_words = words[order]
    if invalid is not None and invalid.any():
        invalid = invalid[order]
        sorted_words = np.where(invalid, 0, sorted_words)
    else:
        invalid = None
    ends = np.r_[starts[1:], len(ids)]
    time_rows, column_time = _shared_times(times, starts, ends)
    time_vectors = _vectors(times[time_rows.rows], time_rows.starts)
    invalid_vectors, column_invalid = _invalid(invalid, starts, ends, time_vectors.count)
    word_vectors = _vectors(sorted_words, starts)
    parts = [time_vectors, *([invalid_vectors] if invalid_vectors else []), word_vectors]
    tables: list[Ints] = [np.concatenate([getattr(part, name) for part in parts]) for name in ("n", "first", "base")]
    widths = np.concatenate([part.width for part in parts])
    planes = [plane for part in parts for plane in part.planes()]
    tables += [widths, sorted_ids[starts].astype(np.int64), column_time, column_invalid]
    if split:
        streams = [zlib.compress(plane, level) if plane else b"" for plane in planes]
        tables.append(np.array([len(stream) for stream in streams], dtype=np.int64))
    directory = COUNTS.pack(len(planes), len(starts)) + b"".join(map(_table, tables))
    if split:
        packed = zlib.compress(directory, level)
        body = packed + b"".join(streams)
        size = len(packed)
    else:
        body = zlib.compress(directory + b"".join(planes), level)
        size = len(directory)
    return HEADER.pack(MAGIC, VERSION, SPLIT if split else 0, len(ids), t0_us, size) + body


def _order(ids: Ids) -> Ints:
    """The rows signal by signal, each signal's in order of arrival."""
    small = ids.min() >= 0 and ids.max() < _RADIX_IDS
    return np.argsort(ids.astype(np.uint16) if small else ids, kind="stable")


@dataclass(frozen=True, slots=True)
class _Rows:
    rows: Ints
    starts: Ints


@dataclass(frozen=True, slots=True)
class _Vectors:
    """Vectors of one kind, side by side: the directory's entries and the residual steps."""

    n: Ints
    first: Ints
    base: Ints
    width: Ints
    starts: Ints
    residuals: NDArray[np.uint64]

    @property
    def count(self) -> int:
        return len(self.n)

    def planes(self) -> list[bytes]:
        """The bytes of each vector's steps, plane by plane."""
        as_bytes = self.residuals.astype("<u8", copy=False).view(np.uint8).reshape(-1, 8)
        return [
            as_bytes[start + 1 : start + n, :width].T.tobytes() if width and n > 1 else b""
            for start, n, width in zip(self.starts.tolist(), self.n.tolist(), self.width.tolist(), strict=True)
        ]


def _vectors(values: Ints, starts: Ints) -> _Vectors:
    """Split ``values`` at ``starts`` into vectors. All arithmetic wraps modulo 2**64, as the format says."""
    n = np.diff(np.r_[starts, len(values)])
    steps = np.zeros_like(values)
    np.subtract(values[1:], values[:-1], out=steps[1:])
    # A vector has no step before its first item: that place repeats the next step, so that it moves no minimum.
    longer = n > 1
    steps[starts[longer]] = steps[starts[longer] + 1]
    steps[starts[~longer]] = 0
    base = np.minimum.reduceat(steps, starts)
    residuals = (steps - np.repeat(base, n)).view(np.uint64)
    widest = np.maximum.reduceat(residuals, starts)
    width = np.searchsorted(_WIDTH_LIMITS, widest, side="right").astype(np.int64)
    return _Vectors(n.astype(np.int64), values[starts], base, width, starts, residuals)


def _shared_times(times: Ints, starts: Ints, ends: Ints) -> tuple[_Rows, Ints]:
    """The rows that make the distinct time vectors, and for each column the index of its own."""
    known: dict[bytes, int] = {}
    chosen: list[tuple[int, int]] = []
    column_time = np.empty(len(starts), dtype=np.int64)
    raw = times.tobytes()
    for column, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        key = raw[start * 8 : end * 8]
        index = known.setdefault(key, len(chosen))
        if index == len(chosen):
            chosen.append((start, end))
        column_time[column] = index
    rows = np.concatenate([np.arange(start, end) for start, end in chosen])
    lengths = np.array([end - start for start, end in chosen], dtype=np.int64)
    return _Rows(rows, np.cumsum(lengths) - lengths), column_time


def _invalid(invalid: Flags | None, starts: Ints, ends: Ints, first_index: int) -> tuple[_Vectors | None, Ints]:
    """Vectors of invalid positions, and for each column the index of its own + 1 (0: none)."""
    column_invalid = np.zeros(len(starts), dtype=np.int64)
    if invalid is None:
        return None, column_invalid
    lists: list[Ints] = []
    for column, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        positions = np.flatnonzero(invalid[start:end])
        if len(positions):
            column_invalid[column] = first_index + len(lists) + 1
            lists.append(positions.astype(np.int64))
    lengths = np.array([len(positions) for positions in lists], dtype=np.int64)
    return _vectors(np.concatenate(lists), np.cumsum(lengths) - lengths), column_invalid


def _table(values: Ints) -> bytes:
    """A directory table: smallest value, width, differences in byte planes."""
    if not len(values):
        return TABLE.pack(0, 0)
    smallest = int(values.min())
    residuals = (values - smallest).view(np.uint64)
    width = int(np.searchsorted(_WIDTH_LIMITS, residuals.max(), side="right"))
    planes = residuals.astype("<u8", copy=False).view(np.uint8).reshape(-1, 8)[:, :width].T.tobytes()
    return TABLE.pack(smallest, width) + planes
