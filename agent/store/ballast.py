"""Space that is kept for a full disk: a file beside the database, given up so that what counts can still be stored.

Rules of this file:

1. It goes when a commit, or the opening of the store, failed and the disk has hardly any room; from then on telemetry
   waits in memory, and events, audit, commands, sessions and notes are committed in its place.
2. It is made again, and telemetry stored, when there is room for it twice: a disk at its edge does not swing.
"""

import errno
import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from agent.core.disk import sync

#: So much more than itself must be free before it is made.
_ROOM = 2


class Ballast:
    """The file at that path. ``size_bytes`` 0: there is none, ever. Used by the writer's thread only."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        self._size_bytes = size_bytes
        self.spent = False  #: it was given up, and the disk has no room yet to make it again

    @property
    def free_bytes(self) -> int:
        """What the disk has left for this user."""
        status = os.statvfs(self._path.parent)
        return status.f_bavail * status.f_frsize

    def make(self) -> bool:
        """Make it where there is room; whether it is there. Cheap when it is."""
        if not self._size_bytes:
            self.spent = False
            return True
        try:
            there = self._path.exists() and self._path.stat().st_size == self._size_bytes
            if not there and self.free_bytes >= _ROOM * self._size_bytes:
                self._allocate()
                there = True
        except OSError:
            there = False
        if there:
            self.spent = False
        return there

    def give_up(self, error: BaseException | None) -> bool:
        """After something failed with that error: make room, if a full disk is why; whether that was done."""
        if self.spent or not _may_be_want_of_room(error):
            return False
        try:
            if not self._path.exists() or self.free_bytes >= self._size_bytes:
                return False
            self._path.unlink()
            self.spent = True
            sync(self._path.parent)
        except OSError:
            pass  # the disk does even less than we thought; the next try of a commit tells
        return self.spent

    def _allocate(self) -> None:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self._size_bytes)
        except OSError:
            with suppress(OSError):
                self._path.unlink()
            raise
        finally:
            os.close(descriptor)


def _may_be_want_of_room(error: BaseException | None) -> bool:
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        return code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
    return isinstance(error, OSError) and error.errno == errno.ENOSPC
