"""Copies of a store that may be running, and what a copy needs before a site goes on with it.

Rules of this file:

1. A copy is one moment of the store, read in small steps: the writer waits for one short commit, no more.
2. That commit says that all that is in the copy may have left the house (``Outbox.hold``), in the store and in the
   copy: both keep its numbers and bytes, so that one key never has two contents at the central server.
   Where there is no uplink it is a mark (``COPIED``), which the cursor of a later one begins with.
3. A copy that goes on begins its numbers above every number that the site can have given since: of streams by the
   seconds that have passed, faster than any store gives them; of signals, which must stay small because they are
   indexes, by ``SPARE_SIGNALS`` and one a minute. The store that stood there tells exactly, where it can be read.
4. What was never given is a gap in the numbers, not in the chain: ``store.restored`` is hashed behind the newest event.
"""

import sqlite3
import uuid
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.core.clock import Clock
from agent.core.errors import StoreError
from agent.core.model import Event
from agent.store import catalogue, ledger, outbox, telemetry
from agent.store.opening import connect, create_or_open, find_fault
from agent.store.schema import (
    COPIED,
    NUMBERS_GIVEN,
    SESSION_NUMBER,
    SIGNALS_GIVEN,
    STEPS,
    get_mark,
    set_mark,
    version,
)
from agent.store.settings import StoreSettings
from agent.store.transaction import transaction

#: Pages of one step: the disk and the processor are given back in between.
_STEP_PAGES = 256
#: How long the store's own check may take. A gigabyte takes some seconds on a PC, a minute on an SD card.
_CHECK_S = 3600.0
SPARE_SIGNALS = 8192
_MAX_SPARE_SIGNALS = 1 << 20
_NUMBERS_PER_S = 1024
#: Half of the numbers of 31 bits are left in any case (``sessions.py``).
_HIGHEST_SESSION = 1 << 30
#: The catalogue's version has 32 bits in a block's envelope.
_VERSIONS_PER_S = 4
_HIGHEST_VERSION = 1 << 31
#: Notes that are secrets or say who somebody is: passwords, id tags, and what chargers were told of them.
_PERSONAL = "kind = 'id_tag' OR substr(kind, 1, 5) = 'ocpp.'"

#: Told after each step: bytes done, bytes in all.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Numbers:
    """The newest number that was given of each kind."""

    telemetry: int = 0
    event: int = 0
    session: int = 0
    signal: int = 0
    catalogue: int = 0

    @classmethod
    def of(cls, data: Mapping[str, object]) -> "Numbers":
        """As ``asdict`` wrote them. Raises ``ValueError``."""
        values = {name: data.get(name) for name in cls.__slots__}
        if not all(type(value) is int and 0 <= value < 1 << 62 for value in values.values()):
            raise ValueError("its numbers are none")
        return cls(**values)  # type: ignore[arg-type] # looked at above


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy is: its schema, its size in bytes, the newest numbers in it."""

    schema: int
    size: int
    numbers: Numbers


def copy_store(path: Path, target: Path, progress: Progress) -> Copied:
    """Copy the store at ``path``, which may be running, to the new file ``target``. Raises ``StoreError``."""
    op = f"copy {path}"
    if not path.is_file():
        raise StoreError(op, "no such file", "start the gateway once, or name the folder with --data-dir")
    try:
        with closing(connect(path, read_only=True)) as source:
            schema = version(source)
            if not schema or schema > len(STEPS):
                raise StoreError(op, f"its schema is {schema}, this program knows 1 to {len(STEPS)}", "use its program")
            _begin(path, source)
            page_bytes: int = source.execute("PRAGMA page_size").fetchone()[0]
            with closing(sqlite3.connect(target, isolation_level=None)) as copy:
                # It is one file that nobody relies on before it was checked and synced.
                copy.execute("PRAGMA synchronous = OFF")
                copy.execute("PRAGMA journal_mode = OFF")
                source.backup(
                    copy,
                    pages=_STEP_PAGES,
                    progress=lambda _, rest, pages: progress((pages - rest) * page_bytes, pages * page_bytes),
                )
            return Copied(schema, target.stat().st_size, _numbers(source, schema))
    except sqlite3.Error as error:
        raise StoreError(op, str(error), "can this user read and write it, and is there room for the copy?") from error


def check_store(path: Path, clock: Clock) -> None:
    """Look through a whole file that nobody has open. Raises ``StoreError`` when it is no store in order."""
    try:
        fault = find_fault(path, clock, _CHECK_S)
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"check {path}", str(error)) from error
    if fault is not None:
        raise StoreError(f"check {path}", fault[1], "see docs/backup.md for what to do with a damaged store")


def without_secrets(path: Path) -> None:
    """Take chargers' passwords, keys and everybody's id tags out of a copy, for good. Raises ``StoreError``."""
    try:
        with closing(connect(path)) as connection:
            number = version(connection)
            with transaction(connection):
                # What could not be read may be anything; without its bytes it is evidence of that still.
                connection.execute("UPDATE aside SET data = x''")
                if number > 1:
                    connection.execute(f"DELETE FROM note WHERE {_PERSONAL}")  # noqa: S608 - our own condition
                    # A session's key may hold the tag.
                    connection.execute("UPDATE session SET id_tag = '', key = 'left out ' || id")
            # What was deleted would stay on free pages.
            connection.execute("VACUUM")
            connection.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        raise StoreError(f"take the secrets out of {path}", str(error), "is there room for another copy?") from error


def numbers_of(path: Path) -> Numbers | None:
    """The newest numbers of a store that stands there; None where that can't be told."""
    if not path.is_file():
        return None
    try:
        with closing(connect(path, read_only=True)) as connection:
            schema = version(connection)
            return _numbers(connection, schema) if 0 < schema <= len(STEPS) else None
    except (sqlite3.Error, UnicodeDecodeError):
        return None


