"""Tables with a header line: SavvyCAN (GVRET), python-can, Cabana, Kvaser, Vehicle Spy CSV, tab-separated logs and kin.

Rules of this file:

1. The header names the columns, in any order, separated by comma, semicolon or tab. A table needs an identifier and
   data, either in one column or one column for each byte. Only SavvyCAN's rows are known without a header.
2. Identifiers and data bytes are hexadecimal, with or without ``0x``. Some tools write decimal numbers without saying
   so: the same lines are tried with both bases, and the one that fits more of them is taken (``detect.py``).
3. Unit of time: what the header says (``Time (ms)``, ``time_us``). Without it, numbers with a fraction are seconds;
   whole numbers are µs in ``Time Stamp`` columns (SavvyCAN, which may be negative: its overflow is kept), ms elsewhere.
4. A row shorter than its length column says is bad; cells behind that length are ignored.
"""

import base64
import binascii
import csv
import re
from collections.abc import Mapping

from agent.core.model import BadFrame
from drivers.can.logs.frame import (
    DLC_BYTES,
    MAX_CLASSIC_BYTES,
    MAX_EXTENDED_ID,
    MAX_FD_BYTES,
    MAX_STANDARD_ID,
    LogFrame,
    bad,
    channel_of,
    data_bytes,
    is_comment,
    loose_bytes,
    number,
    seconds,
)

#: Header names of each column, lower case with everything but letters and digits taken out, the best first.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "time": ("timestamp", "time", "abstime", "timeabs", "timeoffset", "reltime", "timerel", "datetime", "t"),
    "id": (
        "id",
        "canid",
        "arbitrationid",
        "arbid",
        "identifier",
        "messageid",
        "msgid",
        "frameid",
        "canidentifier",
        "address",
        "addr",
        "idhex",
        "iddec",
        "canidhex",
        "caniddec",
    ),
    "extended": ("extended", "ext", "ide", "xtd", "eff", "isextended", "isextendedid", "extendedid", "isextid"),
    "channel": ("bus", "channel", "ch", "chn", "interface", "iface", "network", "buschannel", "busid", "port"),
    "length": ("len", "length", "dlc", "datalength", "datalen", "dl", "size", "numbytes", "bytecount"),
    "data": ("data", "payload", "databytes", "datahex", "message", "bytes", "frame"),
    "remote": ("remote", "rtr", "isremote", "isremoteframe", "remoteframe"),
    "error": ("error", "err", "iserror", "iserrorframe", "errorframe", "er"),
    "fd": ("fd", "canfd", "isfd", "edl", "fdf"),
    "kind": ("type", "frametype", "idtype", "flags", "flag", "frameformat", "format"),
}
_BYTE = re.compile(r"(?:d|b|db|byte|data|databyte)(\d{1,2})$")
_UNIT = re.compile(r"[(\[_\s](s|sec|secs|seconds|ms|msec|us|µs|usec|ns)[)\]]?\s*$", re.IGNORECASE)
_UNIT_DIVISOR = {"s": 1, "m": 1000, "u": 1_000_000, "µ": 1_000_000, "n": 1_000_000_000}
#: SavvyCAN's table is known without its header, too: pieces of long logs have none.
_GVRET_ROW = re.compile(r"-?\d+,[0-9A-Fa-f]{8},(?:true|false),([RT]x,)?\d+,\d+,", re.IGNORECASE)
_GVRET_HEADER = "Time Stamp,ID,Extended,{direction}Bus,LEN," + ",".join(f"D{i}" for i in range(1, 65))
#: The header of python-can's own CSV, whose data are base64.
_PYTHON_CAN = ("timestamp", "arbitrationid", "extended", "remote", "error", "dlc", "data")
_TRUE = {"true", "t", "1", "yes", "y", "x", "ext", "extended", "xtd", "29", "29bit", "eff"}


