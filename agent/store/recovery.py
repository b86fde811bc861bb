"""What can still be read of a file that was moved aside is taken into the new one; the evidence stays as it is.

Rules of this file:

1. Before the store opens: the signals' numbers, boots, notes, sessions, maintenance, how far the uplink was and where
   the ledger's chain stood, in one commit. Then, for ``SOON_S`` at most, the ledger, the register of posted rows and
   raw data; the rest of that follows in small commits beside the running gateway, and goes on after a power cut.
2. A number keeps its meaning: records have the numbers that they had, and new ones begin above every number that is
   seen anywhere in the evidence. What had not been confirmed is sent again, under the number that it may have had.
3. The old ledger is a segment of its own: it keeps its chain, with its beginning and its end (``chain_start`` and
   ``chain_head`` with an ``id`` of 2 or more). What is missing from it is found by verifying it, as ever.
4. A row is taken when its columns are of the types that were written, and a block when its checksum is right. What is
   unsent comes first, oldest first; then the newest. Roll-ups are made of what is taken; the old ones stay behind.
5. Nothing here keeps the store from opening.
"""

import json
import logging
import sqlite3
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

from agent.core.blocks import BlockError
from agent.core.clock import Clock
from agent.core.errors import StoreError
from agent.core.model import Encoding, Event, Kind
from agent.core.ports import StoredBlock, StoredEvent
from agent.store import catalogue as catalogues
from agent.store import posting, rollup, sealing
from agent.store.chain import segment_mark
from agent.store.evidence import taken
from agent.store.outbox import STREAMS, TELEMETRY, first_number
from agent.store.pages import Pages, Row, Value
from agent.store.schema import NUMBERS_FROM, NUMBERS_GIVEN, SESSION_NUMBER, SIGNALS_GIVEN, get_mark, set_mark
from agent.store.sessions import begin_numbers
from agent.store.telemetry import read_block
from agent.store.transaction import transaction
from agent.store.writer import Writer

_log = logging.getLogger(__name__)
T = TypeVar("T", StoredBlock, StoredEvent)

#: How long the start may wait for what can also come later.
SOON_S = 2.0
#: Raw data above this is left in the evidence: a file of some GB would fill the disk a second time.
MAX_BYTES = 256 << 20
#: Says in the new file from which evidence the first part was taken.
MARK = "recovering"

_TAKEN_FIRST = ("signal", "boot", "note", "session", "maintenance", "switched")
#: Marks that are about what is taken.
_KEPT_MARKS = ("catalog_version", posting.CUT, "switched_seq", "raw_cut_us")
#: A number further ahead than any store can have come is damage.
_AHEAD = 1 << 40
_MARGIN = 1 << 20
_CHUNK_ROWS = 500
#: What reading a damaged file can raise.
_UNREADABLE = (ValueError, LookupError, struct.error, OverflowError, MemoryError)

Chunk = Callable[[sqlite3.Connection], None]
_TYPES: Mapping[str, type | tuple[type, ...]] = {"INTEGER": int, "TEXT": str, "BLOB": bytes, "": (int, float)}


