"""Which numbers of a stream have left, which are confirmed, and what is read next: bookkeeping without IO.

Rules of this file:

1. At each connection a stream splits: the live lane sends what is committed from then on, the backlog lane what was
   there before, oldest first. Both run side by side and share the set of what has left already.
2. The cursor moves over confirmed numbers that follow each other without a gap, whatever the order in which they were
   confirmed. Confirmed is what the broker acknowledged, or (``by_word``) what the central server says is stored.
3. Numbers that the store does not have any more (dropped, set aside) are no gap: the cursor moves over them by itself.
   They are found by reading on: numbers only grow, so nothing comes in between two records that were read together.
4. A lane's place is always the end of a record, never a number inside one: the store gives whole records only.
5. All of it is ranges in memory, a bounded number of them. When ranges are forgotten, or the process ends, records
   leave again under the same numbers; none is ever skipped.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

MAX_RANGES = 1024
#: As many are kept from one connection to the next: what a new one adds must find room.
KEPT_RANGES = 256
#: So much of the backlog, records and bytes, is sent ahead of what the central server has confirmed.
MAX_AHEAD_RECORDS = 4096
MAX_AHEAD_BYTES = 8 << 20
#: Refused records of which the tries are counted.
MAX_REFUSED = 1000
#: A record that the broker has, but that the central server does not confirm, is sent again after so long; twice as
#: long each time.
FIRST_PATIENCE_S = 30.0
MAX_PATIENCE_S = 600.0
#: And after so long, once, on a connection that begins without what was said while there was none.
SHORT_PATIENCE_S = 5.0


class Numbered(Protocol):
    """A record: the sequence numbers that it covers."""

    @property
    def first_seq(self) -> int:
        """The first one."""

    @property
    def seq(self) -> int:
        """The last one."""


_Record = TypeVar("_Record", bound=Numbered)


class Ranges:
    """A set of whole numbers as ranges without overlap, at most ``MAX_RANGES``: beyond that the highest go."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def __len__(self) -> int:
        return len(self._firsts)

    def add(self, first: int, last: int) -> None:
        """Add all numbers from ``first`` to ``last``."""
        start, end = bisect_left(self._lasts, first - 1), bisect_right(self._firsts, last + 1)
        if start < end:
            first, last = min(first, self._firsts[start]), max(last, self._lasts[end - 1])
        self._firsts[start:end], self._lasts[start:end] = [first], [last]
        self.keep(MAX_RANGES)

    def reach(self, number: int) -> int:
        """The last of the numbers that follow this one without a gap; the number itself when there are none."""
        index = bisect_right(self._firsts, number + 1) - 1
        return max(self._lasts[index], number) if index >= 0 else number

    def next_above(self, number: int) -> int | None:
        """The lowest of the numbers above this one; None when there is none."""
        index = bisect_right(self._lasts, number)
        return max(self._firsts[index], number + 1) if index < len(self._lasts) else None

    def covers(self, first: int, last: int) -> bool:
        """Whether all these numbers are in it."""
        return self.reach(first - 1) >= last

    def forget(self, upto: int) -> None:
        """Take all numbers up to there out."""
        start = bisect_right(self._lasts, upto)
        del self._firsts[:start], self._lasts[:start]
        if self._firsts:
            self._firsts[0] = max(self._firsts[0], upto + 1)

    def keep(self, count: int) -> None:
        """Take all but the lowest ranges out."""
        del self._firsts[count:], self._lasts[count:]

    def copy(self) -> "Ranges":
        """Another set with the same numbers."""
        other = Ranges()
        other._firsts, other._lasts = self._firsts.copy(), self._lasts.copy()
        return other


class Lane:
    """One reader of a stream: how far it has read, and where it ends (None: never)."""

    __slots__ = ("bound", "end", "position")

    def __init__(self, position: int, end: int | None = None) -> None:
        self.position = position
        self.end = end
        self.bound = end  #: the end as it was when the newest read began


