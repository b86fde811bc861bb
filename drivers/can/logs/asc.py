"""Vector ASC, the text log of CANalyzer and CANoe and of many tools that export it.

Rules of this file:

1. Each event is one line that starts with its time in seconds. Frames are ``<t> <channel> <id>[x] Rx|Tx d <dlc> …``
   and ``<t> CANFD <channel> Rx|Tx <id>[x] [name] <brs> <esi> <dlc> <length> …``; all other events carry no frame.
2. Identifiers and data are hexadecimal or decimal, as the ``base`` line says.
3. Times count from the log's start. Where its ``date`` line or ``Begin Triggerblock`` line gives the start in Vector's
   own form, ``t`` is absolute (python-can reads it so too). Where the two contradict each other, or the date is of
   another form, ``t`` stays as written. The start is fixed by the first frame, so that times never jump back.
"""

import re
from datetime import UTC, datetime

from agent.core.model import BadFrame
from drivers.can.logs.frame import (
    DLC_BYTES,
    MAX_CLASSIC_BYTES,
    MAX_EXTENDED_ID,
    MAX_STANDARD_ID,
    LogFrame,
    bad,
    data_bytes,
    number,
)

_BASE = re.compile(r"base\s+(hex|dec)\b", re.IGNORECASE)
_START = re.compile(r"(?:date|begin\s+triggerblock)\s+\w+\s+(.+)$", re.IGNORECASE)
_HEADER = re.compile(r"(?:date|base|(?:no\s+)?internal\s+events|(?:begin|end)\s+triggerblock|//)", re.IGNORECASE)
_MOMENT = re.compile(
    r"(?P<month>\w{3})\s+(?P<day>\d{1,2})\s+(?P<h>\d{1,2}):(?P<m>\d\d):(?P<s>\d\d)(?:\.(?P<f>\d{1,6}))?"
    r"(?:\s+(?P<half>[ap]m))?\s+(?P<year>\d{4})$",
    re.IGNORECASE,
)
#: Vector writes the month in the language of the PC.
_MONTHS = {
    name: index
    for index, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
    )
}
_MONTHS_GERMAN = {"mär": 3, "mrz": 3, "mai": 5, "okt": 10, "dez": 12}

_EVENT = re.compile(r"-?\d+[.,]\d+\s")
_CLASSIC = re.compile(
    r"(?P<t>-?\d+[.,]\d+)\s+(?P<ch>\d+)\s+(?:(?P<error>ErrorFrame)\b.*|"
    r"(?P<id>\w+)\s+(?:Rx|Tx)\s+(?:(?P<remote>r)(?:\s+(?P<rdlc>\w+))?\b.*|d\s+(?P<dlc>\w+)(?P<rest>.*)))$",
    re.IGNORECASE | re.ASCII,
)
_FD = re.compile(
    r"(?P<t>-?\d+[.,]\d+)\s+CANFD\s+(?P<ch>\d+)\s+(?:Rx|Tx)\s+(?:(?P<error>ErrorFrame)\b.*|"
    r"(?P<id>\w+)\s+(?:\S*[^\s\d]\S*\s+)?(?P<brs>[01])\s+(?P<esi>[01])\s+(?P<dlc>\w+)\s+(?P<len>\d+)(?P<rest>.*))$",
    re.IGNORECASE | re.ASCII,
)
#: A line of a frame whose shape is broken: it would otherwise pass as one of the events that carry no frame.
_ALMOST = re.compile(r"-?\d+[.,]\d+\s+(?:CANFD\s+)?\d+\s+(?:Rx|Tx|\w+\s+(?:Rx|Tx))\b", re.IGNORECASE | re.ASCII)