@dataclass
class Salvage:
    """One recovery. ``taken``: rows by table; ``left``: blocks that were readable and not taken for their size."""

    evidence: Path
    pages: Pages
    taken: Counter[str] = field(default_factory=Counter)
    left: int = 0
    rows: int = 0  #: raw rows in the blocks that were taken
    _known: dict[str, list[tuple[str, str, bool]]] = field(default_factory=dict)
    _begin_seq: int = 0
    _acked: int | None = None

    @property
    def first_new(self) -> int:
        """New records have numbers above this one."""
        return self._begin_seq

    def summary(self) -> dict[str, object]:
        """What an event says of it."""
        counts = {name: self.taken[name] for name in (*_TAKEN_FIRST, "event", "posted", "blocks")}
        return {
            "from": self.evidence.name,
            **counts,
            "rows": self.rows,
            "unreadable": self.pages.unreadable,
            "left": self.left,
        }

    def begin(self, connection: sqlite3.Connection, now_us: int) -> None:
        """The first part, in one commit; once for each evidence. Raises ``sqlite3.Error``, ``ValueError``."""
        name = zlib.crc32(self.evidence.name.encode()) + 1
        tables = (*_TAKEN_FIRST, "cursor", "mark", "chain_start", "chain_head", "event", "posted", "block", "hot")
        self._known = {table: _columns(connection, table) for table in tables}
        if get_mark(connection, MARK) != name:
            with transaction(connection):
                self._take_first(connection, now_us)
                set_mark(connection, MARK, name)
        self._begin_seq = get_mark(connection, NUMBERS_FROM)
        row = connection.execute("SELECT acked FROM cursor WHERE stream = ?", (TELEMETRY,)).fetchone()
        self._acked = int(row[0]) if row else None

    def _take_first(self, connection: sqlite3.Connection, now_us: int) -> None:
        marks = {str(key): value for key, value in self._rows("mark") if isinstance(value, int)}
        cursors = self._cursors()
        highest = self._highest(marks, cursors, first_number(now_us))
        begin = first_number(now_us) if highest < first_number(now_us) else highest + _MARGIN
        set_mark(connection, NUMBERS_FROM, begin)
        set_mark(connection, NUMBERS_GIVEN, begin)
        set_mark(connection, "rolled_seq", begin)  # what is taken is rolled up when it is taken
        for mark in _KEPT_MARKS:
            if mark in marks:
                set_mark(connection, mark, marks[mark])
        for table in _TAKEN_FIRST:
            for row in self._rows(table):
                if table != "signal" or _is_signal(row):
                    self._insert(connection, table, row)
        given = [number for number, _, _ in self.pages.places("signal") if number < 1 << 31]
        set_mark(connection, SIGNALS_GIVEN, max([0, marks.get(SIGNALS_GIVEN, 0), *given]))
        begin_numbers(connection, now_us)
        told = marks.get(SESSION_NUMBER, 0)
        if get_mark(connection, SESSION_NUMBER) < told < 1 << 31:
            set_mark(connection, SESSION_NUMBER, told)
        for stream, acked, sent, sending in cursors:
            connection.execute("INSERT OR REPLACE INTO cursor VALUES(?, ?, ?, ?)", (stream, acked, sent, sending))
        self._take_chain(connection, marks)

    def chunks(self, encodings: Mapping[int, Encoding]) -> Iterator[Chunk]:
        """The rest, in parts; each is to be called inside a transaction. What was taken before is taken once."""
        for table, add in (("event", self._insert), ("posted", self._add_posted)):
            rows = self._rows(table)
            while some := list(islice(rows, _CHUNK_ROWS)):
                yield partial(_add_all, add, table, some)
        for _, table, page, at in self._wanted():
            block = self.pages.row_at(page, at)
            if block is not None and _fits(block, self._known[table]):
                yield partial(self._add_block, table, block, encodings)

    def _rows(self, table: str) -> Iterator[Row]:
        for row in self.pages.rows(table):
            if _fits(row, self._known[table]):
                yield row
            else:
                self.pages.unreadable += 1

    def _insert(self, connection: sqlite3.Connection, table: str, row: Row) -> bool:
        """Insert a row; false when one like it is there. A newer program's further columns are left out."""
        names = [name for name, _, _ in self._known[table]][: len(row)]
        columns, places = ", ".join(f'"{name}"' for name in names), ", ".join("?" for _ in names)
        text = f"INSERT OR IGNORE INTO {table}({columns}) VALUES({places})"
        done = connection.execute(text, row[: len(names)]).rowcount > 0
        self.taken[table] += done
        return done

    def _add_posted(self, connection: sqlite3.Connection, table: str, row: Row) -> bool:
        """The offsets of one minute, with those that were posted since."""
        device, minute, blob = row
        key = (device, minute)
        found = connection.execute("SELECT offsets FROM posted WHERE device = ? AND minute = ?", key).fetchone()
        try:
            offsets = {offset for one in (blob, found[0] if found else None) if one for offset in posting.unpack(one)}  # type: ignore[arg-type]
        except ValueError:
            self.pages.unreadable += 1
            return False
        connection.execute("INSERT OR REPLACE INTO posted VALUES(?, ?, ?)", (*key, posting.pack(sorted(offsets))))
        self.taken[table] += 1
        return True

    def _cursors(self) -> list[tuple[str, int, int, int]]:
        """How far the uplink was. Where that can't be read, everything counts as unsent: better twice than never."""
        before = self.pages.unreadable
        found = {
            str(row[0]): (str(row[0]), int(row[1]), int(row[2]), int(row[3]))  # type: ignore[arg-type] # they fit
            for row in self._rows("cursor")
            if row[0] in STREAMS
        }
        if self.pages.unreadable > before:
            return [found.get(stream, (stream, 0, 0, 1)) for stream in STREAMS]
        return list(found.values())

    def _highest(self, marks: Mapping[str, int], cursors: Sequence[tuple[str, int, int, int]], first: int) -> int:
        """The highest number that is seen anywhere."""
        numbers = [number for table in ("event", "hot", "block") for number, _, _ in self.pages.places(table)[-50:]]
        numbers += [marks.get(name, 0) for name in (NUMBERS_FROM, NUMBERS_GIVEN, "dropped_seq", "rolled_seq")]
        numbers += [number for _, acked, sent, _ in cursors for number in (acked, sent)]
        numbers += [value for row in self.pages.rows("chain_head") for value in row[1:2] if isinstance(value, int)]
        return max((number for number in numbers if number < first + _AHEAD), default=0)

    def _take_chain(self, connection: sqlite3.Connection, marks: Mapping[str, int]) -> None:
        """The beginnings and ends of the old ledger's chain, and of those that it had itself taken over."""
        heads = {row[0]: row for row in self._rows("chain_head")}
        for start in sorted(self._rows("chain_start"), key=repr):
            number = 2 + int(connection.execute("SELECT count(*) FROM chain_start WHERE id > 1").fetchone()[0])
            connection.execute("INSERT INTO chain_start VALUES(?, ?, ?, ?)", (number, *start[1:]))
            if start[0] in heads:
                connection.execute("INSERT INTO chain_head VALUES(?, ?, ?)", (number, *heads[start[0]][1:]))
            old = NUMBERS_FROM if start[0] == 1 else segment_mark(int(start[0] or 0))
            set_mark(connection, segment_mark(number), marks.get(old, 0))

    def _wanted(self) -> Iterator[tuple[int, str, int, int]]:
        """The blocks to take, by number, table and place: what is unsent, oldest first, then the newest; so many."""
        places = [
            (seq, table, page, at)
            for table in ("block", "hot")
            for seq, page, at in self.pages.places(table)
            if 0 < seq <= self._begin_seq
        ]
        unsent = sorted(place for place in places if self._acked is not None and place[0] > self._acked)
        others = sorted(set(places) - set(unsent), reverse=True)
        total = 0
        for place in (*unsent, *others):
            if total < MAX_BYTES:
                total += self.pages.size_at(*place[2:])
                yield place
            else:
                self.left += 1

    def _add_block(
        self, table: str, block: Row, encodings: Mapping[int, Encoding], connection: sqlite3.Connection
    ) -> None:
        place = _data_at(table)
        data, crc = block[place], block[place - 1]
        assert isinstance(data, bytes)  # noqa: S101 - it fits
        assert isinstance(crc, int)  # noqa: S101 - the same
        try:
            rows = read_block(data, crc)
        except BlockError:
            self.pages.unreadable += 1
            return
        if self._insert(connection, table, block):
            rollup.merge(connection, sealing.in_signal_order(rows), encodings)
            self.taken["blocks"] += 1
            self.rows += len(rows.ids)