class Stream:
    """One stream's place. ``cursor``: all numbers up to there are confirmed, or gone for good."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.by_word = False  #: the central server's word confirms, not the broker's
        self.cursor = 0
        self.persisted = 0  #: as much of the cursor is on disk
        self.newest_sent = 0  #: nothing above can have left
        self.set_aside = 0
        self.resent = 0  #: records that were handed over again
        self.backlog = Lane(0, 0)
        self.live = Lane(0)
        self._gone = Ranges()  #: the store does not have them, or they are set aside
        self._delivered = Ranges()  #: the broker has them; and all that is gone
        self._sent = Ranges()  #: not to be handed over (again) now: delivered, or on their way
        self._left = Ranges()  #: were ever handed over by this process; and all that is gone
        self._ahead: deque[tuple[int, int]] = deque()  #: of the backlog, not confirmed: seq and bytes
        self._ahead_bytes = 0
        self._refused: dict[int, int] = {}  #: by seq, how many times the server refused it
        self._waiting: tuple[int, float] | None = None  #: cursor, and since when it should have moved
        self._patience_s = FIRST_PATIENCE_S
        self._heard = False  #: the central server, since what it lacks was last sent again
        self._short = False  #: its word may have been lost: what it lacks is sent again soon
        self._silent = False  #: it was not heard then: as soon as it is, what it lacks is sent again soon

    # A connection, and what it reads.

    def connect(self, resume: int, newest: int, *, missed: bool = False) -> None:
        """A connection begins: ``resume`` is the cursor that the store has, ``newest`` its newest number.

        ``missed``: what was said while there was none has not been kept for us.
        """
        self.persisted = resume
        self.cursor = max(self.cursor, resume)
        self._delivered.keep(KEPT_RANGES)
        self._sent = self._delivered.copy()
        self._advance()
        self._short = missed and self._delivered.reach(self.cursor) > self.cursor
        if self._short:
            self._waiting = None
        self.live = Lane(max(newest, resume))
        self._read_again(resume)

    def rewind(self, resume: int) -> None:
        """Send all that is not confirmed again, as backlog; the live lane goes on."""
        self._delivered, self._sent = self._gone.copy(), self._gone.copy()
        if not self._short:
            self._patience_s = min(self._patience_s * 2, MAX_PATIENCE_S)
        self._waiting, self._short = None, False
        self._silent, self._heard = not self._heard, False
        self._read_again(resume)

    def split(self, newest: int) -> None:
        """The live lane is behind: what it has not read becomes backlog, so that the newest does not wait."""
        if self.backlog.end is not None and newest > self.live.position and len(self._sent) < KEPT_RANGES:
            self.backlog.end = newest
            self.live.position = newest

    def read_from(self, lane: Lane) -> int | None:
        """Behind which number the lane reads next; None when it has come to its end. ``take`` follows the read."""
        lane.bound = lane.end
        if lane.end is None:
            return lane.position
        lane.position = min(self._sent.reach(lane.position), max(lane.end, lane.position))
        return None if lane.position >= lane.end else lane.position

    def take(self, lane: Lane, records: Sequence[_Record]) -> Iterator[_Record]:
        """Of the records that a read gave, oldest first, those that are to be handed over now; moves the lane along.

        No records say that there were none behind the lane's position.
        """
        # As the end was when the read began: what came after it is not in its snapshot, and not lost.
        end = lane.bound
        for record in records:
            if end is not None and record.first_seq > end:
                break
            self.lost(lane.position + 1, record.first_seq - 1)
            lane.position = record.seq
            unconfirmed = max(record.first_seq, self.cursor + 1)
            if record.seq > self.cursor and not self._sent.covers(unconfirmed, record.seq):
                yield record
        else:
            if records:
                return
        if end is not None:
            self.lost(lane.position + 1, end)
            lane.position = max(lane.position, end)

    # What became of records.

    def leaving(self, seq: int) -> None:
        """The first byte of this record is about to be handed over."""
        self.newest_sent = max(self.newest_sent, seq)

    def handed(self, lane: Lane, record: Numbered, size: int) -> None:
        """All of this record was handed over."""
        if self._left.covers(max(record.first_seq, self.cursor + 1), record.seq):
            self.resent += 1
        self._left.add(record.first_seq, record.seq)
        self._sent.add(record.first_seq, record.seq)
        if lane.end is not None:
            self._ahead.append((record.seq, size))
            self._ahead_bytes += size
        self._advance()

    def delivered(self, record: Numbered) -> None:
        """The broker has acknowledged all of this record."""
        self._refused.pop(record.seq, None)
        self._delivered.add(record.first_seq, record.seq)
        self._advance()

    def refused(self, seq: int) -> int:
        """The server refused this record; how many times that was."""
        times = self._refused[seq] = self._refused.pop(seq, 0) + 1
        if len(self._refused) > MAX_REFUSED:
            del self._refused[next(iter(self._refused))]
        return times

    def put_aside(self, record: Numbered) -> None:
        """This record will not be sent any more."""
        self.set_aside += 1
        self._refused.pop(record.seq, None)
        self.lost(record.first_seq, record.seq)

    def lost(self, first: int, last: int) -> None:
        """These numbers will never be sent, if there are any."""
        if first <= last:
            for ranges in (self._gone, self._delivered, self._sent, self._left):
                ranges.add(first, last)
            self._advance()

    def word(self, upto: int) -> None:
        """The central server has all up to there: believed as far as this process sent it."""
        self._heard = True
        if self._silent:
            self._silent, self._patience_s = False, FIRST_PATIENCE_S
        self.cursor = max(self.cursor, min(upto, self._left.reach(self.cursor)))
        self._advance()

    def believe(self, *, by_word: bool) -> None:
        """Whose word confirms, from now on."""
        self.by_word = by_word
        self._advance()

    # How it stands.

    @property
    def backlog_left(self) -> int:
        """How many numbers the backlog lane has not read."""
        return max((self.backlog.end or 0) - self.backlog.position, 0)

    @property
    def has_room(self) -> bool:
        """Whether more of the backlog may be sent ahead of what is confirmed."""
        return not self.by_word or (len(self._ahead) < MAX_AHEAD_RECORDS and self._ahead_bytes < MAX_AHEAD_BYTES)

    def overdue(self, now_s: float) -> bool:
        """Whether the central server should have confirmed more by now. To be asked every few seconds."""
        if not self.by_word or self._delivered.reach(self.cursor) == self.cursor:
            self._waiting = None
            return False
        if self._waiting is None or self._waiting[0] != self.cursor:
            if self._waiting is not None:
                self._patience_s, self._short = FIRST_PATIENCE_S, False
            self._waiting = self.cursor, now_s
            return False
        return now_s - self._waiting[1] >= (SHORT_PATIENCE_S if self._short else self._patience_s)

    def _read_again(self, resume: int) -> None:
        self._ahead.clear()
        self._ahead_bytes = 0
        self.backlog = Lane(resume, max(self.live.position, resume))

    def _advance(self) -> None:
        ranges = self._gone if self.by_word else self._delivered
        self.cursor = ranges.reach(self.cursor)
        for each in (self._gone, self._delivered, self._sent, self._left):
            each.forget(self.cursor)
        while self._ahead and self._ahead[0][0] <= self.cursor:
            self._ahead_bytes -= self._ahead.popleft()[1]
