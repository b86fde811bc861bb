"""Charging sessions: one row each, for ever. The ``Sessions`` of ``agent.core.ports``, and what the API lists.

Rules of this file:

1. A session's number is given inside the transaction that stores it, from a counter of its own that never goes back:
   no number is given twice, also when the session is gone. It is OCPP 1.6's transactionId, so it fits in 31 bits.
2. (device, key) is there once. Who begins a session whose key is known is given that session, and nothing is stored.
3. A record and its events are one commit.
"""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import fields, replace

from agent.core.clock import Clock
from agent.core.model import Event, Session
from agent.store.boots import Correction
from agent.store.jobs import Pace
from agent.store.ledger import insert_events, to_json
from agent.store.outbox import NUMBERS_SINCE_S
from agent.store.readers import Readers
from agent.store.schema import SESSION_NUMBER, get_mark, set_mark
from agent.store.writer import Writer

#: The columns, in the order of the fields of ``Session``.
_FIELDS = tuple(field.name for field in fields(Session))
_COLUMNS = ", ".join(_FIELDS)
_PLACES = ", ".join("?" for _ in _FIELDS)
_SELECT = f"SELECT {_COLUMNS} FROM session"  # noqa: S608 - our own column list
#: A clock that is years ahead must not use up the numbers: half of those of 31 bits are left in any case.
HIGHEST_FIRST = 1 << 30


class SessionTable:
    """The sessions of a store. ``saw_event`` is told the number of each event that was committed."""

    def __init__(
        self, readers: Readers, writer: Writer, clock: Clock, boot: int, saw_event: Callable[[int], None]
    ) -> None:
        self._readers = readers
        self._clock = clock
        self._writer = writer
        self._boot = boot
        self._saw_event = saw_event
        #: Whose times were stamped while the clock was not set: all of them, or the newest only; and how to put right
        #: what comes later (``boots.py``).
        self._begun: set[int] = set()
        self._touched: set[int] = set()
        self._late: Correction | None = None

    async def begin(self, session: Session, events: Sequence[Event]) -> tuple[Session, bool]:
        """Store it under a new number, with its events; or the one that has its key, and False."""

        def run(connection: sqlite3.Connection) -> tuple[tuple[Session, bool], Callable[[], None]]:
            known = _rows(connection, "WHERE device = ? AND key = ?", (session.device, session.key))
            if known:
                return (known[0], False), lambda: None
            stored = self._in_time(replace(session, id=_next_number(connection)), begins=True)
            connection.execute(
                f"INSERT INTO session({_COLUMNS}) VALUES({_PLACES})",
                _values(stored),
            )
            seq = insert_events(connection, self._boot, _with_number(events, stored.id))
            return (stored, True), lambda: self._saw_event(seq)

        return await asyncio.wrap_future(self._writer.submit(run, records=bool(events), keep=False))

    async def change(self, session: Session, events: Sequence[Event], *, at_once: bool) -> None:
        """Store its new state, with its events. Number, device and key are those that it began with."""

        def run(connection: sqlite3.Connection) -> tuple[None, Callable[[], None]]:
            _update(connection, self._in_time(session, begins=False))
            seq = insert_events(connection, self._boot, _with_number(events, session.id))
            return None, lambda: self._saw_event(seq)

        pace = Pace.NOW if at_once else Pace.GROUP
        await asyncio.wrap_future(self._writer.submit(run, pace=pace, records=bool(events), keep=False))

    def correct(self, connection: sqlite3.Connection, correction: Correction) -> None:
        """Put right what was stored while the clock was not set, inside the caller's transaction."""
        for column, numbers in (("start_us", self._begun), ("last_us", self._touched), ("stop_us", self._touched)):
            connection.executemany(
                f"UPDATE session SET {column} = {column} + ? WHERE id = ? AND {column} BETWEEN ? AND ?",  # noqa: S608 - our own names
                [(correction.offset_us, number, correction.from_us, correction.to_us) for number in numbers],
            )

    def corrected(self, correction: Correction) -> None:
        """The commit stands: from now on, what drivers still hold with its old times is put right on its way in."""
        self._late = correction

    def _in_time(self, session: Session, *, begins: bool) -> Session:
        late = self._late
        if late is None:
            if not self._clock.trusted():
                self._touched.add(session.id)
                if begins:
                    self._begun.add(session.id)
            return session
        if session.id not in self._touched:
            return session
        now_us = self._clock.now_us()
        start_us = late.time(session.start_us) if session.id in self._begun else session.start_us
        last_us, stop_us = (
            None if t_us is None else late.late_time(t_us, now_us) for t_us in (session.last_us, session.stop_us)
        )
        return replace(session, start_us=start_us, last_us=last_us, stop_us=stop_us)

    def find(self, device: str, number: int, key: str, remote_id: str) -> Session | None:
        """The newest session of the device that has all of these that are given; None when none is given. Blocks."""
        given = [
            (f"AND {name} = ?", value)
            for name, value in (("id", number), ("key", key), ("remote_id", remote_id))
            if value
        ]
        if not given:
            return None
        where = " ".join(["WHERE device = ?", *(text for text, _ in given), "ORDER BY id DESC LIMIT 1"])
        with self._readers.snapshot() as connection:
            found = _rows(connection, where, (device, *(value for _, value in given)))
        return found[0] if found else None

    def session(self, number: int) -> Session | None:
        """The session with that number. Blocks."""
        with self._readers.snapshot() as connection:
            found = _rows(connection, "WHERE id = ?", (number,))
        return found[0] if found else None

    def running(self, device: str) -> list[Session]:
        """Those that have not ended, oldest first. Blocks."""
        with self._readers.snapshot() as connection:
            return _rows(connection, "WHERE device = ? AND stop_us IS NULL ORDER BY start_us, id", (device,))

    def page(
        self,
        device: str | None,
        running: bool | None,  # noqa: FBT001 - a filter of three values
        from_us: int | None,
        to_us: int | None,
        *,
        outlet: int | None,
        newest_first: bool,
        limit: int,
        offset: int,
    ) -> tuple[int, list[Session]]:
        """How many there are, and one page of them, by the time of their start. Blocks."""
        filters = (("device = ?", device), ("outlet = ?", outlet), ("start_us >= ?", from_us), ("start_us < ?", to_us))
        given = [(text, value) for text, value in filters if value is not None]
        texts = [text for text, _ in given]
        if running is not None:
            texts.append("stop_us IS NULL" if running else "stop_us IS NOT NULL")
        where = "WHERE " + " AND ".join(texts) if texts else ""
        values = tuple(value for _, value in given)
        order = "DESC" if newest_first else "ASC"
        with self._readers.snapshot() as connection:
            total: int = connection.execute(
                f"SELECT count(*) FROM session {where}",  # noqa: S608 - our own conditions
                values,
            ).fetchone()[0]
            paged = f"{where} ORDER BY start_us {order}, id {order} LIMIT ? OFFSET ?"
            return total, _rows(connection, paged, (*values, limit, offset))