class Recovery:
    """Takes what can be read of the evidence: ``begin`` before the store opens, ``go_on`` beside it."""

    def __init__(self, path: Path, salvage: Salvage, chunks: Iterator[Chunk]) -> None:
        self._path = path
        self._salvage = salvage
        self._chunks = chunks
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="store-recovery", daemon=True)
        self._writer: Writer
        self._told: Callable[[Event], Future[int]]
        self.done = False

    def hold(self, records: list[T]) -> list[T]:
        """Of what is to be sent: nothing new before all that is old is there, for the uplink goes by numbers."""
        first = self._salvage.first_new
        return records if self.done else [record for record in records if record.seq <= first]

    @property
    def rows(self) -> int:
        """Raw rows that were taken."""
        return self._salvage.rows

    def go_on(self, writer: Writer, tell: Callable[[Event], Future[int]], clock: Clock) -> None:
        """Take the rest, on a thread of its own and through the store's writer; and tell what was taken."""
        self._writer, self._told, self._clock = writer, tell, clock
        self._thread.start()

    def end(self) -> None:
        """Stop; the next start goes on."""
        self._stop.set()
        self._thread.join()
        self._salvage.pages.close()

    def _run(self) -> None:
        try:
            for chunk in self._chunks:
                self._writer.submit(partial(_done, chunk), records=True).result()
                if self._stop.is_set():
                    return
            self.done = True
            self._told(Event("store.recovered_from", self._clock.now_us(), "store", self._salvage.summary())).result()
            taken(self._path)
        except StoreError as error:
            _log.info("what can be read of %s waits for the next start: %s", self._salvage.evidence, error)
        except (OSError, *_UNREADABLE) as error:
            self.done = True
            _log.warning("can't take more from %s: %s", self._salvage.evidence, error)


