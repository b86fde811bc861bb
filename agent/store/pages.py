"""Reading rows out of a damaged SQLite file page by page, without SQLite: each page counts for itself.

The format is https://www.sqlite.org/fileformat.html (sections in brackets). Rules of this file:

1. The file and its log are only read. A page is the newest one that a commit in the log left, if that frame's checksum
   is right, else the file's. A damaged frame costs that frame, not all those behind it.
2. Which table a page belongs to is told twice: by the tree from the table's root, and by the pointer map (1.8) that
   files with auto_vacuum have. A page that only one of them still knows is found.
3. Where the roots are is told by ``sqlite_master``; where that can't be read, by a new file: with auto_vacuum roots
   stand at the front in the order in which the tables were made, whatever else is in the file.
4. What can't be read is counted and left out: a page, or one row of it. Whoever takes rows checks what they mean.
"""

import os
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from agent.store import schema
from agent.store.wal import Log, read_log

Value = int | float | str | bytes | None
Row = tuple[Value, ...]

_TABLE_INTERIOR, _TABLE_LEAF, _INDEX_INTERIOR, _INDEX_LEAF = 0x05, 0x0D, 0x02, 0x0A
#: Pointer map entries of pages in trees: a root, and one below another (1.8).
_ROOT, _BELOW = 1, 5
_DEFAULT_PAGE_BYTES = 4096
_DEEPEST = 24
_WIDTHS = (0, 1, 2, 3, 4, 6, 8)
_PENDING_BYTE = 1 << 30


class Unreadable(ValueError):  # noqa: N818 - it says what the page is
    """A page or a row that can't be what it was."""