def begin_numbers(connection: sqlite3.Connection, now_us: int) -> None:
    """Where the numbers of a file begin, inside the caller's transaction; later calls change nothing.

    Behind the seconds since 2026: faster than a site's sessions come, so a new file after one that was moved aside, or
    a new card, does not give the number of an older session again. A clock that was never set begins at 1.
    """
    if not get_mark(connection, SESSION_NUMBER):
        set_mark(connection, SESSION_NUMBER, min(max(now_us // 1_000_000 - NUMBERS_SINCE_S, 0), HIGHEST_FIRST))


def _next_number(connection: sqlite3.Connection) -> int:
    highest: int = connection.execute("SELECT ifnull(max(id), 0) FROM session").fetchone()[0]
    number = max(get_mark(connection, SESSION_NUMBER), highest) + 1
    if number >= 1 << 31:
        raise ValueError("all numbers of 31 bits are given")
    set_mark(connection, SESSION_NUMBER, number)
    return number


def _update(connection: sqlite3.Connection, session: Session) -> None:
    """Store what is new of it. SQLite writes each index anew that a statement names a column of: so it names few."""
    row = connection.execute(
        f"{_SELECT} WHERE id = ? AND device = ? AND key = ?", (session.id, session.device, session.key)
    ).fetchone()
    if row is None:
        raise LookupError(f"there is no session {session.id} of {session.device} with this key")
    pairs = zip(_FIELDS, row, _values(session), strict=True)
    new = {name: value for name, stored, value in pairs if stored != value}
    if new:
        sets = ", ".join(f"{name} = ?" for name in new)
        connection.execute(f"UPDATE session SET {sets} WHERE id = ?", (*new.values(), session.id))  # noqa: S608 - our own names


def _with_number(events: Sequence[Event], number: int) -> list[Event]:
    """Events about the session say which it is, also when nobody knew its number before."""
    return [
        replace(event, data={"session": number} | dict(event.data)) if event.kind.startswith("session.") else event
        for event in events
    ]


def _values(session: Session) -> tuple[object, ...]:
    return tuple(to_json(session.data) if name == "data" else getattr(session, name) for name in _FIELDS)


def _rows(connection: sqlite3.Connection, where: str, values: tuple[object, ...]) -> list[Session]:
    return [_session(row) for row in connection.execute(f"{_SELECT} {where}", values)]


def _session(row: tuple[object, ...]) -> Session:
    values = dict(zip(_FIELDS, row, strict=True))
    try:
        data = json.loads(str(values["data"]))
    except ValueError:
        data = None
    if not isinstance(data, dict):
        data = {"unreadable": values["data"]}  # the registers are worth more than what explains them
    return Session(**(values | {"data": data}))  # type: ignore[arg-type] # the columns hold what the fields are
