"""IEC 62056-21 (D0) readouts of meters: modes A to D, answered or pushed.

``/LGZ4ZMF100AC.M26``, then ``STX``, data, ``!``, ``ETX`` and ``BCC`` (modes A to C), or an empty line, data and ``!``
(mode D). Source: IEC 62056-21:2002, 6.3 (messages), 6.3.14 (their parts), 6.4 (modes). Rules of this file:

1. Where there is ``STX`` there is a checksum, and only what passes it is given: the exclusive or of all characters
   behind ``STX`` up to and with ``ETX``. Without, data lines are read strictly, and ``!`` ends the telegram at once.
2. The standard's characters have 7 bits and even parity (6.2). The eighth bit says nothing, so it is dropped: a line
   that is read as 8N1 instead of 7E1 gives the same. (``7E1`` lets the UART check the parity of each character.)
3. A recording of a terminal that turned CR into LF (``LF LF``), or dropped it, can't pass the checksum any more, and
   often ends with ``!``. If a telegram has no CR at all, it is taken as one without checksum.
4. Requests (``/?!``) and acknowledgements that an optical head echoes are no telegrams, and no part of one.
"""

import re
from functools import reduce
from operator import xor

from agent.core.model import BadFrame
from drivers.codec.d0_frames import ReadoutFrames, Step, bad
from drivers.codec.dataline import LineReader, meter_number
from drivers.codec.telegram import Telegram

_SEVEN_BITS = bytes(code & 0x7F for code in range(256))
_STX, _ETX = 0x02, 0x03
#: Identification, then what may stand in front of the data: an acknowledgement's echo, noise while the rate changes.
_HEAD = re.compile(rb"/([^\r\n]*)[\r\n]+(?:\x06[0-9A-Za-z]{3}[\r\n]+)?")
_LINE_END = re.compile(rb"[\r\n]{0,4}")


class D0Codec(ReadoutFrames):
    """Decodes readouts. Bad frames: ``truncated``, ``bad_checksum``, ``bad_line`` (out of place in a telegram that has
    no checksum), ``no_values``, ``too_long``.
    """  # noqa: D205 - one sentence

    def __init__(self) -> None:
        super().__init__()
        self._lines = LineReader()

    def feed(self, data: bytes) -> list[Telegram | BadFrame]:
        """What these bytes completed."""
        return super().feed(data.translate(_SEVEN_BITS))

    def _end(self, window: bytes, end: int) -> Step | None:
        head = _HEAD.match(window, 0, end)
        if head is None:
            return 1, bad("bad_line", window[: end + 1])
        model = head[1].decode("ascii").strip()
        begin = head.end()
        first = window.find(b"(", begin, end)
        stx = window.find(_STX, begin, end if first < 0 else first)
        if stx < 0 or b"\r" not in window[:end]:
            return self._result(model, window[max(begin, stx + 1) : end], window, end + 1, strict=True)
        found = _LINE_END.match(window, end + 1)
        etx = end + 1 if found is None else found.end()
        if len(window) < etx + 1 or (window[etx] == _ETX and len(window) < etx + 2):
            return None
        if window[etx] != _ETX:
            return 1, bad("truncated", window[: end + 1])
        if reduce(xor, window[stx + 1 : etx + 1]) != window[etx + 1]:
            return 1, bad("bad_checksum", window[: etx + 2])
        return self._result(model, window[stx + 1 : end], window, etx + 2, strict=False)

    def _result(self, model: str, data: bytes, window: bytes, end: int, *, strict: bool) -> Step:
        readings = self._lines.read(data.decode("ascii"), strict=strict)
        if readings is None:
            return 1, bad("bad_line" if strict else "no_values", window[:end])
        return end, Telegram(meter_number(readings), readings, (("model", model),))
