"""The chain over the ledger: each event carries a hash of itself and of the hash before it.

Rules of this file:

1. ``hash`` = SHA-256 of the hash before (as hex), seq, boot (as hex), t_us, kind, subject and data, all as text in
   UTF-8, each written as a netstring (``<bytes>:<text>,``), so that no text can pass for the end of another.
2. The head (the newest event's number and hash) is kept in the same commit as the event, so that it is seen when the
   newest events are cut off. Numbers go on behind it: what was cut off is missing for ever.
3. The chain begins at ``chain_start``: how many events there were before it, up to which number, and a random salt.
   Events from before the chain have no hash and are not covered.
4. A ledger that was taken over from a damaged file (``recovery.py``) keeps its own chain: with an ``id`` of 2 or more
   in both tables, beside the one with 1 that goes on.
5. Nothing here fails because the chain was damaged or tampered with: the gateway goes on, and verification tells.

Who may write the file may also write a whole new chain into it. Hashes that left the house in time (with the events to
the central server, in exports) give that away.
"""

import hashlib
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from agent.store.opening import connect
from agent.store.schema import NUMBERS_FROM, get_mark

#: A number that a damaged head must not push the next ones to.
_HIGHEST_SEQ = 1 << 62


@dataclass(frozen=True, slots=True)
class Start:
    """Where the chain begins: behind ``seq``, with ``rows`` events from before it."""

    seq: int
    rows: int
    salt: bytes

    @property
    def hash(self) -> bytes:
        """What stands for the hash before that of the first event."""
        return _digest(("enlace ledger", str(self.seq), str(self.rows), self.salt.hex()))


@dataclass(frozen=True, slots=True)
class Head:
    """The newest event that was written."""

    seq: int
    hash: bytes


def hash_of(before: bytes, seq: int, boot: str, t_us: int, kind: str, subject: str, data: str) -> bytes:
    """The hash of an event. ``data`` is the JSON text as stored."""
    return _digest((before.hex(), str(seq), boot, str(t_us), kind, subject, data))


def read_start(connection: sqlite3.Connection, number: int = 1) -> Start | None:
    """Where the chain begins; None when that was removed or damaged. ``number``: of which chain (rule 4)."""
    row = connection.execute("SELECT seq, rows, salt FROM chain_start WHERE id = ?", (number,)).fetchone()
    if row is None or not (isinstance(row[0], int) and isinstance(row[1], int) and isinstance(row[2], bytes)):
        return None
    return Start(*row)


def read_head(connection: sqlite3.Connection, number: int = 1) -> Head | None:
    """The newest event as the last commit said; None before the first, and when it was removed or damaged."""
    row = connection.execute("SELECT seq, hash FROM chain_head WHERE id = ?", (number,)).fetchone()
    if row is None or not (isinstance(row[0], int) and row[0] < _HIGHEST_SEQ and isinstance(row[1], bytes)):
        return None
    return Head(*row)


def older(connection: sqlite3.Connection) -> list[tuple[int, int, Start, Head | None]]:
    """The chains that were taken over, oldest first: number, what their numbers begin behind, beginning and end."""
    found: list[tuple[int, int, Start, Head | None]] = []
    for (number,) in connection.execute("SELECT id FROM chain_start WHERE id > 1").fetchall():
        start = read_start(connection, number)
        if start is not None:
            begin = max(start.seq, get_mark(connection, segment_mark(number)))
            found.append((number, begin, start, read_head(connection, number)))
    return sorted(found, key=lambda one: one[1])


def segment_mark(number: int) -> str:
    """The mark behind which the numbers of a chain begin that was taken over."""
    return f"{NUMBERS_FROM}.{number}"


def before_first(connection: sqlite3.Connection) -> bytes:
    """The hash before that of the first event. Where the head was tampered with, one that breaks the chain there."""
    start = read_start(connection)
    return b"" if start is None else start.hash


def move_head(connection: sqlite3.Connection, seq: int, digest: bytes) -> None:
    """The newest event is this one, inside the transaction that inserts it."""
    connection.execute("INSERT OR REPLACE INTO chain_head(id, seq, hash) VALUES(1, ?, ?)", (seq, digest))


def head_of(path: Path) -> Head | None:
    """The newest event of a file that was moved aside, as far as it can still be read."""
    try:
        with closing(connect(path, read_only=True)) as connection:
            return read_head(connection)
    except (sqlite3.Error, UnicodeDecodeError):  # it was moved aside because it is damaged, foreign or newer
        return None


def _digest(texts: Iterable[str]) -> bytes:
    # What can't be decoded in a damaged row counts as the bytes that it is.
    parts = [text.encode("utf-8", "surrogateescape") for text in texts]
    return hashlib.sha256(b"".join(b"%d:%b," % (len(part), part) for part in parts)).digest()
