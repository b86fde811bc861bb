"""A store's raw rows from outside the running program, in the order in which they came: what a rehearsal runs over."""

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.core.blocks import BlockError
from agent.core.errors import StoreError
from agent.store import catalogue as catalogues
from agent.store.catalogue import Catalogue
from agent.store.readers import Readers
from agent.store.schema import get_mark
from agent.store.telemetry import read_block
from agent.store.unpack import Rows

_LIST = "SELECT seq, boot FROM {table} WHERE from_us < ? AND to_us >= ? ORDER BY seq"
_SPAN = """SELECT min(from_us), max(to_us) FROM
    (SELECT from_us, to_us FROM block UNION ALL SELECT from_us, to_us FROM hot)"""


@dataclass(frozen=True, slots=True)
class Piece:
    """The rows of one block by time, those of one moment in order of arrival. ``boot``: a number for each process."""

    boot: int
    rows: Rows


class Recording:
    """Reads only: safe beside a running gateway. ``open_recording`` makes one."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        with readers.snapshot() as connection:
            self.catalogue: Catalogue = catalogues.load(connection)
            #: Before that, raw rows were dropped: only their averages and extremes are left.
            self.raw_from_us = get_mark(connection, "raw_cut_us")
            first_us, last_us = connection.execute(_SPAN).fetchone()
        #: Times of the first and last raw row; None where there is none.
        self.span_us: tuple[int, int] | None = None if first_us is None else (first_us, last_us)
        self.damaged = 0  #: blocks that could not be read

    def pieces(self, signal_ids: Collection[int], from_us: int, to_us: int) -> Iterator[Piece]:
        """The rows of these signals with ``from_us`` <= time < ``to_us``, as of now. Raises ``StoreError``."""
        span = (to_us, from_us)
        with self._readers.snapshot() as connection:
            sealed = connection.execute(_LIST.format(table="block"), span).fetchall()
            # Hot blocks are sealed soon and gone then: there are few of them.
            hot = [
                (seq, boot, crc, data)
                for seq, boot in connection.execute(_LIST.format(table="hot"), span).fetchall()
                for crc, data in connection.execute("SELECT crc, data FROM hot WHERE seq = ?", (seq,))
            ]
        for seq, boot in sealed:
            with self._readers.snapshot() as connection:
                found = connection.execute("SELECT crc, data FROM block WHERE seq = ?", (seq,)).fetchone()
            if found is not None:  # else retention was faster
                yield from self._rows(boot, found[0], found[1], signal_ids, from_us, to_us)
        for _, boot, crc, data in hot:
            yield from self._rows(boot, crc, data, signal_ids, from_us, to_us)

    def _rows(
        self, boot: int, crc: int, data: bytes, signal_ids: Collection[int], from_us: int, to_us: int
    ) -> Iterator[Piece]:
        try:
            rows = read_block(data, crc, signal_ids)
        except BlockError:
            self.damaged += 1
            return
        places = np.flatnonzero((rows.times_us >= from_us) & (rows.times_us < to_us))
        places = places[rows.times_us[places].argsort(kind="stable")]
        if len(places):
            columns = Rows(rows.ids[places], rows.times_us[places], rows.words[places], rows.invalid[places])
            yield Piece(boot, columns)


@contextmanager
def open_recording(path: Path) -> Iterator[Recording]:
    """The store at that path. Raises ``StoreError`` for what is none, or may not be read."""
    op = f"read {path}"
    if not path.exists():
        raise StoreError(op, "no such file", "start the gateway once, or name the folder with --data-dir")
    readers = Readers(path, 1)
    try:
        yield Recording(readers)
    except sqlite3.Error as error:
        raise StoreError(op, str(error), "is it a store of Enlace?") from error
    finally:
        readers.close()
