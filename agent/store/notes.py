"""Small durable state by kind and key, all of it in memory: the ``Notebook`` of ``agent.core.ports``.

Rules of this file:

1. What is read is what was committed, as it would be read after a restart.
2. A mapping that was given to a reader is never changed again, so that he may walk through it on another thread: the
   writer's thread then goes on with a copy. One that nobody was given is changed as it is: a thousand notes of a kind
   are not copied for each one more.
3. A row that can't be read is set aside and told, and never stands in the way of opening the store.
"""

import asyncio
import json
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from agent.core.model import Batch, Event
from agent.store.ledger import insert_events, to_json
from agent.store.writer import Writer

_Note = Mapping[str, object]
#: Kind -> key -> note.
Kinds = Mapping[str, Mapping[str, _Note]]
_NONE: Mapping[str, _Note] = MappingProxyType({})


class Notes:
    """The notes of a store. ``saw_event`` is told the number of each event that was committed."""

    def __init__(self, notes: Kinds, writer: Writer, boot: int, saw_event: Callable[[int], None]) -> None:
        self._notes = {kind: dict(found) for kind, found in notes.items()}
        self._given: set[str] = set()  #: kinds of which a reader may have the mapping
        self._lock = threading.Lock()
        self._writer = writer
        self._boot = boot
        self._saw_event = saw_event

    def note(self, kind: str, key: str) -> _Note | None:
        """One note; None where there is none."""
        with self._lock:
            return self._notes.get(kind, _NONE).get(key)

    def notes(self, kind: str) -> Mapping[str, _Note]:
        """All notes of a kind, as of now."""
        with self._lock:
            found = self._notes.get(kind)
            self._given.add(kind)
            return _NONE if found is None else MappingProxyType(found)

    async def write(
        self, kind: str, key: str, data: _Note | None, events: Sequence[Event] = (), rows: Batch | None = None
    ) -> None:
        """Replace or delete a note, with the events and rows of telemetry.

        Raises ``StoreError``, and ``TypeError`` for what is no JSON.
        """
        text = None if data is None else to_json(data)
        note = None if text is None else _object(text)

        def run(connection: sqlite3.Connection) -> tuple[None, Callable[[], None], Batch | None]:
            if text is None:
                connection.execute("DELETE FROM note WHERE kind = ? AND key = ?", (kind, key))
            else:
                connection.execute("INSERT OR REPLACE INTO note(kind, key, data) VALUES(?, ?, ?)", (kind, key, text))
            seq = insert_events(connection, self._boot, events)

            def publish() -> None:
                self._put(kind, key, note)
                self._saw_event(seq)

            return None, publish, rows

        records = bool(events) or rows is not None
        await asyncio.wrap_future(self._writer.submit_rows(run, records=records))

    def _put(self, kind: str, key: str, note: _Note | None) -> None:
        with self._lock:
            kept = self._notes.get(kind, {})
            if kind in self._given:
                kept = kept.copy()
                self._given.discard(kind)
            kept.pop(key, None)
            if note is not None:
                kept[key] = note
            self._notes[kind] = kept


def load_notes(connection: sqlite3.Connection, boot: int, now_us: int) -> Kinds:
    """All notes, inside the caller's transaction; those that can't be read are set aside."""
    notes: dict[str, dict[str, _Note]] = {}
    # As bytes: one damaged letter must not keep all others from being read.
    rows = connection.execute("SELECT CAST(kind AS BLOB), CAST(key AS BLOB), CAST(data AS BLOB) FROM note").fetchall()
    for kind, key, data in rows:
        try:
            notes.setdefault(kind.decode(), {})[key.decode()] = _object(data.decode())
        except ValueError as error:
            _set_aside(connection, (kind, key, data), f"damaged: {error}", boot, now_us)
    return {kind: MappingProxyType(found) for kind, found in notes.items()}


def _set_aside(
    connection: sqlite3.Connection, row: tuple[bytes, bytes, bytes], reason: str, boot: int, now_us: int
) -> None:
    connection.execute(
        "INSERT INTO aside(t_us, stream, seq, first_seq, boot, reason, data) VALUES(?, 'note', 0, 0, ?, ?, ?)",
        (now_us, boot, reason, b"\0".join(row)),
    )
    connection.execute("DELETE FROM note WHERE CAST(kind AS BLOB) = ? AND CAST(key AS BLOB) = ?", row[:2])
    # Without its key, which may be somebody's id tag.
    data: dict[str, object] = {"stream": "note", "kind": row[0].decode(errors="replace"), "reason": reason}
    insert_events(connection, boot, [Event("store.row_set_aside", now_us, "store", data)])


def _object(text: str) -> _Note:
    """A note as it is read: a view that nobody changes by mistake. Raises ``ValueError`` for what is no JSON object."""
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004 - bad content, not a bug
    return MappingProxyType(value)
