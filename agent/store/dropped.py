"""The record of what was given up: which rows, of which numbers, and why. It is kept, and bounded.

Rules of this file:

1. What goes is written down in the transaction in which it goes. A row of ``dropped`` with a signal counts the rows of
   that signal; one without a signal names numbers that are gone whole, from ``from_seq`` to ``to_seq`` without a hole,
   and counts the rows of all signals unless those have rows of their own for the same reason.
2. Until the ledger tells of it (``tell``: an event for each reason), more of the same is added to the same row. So a
   quota that overflows for a week leaves some rows and an event an hour, not one for each block.
3. Above ``LIMIT`` rows those that the ledger told of are summed up: one for each reason and signal.
"""

import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from agent.core.model import Event
from agent.store import ledger
from agent.store.pending import Drop
from agent.store.schema import get_mark, set_mark

TELEMETRY = "telemetry"
LIMIT = 20_000

#: What went although the central server has not confirmed it, by what took it; the others were confirmed or summed up.
LOSSES = (
    "unsent_half",
    "unsent_minutes",
    "unsent_states",
    "unsent_raw",
    "maybe_sent",
    "unsent_registers",
    "pending_full",
    "malformed",
    "damaged",
)
#: Of a block that thinning left nothing of: its rows were counted, here are its numbers.
EMPTY = "empty"
_FOLDED = "dropped_folded"

_OF_SIGNAL = """INSERT INTO dropped(t_us, signal, from_us, to_us, count, reason, stream, from_seq, to_seq, told)
    VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, 0)
    ON CONFLICT(reason, stream, signal) WHERE told = 0 AND signal IS NOT NULL DO UPDATE SET t_us = excluded.t_us,
    from_us = min(from_us, excluded.from_us), to_us = max(to_us, excluded.to_us), count = count + excluded.count,
    from_seq = ifnull(min(from_seq, excluded.from_seq), ifnull(from_seq, excluded.from_seq)),
    to_seq = ifnull(max(to_seq, excluded.to_seq), ifnull(to_seq, excluded.to_seq))"""
_OF_ALL = _OF_SIGNAL.partition("ON CONFLICT")[0]
_BEHIND = """UPDATE dropped SET t_us = ?, from_us = min(from_us, ?), to_us = max(to_us, ?), count = count + ?,
    to_seq = ? WHERE told = 0 AND signal IS NULL AND reason = ? AND stream = ? AND to_seq IS ?"""
_UNTOLD = """SELECT reason, stream, min(from_seq), max(to_seq), sum(count), count(DISTINCT signal), min(from_us),
    max(to_us) FROM dropped WHERE told = 0 GROUP BY reason, stream"""
_FOLD = """INSERT INTO dropped(t_us, signal, from_us, to_us, count, reason, stream, from_seq, to_seq, told)
    SELECT max(t_us), signal, min(from_us), max(to_us), sum(count), reason, stream, min(from_seq), max(to_seq), 1
    FROM dropped WHERE told = 1 AND id <= ? GROUP BY reason, stream, signal"""


@dataclass(frozen=True, slots=True)
class Gone:
    """A row of the record. ``signal`` None: of all signals; numbers None: the rows had none yet, or were averages."""

    id: int
    t_us: int  #: when the last of it went
    stream: str
    signal: int | None
    from_us: int
    to_us: int
    rows: int
    reason: str
    from_seq: int | None
    to_seq: int | None


def write(connection: sqlite3.Connection, now_us: int, drops: Sequence[Drop]) -> None:
    """Add to the record, inside the caller's transaction."""
    for drop in drops:
        row = (now_us, drop.signal, drop.from_us, drop.to_us, drop.count, drop.reason, TELEMETRY)
        numbers = (drop.from_seq, drop.to_seq)
        if drop.signal is not None:
            connection.execute(_OF_SIGNAL, (*row, *numbers))
        elif not _goes_on(connection, now_us, drop):
            connection.execute(_OF_ALL, (*row, *numbers))


def _goes_on(connection: sqlite3.Connection, now_us: int, drop: Drop) -> bool:
    """Whether its numbers are those behind a row that the ledger has not told of; then that row has them."""
    before = None if drop.from_seq is None else drop.from_seq - 1
    values = (now_us, drop.from_us, drop.to_us, drop.count, drop.to_seq, drop.reason, TELEMETRY, before)
    return connection.execute(_BEHIND, values).rowcount > 0


def tell(connection: sqlite3.Connection, boot: int, now_us: int, reasons: Collection[str] | None = None) -> None:
    """Put on the ledger what it was not told of yet (of these reasons; None: of all), inside the caller's transaction.

    One event for each reason: ``{stream, reason, rows, signals, from_us, to_us, from_seq, to_seq}``, the last two where
    the rows had numbers, ``signals`` where they were counted by signal.
    """
    for reason, stream, from_seq, to_seq, rows, signals, from_us, to_us in connection.execute(_UNTOLD).fetchall():
        if reasons is not None and reason not in reasons:
            continue
        if rows:
            data: dict[str, object] = {"stream": stream, "reason": reason, "rows": rows}
            data |= {"signals": signals} if signals else {}
            data |= {"from_us": from_us, "to_us": to_us}
            data |= {} if from_seq is None else {"from_seq": from_seq, "to_seq": to_seq}
            ledger.insert(connection, boot, Event("store.dropped", now_us, "store"), ledger.to_json(data))
        connection.execute("UPDATE dropped SET told = 1 WHERE told = 0 AND reason = ? AND stream = ?", (reason, stream))


def untold(connection: sqlite3.Connection) -> set[str]:
    """The reasons that the ledger was not told of yet."""
    return {reason for (reason,) in connection.execute("SELECT DISTINCT reason FROM dropped WHERE told = 0")}


def is_long(connection: sqlite3.Connection) -> bool:
    """Whether the record is to be summed up: it has twice as many rows as then, and more than ``LIMIT``."""
    rows: int = connection.execute("SELECT count(*) FROM dropped").fetchone()[0]
    return rows > max(LIMIT, 2 * get_mark(connection, _FOLDED))


def fold(connection: sqlite3.Connection) -> None:
    """Sum up what the ledger told of, inside the caller's transaction. Ranges then cover also what stayed between."""
    newest = connection.execute("SELECT ifnull(max(id), 0) FROM dropped").fetchone()[0]
    connection.execute(_FOLD, (newest,))
    connection.execute("DELETE FROM dropped WHERE told = 1 AND id <= ?", (newest,))
    set_mark(connection, _FOLDED, connection.execute("SELECT count(*) FROM dropped").fetchone()[0])


def lost_rows(connection: sqlite3.Connection) -> int:
    """Rows that went without having been confirmed, since the store was made."""
    marks = ", ".join("?" for _ in LOSSES)
    found = connection.execute(f"SELECT ifnull(sum(count), 0) FROM dropped WHERE reason IN ({marks})", LOSSES)  # noqa: S608 - question marks
    return int(found.fetchone()[0])


def page(connection: sqlite3.Connection, limit: int, offset: int) -> tuple[int, list[Gone]]:
    """How many rows the record has, and some of them, the newest first."""
    total: int = connection.execute("SELECT count(*) FROM dropped").fetchone()[0]
    rows = connection.execute(
        """SELECT id, t_us, ifnull(stream, ?), signal, from_us, to_us, count, reason, from_seq, to_seq
            FROM dropped ORDER BY id DESC LIMIT ? OFFSET ?""",
        (TELEMETRY, limit, offset),
    )
    return total, [Gone(*row) for row in rows]
