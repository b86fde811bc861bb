"""What no roll-up holds yet, summed up by minute in memory: about ten minutes of hot blocks.

Rules of this file:

1. Each block is decoded once, whoever asks: decoding all of them anew for each question costs more than all the rest.
   When the roll-ups take them over, it begins anew.
2. What is kept is a bucket for each signal and minute, however many rows there are.
"""

import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence

from agent.core.blocks import BlockError
from agent.core.model import Encoding
from agent.store import rollup, telemetry
from agent.store.catalogue import Catalogue
from agent.store.rollup import MINUTE_US
from agent.store.schema import get_mark
from agent.store.sealing import in_signal_order
from agent.store.unpack import Rows, concatenate

#: (bucket, lo, hi, sum, last, count, gaps), as the device sent them
Bucket = tuple[int, float | None, float | None, float, float | None, int, int]

#: No roll-up takes what was stored while the clock was not set (``boots.py``).
GOOD = "seq NOT IN (SELECT seq FROM hot WHERE clock <> 0)"
_OLDEST = f"SELECT min(from_us) FROM hot WHERE seq > ? AND {GOOD}"  # noqa: S608 - our own words
_NEXT = f"SELECT seq, crc, data FROM hot WHERE seq > ? AND {GOOD} ORDER BY seq LIMIT ?"  # noqa: S608 - as above
#: Hot blocks are summed up in steps of so many: their rows stand in memory meanwhile.
_STEP_BLOCKS = 100


class Tail:
    """By signal and minute. ``damaged`` is told of (table, seq, reason) of a bad block. Thread-safe."""

    def __init__(self, damaged: Callable[[str, int, str], None]) -> None:
        self._damaged = damaged
        self._lock = threading.Lock()
        self._rolled_seq = -1
        self._upto_seq = 0
        self._found: dict[int, dict[int, Bucket]] = {}

    def minutes(
        self, connection: sqlite3.Connection, catalogue: Catalogue, signal_ids: Sequence[int], to_us: int
    ) -> Mapping[int, Mapping[int, Bucket]]:
        """The buckets of these signals; of ranges that end before the oldest such row, none are looked for."""
        rolled_seq = get_mark(connection, "rolled_seq")
        oldest = connection.execute(_OLDEST, (rolled_seq,)).fetchone()[0]
        if oldest is None or oldest >= to_us:
            return {}
        encodings = {signal.id: signal.encoding for signal in catalogue.signals}
        with self._lock:
            # A reader whose snapshot is older than that of the last one has the roll-ups of that time: so must this.
            if rolled_seq != self._rolled_seq:
                self._rolled_seq, self._upto_seq, self._found = rolled_seq, rolled_seq, {}
            self._bring_up(connection, encodings)
            return {one: dict(self._found[one]) for one in signal_ids if one in self._found}

    def _bring_up(self, connection: sqlite3.Connection, encodings: Mapping[int, Encoding]) -> None:
        while True:
            blocks = connection.execute(_NEXT, (self._upto_seq, _STEP_BLOCKS)).fetchall()
            if not blocks:
                return
            parts: list[Rows] = []
            for seq, crc, data in blocks:
                try:
                    parts.append(telemetry.read_block(data, crc))
                except BlockError as error:
                    self._damaged("hot", seq, str(error))
            if parts:
                rows = in_signal_order(concatenate(parts))
                for signal, *row in rollup.aggregate(rows, MINUTE_US, encodings):
                    put(self._found.setdefault(signal, {}), tuple(row))  # type: ignore[arg-type] # a bucket's columns
            self._upto_seq = blocks[-1][0]


def put(buckets: dict[int, Bucket], row: Bucket) -> None:
    """Add a bucket of rows that arrived later than those of the one that is there."""
    known = buckets.get(row[0])
    if known is None:
        buckets[row[0]] = row
        return
    lows = [one for one in (known[1], row[1]) if one is not None]
    highs = [one for one in (known[2], row[2]) if one is not None]
    buckets[row[0]] = (
        row[0],
        min(lows, default=None),
        max(highs, default=None),
        known[3] + row[3],
        row[4],
        known[5] + row[5],
        known[6] + row[6],
    )
