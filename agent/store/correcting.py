"""Sealed blocks of a boot whose clock was set later: their times are put right, one block in one transaction.

The rules are those of ``boots.py``. Hot blocks are put right when they are sealed (``sealing.py``).
"""

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from agent.core.blocks import BlockError
from agent.core.model import Encoding
from agent.store import boots, rollup, sealing, telemetry
from agent.store.boots import ROLLED, SET, UNSET
from agent.store.transaction import transaction


@dataclass(frozen=True, slots=True)
class Marked:
    """A sealed block that bears a mark, of a boot whose correction is known."""

    seq: int
    boot: int


def due(connection: sqlite3.Connection) -> Iterator[Marked]:
    """What can be put right now, in the order of the numbers."""
    known = boots.corrections(connection)
    found = connection.execute(
        "SELECT seq, boot, clock FROM block INDEXED BY block_marked WHERE clock <> 0 ORDER BY seq"
    ).fetchall()
    for seq, boot, mark in found:
        if boot in known and (mark == UNSET or not sealing.may_be_sent(connection, seq)):
            yield Marked(seq, boot)


def put_right(
    connection: sqlite3.Connection, marked: Marked, encodings: Mapping[int, Encoding], boot: int, now_us: int
) -> None:
    """Count a block in the roll-ups if it is not yet, and give it its right times unless it may be on its way.

    One transaction, and nothing if its mark is gone. Raises ``sqlite3.Error``.
    """
    with transaction(connection):
        correction = boots.correction(connection, marked.boot)
        found = connection.execute("SELECT crc, data, clock FROM block WHERE seq = ?", (marked.seq,)).fetchone()
        if correction is None or found is None or found[2] == SET:
            return
        crc, data, mark = found
        try:
            rows = correction.rows(telemetry.read_block(data, crc))
        except BlockError as error:
            sealing.set_aside(connection, "block", marked.seq, str(error), boot, now_us)
            return
        if not len(rows):  # all of them were given up
            connection.execute("UPDATE block SET clock = ? WHERE seq = ?", (SET, marked.seq))
            return
        if mark == UNSET:
            rollup.merge(connection, sealing.in_signal_order(rows), encodings)
        stays = sealing.may_be_sent(connection, marked.seq)
        if not stays:
            packed = telemetry.pack(rows.ids, rows.times_us, rows.words, rows.invalid, split=True)
            crc, data = packed.crc, packed.data
        connection.execute(
            "UPDATE block SET from_us = ?, to_us = ?, crc = ?, data = ?, clock = ? WHERE seq = ?",
            (int(rows.times_us.min()), int(rows.times_us.max()), crc, data, ROLLED if stays else SET, marked.seq),
        )
