"""M-Bus frames (EN 13757-2, format class FT 1.2 of IEC 60870-5-1), found in a line's bytes.

::

    acknowledgement  E5
    short frame      10 C A <sum> 16
    long frame       68 L L 68 C A CI <data> <sum> 16       L = 3 + bytes of data; with none of it a "control frame"

Rules of this file:

1. Nothing of a frame is given before its sum and its stop byte are right. A damaged frame is a ``BadFrame``; between
   frames there is noise, and noise is nothing.
2. A damaged length must not hold back what follows: of two frames that overlap, the one that is complete first counts,
   and the one around it was none. So what is decided of a byte never depends on how the line was cut into pieces.
3. Inside of a damaged long frame only long frames are looked for: bytes E5 and 10 are common data.
4. No more than the longest frame waits.
"""

from dataclasses import dataclass

from agent.core.model import BadFrame

ACK_BYTE = 0xE5
_SHORT_START, _LONG_START, _STOP = 0x10, 0x68, 0x16
_SHORT_SIZE = 5
_HEADER_SIZE = 4  #: start, length, length, start
_AROUND = 6  #: bytes of a long frame that its length does not count
_MIN_LENGTH = 3
MAX_FRAME = 255 + _AROUND

_FROM_MASTER = 0x40  #: PRM bit of the control field


@dataclass(frozen=True, slots=True)
class Ack:
    """The single character E5: a slave has understood."""


@dataclass(frozen=True, slots=True)
class ShortFrame:
    """A request without data; only masters send it."""

    control: int
    address: int


@dataclass(frozen=True, slots=True)
class LongFrame:
    """A frame with a control information field (what the data are) and data, which may be empty."""

    control: int
    address: int
    information: int
    data: bytes

    @property
    def from_master(self) -> bool:
        """Whether a master sent it: our own request as a level converter hands it back, or somebody else's."""
        return bool(self.control & _FROM_MASTER)


Frame = Ack | ShortFrame | LongFrame


def checksum(data: bytes) -> int:
    """The sum over control, address, control information and data."""
    return sum(data) & 0xFF


class FrameReader:
    """Bytes of a line become frames. Words of its bad frames: ``bad_length``, ``bad_checksum``, ``bad_stop``,
    ``truncated``.
    """  # noqa: D205 - one sentence

    limit = MAX_FRAME

    def __init__(self) -> None:
        self._waiting = b""
        self._damaged = 0  #: bytes to come of a damaged frame (rule 3)

    def feed(self, data: bytes) -> list[Frame | BadFrame]:
        """What these bytes completed."""
        line = self._waiting + data
        found: list[Frame | BadFrame] = []
        position, damaged = 0, self._damaged
        while position < len(line):
            start = line[position]
            if start == _LONG_START:
                taken = _take_long(line, position, found, quiet=position < damaged)
                after, damaged = (taken[0], max(damaged, taken[1])) if taken else (None, damaged)
            elif position < damaged:
                after = position + 1
            elif start == _SHORT_START:
                after = _take_short(line, position, found)
            else:
                if start == ACK_BYTE:
                    found.append(Ack())
                after = position + 1
            if after is None:
                break
            position = after
        self._waiting, self._damaged = line[position:], max(0, damaged - position)
        return found

    def end(self) -> BadFrame | None:
        """Nothing more comes: the long frame that has begun was cut off."""
        waiting = self._waiting
        self.reset()
        begun = len(waiting) >= _HEADER_SIZE and waiting[0] == _LONG_START
        return BadFrame("truncated", waiting) if begun else None

    def reset(self) -> None:
        """The line was interrupted: what waits inside is worth nothing."""
        self._waiting, self._damaged = b"", 0


def _take_short(line: bytes, start: int, found: list[Frame | BadFrame]) -> int | None:
    """Where to go on behind a short frame or what only looked like its start; None: wait for more bytes."""
    frame = line[start : start + _SHORT_SIZE]
    if len(frame) < _SHORT_SIZE:
        return None  # the shortest long frame has more bytes: if one begins here, it is not kept waiting
    if frame[3] == checksum(frame[1:3]) and frame[4] == _STOP:
        found.append(ShortFrame(frame[1], frame[2]))
        return start + _SHORT_SIZE
    return start + 1


def _take_long(line: bytes, start: int, found: list[Frame | BadFrame], *, quiet: bool) -> tuple[int, int] | None:
    """The same for a long frame, and up to where it was damaged. ``quiet``: say nothing of what is none."""
    header = line[start : start + _HEADER_SIZE]
    if len(header) < _HEADER_SIZE:
        return None
    end = _end(line, start)
    if end is None:
        if header[3] == _LONG_START and not quiet:
            found.append(BadFrame("bad_length", header))
        return start + 1, 0
    earlier = _earlier_frame(line, start + 1, end)
    if earlier is not None:
        inner_start, inner_end = earlier
        found.append(BadFrame("truncated", line[start:inner_start]))
        found.append(_long(line[inner_start:inner_end]))
        return inner_end, 0
    if end > len(line):
        return None
    wrong = _damage(line[start:end])
    if not wrong:
        found.append(_long(line[start:end]))
        return end, 0
    found.append(BadFrame(wrong, line[start:end]))
    return start + 1, end


def _end(line: bytes, start: int) -> int | None:
    """Where the long frame that begins here ends; None when none begins here. Needs its first four bytes."""
    length = line[start + 1]
    if line[start + 3] != _LONG_START or line[start + 2] != length or length < _MIN_LENGTH:
        return None
    return start + length + _AROUND


def _earlier_frame(line: bytes, start: int, end: int) -> tuple[int, int] | None:
    """Begin and end of the sound long frame behind ``start`` that is complete first, if that is before ``end``."""
    best = None
    stop = min(end, len(line))
    while (start := line.find(_LONG_START, start, stop - _HEADER_SIZE)) >= 0:
        inner_end = _end(line, start)
        if inner_end is not None and inner_end < end and inner_end <= len(line) and not _damage(line[start:inner_end]):
            best, end = (start, inner_end), inner_end
        start += 1
    return best


def _damage(frame: bytes) -> str:
    """What is wrong with a long frame of the right length; empty when nothing is."""
    if frame[-1] != _STOP:
        return "bad_stop"
    return "" if frame[-2] == checksum(frame[4:-2]) else "bad_checksum"


def _long(frame: bytes) -> LongFrame:
    return LongFrame(frame[4], frame[5], frame[6], frame[7:-2])
