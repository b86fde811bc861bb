"""Verifying the ledger by its chain: what was edited, removed, inserted, reordered or cut off, and where first.

Rules of this file:

1. An event that does not fit its hash and the hash before it is found, whatever was done. What it is called (edited,
   inserted …) is said of the first one only, from what its neighbours tell.
2. One edited event is one fault: those behind it are checked against what its hash is and against what it should be.
3. An event that was set aside because it could not be read is a fault as well: what it said is not what was written.
   The gateway has told of it in the chain, with its hash, so those behind it can be checked.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agent.core.errors import StoreError
from agent.store import chain
from agent.store.opening import connect
from agent.store.reading import require
from agent.store.schema import APPLICATION_ID, NUMBERS_FROM, get_mark, version

#: The step of the schema that brought the chain.
_CHAIN_VERSION = 3
#: So many faults are kept to be told; all are counted.
MAX_FAULTS = 20
_LAST = 2**63 - 1
#: How far it is, is told behind so many events.
TELL_EVERY = 1000

_SELECT = """SELECT event.seq, boot.boot, event.t_us, event.kind, event.subject, event.data, event.hash
    FROM event LEFT JOIN boot ON boot.id = event.boot"""


@dataclass(frozen=True, slots=True)
class Row:
    """An event as it stands in the file. ``sound``: its fields are of the types that were written."""

    seq: int
    boot: str
    t_us: int
    kind: str
    subject: str
    data: str
    hash: bytes | None
    sound: bool = True

    def follows(self, before: bytes) -> bool:
        """Whether its hash is that of itself behind that one."""
        return self.sound and self.hash is not None and self.link(before) == self.hash

    def link(self, before: bytes) -> bytes:
        """The hash that it should have behind that one. Only of a sound row."""
        return chain.hash_of(before, self.seq, self.boot, self.t_us, self.kind, self.subject, self.data)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong. ``what``: edited, removed, inserted, reordered, cut off, set aside or chain."""

    seq: int
    what: str
    text: str


@dataclass(slots=True)
class Report:
    """What verification found. ``faults``: the first ones, in the order of the ledger."""

    rows: int = 0  #: events that were checked
    uncovered: int = 0  #: events from before the chain
    first_seq: int | None = None
    last_seq: int | None = None
    last_hash: bytes = b""
    faults: list[Fault] = field(default_factory=list)
    fault_count: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.fault_count

    def add(self, seq: int, what: str, text: str) -> None:
        """Count a fault, and keep it while there are few."""
        self.fault_count += 1
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(Fault(seq, what, text))


@contextmanager
def open_ledger(path: Path) -> Iterator[sqlite3.Connection]:
    """A read-only look at the ledger as of now: safe beside a running gateway.

    Raises ``StoreError``: it can't be read, or has no chain.
    """
    op = f"read {path}"
    require(path, op)
    try:
        with closing(connect(path, read_only=True)) as connection:
            # Damaged letters count as what they are, not as one and the same sign.
            connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
            connection.execute("BEGIN")
            application_id: int = connection.execute("PRAGMA application_id").fetchone()[0]
            if application_id != APPLICATION_ID:
                reason = "it is an SQLite database, but none of Enlace"
                raise StoreError(
                    op, reason, f"is it the file that you meant? its application id is {application_id:#x}"
                )
            if version(connection) < _CHAIN_VERSION:
                hint = "start the gateway once: from then on each event is chained"
                raise StoreError(op, "an older Enlace wrote it, its ledger has no chain", hint)
            yield connection
    except sqlite3.Error as error:
        raise StoreError(op, str(error), "is it a store of Enlace, and may this user read it?") from error


def row_of(values: Sequence[Any]) -> Row:
    """An event of its columns seq, boot, t_us, kind, subject, data and hash, whatever they hold."""
    seq, boot, t_us, kind, subject, data, digest = values
    known = "" if boot is None else boot
    sound = isinstance(t_us, int) and all(isinstance(text, str) for text in (known, kind, subject, data))
    return Row(seq, known, t_us, kind, subject, data, digest if isinstance(digest, bytes) and digest else None, sound)


