"""Signals and their numbers: given once, kept for ever, durable before anybody hears of them."""

import json
import sqlite3
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent.core.model import Encoding, Kind, Number, Signal, SignalSpec
from agent.store.schema import SIGNALS_GIVEN, get_mark, set_mark

_COLUMNS = 'id, device, name, unit, kind, encoding, scale, "offset", labels, source, given'
_Row = tuple[int, str, str, str, str, int, Number, Number, str, str, int]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Every signal that ever was, as of one version. Immutable: the store holds the newest one."""

    version: int
    signals: tuple[Signal, ...]  #: by id
    given: tuple[int, ...]  #: for each of the signals: rises with each assignment of a meaning to a name

    def find(self, signal_id: int) -> Signal | None:
        """The signal of that number."""
        place = bisect_left(self.signals, signal_id, key=lambda signal: signal.id)
        found = self.signals[place : place + 1]
        return found[0] if found and found[0].id == signal_id else None

    def ids_of(self, device: str, name: str) -> list[int]:
        """The numbers that a name has had, the one of its newest meaning last."""
        found = [
            (given, signal.id)
            for signal, given in zip(self.signals, self.given, strict=True)
            if signal.device == device and signal.name == name
        ]
        return [signal_id for _, signal_id in sorted(found)]


def load(connection: sqlite3.Connection) -> Catalogue:
    """The catalogue as it is stored. Raises ``sqlite3.Error``."""
    rows: list[_Row] = connection.execute(f"SELECT {_COLUMNS} FROM signal ORDER BY id").fetchall()  # noqa: S608 - our own column list
    signals = tuple(_signal(row) for row in rows)
    return Catalogue(get_mark(connection, "catalog_version"), signals, tuple(row[-1] for row in rows))


def brought_up(known: Catalogue, connection: sqlite3.Connection) -> Catalogue:
    """A former state of it with all that was given a meaning or changed since. Raises ``sqlite3.Error``.

    A site's chargers name their signals one after the other: reading all of them anew each time took seconds.
    """
    version = get_mark(connection, "catalog_version")
    if version == known.version:
        return known
    query = f"SELECT {_COLUMNS} FROM signal WHERE given > ? ORDER BY id"  # noqa: S608 - our own column list
    rows: list[_Row] = connection.execute(query, (known.version,)).fetchall()
    signals, given = list(known.signals), list(known.given)
    for row in rows:
        place = bisect_left(signals, row[0], key=lambda signal: signal.id)
        # An empty slice at the end appends.
        signals[place : place + 1], given[place : place + 1] = [_signal(row)], [row[-1]]
    return Catalogue(version, tuple(signals), tuple(given))


def assign(connection: sqlite3.Connection, specs: Sequence[SignalSpec]) -> list[int]:
    """Numbers for these meanings, inside the caller's transaction; the version rises when anything changed."""
    version = get_mark(connection, "catalog_version") + 1
    changed = False
    ids: list[int] = []
    for spec in specs:
        labels = json.dumps({str(value): text for value, text in sorted(spec.labels.items())}, ensure_ascii=False)
        meaning = (spec.device, spec.name, spec.unit, spec.kind.value, int(spec.encoding), spec.scale, spec.offset)
        known = connection.execute(
            """SELECT id, labels, source, given = (SELECT max(given) FROM signal WHERE device = ? AND name = ?)
                FROM signal WHERE device = ? AND name = ? AND unit = ? AND kind = ? AND encoding = ?
                AND scale = ? AND "offset" = ?""",
            (*meaning[:2], *meaning),
        ).fetchone()
        if known is None:
            # Numbers are never reused, for no row is ever deleted here.
            number = 1 + max(newest_id(connection), get_mark(connection, SIGNALS_GIVEN))
            connection.execute(
                f"INSERT INTO signal({_COLUMNS}) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (number, *meaning, labels, spec.source, version),
            )
            ids.append(number)
            changed = True
            continue
        signal_id, old_labels, old_source, newest = known
        ids.append(signal_id)
        if (old_labels, old_source) != (labels, spec.source) or not newest:
            connection.execute(
                "UPDATE signal SET labels = ?, source = ?, given = ? WHERE id = ?",
                (labels, spec.source, version, signal_id),
            )
            changed = True
    if changed:
        set_mark(connection, "catalog_version", version)
    return ids


def newest_id(connection: sqlite3.Connection) -> int:
    """The highest number that stands in the catalogue; 0 before the first."""
    highest: int = connection.execute("SELECT ifnull(max(id), 0) FROM signal").fetchone()[0]
    return highest


def pick(catalogue: Catalogue, ids: Sequence[int], specs: Sequence[SignalSpec]) -> list[Signal]:
    """The signals of these numbers. Scale and offset are as given: 1 and 1.0 are one meaning but count differently."""
    picked: list[Signal] = []
    for signal_id, spec in zip(ids, specs, strict=True):
        signal = catalogue.find(signal_id)
        if signal is None:
            raise LookupError(f"signal {signal_id} is not in the catalogue")
        picked.append(replace(signal, scale=spec.scale, offset=spec.offset))
    return picked


def _signal(row: _Row) -> Signal:
    signal_id, device, name, unit, kind, encoding, scale, offset, labels, source, _ = row
    return Signal(
        device,
        name,
        unit,
        Kind(kind),
        Encoding(encoding),
        scale,
        offset,
        {int(value): text for value, text in json.loads(labels).items()},
        source,
        signal_id,
    )
