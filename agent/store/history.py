"""Reading back: charts with minima and maxima kept, and every row for exports.

Rules of this file:

1. A row is counted once. Roll-ups hold the rows of blocks up to the mark ``rolled_seq``; those of later blocks are
   summed up by minute in memory (``tail.py``), and read from the blocks where the range cuts a minute. Where raw blocks
   were dropped (before the mark ``raw_cut_us``), roll-ups stand in.
2. A short range is read from blocks, a longer one from 1 min, a long one from 1 h roll-ups, whichever is not coarser
   than the points asked for. Few rows are given as they are, whatever the range.
3. Of late rows (wall time went back), ``last`` is the last to arrive of the newest minute or hour that was rolled up.
4. What was stored while the clock was not set (``boots.py``) is in no roll-up: a short range shows it as it stands.
5. What a signal said about being unknown stays visible: a point without a value, a bucket with ``gap``.
6. All of one answer is read in one transaction, exports aside: their hot blocks are; of the sealed
   ones rows may go meanwhile.
"""

import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.core.blocks import BlockError
from agent.core.model import Encoding, Number, Signal
from agent.store import boots, telemetry
from agent.store.buckets import Bucket, Pieces, buckets_of, join, pieces_of, points_of
from agent.store.catalogue import Catalogue
from agent.store.readers import Readers
from agent.store.rollup import HOUR_US, LEVELS, MINUTE_US
from agent.store.schema import get_mark
from agent.store.tail import GOOD, Tail
from agent.store.tail import Bucket as Minute
from agent.store.unpack import Rows, concatenate

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
#: Signals -> their buckets, by minute.
Minutes = Callable[[Sequence[int]], Mapping[int, Mapping[int, Minute]]]

__all__ = ["Bucket", "History", "Series"]

MAX_POINTS = 100_000
#: A range of more blocks than this is not searched for the few rows that it may hold.
_SPARSE_BLOCKS = 200
_NEWEST = f"SELECT max(to_us) FROM hot WHERE seq > ? AND {GOOD}"  # noqa: S608 - our own words
_CUT = f"""SELECT seq, boot, crc, data, clock FROM hot WHERE seq > ? AND from_us < ? AND to_us >= ?
    AND NOT (from_us >= ? AND to_us < ?) AND {GOOD} ORDER BY seq"""  # noqa: S608 - as above


@dataclass(frozen=True, slots=True)
class Series:
    """The history of one signal: where most was read (``raw``, ``minute``, ``hour``) and its buckets by time."""

    signal: Signal
    level: str
    buckets: list[Bucket]


