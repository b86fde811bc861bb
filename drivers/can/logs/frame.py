"""One frame of a log, and the small readings that all text formats share."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from agent.core.model import BadFrame

MAX_STANDARD_ID = 0x7FF
MAX_EXTENDED_ID = 0x1FFF_FFFF
MAX_CLASSIC_BYTES = 8
MAX_FD_BYTES = 64
#: Flag of ``linux/can.h`` in the identifiers that candump writes: an error frame of the controller.
ERROR_FLAG = 0x2000_0000
#: Data length of each DLC, ISO 11898-1:2015 table 5. Classic CAN ends at 8.
DLC_BYTES = (0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 24, 32, 48, 64)
#: How much of an unreadable line a ``BadFrame`` keeps.
SAMPLE_BYTES = 80

_MAX_BYTE = 0xFF

_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d+)(?:[.,:](\d+))?$")


class LogFrame(NamedTuple):
    """One frame as a log tells it.

    ``t`` is in seconds, on the origin that the log has (1970 UTC, its own start, …), None where it has no time.
    ``channel`` is the log's own word or number. ``can_id`` carries no flag bits. ``data`` is empty for remote frames.
    """

    t: float | None
    channel: str | int | None
    can_id: int
    extended: bool
    data: bytes
    is_error: bool = False
    is_remote: bool = False
    fd: bool = False


class LineReader(Protocol):
    """One text format. An object reads one log from its first line on and may remember the log's header.

    ``known`` turns True when a header of the format was seen; ``odd`` counts frames that the format allows but that
    its tools never write, which tells two readings of the same lines apart. ``read`` returns None for a line that
    carries no frame (header, comment, other events) and never raises.
    """

    known: bool
    odd: int

    def read(self, line: str) -> LogFrame | BadFrame | None:
        """The frame of one line without its line end."""


#: How a format's reader is made, once for each log.
MakeReader = Callable[[], LineReader]


def bad(reason: str, line: str) -> BadFrame:
    """A line that should have been a frame."""
    return BadFrame(reason, line.encode("utf-8", "replace")[:SAMPLE_BYTES])


def channel_of(text: str | None) -> str | int | None:
    """``1`` becomes a number, ``can0`` stays text, nothing is None."""
    if not text:
        return None
    return int(text) if text.isascii() and text.isdigit() else text


def is_comment(line: str) -> bool:
    """Blank lines, comments in the ways that people write them, and the separator that PuTTY puts between sessions."""
    return not line or line.startswith(("#", "//", ";", "=~", "--", "***"))


def number(text: str, base: int) -> int | None:
    """An unsigned number, with or without ``0x``. Unlike ``int``, it takes neither signs, blanks nor underscores."""
    text = text.strip()
    if text[:2] in {"0x", "0X"}:
        text, base = text[2:], 16
    if not text.isalnum() or not text.isascii():
        return None
    try:
        return int(text, base)
    except ValueError:
        return None


def seconds(text: str) -> float | None:
    """A time that is written as seconds (decimal point or comma), as a clock, or as a date with a clock (read as UTC).

    A log never says its time zone, so a date is taken as UTC: one log gives the same numbers on every machine.
    """
    text = text.strip()
    try:
        t = float(text.replace(",", "."))
    except ValueError:
        return _clock_seconds(text)
    return t if t - t == 0 else None  # nan and infinity are no times


def _clock_seconds(text: str) -> float | None:
    clock = _CLOCK.match(text)
    if clock:
        hours, minutes, secs, fraction = clock.groups()
        return int(hours or 0) * 3600 + int(minutes) * 60 + int(secs) + float(f"0.{fraction or 0}")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def data_bytes(text: str, count: int | None = None, base: int = 16) -> bytes | None:
    """Data bytes as ``00 1A``, ``001A``, ``0x00 0x1A``, ``00-1A`` (base 10: ``0 26``); the first ``count`` of them.

    None when they cannot be read, are fewer than ``count``, or more than a frame holds. Hexadecimal bytes have two
    digits: a single one is what is left of a line that was cut, and would be read as another value.
    """
    if base == 16:  # noqa: PLR2004 - hexadecimal
        data = _from_hex(text if count is None else text[: 3 * count])
        if data is None or (count is not None and len(data) < count):
            data = _from_hex(text if count is None else " ".join(text.split()[:count]))
    else:
        data = loose_bytes(text.split()[:count], base)
    if data is None or len(data) > MAX_FD_BYTES or (count is not None and len(data) < count):
        return None
    return data if count is None else data[:count]


def loose_bytes(words: list[str], base: int = 16) -> bytes | None:
    """Data bytes of any number of digits, one a word."""
    values = [number(word, base) for word in words]
    if any(value is None or value > _MAX_BYTE for value in values):
        return None
    return bytes(value for value in values if value is not None)


def _from_hex(text: str) -> bytes | None:
    try:
        return bytes.fromhex(text)
    except ValueError:
        pass
    try:
        return bytes.fromhex(text.replace("0x", "").replace("0X", "").replace("-", " "))
    except ValueError:
        return None