class Pages:
    """The pages of one file. ``unreadable`` counts the pages and rows that were met and could not be read."""

    def __init__(self, path: Path) -> None:
        self.unreadable = 0
        self._log: Log = read_log(path.with_name(path.name + "-wal"))
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC) if path.exists() else -1
        header = os.pread(self._file, 100, 0) if self._file >= 0 else b""
        self.page_bytes = self._page_bytes(header)
        size = os.fstat(self._file).st_size if self._file >= 0 else 0
        self.count = max(size // self.page_bytes, max(self._log.pages, default=0))
        first = self.page(1)
        self.version = struct.unpack_from(">I", first, 60)[0]
        if not 1 <= self.version <= 2 * len(schema.STEPS):
            self.version = len(schema.STEPS)
        self._owners = self._read_owners()
        self._roots = self._read_roots()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        for handle in (self._file, self._log.file):
            if handle >= 0:
                os.close(handle)

    def page(self, number: int) -> bytes:
        """A page; zeros where there is none."""
        offset = self._log.pages.get(number)
        if offset is not None:
            data = os.pread(self._log.file, self.page_bytes, offset)
        else:
            data = os.pread(self._file, self.page_bytes, (number - 1) * self.page_bytes) if self._file >= 0 else b""
        return data.ljust(self.page_bytes, b"\0")

    def rows(self, table: str) -> Iterator[Row]:
        """The rows of a table in the order of its pages. Where column 0 is the row's number, it stands there."""
        for number in self.pages_of(table):
            yield from self.rows_on(number)

    def places(self, table: str) -> list[tuple[int, int, int]]:
        """Of each row of a table with numbers: number, page, and where it stands there; in the order of the numbers."""
        found: list[tuple[int, int, int]] = []
        for number in self.pages_of(table):
            data = self.page(number)
            if data[0] != _TABLE_LEAF:
                self.unreadable += data[0] != _TABLE_INTERIOR
                continue
            for at in _cells(data, 0, 8):
                try:
                    found.append((_varint(data, _varint(data, at)[1])[0], number, at))
                except IndexError:
                    self.unreadable += 1
        return sorted(found)

    def size_at(self, number: int, at: int) -> int:
        """How many bytes the row that stands there says that it has."""
        try:
            return _varint(self.page(number), at)[0]
        except IndexError:
            return 0

    def row_at(self, number: int, at: int) -> Row | None:
        """The row that stands there; None, and counted, when it can't be read."""
        try:
            return self._row(self.page(number), at, in_table=True)
        except (Unreadable, IndexError, struct.error, UnicodeDecodeError):
            self.unreadable += 1
            return None

    def pages_of(self, table: str) -> list[int]:
        """The pages that hold a table's rows, as far as they are known; empty where the table is not."""
        root = self._roots.get(table)
        if root is None:
            return []
        found = set(np.flatnonzero(self._owners == root).tolist()) if len(self._owners) else set()
        self._walk(root, found)
        return sorted(found)

    def rows_on(self, number: int) -> Iterator[Row]:
        """The rows on one page."""
        data = self.page(number)
        head = 100 if number == 1 else 0
        kind = data[head]
        if kind == _TABLE_INTERIOR:
            return
        if kind not in (_TABLE_LEAF, _INDEX_LEAF, _INDEX_INTERIOR):
            self.unreadable += 1
            return
        for at in _cells(data, head, 12 if kind == _INDEX_INTERIOR else 8):
            try:
                yield self._row(data, at + (4 if kind == _INDEX_INTERIOR else 0), in_table=kind == _TABLE_LEAF)
            except (Unreadable, IndexError, struct.error, UnicodeDecodeError):
                self.unreadable += 1

    def _page_bytes(self, header: bytes) -> int:
        if len(header) == 100 and header.startswith(b"SQLite"):  # noqa: PLR2004 - the header's length
            size: int = struct.unpack_from(">H", header, 16)[0]
            size = 65536 if size == 1 else size
            if size >= 512 and size & (size - 1) == 0:  # noqa: PLR2004 - (1.3.2)
                return size
        return self._log.page_bytes or _DEFAULT_PAGE_BYTES

    def _read_owners(self) -> NDArray[np.int64]:
        """The root of each page, by its number, as the pointer map has it; 0 where it has none."""
        kinds = np.zeros(self.count + 1, np.uint8)
        above = np.zeros(self.count + 1, np.int64)
        each = self.page_bytes // 5
        entry = np.dtype([("kind", "u1"), ("above", ">u4")])
        for place in range(2, self.count + 1, each + 1):
            at = place + 1 if place == _PENDING_BYTE // self.page_bytes + 1 else place
            stop = min(at + 1 + each, self.count + 1)
            found = np.frombuffer(self.page(at), entry, each)[: max(stop - at - 1, 0)]
            kinds[at + 1 : stop] = found["kind"]
            above[at + 1 : stop] = found["above"]
        above[(above < 0) | (above > self.count)] = 0
        owners = np.where(kinds == _BELOW, above, np.arange(self.count + 1))
        for _ in range(_DEEPEST):
            owners = np.where(kinds[owners] == _BELOW, above[owners], owners)
        return np.where((kinds == _BELOW) | (kinds == _ROOT), owners, 0)

    def _read_roots(self) -> dict[str, int]:
        roots = _usual_roots(min(self.version, len(schema.STEPS)), self.page_bytes)
        expected = schema.expected(min(self.version, len(schema.STEPS)))
        seen: set[int] = set()
        self._walk(1, seen)
        for number in sorted(seen):
            for row in self.rows_on(number):
                name, root, sql = (row[1], row[3], row[4]) if len(row) == 5 else (None, None, None)  # noqa: PLR2004 - its columns
                if isinstance(name, str) and isinstance(root, int) and isinstance(sql, str):
                    known = expected.get(name)
                    if known is not None and known == sql.encode() and 1 < root <= self.count:
                        roots[name] = root
        return roots

    def _walk(self, root: int, seen: set[int]) -> None:
        """Add the pages of a tree. What the pointer map gives to another tree is not its, whatever a page says."""
        todo = [root]
        met: set[int] = set()
        while todo:
            number = todo.pop()
            if not 0 < number <= self.count or number in met:
                continue
            met.add(number)
            if int(self._owners[number]) not in (0, root):
                continue
            seen.add(number)
            data = self.page(number)
            head = 100 if number == 1 else 0
            if data[head] in (_TABLE_INTERIOR, _INDEX_INTERIOR):
                places = [head + 8, *(at for at in _cells(data, head, 12) if at + 4 <= len(data))]
                todo += [struct.unpack_from(">I", data, at)[0] for at in places]

    def _row(self, data: bytes, at: int, *, in_table: bool) -> Row:
        size, at = _varint(data, at)
        number = 0
        if in_table:
            number, at = _varint(data, at)
        record = self._payload(data, at, size, in_table=in_table)
        values = _record(record)
        # A table's own number stands in the cell, and NULL in its column.
        return (number, *values[1:]) if in_table and values and values[0] is None else tuple(values)

    def _payload(self, data: bytes, at: int, size: int, *, in_table: bool) -> bytes:
        usable = self.page_bytes
        most = usable - 35 if in_table else (usable - 12) * 64 // 255 - 23
        if not 0 < size <= self.count * usable:
            raise Unreadable("its length")
        if size <= most:
            return _slice(data, at, size)
        least = (usable - 12) * 32 // 255 - 23
        local = least + (size - least) % (usable - 4)
        local = local if local <= most else least
        parts, left = [_slice(data, at, local)], size - local
        (follow,) = struct.unpack_from(">I", data, at + local)
        while left > 0:
            if not 0 < follow <= self.count:
                raise Unreadable("its chain of pages ends early")
            page = self.page(follow)
            parts.append(page[4 : 4 + min(left, usable - 4)])
            left -= usable - 4
            (follow,) = struct.unpack_from(">I", page)
        return b"".join(parts)


def _usual_roots(version: int, page_bytes: int) -> dict[str, int]:
    """Where the roots of the tables are in a file of that version, as this program makes them."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size = {page_bytes}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        schema.migrate(connection, schema.STEPS[:version])
        return dict(connection.execute("SELECT name, rootpage FROM sqlite_master WHERE sql IS NOT NULL"))


def _cells(data: bytes, head: int, head_bytes: int) -> Sequence[int]:
    """Where the cells of a page stand (1.6)."""
    (count,) = struct.unpack_from(">H", data, head + 3)
    first = head + head_bytes
    count = min(count, (len(data) - first) // 2)
    return [at for at in struct.unpack_from(f">{count}H", data, first) if first <= at < len(data)]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of 1 to 9 bytes, and where it ends (1.6)."""
    value = 0
    for place in range(8):
        byte = data[at + place]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:  # noqa: PLR2004 - the last one
            return value, at + place + 1
    value = value << 8 | data[at + 8]
    return value - (1 << 64) if value >= 1 << 63 else value, at + 9


def _slice(data: bytes, at: int, size: int) -> bytes:
    if size < 0 or at + size > len(data):
        raise Unreadable("it is longer than its page")
    return data[at : at + size]


def _record(record: bytes) -> list[Value]:
    """The values of a row (2.1)."""
    head_bytes, at = _varint(record, 0)
    if not 0 < head_bytes <= len(record):
        raise Unreadable("its header")
    kinds: list[int] = []
    while at < head_bytes:
        kind, at = _varint(record, at)
        kinds.append(kind)
    values: list[Value] = []
    at = head_bytes
    for kind in kinds:
        size = _WIDTHS[kind] if 0 <= kind < 7 else 8 if kind == 7 else max(kind - 12, 0) // 2  # noqa: PLR2004 - (2.1)
        values.append(_value(kind, _slice(record, at, size)))
        at += size
    if at != len(record):
        raise Unreadable("its length does not fit its columns")
    return values


def _value(kind: int, data: bytes) -> Value:
    if kind >= 12:  # noqa: PLR2004 - bytes, and text by odd numbers
        return data.decode() if kind % 2 else data
    if kind == 0:
        return None
    if kind <= 6:  # noqa: PLR2004 - whole numbers
        return int.from_bytes(data, "big", signed=True)
    if kind == 7:  # noqa: PLR2004 - a float
        (number,) = struct.unpack(">d", data)
        return float(number)
    if kind in (8, 9):
        return kind - 8
    raise Unreadable("its types")
