"""PEAK TRC, versions 1.0 to 2.1 (PEAK-System, "PCAN trace file format").

Rules of this file:

1. Lines that start with ``;`` are the header. ``$FILEVERSION`` says which columns follow, ``$COLUMNS`` (version 2)
   names them; without a version it is 1.0.
2. Times are milliseconds since the start. ``$STARTTIME`` is days since 1899-12-30, in some tools' files an ISO date;
   where it can be read, ``t`` counts from 1970 (as python-can gives it), otherwise from the start.
3. 29-bit identifiers are written with eight digits, 11-bit ones with four.
4. Lines of other types (status, warnings, error counters) carry no frame.
"""

import re
from datetime import UTC, datetime, timedelta

from agent.core.model import BadFrame
from drivers.can.logs.frame import (
    DLC_BYTES,
    MAX_EXTENDED_ID,
    MAX_STANDARD_ID,
    LogFrame,
    bad,
    channel_of,
    data_bytes,
    seconds,
)

_ROW = re.compile(r"\d+\)?\s+-?\d")
#: Files without a header are of version 1, where a bracket closes the number of a row.
_NUMBERED_ROW = re.compile(r"\d+\)\s+-?\d")
_VERSION = re.compile(r";\s*\$FILEVERSION\s*=\s*([\d.]+)", re.IGNORECASE)
_START = re.compile(r";\s*\$STARTTIME\s*=\s*(\S.*)$", re.IGNORECASE)
_COLUMNS = re.compile(r";\s*\$COLUMNS\s*=\s*(\S+)", re.IGNORECASE)
#: The columns of the versions that do not name them, in the letters of version 2; ``-`` is reserved.
_FIXED = {"1.0": "NOILD", "1.1": "NOTILD", "1.2": "NOBTILD", "1.3": "NOBTI-LD"}
_FRAME_TYPES = {"Rx", "Tx", "DT", "FD", "FB", "FE", "BI", "RR"}
_FD_TYPES = {"FD", "FB", "FE", "BI"}
_LONG_ID_DIGITS = 4
#: An identifier of this kind marks a bus status line in version 1.
_STATUS_ID = "FFFFFFFF"
_EPOCH = datetime(1899, 12, 30, tzinfo=UTC)


class TrcLines:
    """Reader of TRC lines."""

    odd = 0

    def __init__(self) -> None:
        self.known = False
        self._start_s = 0.0
        self._columns = _FIXED["1.0"]

    def read(self, line: str) -> LogFrame | BadFrame | None:
        """See ``LineReader``."""
        line = line.strip()
        if not line:
            return None
        if line.startswith(";"):
            self._header(line)
            return None
        if not (_ROW if self.known else _NUMBERED_ROW).match(line):
            return bad("unreadable_line", line)
        cells = dict(zip(self._columns, line.split(maxsplit=len(self._columns) - 1), strict=False))
        if cells.get("T", "Rx") not in _FRAME_TYPES or cells.get("I", "").upper() == _STATUS_ID:
            return None
        frame = self._frame(cells)
        return bad(frame, line) if isinstance(frame, str) else frame

    def _header(self, line: str) -> None:
        if match := _VERSION.match(line):
            self.known = True
            self._columns = _FIXED.get(match[1], _FIXED["1.0"])
        elif match := _COLUMNS.match(line):
            self._columns = match[1].replace(",", "")
        elif match := _START.match(line):
            self._start_s = _start_s(match[1])

    def _frame(self, cells: dict[str, str]) -> LogFrame | str:
        try:
            offset_ms, can_id = float(cells["O"].replace(",", ".")), int(cells["I"], 16)
            dlc = int(cells["l"]) if "l" in cells else DLC_BYTES[int(cells["L"])]
        except (KeyError, ValueError, IndexError):
            return "unreadable_line"
        extended = len(cells["I"]) > _LONG_ID_DIGITS
        if not 0 <= can_id <= (MAX_EXTENDED_ID if extended else MAX_STANDARD_ID):
            return "bad_id"
        text, kind = cells.get("D", ""), cells.get("T", "")
        remote = kind == "RR" or text.upper().startswith("RTR")
        data = b"" if remote else data_bytes(text, dlc)
        if data is None:
            return "too_short" if data_bytes(text) is not None else "bad_data"
        return LogFrame(
            offset_ms / 1000 + self._start_s,
            channel_of(cells.get("B", "1")),
            can_id,
            extended,
            data,
            is_remote=remote,
            fd=kind in _FD_TYPES,
        )


def _start_s(text: str) -> float:
    """``$STARTTIME`` in seconds since 1970 UTC; 0.0 where it cannot be read, which leaves times as written."""
    try:
        return (_EPOCH + timedelta(days=float(text.replace(",", ".")))).timestamp()
    except OverflowError:
        return 0.0
    except ValueError:
        return seconds(text) or 0.0
