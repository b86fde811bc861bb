"""What a site has, as Sparkplug's metrics: births from the newest values, data messages from stored blocks. Pure.

Rules of this file:

1. A metric's value is physical, in the signal's unit. A whole number that is not scaled keeps its 64 bits (Int64,
   UInt64), all others are a Double. Its name is the point's name, its alias the signal's number. A birth has
   ``engUnit``, ``scale``, ``offset`` and ``labels`` (JSON) as properties; ``scale`` is the resolution: it was applied.
2. NaN, and what became unknown, is null. Infinity is a Double like others.
3. Rows at or before ``live_after_us`` are historical. Where any is live, the rows of a message stand in the order of
   their times.
4. Sparkplug's times are ms and must differ between values of one metric in one message: further values of the same ms
   go into messages of their own.
"""

import json
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from agent.core.blocks import BlockColumn, BlockError, decode
from agent.core.model import Encoding, Signal
from agent.core.ports import Latest, StoredBlock
from cloud_sync.sparkplug.payload import (
    ALIAS,
    BYTES,
    DATATYPE,
    FIXED64,
    FLOAT64,
    LONG,
    METRICS,
    NULL,
    TIME,
    DataType,
    Metric,
    Value,
)
from cloud_sync.sparkplug.payload import HISTORICAL as IS_HISTORICAL
from cloud_sync.subscriber import PayloadError, physical

#: All rows of a block are historical.
HISTORICAL = (1 << 63) - 1

_US_PER_MS = 1000
#: Rows of old blocks that are encoded at a time: some 300 B of memory each meanwhile.
_ROWS_AT_A_TIME = 1 << 14

_Longs = NDArray[np.int64]
_Bools = NDArray[np.bool_]
_Octets = NDArray[np.uint8]


def datatype(signal: Signal) -> DataType:
    """In which type a signal's values are sent."""
    if signal.encoding is Encoding.FLOAT or signal.scale != 1 or signal.offset != 0:
        return DataType.DOUBLE
    return DataType.UINT64 if signal.encoding is Encoding.UINT else DataType.INT64


def birth_metrics(latest: Iterable[Latest], current: Collection[int], now_us: int) -> list[Metric]:
    """A device's part of its birth. Signals that are not ``current`` had the name before with another meaning."""
    metrics = []
    for entry in latest:
        signal, kind = entry.signal, datatype(entry.signal)
        value = float(entry.value) if kind is DataType.DOUBLE and entry.value is not None else entry.value
        metrics.append(
            Metric(
                name=signal.name if signal.id in current else f"{signal.name}#{signal.id}",
                alias=signal.id,
                timestamp_ms=(now_us if entry.t_us is None or value is None else entry.t_us) // _US_PER_MS,
                datatype=kind,
                value=value,
                properties=_properties(signal),
            )
        )
    return metrics


def _properties(signal: Signal) -> Mapping[str, Value]:
    properties: dict[str, Value] = {}
    if signal.unit:
        properties["engUnit"] = signal.unit
    if signal.scale != 1 or signal.offset != 0:
        properties |= {"scale": float(signal.scale), "offset": float(signal.offset)}
    if signal.labels:
        properties["labels"] = json.dumps({str(word): text for word, text in sorted(signal.labels.items())})
    return properties


class Rows:
    """A block, read and checked: whose rows it has, and their messages."""

    def __init__(self, block: StoredBlock, signals: Mapping[int, Signal]) -> None:
        """Raises ``PayloadError`` when the block is damaged or names a signal that ``signals`` does not have."""
        try:
            columns = decode(block.data)
        except BlockError as error:
            raise PayloadError(f"block {block.seq}: {error}") from error
        self._columns: dict[str, list[tuple[Signal, BlockColumn]]] = defaultdict(list)
        for column in columns:
            signal = signals.get(column.signal)
            if signal is None:
                raise PayloadError(f"signal {column.signal} is not in the catalogue")
            if column.invalid and not 0 <= min(column.invalid) <= max(column.invalid) < len(column.words):
                raise PayloadError(f"block {block.seq}: an invalid row that is not there")
            self._columns[signal.device].append((signal, column))

    def ids(self, device: str) -> frozenset[int]:
        """The signals of a device that have rows."""
        return frozenset(signal.id for signal, _ in self._columns[device])

    def messages(self, live_after_us: int, size: int) -> Iterator[tuple[str, bytes]]:
        """Device and encoded metrics of each message, ``size`` metrics at most."""
        for device, columns in self._columns.items():
            for some in [columns] if live_after_us < HISTORICAL else _some_at_a_time(columns):
                for metrics in _encoded(some, live_after_us, size):
                    yield device, metrics


def _some_at_a_time(columns: Sequence[tuple[Signal, BlockColumn]]) -> Iterator[list[tuple[Signal, BlockColumn]]]:
    """A block of minutes is not encoded as a whole: that would take too much memory."""
    some: list[tuple[Signal, BlockColumn]] = []
    rows = 0
    for signal, column in columns:
        some.append((signal, column))
        rows += len(column.words)
        if rows >= _ROWS_AT_A_TIME:
            yield some
            some, rows = [], 0
    if some:
        yield some


