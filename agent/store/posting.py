"""Rows that clients post: each (device, time) is stored once for ever, whoever repeats it, before or after a crash.

Rules of this file:

1. ``posted`` says for each device and minute at which µs of it there is a row. It is looked at and written in the
   transaction that stores the rows, so that a row is there with its mark or not at all.
2. It is forgotten with the age of raw readings. What is older than that is refused, for nobody could tell any more
   whether it was stored: the mark ``posted_cut_us`` only rises, also when the wall clock goes back.
3. The first row of a (device, time) stands. One that comes later is a duplicate, whatever it says.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import cast

import numpy as np
from numpy.typing import NDArray

from agent.core.model import Batch, Column
from agent.store.schema import get_mark, set_mark
from agent.store.transaction import transaction

MINUTE_US = 60_000_000
#: Rows of one device in one minute: a thousand each second.
MAX_PER_MINUTE = 60_000
CUT = "posted_cut_us"

Ints = NDArray[np.int64]

#: The units that offsets are counted in, by the first byte of their blob; clients mostly post whole seconds.
_UNITS = {ord("s"): 1_000_000, ord("m"): 1000, ord("u"): 1}
#: Bytes of each step between offsets, by the second byte.
_WIDTHS = {1: "<u1", 2: "<u2", 4: "<u4"}


class Fate(Enum):
    """What became of a posted row."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    TOO_OLD = "too_old"
    TOO_MANY = "too_many"  #: its device has ``MAX_PER_MINUTE`` rows in that minute


@dataclass(frozen=True, slots=True)
class Posting:
    """Rows as columns: row n is of ``devices[n]`` at ``times_us[n]`` and has ``counts[n]`` samples.

    Their signals' numbers and words stand in ``ids`` and ``words``, row by row.
    """

    devices: Sequence[str]
    times_us: Sequence[int]
    counts: Sequence[int]
    ids: Sequence[int]
    words: Sequence[int]

    def batch(self, fates: Sequence[Fate]) -> Batch:
        """The samples of the rows that are stored, by time."""
        stored = np.array([fate is Fate.STORED for fate in fates], np.bool_)
        counts = np.array(self.counts, np.int64)
        chosen = np.repeat(stored, counts)
        times = np.repeat(np.array(self.times_us, np.int64), counts)[chosen]
        ids, words = np.array(self.ids, np.int32)[chosen], np.array(self.words, np.int64)[chosen]
        order = np.argsort(times, kind="stable")
        ids, times, words = ids[order], times[order], words[order]
        return Batch(cast("Column", ids), cast("Column", times), cast("Column", words))


def take_in(connection: sqlite3.Connection, rows: Posting) -> tuple[Sequence[Fate], None, Batch]:
    """What becomes of each row, and the samples to store: inside the caller's transaction."""
    cut_us = get_mark(connection, CUT)
    fates = [Fate.TOO_OLD] * len(rows.times_us)
    minutes: dict[tuple[str, int], list[int]] = {}
    for place, (device, t_us) in enumerate(zip(rows.devices, rows.times_us, strict=True)):
        if t_us >= cut_us:
            minutes.setdefault((device, t_us // MINUTE_US), []).append(place)
    for (device, minute), places in sorted(minutes.items()):
        known = _known(connection, device, minute)
        before = len(known)
        for place in places:
            offset = rows.times_us[place] % MINUTE_US
            if offset in known:
                fates[place] = Fate.DUPLICATE
            elif len(known) >= MAX_PER_MINUTE:
                fates[place] = Fate.TOO_MANY
            else:
                known.add(offset)
                fates[place] = Fate.STORED
        if len(known) > before:
            connection.execute("INSERT OR REPLACE INTO posted VALUES(?, ?, ?)", (device, minute, pack(sorted(known))))
    return fates, None, rows.batch(fates)


def _known(connection: sqlite3.Connection, device: str, minute: int) -> set[int]:
    """The offsets of a minute. Where they are damaged it begins anew: rows stored twice, rather than none any more."""
    key = (device, minute)
    row = connection.execute("SELECT offsets FROM posted WHERE device = ? AND minute = ?", key).fetchone()
    try:
        return set() if row is None else set(unpack(row[0]).tolist())
    except ValueError:
        connection.execute("DELETE FROM posted WHERE device = ? AND minute = ?", key)
        return set()


def newest_us(connection: sqlite3.Connection, device: str) -> int | None:
    """The newest time for which a row of that device is stored."""
    row = connection.execute(
        "SELECT minute, offsets FROM posted WHERE device = ? ORDER BY minute DESC LIMIT 1", (device,)
    ).fetchone()
    try:
        return None if row is None else int(row[0]) * MINUTE_US + int(unpack(row[1])[-1])
    except ValueError:  # damaged: the next row of that minute tells again
        return None


def prune(connection: sqlite3.Connection, cut_us: int) -> Iterator[None]:
    """Forget the rows of minutes that ended before ``cut_us``, in steps of a device, each a transaction."""
    cut = cut_us // MINUTE_US
    with transaction(connection):
        set_mark(connection, CUT, max(get_mark(connection, CUT), cut * MINUTE_US))
    yield
    device = ""
    while True:
        (device,) = connection.execute("SELECT min(device) FROM posted WHERE device > ?", (device,)).fetchone()
        if device is None:
            return
        with transaction(connection):
            connection.execute("DELETE FROM posted WHERE device = ? AND minute < ?", (device, cut))
        yield


def pack(offsets: Sequence[int]) -> bytes:
    """µs within a minute, ascending and each once, as a blob: unit, width, then the first one and the steps."""
    column = np.array(offsets, np.int64)
    code, unit = next((code, unit) for code, unit in _UNITS.items() if not (column % unit).any())
    steps = np.diff(column // unit, prepend=0)
    width = next(width for width in _WIDTHS if steps.max() < 1 << (8 * width))
    return bytes((code, width)) + steps.astype(_WIDTHS[width]).tobytes()


def unpack(blob: bytes) -> Ints:
    """What ``pack`` was given. Raises ``ValueError`` on a damaged blob."""
    if len(blob) <= 2 or blob[0] not in _UNITS or blob[1] not in _WIDTHS:  # noqa: PLR2004 - unit and width
        raise ValueError("the note of posted rows is damaged")
    steps = np.frombuffer(blob, _WIDTHS[blob[1]], offset=2).astype(np.int64)
    return np.cumsum(steps) * _UNITS[blob[0]]