def begin(path: Path, evidence: Path | None, connection: sqlite3.Connection, clock: Clock) -> Recovery | None:
    """Take what the store must have when it opens, and more for ``SOON_S``. Raises ``sqlite3.Error``: the new file."""
    if evidence is None:
        return None
    try:
        salvage = Salvage(evidence, Pages(evidence))
        salvage.begin(connection, clock.now_us())
        encodings = {signal.id: signal.encoding for signal in catalogues.load(connection).signals}
        chunks = salvage.chunks(encodings)
        until_s = clock.monotonic_s() + SOON_S
        for chunk in chunks:
            with transaction(connection):
                chunk(connection)
            if clock.monotonic_s() > until_s:
                break
    except (OSError, *_UNREADABLE) as error:
        _log.warning("can't take anything from %s: %s", evidence, error)
        return None
    return Recovery(path, salvage, chunks)


def _done(chunk: Chunk, connection: sqlite3.Connection) -> tuple[None, None]:
    chunk(connection)
    return None, None


def _add_all(
    add: Callable[[sqlite3.Connection, str, Row], bool], table: str, rows: Sequence[Row], connection: sqlite3.Connection
) -> None:
    for row in rows:
        add(connection, table, row)


def _data_at(table: str) -> int:
    """Where the bytes of a block stand among its columns; its checksum stands before them."""
    return 7 if table == "block" else 6


def _columns(connection: sqlite3.Connection, table: str) -> list[tuple[str, str, bool]]:
    """Name, type and whether it must be there, of each column."""
    return [(name, kind, bool(must)) for _, name, kind, must, _, _ in connection.execute(f"PRAGMA table_info({table})")]


def _fits(row: Row, columns: Sequence[tuple[str, str, bool]]) -> bool:
    """Whether the values are of the columns' types. Columns that were added later may be missing."""
    return bool(row) and all(
        _is_of(value, kind, must=must) for value, (_, kind, must) in zip(row, columns, strict=False)
    )


def _is_of(value: Value, kind: str, *, must: bool) -> bool:
    return not must if value is None else isinstance(value, _TYPES[kind])


def _is_signal(row: Row) -> bool:
    """Whether the catalogue can read it."""
    try:
        Kind(row[4]), Encoding(row[5])  # type: ignore[arg-type]
        return all(int(key) is not None for key in json.loads(str(row[8])))
    except (ValueError, TypeError, IndexError):
        return False
