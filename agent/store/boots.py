"""The boot table: what each process knew of the time, and how what it stored before it knew is put right, once.

Rules of this file:

1. A block that was stored while the clock was not set is marked (column ``clock``): ``UNSET``. It stays out of the
   roll-ups, and is sealed with its like only.
2. When the clock is set, one transaction writes down by how much the times of this boot were wrong, and which times
   that is true of: rows that bear another clock's time (posted ones, a charger's own) are not moved. It is never
   changed afterwards, so whatever is killed, the times are put right by the same amount.
3. A block is put right and counted in the roll-ups by the transaction that takes its mark away (``sealing.py``). One
   that may have left the house keeps its bytes until it is acknowledged: its mark is ``ROLLED`` until then, and who
   reads it puts its rows right.
4. What had left stays as it is at the central server, with its mark: the event ``clock.corrected`` ``{"boot",
   "offset_us", "from_us", "to_us"}`` tells how to put it right there. The ledger is chained, so it is never rewritten:
   those of its events count as marked that came before that one, or bear a time that only the wrong clock can show.
5. What a boot stored whose clock was never set stays marked for ever: no clock runs on from one boot to the next.
"""

import sqlite3
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from agent.core.clock import Clock
from agent.core.model import Batch
from agent.store.blocks import Ints
from agent.store.schema import get_mark, set_mark
from agent.store.unpack import Rows

#: Marks of a block: its times are good; they may be wrong; they are wrong, and the roll-ups have them right.
SET, UNSET, ROLLED = 0, 1, 2

#: The mark of the newest time that was believed, µs since 1970 UTC.
BELIEVED = "believed_us"
#: Until the commit that says so stands, the wrong clock may still stamp for so long.
_MARGIN_US = 15_000_000


@dataclass(frozen=True, slots=True)
class Correction:
    """To times from ``from_us`` to ``to_us`` that a boot stamped, ``offset_us`` is added."""

    offset_us: int
    from_us: int
    to_us: int

    def time(self, t_us: int) -> int:
        """That time, put right."""
        return t_us + self.offset_us if self.from_us <= t_us <= self.to_us else t_us

    def times(self, times_us: Ints) -> Ints:
        """The same of a column."""
        wrong = (times_us >= self.from_us) & (times_us <= self.to_us)
        return np.where(wrong, times_us + self.offset_us, times_us)

    def rows(self, rows: Rows) -> Rows:
        """The same of rows."""
        return Rows(rows.ids, self.times(rows.times_us), rows.words, rows.invalid)

    def late_time(self, t_us: int, now_us: int) -> int:
        """A time that comes after the clock was set, put right if it was stamped before.

        After a step back, what may have been stamped since is not touched.
        """
        return self.time(t_us) if self.offset_us > 0 or t_us > now_us else t_us

    def late(self, batch: Batch, now_us: int) -> Batch:
        """The same of a batch."""
        times = np.asarray(batch.times_us, np.int64)
        moved = self.times(times)
        if self.offset_us < 0:
            moved = np.where(times > now_us, moved, times)
        return batch if np.array_equal(moved, times) else replace(batch, times_us=array("q", moved.tolist()))


def begin(connection: sqlite3.Connection, boot: str, clock: Clock) -> int:
    """Write this boot down, inside the caller's transaction; its row's id."""
    cursor = connection.execute(
        "INSERT INTO boot(boot, wall_us, mono_us, clock) VALUES(?, ?, ?, ?)",
        (boot, clock.now_us(), round(clock.monotonic_s() * 1e6), "set" if clock.trusted() else "unset"),
    )
    return int(cursor.lastrowid or 0)


def correct(connection: sqlite3.Connection, boot: int, offset_us: int, now_us: int) -> Correction | None:
    """Write down by how much the times of this boot are wrong, inside the caller's transaction.

    ``now_us``: the wrong time of now. None: it was done before, or the clock was set from the start.
    """
    row = connection.execute("SELECT wall_us FROM boot WHERE id = ? AND clock = 'unset'", (boot,)).fetchone()
    if row is None:
        return None
    found = Correction(offset_us, int(row[0]), now_us + min(_MARGIN_US, abs(offset_us)))
    connection.execute(
        """UPDATE boot SET clock = 'corrected', offset_us = ?, from_us = ?, to_us = ?,
            event_seq = (SELECT ifnull(max(seq), 0) FROM event) WHERE id = ?""",
        (found.offset_us, found.from_us, found.to_us, boot),
    )
    believe(connection, now_us + offset_us)
    return found


def corrections(connection: sqlite3.Connection) -> Mapping[int, Correction]:
    """How to put right what is still marked, by boot."""
    found = connection.execute(
        """SELECT id, offset_us, from_us, to_us FROM boot WHERE clock = 'corrected' AND id IN
            (SELECT boot FROM hot WHERE clock <> 0 UNION SELECT boot FROM block WHERE clock <> 0)"""
    )
    return {boot: Correction(offset_us, from_us, to_us) for boot, offset_us, from_us, to_us in found}


def correction(connection: sqlite3.Connection, boot: int) -> Correction | None:
    """How to put right the times of one boot; None where there is nothing to put right, or nobody knows how."""
    row = connection.execute(
        "SELECT offset_us, from_us, to_us FROM boot WHERE id = ? AND clock = 'corrected'", (boot,)
    ).fetchone()
    return Correction(*row) if row else None


def believe(connection: sqlite3.Connection, now_us: int) -> None:
    """This time is believed: a clock that shows an earlier one at the next start is wrong."""
    set_mark(connection, BELIEVED, now_us)


def believed_us(connection: sqlite3.Connection) -> int:
    """The newest time that was believed; 0: none ever was."""
    return get_mark(connection, BELIEVED)
