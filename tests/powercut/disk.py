"""What may be on the disk after a power cut: a model of a file system, with what it was told to sync and what not yet.

What is assumed of the file system, and what is not:

1. After ``fsync`` or ``fdatasync`` of a file its contents and its length are on the disk. Its name is not: that takes
   ``fsync`` of the folder. (ext4 writes the name along with the file; here it does not.)
2. Changes of names (create, rename, link, unlink, mkdir) reach the disk in their order, each wholly or not at all, as
   the journals of ext4, XFS, Btrfs and F2FS have it; after ``fsync`` of the folder they are there.
3. Of what was written and not synced there may be nothing, everything, any part of the writes in any order, or a part
   of one write: sectors of 512 bytes, or pages of 4 KiB, are whole. Lengths are as the writes that arrived made them.
4. Bytes near a write don't change by it ("powersafe overwrite", as SQLite assumes by default).

Not modelled: a device that says "synced" and lies, or that damages what it had stored. Against these nothing helps that
a program does; the second is what the trials of damage are about.
"""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from tests.powercut.record import Op

#: How much of what was not synced is on the disk.
HOW = ("nothing", "everything", "subset", "torn 512", "torn 4096")


@dataclass(slots=True)
class _File:
    """A file or folder. ``pending``: writes (offset, bytes) and lengths (length, None) since its last sync."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    folder: bool = False

    def sync(self) -> None:
        for change in self.pending:
            _apply(self.durable, change)
        self.pending.clear()


#: A change of names in a folder: what these names stand for from then on.
_Names = tuple[str, Mapping[str, _File | None]]


class Disk:
    """Follows a log of what happened in ``top``. ``before``: a copy of it as it stood, durably, when the log began."""

    def __init__(self, top: Path, before: Path) -> None:
        self._names: dict[str, _File] = {str(top): _File(folder=True)}
        for path in before.rglob("*"):
            content = _File(folder=True) if path.is_dir() else _File(bytearray(path.read_bytes()))
            self._names[str(top / path.relative_to(before))] = content
        self._durable_names: dict[str, _File] = dict(self._names)
        self._pending_names: list[_Names] = []
        self._open: dict[int, _File] = {}
        self._top = top

    def follow(self, op: Op) -> None:
        """One more operation was done."""
        if op.what == "O":
            self._opened(op)
        elif op.what == "C":
            self._open.pop(op.fd)
        elif op.what == "W":
            self._open[op.fd].pending.append((op.a, op.data))
        elif op.what == "T":
            self._open[op.fd].pending.append((op.a, None))
        elif op.what == "A":
            file = self._open[op.fd]
            if op.a > _length(file):
                file.pending.append((op.a, None))
        elif op.what == "S":
            self._sync(self._open[op.fd])
        elif op.what in "RLUD":
            self._renamed(op)

    def image(self, how: str, rng: random.Random) -> dict[str, bytes | None]:
        """What a power cut now may leave: contents by path relative to the top; None: a folder."""
        names = dict(self._durable_names)
        kept = {"nothing": 0, "everything": len(self._pending_names)}.get(how, rng.randint(0, len(self._pending_names)))
        for _, changes in self._pending_names[:kept]:
            _rename(names, changes)
        found: dict[str, bytes | None] = {}
        for path, file in names.items():
            above = str(PurePath(path).parent)
            if path != str(self._top) and above in names:  # else its folder is not there
                found[str(PurePath(path).relative_to(self._top))] = None if file.folder else _content(file, how, rng)
        return found

    def _opened(self, op: Op) -> None:
        path = op.data.decode()
        file = self._names.get(path)
        if file is None:
            file = _File()
            self._change(path, {path: file})
        elif op.a & 0o1000 and not file.folder:  # O_TRUNC of Linux
            file.pending.append((0, None))
        self._open[op.fd] = file

    def _renamed(self, op: Op) -> None:
        one, *rest = op.paths
        file = self._names.get(one)
        if op.what == "D":
            self._change(one, {one: _File(folder=True)})
        elif op.what == "U":
            self._change(one, {one: None})
        elif op.what == "L":
            self._change(rest[0], {rest[0]: file})
        else:
            # Two folders would be two journal entries here; nothing in the house renames across folders.
            assert PurePath(one).parent == PurePath(rest[0]).parent
            self._change(one, {one: None, rest[0]: file})

    def _change(self, path: str, changes: Mapping[str, _File | None]) -> None:
        self._pending_names.append((str(PurePath(path).parent), changes))
        _rename(self._names, changes)

    def _sync(self, file: _File) -> None:
        file.sync()
        if not file.folder:
            return
        left: list[_Names] = []
        for parent, changes in self._pending_names:
            if self._names.get(parent) is file:
                _rename(self._durable_names, changes)
            else:
                left.append((parent, changes))
        self._pending_names = left


def lay_out(image: Mapping[str, bytes | None], folder: Path) -> None:
    """Write an image into an empty folder."""
    for path in sorted(image):
        content = image[path]
        target = folder / path
        if content is None:
            target.mkdir()
        else:
            target.write_bytes(content)


def positions(ops: Iterable[Op]) -> list[int]:
    """Behind how many operations a cut makes a difference."""
    return [number for number, op in enumerate(ops, 1) if op.what != "C"]


def _rename(names: dict[str, _File], changes: Mapping[str, _File | None]) -> None:
    for path, file in changes.items():
        if file is None:
            names.pop(path, None)
        else:
            names[path] = file


def _content(file: _File, how: str, rng: random.Random) -> bytes:
    content = bytearray(file.durable)
    if how == "nothing":
        return bytes(content)
    share = rng.random()
    for offset, data in file.pending:
        if how == "everything":
            _apply(content, (offset, data))
        elif rng.random() < share:
            _apply(content, (offset, data)) if data is None or how == "subset" else _tear(
                content, offset, data, int(how.split()[1]), rng
            )
    return bytes(content)


def _tear(content: bytearray, offset: int, data: bytes, sector: int, rng: random.Random) -> None:
    """Some of a write's sectors; mostly all of them, for else no write would ever be whole."""
    if rng.random() < 0.5:
        _apply(content, (offset, data))
        return
    at = 0
    while at < len(data):
        size = min(sector - (offset + at) % sector, len(data) - at)
        if rng.random() < 0.5:
            _apply(content, (offset + at, data[at : at + size]))
        at += size


def _apply(content: bytearray, change: tuple[int, bytes | None]) -> None:
    offset, data = change
    if data is None:
        del content[offset:]
        content.extend(bytes(offset - len(content)))
        return
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _length(file: _File) -> int:
    length = len(file.durable)
    for offset, data in file.pending:
        length = offset if data is None else max(length, offset + len(data))
    return length