def go_on(path: Path, clock: Clock, made_us: int, there: Numbers | None, told: Mapping[str, object]) -> Numbers:
    """Make a copy of ``made_us`` one that its site may go on with; behind which numbers it does.

    Brings its schema up to date. ``there``: the numbers of the store that it takes the place of. ``told``: what the
    event ``store.restored`` says of the backup. Nobody else may have the file open. Raises ``StoreError``.
    """
    try:
        with closing(create_or_open(path, StoreSettings())) as connection:
            found = _numbers(connection, len(STEPS))
            above = _above(found, clock.now_us(), made_us, there or Numbers())
            with transaction(connection):
                _renew(connection, found, above, clock, told)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            return above
    except sqlite3.Error as error:
        raise StoreError(f"bring {path} up to date", str(error), "is there room?") from error


def _begin(path: Path, source: sqlite3.Connection) -> None:
    """Begin the moment that is copied, and keep rule 2. While this commits, nobody else does."""
    with closing(connect(path)) as writer:
        writer.execute("PRAGMA wal_autocheckpoint = 0")
        with transaction(writer):
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM boot").fetchone()
            _freeze(writer)


def _freeze(connection: sqlite3.Connection) -> None:
    newest_seq = telemetry.newest_seq(connection)
    connection.execute("UPDATE cursor SET sent = max(sent, ?) WHERE stream = 'telemetry'", (newest_seq,))
    set_mark(connection, COPIED, newest_seq)  # for the cursor of an uplink that comes later


def _numbers(connection: sqlite3.Connection, schema: int) -> Numbers:
    session = event = 0
    if schema > 1:
        highest = connection.execute("SELECT ifnull(max(id), 0) FROM session").fetchone()[0]
        session = max(get_mark(connection, SESSION_NUMBER), highest)
    if schema > 2:  # noqa: PLR2004 - the step that brought the chain
        event = ledger.newest_seq(connection)
    else:
        (event,) = connection.execute("SELECT ifnull(max(seq), 0) FROM event").fetchone()
    signal = max(catalogue.newest_id(connection), get_mark(connection, SIGNALS_GIVEN))
    newest = telemetry.newest_seq(connection)
    return Numbers(newest, event, session, signal, get_mark(connection, "catalog_version"))


def _above(found: Numbers, now_us: int, made_us: int, there: Numbers) -> Numbers:
    """Rule 3."""
    since_s = max(now_us - made_us, 0) // 1_000_000 + 1
    age_s = max(now_us // 1_000_000 - outbox.NUMBERS_SINCE_S, 0)
    by_clock = outbox.first_number(now_us)
    spare = min(SPARE_SIGNALS + since_s // 60, _MAX_SPARE_SIGNALS)
    return Numbers(
        max(found.telemetry + since_s * _NUMBERS_PER_S, by_clock, there.telemetry),
        max(found.event + since_s * _NUMBERS_PER_S, by_clock, there.event),
        max(found.session, min(max(found.session + since_s, age_s), _HIGHEST_SESSION), there.session),
        max(found.signal + spare, there.signal),
        max(found.catalogue + 1, there.catalogue + 1, min(age_s * _VERSIONS_PER_S, _HIGHEST_VERSION)),
    )


def _renew(
    connection: sqlite3.Connection, found: Numbers, above: Numbers, clock: Clock, told: Mapping[str, object]
) -> None:
    """Inside the caller's transaction."""
    _freeze(connection)
    connection.execute("UPDATE cursor SET sending = 0")
    if connection.execute("SELECT 1 FROM cursor WHERE stream = 'telemetry'").fetchone() is None:
        # Nothing had been sent; blocks that were not sealed may since have been, and sent under one number.
        rolled_seq = get_mark(connection, "rolled_seq")
        (first,) = connection.execute("SELECT ifnull(min(seq), 1) FROM hot WHERE seq > ?", (rolled_seq,)).fetchone()
        by = above.telemetry + 1 - first
        connection.execute("UPDATE hot SET seq = -(seq + ?) WHERE seq > ?", (by, rolled_seq))
        connection.execute("UPDATE hot SET seq = -seq WHERE seq < 0")
    given = max(above.telemetry, above.event)
    set_mark(connection, NUMBERS_GIVEN, given)
    set_mark(connection, SESSION_NUMBER, above.session)
    set_mark(connection, SIGNALS_GIVEN, above.signal)
    set_mark(connection, "catalog_version", above.catalogue)
    now_us = clock.now_us()
    cursor = connection.execute(
        "INSERT INTO boot(boot, wall_us, mono_us) VALUES(?, ?, ?)",
        (uuid.uuid4().hex, now_us, round(clock.monotonic_s() * 1e6)),
    )
    data = {**told, "newest": asdict(found), "numbers_above": given}
    event = Event("store.restored", now_us, "store", data)
    ledger.insert(connection, int(cursor.lastrowid or 0), event, ledger.to_json(data))
