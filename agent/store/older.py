"""A copy of the store from before it was brought up to date: for an upgrade that did harm.

Rules of this file:

1. The copy bears the name ``<name>.upgrading-<version>`` until the last step of the upgrade is done, then
   ``<name>.before-<version>``. So an upgrade that was cut keeps the copy of its beginning, not one of its middle.
2. A copy is whole and on the disk before it gets a name; a draft that a power cut leaves goes at the next upgrade.
3. One copy stands at most. It goes when the next upgrade is done, or ``KEEP_DAYS`` after its own. The modification time
   says when that was; 0: the clock was not set, it counts from when it is.
4. A copy takes the place of a newer file only where the newer program recorded nothing: each start of a store is a row
   of ``boot``. Then the file has nothing that the copy has not. (Else its numbers would be given twice.)
5. An upgrade never waits for want of room, nor for minutes: without room for two copies, and above ``MAX_BYTES``, there
   is none.
"""

import fcntl
import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from agent.core.clock import Clock
from agent.core.disk import give_to_owner, sync
from agent.core.errors import StoreError
from agent.store import schema

_log = logging.getLogger(__name__)

KEEP_DAYS = 14
#: An SD card copies so much in a minute or two, and the site waits for it.
MAX_BYTES = 2 << 30
_KEEP_US = KEEP_DAYS * 86_400_000_000
#: So often its own size must be free: the upgrade itself takes room too.
_ROOM = 2
_DRAFT, _UPGRADING, _BEFORE = "copying", "upgrading", "before"


def keep(path: Path, connection: sqlite3.Connection, version: int) -> None:
    """Copy the store of that version before its upgrade, where that can be done. Never raises for want of a copy."""
    # What a cut upgrade began with is the copy to keep, if this is its middle.
    if any(_version(one) < version for one in _copies(path, _UPGRADING)):
        return
    draft = _named(path, _DRAFT, version)
    try:
        for one in (*_copies(path, _DRAFT), *_copies(path, _UPGRADING)):
            one.unlink()
        if not _has_room(path, connection):
            _log.info("no copy of %s is kept before its upgrade: it is too large, or there is no room", path)
            return
        _copy(connection, draft)
        draft.replace(_named(path, _UPGRADING, version))
        sync(path.parent)
    except (OSError, sqlite3.Error) as error:
        _log.info("no copy of %s is kept before its upgrade: %s", path, error)
        _discard(draft)


def upgraded(path: Path, clock: Clock) -> None:
    """The store is of the newest version: its copy takes the place of an earlier one. Never raises for its sake."""
    try:
        for copy in _copies(path, _UPGRADING):
            kept = _named(path, _BEFORE, _version(copy))
            _stamp(copy, clock)
            copy.replace(kept)
            for one in _copies(path, _BEFORE):
                if one != kept:
                    one.unlink()
            sync(path.parent)
    except OSError as error:
        _log.info("the copy of %s of before its upgrade stays as it is until the next start: %s", path, error)


def expire(path: Path, clock: Clock) -> None:
    """Delete the copy when it is old. Call it when the clock is believed; never raises for its sake."""
    try:
        for one in _copies(path, _BEFORE):
            since_us = one.stat().st_mtime_ns // 1000
            if not since_us:
                _stamp(one, clock)
            elif clock.now_us() - since_us >= _KEEP_US:
                one.unlink()
    except OSError as error:
        _log.info("can't delete the copy of %s of before its upgrade: %s", path, error)


def schema_of(path: Path) -> int:
    """The schema of a store, which may be running; 0 where there is none, or it can't be told."""
    if not path.is_file():
        return 0
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return schema.version(connection)
    except sqlite3.Error:
        return 0


def put_back(path: Path) -> bool:
    """Before this program opens a newer program's file: whether the copy has taken its place (rule 4).

    Raises ``StoreError`` when a gateway runs on it, or it can't be looked at; then nothing has changed.
    """
    op = f"put {path} back"
    if schema_of(path) <= len(schema.STEPS):
        return False
    version = len(schema.STEPS)
    copies = [one for kind in (_UPGRADING, _BEFORE) if (one := _named(path, kind, version)).is_file()]
    try:
        lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            give_to_owner(lock, path.parent)
            if not copies or not _is_same(copies[0], path):
                return False
            copies[0].replace(path)
            sync(path.parent)
        finally:
            os.close(lock)
    except BlockingIOError as error:
        raise StoreError(op, "a gateway runs on it", "stop it first") from error
    except (OSError, sqlite3.Error) as error:
        raise StoreError(op, str(error)) from error
    return True


def _is_same(copy: Path, path: Path) -> bool:
    """Whether no store was opened on that file since the copy was made of it; its log is in the file then."""
    with closing(sqlite3.connect(path, isolation_level=None)) as newer:
        if _newest_boot(newer) != _newest_boot_of(copy):
            return False
        # A log that stayed would be taken for the copy's.
        newer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    log = path.with_name(f"{path.name}-wal")
    return not log.exists() or not log.stat().st_size


def _newest_boot_of(path: Path) -> tuple[object, ...]:
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        return _newest_boot(connection)


def _newest_boot(connection: sqlite3.Connection) -> tuple[object, ...]:
    found: tuple[object, ...] = connection.execute("SELECT id, boot FROM boot ORDER BY id DESC LIMIT 1").fetchone()
    return found


def copy_bytes(path: Path) -> int:
    """What the copies take, whole or half."""
    found = 0
    for one in (one for kind in (_DRAFT, _UPGRADING, _BEFORE) for one in _copies(path, kind)):
        try:
            found += one.stat().st_size
        except FileNotFoundError:
            continue  # it has just gone
    return found


def _has_room(path: Path, connection: sqlite3.Connection) -> bool:
    pages, page_bytes = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    size: int = pages * page_bytes
    status = os.statvfs(path.parent)
    return size <= MAX_BYTES and status.f_bavail * status.f_frsize >= _ROOM * size


def _copy(connection: sqlite3.Connection, draft: Path) -> None:
    """The store as this connection sees it, its log included, as one file on the disk."""
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        give_to_owner(descriptor, draft.parent)
        with closing(sqlite3.connect(draft, isolation_level=None)) as copy:
            # Nobody relies on it before it is synced and named.
            copy.execute("PRAGMA synchronous = OFF")
            copy.execute("PRAGMA journal_mode = OFF")
            connection.backup(copy)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _stamp(path: Path, clock: Clock) -> None:
    now_ns = clock.now_us() * 1000 if clock.trusted() else 0
    os.utime(path, ns=(now_ns, now_ns))


def _copies(path: Path, kind: str) -> Iterator[Path]:
    return (one for one in sorted(path.parent.glob(f"{path.name}.{kind}-*")) if one.suffix[len(kind) + 2 :].isdecimal())


def _version(copy: Path) -> int:
    return int(copy.name.rpartition("-")[2])


def _named(path: Path, kind: str, version: int) -> Path:
    return path.with_name(f"{path.name}.{kind}-{version}")


def _discard(draft: Path) -> None:
    try:
        draft.unlink(missing_ok=True)
    except OSError as error:
        _log.info("can't delete %s: %s", draft, error)
