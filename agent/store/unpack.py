"""Blocks into numpy columns, many vectors at a time: for sealing, roll-ups and charts.

The format's rules stand in ``agent/core/blocks.py``; a property test holds this reader and that one together.
"""

import struct
import zlib
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.core.blocks import (
    COUNTS,
    HEADER,
    MAX_STREAM_BYTES,
    MAX_VECTORS_PER_COLUMN,
    TABLE,
    BlockError,
    check_counts,
    decode,
    read_header,
)
from agent.store.blocks import Flags, Ids, Ints

_WORD_BYTES = 8
#: Of a small block, plain Python reads a few signals four times as fast as numpy, whose calls cost more than the work.
_FEW_SIGNALS = 4
_FEW_ROWS = 5000
_Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows as parallel columns, signal by signal, each signal's rows in order of arrival."""

    ids: Ids
    times_us: Ints
    words: Ints
    invalid: Flags

    def __len__(self) -> int:
        return len(self.ids)


def concatenate(parts: list[Rows]) -> Rows:
    """Rows behind one another; of one signal they stay in the order of the parts."""
    return Rows(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.times_us for part in parts]),
        np.concatenate([part.words for part in parts]),
        np.concatenate([part.invalid for part in parts]),
    )


def unpack(data: bytes, signals: Collection[int] | None = None) -> Rows:
    """All rows of a block, or those of ``signals``. Raises ``BlockError`` on any damage."""
    if signals is not None and len(signals) <= _FEW_SIGNALS and read_header(data).rows <= _FEW_ROWS:
        return _few(data, signals)
    try:
        return _Unpacker(data).rows(signals)
    except BlockError:
        raise
    except (zlib.error, struct.error, ValueError, IndexError, OverflowError, MemoryError) as error:
        raise BlockError(f"damaged: {error}") from error


def _few(data: bytes, signals: Collection[int]) -> Rows:
    """The same by the reader of core."""
    columns = decode(data, signals)
    if not columns:
        none = np.empty(0, np.int64)
        return Rows(np.empty(0, np.int32), none, none, np.empty(0, np.bool_))
    sizes = [len(column.words) for column in columns]
    ids = np.repeat(np.array([column.signal for column in columns], np.int32), sizes)
    invalid = np.zeros(len(ids), np.bool_)
    start = 0
    for column, size in zip(columns, sizes, strict=True):
        positions = np.array(column.invalid, np.int64)
        if len(positions) and not 0 <= positions.min() <= positions.max() < size:
            raise BlockError("damaged: an invalid row that is none")
        invalid[start + positions] = True
        start += size
    times = np.concatenate([np.frombuffer(column.times_us, np.int64) for column in columns])
    return Rows(ids, times, np.concatenate([np.frombuffer(column.words, np.int64) for column in columns]), invalid)


