"""Exports of the ledger, and verifying one on its own: ``enlace audit export`` and ``enlace audit verify --file``.

Rules of this file:

1. A line of an export carries the event, its hash and the hash before it, so that each line can be verified, also when
   those between were left out. ``data`` is the JSON text as it is stored, for that is what was hashed.
2. The last line of a JSONL export says how many events it has, whether none between them was left out, and the SHA-256
   of all lines before it. Who keeps that number, or the hashes that the central server got, needs to trust nobody.
3. Rows are read in chunks, each in a transaction of its own: a slow reader does not hold up the store's upkeep.
"""

import csv
import hashlib
import io
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from agent.store import chain
from agent.store.audit import Report, Row, row_of, told_aside

CHUNK_ROWS = 500
COLUMNS = ("seq", "time", "t_us", "boot", "kind", "subject", "data", "prev", "hash")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

_SELECT = """SELECT event.seq, boot.boot, event.t_us, event.kind, event.subject, event.data, event.hash,
        (SELECT earlier.hash FROM event AS earlier WHERE earlier.seq < event.seq ORDER BY earlier.seq DESC LIMIT 1)
    FROM event LEFT JOIN boot ON boot.id = event.boot WHERE """

#: Gives a connection to read one chunk with.
Look = Callable[[], AbstractContextManager[sqlite3.Connection]]
#: An event, and the hash before it.
Linked = tuple[Row, bytes]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events: from ``from_us`` on and before ``to_us``, of kinds that begin so, about that subject."""

    from_us: int | None = None
    to_us: int | None = None
    kind: str = ""
    subject: str | None = None

    def where(self) -> tuple[str, list[object]]:
        """The condition in SQL, and its values."""
        texts, values = ["substr(event.kind, 1, ?) = ?"], [len(self.kind), self.kind]
        for text, value in (("t_us >= ?", self.from_us), ("t_us < ?", self.to_us), ("subject = ?", self.subject)):
            if value is not None:
                texts.append(f"event.{text}")
                values.append(value)
        return " AND ".join(texts), values


def page(connection: sqlite3.Connection, wanted: Wanted, limit: int, offset: int) -> tuple[int, list[Row]]:
    """How many such events there are, and one page of them, the newest first."""
    where, values = wanted.where()
    (total,) = connection.execute(f"SELECT count(*) FROM event WHERE {where}", values).fetchone()  # noqa: S608 - our own
    query = f"{_SELECT}{where} ORDER BY event.seq DESC LIMIT ? OFFSET ?"
    return total, [row_of(found[:7]) for found in connection.execute(query, [*values, limit, offset])]


def linked(look: Look, wanted: Wanted) -> Iterator[Linked]:
    """Such events, oldest first, as the ledger stands when it begins; each with the hash before it."""
    with look() as connection:
        start, told = chain.read_start(connection), told_aside(connection)
        (last_seq,) = connection.execute("SELECT ifnull(max(seq), 0) FROM event").fetchone()
    first = b"" if start is None else start.hash
    where, values = wanted.where()
    query = f"{_SELECT}{where} AND event.seq > ? AND event.seq <= ? ORDER BY event.seq LIMIT ?"
    after_seq = -(2**63)
    while True:
        with look() as connection:
            found = connection.execute(query, [*values, after_seq, last_seq, CHUNK_ROWS]).fetchall()
        for values_of_row in found:
            row, before = row_of(values_of_row[:7]), values_of_row[7]
            after_seq = row.seq
            # Behind an event that was set aside, as the gateway told.
            before = told.get(row.seq - 1) or (before if isinstance(before, bytes) else first)
            yield row, before
        if len(found) < CHUNK_ROWS:
            return


def to_jsonl(events: Iterable[Linked], wanted: Wanted, iso: Callable[[int], str]) -> Iterator[str]:
    """The lines of a JSONL export; the last one closes it."""
    digest, count = hashlib.sha256(), 0
    for row, before in events:
        line = _line(dict(zip(COLUMNS, _values(row, before, iso), strict=True)))
        digest.update(line.encode())
        count += 1
        yield line
    yield _line({"events": count, "whole": wanted == Wanted(), "sha256": digest.hexdigest()})


def to_csv(events: Iterable[Linked], iso: Callable[[int], str]) -> Iterator[str]:
    """The lines of a CSV export (RFC 4180). It can be read with any program, and not be verified on its own."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    yield text.getvalue()
    for row, before in events:
        text.seek(0)
        text.truncate()
        # Somebody's text must not be taken for a formula by who opens the file in a spreadsheet.
        writer.writerow(
            f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
            for value in _values(row, before, iso)
        )
        yield text.getvalue().encode("utf-8", "backslashreplace").decode()


