"""What goes, and in what order, when data is old or the file too large. The ledger never goes.

By age: raw blocks, 1 min and 1 h roll-ups, each by its own limit; a raw block only when it was acknowledged (or there
is no uplink) and rolled up. By size: the oldest raw data, acknowledged or not, then 1 min, then 1 h roll-ups. Each
deletion is one transaction with the record of what went.
"""

import sqlite3
from collections.abc import Iterator

from agent.store import posting
from agent.store.pending import Drop
from agent.store.rollup import LEVELS
from agent.store.schema import get_mark, set_mark
from agent.store.settings import StoreSettings
from agent.store.transaction import record_drops, transaction

_CHUNK_BLOCKS = 500
_VACUUM_PAGES = 256
#: The size rule frees somewhat more than it must, so that it does not run with every block.
_LOW_WATER = 0.9
#: Free pages are given back to the file system when so much of the file is free; less will be used again soon.
_FREE_SHARE = 0.25
_FREE_BYTES = 4 << 20
_DAY_US = 86_400_000_000

_RAW_CHUNK = """SELECT seq, from_us, to_us, rows, length(data) FROM {table}
    WHERE seq <= (SELECT ifnull(max(value), 0) FROM mark WHERE name = 'rolled_seq') {where}
    ORDER BY seq LIMIT ?"""
#: Without an uplink there is no cursor, and nothing waits to be sent.
_MAY_AGE = """AND to_us < ? AND (seq <= (SELECT acked FROM cursor WHERE stream = 'telemetry')
    OR NOT EXISTS(SELECT 1 FROM cursor WHERE stream = 'telemetry'))"""


def by_age(connection: sqlite3.Connection, settings: StoreSettings, boot: int, now_us: int) -> Iterator[int]:
    """Drop what is too old, in steps; each gives the raw rows that went. Raises ``sqlite3.Error``."""
    cut_us = now_us - round(settings.raw_age_s * 1e6)
    while True:
        chunk = connection.execute(
            _RAW_CHUNK.format(table="block INDEXED BY block_time", where="AND from_us < ? " + _MAY_AGE),
            (cut_us, cut_us, _CHUNK_BLOCKS),
        ).fetchall()
        if not chunk:
            break
        yield _drop_raw(connection, "block", chunk, "age", boot, now_us)
    yield from _forget_posted(connection, cut_us)
    for table, age_s in (("minute", settings.minute_age_s), ("hour", settings.hour_age_s)):
        cut_us = now_us - round(age_s * 1e6)
        # Once a day: each signal's bucket lies in another page.
        if cut_us - get_mark(connection, f"{table}_cut_us") >= _DAY_US:
            _drop_rolled(connection, table, cut_us, "age", boot, now_us)
            yield 0


def by_size(connection: sqlite3.Connection, settings: StoreSettings, boot: int, now_us: int) -> Iterator[int]:
    """Drop the oldest until the file is small enough, in steps as above, and give free pages back."""
    if _pages(connection)[0] > settings.max_bytes:
        target = round(settings.max_bytes * _LOW_WATER)
        while _live_bytes(connection) > target:
            dropped = _drop_oldest(connection, _live_bytes(connection) - target, boot, now_us)
            if dropped is None:
                break
            yield dropped
            yield from _forget_posted(connection, get_mark(connection, "raw_cut_us"))
    size, free = _pages(connection)
    while free and (size > settings.max_bytes or free > max(size * _FREE_SHARE, _FREE_BYTES)):
        # A pragma works row by row: it must be read to its end.
        connection.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})").fetchall()
        yield 0
        before, (size, free) = free, _pages(connection)
        if free >= before:
            break


def _forget_posted(connection: sqlite3.Connection, cut_us: int) -> Iterator[int]:
    """Forget which rows were posted before there; once a day, for each device has its own pages."""
    if cut_us - get_mark(connection, posting.CUT) >= _DAY_US:
        for _ in posting.prune(connection, cut_us):
            yield 0


def _drop_oldest(connection: sqlite3.Connection, bytes_: int, boot: int, now_us: int) -> int | None:
    """Drop so many bytes of what counts least, or a part; the raw rows that went, None when only the ledger is left."""
    for table in ("block", "hot"):
        chunk = []
        for block in connection.execute(_RAW_CHUNK.format(table=table, where=""), (_CHUNK_BLOCKS,)).fetchall():
            if bytes_ <= 0:
                break
            chunk.append(block)
            bytes_ -= block[-1]
        if chunk:
            return _drop_raw(connection, table, chunk, "size", boot, now_us)
    for table, width_us in LEVELS.items():
        oldest = connection.execute(f"SELECT min(t) FROM {table}").fetchone()[0]  # noqa: S608 - one of our tables
        if oldest is not None:
            step_us = max(_DAY_US, 100 * width_us)
            _drop_rolled(connection, table, oldest * width_us + step_us, "size", boot, now_us)
            return 0
    return None


def _drop_raw(
    connection: sqlite3.Connection,
    table: str,
    chunk: list[tuple[int, int, int, int, int]],
    reason: str,
    boot: int,
    now_us: int,
) -> int:
    """Delete these blocks (seq, from_us, to_us, rows, bytes) and record it."""
    rows = sum(block[3] for block in chunk)
    from_us, to_us = min(block[1] for block in chunk), max(block[2] for block in chunk)
    with transaction(connection):
        connection.executemany(f"DELETE FROM {table} WHERE seq = ?", [(block[0],) for block in chunk])  # noqa: S608 - one of our tables
        dropped_seq = max(block[0] for block in chunk)
        set_mark(connection, "dropped_seq", max(dropped_seq, get_mark(connection, "dropped_seq")))
        # Up to here charts take the roll-ups. A clock that was in the future must not hide what is yet to come.
        cut_us = max(get_mark(connection, "raw_cut_us"), min(to_us, now_us) + 1)
        set_mark(connection, "raw_cut_us", cut_us)
        record_drops(connection, boot, now_us, [Drop(None, from_us, to_us, rows, reason)])
    return rows


def _drop_rolled(connection: sqlite3.Connection, table: str, cut_us: int, reason: str, boot: int, now_us: int) -> None:
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
            record_drops(connection, boot, now_us, [drop])


def _pages(connection: sqlite3.Connection) -> tuple[int, int]:
    """Bytes of the file, and of its free pages."""
    page_bytes: int = connection.execute("PRAGMA page_size").fetchone()[0]
    pages: int = connection.execute("PRAGMA page_count").fetchone()[0]
    free: int = connection.execute("PRAGMA freelist_count").fetchone()[0]
    return pages * page_bytes, free * page_bytes


def _live_bytes(connection: sqlite3.Connection) -> int:
    size, free = _pages(connection)
    return size - free
