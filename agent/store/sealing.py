"""Sealing: consecutive hot blocks become one block that is small on disk and can be read signal by signal.

Rules of this file:

1. A record never leaves under two numbers. Blocks that may be on their way (``Outbox.hold``) keep number and bytes
   until they are acknowledged; a sealed block holds records of one kind only: all acknowledged, or all surely not sent.
2. A sealed block has the first number of its first and the last of its last hot block, all of one boot, none missing.
3. Rows are rolled up once: by the transaction that moves the mark ``rolled_seq`` past their block, sealed or not.
4. A sealed block leaves as one message, and what is live waits for the message that is on the wire: it has at most
   ``MAX_BYTES``, unless it is of a single hot block.
5. Blocks that bear a mark of the clock (``boots.py``) are passed over by the roll-ups until it is known how to put
   their times right; the transaction that counts them changes the mark.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from agent.core.blocks import BlockError
from agent.core.model import Encoding
from agent.store import boots, rollup, telemetry
from agent.store.boots import ROLLED, SET, UNSET, Correction
from agent.store.pending import Drop
from agent.store.schema import COPIED, get_mark, set_mark
from agent.store.transaction import record_drops, transaction
from agent.store.unpack import Rows, concatenate

STREAM = "telemetry"
#: 1.6 s on a line of 20 kB/s.
MAX_BYTES = 32 << 10


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
    mark: int = SET
    late: bool = False  #: it was passed over by the roll-ups, and can be put right now

    @property
    def wants_work(self) -> bool:
        """Whether there is something to do: rolling up, or sealing."""
        return not self.rolled or not self.may_be_sent or self.late

    @property
    def like(self) -> tuple[object, ...]:
        """What those that are treated alike share."""
        return self.boot, self.may_be_sent, self.acked, self.rolled, self.mark, self.late

    def takes(self, other: "Group", limit_rows: int) -> bool:
        """Whether the group behind belongs to this one."""
        return self.like == other.like and other.first_seq == self.last_seq + 1 and self.rows + other.rows <= limit_rows

    def with_(self, other: "Group") -> "Group":
        """Both as one."""
        return replace(self, last_seq=other.last_seq, rows=self.rows + other.rows)


def groups(connection: sqlite3.Connection, upto_seq: int, limit_rows: int) -> list[Group]:
    """What there is to do for the hot blocks up to there, in their order. Each group has about ``limit_rows`` rows."""
    acked, sent, sending = _cursor(connection)
    rolled_seq = get_mark(connection, "rolled_seq")
    marks: dict[int, int] = dict(connection.execute("SELECT seq, clock FROM hot WHERE clock <> 0"))
    corrected = boots.corrections(connection) if marks else {}
    found: list[Group] = []
    for seq, boot, rows in connection.execute(
        "SELECT seq, boot, rows FROM hot WHERE seq <= ? ORDER BY seq", (upto_seq,)
    ):
        leaving = seq > acked and (sending or seq <= sent)
        mark = marks.get(seq, SET)
        late = mark == UNSET and boot in corrected
        one = Group(boot, seq, seq, leaving, seq <= acked, seq <= rolled_seq, rows, mark, late)
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
        if not group.may_be_sent and _left_meanwhile(connection, group):
            return  # the next pass sees it as it is now
        parts = _read(connection, group, boot, now_us)
        correction = boots.correction(connection, group.boot) if group.mark else None
        if correction is not None:
            parts = [(seq, correction.rows(rows)) for seq, rows in parts]
        due = correction is not None if group.mark == UNSET else group.mark == SET and not group.rolled
        if due and parts:
            rollup.merge(connection, in_signal_order(concatenate([rows for _, rows in parts])), encodings)
        if not group.rolled:
            set_mark(connection, "rolled_seq", group.last_seq)
        if not group.may_be_sent:
            mark = UNSET if group.mark and correction is None else SET
            if parts:
                _store(connection, replace(group, mark=mark), parts)
            connection.execute("DELETE FROM hot WHERE seq BETWEEN ? AND ?", (group.first_seq, group.last_seq))
        elif due and correction is not None:
            _keep_bytes(connection, group, correction)


def unrolled_bytes(connection: sqlite3.Connection) -> int:
    """Of the hot blocks that were not rolled up yet."""
    found: int = connection.execute(
        "SELECT ifnull(sum(length(data)), 0) FROM hot WHERE seq > ?", (get_mark(connection, "rolled_seq"),)
    ).fetchone()[0]
    return found


def may_be_sent(connection: sqlite3.Connection, seq: int) -> bool:
    """Whether this block may be on its way, so that its bytes stay as they are (``Outbox.hold``)."""
    acked, sent, sending = _cursor(connection)
    # What a backup holds of a site without an uplink may once be sent from both.
    return seq > acked and (sending or seq <= max(sent, get_mark(connection, COPIED)))


def _cursor(connection: sqlite3.Connection) -> tuple[int, int, bool]:
    """Up to which number all is acknowledged, up to which it may have left, and whether all may have."""
    acked, sent, sending = connection.execute(
        "SELECT ifnull(max(acked), 0), ifnull(max(sent), 0), ifnull(max(sending), 0) FROM cursor WHERE stream = ?",
        (STREAM,),
    ).fetchone()
    return acked, sent, bool(sending)


def _left_meanwhile(connection: sqlite3.Connection, group: Group) -> bool:
    """Whether a part of it was confirmed, may be on its way, or is kept in a backup, since the pass began.

    A pass may take minutes. What is confirmed in part would be sealed over the edge, and the rest never sent.
    """
    acked, sent, sending = _cursor(connection)
    return group.last_seq > acked and (sending or group.first_seq <= max(acked, sent))


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
    record_drops(connection, boot, now_us, [Drop(None, from_us, to_us, rows, "damaged", first_seq, seq)])


def _read(connection: sqlite3.Connection, group: Group, boot: int, now_us: int) -> list[tuple[int, Rows]]:
    """The numbers and rows of a group's hot blocks; damaged ones are set aside."""
    found = connection.execute(
        "SELECT seq, crc, data FROM hot WHERE seq BETWEEN ? AND ? ORDER BY seq", (group.first_seq, group.last_seq)
    ).fetchall()
    parts: list[tuple[int, Rows]] = []
    for seq, crc, data in found:
        try:
            parts.append((seq, telemetry.read_block(data, crc)))
        except BlockError as error:
            set_aside(connection, "hot", seq, str(error), boot, now_us)
    return parts


