"""Report by exception: which of the rows that the wires bring are worth keeping.

Rules of this file:

1. A signal without a rule of its own keeps each row whose word differs from the one before it, at once. A word that
   stays the same but is still heard is kept again every ``max_interval_s``, by ``due``, which is called each second.
2. ``deadband`` keeps a row when its physical value is more than that away from the last kept one (the absolute
   deadband of OPC UA Part 8, 7.2). ``min_interval_s`` keeps no two rows of a signal closer than that; the newest row
   that had to wait is kept when the interval is over, so the last value of a burst is never lost. ``every`` keeps all
   rows.
3. "Became unknown" (a batch with ``valid=False``) is always kept, once per edge. What waited is kept before it. The
   first word after it is kept even if it is the old one.
4. Ages are monotonic. The rows of one batch arrived together: they share the moment at which ``put`` was called.
5. No Python loop over rows, except over those of signals with a deadband or a shortest interval.

All state is columns indexed by signal id. A row costs the same with ten signals or ten thousand.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.core.model import Batch, Column, Encoding, Number, Signal, word_to_float
from agent.pipeline.columns import Flags, Ints, Places, Rows, Spots, any_of, batch_of, rows_of, spots_of

DEFAULT_MAX_INTERVAL_S = 60.0

States = NDArray[np.uint8]

#: Valid is 0, so that what is not stands out without a comparison. A signal that was said to be unknown before it ever
#: had a word is blank: a touch can't bring back what never was.
_VALID, _UNSEEN, _INVALID, _BLANK = 0, 1, 2, 3
_PLAIN, _EVERY, _SLOW = 0, 1, 2
_UINT16_SPAN = 1 << 16
_UINT64 = (1 << 64) - 1
_ROUNDING = 1e-12
_FLOAT, _UINT = Encoding.FLOAT, Encoding.UINT  # Python 3.11 takes a microsecond to look a member up


@dataclass(frozen=True, slots=True)
class Report:
    """When a signal's rows are kept. ``deadband`` is in the signal's unit; None keeps every change.

    ``max_interval_s`` may be ``math.inf``: an unchanged word is then never repeated. Raises ``ValueError`` on numbers
    that mean nothing.
    """

    deadband: float | None = None
    min_interval_s: float = 0.0
    max_interval_s: float = DEFAULT_MAX_INTERVAL_S
    every: bool = False

    def __post_init__(self) -> None:
        if self.deadband is not None and not self.deadband >= 0:
            raise ValueError(f"deadband {self.deadband} must be 0 or more")
        if not 0 <= self.min_interval_s < math.inf:
            raise ValueError(f"min_interval_s {self.min_interval_s} must be 0 or more")
        if not self.max_interval_s > 0 or self.max_interval_s < self.min_interval_s:
            raise ValueError(f"max_interval_s {self.max_interval_s} must be above 0 and not below min_interval_s")
        if self.every and (self.deadband is not None or self.min_interval_s > 0):
            raise ValueError("every: true keeps all rows, so it goes with neither deadband nor min_interval_s")


class Gate:
    """Keeps what is news. Used on one thread; ``now_s`` is monotonic, ``now_us`` wall time in µs UTC."""

    def __init__(self) -> None:
        self._state = np.zeros(0, dtype=np.uint8)
        self._path = np.zeros(0, dtype=np.uint8)
        self._word = np.zeros(0, dtype=np.int64)  # the newest one seen; the last kept one too, unless on the slow path
        self._heard_s = np.zeros(0)
        self._kept_s = np.zeros(0)
        self._max_interval_s = np.zeros(0)
        self._position = np.zeros(0, dtype=np.int64)  # scratch of _repeats
        self._order = np.arange(0)
        self._special = False
        self._slow: dict[int, _Slow] = {}
        self._waiting: set[int] = set()
        self._grow(255)

    def configure(self, signal: Signal, report: Report) -> None:
        """Give a signal a rule of its own; the default one takes it back."""
        self._reach(signal.id)
        waits = report.deadband is not None or report.min_interval_s > 0
        self._path[signal.id] = _EVERY if report.every else _SLOW if waits else _PLAIN
        self._max_interval_s[signal.id] = report.max_interval_s
        self._slow.pop(signal.id, None)
        self._waiting.discard(signal.id)
        if waits:
            self._slow[signal.id] = _Slow(signal, report, int(self._word[signal.id]))
        self._special = bool(self._path.any())

    def put(self, batch: Batch, now_s: float) -> list[Batch]:
        """The rows of a batch that are worth keeping, in their order; an empty list for none."""
        return self.put_rows(rows_of(batch), now_s)

    def put_rows(self, rows: Rows, now_s: float) -> list[Batch]:
        """``put`` of a batch whose columns were converted already."""
        ids, words = rows.places, rows.words
        if not len(ids):
            return []
        self._reach(rows.highest)
        if not rows.batch.valid:
            return self._put_invalid(rows, now_s)
        if not rows.unique and self._repeats(ids):
            changed = self._changed_in_order(ids, words)
        else:
            changed = words != self._word[ids]
            changed |= self._state[ids].astype(np.bool_)
        if self._special:
            self._apply_rules(rows, changed, now_s)
        self._word[ids] = words
        self._state[ids] = _VALID
        self._heard_s[ids] = now_s
        kept = int(np.count_nonzero(changed))
        if not kept:
            return []
        if kept == len(ids):
            self._kept_s[ids] = now_s
            return [rows.batch]
        chosen = changed.nonzero()[0]
        kept_ids = ids[chosen]
        self._kept_s[kept_ids] = now_s
        return [batch_of(kept_ids, rows.times_us[chosen], words[chosen])]

    def touch(self, column: Column, now_s: float, now_us: int) -> list[Batch]:
        """Note that signals were read again unchanged.

        Gives the rows to keep: of signals that were unknown meanwhile, and of those of which every reading is kept.
        """
        return self.touch_spots(spots_of(column), now_s, now_us)

    def touch_spots(self, spots: Spots, now_s: float, now_us: int) -> list[Batch]:
        """``touch`` of a column whose places were looked up already."""
        ids = spots.places
        self._reach(spots.highest)
        self._heard_s[ids] = now_s
        state = self._state[ids]
        if not (self._special or np.count_nonzero(state)):
            return []
        news = state == _INVALID
        if self._special:
            news |= (self._path[ids] == _EVERY) & (state == _VALID)
        if not any_of(news):
            return []
        return [self._again(np.unique(ids[news]), now_s, now_us)]

    def due(self, now_s: float, now_us: int) -> list[Batch]:
        """Rows whose time has come: what waited for ``min_interval_s``, what stayed the same for ``max_interval_s``.

        A repeated row carries the wall time at which its signal was last heard.
        """
        kept = self._release([number for number in self._waiting if self._slow[number].over(now_s)], now_s)
        quiet = (now_s - self._kept_s >= self._max_interval_s) & (self._heard_s > self._kept_s)
        ids = np.flatnonzero(quiet & (self._state == _VALID))
        if len(ids):
            kept.append(self._again(ids, now_s, now_us))
        return kept

    def _again(self, ids: Places, now_s: float, now_us: int) -> Batch:
        """The newest words of these signals as rows to keep, at the time when they were last heard."""
        times_us = now_us - np.round((now_s - self._heard_s[ids]) * 1e6).astype(np.int64)
        words = self._word[ids]
        self._state[ids] = _VALID
        self._kept_s[ids] = now_s
        if self._slow:
            for number, word in zip(ids.tolist(), words.tolist(), strict=True):
                if number in self._slow:
                    self._slow[number].keep(word, now_s)
                    self._waiting.discard(number)
        return batch_of(ids, times_us, words)

    def _put_invalid(self, rows: Rows, now_s: float) -> list[Batch]:
        ids = rows.places
        state = self._state[ids]
        edges = state <= _UNSEEN
        if not any_of(edges):
            return []
        if not rows.unique and self._repeats(ids):
            first = np.zeros(len(ids), dtype=np.bool_)
            first[np.unique(ids, return_index=True)[1]] = True
            edges &= first
        chosen = ids[edges]
        kept = self._release([number for number in chosen.tolist() if number in self._waiting], now_s)
        self._state[chosen] = np.where(state[edges] == _VALID, _INVALID, _BLANK)
        self._kept_s[chosen] = now_s
        kept.append(batch_of(chosen, rows.times_us[edges], np.zeros(len(chosen), dtype=np.int64), valid=False))
        return kept

    def _repeats(self, ids: Places) -> bool:
        """Whether a signal has more than one row here. Of several writes to one place the last one stays."""
        order = self._order[: len(ids)]
        if len(order) < len(ids):
            self._order = np.arange(2 * len(ids))
            order = self._order[: len(ids)]
        self._position[ids] = order
        return any_of(self._position[ids] != order)

    def _changed_in_order(self, ids: Places, words: Ints) -> Flags:
        """Whether each row's word differs from the row of its signal before it, in this batch or earlier."""
        # numpy sorts 16-bit keys by radix, in a fraction of the time that wider ones take.
        keys = ids.astype(np.uint16) if len(self._word) <= _UINT16_SPAN else ids
        order = np.argsort(keys, kind="stable")
        ids, words = ids[order], words[order]
        changed = np.empty(len(ids), dtype=np.bool_)
        np.not_equal(words[1:], words[:-1], out=changed[1:])
        first = np.empty(len(ids), dtype=np.bool_)
        first[0] = True
        np.not_equal(ids[1:], ids[:-1], out=first[1:])
        heads = np.flatnonzero(first)
        head_ids = ids[heads]
        changed[heads] = (words[heads] != self._word[head_ids]) | (self._state[head_ids] != _VALID)
        result = np.empty_like(changed)
        result[order] = changed
        return result

    def _apply_rules(self, rows: Rows, changed: Flags, now_s: float) -> None:
        """Correct ``changed`` for the rows of signals with rules of their own."""
        path = self._path[rows.places]
        changed |= path == _EVERY
        slow_rows = (path == _SLOW).nonzero()[0]
        if not len(slow_rows):
            return
        slow_ids = rows.places[slow_rows]
        numbers = slow_ids.tolist()
        unknown = set(slow_ids[self._state[slow_ids] != _VALID].tolist())
        times_us, words = rows.times_us[slow_rows].tolist(), rows.words[slow_rows].tolist()
        kept = []
        for row, number, t_us, word in zip(slow_rows.tolist(), numbers, times_us, words, strict=True):
            slow = self._slow[number]
            if number in unknown:
                unknown.discard(number)
                slow.keep(word, now_s)
                kept.append(row)
            elif slow.put(t_us, word, now_s):
                kept.append(row)
        changed[slow_rows] = False
        changed[kept] = True
        for number in set(numbers):
            if self._slow[number].waiting is None:
                self._waiting.discard(number)
            else:
                self._waiting.add(number)

    def _release(self, numbers: list[int], now_s: float) -> list[Batch]:
        """The rows that waited, as a batch to keep."""
        if not numbers:
            return []
        rows: list[tuple[int, int]] = []
        for number in numbers:
            slow = self._slow[number]
            if slow.waiting is not None:  # always: it stands in the set
                rows.append(slow.waiting)
                slow.keep(slow.waiting[1], now_s)
        self._waiting.difference_update(numbers)
        self._kept_s[numbers] = now_s
        columns = np.array(rows, dtype=np.int64)
        return [batch_of(np.array(numbers, dtype=np.intp), columns[:, 0], columns[:, 1])]

    def _reach(self, number: int) -> None:
        if number >= len(self._word):
            self._grow(number)

    def _grow(self, number: int) -> None:
        more = max(number + 1, 2 * len(self._word)) - len(self._word)
        self._state = np.r_[self._state, np.full(more, _UNSEEN, dtype=np.uint8)]
        self._path = np.r_[self._path, np.zeros(more, dtype=np.uint8)]
        self._word = np.r_[self._word, np.zeros(more, dtype=np.int64)]
        self._heard_s = np.r_[self._heard_s, np.zeros(more)]
        self._kept_s = np.r_[self._kept_s, np.zeros(more)]
        self._max_interval_s = np.r_[self._max_interval_s, np.full(more, DEFAULT_MAX_INTERVAL_S)]
        self._position = np.r_[self._position, np.zeros(more, dtype=np.int64)]