def _encoded(columns: Sequence[tuple[Signal, BlockColumn]], live_after_us: int, size: int) -> Iterator[bytes]:
    """All rows of these columns as messages' metrics."""
    lengths = [len(column.words) for _, column in columns]
    starts = np.cumsum([0, *lengths[:-1]])
    ids = np.repeat(np.array([signal.id for signal, _ in columns]), lengths)
    kinds = np.repeat(np.array([datatype(signal) for signal, _ in columns]), lengths)
    times_us = np.concatenate([column.times_us for _, column in columns]).astype(np.int64)
    values = np.concatenate([_words(signal, column) for signal, column in columns])
    null = np.zeros(len(ids), dtype=np.bool_)
    for start, (_, column) in zip(starts.tolist(), columns, strict=True):
        null[start + np.array(column.invalid, dtype=np.int64)] = True
    double = kinds == DataType.DOUBLE
    null |= double & np.isnan(values.view(np.float64))
    times_ms = np.maximum(times_us // _US_PER_MS, 0)
    layers = _layers(ids, times_ms)
    order = np.lexsort((times_us, layers)) if live_after_us < HISTORICAL else np.argsort(layers, kind="stable")
    historical = times_us <= live_after_us
    octets, ends = _records(ids[order], kinds[order], times_ms[order], values[order], null[order], historical[order])
    edges = [0, *np.flatnonzero(np.diff(layers[order])) + 1, len(ids)]
    for first, behind in pairwise(edges):
        for start in range(first, behind, size):
            yield octets[ends[start] : ends[min(start + size, behind)]].tobytes()


def _words(signal: Signal, column: BlockColumn) -> _Longs:
    """The values as they are on the wire: 64-bit words, or the bits of physical values."""
    words = np.array(column.words, dtype=np.int64)
    if datatype(signal) is not DataType.DOUBLE or (signal.scale == 1 and signal.offset == 0):
        return words
    # Whole numbers too large for a float are multiplied exactly where scale and offset are whole, as ``physical`` does.
    if isinstance(signal.scale, float) and signal.encoding is not Encoding.FLOAT:
        raw = words.view(np.uint64) if signal.encoding is Encoding.UINT else words
        with np.errstate(over="ignore"):  # infinity, as with Python's floats
            return (raw.astype(np.float64) * signal.scale + float(signal.offset)).view(np.int64)
    different = list(set(column.words))
    values = physical(signal, different)
    try:
        known = {
            word: math.nan if value is None else float(value) for word, value in zip(different, values, strict=True)
        }
    except OverflowError as error:
        raise PayloadError(f"signal {signal.id}: {error}") from error
    return np.array([known[word] for word in column.words]).view(np.int64)


def _layers(ids: _Longs, times_ms: _Longs) -> _Longs:
    """For each row how many rows of the same signal and ms stand before it."""
    order = np.lexsort((times_ms, ids))  # stable
    new = np.ones(len(ids), dtype=np.bool_)
    new[1:] = (np.diff(ids[order]) != 0) | (np.diff(times_ms[order]) != 0)
    layers = np.zeros(len(ids), dtype=np.int64)
    if not new.all():
        places = np.arange(len(ids))
        layers[order] = places - np.maximum.accumulate(np.where(new, places, 0))
    return layers


def _records(
    ids: _Longs, kinds: _Longs, times_ms: _Longs, values: _Longs, null: _Bools, historical: _Bools
) -> tuple[_Octets, _Longs]:
    """Rows as metrics of a message, one behind the other, and where each begins, with the end of the last.

    Each field has its place in a table that is wide enough for the longest metric; what a row does not need goes.
    """
    table = np.zeros((len(ids), 32), dtype=np.uint8)
    used = np.zeros(table.shape, dtype=np.bool_)
    table[:, 0], used[:, :2] = METRICS << 3 | BYTES, True
    _fill(table, used, 2, ALIAS << 3, ids)
    _fill(table, used, 8, TIME << 3, times_ms)
    _fill(table, used, 17, DATATYPE << 3, kinds)
    table[:, 19], table[:, 20], used[:, 19:21] = IS_HISTORICAL << 3, 1, historical[:, None]
    table[:, 21], table[:, 22], used[:, 21:23] = NULL << 3, 1, True
    double = np.flatnonzero((kinds == DataType.DOUBLE) & ~null)
    table[double, 21], used[double, 22:30] = FLOAT64 << 3 | FIXED64, True
    table[double, 22:30] = values[double].astype("<i8").view(np.uint8).reshape(-1, 8)
    whole = np.flatnonzero((kinds != DataType.DOUBLE) & ~null)
    if len(whole):
        part, kept = np.zeros((len(whole), 11), dtype=np.uint8), np.zeros((len(whole), 11), dtype=np.bool_)
        _fill(part, kept, 0, LONG << 3, values[whole])
        table[whole, 21:], used[whole, 21:] = part, kept
    lengths = np.count_nonzero(used, axis=1)
    table[:, 1] = lengths - 2
    return table[used], np.concatenate(([0], np.cumsum(lengths)))


def _fill(table: _Octets, used: _Bools, column: int, tag: int, numbers: _Longs) -> None:
    """A field of whole numbers: its tag, and seven bits a byte, lowest first."""
    table[:, column], used[:, column : column + 2] = tag, True
    rest = numbers.view(np.uint64)
    while True:
        column += 1
        more = rest >> np.uint64(7)
        table[:, column] = rest & np.uint64(0x7F) | (more != 0).astype(np.uint64) << np.uint64(7)
        if not more.any():
            return
        used[:, column + 1] = more != 0
        rest = more
