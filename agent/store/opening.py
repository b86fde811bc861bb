"""Opening the file: one process at a time, checked, and moved aside (never deleted) when it can't be used.

The check uses read-only connections, so that it changes nothing of a file that will be moved aside.
"""

import errno
import fcntl
import os
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

from agent.core.clock import Clock
from agent.core.errors import StoreError
from agent.store import older, schema
from agent.store.evidence import RECOVERABLE, interrupted, make_folder, move_aside
from agent.store.settings import Opened, StoreSettings
from agent.store.wal import find_log_fault

_MAGIC = b"SQLite format 3\x00"
#: Places in the file's header, https://www.sqlite.org/fileformat.html section 1.3.
_USER_VERSION = struct.Struct(">60xI")
_APPLICATION_ID = struct.Struct(">68xI")
_HEADER_BYTES = 100
_BUSY_MS = 10_000
_FULL = 2
#: How many steps of SQLite's machine pass between two looks at the clock.
_CHECK_STEPS = 20_000


def connect(path: Path, *, read_only: bool = False, cache_kib: int = 4000) -> sqlite3.Connection:
    """A connection with every pragma of the house set, and the ones that matter read back. Raises ``sqlite3.Error``."""
    mode = "ro" if read_only else "rwc"
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        # synchronous belongs to the connection and is not stored: NORMAL in WAL mode loses commits in a power cut.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA cache_size = {-cache_kib}")
        connection.execute("PRAGMA temp_store = MEMORY")
        if read_only:
            connection.execute("PRAGMA query_only = 1")
        # One damaged letter must not hide the rows around it.
        connection.text_factory = lambda data: data.decode(errors="replace")
        if connection.execute("PRAGMA synchronous").fetchone()[0] != _FULL:
            raise sqlite3.OperationalError("synchronous = FULL was not accepted")
    except (sqlite3.Error, UnicodeDecodeError):
        connection.close()
        raise
    return connection


def open_file(path: Path, clock: Clock, settings: StoreSettings) -> tuple[sqlite3.Connection, Opened, int]:
    """The writer's connection to a store that can be used, how it was found, and the descriptor of its lock.

    Raises ``StoreError`` when the place can't be written or another process has the store.
    """
    op = f"open {path}"
    try:
        make_folder(path.parent)
        lock = lock_store(path)
    except BlockingIOError as error:
        raise StoreError(op, "another process has it open", "stop the other enlace first") from error
    except OSError as error:
        raise _not_writable(op, error) from error
    try:
        evidence = interrupted(path)
        fault = find_fault(path, clock, settings.check_s)
        if fault is None and evidence is None and _was_emptied(path):
            fault = "corrupt", "nothing is left in it"
        opened = put_aside(path, fault, clock) if fault else Opened(path, evidence=evidence)
        connection = create_or_open(path, settings, keep_copy=True)
        older.upgraded(path, clock)
    except OSError as error:
        os.close(lock)
        raise _not_writable(op, error) from error
    except sqlite3.Error as error:
        os.close(lock)
        raise StoreError(op, str(error), f"can {path.parent} be written, and has it room?") from error
    return connection, opened, lock


def put_aside(path: Path, fault: tuple[str, str], clock: Clock) -> Opened:
    """Move a file with that fault aside. Raises ``OSError``."""
    kind, reason = fault
    moved_to = move_aside(path, kind, clock)
    return Opened(path, moved_to, reason, moved_to if kind in RECOVERABLE else None)


def find_fault(path: Path, clock: Clock, check_s: float) -> tuple[str, str] | None:
    """Why this file can't be used: (``corrupt`` | ``foreign`` | ``newer``, what was seen); None when it can.

    Raises ``OSError`` or ``sqlite3.Error`` when it can't even be looked at; then nothing is known about it.
    """
    wal = path.with_name(path.name + "-wal")
    if not path.exists() or path.stat().st_size == 0:
        return ("corrupt", "its -wal stands without it") if wal.exists() and wal.stat().st_size else None
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    fault = _header_fault(header)
    if fault:
        return fault
    if log_fault := find_log_fault(wal):
        return "corrupt", log_fault
    # A power cut at the very first start leaves a journal, and only who may write can roll that back.
    journal = path.with_name(path.name + "-journal").exists()
    try:
        with closing(connect(path, read_only=not journal)) as connection:
            return _content_fault(connection, clock, check_s)
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            return "corrupt", str(error)
        raise
    except UnicodeDecodeError as error:  # an error's text may quote a damaged name
        return "corrupt", str(error)


