"""What goes next when the file is too large. The ledger, sessions, notes and maintenance never do.

Rules of this file, in this order, each oldest first:

1. What the central server confirmed; without an uplink nobody waits for anything, and all raw data counts as that.
   Roll-ups stay: their hours have the first and last value of each counter.
2. Of what was confirmed also 1 min roll-ups, those of the last day apart: else a file full of roll-ups of years would
   cost what has not been sent yet.
3. Of what surely was not sent: every second row of gauges; then all but their 1 min averages; then states; then all but
   the registers' first and last rows of each hour (``thinning.py``). A block keeps its numbers; one that has no rows
   left goes, and its numbers are a hole.
4. What may have been sent, whole: the same numbers carry the same rows, whoever has them by now. A backup, which is
   another process, says so at any moment: what rule 3 changes is looked at once more in the transaction.
5. 1 min roll-ups, then 1 h ones.
6. The rows of registers that rule 3 kept: the last of all.

What came since the pass rolled up is nobody's yet: rules 2 to 6 leave as much as it takes to the next pass, which may
find that rule 1 frees it.
"""

import sqlite3
from dataclasses import dataclass
from functools import cached_property

from agent.core.blocks import BlockError
from agent.core.model import Encoding, Kind
from agent.store import dropped, sealing, telemetry
from agent.store.dropping import CONFIRMED_US, Span, cut_charts, drop_blocks, drop_rolled, lose_block
from agent.store.pending import Drop
from agent.store.rollup import LEVELS
from agent.store.schema import COPIED, get_mark, set_mark
from agent.store.thinning import Level, Meaning, counts, thin
from agent.store.transaction import transaction
from agent.store.unpack import Rows

_CHUNK_BLOCKS = 500
_DAY_US = 86_400_000_000
#: Sessions that last longer are not looked for: their counters keep the rows of each hour in any case.
_LONG_SESSION_US = 30 * _DAY_US
#: What people at the site look at.
_RECENT_US = _DAY_US
_ALL = 2**62

_REASONS = {
    Level.HALF: "unsent_half",
    Level.MINUTES: "unsent_minutes",
    Level.NO_STATES: "unsent_states",
    Level.REGISTERS: "unsent_raw",
}
_SPAN = """SELECT '{table}', seq, {first}, from_us, to_us, rows, length(data) FROM {table}
    WHERE seq > ? AND seq <= ? {where} ORDER BY seq LIMIT ?"""
_NEXT = """SELECT block.seq, first_seq, from_us, to_us, rows, crc, data FROM block INDEXED BY block_level
    WHERE level = ? AND block.seq > ? AND block.seq <= ? ORDER BY block.seq LIMIT 1"""
_SESSIONS = """SELECT device, start_us, ifnull(stop_us, start_us) FROM session
    WHERE start_us BETWEEN ? AND ? AND (start_us >= ? OR stop_us BETWEEN ? AND ?)"""


@dataclass(frozen=True, slots=True)
class _Sent:
    """Up to where telemetry was confirmed, may have been sent, and was rolled up."""

    acked: int
    maybe: int
    rolled: int


