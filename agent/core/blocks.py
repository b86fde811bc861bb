"""The columnar block, read side. Standard library only, so that a subscriber can import this file without the rest.

The write side is ``agent/store/blocks.py``; a property test holds the two together. Rules of the format, version 1:

1. All numbers are little-endian. A block is a 20-byte header and then zlib streams::

       magic b"EB" | version u8 = 1 | flags u8 | rows u32 | t0_us i64 | directory bytes u32

   Without flag ``SPLIT`` one stream holds the directory and then all vector bytes (blocks of some seconds: smallest).
   With it, the directory is a stream of its own ("directory bytes" long) and each vector follows as its own stream
   (blocks of some minutes: one signal can be read without unpacking the others).
2. Everything is a *vector* of 64-bit integers: ``n`` items, the ``first`` one, and ``n - 1`` steps. A step is stored as
   the unsigned difference to the smallest step ``base``, in ``width`` bytes (0 to 8), lowest bytes of all steps first,
   then the next bytes of all, and so on. Arithmetic is modulo 2**64.
3. The directory is ``vectors u32 | columns u32`` and then seven *tables* (eight with ``SPLIT``), each
   ``smallest i64 | width u8`` and the unsigned differences to the smallest, in byte planes as above:
   for each vector ``n``, ``first``, ``base``, ``width``; for each column its signal id, the index of its time vector
   and the index of its vector of invalid positions + 1 (0: all its rows are valid); with ``SPLIT`` also the stream
   bytes of each vector. The words of column ``i`` are vector ``vectors - columns + i``; time vectors hold µs since
   ``t0_us`` and are shared by the columns that were read together.
4. A row that is named in the vector of invalid positions says that the signal became unknown then; its word is 0.
5. Rows of a column stand in the order of arrival. Wall time is data here, not order.
"""

import struct
import sys
import zlib
from array import array
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate

MAGIC = b"EB"
VERSION = 1
SPLIT = 1
HEADER = struct.Struct("<2sBBIqI")
COUNTS = struct.Struct("<II")
TABLE = struct.Struct("<qB")

#: Guards against hostile input, far above any real block: they bound the memory that reading one can take.
MAX_ROWS = 1 << 22
MAX_COLUMNS = 1 << 16
MAX_STREAM_BYTES = 1 << 27
#: Of a column there are at most the words, times of its own and invalid positions.
MAX_VECTORS_PER_COLUMN = 3

_MASK = (1 << 64) - 1
_TYPECODES = {2: "H", 4: "I", 8: "Q"}


class BlockError(ValueError):
    """The bytes are no block of a version that this code reads, or they are damaged."""


@dataclass(slots=True)  # not frozen: a block of one reading has hundreds of these, and that would triple their cost
class BlockColumn:
    """The rows of one signal in a block, to be read only: columns that were read together share one ``times_us``."""

    signal: int
    times_us: "array[int]"  #: µs since 1970 UTC
    words: "array[int]"  #: 64-bit words, see ``Signal.encoding``
    invalid: "array[int]"  #: positions of the rows that say "unknown from here"


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """What can be said of a block without unpacking it."""

    rows: int
    t0_us: int
    split: bool


def read_header(data: bytes) -> BlockHeader:
    """The header of a block. Raises ``BlockError``."""
    if len(data) < HEADER.size:
        raise BlockError(f"{len(data)} bytes are too short for a block")
    magic, version, flags, rows, t0_us, _ = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise BlockError(f"starts with {magic!r}, not {MAGIC!r}")
    if version != VERSION:
        raise BlockError(f"version {version}, this code reads version {VERSION}")
    if not 0 < rows <= MAX_ROWS:
        raise BlockError(f"{rows} rows, a block has 1 to {MAX_ROWS}")
    return BlockHeader(rows, t0_us, bool(flags & SPLIT))


def decode(data: bytes, signals: Container[int] | None = None) -> list[BlockColumn]:
    """All columns of a block, or those of ``signals`` only. Raises ``BlockError`` on any damage."""
    head = read_header(data)
    try:
        return list(_Reader(data, head).columns(signals))
    except (zlib.error, struct.error, IndexError, OverflowError, MemoryError) as error:
        raise BlockError(f"damaged: {error}") from error


def decode_rows(data: bytes) -> Iterator[tuple[int, int, int | None]]:
    """Each row of a block as (signal id, µs since 1970 UTC, word or None), signal by signal. Raises ``BlockError``."""
    for column in decode(data):
        invalid = set(column.invalid)
        for position, (t_us, word) in enumerate(zip(column.times_us, column.words, strict=True)):
            yield column.signal, t_us, None if position in invalid else word


def check_counts(vectors: int, columns: int, rows: int) -> None:
    """Refuse a directory whose sizes no block of so many rows can have, before anything is made of them."""
    if not 0 < columns <= min(rows, MAX_COLUMNS) or not columns < vectors <= MAX_VECTORS_PER_COLUMN * columns:
        raise BlockError("damaged: impossible counts")