def verify(path: Path, tell: Callable[[int, int], None] | None = None) -> Report:
    """Check the whole ledger. ``tell``: how many events are checked, of how many. Raises ``StoreError``."""
    with open_ledger(path) as connection:
        report = Report()
        told_to = _told_to(connection, tell)
        start, head = chain.read_start(connection), chain.read_head(connection)
        if start is None:
            report.add(0, "chain", "the record of where the chain begins is gone or damaged")
            return report
        told = told_aside(connection)
        # A new file's numbers begin behind this mark, so that the first event's is known.
        begin = max(start.seq, get_mark(connection, NUMBERS_FROM))
        older = chain.older(connection)
        if older:
            _check_older(connection, older, begin, told, report, told_to)
        else:
            _check_uncovered(connection, start, told, report)
        span = (begin if older else start.seq, _LAST)
        _walk(connection, span, Walk(begin, start.hash, told, report), head, told_to)
        told_to(report.rows)
        return report


def _told_to(connection: sqlite3.Connection, tell: Callable[[int, int], None] | None) -> Callable[[int], None]:
    """Is given the number of events that are checked; to be called as often as one likes."""
    if tell is None:
        return lambda rows: None  # noqa: ARG005 - told to nobody
    every = _count(connection, -_LAST, _LAST)
    return lambda rows: tell(rows, every)


def _check_older(
    connection: sqlite3.Connection,
    older: Sequence[tuple[int, int, chain.Start, chain.Head | None]],
    begin: int,
    told: Mapping[int, bytes],
    report: Report,
    told_to: Callable[[int], None],
) -> None:
    """The ledgers that were taken over from damaged files: each has its own chain, and nothing stands between them."""
    report.uncovered = _count(connection, 0, older[0][2].seq)
    # Up to where the next one begins, not to its own head: what a lost head does not know stands behind it.
    ends = [*(first for _, first, _, _ in older[1:]), begin]
    for (_, first, start, head), end in zip(older, ends, strict=True):
        _walk(connection, (first, end), Walk(first, start.hash, told, report), head, told_to)
    covered = report.uncovered + _count(connection, older[0][1], begin)
    if strangers := _count(connection, -_LAST, begin) - covered:
        report.add(begin, "inserted", f"{_events(strangers)} in none of the chains that were taken over")


def _walk(
    connection: sqlite3.Connection,
    span: tuple[int, int],
    walk: "Walk",
    head: chain.Head | None,
    told_to: Callable[[int], None],
) -> None:
    """Check the events above the first number and up to the second."""
    query = f"{_SELECT} WHERE event.seq > ? AND event.seq <= ? ORDER BY event.seq"
    for values in connection.execute(query, span):
        walk.step(row_of(values))
        if walk.rows % TELL_EVERY == 0:
            told_to(walk.rows)
    walk.end(head)


def _count(connection: sqlite3.Connection, above: int, upto: int) -> int:
    """How many events have numbers above the one and up to the other."""
    query = "SELECT count(*) FROM event WHERE seq > ? AND seq <= ?"
    (count,) = connection.execute(query, (above, upto)).fetchone()
    return int(count)


def told_aside(connection: sqlite3.Connection) -> dict[int, bytes]:
    """The hashes of the events that the gateway has set aside, as it told in the ledger."""
    told: dict[int, bytes] = {}
    for (text,) in connection.execute("SELECT data FROM event WHERE kind = 'store.row_set_aside'"):
        try:
            data = json.loads(text)
            if data.get("stream") == "event":
                told[int(data["seq"])] = bytes.fromhex(data.get("hash", ""))
        except (ValueError, TypeError, KeyError, AttributeError):
            continue  # it is no explanation then, and its own hash tells that it was changed
    return told


def _check_uncovered(
    connection: sqlite3.Connection, start: chain.Start, told: Mapping[int, bytes], report: Report
) -> None:
    """Of events from before the chain only the number is known."""
    (report.uncovered,) = connection.execute("SELECT count(*) FROM event WHERE seq <= ?", (start.seq,)).fetchone()
    expected = start.rows - sum(seq <= start.seq for seq in told)
    if report.uncovered != expected:
        what = "removed" if report.uncovered < expected else "inserted"
        text = f"{report.uncovered} events stand before the beginning of the chain, it began behind {expected}"
        report.add(start.seq, what, text)