def verify_lines(lines: Iterable[bytes]) -> Report:
    """Check a JSONL export, line by line, by nothing but itself."""
    report, digest, check = Report(), hashlib.sha256(), _Check()
    closed = False
    for number, line in enumerate(lines, 1):
        if closed:
            report.add(number, "inserted", f"line {number} stands behind the end of the export")
            continue
        try:
            document = json.loads(line)
        except ValueError:
            document = None
        if isinstance(document, dict) and "sha256" in document:
            closed = True
            if document.get("whole") and check.gap is not None:
                report.add(check.gap, "removed", f"events before number {check.gap} are missing")
            if document["sha256"] != digest.hexdigest() or document.get("events") != report.rows + report.uncovered:
                report.add(number, "edited", f"line {number}: the file as a whole is not the one that was exported")
            continue
        digest.update(line)
        check.line(number, document, report)
    if not closed:
        report.add(report.last_seq or 0, "cut off", "the line that closes the export is missing")
    return report


class _Check:
    """Checks the lines of an export in their order."""

    def __init__(self) -> None:
        self._last: Row | None = None
        self.gap: int | None = None  #: the first event that does not stand behind the one before it

    def line(self, number: int, document: object, report: Report) -> None:
        """The next line."""
        try:
            row, before = _read(document)
        except (KeyError, TypeError, ValueError):
            report.add(number, "edited", f"line {number} is no event of an export")
            return
        last, self._last = self._last, row
        if row.hash is None and not report.rows:
            report.uncovered += 1  # from before the chain
            return
        report.rows += 1
        report.first_seq = row.seq if report.first_seq is None else report.first_seq
        report.last_seq, report.last_hash = row.seq, row.hash or b""
        if not row.follows(before):
            report.add(row.seq, "edited", f"line {number}: {row.kind} {row.subject}".rstrip())
        elif last is not None and row.seq <= last.seq:
            report.add(row.seq, "reordered", f"line {number} stands behind number {last.seq}")
        elif last is not None and last.hash is not None and last.hash != before:
            if row.seq == last.seq + 1:
                report.add(row.seq, "edited", f"line {number} does not stand behind the one before it")
            elif self.gap is None:
                self.gap = row.seq


def _read(document: object) -> tuple[Row, bytes]:
    """The event of a line, and the hash before it. Raises on anything else."""
    if not isinstance(document, dict):
        raise TypeError("no object")
    names = ("seq", "boot", "t_us", "kind", "subject", "data")
    digest = bytes.fromhex(document["hash"])
    if not isinstance(document["seq"], int):
        raise TypeError("no number")
    return row_of([*(document[name] for name in names), digest]), bytes.fromhex(document["prev"])


def _values(row: Row, before: bytes, iso: Callable[[int], str]) -> tuple[object, ...]:
    """The columns of an event. What is damaged is shown as text, and does not fit its hash."""
    time = iso(row.t_us) if row.sound else ""
    texts = (row.t_us, row.boot, row.kind, row.subject, row.data)
    shown = texts if row.sound else tuple(map(str, texts))
    digest = "" if row.hash is None else row.hash.hex()
    return (row.seq, time, *shown, before.hex() if digest else "", digest)


def _line(document: dict[str, object]) -> str:
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    # Damaged letters become escapes, which JSON reads as what they were.
    return text.encode("utf-8", "backslashreplace").decode() + "\n"