class History:
    """Reads for charts and exports, from any thread. ``damaged`` is told of (table, seq, reason) of a bad block."""

    def __init__(
        self, readers: Readers, catalogue: Callable[[], Catalogue], damaged: Callable[[str, int, str], None], tail: Tail
    ) -> None:
        self._readers = readers
        self._catalogue = catalogue
        self._damaged = damaged
        self._tail = tail

    def history(self, signal_ids: Sequence[int], from_us: int, to_us: int, points: int) -> list[Series]:
        """One series for each known id, rows with ``from_us`` <= time < ``to_us``, in at most about ``points`` buckets.

        Raises ``ValueError`` on an empty range or a number of points that is not 1 to ``MAX_POINTS``, ``StoreError``.
        """
        if from_us >= to_us or not 0 < points <= MAX_POINTS:
            raise ValueError(f"need from < to and 1 to {MAX_POINTS} points")
        catalogue = self._catalogue()
        signals = [signal for signal_id in signal_ids if (signal := catalogue.find(signal_id)) is not None]
        width_us = -(-(to_us - from_us) // points)
        with self._readers.snapshot() as connection:
            query = _Query(connection, from_us, to_us, self._damaged)
            return query.series(
                signals, width_us, points, lambda ids: self._tail.minutes(connection, catalogue, ids, to_us)
            )

    def rows(self, signal_ids: Sequence[int], from_us: int, to_us: int) -> Iterator[tuple[int, int, Number | None]]:
        """Every row of these signals as (µs UTC, signal id, physical value or None), block by block, by time in each.

        Rows come in order of arrival as far as blocks go; rows of dropped blocks are gone. Raises ``StoreError``.
        """
        catalogue = self._catalogue()
        signals = {signal_id: signal for signal_id in signal_ids if (signal := catalogue.find(signal_id)) is not None}
        with self._readers.snapshot() as connection:
            query = _Query(connection, from_us, to_us, self._damaged)
            sealed = query.sealed_seqs()
            hot = dict(query.hot_rows(signals))
        for seq in sorted([*sealed, *hot]):
            rows = hot.get(seq)
            if rows is None:
                with self._readers.snapshot() as connection:
                    rows = _Query(connection, from_us, to_us, self._damaged).sealed_rows(seq, signals)
            if rows is not None and len(rows):
                yield from _physical_rows(rows, signals)


class _Query:
    """One range inside one read transaction."""

    def __init__(
        self, connection: sqlite3.Connection, from_us: int, to_us: int, damaged: Callable[[str, int, str], None]
    ) -> None:
        self._connection = connection
        self._from_us = from_us
        self._to_us = to_us
        self._damaged = damaged
        self._rolled_seq = get_mark(connection, "rolled_seq")

    def series(self, signals: Sequence[Signal], width_us: int, points: int, minutes: Minutes) -> list[Series]:
        """The answer. ``minutes``: what no roll-up holds yet of these signals."""
        level = "raw" if width_us < MINUTE_US else "minute" if width_us < HOUR_US else "hour"
        rolled: dict[int, Pieces] = {}
        sparse: set[int] = set()
        blocks = self.sealed_seqs()
        if level != "raw":
            rolled = {signal.id: self._rolled(signal.id, level) for signal in signals}
            if len(blocks) <= _SPARSE_BLOCKS and self._from_us >= self._raw_from_us():
                sparse = {key for key, pieces in rolled.items() if (pieces.count + pieces.gaps).sum() <= points}
        raw_ids = {signal.id for signal in signals} if level == "raw" else sparse
        raw = self._raw(raw_ids, blocks) if raw_ids else None
        tail_ids = [signal.id for signal in signals if signal.id not in raw_ids]
        tail = minutes(tail_ids) if tail_ids else {}
        inner = self._inner_minutes() if tail else range(0)
        cut = self._cut(tail_ids, inner) if tail else None
        result: list[Series] = []
        for signal in signals:
            if signal.id in raw_ids:
                result.append(self._from_raw(signal, raw, width_us, points))
            else:
                late = join(_inside(tail.get(signal.id, {}), inner), pieces_of(_of(cut, signal.id), signal.encoding))
                pieces = join(rolled[signal.id], late).by(LEVELS[level])
                result.append(Series(signal, level, buckets_of(signal, pieces, self._from_us, width_us)))
        return result

    def sealed_seqs(self) -> list[int]:
        """The numbers of the sealed blocks that touch the range."""
        found = self._connection.execute(
            "SELECT seq FROM block INDEXED BY block_time WHERE from_us < ? AND to_us >= ? ORDER BY seq",
            (self._to_us, self._from_us),
        )
        return [seq for (seq,) in found]

    def sealed_rows(self, seq: int, signals: Collection[int]) -> Rows | None:
        """The rows of a sealed block that lie in the range; None when it is gone or damaged."""
        found = self._connection.execute("SELECT boot, crc, data, clock FROM block WHERE seq = ?", (seq,)).fetchone()
        return self._read("block", seq, found, signals) if found else None

    def hot_rows(self, signals: Collection[int], after_seq: int = 0) -> Iterator[tuple[int, Rows]]:
        """The rows of each hot block that touches the range."""
        found = self._connection.execute(
            "SELECT seq, boot, crc, data, clock FROM hot WHERE seq > ? AND from_us < ? AND to_us >= ? ORDER BY seq",
            (after_seq, self._to_us, self._from_us),
        )
        for seq, *stored in found:
            rows = self._read("hot", seq, stored, signals)
            if rows is not None:
                yield seq, rows

    def _read(self, table: str, seq: int, stored: Sequence[Any], signals: Collection[int]) -> Rows | None:
        boot, crc, data, mark = stored
        try:
            rows = telemetry.read_block(data, crc, signals)
        except BlockError as error:
            self._damaged(table, seq, str(error))
            return None
        correction = boots.correction(self._connection, boot) if mark == boots.ROLLED else None
        if correction is not None:
            rows = correction.rows(rows)
        inside = (rows.times_us >= self._from_us) & (rows.times_us < self._to_us)
        if inside.all():
            return rows
        return Rows(rows.ids[inside], rows.times_us[inside], rows.words[inside], rows.invalid[inside])

    def _raw(self, ids: Collection[int], blocks: Sequence[int]) -> Rows | None:
        """All raw rows of the range, in order of arrival for each signal."""
        numbered = [(seq, rows) for seq in blocks if (rows := self.sealed_rows(seq, ids)) is not None]
        numbered += self.hot_rows(ids)
        return _in_order(numbered)

    def _inner_minutes(self) -> range:
        """The minutes whose rows that no roll-up holds yet all lie in the range."""
        newest = self._connection.execute(_NEWEST, (self._rolled_seq,)).fetchone()[0]
        to_us = self._to_us + MINUTE_US if newest is not None and newest < self._to_us else self._to_us
        return range(-(-self._from_us // MINUTE_US), to_us // MINUTE_US)

    def _cut(self, ids: Collection[int], inner: range) -> Rows | None:
        """The rows that no roll-up holds yet and that lie in the other minutes, which the range cuts."""
        inner_us = range(inner.start * MINUTE_US, inner.stop * MINUTE_US)
        numbered = []
        for seq, *stored in self._connection.execute(
            _CUT, (self._rolled_seq, self._to_us, self._from_us, inner_us.start, inner_us.stop)
        ):
            rows = self._read("hot", seq, stored, ids)
            if rows is not None:
                numbered.append((seq, _but(rows, inner_us)))
        return _in_order(numbered)

    def _raw_from_us(self) -> int:
        """From here on all raw rows are there; the whole minute before it is taken from the roll-ups."""
        return -(-get_mark(self._connection, "raw_cut_us") // MINUTE_US) * MINUTE_US

    def _from_raw(self, signal: Signal, raw: Rows | None, width_us: int, points: int) -> Series:
        rows = _of(raw, signal.id)
        cut_us = self._raw_from_us()
        if self._from_us < cut_us:
            old = self._rolled(signal.id, "minute", cut_us)
            late = None if rows is None else _after(rows, cut_us)
            pieces = join(old, pieces_of(late, signal.encoding)).by(MINUTE_US)
            return Series(signal, "raw", buckets_of(signal, pieces, self._from_us, max(width_us, MINUTE_US)))
        if rows is not None and len(rows) <= points:
            return Series(signal, "raw", points_of(signal, rows))
        return Series(signal, "raw", buckets_of(signal, pieces_of(rows, signal.encoding), self._from_us, width_us))

    def _rolled(self, signal_id: int, level: str, to_us: int | None = None) -> Pieces:
        """Roll-ups of the range that begin before ``to_us``; where 1 min ones were dropped, 1 h ones stand in."""
        to_us = self._to_us if to_us is None else min(to_us, self._to_us)
        if level == "minute":
            cut_us = -(-get_mark(self._connection, "minute_cut_us") // HOUR_US) * HOUR_US
            if self._from_us < cut_us:
                hours = self._select(signal_id, "hour", self._from_us, min(cut_us, to_us))
                return join(hours, self._select(signal_id, "minute", cut_us, to_us))
        return self._select(signal_id, level, self._from_us, to_us)

    def _select(self, signal_id: int, level: str, from_us: int, to_us: int) -> Pieces:
        width_us = LEVELS[level]
        # The bucket that the range begins in belongs to it: its rows can't be told apart any more.
        found = self._connection.execute(
            f"SELECT t, lo, hi, sum, last, count, gaps FROM {level} WHERE signal = ? AND t >= ? AND t < ? ORDER BY t",  # noqa: S608 - one of our tables
            (signal_id, from_us // width_us, -(-to_us // width_us)),
        ).fetchall()
        columns: list[tuple[float | None, ...]] = list(zip(*found, strict=True)) if found else [()] * 7
        lo, hi, total, last = (np.array(column, np.float64) for column in columns[1:5])
        count, gaps = (np.array(column, np.int64) for column in columns[5:])
        return Pieces(np.maximum(np.array(columns[0], np.int64) * width_us, from_us), lo, hi, total, last, count, gaps)


def _in_order(numbered: list[tuple[int, Rows]]) -> Rows | None:
    numbered.sort(key=lambda item: item[0])
    return concatenate([rows for _, rows in numbered]) if numbered else None


def _of(rows: Rows | None, signal_id: int) -> Rows | None:
    if rows is None:
        return None
    mine = rows.ids == signal_id
    return Rows(rows.ids[mine], rows.times_us[mine], rows.words[mine], rows.invalid[mine])


def _but(rows: Rows, times_us: range) -> Rows:
    """The rows of other times."""
    other = (rows.times_us < times_us.start) | (rows.times_us >= times_us.stop)
    return Rows(rows.ids[other], rows.times_us[other], rows.words[other], rows.invalid[other])


def _inside(minutes: Mapping[int, Minute], inner: range) -> Pieces:
    """Buckets of these minutes as pieces."""
    found = [minutes[minute] for minute in sorted(minutes) if minute in inner]
    if not found:
        return pieces_of(None, Encoding.INT)
    t, lo, hi, total, last, count, gaps = np.array(found, np.float64).T
    times = t.astype(np.int64) * MINUTE_US
    return Pieces(times, lo, hi, total, last, count.astype(np.int64), gaps.astype(np.int64))


def _after(rows: Rows, cut_us: int) -> Rows:
    late = rows.times_us >= cut_us
    return Rows(rows.ids[late], rows.times_us[late], rows.words[late], rows.invalid[late])


def _physical_rows(rows: Rows, signals: dict[int, Signal]) -> Iterator[tuple[int, int, Number | None]]:
    order = np.argsort(rows.times_us, kind="stable")
    columns = (
        rows.times_us[order].tolist(),
        rows.ids[order].tolist(),
        rows.words[order].tolist(),
        rows.invalid[order].tolist(),
    )
    for t_us, signal_id, word, invalid in zip(*columns, strict=True):
        yield t_us, signal_id, None if invalid else signals[signal_id].physical(word)