def _keep_bytes(connection: sqlite3.Connection, group: Group, correction: Correction) -> None:
    """What was counted with its right times but may be on its way is found by its right times."""
    span = (group.first_seq, group.last_seq)
    for seq, from_us, to_us in connection.execute(
        "SELECT seq, from_us, to_us FROM hot WHERE seq BETWEEN ? AND ?", span
    ).fetchall():
        # A block may hold another clock's times as well: then it is found by both.
        first_us, last_us = min(correction.time(from_us), from_us), max(correction.time(to_us), to_us)
        connection.execute(
            "UPDATE hot SET clock = ?, from_us = ?, to_us = ? WHERE seq = ?", (ROLLED, first_us, last_us, seq)
        )


def _store(connection: sqlite3.Connection, group: Group, parts: list[tuple[int, Rows]]) -> None:
    """Put these hot blocks into the table, as one or as several of about equal size. The mark is the group's."""
    rows = concatenate([one for _, one in parts])
    block = telemetry.pack(rows.ids, rows.times_us, rows.words, rows.invalid, split=True)
    if len(block.data) > MAX_BYTES and len(parts) > 1:
        count = min(len(block.data) // (MAX_BYTES * 7 // 8) + 1, len(parts))  # parts are not quite equal
        edges = [len(parts) * edge // count for edge in range(count + 1)]
        first_seq = group.first_seq
        for start, stop in pairwise(edges):
            # What was damaged has no rows: its numbers go with the part before it.
            last_seq = group.last_seq if stop == len(parts) else parts[stop][0] - 1
            _store(connection, replace(group, first_seq=first_seq, last_seq=last_seq), parts[start:stop])
            first_seq = last_seq + 1
        return
    connection.execute(
        """INSERT INTO block(seq, first_seq, boot, from_us, to_us, rows, crc, data, clock)
            VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        (
            group.last_seq,
            group.first_seq,
            group.boot,
            block.from_us,
            block.to_us,
            block.rows,
            block.crc,
            block.data,
            group.mark,
        ),
    )
