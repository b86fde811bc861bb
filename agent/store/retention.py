"""What goes when data is old or the file too large. The ledger never goes.

By age: raw blocks, 1 min and 1 h roll-ups, each by its own limit; a raw block only when it was acknowledged (or there
is no uplink) and rolled up, and its age is known (``boots.py``). By size: in the order of ``quota.py``. What went
stands in ``dropped.py``.
"""

import sqlite3
from collections.abc import Iterator

from agent.store import posting
from agent.store.dropping import Span, drop_blocks, drop_rolled
from agent.store.quota import Quota
from agent.store.schema import get_mark
from agent.store.settings import StoreSettings

_CHUNK_BLOCKS = 500
_VACUUM_PAGES = 256
#: The size rule frees somewhat more than it must, so that it does not run with every block.
_LOW_WATER = 0.9
#: Free pages are given back to the file system when so much of the file is free; less will be used again soon.
_FREE_SHARE = 0.25
_FREE_BYTES = 4 << 20
_DAY_US = 86_400_000_000

#: Without an uplink there is no cursor, and nothing waits to be sent.
_OLD = """SELECT 'block', seq, first_seq, from_us, to_us, rows, length(data) FROM block INDEXED BY block_time
    WHERE seq <= (SELECT ifnull(max(value), 0) FROM mark WHERE name = 'rolled_seq') AND from_us < ? AND to_us < ?
    AND seq NOT IN (SELECT seq FROM block WHERE clock <> 0)
    AND (seq <= (SELECT acked FROM cursor WHERE stream = 'telemetry')
        OR NOT EXISTS(SELECT 1 FROM cursor WHERE stream = 'telemetry')) ORDER BY seq LIMIT ?"""


def by_age(connection: sqlite3.Connection, settings: StoreSettings, now_us: int) -> Iterator[int]:
    """Drop what is too old, in steps; each gives the raw rows that went. Raises ``sqlite3.Error``."""
    cut_us = now_us - round(settings.raw_age_s * 1e6)
    while chunk := [Span(*row) for row in connection.execute(_OLD, (cut_us, cut_us, _CHUNK_BLOCKS))]:
        yield drop_blocks(connection, chunk, "age", now_us)
    yield from _forget_posted(connection, cut_us)
    for table, age_s in (("minute", settings.minute_age_s), ("hour", settings.hour_age_s)):
        cut_us = now_us - round(age_s * 1e6)
        # Once a day: each signal's bucket lies in another page.
        if cut_us - get_mark(connection, f"{table}_cut_us") >= _DAY_US:
            drop_rolled(connection, table, cut_us, "age", now_us)
            yield 0


def by_size(connection: sqlite3.Connection, settings: StoreSettings, boot: int, now_us: int) -> Iterator[int]:
    """Drop what counts least until the file is small enough, in steps as above, and give free pages back."""
    if file_bytes(connection) > settings.max_bytes:
        target = round(settings.max_bytes * _LOW_WATER)
        quota = Quota(connection, boot, now_us)
        while (excess := _live_bytes(connection) - target) > 0:
            rows = quota.free(excess)
            if rows is None:
                break
            yield rows
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


def file_bytes(connection: sqlite3.Connection) -> int:
    """Of the file, when its log was copied into it."""
    return _pages(connection)[0]


def _pages(connection: sqlite3.Connection) -> tuple[int, int]:
    """Bytes of the file, and of its free pages."""
    page_bytes: int = connection.execute("PRAGMA page_size").fetchone()[0]
    pages: int = connection.execute("PRAGMA page_count").fetchone()[0]
    free: int = connection.execute("PRAGMA freelist_count").fetchone()[0]
    return pages * page_bytes, free * page_bytes


def _live_bytes(connection: sqlite3.Connection) -> int:
    size, free = _pages(connection)
    return size - free
