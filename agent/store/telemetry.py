"""Telemetry on its way in: batches to hot blocks, hot blocks to rows of the table. Runs in the writer's thread."""

import sqlite3
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from agent.core.blocks import BlockError
from agent.core.model import Batch
from agent.store.blocks import Flags, Ids, Ints, encode
from agent.store.schema import NUMBERS_FROM, NUMBERS_GIVEN
from agent.store.unpack import Rows, unpack


@dataclass(frozen=True, slots=True)
class Packed:
    """A block that has no number yet."""

    from_us: int
    to_us: int
    rows: int
    crc: int
    data: bytes


def pack_batches(batches: Sequence[Batch], block_rows: int) -> list[Packed]:
    """Batches, in order of arrival, as hot blocks of at most ``block_rows`` rows each."""
    ids = np.concatenate([np.asarray(batch.ids, np.int32) for batch in batches])
    times = np.concatenate([np.asarray(batch.times_us, np.int64) for batch in batches])
    words = np.concatenate([np.asarray(batch.words, np.int64) for batch in batches])
    invalid = None
    if not all(batch.valid for batch in batches):
        invalid = np.repeat([not batch.valid for batch in batches], [len(batch) for batch in batches])
    return [
        pack(
            ids[start : start + block_rows],
            times[start : start + block_rows],
            words[start : start + block_rows],
            None if invalid is None else invalid[start : start + block_rows],
        )
        for start in range(0, len(ids), block_rows)
    ]


def pack(ids: Ids, times_us: Ints, words: Ints, invalid: Flags | None, *, split: bool = False) -> Packed:
    """One block with what its row in the table says of it."""
    data = encode(ids, times_us, words, invalid, split=split)
    return Packed(int(times_us.min()), int(times_us.max()), len(ids), zlib.crc32(data), data)


def well_formed(batch: Batch) -> bool:
    """Whether the columns are of one length and hold whole numbers. One bad batch must not stop the others."""
    try:
        lengths = {len(np.asarray(column, np.int64)) for column in (batch.ids, batch.times_us, batch.words)}
    except (ValueError, TypeError, OverflowError):
        return False
    return len(lengths) == 1


def insert_hot(connection: sqlite3.Connection, seq: int, boot: int, block: Packed, clock: int = 0) -> None:
    """Put a hot block into the table, inside the caller's transaction. ``clock``: its mark (``boots.py``)."""
    connection.execute(
        "INSERT INTO hot(seq, boot, from_us, to_us, rows, crc, data, clock) VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
        (seq, boot, block.from_us, block.to_us, block.rows, block.crc, block.data, clock),
    )


def newest_seq(connection: sqlite3.Connection) -> int:
    """The highest number ever given to a block: of those in the store, those set aside and those dropped."""
    row = connection.execute(
        """SELECT max(ifnull((SELECT max(seq) FROM hot), 0), ifnull((SELECT max(seq) FROM block), 0),
            ifnull((SELECT max(seq) FROM aside WHERE stream = 'telemetry'), 0),
            ifnull((SELECT value FROM mark WHERE name = 'dropped_seq'), 0),
            ifnull((SELECT max(value) FROM mark WHERE name IN (?, ?)), 0),
            ifnull((SELECT max(acked, sent) FROM cursor WHERE stream = 'telemetry'), 0))""",
        (NUMBERS_FROM, NUMBERS_GIVEN),
    ).fetchone()
    return int(row[0])


def read_block(data: bytes, crc: int, signals: Collection[int] | None = None) -> Rows:
    """The rows of a stored block. Raises ``BlockError`` when it is not what was stored."""
    if zlib.crc32(data) != crc:
        raise BlockError("damaged: the checksum does not match")
    return unpack(data, signals)