class AscLines:
    """Reader of ASC lines."""

    odd = 0

    def __init__(self) -> None:
        self.known = False
        self._base = 16
        self._starts: set[float] = set()
        self._start_s: float | None = None

    def read(self, line: str) -> LogFrame | BadFrame | None:
        """See ``LineReader``."""
        line = line.strip()
        match = _CLASSIC.match(line)
        if match:
            return self._classic(match, line)
        match = _FD.match(line)
        if match:
            return self._fd(match, line)
        if _HEADER.match(line):
            self._header(line)
            return None
        if _ALMOST.match(line) or (line and not _EVENT.match(line)):
            return bad("unreadable_line", line)
        return None

    def _header(self, line: str) -> None:
        base = _BASE.match(line)
        if base:
            self.known = True
            self._base = 16 if base[1].lower() == "hex" else 10
        start = _START.match(line)
        if start and (moment_s := _moment_s(start[1])) is not None:
            self._starts.add(moment_s)

    def _time(self, text: str) -> float:
        if self._start_s is None:
            self._start_s = self._starts.pop() if len(self._starts) == 1 else 0.0
        return float(text.replace(",", ".")) + self._start_s

    def _id(self, text: str) -> tuple[int, bool] | None:
        marked = text[-1] in "xX"
        can_id = number(text[:-1] if marked else text, self._base)
        if can_id is None or can_id > MAX_EXTENDED_ID:
            return None
        # Tools other than Vector's forget the x.
        return can_id, marked or can_id > MAX_STANDARD_ID

    def _classic(self, match: "re.Match[str]", line: str) -> LogFrame | BadFrame:
        t, channel = self._time(match["t"]), int(match["ch"])
        if match["error"]:
            return LogFrame(t, channel, 0, extended=True, data=b"", is_error=True)
        identifier = self._id(match["id"])
        if identifier is None:
            return bad("bad_id", line)
        if match["remote"]:
            return LogFrame(t, channel, *identifier, b"", is_remote=True)
        dlc = number(match["dlc"], self._base)
        if dlc is None or dlc >= len(DLC_BYTES):
            return bad("bad_length", line)
        # DLC 9 to 15 is legal on classic CAN and means 8 bytes.
        data = data_bytes(match["rest"].strip(), min(dlc, MAX_CLASSIC_BYTES), self._base)
        if data is None:
            return bad("bad_data", line)
        return LogFrame(t, channel, *identifier, data)

    def _fd(self, match: "re.Match[str]", line: str) -> LogFrame | BadFrame:
        t, channel = self._time(match["t"]), int(match["ch"])
        if match["error"]:
            return LogFrame(t, channel, 0, extended=True, data=b"", is_error=True, fd=True)
        identifier = self._id(match["id"])
        if identifier is None:
            return bad("bad_id", line)
        length, dlc = int(match["len"]), number(match["dlc"], 16)
        if dlc is None or length > DLC_BYTES[-1]:
            return bad("bad_length", line)
        if dlc and not length:
            return LogFrame(t, channel, *identifier, b"", is_remote=True, fd=True)
        data = data_bytes(match["rest"].strip(), length, self._base)
        if data is None:
            return bad("bad_data", line)
        return LogFrame(t, channel, *identifier, data, fd=True)


def _moment_s(text: str) -> float | None:
    """``Sep 30 15:06:13.191 2017`` or ``Sep 30 03:06:13 pm 2017`` as seconds since 1970, read as UTC."""
    match = _MOMENT.match(text.strip())
    if not match:
        return None
    month = match["month"].lower()
    number_of_month = _MONTHS.get(month) or _MONTHS_GERMAN.get(month)
    hour = int(match["h"])
    if match["half"]:
        hour = hour % 12 + (12 if match["half"].lower() == "pm" else 0)
    try:
        return datetime(
            int(match["year"]),
            number_of_month or 0,
            int(match["day"]),
            hour,
            int(match["m"]),
            int(match["s"]),
            int((match["f"] or "0").ljust(6, "0")),
            tzinfo=UTC,
        ).timestamp()
    except (ValueError, OverflowError):
        return None
