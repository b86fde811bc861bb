"""Telegrams between ``/`` and ``!`` in a stream of bytes: IEC 62056-21 readouts, and DSMR's P1, which is made alike.

Rules of this file:

1. A telegram begins with ``/`` and the three letters of its manufacturer: neither ``/`` nor ``!`` is allowed inside
   (IEC 62056-21, 6.3.14), so a second beginning means that the first telegram was cut off.
2. What is looked at does not depend on how the bytes were cut into pieces: one telegram is one window of at most
   ``limit`` bytes from its beginning, and a decision needs the same bytes of it whenever it is made.
3. Where a telegram turns out to be bad, the search goes on right behind its beginning: it hides no good one.
4. Each byte is searched once: ``_searched`` is where the search for the end goes on when more bytes come.
"""

import re
from abc import ABC, abstractmethod

from agent.core.model import BadFrame
from drivers.codec.telegram import Telegram

#: Where the next search begins within the window, and what was found.
Step = tuple[int, Telegram | BadFrame]

TELEGRAM_START = rb"/[A-Za-z]{3}"
_SAMPLE = 64


def bad(reason: str, window: bytes) -> BadFrame:
    """A bad telegram with the beginning of its bytes."""
    return BadFrame(reason, window[:_SAMPLE])


class ReadoutFrames(ABC):
    """Finds telegrams; what stands behind their ``!`` and inside of them is for the codec that inherits this."""

    limit: int = 16_384  #: a P1 telegram has 1 to 3 kB, the readout of a large D0 meter some 10

    #: Beginnings of telegrams, and how many bytes the longest one has.
    _start = re.compile(TELEGRAM_START)
    _start_max = 4
    #: A beginning, or the end of a telegram.
    _edge = re.compile(rb"!|" + TELEGRAM_START)
    #: The last bytes so far, if they may become a beginning that has room for another one inside; None: there is none.
    _open: re.Pattern[bytes] | None = None
    #: What a recording may have lost at its end without losing any of the telegram.
    _missing_end = b""

    def __init__(self) -> None:
        self._waiting = bytearray()
        self._searched = 0

    def feed(self, data: bytes) -> list[Telegram | BadFrame]:
        """What these bytes completed."""
        found: list[Telegram | BadFrame] = []
        self._waiting += data
        position = 0
        while True:
            start = self._search(self._start, self._waiting, position)
            if start is None:
                position = max(position, len(self._waiting) - self._start_max + 1)
                break
            position = start.start()
            window = bytes(self._waiting[position : position + self.limit])
            step = self._take(window)
            if step is None:
                if len(window) < self.limit:
                    break
                step = (1, bad("too_long", window))
            position += step[0]
            self._searched = 0
            found.append(step[1])
        del self._waiting[:position]
        return found

    def end(self) -> list[Telegram | BadFrame]:
        """Nothing more comes: the telegram that has begun, cut off where its own end is missing."""
        found = self.feed(self._missing_end) if self._waiting.startswith(b"/") else []
        if self._start.match(self._waiting):
            found.append(bad("truncated", bytes(self._waiting)))
        self.reset()
        return found

    def reset(self) -> None:
        """The line was interrupted: what waits inside is worth nothing."""
        self._waiting.clear()
        self._searched = 0

    def _search(self, pattern: re.Pattern[bytes], data: bytes | bytearray, position: int) -> re.Match[bytes] | None:
        """The first match; None also while something in front of it may still become one."""
        found = pattern.search(data, position)
        if self._open is not None:
            unsure = self._open.search(data, max(position, len(data) - self._start_max + 1))
            if unsure is not None and found is not None and unsure.start() < found.start():
                return None
        return found

    def _take(self, window: bytes) -> Step | None:
        """What the window begins with; None when it takes more bytes to know."""
        edge = self._search(self._edge, window, max(1, self._searched))
        if edge is None:
            self._searched = max(1, len(window) - self._start_max + 1)
            return None
        if window[edge.start()] != ord("!"):
            return edge.start(), bad("truncated", window[: edge.start()])
        self._searched = edge.start()
        return self._end(window, edge.start())

    @abstractmethod
    def _end(self, window: bytes, end: int) -> Step | None:
        """The telegram whose ``!`` stands at ``end``; None when it takes more of what stands behind it."""