class _Reader:
    """One block being read: its directory, and its vectors on demand."""

    def __init__(self, data: bytes, head: BlockHeader) -> None:
        self._data = data
        self._t0_us = head.t0_us
        self._split = head.split
        directory_bytes: int = HEADER.unpack_from(data)[5]
        if head.split:
            directory = _inflate(data[HEADER.size : HEADER.size + directory_bytes])
            self._body = b""
        else:
            directory = _inflate(data[HEADER.size :])
            self._body = directory[directory_bytes:]
        self._vectors, self._columns = COUNTS.unpack_from(directory)
        check_counts(self._vectors, self._columns, head.rows)
        self._directory = directory
        self._position = COUNTS.size
        self._n = self._table(self._vectors)
        self._first = self._table(self._vectors)
        self._base = self._table(self._vectors)
        self._width = self._table(self._vectors)
        self._signal = self._table(self._columns)
        self._time = self._table(self._columns)
        self._invalid = self._table(self._columns)
        if head.split:
            sizes = self._table(self._vectors)
            start = HEADER.size + directory_bytes
        else:
            sizes = array("q", [(n - 1) * width for n, width in zip(self._n, self._width, strict=True)])
            start = 0
        self._offsets = list(accumulate(sizes, initial=start))
        end = len(data) if head.split else len(self._body)
        if self._offsets[-1] != end or min(sizes) < 0 or self._position != (len(directory) - len(self._body)):
            raise BlockError("damaged: the vectors do not fill the block")
        if min(self._width) < 0 or max(self._width) > 8:  # noqa: PLR2004 - 64-bit words have 8 bytes
            raise BlockError("damaged: a width that is none")
        if min(self._n) < 1 or sum(self._n) > MAX_VECTORS_PER_COLUMN * head.rows:
            raise BlockError("damaged: impossible vectors")
        if sum(self._n[self._vectors - self._columns :]) != head.rows:
            raise BlockError("damaged: not as many rows as the header says")
        if not 0 <= min(self._time) <= max(self._time) < self._vectors:
            raise BlockError("damaged: a time vector that is none")
        if not 0 <= min(self._invalid) <= max(self._invalid) <= self._vectors:
            raise BlockError("damaged: a vector of invalid rows that is none")

    def columns(self, signals: Container[int] | None) -> Iterator[BlockColumn]:
        if signals is None and max(self._n) == 1:
            return self._one_row_each()
        return self._chosen(signals)

    def _one_row_each(self) -> Iterator[BlockColumn]:
        """A block of one reading: hundreds of columns, of which each call would cost more than the work."""
        firsts = self._first.tolist()
        words = [array("q", (word,)) for word in firsts[-self._columns :]]
        times = {time: self._vector(time, self._t0_us) for time in set(self._time)}
        # Mark 0 says that all rows are valid.
        marks = {mark: array("q", firsts[mark - 1 : mark] if mark else ()) for mark in set(self._invalid)}
        times_us = [times[time] for time in self._time]
        return map(BlockColumn, self._signal, times_us, words, [marks[mark] for mark in self._invalid])

    def _chosen(self, signals: Container[int] | None) -> Iterator[BlockColumn]:
        times: dict[int, array[int]] = {}  # columns that were read together share them
        marks: dict[int, array[int]] = {0: array("q")}
        vector, t0_us, vectors = self._vector, self._t0_us, range(self._vectors - self._columns, self._vectors)
        for index, signal, time, mark in zip(vectors, self._signal, self._time, self._invalid, strict=True):
            if signals is not None and signal not in signals:
                continue
            if time not in times:
                times[time] = vector(time, t0_us)
            if mark not in marks:
                marks[mark] = vector(mark - 1, 0)
            times_us, words = times[time], vector(index, 0)
            if len(times_us) != len(words):
                raise BlockError("damaged: times and words differ in number")
            yield BlockColumn(signal, times_us, words, marks[mark])

    def _table(self, items: int) -> "array[int]":
        smallest, width = TABLE.unpack_from(self._directory, self._position)
        start = self._position + TABLE.size
        self._position = start + items * width
        if width > 8 or self._position > len(self._directory):  # noqa: PLR2004 - 64-bit words have 8 bytes
            raise BlockError("damaged: a table reaches past the directory")
        if width == 0:
            return array("q", [smallest]) * items
        planes = self._directory[start : self._position]
        above = planes if width == 1 else _from_planes(planes, items, width)
        return array("q", [smallest + more for more in above])

    def _vector(self, index: int, shift: int) -> "array[int]":
        n, first = self._n[index], self._first[index] + shift
        width, base = self._width[index], self._base[index]
        if width == 0:
            return _wrapped(range(first, first + base * n, base)) if base else _wrapped((first,)) * n
        planes = self._planes(index, (n - 1) * width)
        steps = planes if width == 1 else _from_planes(planes, n - 1, width)
        moves = map(base.__add__, steps) if base else steps
        return _wrapped(accumulate(moves, initial=first))

    def _planes(self, index: int, size: int) -> bytes:
        start, end = self._offsets[index], self._offsets[index + 1]
        planes = _inflate(self._data[start:end]) if self._split else self._body[start:end]
        if len(planes) != size:
            raise BlockError("damaged: a vector has the wrong size")
        return planes


def _inflate(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    result = inflater.decompress(data, MAX_STREAM_BYTES)
    if not inflater.eof or inflater.unused_data:
        raise BlockError("damaged: a stream is cut, too large or followed by more")
    return result


def _from_planes(planes: bytes, items: int, width: int) -> "array[int]":
    """Unsigned integers from their byte planes, lowest first. ``width`` is 2 or more: one plane is the integers."""
    size = 2 if width == 2 else 4 if width <= 4 else 8  # noqa: PLR2004 - sizes in bytes
    result = array(_TYPECODES[size])
    raw = bytearray(items * size)
    for plane in range(width):
        raw[plane::size] = planes[plane * items : (plane + 1) * items]
    result.frombytes(raw)
    if sys.byteorder == "big":
        result.byteswap()
    return result


def _wrapped(numbers: Iterable[int]) -> "array[int]":
    """An int64 array; numbers outside of int64 are taken modulo 2**64, which only extreme words need."""
    values = list(numbers)
    try:
        return array("q", values)
    except OverflowError:
        return array("q", (((value + (1 << 63)) & _MASK) - (1 << 63) for value in values))