class Walk:
    """Checks events in their order. ``last_seq`` and ``before``: number and hash of what stands before the first one.

    ``told``: hashes of events that are not there any more, as the chain itself tells.
    """

    def __init__(self, last_seq: int, before: bytes, told: Mapping[int, bytes], report: Report) -> None:
        self._last_seq = last_seq
        self._befores: tuple[bytes, ...] = (before,)  # any of them may stand before the next event
        self._told = told
        self._report = report
        self._bad: list[tuple[int, Row, bytes]] = []  # the first ones: place in the faults, row, hash before
        self._next: list[Row] = []  # the row behind the first bad one

    @property
    def rows(self) -> int:
        """How many events were checked, those of other chains included."""
        return self._report.rows

    def step(self, row: Row) -> None:
        """The next event."""
        report = self._report
        report.rows += 1
        report.first_seq = row.seq if report.first_seq is None else report.first_seq
        report.last_seq, report.last_hash = row.seq, row.hash or b""
        if self._bad and not self._next:
            self._next.append(row)
        gap = self._gap(row.seq)
        if any(row.follows(before) for before in self._befores) or (not gap and self._is_explained(row)):
            self._befores = (row.hash or b"",)
        elif gap:
            report.add(self._last_seq + 1, "removed", f"{_events(gap)} missing before this number: {row.seq}")
            # Its own hash can't be checked without the one before; those behind it are checked against it.
            self._befores = (row.hash or b"", *self._befores)
        else:
            self._reject(row)
        self._last_seq = row.seq

    def end(self, head: chain.Head | None) -> None:
        """No more events follow: the last one should be the newest that was written."""
        report = self._report
        if head is None:
            if report.rows:
                report.add(self._last_seq, "chain", "the record of the newest event is gone or damaged")
        elif head.seq < self._last_seq:
            report.add(head.seq + 1, "inserted", f"the newest event that was written is {head.seq}")
        elif gap := self._gap(head.seq + 1):
            report.add(self._last_seq + 1, "cut off", f"{_events(gap)} missing at the end, the newest is {head.seq}")
        elif head.hash not in (*self._befores, self._told.get(head.seq)):
            report.add(head.seq, "edited", "the newest event is not the one that was written")
        self._classify(head)

    def _gap(self, seq: int) -> int:
        """How many events are missing before that number without an explanation; those with one are told once."""
        missing = seq - self._last_seq - 1
        if missing <= 0:
            return 0
        aside = [one for one in self._told if self._last_seq < one < seq]
        for one in aside:
            self._report.add(one, "set aside", "it could not be read, and stands among the damaged rows as evidence")
        return missing - len(aside)

    def _is_explained(self, row: Row) -> bool:
        """Whether the event before was set aside, and this one stood behind it. One without a hash proves nothing."""
        told = self._told.get(row.seq - 1) if row.seq - 1 > self._last_seq else None
        return told is not None and (not told or row.follows(told))

    def _reject(self, row: Row) -> None:
        before = self._befores[0]
        if len(self._bad) < MAX_FAULTS:
            self._bad.append((len(self._report.faults), row, before))
        self._report.add(row.seq, "edited", _about(row))
        should_be = (row.link(before),) if row.sound else ()
        # The last: what would stand before the next one if this one had never been there.
        self._befores = (row.hash or b"", *should_be, before)

    def _classify(self, head: chain.Head | None) -> None:
        """Say of the first bad event what was done, where its neighbours tell."""
        if not self._bad:
            return
        place, row, before = self._bad[0]
        what = "inserted" if head is not None and row.seq > head.seq else self._what(row, before)
        if place < len(self._report.faults):
            self._report.faults[place] = replace(self._report.faults[place], what=what)

    def _what(self, row: Row, before: bytes) -> str:
        others = [other for _, other, _ in self._bad[1:]]
        if row.hash is None or row.hash in [other.hash for other in others]:
            return "inserted"  # what the gateway writes has a hash, and one of its own
        hashes = {one for _, bad, behind in self._bad for one in (bad.hash, behind) if one is not None}
        if any(replace(row, seq=other.seq).follows(one) for other in others for one in hashes):
            return "reordered"
        behind = self._next[0] if self._next else None
        if behind is not None and (behind.follows(before) or replace(behind, seq=row.seq).follows(before)):
            return "inserted"
        if behind is not None and replace(behind, seq=behind.seq + 1).follows(row.hash):
            return "removed"  # and those behind it renumbered
        return "edited"


def _events(count: int) -> str:
    return "1 event is" if count == 1 else f"{count} events are"


def _about(row: Row) -> str:
    return f"{row.kind!s} {row.subject!s}".strip()
