"""Text formats whose every frame is one line of the same shape, with hardly any header.

Rules of this file:

1. A line of the right shape with impossible content is a ``BadFrame``; so is any other line that is no comment, since
   these formats have no other lines.
2. Identifiers are hexadecimal. 29-bit ones are told by eight digits or by a value that 11 bits cannot hold.
"""

import re
from collections.abc import Callable
from re import Match

from agent.core.model import BadFrame
from drivers.can.logs.frame import (
    ERROR_FLAG,
    MAX_CLASSIC_BYTES,
    MAX_EXTENDED_ID,
    MAX_FD_BYTES,
    MAX_STANDARD_ID,
    LogFrame,
    bad,
    channel_of,
    data_bytes,
    is_comment,
    seconds,
)

Build = Callable[[Match[str]], LogFrame | str | None]

_LONG_ID_DIGITS = 8
_HEX_ID = r"(?P<id>[0-9A-Fa-f]{1,8})"
_STAMP = r"(?:\(\s*(?P<t>[^)]*)\)\s*)?"

#: can-utils ``candump -l``/``-L``; ``cansend`` notation without time or channel is the same line, cut.
_CANDUMP = re.compile(_STAMP + r"(?:(?P<ch>\S+)\s+)?" + _HEX_ID + r"#(?P<rest>\S*)(?:\s+[RTrt])?$")
#: can-utils ``candump`` (times of ``-t a|d|z|A``, flags of ``-x``), and Battery-Emulator, which writes the same shape.
_DISPLAY = re.compile(
    _STAMP
    + r"(?:(?P<ch>\S+)\s+)?(?:[RT]X\s+[B-]\s+[E-]\s+)?"
    + _HEX_ID
    + r"\s+(?:\[(?P<len>\d{1,2})\]|\{(?P<dlc>[0-9A-Fa-f])\})\s*(?P<rest>.*)$"
)
#: The text export whose file starts with ``@ TEXT @``: time, channel, flags, id, length, data, and more.
_TEXT_EXPORT = re.compile(
    r"(?P<t>\d+[.,]\d+)\t(?P<ch>\d+)\t[0-9A-Fa-f]{8}\t"
    + _HEX_ID
    + r"\t(?P<len>\d{1,2})\t(?P<rest>[0-9A-Fa-f ]*)(?:\t|$)"
)
#: BUSMASTER log: time with tenths of a millisecond, direction, channel, id, type, length, data.
_BUSMASTER = re.compile(
    r"(?P<t>\d+:\d+:\d+:\d+)\s+[RT]x\s+(?P<ch>\d+)\s+0x"
    + _HEX_ID
    + r"\s+(?P<kind>[sxSX][rR]?)\s+(?P<len>\d{1,2})(?P<rest>.*)$"
)
#: OVMS "CRTD" log: time, direction with the identifier's bits, id, data; other records start with C.
_CRTD = re.compile(
    r"(?P<t>\d+\.\d+)\s+(?P<ch>\d*)[RT](?P<bits>11|29)\s+" + _HEX_ID + r"(?P<rest>(?:\s+[0-9A-Fa-f]{2})*)$"
)
_CRTD_OTHER = re.compile(r"\d+\.\d+\s+\d*C\w\w\b")
#: What python-can prints (``can_logger`` without a file, ``Printer``).
_PRINTED = re.compile(
    r"Timestamp:\s*(?P<t>[\d.]+)\s+ID:\s*" + _HEX_ID + r"\s+(?P<kind>[XS])\s+(?:[RT]x\s+)?(?P<flags>[A-Z ]*?)\s*"
    r"DL:\s*(?P<len>\d{1,2})\s*(?P<rest>.*?)\s*(?:Channel:\s*(?P<ch>\S+))?$"
)


class ShapedLines:
    """Reader of a format of this file: ``shape`` finds the parts of a line, ``build`` makes the frame of them.

    ``build`` returns the frame, or the reason why these parts are none.
    """

    known = False
    odd = 0

    def __init__(self, shape: "re.Pattern[str]", build: Build, other: "re.Pattern[str] | None" = None) -> None:
        self._match = shape.match
        self._build = build
        self._other = other

    def read(self, line: str) -> LogFrame | BadFrame | None:
        """See ``LineReader``."""
        line = line.strip()
        match = self._match(line)
        if match is None:
            if is_comment(line) or line.startswith("@") or (self._other and self._other.match(line)):
                return None
            return bad("unreadable_line", line)
        frame = self._build(match)
        return bad(frame, line) if isinstance(frame, str) else frame


def candump() -> ShapedLines:
    """``(1436509052.249713) can0 123#1122``, ``12345678##3AABB``, ``123#R8``."""
    return ShapedLines(_CANDUMP, _from_candump)


def display() -> ShapedLines:
    """``can0  123   [2]  11 22`` and ``(737.12) RX0 1B00007B [2] 7B 40``."""
    return ShapedLines(_DISPLAY, _from_display)


def text_export() -> ShapedLines:
    r"""``26,641405\t1\t00000004\t112\t2\t00 20\t…``."""
    return ShapedLines(_TEXT_EXPORT, _from_plain)