def _was_emptied(path: Path) -> bool:
    """Whether a store that was used has lost all of its bytes.

    A power cut at the first start leaves none either, but no ballast: that is made after the first commit.
    """
    return path.exists() and path.stat().st_size == 0 and path.with_name(f"{path.name}.ballast").exists()


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether SQLite says that the file itself is bad, not that it could not get at it."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _header_fault(header: bytes) -> tuple[str, str] | None:
    if len(header) < _HEADER_BYTES:
        return "corrupt", f"{len(header)} bytes are no database"
    if not header.startswith(_MAGIC):
        if _APPLICATION_ID.unpack_from(header)[0] == schema.APPLICATION_ID:
            return "corrupt", "its first bytes are damaged"
        return "foreign", "not an SQLite database"
    return _identity_fault(_APPLICATION_ID.unpack_from(header)[0], _USER_VERSION.unpack_from(header)[0])


def _identity_fault(application_id: int, user_version: int) -> tuple[str, str] | None:
    if application_id not in (0, schema.APPLICATION_ID):
        return "foreign", f"application id {application_id:#x} is not ours"
    if application_id and user_version > len(schema.STEPS):
        return "newer", f"schema version {user_version}, this program knows {len(schema.STEPS)}"
    return None


def _content_fault(connection: sqlite3.Connection, clock: Clock, check_s: float) -> tuple[str, str] | None:
    found = schema.statements(connection)
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    user_version = schema.version(connection)
    if not found and not application_id:
        return None  # power went between the creation of the file and its first step
    if not application_id:
        return "foreign", "an SQLite database of somebody else"
    fault = _identity_fault(application_id, user_version)
    if fault:
        return fault
    # A bit in the name of a column makes each statement fail that uses it, which SQLite's check does not see.
    missing = [name for name, text in schema.expected(user_version).items() if found.get(name) != text]
    if missing:
        return "corrupt", f"tables or indices are missing or damaged: {', '.join(sorted(missing))}"
    return _quick_check(connection, clock, check_s)


def _quick_check(connection: sqlite3.Connection, clock: Clock, check_s: float) -> tuple[str, str] | None:
    """SQLite's own check of the structure, as far as it comes in the time given."""
    until_s = clock.monotonic_s() + check_s
    connection.set_progress_handler(lambda: clock.monotonic_s() > until_s, _CHECK_STEPS)
    try:
        found: str = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        return None
    finally:
        connection.set_progress_handler(None, 0)
    return None if found == "ok" else ("corrupt", " ".join(found.split()))


def create_or_open(path: Path, settings: StoreSettings, *, keep_copy: bool = False) -> sqlite3.Connection:
    """The writer's connection, with the newest schema; a copy of an older one may be kept. Raises ``sqlite3.Error``."""
    connection = connect(path)
    try:
        # These two count for a new file only, and only before its first write.
        connection.execute(f"PRAGMA page_size = {settings.page_bytes}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise sqlite3.OperationalError(f"the file system gives journal mode {mode}, not WAL")
        page_bytes: int = connection.execute("PRAGMA page_size").fetchone()[0]
        connection.execute(f"PRAGMA wal_autocheckpoint = {settings.wal_pages}")
        # Above the size that it reaches anyway: a log that keeps its length is overwritten in place, which spares the
        # file system's own journal.
        connection.execute(f"PRAGMA journal_size_limit = {4 * settings.wal_pages * page_bytes}")
        if keep_copy and 0 < (found := schema.version(connection)) < len(schema.STEPS):
            older.keep(path, connection, found)
        schema.migrate(connection)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def lock_store(path: Path) -> int:
    """Hold ``<name>.lock`` as long as the process lives; whoever dies lets go of it. Raises ``OSError``."""
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _not_writable(op: str, error: OSError) -> StoreError:
    hint = "free some space" if error.errno == errno.ENOSPC else "choose a data_dir that this user may write"
    return StoreError(op, error.strerror or str(error), hint)
