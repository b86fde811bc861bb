"""What grows although nothing of it is ever dropped, and what keeps the rest bounded. Looked at once an hour.

Rules of this file:

1. Events and sessions are never dropped, so their bytes are counted: each event once, in steps.
2. The record of drops is summed up when it gets long (``dropped.py``); of damaged blocks, which are evidence, the last
   ``ASIDE`` are kept. Damaged events stay: they are of the ledger.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field

from agent.store import dropped, wear
from agent.store.schema import get_mark, set_mark
from agent.store.transaction import transaction
from agent.store.wear import Wear

ASIDE = 1000
#: Of a row beside its texts: numbers, time, hash, indices, and pages that are not wholly filled. Measured.
_EVENT_BYTES = 90
_SESSION_BYTES = 270
_STEP_EVENTS = 20_000
_COUNTED_SEQ, _COUNTED_BYTES = "ledger_counted_seq", "ledger_bytes"

_COUNT = """SELECT count(*), ifnull(sum(length(CAST(data AS BLOB)) + length(kind) + length(subject)), 0), max(seq)
    FROM (SELECT seq, data, kind, subject FROM event WHERE seq > ? ORDER BY seq LIMIT ?)"""


@dataclass(frozen=True, slots=True)
class Grown:
    """What has grown. All of it is of the whole life of the file."""

    ledger_bytes: int = 0  #: events and sessions, which are never dropped
    lost_rows: int = 0  #: rows that went without having been confirmed by the central server
    wear: Wear = field(default_factory=lambda: Wear(None, {}, {}))


def bound(connection: sqlite3.Connection) -> Iterator[int]:
    """Keep the tables short that only grow, in steps. Raises ``sqlite3.Error``."""
    if dropped.is_long(connection):
        with transaction(connection):
            dropped.fold(connection)
        yield 0
    many = connection.execute("SELECT count(*) FROM aside WHERE stream = ?", (dropped.TELEMETRY,)).fetchone()[0]
    if many > ASIDE:
        with transaction(connection):
            _forget_aside(connection, many - ASIDE)
        yield 0
    while _count_events(connection):
        yield 0


def look(connection: sqlite3.Connection, now_us: int) -> Grown:
    """What has grown, as counted by ``bound`` and ``wear.Meter``."""
    sessions: int = connection.execute("SELECT count(*) FROM session").fetchone()[0]
    ledger_bytes = get_mark(connection, _COUNTED_BYTES) + sessions * _SESSION_BYTES
    return Grown(ledger_bytes, dropped.lost_rows(connection), wear.read(connection, now_us))


def _count_events(connection: sqlite3.Connection) -> bool:
    """Count some of those that were not counted yet; whether there may be more."""
    rows, bytes_, newest = connection.execute(_COUNT, (get_mark(connection, _COUNTED_SEQ), _STEP_EVENTS)).fetchone()
    if rows:
        with transaction(connection):
            set_mark(connection, _COUNTED_SEQ, newest)
            set_mark(connection, _COUNTED_BYTES, get_mark(connection, _COUNTED_BYTES) + bytes_ + rows * _EVENT_BYTES)
    return bool(rows == _STEP_EVENTS)


def _forget_aside(connection: sqlite3.Connection, rows: int) -> None:
    """Delete the oldest damaged blocks; their numbers are not given again."""
    oldest = connection.execute(
        "SELECT id, seq FROM aside WHERE stream = ? ORDER BY id LIMIT ?", (dropped.TELEMETRY, rows)
    ).fetchall()
    connection.executemany("DELETE FROM aside WHERE id = ?", [(row,) for row, _ in oldest])
    newest = max(seq for _, seq in oldest)
    set_mark(connection, "dropped_seq", max(newest, get_mark(connection, "dropped_seq")))