class Quota:
    """One pass over a store that is too large, in steps that are a transaction each."""

    def __init__(self, connection: sqlite3.Connection, boot: int, now_us: int) -> None:
        self._connection = connection
        self._boot = boot
        self._now_us = now_us

    def free(self, bytes_: int) -> int | None:
        """Drop or thin what counts least: so many bytes at most, or a block; the raw rows that went.

        None when there is nothing left that may go. Raises ``sqlite3.Error``.
        """
        sent = self._sent()
        if (rows := self._confirmed(sent, bytes_)) is not None:
            return rows
        if bytes_ <= sealing.unrolled_bytes(self._connection):
            return None
        for step in (self._old_minutes, self._thinned, self._maybe_sent, self._rolled, self._registers):
            if (rows := step(sent, bytes_)) is not None:
                return rows
        return None

    def _sent(self) -> _Sent:
        row = self._connection.execute(
            "SELECT acked, sent, sending FROM cursor WHERE stream = ?", (dropped.TELEMETRY,)
        ).fetchone()
        acked, sent, sending = row or (_ALL, _ALL, 0)
        sent = max(sent, get_mark(self._connection, COPIED))
        return _Sent(acked, _ALL if sending else max(acked, sent), get_mark(self._connection, "rolled_seq"))

    def _spans(self, table: str, after: int, upto: int, limit: int, where: str = "") -> list[Span]:
        query = _SPAN.format(table=table, first="first_seq" if table == "block" else "seq", where=where)
        return [Span(*row) for row in self._connection.execute(query, (after, upto, limit))]

    def _confirmed(self, sent: _Sent, bytes_: int) -> int | None:
        for table in ("block", "hot"):
            chunk: list[Span] = []
            for one in self._spans(table, 0, min(sent.acked, sent.rolled), _CHUNK_BLOCKS):
                if bytes_ <= 0:
                    break
                chunk.append(one)
                bytes_ -= one.bytes
            if chunk:
                return drop_blocks(self._connection, chunk, "size", self._now_us)
        return None

    def _old_minutes(self, _: _Sent, __: int) -> int | None:
        confirmed_us = get_mark(self._connection, CONFIRMED_US)
        return self._drop_rolled("minute", min(self._now_us - _RECENT_US, confirmed_us))

    def _thinned(self, sent: _Sent, _: int) -> int | None:
        """The next block in the order of rule 2; the rows that it lost."""
        for level in _REASONS:
            found = self._connection.execute(_NEXT, (level - 1, sent.maybe, sent.rolled)).fetchone()
            if found is not None and found[1] <= sent.maybe:  # its first rows may have been sent
                found = self._connection.execute(_NEXT, (level - 1, found[0], sent.rolled)).fetchone()
            if found is not None:
                return self._thin(level, *found)
        return None

    def _thin(
        self, level: Level, seq: int, first_seq: int, from_us: int, to_us: int, rows: int, crc: int, data: bytes
    ) -> int:
        try:
            before = telemetry.read_block(data, crc)
        except BlockError as error:
            with transaction(self._connection):
                sealing.set_aside(self._connection, "block", seq, str(error), self._boot, self._now_us)
            return rows
        after = thin(before, level, self._meanings_of(from_us, to_us) if level is Level.REGISTERS else self._meanings)
        left = counts(after.ids)
        drops = [
            Drop(signal, from_us, to_us, count - left.get(signal, 0), _REASONS[level], first_seq, seq)
            for signal, count in counts(before.ids).items()
            if count > left.get(signal, 0)
        ]
        with transaction(self._connection):
            if sealing.may_be_sent(self._connection, first_seq):
                return 0  # another process has begun a backup since: the block is in it as it is
            if drops:
                self._replace(seq, after)
                dropped.write(self._connection, self._now_us, drops)
            if not len(after):
                numbers = Drop(None, from_us, to_us, 0, dropped.EMPTY, first_seq, seq)
                dropped.write(self._connection, self._now_us, [numbers])
            if level is not Level.HALF:
                cut_charts(self._connection, to_us, self._now_us)
            self._connection.execute("UPDATE block SET level = ? WHERE seq = ?", (level, seq))
        return len(before) - len(after)

    def _replace(self, seq: int, rows: Rows) -> None:
        """Put what is left in the place of the block; of nothing, only its number is remembered."""
        if not len(rows):
            self._connection.execute("DELETE FROM block WHERE seq = ?", (seq,))
            set_mark(self._connection, "dropped_seq", max(seq, get_mark(self._connection, "dropped_seq")))
            return
        packed = telemetry.pack(rows.ids, rows.times_us, rows.words, rows.invalid, split=True)
        self._connection.execute(
            "UPDATE block SET from_us = ?, to_us = ?, rows = ?, crc = ?, data = ? WHERE seq = ?",
            (packed.from_us, packed.to_us, packed.rows, packed.crc, packed.data, seq),
        )

    def _maybe_sent(self, sent: _Sent, _: int) -> int | None:
        upto = min(sent.maybe, sent.rolled)
        found = self._spans("block", sent.acked, _ALL, 1, f"AND level < {Level.REGISTERS:d} AND first_seq <= {upto}")
        found += self._spans("hot", sent.acked, upto, 1)
        if not found:
            return None
        return lose_block(self._connection, min(found, key=lambda one: one.seq), "maybe_sent", self._now_us)

    def _rolled(self, _: _Sent, __: int) -> int | None:
        for table in LEVELS:
            if (rows := self._drop_rolled(table, _ALL)) is not None:
                return rows
        return None

    def _drop_rolled(self, table: str, before_us: int) -> int | None:
        """Drop a day or more of the oldest roll-ups that begin before there; None: there are none."""
        width_us = LEVELS[table]
        # Signal by signal: their key begins with it.
        query = f"SELECT min((SELECT min(t) FROM {table} WHERE signal = signal.id)) FROM signal"  # noqa: S608 - one of our tables
        oldest = self._connection.execute(query).fetchone()[0]
        if oldest is None or oldest >= before_us // width_us:
            return None
        cut_us = min(oldest * width_us + max(_DAY_US, 100 * width_us), before_us)
        drop_rolled(self._connection, table, cut_us, "size", self._now_us)
        return 0

    def _registers(self, sent: _Sent, _: int) -> int | None:
        found = self._spans("block", sent.acked, sent.rolled, 1)
        return lose_block(self._connection, found[0], "unsent_registers", self._now_us) if found else None

    @cached_property
    def _devices(self) -> dict[int, str]:
        return dict(self._connection.execute("SELECT id, device FROM signal").fetchall())

    @cached_property
    def _meanings(self) -> dict[int, Meaning]:
        """By signal. Rows of a block are of signals that were numbered before it was sealed, so before this pass."""
        found = self._connection.execute("SELECT id, kind, encoding FROM signal")
        return {signal: Meaning(Kind(kind), Encoding(encoding)) for signal, kind, encoding in found}

    def _meanings_of(self, from_us: int, to_us: int) -> dict[int, Meaning]:
        """The same with the starts and stops of sessions in that time."""
        kept: dict[str, list[int]] = {}
        limits = (from_us - _LONG_SESSION_US, to_us, from_us, from_us, to_us)
        for device, start_us, stop_us in self._connection.execute(_SESSIONS, limits):
            kept.setdefault(device, []).extend((start_us, stop_us))
        return {
            signal: Meaning(meaning.kind, meaning.encoding, kept.get(self._devices[signal], ()))
            for signal, meaning in self._meanings.items()
        }
