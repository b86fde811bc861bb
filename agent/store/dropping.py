"""Dropping whole blocks and roll-ups: each drop is one transaction with the record of what went."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from agent.core.blocks import BlockError
from agent.store import dropped
from agent.store.pending import Drop
from agent.store.rollup import LEVELS
from agent.store.schema import get_mark, set_mark
from agent.store.telemetry import read_block
from agent.store.thinning import counts
from agent.store.transaction import transaction

#: The mark of the newest time of rows that were confirmed before they were dropped.
CONFIRMED_US = "confirmed_us"


@dataclass(frozen=True, slots=True)
class Span:
    """A block of ``block`` or ``hot``, without its rows."""

    table: str
    seq: int
    first_seq: int
    from_us: int
    to_us: int
    rows: int
    bytes: int


def drop_blocks(connection: sqlite3.Connection, chunk: Sequence[Span], reason: str, now_us: int) -> int:
    """Delete blocks that were confirmed, or that nobody waits for; the rows that went. Raises ``sqlite3.Error``."""
    drops = [Drop(None, one.from_us, one.to_us, one.rows, reason, one.first_seq, one.seq) for one in chunk]
    with transaction(connection):
        _delete(connection, chunk, now_us)
        newest_us = min(max(one.to_us for one in chunk), now_us)
        set_mark(connection, CONFIRMED_US, max(newest_us, get_mark(connection, CONFIRMED_US)))
        dropped.write(connection, now_us, drops)
    return sum(one.rows for one in chunk)


def lose_block(connection: sqlite3.Connection, block: Span, reason: str, now_us: int) -> int:
    """The same for a block that was not confirmed: its rows are counted signal by signal."""
    drops = [
        Drop(signal, block.from_us, block.to_us, count, reason, block.first_seq, block.seq)
        for signal, count in _counts(connection, block).items()
    ]
    uncounted = block.rows - sum(drop.count for drop in drops)
    drops.append(Drop(None, block.from_us, block.to_us, uncounted, reason, block.first_seq, block.seq))
    with transaction(connection):
        _delete(connection, [block], now_us)
        dropped.write(connection, now_us, drops)
    return block.rows


def cut_charts(connection: sqlite3.Connection, to_us: int, now_us: int) -> None:
    """Up to there charts take the roll-ups. A clock that was in the future must not hide what is yet to come."""
    set_mark(connection, "raw_cut_us", max(get_mark(connection, "raw_cut_us"), min(to_us, now_us) + 1))


def drop_rolled(connection: sqlite3.Connection, table: str, cut_us: int, reason: str, now_us: int) -> None:
    """Delete the roll-ups that begin before ``cut_us``, signal by signal (their key begins with it)."""
    width_us = LEVELS[table]
    cut = cut_us // width_us
    with transaction(connection):
        count, oldest = 0, cut
        for (signal,) in connection.execute("SELECT id FROM signal").fetchall():
            first = connection.execute(f"SELECT min(t) FROM {table} WHERE signal = ?", (signal,)).fetchone()[0]  # noqa: S608 - one of our tables
            if first is not None and first < cut:
                oldest = min(oldest, first)
                count += connection.execute(f"DELETE FROM {table} WHERE signal = ? AND t < ?", (signal, cut)).rowcount  # noqa: S608 - as above
        set_mark(connection, f"{table}_cut_us", max(get_mark(connection, f"{table}_cut_us"), cut * width_us))
        if count:
            drop = Drop(None, oldest * width_us, cut * width_us - 1, count, f"{table}_{reason}")
            dropped.write(connection, now_us, [drop])


def _counts(connection: sqlite3.Connection, block: Span) -> dict[int, int]:
    """How many rows of each signal a block has; nothing of a damaged one."""
    query = f"SELECT data, crc FROM {block.table} WHERE seq = ?"  # noqa: S608 - one of our tables
    try:
        return counts(read_block(*connection.execute(query, (block.seq,)).fetchone()).ids)
    except BlockError:
        return {}


def _delete(connection: sqlite3.Connection, chunk: Sequence[Span], now_us: int) -> None:
    for one in chunk:
        connection.execute(f"DELETE FROM {one.table} WHERE seq = ?", (one.seq,))  # noqa: S608 - one of our tables
    newest = max(one.seq for one in chunk)
    set_mark(connection, "dropped_seq", max(newest, get_mark(connection, "dropped_seq")))
    cut_charts(connection, max(one.to_us for one in chunk), now_us)