class TableLines:
    """Reader of one table. ``id_base`` and ``data_base`` (16 or 10) read numbers that do not say what they are."""

    def __init__(self, id_base: int = 16, data_base: int = 16) -> None:
        self.known = False
        self.odd = 0
        self._id_base = id_base
        self._data_base = data_base
        self._delimiter = ","
        self._columns: dict[str, int] = {}
        self._byte_columns: list[int] = []
        self._header_line = ""
        self._base64 = False
        self._padded = False
        self._unit: str | None = None
        self._whole_divisor = 1000

    def read(self, line: str) -> LogFrame | BadFrame | None:
        """See ``LineReader``."""
        if not line.strip() or line == self._header_line:
            return None
        if not self.known:
            gvret = _GVRET_ROW.match(line)
            if gvret:
                self._read_header(_GVRET_HEADER.format(direction="Dir," if gvret[1] else ""))
            elif is_comment(line.strip()) or not self._read_header(line):
                return None
            self.known = True
            if not gvret:
                self._header_line = line
                return None
        cells = self._split(line)
        frame = self._frame(cells)
        if isinstance(frame, LogFrame):
            return frame
        if is_comment(line.strip()) or self._read_header(line):
            return None
        return bad(frame, line)

    def _split(self, line: str) -> list[str]:
        if '"' not in line:
            return line.split(self._delimiter)
        try:
            return next(csv.reader([line], delimiter=self._delimiter), [])
        except csv.Error:
            return line.split(self._delimiter)

    def _read_header(self, line: str) -> bool:
        """Take the columns of a header line; False when the line is none. The same object may meet several headers."""
        before = self._delimiter
        for self._delimiter in (",", ";", "\t"):
            raw = [cell.strip() for cell in self._split(line.strip("\ufeff \r\n"))]
            plain = [_plain(cell) for cell in raw]
            columns = {
                what: plain.index(name) for what, names in _NAMES.items() for name in reversed(names) if name in plain
            }
            found = {int(match[1]): i for i, name in enumerate(plain) if (match := _BYTE.match(name))}
            first = min(found, default=0)
            byte_columns = [found[i] for i in range(first, first + len(found)) if i in found] if first in {0, 1} else []
            if "id" in columns and ("data" in columns or byte_columns):
                self._take(raw, plain, columns, byte_columns)
                return True
        self._delimiter = before
        return False

    def _take(self, raw: list[str], plain: list[str], columns: dict[str, int], byte_columns: list[int]) -> None:
        self._columns, self._byte_columns = columns, byte_columns
        self._base64 = tuple(plain[: len(_PYTHON_CAN)]) == _PYTHON_CAN
        name = raw[columns["time"]] if "time" in columns else ""
        unit = _UNIT.search(name)
        self._unit = unit[1][0].lower() if unit and _plain(name) else ("s" if self._base64 else None)
        self._whole_divisor = 1_000_000 if _plain(name) == "timestamp" else 1000
        if plain[columns["id"]].endswith("dec") or "(dec" in raw[columns["id"]].lower():
            self._id_base = 10

    def _cell(self, cells: list[str], what: str) -> str:
        index = self._columns.get(what)
        return cells[index].strip() if index is not None and index < len(cells) else ""

    def _frame(self, cells: list[str]) -> LogFrame | str:
        text = self._cell(cells, "id")
        marked = text[-1:] in {"x", "X"}
        can_id = number(text[:-1] if marked else text, self._id_base)
        if can_id is None or can_id > MAX_EXTENDED_ID:
            return "bad_id"
        t = self._time(self._cell(cells, "time"))
        if isinstance(t, str):
            return t
        kind = self._cell(cells, "kind").lower()
        remote = self._flag(cells, "remote") or kind in {"rtr", "remote", "sr", "xr", "r"}
        data = b"" if remote else self._data(cells)
        if isinstance(data, str):
            return data
        stated = self._cell(cells, "extended").lower()
        extended = marked or stated in _TRUE or kind.startswith(("x", "ext", "eff"))
        if can_id > MAX_STANDARD_ID and not extended:
            # Only 29 bits can hold it, whatever the column says; but this hints at decimal identifiers, too.
            extended = True
            self.odd += bool(stated)
        is_error = self._flag(cells, "error") or kind.startswith("err")
        fd = self._flag(cells, "fd") or len(data) > MAX_CLASSIC_BYTES or "fd" in kind
        channel = channel_of(self._cell(cells, "channel"))
        return LogFrame(t, channel, can_id, extended, data, is_error=is_error, is_remote=remote, fd=fd)

    def _flag(self, cells: list[str], what: str) -> bool:
        return what in self._columns and self._cell(cells, what).lower() in _TRUE

    def _time(self, text: str) -> float | str | None:
        if "time" not in self._columns:
            return None
        t = seconds(text)
        if t is None:
            return "bad_time"
        if self._unit is not None:
            return t / _UNIT_DIVISOR[self._unit]
        whole = text.lstrip("+-").isdigit() or "e+" in text.lower()
        return t / self._whole_divisor if whole else t

    def _bytes(self, words: list[str]) -> bytes | None:
        """Some tools write hexadecimal bytes without a leading zero. Where there was one, a single digit is a cut."""
        data = data_bytes(" ".join(words), base=self._data_base)
        if data is None and not self._padded:
            data = loose_bytes([word for word in words if word], self._data_base)
            return data if data is None or len(data) <= MAX_FD_BYTES else None
        self._padded = self._padded or any(word.startswith("0") and len(word) > 1 for word in words)
        return data

    def _data(self, cells: list[str]) -> bytes | str:
        text = self._cell(cells, "length")
        length = number(text, 10) if text else None
        if text and (length is None or length > MAX_FD_BYTES):
            return "bad_length"
        if self._base64:
            return _from_base64(self._cell(cells, "data"))
        if self._byte_columns:
            words = [cells[i].strip() for i in self._byte_columns if i < len(cells)]
            # Short frames leave the cells behind their data empty, or are short rows.
            if length is not None and not _is_dlc(length, sum(map(bool, words))):
                words = words[:length]
        else:
            words = self._cell(cells, "data").split()
        data = self._bytes(words)
        if data is None:
            return "bad_data"
        if length is not None and len(data) != length:
            if _is_dlc(length, len(data)):
                return data
            return data[:length] if len(data) > length else "too_short"
        return data


def _is_dlc(length: int, count: int) -> bool:
    """Whether a length column holds the DLC (9 to 15) of an FD frame of ``count`` bytes."""
    return MAX_CLASSIC_BYTES < length < len(DLC_BYTES) and DLC_BYTES[length] == count


def _plain(name: str) -> str:
    """A column name without case, blanks, punctuation and unit."""
    return re.sub(r"[^a-z0-9]", "", _UNIT.sub("", name.strip().strip("\"'")).lower())


def _from_base64(text: str) -> bytes | str:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return "bad_data"
    return data if len(data) <= MAX_FD_BYTES else "bad_data"
