"""What a bundle for support tells of a store, read from outside: beside a running gateway, or with none. Reads only."""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.core.blocks import BlockError
from agent.core.errors import StoreError
from agent.core.model import Number, Signal
from agent.store import catalogue, wear
from agent.store.reading import open_read_only, require
from agent.store.schema import version
from agent.store.telemetry import newest_seq, read_block

#: Blocks in which the newest values are looked for, newest first; those of signals that say something once an hour are
#: taken from the roll-ups.
_NEWEST_BLOCKS = 40
#: Tables that stay small enough to be counted while somebody waits.
_COUNTED = ("signal", "boot", "block", "hot", "event", "session", "note", "maintenance", "dropped", "aside", "posted")
_ROLL_UPS = (("minute", 60_000_000), ("hour", 3_600_000_000))


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest value of a signal that the store has. ``value`` is physical, None: it became unknown then.

    ``within_us``: how exactly the time is known; roll-ups know the minute or the hour.
    """

    signal: Signal
    value: Number | None
    t_us: int
    within_us: int = 0


class StoreLook:
    """``open_look`` makes one. All raise ``sqlite3.Error`` where a table can't be read: the others still can."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection

    def figures(self) -> dict[str, object]:
        """Sizes, numbers of rows, marks and what waits to be sent."""
        names = {row[0] for row in self._rows("SELECT name FROM sqlite_master WHERE type = 'table'")}
        return {
            "schema": version(self._connection),
            "page_size": self._one("PRAGMA page_size"),
            "pages": self._one("PRAGMA page_count"),
            "free_pages": self._one("PRAGMA freelist_count"),
            "bytes": {one.name: one.stat().st_size for one in sorted(self._path.parent.glob(f"{self._path.name}*"))},
            "rows": {name: self._one(f"SELECT count(*) FROM {name}") for name in _COUNTED if name in names},  # noqa: S608 - ours
            "marks": dict(self._rows("SELECT name, value FROM mark ORDER BY name")),
            "notes": dict(self._rows("SELECT kind, count(*) FROM note GROUP BY kind")) if "note" in names else {},
        }

    def backlog(self) -> dict[str, object]:
        """By stream: the newest number, up to where it is confirmed, and how many records wait."""
        newest = {
            "telemetry": newest_seq(self._connection),
            "event": self._one("SELECT ifnull(max(seq), 0) FROM event"),
        }
        found: dict[str, object] = {}
        for stream, acked, sent in self._rows("SELECT stream, acked, sent FROM cursor"):
            waiting = sum(
                self._one(f"SELECT count(*) FROM {table} WHERE seq > ?", acked)  # noqa: S608 - ours
                for table in (("block", "hot") if stream == "telemetry" else ("event",))
            )
            found[stream] = {"newest": newest.get(stream), "confirmed": acked, "sent": sent, "records_waiting": waiting}
        return found

    def boots(self, limit: int) -> list[dict[str, object]]:
        """The newest starts, and what was known of their clocks."""
        query = "SELECT id, boot, wall_us, mono_us, clock, offset_us FROM boot ORDER BY id DESC LIMIT ?"
        names = ("id", "boot", "wall_us", "mono_us", "clock", "offset_us")
        return [dict(zip(names, row, strict=True)) for row in self._rows(query, limit)]

    def wear(self, now_us: int) -> wear.Wear:
        """What was written, by day."""
        return wear.read(self._connection, now_us)

    def dropped(self, limit: int) -> list[dict[str, object]]:
        """What was given up, newest first."""
        query = "SELECT t_us, stream, signal, from_us, to_us, count, reason FROM dropped ORDER BY id DESC LIMIT ?"
        names = ("t_us", "stream", "signal", "from_us", "to_us", "rows", "reason")
        return [dict(zip(names, row, strict=True)) for row in self._rows(query, limit)]

    def events(self, limit: int, kind: str = "") -> list[dict[str, object]]:
        """The newest events of kinds that begin so, newest first; ``data`` is None where it can't be read."""
        query = """SELECT seq, t_us, kind, subject, data FROM event WHERE substr(kind, 1, ?) = ?
            ORDER BY seq DESC LIMIT ?"""
        return [
            {"seq": seq, "t_us": t_us, "kind": kind, "subject": subject, "data": _data(data)}
            for seq, t_us, kind, subject, data in self._rows(query, len(kind), kind, limit)
        ]

    def notes(self, kind: str) -> dict[str, Mapping[str, object]]:
        """The notes of one kind, by key."""
        rows = self._rows("SELECT key, data FROM note WHERE kind = ?", kind)
        return {key: found for key, text in rows if (found := _data(text)) is not None}

    def sessions(self) -> dict[str, int]:
        """How many run and how many there are, by device."""
        counts: Counter[str] = Counter()
        for device, runs, count in self._rows("SELECT device, stop_us IS NULL, count(*) FROM session GROUP BY 1, 2"):
            counts[f"{device} {'running' if runs else 'ended'}"] = count
        return dict(counts)

    def tags(self) -> set[str]:
        """Every id tag that stands anywhere: they must not get out."""
        known = {str(row[0]) for row in self._rows("SELECT key FROM note WHERE kind = 'id_tag'")}
        for data in self.notes("id_tag").values():
            known |= {str(value) for name, value in data.items() if "tag" in name and isinstance(value, str)}
        return known | {str(row[0]) for row in self._rows("SELECT DISTINCT id_tag FROM session") if row[0]}

    def newest(self) -> list[Newest]:
        """The newest value of each signal that ever had one, by signal number."""
        signals = catalogue.load(self._connection).signals
        rows = self._newest_rows()
        found: list[Newest] = []
        for signal in signals:
            if signal.id in rows:
                t_us, word = rows[signal.id]
                found.append(Newest(signal, None if word is None else signal.physical(word), t_us))
            else:
                found += self._rolled_up(signal)
        return found

    def _rolled_up(self, signal: Signal) -> list[Newest]:
        for table, width_us in _ROLL_UPS:
            query = f"SELECT t, last FROM {table} WHERE signal = ? ORDER BY t DESC LIMIT 1"  # noqa: S608 - ours
            for bucket, last in self._connection.execute(query, (signal.id,)):
                value = None if last is None else last * signal.scale + signal.offset
                return [Newest(signal, value, bucket * width_us, width_us)]
        return []

    def _newest_rows(self) -> dict[int, tuple[int, int | None]]:
        """(time, word) by signal, of the newest blocks; a block that is damaged says nothing."""
        found: dict[int, tuple[int, int | None]] = {}
        for table, limit in (("hot", _NEWEST_BLOCKS), ("block", 1)):
            query = f"SELECT crc, data FROM {table} ORDER BY seq DESC LIMIT ?"  # noqa: S608 - ours
            for crc, data in self._connection.execute(query, (limit,)):
                try:
                    rows = read_block(data, crc)
                except BlockError:
                    continue
                columns = (rows.ids.tolist(), rows.times_us.tolist(), rows.words.tolist(), rows.invalid.tolist())
                of_block = {
                    signal: (t_us, None if invalid else word)
                    for signal, t_us, word, invalid in zip(*columns, strict=True)
                }
                found = of_block | found
        return found

    def _rows(self, query: str, *values: object) -> list[Any]:
        return self._connection.execute(query, values).fetchall()

    def _one(self, query: str, *values: object) -> int:
        (value,) = self._connection.execute(query, values).fetchone()
        return int(value)


@contextmanager
def open_look(path: Path) -> Iterator[StoreLook]:
    """The store at that path, as of one moment. Raises ``StoreError`` for what is none, or may not be read."""
    op = f"look into {path}"
    require(path, op)
    try:
        with closing(open_read_only(path, leave_nothing=True)) as connection:
            connection.execute("BEGIN")
            if not version(connection):
                raise StoreError(op, "it is no store of Enlace", "is the path right?")
            yield StoreLook(path, connection)
    except sqlite3.Error as error:
        raise StoreError(op, str(error), "is it a store of Enlace, and may this user read it?") from error


def _data(text: object) -> Mapping[str, object] | None:
    try:
        found = json.loads(str(text))
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
