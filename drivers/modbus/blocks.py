"""One block of registers of a device as the house sees it: which of its values are news, and which can't be read.

Rules of this file:

1. Words that differ from the ones before are put, the others touched. A value that is not there gives one row that says
   so, and is never touched: a touch would bring its old word back.
2. A block that failed ``MISSES`` times in a row (exceptions, wrong answers) is unknown, though its unit answers.
3. A block that the device refuses (exception 2 or 3) is asked without its gaps, then in halves, until the registers are
   found that the device lacks.
"""

from array import array
from collections.abc import Iterable, Sequence
from itertools import compress
from operator import ne, not_
from typing import cast

from agent.core.model import Batch, Column
from agent.core.ports import Sink
from drivers.codec.registers_block import Block, Exponents, blocks_for
from drivers.modbus.frames import Question

MISSES = 3


class ReadBlock:
    """A block, its question, and what was last read. ``ids``: the numbers of its fields' signals, in their order."""

    def __init__(self, block: Block, question: Question, ids: Sequence[int], exponents: Exponents) -> None:
        self.block = block
        self.question = question
        self.ids = tuple(ids)
        self._all = array("i", ids)
        self._exponents = exponents
        self._alone = not block.needs_others
        self._data: bytes | None = None
        self._words: Sequence[int | None] | None = None
        self._known = array("i")
        self._misses = 0

    def forget(self) -> None:
        """The next answer is news in full."""
        self._data = self._words = None
        self._misses = 0

    def put(self, data: bytes, now_us: int, sink: Sink) -> None:
        """Hand an answer's data on. ``data`` has the length that the block says."""
        self._misses = 0
        if data == self._data and self._alone:
            if self._known:
                sink.touch(self._known)
            return
        words = self.block.decode(data, self._exponents)
        before, self._data, self._words = self._words, data, words
        if before is not None and None not in words and None not in before:
            changed = list(map(ne, words, before))
            if not all(changed):
                put_known(array("i", compress(self._all, changed)), compress(words, changed), now_us, sink)
                sink.touch(array("i", compress(self._all, map(not_, changed))))
                return
            put_known(self._all, words, now_us, sink)
            return
        self._put_some_missing(words, before, now_us, sink)

    def _put_some_missing(
        self, words: Sequence[int | None], before: Sequence[int | None] | None, now_us: int, sink: Sink
    ) -> None:
        """The same where some values are not there, or everything is news."""
        fresh = before is None
        rows = list(zip(self._all, words, before or [None] * len(words), strict=True))
        news = [(number, word) for number, word, old in rows if word is not None and word != old]
        gone = [number for number, word, old in rows if word is None and (fresh or old is not None)]
        same = array("i", [number for number, word, old in rows if word is not None and word == old])
        if news:
            put_known(array("i", [number for number, _ in news]), [word for _, word in news], now_us, sink)
        if same:
            sink.touch(same)
        put_unknown(gone, now_us, sink)
        self._known = array("i", [number for number, word, _ in rows if word is not None])

    def missed(self, now_us: int, sink: Sink) -> None:
        """It was asked and not read."""
        self._misses += 1
        if self._misses == MISSES:
            self._data = self._words = None
            put_unknown(self.ids, now_us, sink)

    def smaller(self, max_registers: int) -> list[Block]:
        """Blocks that read the same: without the gaps, else its halves; none when it is a single value."""
        fields = self.block.fields
        made = blocks_for(fields, max_registers)
        if len(made) == 1 and len(fields) > 1:
            middle = len(fields) // 2
            made = [
                Block(block.span, block.fields, block.exponents, tuple(start + place for place in block.places))
                for start, part in ((0, fields[:middle]), (middle, fields[middle:]))
                for block in blocks_for(part, max_registers)
            ]
        if len(made) < 2:  # noqa: PLR2004 - it is what it was
            return []
        places = self.block.places
        return [
            Block(block.span, block.fields, block.exponents, tuple(places[place] for place in block.places))
            for block in made
        ]


def put_known(ids: Column, words: Iterable[int | None], now_us: int, sink: Sink) -> None:
    """Hand values on, none of which is missing."""
    if ids:
        sink.put(Batch(ids, array("q", (now_us,)) * len(ids), array("q", cast("Iterable[int]", words))))


def put_unknown(ids: Sequence[int], now_us: int, sink: Sink) -> None:
    """Say that these signals are not known from now on."""
    if ids:
        count = len(ids)
        sink.put(Batch(array("i", ids), array("q", (now_us,)) * count, array("q", (0,)) * count, valid=False))