def busmaster() -> ShapedLines:
    """``14:13:51:5350 Rx 1 0x0A0 s 2 00 11``."""
    return ShapedLines(_BUSMASTER, _from_kind)


def crtd() -> ShapedLines:
    """``1320745424.002 1R29 18DAF1DB 11 22``."""
    return ShapedLines(_CRTD, _from_crtd, _CRTD_OTHER)


def printed() -> ShapedLines:
    """``Timestamp: 0.5 ID: 00000123 X Rx DL: 2 11 22 Channel: can0``."""
    return ShapedLines(_PRINTED, _from_kind)


def _time(match: Match[str]) -> float | str | None:
    """The time of a line, None where it has none, a reason (text) where it cannot be read."""
    text = match["t"]
    if text is None:
        return None
    t = seconds(text)
    return "bad_time" if t is None else t


def _from_candump(match: Match[str]) -> LogFrame | str:
    t = _time(match)
    if isinstance(t, str):
        return t
    channel, digits, rest = channel_of(match["ch"]), match["id"], match["rest"]
    can_id = int(digits, 16)
    # Shorter identifiers than the three digits of candump are 11-bit ones, anything longer has 29 bits.
    extended, is_error = len(digits) > 3, bool(can_id & ERROR_FLAG)  # noqa: PLR2004
    can_id &= MAX_EXTENDED_ID
    if rest[:1] in {"R", "r"}:
        return LogFrame(t, channel, can_id, extended, b"", is_error=is_error, is_remote=True)
    fd = rest.startswith("#")
    if fd:
        rest = rest[2:]
    # A dot may stand between bytes; ``_9`` to ``_F`` tells the raw DLC of an 8-byte frame.
    try:
        data = bytes.fromhex(rest.partition("_")[0].replace(".", ""))
    except ValueError:
        return "bad_data"
    if len(data) > (MAX_FD_BYTES if fd else MAX_CLASSIC_BYTES):
        return "bad_data"
    return LogFrame(t, channel, can_id, extended, data, is_error=is_error, fd=fd)


def _from_display(match: Match[str]) -> LogFrame | str:
    t = _time(match)
    if isinstance(t, str):
        return t
    digits, length, rest = match["id"], match["len"], match["rest"]
    can_id = int(digits, 16)
    extended = len(digits) == _LONG_ID_DIGITS or can_id > MAX_STANDARD_ID
    is_error = bool(can_id & ERROR_FLAG)
    can_id &= MAX_EXTENDED_ID
    channel = channel_of(match["ch"])
    if "remote request" in rest:
        return LogFrame(t, channel, can_id, extended, b"", is_error=is_error, is_remote=True)
    # candump writes the length of FD frames with two digits, ``[08]``.
    fd = length is not None and len(length) > 1
    data = data_bytes(rest, MAX_CLASSIC_BYTES if length is None else int(length))
    if data is None or len(data) > MAX_FD_BYTES:
        return "too_short" if _only_hex(rest) else "bad_data"
    return LogFrame(t, channel, can_id, extended, data, is_error=is_error, fd=fd)


def _from_plain(match: Match[str]) -> LogFrame | str:
    digits = match["id"]
    return _finish(match, int(digits, 16), extended=len(digits) == _LONG_ID_DIGITS)


def _from_kind(match: Match[str]) -> LogFrame | str:
    parts = match.groupdict()
    kind, flags = parts["kind"].lower(), (parts.get("flags") or "").split()
    extended = kind.startswith("x")
    remote = kind.endswith("r") or "R" in flags
    return _finish(match, int(parts["id"], 16), extended=extended, remote=remote, error="E" in flags, fd="F" in flags)


def _from_crtd(match: Match[str]) -> LogFrame | str:
    t = _time(match)
    data = data_bytes(match["rest"])
    can_id, extended = int(match["id"], 16), match["bits"] == "29"
    if isinstance(t, str) or data is None or can_id > (MAX_EXTENDED_ID if extended else MAX_STANDARD_ID):
        return "bad_data"
    return LogFrame(t, channel_of(match["ch"]), can_id, extended, data, fd=len(data) > MAX_CLASSIC_BYTES)


def _finish(
    match: Match[str], can_id: int, *, extended: bool, remote: bool = False, error: bool = False, fd: bool = False
) -> LogFrame | str:
    t = _time(match)
    if isinstance(t, str):
        return t
    if can_id > MAX_EXTENDED_ID:
        return "bad_id"
    extended = extended or can_id > MAX_STANDARD_ID  # whatever the line says, 11 bits cannot hold it
    data = b"" if remote else data_bytes(match["rest"].strip(), int(match["len"]))
    if data is None:
        return "too_short" if _only_hex(match["rest"]) else "bad_data"
    fd = fd or len(data) > MAX_CLASSIC_BYTES
    return LogFrame(t, channel_of(match["ch"]), can_id, extended, data, is_error=error, is_remote=remote, fd=fd)


def _only_hex(text: str) -> bool:
    return data_bytes(text.strip()) is not None