class _Slow:
    """One signal with a deadband or a shortest interval."""

    def __init__(self, signal: Signal, report: Report, word: int) -> None:
        self._encoding = signal.encoding
        # Distances are measured in raw numbers: the offset falls out, and whole numbers stay exact. The trifle more
        # keeps a distance of exactly the deadband inside of it where the division rounds (0.3 / 0.1).
        scale = abs(signal.scale)
        limit = report.deadband
        self._deadband = None if limit is None else limit / scale * (1 + _ROUNDING) if scale else math.inf
        self._min_interval_s = report.min_interval_s
        self._word = word
        self._kept_s = -math.inf
        self.waiting: tuple[int, int] | None = None  #: (µs UTC, word) that waits for its interval

    def over(self, now_s: float) -> bool:
        """Whether the shortest interval since the last kept row is over."""
        return now_s - self._kept_s >= self._min_interval_s

    def keep(self, word: int, now_s: float) -> None:
        """This word was kept."""
        self._word = word
        self._kept_s = now_s
        self.waiting = None

    def put(self, t_us: int, word: int, now_s: float) -> bool:
        """Whether this row is kept now; otherwise it may wait."""
        self.waiting = None
        if word == self._word:
            return False
        # Not "moved > deadband": a NaN compares false and must count as moved.
        if self._deadband is not None and self._moved(word) <= self._deadband:
            return False
        if now_s - self._kept_s < self._min_interval_s:
            self.waiting = (t_us, word)
            return False
        self.keep(word, now_s)
        return True

    def _moved(self, word: int) -> Number:
        if self._encoding is _FLOAT:
            return abs(word_to_float(word) - word_to_float(self._word))
        if self._encoding is _UINT:
            return abs((word & _UINT64) - (self._word & _UINT64))
        return abs(word - self._word)