class _Unpacker:
    def __init__(self, data: bytes) -> None:
        head = read_header(data)
        self._data = data
        self._t0_us = head.t0_us
        self._split = head.split
        size: int = HEADER.unpack_from(data)[5]
        if head.split:
            directory, body = _inflate(data[HEADER.size : HEADER.size + size]), b""
            start, end = HEADER.size + size, len(data)
        else:
            whole = _inflate(data[HEADER.size :])
            directory, body = whole[:size], whole[size:]
            start, end = 0, len(body)
        self._body = np.frombuffer(body, np.uint8)
        vectors, columns = COUNTS.unpack_from(directory)
        check_counts(vectors, columns, head.rows)
        position = COUNTS.size
        tables: list[Ints] = []
        for items in (vectors,) * 4 + (columns,) * 3 + ((vectors,) if head.split else ()):
            table, position = _table(directory, position, items)
            tables.append(table)
        self._n, self._first, self._base, self._width, self._signal, self._time, self._mark = tables[:7]
        self._words = np.arange(vectors - columns, vectors)
        if position != len(directory) or self._n.min() < 1 or self._n.max() > head.rows:
            raise BlockError("damaged: impossible vectors")
        if self._n.sum() > MAX_VECTORS_PER_COLUMN * head.rows or self._n[self._words].sum() != head.rows:
            raise BlockError("damaged: not as many rows as the header says")
        if self._width.min() < 0 or self._width.max() > _WORD_BYTES:
            raise BlockError("damaged: a width that is none")
        sizes = tables[7] if head.split else (self._n - 1) * self._width
        if sizes.min() < 0 or sizes.max() > end:
            raise BlockError("damaged: a vector longer than the block")
        self._offsets = np.concatenate(([start], start + np.cumsum(sizes)))
        if self._offsets[-1] != end:
            raise BlockError("damaged: the vectors do not fill the block")
        if self._time.min() < 0 or self._time.max() >= vectors or self._mark.min() < 0 or self._mark.max() > vectors:
            raise BlockError("damaged: a column names a vector that is none")

    def rows(self, signals: Collection[int] | None) -> Rows:
        chosen = (
            np.arange(len(self._signal))
            if signals is None
            else np.flatnonzero(np.isin(self._signal, np.fromiter(signals, np.int64, len(signals))))
        )
        vectors = self._words[chosen]
        sizes = self._n[vectors]
        if not np.array_equal(self._n[self._time[chosen]], sizes):
            raise BlockError("damaged: times and words differ in number")
        words = self._gather(vectors)
        # Columns that were read together share their times: each vector is unpacked once.
        shared, which = np.unique(self._time[chosen], return_inverse=True)
        times = self._gather(shared)
        starts = np.cumsum(sizes) - sizes
        if len(shared) < len(chosen):
            from_ = (np.cumsum(self._n[shared]) - self._n[shared])[which]
            times = times[np.repeat(from_ - starts, sizes) + np.arange(len(words))]
        ids = np.repeat(self._signal[chosen], sizes).astype(np.int32)
        return Rows(ids, times + np.int64(self._t0_us), words, self._flags(chosen, sizes, starts))

    def _flags(self, chosen: Ints, sizes: Ints, starts: Ints) -> Flags:
        flags = np.zeros(int(sizes.sum()), dtype=np.bool_)
        for place in np.flatnonzero(self._mark[chosen]).tolist():
            positions = self._gather(self._mark[chosen[place]][None] - 1)
            if positions.min() < 0 or positions.max() >= sizes[place]:
                raise BlockError("damaged: an invalid row that is none")
            flags[starts[place] + positions] = True
        return flags

    def _gather(self, vectors: Ints) -> Ints:
        """The items of these vectors, one vector behind the other. Those of one shape are unpacked together."""
        n, width = self._n[vectors], self._width[vectors]
        starts = np.cumsum(n) - n
        result = np.empty(int(n.sum()), dtype=np.int64)
        shapes = n * (_WORD_BYTES + 1) + width
        for shape in np.unique(shapes).tolist():
            places = np.flatnonzero(shapes == shape)
            members = vectors[places]
            items, bytes_ = divmod(shape, _WORD_BYTES + 1)
            steps = np.zeros((len(members), items), dtype=np.int64)
            steps[:, 0] = self._first[members]
            if items > 1:
                steps[:, 1:] = self._base[members][:, None]
                if bytes_:
                    steps[:, 1:] += _from_planes(self._planes(members, (items - 1) * bytes_), bytes_)
            np.cumsum(steps, axis=1, out=steps)
            result[starts[places][:, None] + np.arange(items)] = steps
        return result

    def _planes(self, members: Ints, size: int) -> _Bytes:
        """uint8[members, size]: the bytes of vectors that are equally long."""
        if not self._split:
            return self._body[self._offsets[members][:, None] + np.arange(size)]
        planes = np.empty((len(members), size), dtype=np.uint8)
        for row, member in enumerate(members.tolist()):
            stream = _inflate(self._data[self._offsets[member] : self._offsets[member + 1]])
            if len(stream) != size:
                raise BlockError("damaged: a vector has the wrong size")
            planes[row] = np.frombuffer(stream, np.uint8)
        return planes


def _from_planes(planes: _Bytes, width: int) -> Ints:
    """int64[k, items] from uint8[k, width * items], lowest byte plane first."""
    count = planes.shape[0]
    by_plane = planes.reshape(count, width, -1)
    padded = np.zeros((count, by_plane.shape[2], _WORD_BYTES), dtype=np.uint8)
    padded[:, :, :width] = by_plane.transpose(0, 2, 1)
    return padded.view("<i8")[:, :, 0].astype(np.int64, copy=False)


def _table(directory: bytes, position: int, items: int) -> tuple[Ints, int]:
    smallest, width = TABLE.unpack_from(directory, position)
    start = position + TABLE.size
    end = start + items * width
    if width > _WORD_BYTES or end > len(directory):
        raise BlockError("damaged: a table reaches past the directory")
    values = np.full(items, smallest, dtype=np.int64)
    if width:
        values += _from_planes(np.frombuffer(directory, np.uint8, items * width, start)[None, :], width)[0]
    return values, end


def _inflate(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    result = inflater.decompress(data, MAX_STREAM_BYTES)
    if not inflater.eof or inflater.unused_data:
        raise BlockError("damaged: a stream is cut, too large or followed by more")
    return result
