"""The ledger: events in order, one number each, chained (``chain.py``), never deleted."""

import json
import math
import sqlite3
from collections.abc import Mapping, Sequence

from agent.core.model import Event
from agent.core.ports import StoredEvent
from agent.store import chain
from agent.store.schema import NUMBERS_FROM, NUMBERS_GIVEN


def insert(connection: sqlite3.Connection, boot: int, event: Event, data: str) -> int:
    """Append an event inside the caller's transaction; its number. ``data`` is ``to_json(event.data)``."""
    head = chain.read_head(connection)
    seq = _newest(connection, head) + 1
    (boot_hex,) = connection.execute("SELECT boot FROM boot WHERE id = ?", (boot,)).fetchone() or ("",)
    before = chain.before_first(connection) if head is None else head.hash
    digest = chain.hash_of(before, seq, boot_hex, event.t_us, event.kind, event.subject, data)
    connection.execute(
        "INSERT INTO event(seq, boot, t_us, kind, subject, data, hash) VALUES(?, ?, ?, ?, ?, ?, ?)",
        (seq, boot, event.t_us, event.kind, event.subject, data, digest),
    )
    chain.move_head(connection, seq, digest)
    return seq


def insert_events(connection: sqlite3.Connection, boot: int, events: Sequence[Event]) -> int:
    """Append events inside the caller's transaction; the last one's number, 0 when there are none."""
    return max((insert(connection, boot, event, to_json(event.data)) for event in events), default=0)


def newest_seq(connection: sqlite3.Connection) -> int:
    """The highest number ever given to an event: of those in the ledger, those set aside and those of older files.

    The chain's head knows it also when the newest ones were cut off.
    """
    return _newest(connection, chain.read_head(connection))


def _newest(connection: sqlite3.Connection, head: chain.Head | None) -> int:
    row = connection.execute(
        """SELECT max(ifnull((SELECT max(seq) FROM event), 0),
            ifnull((SELECT max(seq) FROM aside WHERE stream = 'event'), 0),
            ifnull((SELECT max(value) FROM mark WHERE name IN (?, ?)), 0))""",
        (NUMBERS_FROM, NUMBERS_GIVEN),
    ).fetchone()
    return max(int(row[0]), 0 if head is None else head.seq)


def select(
    connection: sqlite3.Connection, after_seq: int, limit: int, kind_prefix: str
) -> tuple[list[StoredEvent], list[int]]:
    """Events after ``after_seq``, oldest first, and the numbers of those that can't be read."""
    rows = connection.execute(
        """SELECT event.seq, boot.boot, event.t_us, event.kind, event.subject, event.data, event.hash,
                boot.clock = 'unset' OR boot.clock = 'corrected' AND (event.seq <= boot.event_seq
                    OR boot.offset_us > 0 AND event.t_us BETWEEN boot.from_us AND boot.to_us)
            FROM event LEFT JOIN boot ON boot.id = event.boot
            WHERE event.seq > ? AND substr(event.kind, 1, ?) = ? ORDER BY event.seq LIMIT ?""",
        (after_seq, len(kind_prefix), kind_prefix, limit),
    )
    events: list[StoredEvent] = []
    bad: list[int] = []
    for seq, boot, t_us, kind, subject, data, digest, mark in rows:
        try:
            content = json.loads(data)
        except ValueError:
            content = None
        if isinstance(content, dict) and isinstance(t_us, int):
            shown = digest.hex() if isinstance(digest, bytes) else ""
            events.append(StoredEvent(seq, boot or "", Event(kind, t_us, subject, content), shown, not mark))
        else:
            bad.append(seq)
    return events, bad


def set_aside(connection: sqlite3.Connection, seq: int, reason: str, boot: int, now_us: int) -> None:
    """Move an event that can't be read out of the way, inside the caller's transaction; nothing if it is gone.

    The new event comes first, so that the number of the damaged one is not given again.
    """
    row = connection.execute("SELECT boot, data, hash FROM event WHERE seq = ?", (seq,)).fetchone()
    if row is None:
        return
    # Its hash stays in the chain by this, so that those behind it can still be verified.
    link = row[2].hex() if isinstance(row[2], bytes) else ""
    data = to_json({"stream": "event", "seq": seq, "reason": reason, "hash": link})
    insert(connection, boot, Event("store.row_set_aside", now_us, "store"), data)
    connection.execute(
        "INSERT INTO aside(t_us, stream, seq, first_seq, boot, reason, data) VALUES(?, 'event', ?, ?, ?, ?, ?)",
        (now_us, seq, seq, row[0], reason, row[1]),
    )
    connection.execute("DELETE FROM event WHERE seq = ?", (seq,))


def to_json(data: Mapping[str, object]) -> str:
    """Event data as JSON text. Numbers that JSON does not have become null. Raises ``TypeError`` on other objects."""
    return json.dumps(_finite(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
