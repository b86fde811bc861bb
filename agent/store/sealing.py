"""Sealing: consecutive hot blocks become one block that is small on disk and can be read signal by signal.

Rules of this file:

1. A record never leaves under two numbers. Blocks that may be on their way (``Outbox.hold``) keep number and bytes
   until they are acknowledged; a sealed block holds records of one kind only: all acknowledged, or all surely not sent.
2. A sealed block has the first number of its first and the last of its last hot block, all of one boot, none missing.
3. Rows are rolled up once: by the transaction that moves the mark ``rolled_seq`` past their block, sealed or not.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from agent.core.blocks import BlockError
from agent.core.model import Encoding
from agent.store import rollup, telemetry
from agent.store.pending import Drop
from agent.store.schema import get_mark, set_mark
from agent.store.transaction import record_drops, transaction
from agent.store.unpack import Rows, concatenate

STREAM = "telemetry"


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbouring hot blocks that are treated alike."""

    boot: int
    first_seq: int
    last_seq: int
    may_be_sent: bool  #: so it stays as it is
    acked: bool
    rolled: bool
    rows: int

    @property
    def wants_work(self) -> bool:
        """Whether there is something to do: rolling up, or sealing."""
        return not self.rolled or not self.may_be_sent

    def takes(self, other: "Group", limit_rows: int) -> bool:
        """Whether the group behind belongs to this one."""
        same = (self.boot, self.may_be_sent, self.acked, self.rolled) == (
            other.boot,
            other.may_be_sent,
            other.acked,
            other.rolled,
        )
        return same and other.first_seq == self.last_seq + 1 and self.rows + other.rows <= limit_rows

    def with_(self, other: "Group") -> "Group":
        """Both as one."""
        return Group(
            self.boot,
            self.first_seq,
            other.last_seq,
            self.may_be_sent,
            self.acked,
            self.rolled,
            self.rows + other.rows,
        )


def groups(connection: sqlite3.Connection, upto_seq: int, limit_rows: int) -> list[Group]:
    """What there is to do for the hot blocks up to there, in their order. Each group has about ``limit_rows`` rows."""
    acked, sent, sending = connection.execute(
        "SELECT ifnull(max(acked), 0), ifnull(max(sent), 0), ifnull(max(sending), 0) FROM cursor WHERE stream = ?",
        (STREAM,),
    ).fetchone()
    rolled_seq = get_mark(connection, "rolled_seq")
    found: list[Group] = []
    for seq, boot, rows in connection.execute(
        "SELECT seq, boot, rows FROM hot WHERE seq <= ? ORDER BY seq", (upto_seq,)
    ):
        may_be_sent = seq > acked and (bool(sending) or seq <= sent)
        one = Group(boot, seq, seq, may_be_sent, seq <= acked, seq <= rolled_seq, rows)
        if found and found[-1].takes(one, limit_rows):
            found[-1] = found[-1].with_(one)
        else:
            found.append(one)
    return [group for group in found if group.wants_work]


def work_on(
    connection: sqlite3.Connection, group: Group, encodings: Mapping[int, Encoding], boot: int, now_us: int
) -> None:
    """Roll a group up and seal it, as far as it may be, in one transaction. Raises ``sqlite3.Error``."""
    with transaction(connection):
        parts = _read(connection, group, boot, now_us)
        rows = concatenate(parts) if parts else None
        if not group.rolled:
            if rows is not None:
                rollup.merge(connection, in_signal_order(rows), encodings)
            set_mark(connection, "rolled_seq", group.last_seq)
        if not group.may_be_sent:
            if rows is not None:
                _store(connection, group, rows)
            connection.execute("DELETE FROM hot WHERE seq BETWEEN ? AND ?", (group.first_seq, group.last_seq))


def in_signal_order(rows: Rows) -> Rows:
    """Rows of several blocks signal by signal, each signal's still in order of arrival."""
    order = rows.ids.argsort(kind="stable")
    return Rows(rows.ids[order], rows.times_us[order], rows.words[order], rows.invalid[order])


def set_aside(connection: sqlite3.Connection, table: str, seq: int, reason: str, boot: int, now_us: int) -> None:
    """Move a damaged block of ``hot`` or ``block`` out of the way, inside the caller's transaction; nothing if gone."""
    first = "first_seq" if table == "block" else "seq"
    row = connection.execute(
        f"SELECT {first}, boot, from_us, to_us, rows, data FROM {table} WHERE seq = ?",  # noqa: S608 - one of our tables
        (seq,),
    ).fetchone()
    if row is None:
        return
    first_seq, block_boot, from_us, to_us, rows, data = row
    connection.execute(
        "INSERT INTO aside(t_us, stream, seq, first_seq, boot, reason, data) VALUES(?, ?, ?, ?, ?, ?, ?)",
        (now_us, STREAM, seq, first_seq, block_boot, reason, data),
    )
    connection.execute(f"DELETE FROM {table} WHERE seq = ?", (seq,))  # noqa: S608 - one of our tables
    record_drops(connection, boot, now_us, [Drop(None, from_us, to_us, rows, "damaged")])


def _read(connection: sqlite3.Connection, group: Group, boot: int, now_us: int) -> list[Rows]:
    found = connection.execute(
        "SELECT seq, crc, data FROM hot WHERE seq BETWEEN ? AND ? ORDER BY seq", (group.first_seq, group.last_seq)
    ).fetchall()
    parts: list[Rows] = []
    for seq, crc, data in found:
        try:
            parts.append(telemetry.read_block(data, crc))
        except BlockError as error:
            set_aside(connection, "hot", seq, str(error), boot, now_us)
    return parts


def _store(connection: sqlite3.Connection, group: Group, rows: Rows) -> None:
    block = telemetry.pack(rows.ids, rows.times_us, rows.words, rows.invalid, split=True)
    connection.execute(
        """INSERT INTO block(seq, first_seq, boot, from_us, to_us, rows, crc, data)
            VALUES(?, ?, ?, ?, ?, ?, ?, ?)""",
        (
            group.last_seq,
            group.first_seq,
            group.boot,
            block.from_us,
            block.to_us,
            block.rows,
            block.crc,
            block.data,
        ),
    )
